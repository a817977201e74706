"""Pools: a submit is a single operation, and so is what a future does behind its lock.

The code of a pool between two operations touches only what is its own. Such a step does not meet those of the program.
"""

from __future__ import annotations

import concurrent.futures
import sys
from typing import Any, Final

from ..._core.reentrancy import transparent
from .control import Steering, steering
from .locks import lock_of
from .primitives import Patch, Patches, internal

_DONE: Final = ("FINISHED", "CANCELLED", "CANCELLED_AND_NOTIFIED")


def patches() -> list[Patch]:
    """Return the classes, the names of their methods, and what takes the place of each."""
    made = Patches()
    replace = made.replace
    replace(concurrent.futures.Future, "__init__", _beginning_future)
    replace(concurrent.futures.Future, "result exception", _awaiting_future)
    replace(concurrent.futures.Future, "set_running_or_notify_cancel add_done_callback", _leading_to_program)
    replace(concurrent.futures.Future, "_invoke_callbacks", _calling_back)
    replace(concurrent.futures.ThreadPoolExecutor, "__init__", _beginning_executor)
    replace(concurrent.futures.ThreadPoolExecutor, "submit", _submitting)
    pools: Any = sys.modules.get("multiprocessing.pool")
    if pools is not None:
        made.all.append((pools.Pool, "_wait_for_updates", staticmethod(_waiting_in_pool(pools.Pool._wait_for_updates))))  # noqa: SLF001
    return made.all


def _beginning_future(original: Any) -> Any:
    @transparent
    def __init__(self: Any) -> None:  # noqa: N807
        original(self)
        found, lock = steering(), lock_of(self._condition._lock)  # noqa: SLF001
        if found is not None and lock is not None:
            lock.is_section = True
            found.create(self)

    return __init__


def _awaiting_future(original: Any) -> Any:
    """Wrap the wait for a future. It meets nothing: the thread goes on after the future is done, in any order."""

    @transparent
    def wait(self: Any, timeout: float | None = None) -> Any:
        found = steering()
        lock = lock_of(self._condition._lock)  # noqa: SLF001
        if found is None or lock is None or timeout is not None:
            return original(self, timeout)
        found.before(self, lambda: self._state in _DONE and lock.is_free())
        found.note_nothing()
        found.split(found.mark_of(self._condition))
        try:
            with internal(found):
                return original(self)
        finally:
            found.after()

    return wait


def _leading_to_program(original: Any) -> Any:
    """Wrap a method after which a pool calls a function of the program."""

    @transparent
    def leading(self: Any, *args: Any) -> Any:
        found = steering()
        try:
            return original(self, *args)
        finally:
            if found is not None:
                found.running.runs_program = True

    return leading


def _calling_back(original: Any) -> Any:
    leading = _leading_to_program(original)

    @transparent
    def calling_back(self: Any) -> None:
        (leading if self._done_callbacks else original)(self)

    return calling_back


class _Threads(dict[Any, None]):
    """The threads of an executor, in the order of their start. A set has the order of their addresses."""

    def __init__(self, found: Steering, *, has_initializer: bool) -> None:
        self._found = found
        self._has_initializer = has_initializer

    def add(self, thread: Any) -> None:
        self[thread] = None
        steered = self._found.by_thread.get(thread)
        if steered is not None and not self._has_initializer:
            steered.is_worker, steered.runs_program = True, False


def _beginning_executor(original: Any) -> Any:
    @transparent
    def __init__(  # noqa: N807
        self: Any,
        max_workers: Any = None,
        thread_name_prefix: Any = "",
        initializer: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        original(self, max_workers, thread_name_prefix, initializer, *args, **kwargs)
        found = steering()
        if found is not None:
            found.create(self)
            self._threads = _Threads(found, has_initializer=initializer is not None)

    return __init__


def _submitting(original: Any) -> Any:
    @transparent
    def submit(self: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        found = steering()
        if found is None:
            return original(self, function, *args, **kwargs)
        found.before(self)
        found.note(self, "w", "all")
        running = found.running
        running.is_atomic = True
        try:
            return original(self, function, *args, **kwargs)
        finally:
            running.is_atomic = False
            found.after()
            running.runs_program = True  # `map` takes the next elements

    return submit


def _waiting_in_pool(original: Any) -> Any:
    """Wrap the function in which a thread of `multiprocessing.pool.ThreadPool` waits for a pipe."""

    @transparent
    def wait_for_updates(sentinels: Any, change_notifier: Any, timeout: float | None = None) -> None:
        found = steering()
        if found is None:
            original(sentinels, change_notifier, timeout)
            return
        found.before(change_notifier, lambda: not change_notifier.empty(), timeout)
        found.touch_everything()
        original(sentinels, change_notifier, 0)
        found.after()

    return wait_for_updates
