"""Scopes of which it does not show where they are made which function enters them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest

from failpoints import FailpointUsageError, configured, failpoint, failpoint_scope
from failpoints._core import known_sites

lock = threading.Lock()

with nullcontext():
    pass
of_module = failpoint_scope("kept.module")


def made_in_a_block() -> AbstractContextManager[None]:
    with lock:
        return failpoint_scope("kept.in-a-block")


def made_beside_another() -> AbstractContextManager[None]:
    with failpoint_scope("kept.another"):
        pass
    return failpoint_scope("kept.beside-another")


def made_among_constants() -> AbstractContextManager[None]:
    name = "kept.constant"
    with nullcontext():
        scopes = [failpoint_scope(name)]
    return scopes[0]


SCOPES: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "kept.module": lambda: of_module,
    "kept.in-a-block": made_in_a_block,
    "kept.beside-another": made_beside_another,
    "kept.constant": made_among_constants,
}


@failpoint("kept")
def enters(scope: AbstractContextManager[None]) -> str:
    with scope:
        return "the body's"


@pytest.mark.parametrize("name", SCOPES)
@pytest.mark.parametrize("after", ["", ":after"])
def test_the_first_return_leaves_the_function_that_enters_it(name: str, after: str) -> None:
    """A function that makes a scope and contains a `with` statement is not taken for the one that enters it."""
    scope = SCOPES[name]()
    with configured(f"{name}{after}", "return(early)"):
        assert enters(scope) == "early"
    assert enters(scope) == "the body's"


def test_a_scope_in_code_that_a_reloader_installs_returns_from_the_second_call_on() -> None:
    """The function has a `with` statement only since then. The first visit finds out, with an error."""

    @failpoint("reloaded")
    def edited() -> str:
        return "old"

    def new() -> str:
        with failpoint_scope("reloaded.scope"):
            return "new"

    edited.__code__ = new.__code__
    with configured("reloaded.scope", "return(early)"):
        with pytest.raises(FailpointUsageError, match="nothing would catch that"):
            edited()
        assert edited() == "early"
    assert edited.__code__ is new.__code__


def test_a_scope_in_reloaded_code_returns_at_once_if_the_function_was_configured_since() -> None:
    """Configuring the function itself looks at its code. A scope that the new code has no more is forgotten."""

    @failpoint("reloaded-2")
    def edited() -> str:
        with failpoint_scope("reloaded-2.gone"):
            return "old"

    def new() -> str:
        with failpoint_scope("reloaded-2.scope"):
            return "new"

    assert (edited(), new()) == ("old", "new")
    edited.__code__ = new.__code__
    with configured("reloaded-2", "off"):
        assert edited() == "new"
    with configured("reloaded-2.scope", "return(early)"):
        assert edited() == "early"
    with configured("reloaded-2.gone", "return(early)"):
        assert edited.__code__ is new.__code__


def test_a_scope_whose_name_is_one_of_too_many_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the second time, when its line is known. A program may make a name for each of its users."""
    monkeypatch.setattr(known_sites, "_made", {})
    monkeypatch.setattr(known_sites, "_loose", set())

    @failpoint("many")
    def save(user: int) -> str:
        with failpoint_scope(f"many.{user}"):
            return "saved"

    last = 10_001
    for user in range(last + 1):
        save(user)
    for _ in range(2):
        with configured(f"many.{last}", "return(early)"):
            assert save(last) == "early"
