"""Tells which tests of a suite can be explored, and why the others cannot."""

from __future__ import annotations

import inspect
import sys
import unittest
from typing import Any, NamedTuple, cast

import pytest

from .pytest_item import definitions_of

_WIDER_SCOPE = "has an async fixture of a wider scope, which keeps its event loop: {name!r} ({scope})"
_HYPOTHESIS = "is repeated by Hypothesis"
_UNKNOWN = "is run by a plugin other than anyio's, pytest-asyncio, pytest-trio and unittest"
_FAILPOINTS = "configures failpoints itself"
_CLOCK = "has a clock of its own: {name!r}"
_LOOP = "chooses its event loop: {choice}"


class Left(NamedTuple):
    """A test that is not explored, with the reason as a phrase."""

    reason: str


class AsyncTest(NamedTuple):
    """An async test. `function` is its own function, before a plugin replaces it."""

    item: pytest.Function
    function: Any

    @classmethod
    def of(cls, item: pytest.Item) -> AsyncTest | None:
        """Return the async test of an item that has not been set up, or `None` if it is not async."""
        if not isinstance(item, pytest.Function):
            return None
        function: Any = item.obj
        inner = getattr(getattr(function, "hypothesis", None), "inner_test", function)
        return cls(item, function) if inspect.iscoroutinefunction(inner) else None

    def backend(self) -> str | Left:
        """Return the event loop on which to explore the test, which has been set up, or why it cannot be explored."""
        item = self.item
        if not inspect.iscoroutinefunction(self.function):
            return Left(_HYPOTHESIS)
        if "failpoints" in item.fixturenames or item.get_closest_marker("failpoints") is not None:
            return Left(_FAILPOINTS)
        for definition in definitions_of(item):
            if is_async(definition.func) and definition.scope != "function":
                return Left(_WIDER_SCOPE.format(name=definition.argname, scope=definition.scope))
        return _backend_of(item)


def is_async(function: Any) -> bool:
    """Return whether a fixture function needs the event loop of its test."""
    own = getattr(function, "__func__", function)
    return (
        inspect.iscoroutinefunction(own)
        or inspect.isasyncgenfunction(own)
        or getattr(own, "_force_asyncio_fixture", False)
        or getattr(own, "_force_trio_fixture", False)
    )


def _backend_of(item: pytest.Function) -> str | Left:
    """Return the event loop of a test. The order is the one in which the plugins take a test."""
    if item.cls is not None and issubclass(item.cls, unittest.TestCase):
        return "asyncio" if issubclass(item.cls, unittest.IsolatedAsyncioTestCase) else Left(_UNKNOWN)
    pytest_asyncio: Any = sys.modules.get("pytest_asyncio.plugin")
    if pytest_asyncio is not None and isinstance(item, getattr(pytest_asyncio, "PytestAsyncioFunction", ())):
        names = {definition.argname for definition in definitions_of(item)}
        if "_asyncio_loop_factory" in getattr(getattr(item, "callspec", None), "params", {}):
            return Left(_LOOP.format(choice="pytest_asyncio_loop_factories"))
        return "asyncio" if "event_loop" not in names else Left(_LOOP.format(choice="the fixture event_loop"))
    if "anyio_backend" in item.fixturenames and item.config.pluginmanager.has_plugin("anyio"):
        return _anyio_backend(item)
    if item.get_closest_marker("trio") is not None and item.config.pluginmanager.has_plugin("trio"):
        clocks = [name for name in ("mock_clock", "autojump_clock") if name in item.fixturenames]
        return Left(_CLOCK.format(name=clocks[0])) if clocks else "trio"
    return Left(_UNKNOWN)


def _anyio_backend(item: pytest.Function) -> str | Left:
    backend: Any = item.funcargs["anyio_backend"]
    name, options = cast(Any, backend if isinstance(backend, tuple) else (backend, {}))
    if options.get("use_uvloop") or options.get("loop_factory") is not None:
        return Left(_LOOP.format(choice=f"anyio_backend={backend!r}"))
    return str(name)
