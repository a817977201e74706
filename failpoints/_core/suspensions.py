"""Whether the calls of an async function suspend, as far as they were seen while a failpoint was configured.

An async function that never suspends is atomic among the tasks of its loop. A pause there lets other tasks run in
between, and so makes states that the program cannot have.
"""

from __future__ import annotations

import dis
import functools
import inspect
import sys
from collections.abc import Coroutine, Generator
from types import CodeType
from typing import Any, Self

from .known_sites import only_function
from .reentrancy import transparent

_ENOUGH = 100  # calls to observe, if none of them suspends

_calls: dict[str, int] = {}  # by name: calls that ended without having suspended; -1 once any has suspended


class Observed:
    """Awaits the coroutine of a call, and notes whether it suspends."""

    __slots__ = ("_coroutine", "_has_suspended", "_name")

    def __init__(self, name: str, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._name = name
        self._coroutine = coroutine
        self._has_suspended = False

    def __await__(self) -> Generator[Any, Any, Any]:
        return self  # it has the methods that an await uses

    def __iter__(self) -> Self:
        return self

    @transparent
    def __next__(self) -> Any:
        return self.send(None)

    @transparent
    def send(self, value: Any) -> Any:
        try:
            yielded = self._coroutine.send(value)
        except StopIteration:
            if not self._has_suspended and _calls.get(self._name, 0) >= 0:
                _calls[self._name] = _calls.get(self._name, 0) + 1
            raise
        self._suspended()
        return yielded

    @transparent
    def throw(self, *error: Any) -> Any:
        yielded = self._coroutine.throw(*error)
        self._suspended()
        return yielded

    @transparent
    def close(self) -> None:
        self._coroutine.close()

    def _suspended(self) -> None:
        self._has_suspended = True
        _calls[self._name] = -1


def observed(name: str, body: Any) -> Any:
    """Return what to await for a call: the call itself, or its coroutine observed while that may show something new."""
    # A debugger is to step into calls as they are.
    is_undecided = 0 <= _calls.get(name, 0) < _ENOUGH and sys.gettrace() is None
    return Observed(name, body) if is_undecided and inspect.iscoroutine(body) else body


def atomic_calls(name: str) -> int:
    """Return how many calls of the site of *name* were seen to end, if none of them suspended; else 0."""
    return max(_calls.get(name.removesuffix(":after"), 0), 0)


def warning(name: str) -> str:
    """Return what to say of a pause where the program has not been seen to suspend, or nothing."""
    code = only_function(name)  # another site of the name may be elsewhere
    calls = atomic_calls(name)
    if code is None or not (calls or _never_suspends(code)):
        return ""
    seen = "the one call" if calls == 1 else f"any of the {calls} calls"
    fact = "awaits nothing" if _never_suspends(code) else f"has not suspended in {seen} seen"
    return f"{fact}: other tasks run here only because of the pause"


@functools.cache
def _never_suspends(code: CodeType) -> bool:
    """Return whether the code is that of an async function without an `await`, an `async for` or an `async with`."""
    is_async_function = bool(code.co_flags & inspect.CO_COROUTINE)
    return is_async_function and all(each.opname != "YIELD_VALUE" for each in dis.get_instructions(code))
