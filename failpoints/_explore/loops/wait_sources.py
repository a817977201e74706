"""Classifies the wait of a task by its frames: it is ended by something inside the run, or by something outside.

A timer can fire at once if no task waits for anything outside, which could arrive before it.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Collection, Hashable
from types import FrameType

from ..plan.identity import TaskPath

_LIBRARIES = {"asyncio", "anyio", "trio"}
_INSIDE = {"sleep", "sleep_until", "acquire", "acquire_on_behalf_of", "accept", "sock_accept", "serve_forever"}
_SIGNALED = {"asyncio.locks", "asyncio.queues", "anyio.streams.memory", "trio._sync", "trio._channel", "trio._timeouts"}
_ANYIO_SIGNALED = {"Event", "Condition", "Semaphore"}


class WaitSource(enum.Enum):
    """Where something comes from that ends the wait of a task."""

    INSIDE = "inside"  # a timer, a lock, another task
    SIGNALED = "signaled"  # an event or a queue: most likely another task, but possibly a thread
    OUTSIDE = "outside"  # a socket, a process, or a future that the program has made


def wait_source(frames: list[FrameType], future: object = None) -> WaitSource:
    """Classify the wait of a task with these frames, which awaits *future* if it runs on asyncio."""
    if isinstance(future, asyncio.Task) or _are_tasks(getattr(future, "_children", None)):
        return WaitSource.INSIDE
    found = WaitSource.OUTSIDE
    for frame in reversed(frames):
        module = frame.f_globals.get("__name__") or ""
        if module.partition(".")[0] not in _LIBRARIES:
            break
        name, qualified = frame.f_code.co_name, frame.f_code.co_qualname
        if name in _INSIDE or qualified.endswith(("TaskGroup.__aexit__", "NurseryManager.__aexit__")):
            return WaitSource.INSIDE
        if module == "asyncio.tasks" and _are_tasks(frame.f_locals.get("fs") or [frame.f_locals.get("fut")]):
            return WaitSource.INSIDE
        if module in _SIGNALED:
            found = WaitSource.SIGNALED
        elif module.startswith("anyio._backends.") and qualified.partition(".")[0] not in _ANYIO_SIGNALED:
            return WaitSource.OUTSIDE
    return found


def wait_place(path: TaskPath, frames: list[FrameType]) -> Hashable:
    """Return what identifies a wait of a task in every run: the task, and the lines that it is at."""
    return path, tuple((frame.f_code, frame.f_lineno) for frame in frames)


def _are_tasks(futures: Collection[object] | None) -> bool:
    return bool(futures) and all(isinstance(future, asyncio.Task) for future in futures or ())
