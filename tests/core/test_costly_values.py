"""Values whose `repr` or `str` is huge, slow, or raises, in the contexts of visits."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failpoints import FailpointUsageError, Return, configure, configured, failpoint, status
from failpoints._core.messages import safe_repr
from failpoints._core.store import PROCESS_STORE

VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text(), inner)
        | st.sets(st.integers())
        | st.frozensets(st.integers())
    ),
)


class Counted:
    """Counts the calls of its `repr`."""

    def __init__(self) -> None:
        self.calls = 0

    def __repr__(self) -> str:
        self.calls += 1
        return "Counted()"


class Broken:
    """Raises in `repr` and `str`."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        raise self.error

    __str__ = __repr__


@given(VALUES)
def test_a_short_value_is_shown_whole(value: Any) -> None:
    """A value is shown as its `repr`, in one line, up to 200 characters."""
    shown = safe_repr(value)
    whole = repr(value)
    if len(whole) <= 200:
        assert shown == whole
    else:
        assert len(shown) == 201
        assert shown.endswith("…")


@pytest.mark.parametrize("kind", [list, tuple])
def test_no_more_of_a_container_is_read_than_is_shown(kind: Any) -> None:
    """Of a large container, only the elements that fit into the line are asked for their `repr`."""
    elements = [Counted() for _ in range(10_000)]
    assert safe_repr({"key": kind(elements)}).startswith("{'key': ")
    assert sum(element.calls for element in elements) < 30


def test_a_text_that_is_huge() -> None:
    """A huge text is cut before it is quoted."""

    class Text(str):
        __slots__ = ()

    assert safe_repr("x" * 10**8) == f"'{'x' * 199}…"
    assert safe_repr(Text("short")) == "'short'"


def test_containers_in_themselves() -> None:
    """A container that contains itself is shown as Python shows it."""
    own: list[Any] = [1]
    own.append(own)
    mapping: dict[str, Any] = {}
    mapping["self"] = mapping
    assert safe_repr(own) == repr(own)
    assert safe_repr(mapping) == repr(mapping)


@pytest.mark.parametrize("error", [ValueError(), SystemExit(), GeneratorExit()], ids=lambda error: type(error).__name__)
def test_a_repr_that_raises(error: BaseException) -> None:
    """A value whose `repr` raises is shown by its class, be it inside others."""
    shown = safe_repr([Broken(error)])
    assert shown.startswith(f"[<{__name__}.Broken object at 0x")


def test_ctrl_c_is_not_an_error_of_the_value() -> None:
    """A `KeyboardInterrupt` during a `repr` goes on."""
    with pytest.raises(KeyboardInterrupt):
        safe_repr(Broken(KeyboardInterrupt()))


def test_a_visit_asks_for_no_repr() -> None:
    """Neither a miss nor a hit calls the `repr` of a value, unless its log record is enabled."""
    value = Counted()
    with configured("x", "return", context={"value": lambda value: False}):
        assert not failpoint("x", context={"value": value}).hit()
    assert value.calls == 0
    with configured("x", "return", context={"value": 5}) as missed:
        assert not failpoint("x", context={"value": value}).hit()
        assert value.calls == 0
        assert missed.status.last_mismatch == "value=Counted() is not 5"
    value.calls = 0
    assert not logging.getLogger("failpoints").isEnabledFor(logging.INFO)
    with configured("x", "return"):
        assert failpoint("x", context={"value": value}).hit()
    assert value.calls == 0


@pytest.mark.parametrize("error", [ValueError("no text"), SystemExit("no text")], ids=["error", "exit"])
def test_a_str_that_raises_does_not_match_a_pattern(error: BaseException) -> None:
    """A value without a text is a miss for a pattern. It is kept as the error of the configuration, for the reports."""
    configure("x", "return(1)", context={"value": "a.*"})
    assert not failpoint("x", context={"value": Broken(error)}).hit()
    assert failpoint("x", context={"value": "abc"}).hit() == Return("1")
    seen = status("x")
    assert (seen.hits, seen.misses) == (1, 1)
    assert seen.last_mismatch is not None
    assert seen.last_mismatch.endswith(f"cannot be compared to a pattern, since its str() raises {error!r}")
    (configuration,) = PROCESS_STORE.current("x")
    assert isinstance(configuration.error, FailpointUsageError)
    assert configuration.error.__cause__ is error


def test_a_value_that_changes_later() -> None:
    """The reason of a miss has the value as it was, if it is one of Python's own types."""
    orders = ["o1"]
    configure("x", "off", context={"orders": []})
    assert not failpoint("x", context={"orders": orders}).hit()
    orders.append("o2")
    assert status("x").last_mismatch == "orders=['o1'] is not []"


def test_ctrl_c_during_a_match_goes_on() -> None:
    """A `KeyboardInterrupt` while a value is made into a text comes out of the site."""
    configure("x", "return", context={"value": "a.*"})
    with pytest.raises(KeyboardInterrupt):
        failpoint("x", context={"value": Broken(KeyboardInterrupt())}).hit()


def test_a_status_is_read_without_the_lock() -> None:
    """The `repr` of a value may use failpoints itself, from another thread too."""

    class Busy:
        def __repr__(self) -> str:
            thread = threading.Thread(target=configure, args=("y", "off"), daemon=True)
            thread.start()
            thread.join(10)
            return f"Busy({thread.is_alive()})"

    configure("x", "off", context={"value": 5})
    assert not failpoint("x", context={"value": Busy()}).hit()
    assert status("x").last_mismatch == "value=Busy(False) is not 5"
