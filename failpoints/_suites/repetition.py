"""Runs one test again and again: each time with fresh fixtures of its own, all on the event loop of the run.

pytest sets up the fixtures, in its order. Only a fixture that is async needs the running event loop, and pytest cannot
await it. So its set-up is interrupted, the fixture function is awaited, and pytest is asked for the same fixture again.
This time its function only returns what is there.

Fixtures of wider scopes are those of the session, as in any other run.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
import unittest
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest

from .._core.hooks import exploring
from ..explore import Run
from .async_test import AsyncTest, is_async
from .pytest_item import ItemState, begin_again, bound_function, replace_function
from .unittest_case import run_case

_OF_PLUGINS = re.compile(r"_\w+_scoped_runner|event_loop")  # fixtures that make the event loop of a plugin

_MOST_SECONDS = 5.0  # for the tear-down of an interrupted run
_OUT_OF_ORDER = {
    "threads": "a task went on before a thread had answered",
    "sockets": "a task went on before an answer had come over a socket",
    "arrival": "tasks arrived in another order from run to run",
}


class _Awaited(BaseException):
    """Interrupts the set-up of an async fixture. pytest keeps no result of a fixture for it."""

    def __init__(self, definition: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
        super().__init__(f"the async fixture {definition.argname!r} was requested while the test was running")
        self.definition = definition
        self.request = request


class Repetition:
    """The scenario that explores one test."""

    def __init__(self, test: AsyncTest, backend: str) -> None:
        self.__qualname__ = test.item.name
        self._item = test.item
        self._state = ItemState(test.item)
        self._function = test.function
        self._is_asyncio = backend == "asyncio"
        self._values: dict[pytest.FixtureDef[Any], object] = {}  # of async fixtures that pytest has not been told of
        self._open: dict[object, Any] = {}  # generators of async fixtures, to be resumed when they are torn down
        self._execution: Any = None  # of the last run
        self.is_stuck = False  # because fixtures cannot be torn down

    async def __call__(self, run: Run) -> None:
        """Run the test once."""
        __tracebackhide__ = True
        self._execution = exploring.get()
        self.tear_down_interrupted()
        self._function = self._state.renew(self._function)
        if self._is_asyncio:
            asyncio.get_running_loop().set_exception_handler(_log)
        async with run.injecting():
            try:
                await self._set_up()
                await self._call()
            except (pytest.skip.Exception, unittest.SkipTest):
                pass
            except BaseException:
                if self._execution.active:  # otherwise the run is being ended, and a finalizer might wait for ever
                    await self._tear_down()
                raise
            error = await self._tear_down()
            if error is not None:
                raise error
        if self._is_asyncio:
            await _end_tasks()

    @property
    def left_its_order(self) -> str:
        """Why the tasks of the last run may not have gone on in the order of their plan, or ""."""
        for bound, reason in _OUT_OF_ORDER.items():
            if bound in self._execution.scheduler.bounds:
                return reason
        return ""

    def fixture_setup(
        self, definition: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Surround the set-up of a fixture."""
        __tracebackhide__ = True
        try:
            if not is_async(definition.func):
                return (yield)
            if definition not in self._values:
                raise _Awaited(definition, request)
            value = self._values.pop(definition)
            function = definition.func
            replace_function(definition, _Ready(value))
            try:
                return (yield)
            finally:
                replace_function(definition, function)
        except _Awaited:
            begin_again(definition)
            raise

    def tear_down(self) -> BaseException | None:
        """Tear down the fixtures of the test outside an event loop. Return the error."""
        self._open.clear()
        self._values.clear()
        errors: list[BaseException] = []
        finalizers = self._state.finalizers()
        while len(finalizers) > 1:
            _call(finalizers.pop(), errors)
        self._state.restore()
        return _one_of(errors)

    def tear_down_interrupted(self) -> None:
        """Tear down the fixtures that an interrupted run has left, in a thread, since a finalizer may wait for ever."""
        if len(self._state.finalizers()) > 1:
            thread = threading.Thread(target=self.tear_down, name="tear-down of an interrupted test", daemon=True)
            thread.start()
            thread.join(_MOST_SECONDS)
            if thread.is_alive():
                self.is_stuck = True
                raise RuntimeError("the fixtures of an interrupted run cannot be torn down")

    async def _set_up(self) -> None:
        __tracebackhide__ = True
        item = self._item
        for name in item.fixturenames:
            if name not in item.funcargs and not _OF_PLUGINS.fullmatch(name):
                item.funcargs[name] = await self._value_of(name)

    async def _value_of(self, name: str) -> object:
        __tracebackhide__ = True
        while True:
            try:
                return self._state.value_of(name)
            except _Awaited as awaited:
                definition, request = awaited.definition, awaited.request
            self._values[definition] = await self._set_up_async(definition, request)

    async def _set_up_async(self, definition: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> object:
        __tracebackhide__ = True
        function = bound_function(definition, request)
        made: Any = function(**{name: request.getfixturevalue(name) for name in definition.argnames})
        if inspect.isasyncgenfunction(function):
            self._open[definition] = made
            return await made.__anext__()
        if inspect.iscoroutinefunction(function):
            return await made
        if inspect.isgeneratorfunction(function):
            self._open[definition] = made
            return next(made)
        if getattr(made, "__name__", "") == "NURSERY_FIXTURE_PLACEHOLDER":
            self._open[definition] = opened = _nursery()
            return await opened.__anext__()
        return made

    async def _call(self) -> None:
        __tracebackhide__ = True
        instance = self._item.instance
        if isinstance(instance, unittest.IsolatedAsyncioTestCase):
            await run_case(instance, self._function)
            return
        await self._function(**self._state.arguments())

    async def _tear_down(self) -> BaseException | None:
        errors: list[BaseException] = []
        finalizers = self._state.finalizers()
        while len(finalizers) > 1:
            finalizer = finalizers.pop()
            definition = getattr(getattr(finalizer, "func", None), "__self__", None)
            opened = self._open.pop(definition, None)
            if opened is not None:
                try:
                    await _close(opened)
                except BaseException as error:
                    errors.append(error)
            _call(finalizer, errors)
        return _one_of(errors)


class _Ready:
    """The function of a fixture whose value is there."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __call__(self, **arguments: object) -> object:
        return self._value


def _one_of(errors: list[BaseException]) -> BaseException | None:
    if len(errors) > 1:
        return BaseExceptionGroup("errors while tearing down the fixtures of a test", errors)
    return errors[0] if errors else None


def _call(finalizer: Callable[[], object], errors: list[BaseException]) -> None:
    try:
        finalizer()
    except BaseException as error:
        errors.append(error)


async def _close(opened: Any) -> None:
    """Resume a fixture after its `yield`."""
    try:
        if inspect.isasyncgen(opened):
            await opened.__anext__()
        else:
            next(opened)
    except (StopIteration, StopAsyncIteration):
        return
    raise RuntimeError("an async generator fixture did not stop after its yield")


async def _nursery() -> AsyncGenerator[Any]:
    """Serve as pytest-trio's fixture `nursery`."""
    import trio

    async with trio.open_nursery() as nursery:
        yield nursery
        nursery.cancel_scope.cancel()


def _log(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that no task has retrieved, as asyncio does: such an error does not fail a test."""
    loop.default_exception_handler(context)


async def _end_tasks() -> None:
    """Cancel what the test has left running, as the plugins do, and retrieve every error that no task has retrieved."""
    loop: Any = asyncio.get_running_loop()
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    for task in loop.created:
        if task.done() and not task.cancelled():
            task.exception()
