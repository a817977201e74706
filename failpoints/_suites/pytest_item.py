"""The state of a pytest item that must be fresh in each run of its test. All private names of pytest are used here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from _pytest.fixtures import resolve_fixture_function


class ItemState:
    """Gives a test fresh fixtures of its own scope, and a fresh instance of its class, again and again."""

    def __init__(self, item: pytest.Function) -> None:
        self._item: Any = item
        self._stash: dict[Any, object] = dict(self._item.stash._storage)  # a fixture removes what the next run needs

    def renew(self, function: Any) -> Any:
        """Forget the fixture values of the last run, its output and its log. Return the test function to call."""
        item = self._item
        item._initrequest()
        self.restore()
        instance = item._getinstance()
        if instance is not None:
            item._instance = instance
            function = getattr(instance, item.originalname)
        item.obj = function
        capture = item.config.pluginmanager.getplugin("capturemanager")
        if capture is not None:
            capture.read_global_capture()
        logged = item.config.pluginmanager.getplugin("logging-plugin")
        if logged is not None:
            logged.caplog_handler.clear()
            logged.report_handler.reset()
        return function

    def restore(self) -> None:
        """Restore what plugins keep with the item."""
        self._item.stash._storage.update(self._stash)

    def value_of(self, fixture: str) -> object:
        """Return the value of a fixture. pytest sets it up first, with all that it needs."""
        return self._item._request.getfixturevalue(fixture)

    def arguments(self) -> dict[str, object]:
        """Return the arguments of the test function."""
        return {name: self._item.funcargs[name] for name in self._item._fixtureinfo.argnames}

    def finalizers(self) -> list[Callable[[], object]]:
        """Return the finalizers of the test, to be called from the last. The first one is left to pytest."""
        stack = self._item.session._setupstate.stack
        finalizers: list[Callable[[], object]] = stack[self._item][0] if self._item in stack else []
        return finalizers


def definitions_of(item: pytest.Function) -> Iterator[pytest.FixtureDef[Any]]:
    """Yield the definitions of all fixtures of a test, also those that others override."""
    of_pytest: Any = item
    known = of_pytest._fixtureinfo.name2fixturedefs
    for name in item.fixturenames:
        yield from known.get(name, ())


def bound_function(definition: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Any:
    """Return the function of a fixture, bound to the instance of the test's class if it is a method."""
    return resolve_fixture_function(definition, request)


def replace_function(definition: pytest.FixtureDef[Any], function: Callable[..., object]) -> None:
    """Replace the function of a fixture, as the plugins for async tests do."""
    definition.func = function  # type: ignore[misc] # final for type checkers


def begin_again(definition: pytest.FixtureDef[Any]) -> None:
    """Forget the set-up of a fixture that was interrupted, so that pytest can try again."""
    of_pytest: Any = definition
    of_pytest._finalizers.clear()


def has_failed(item: pytest.Item) -> bool:
    """Return whether a test of unittest, which has run, has failed. Such an item keeps its error."""
    return bool(getattr(item, "_excinfo", None))
