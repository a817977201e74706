"""Queues: each of their operations is one of a run."""

from __future__ import annotations

import queue
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
    return made.all


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
