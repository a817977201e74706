"""Queues and pools: each of their operations is one of a run, also a submit, and what a future does behind its lock."""

from __future__ import annotations

import concurrent.futures
import queue
import sys
from collections.abc import Callable
from typing import Any

from ..._core.reentrancy import transparent
from .control import Steering, steering
from .locks import lock_of
from .primitives import Patch, Patches, at_once, internal, naming


def patches() -> list[Patch]:
    """Return the classes, the names of their methods, and what takes the place of each."""
    made = Patches()
    replace = made.replace
    replace(queue.Queue, "__init__", naming)
    replace(queue.Queue, "put", _putting)
    replace(queue.Queue, "get", _getting)
    replace(queue.Queue, "join", _joining_queue)
    replace(queue.Queue, "task_done shutdown", lambda original: at_once(original, "w", "all"))
    replace(queue.Queue, "qsize empty full", lambda original: at_once(original, "r", "all"))
    replace(concurrent.futures.Future, "__init__", _beginning_future)
    replace(concurrent.futures.ThreadPoolExecutor, "__init__", _beginning_executor)
    replace(concurrent.futures.ThreadPoolExecutor, "submit", _submitting)
    pools: Any = sys.modules.get("multiprocessing.pool")
    if pools is not None:
        made.all.append((pools.Pool, "_wait_for_updates", staticmethod(_waiting_in_pool(pools.Pool._wait_for_updates))))  # noqa: SLF001
    return made.all


# Queues


def _is_shut_down(self: Any) -> bool:
    return bool(getattr(self, "is_shutdown", False))


def _has_room(self: Any) -> bool:
    return self.maxsize <= 0 or self._qsize() < self.maxsize or _is_shut_down(self)


def _has_item(self: Any) -> bool:
    return bool(self._qsize()) or _is_shut_down(self)


def _putting(original: Any) -> Any:
    @transparent
    def put(self: Any, item: Any, block: bool = True, timeout: float | None = None) -> None:
        found = steering()
        if found is None or (block and timeout is not None and timeout < 0):
            original(self, item, block, timeout)
            return
        _before_queue(found, self, _has_room if block else None, timeout)
        try:
            with internal(found):
                original(self, item, False)
        finally:
            found.after()

    return put


def _getting(original: Any) -> Any:
    @transparent
    def get(self: Any, block: bool = True, timeout: float | None = None) -> Any:
        found = steering()
        if found is None or (block and timeout is not None and timeout < 0):
            return original(self, block, timeout)
        _before_queue(found, self, _has_item if block else None, timeout)
        try:
            with internal(found):
                return original(self, False)
        finally:
            found.after()

    return get


def _joining_queue(original: Any) -> Any:
    @transparent
    def join(self: Any) -> None:
        found = steering()
        if found is None:
            original(self)
            return
        _before_queue(found, self, lambda queue: not queue.unfinished_tasks, None)
        found.after()

    return join


def _before_queue(found: Steering, self: Any, is_ready: Callable[[Any], bool] | None, timeout: float | None) -> None:
    mutex = lock_of(self.mutex)

    def is_enabled() -> bool:
        return (mutex is None or mutex.is_free()) and (is_ready is None or is_ready(self))

    found.before(self, is_enabled, timeout, ((self, "w", "all"),))
    found.note(self, "w", "all")
    if mutex is not None:
        found.note(mutex, "w", "queue", "state")


def _beginning_future(original: Any) -> Any:
    @transparent
    def __init__(self: Any) -> None:  # noqa: N807
        original(self)
        lock = lock_of(self._condition._lock)  # noqa: SLF001
        if lock is not None:
            lock.is_section = True

    return __init__


# Pools


class _Threads(dict[Any, None]):
    """The threads of an executor, in the order of their start. A set has the order of their addresses."""

    def add(self, thread: Any) -> None:
        self[thread] = None


def _beginning_executor(original: Any) -> Any:
    @transparent
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        original(self, *args, **kwargs)
        found = steering()
        if found is not None:
            found.create(self)
            self._threads = _Threads()

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
