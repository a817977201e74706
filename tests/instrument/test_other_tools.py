"""Instrumented functions that other tools wrap and unwrap."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import wrapt

from failpoints import FailpointTimeout, Return, configured
from failpoints.instrument import instrument
from failpoints.pytest_plugin import Failpoints

Log = list[Any]


class Client:
    """The client of a library."""

    def send(self, what: int) -> int:
        return what

    @classmethod
    def of_class(cls, what: int) -> int:
        return what

    @staticmethod
    def static(what: int) -> int:
        return what


def connect(what: int) -> int:
    """Connect to nothing."""
    return what


PATHS = ["Client.send", "Client.of_class", "Client.static", "connect"]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module with a class and a function, which are as before after the test."""
    module: Any = types.ModuleType("library_of_others")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module.Client, module.connect = Client, connect
    before = [vars(owner)[name] for owner, name in (owner_of(module, path) for path in PATHS)]
    yield module
    assert [vars(owner)[name] for owner, name in (owner_of(module, path) for path in PATHS)] == before


def owner_of(module: Any, path: str) -> tuple[Any, str]:
    """Return the object with the attribute that the path leads to, and the attribute's name."""
    first, _, method = path.partition(".")
    return (getattr(module, first), method) if method else (module, first)


def wrap(module: Any, path: str, log: Log) -> None:
    """Wrap a function as integrations do."""

    def record(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        log.append(args)
        return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(module, path, record)


def unwrapped_by_hand(owner: Any, name: str) -> None:
    """Take a wrapper off, as a common recipe does."""
    setattr(owner, name, getattr(owner, name).__wrapped__)


def unwrapped_by_opentelemetry(owner: Any, name: str) -> None:
    """Take a wrapper off with the function of OpenTelemetry that all its integrations use."""
    from opentelemetry.instrumentation.utils import unwrap  # type: ignore[import-not-found, unused-ignore]

    unwrap(owner, name)


has_opentelemetry = bool(
    importlib.util.find_spec("opentelemetry") and importlib.util.find_spec("opentelemetry.instrumentation")
)
unwraps = pytest.mark.parametrize(
    "unwrap",
    [
        unwrapped_by_hand,
        pytest.param(
            unwrapped_by_opentelemetry,
            marks=pytest.mark.skipif(not has_opentelemetry, reason="needs opentelemetry-instrumentation"),
        ),
    ],
)


def call(module: Any, path: str) -> Any:
    """Call the function, a method by an instance."""
    owner, name = owner_of(module, path)
    return getattr(owner() if owner is Client else owner, name)(3)


@unwraps
@pytest.mark.parametrize("path", PATHS)
def test_a_wrapper_under_the_failpoint_is_taken_off(path: str, unwrap: Callable[..., None], library: Any) -> None:
    """Taking off a wrapper of wrapt under a failpoint takes off that one, and leaves the failpoint."""
    log: Log = []
    before = vars(owner_of(library, path)[0])[owner_of(library, path)[1]]
    wrap(library, path, log)
    undo = instrument(f"{library.__name__}:{path}", "client.send")
    assert call(library, path) == 3
    assert log == [(3,)]
    unwrap(*owner_of(library, path))
    assert call(library, path) == 3
    assert log == [(3,)]
    with configured("client.send", Return(-1)) as handle:
        assert call(library, path) == -1
        assert handle.hits == 1
    undo()
    owner, name = owner_of(library, path)
    if isinstance(before, (classmethod, staticmethod)):
        assert vars(owner)[name].__func__ is before.__func__
        setattr(owner, name, before)
    assert vars(owner)[name] is before


@unwraps
@pytest.mark.parametrize("path", ["Client.send", "connect"])
def test_a_wrapper_over_the_failpoint_is_taken_off(path: str, unwrap: Callable[..., None], library: Any) -> None:
    """Taking off a wrapper that was put over a failpoint leaves the failpoint."""
    log: Log = []
    with instrument(f"{library.__name__}:{path}", "client.send"):
        wrap(library, path, log)
        with configured("client.send", Return(-1)):
            assert call(library, path) == -1
            unwrap(*owner_of(library, path))
            assert call(library, path) == -1
    assert log == [(3,)]


@unwraps
def test_two_wrappers_under_the_failpoint(unwrap: Callable[..., None], library: Any) -> None:
    """Of two wrappers under a failpoint, the upper one is taken off first."""
    first: Log = []
    second: Log = []
    wrap(library, "Client.send", first)
    wrap(library, "Client.send", second)
    with instrument(f"{library.__name__}:Client.send", "client.send"), configured("client.send", "off") as handle:
        for _ in range(3):
            assert call(library, "Client.send") == 3
            unwrap(Client, "send")
        assert handle.hits == 3
    assert (len(first), len(second)) == (2, 1)


@pytest.mark.parametrize("name", ["client.send", "client.send:after"])
def test_a_failpoint_that_was_replaced(name: str, library: Any, failpoints: Failpoints) -> None:
    """If a tool has replaced the instrumented function altogether, the diagnosis of a failpoint never hit says so."""
    before = Client.send
    remark = "another tool has replaced the instrumented function: library_of_others:Client.send is"

    def problem() -> str:
        with pytest.raises(FailpointTimeout) as caught:
            failpoints.set(name, "off", expect_hit=False).wait_hit_sync(timeout=0)
        return str(caught.value)

    with instrument(f"{library.__name__}:Client.send", "client.send"):
        assert remark not in problem()
        instrumented = vars(Client)["send"]
        Client.send = lambda self, what: what  # type: ignore[method-assign]
        assert f"{remark} <function " in problem()
        Client.send = instrumented  # type: ignore[method-assign]
        wrap(library, "Client.send", [])
        assert remark not in problem()
        Client.send = before  # type: ignore[method-assign]
        assert f"{remark} <function " in problem()
    assert remark not in problem()


def test_the_wrapper_under_the_failpoint_still_looks_like_the_function(library: Any) -> None:
    """A failpoint over a wrapper has the signature and the name of the function."""
    twin = inspect.signature(Client.send)
    wrap(library, "Client.send", [])
    try:
        with instrument(f"{library.__name__}:Client.send", "client.send"):
            assert inspect.signature(Client.send) == twin
            assert Client.send.__qualname__ == "Client.send"
            assert inspect.unwrap(Client.send) is inspect.unwrap(vars(Client)["send"])
    finally:
        unwrapped_by_hand(Client, "send")
