"""What the tasks of a run wait for, as far as their frames tell; and how long it waits for threads where they do not.

A timer may come at once if nothing that a task waits for could come before it from outside.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Collection
from types import FrameType

from ..threads import is_alone, other_threads, working_threads

_GRACE = 1.0  # real seconds in a run for threads that perhaps answer
_SLICE = 0.05  # before another look at them
_WAKE = 0.005  # for a thread that has just been given something to do, and looks idle
_LEAST = 0.001

_LIBRARIES = {"asyncio", "anyio", "trio"}
_INSIDE = {"sleep", "sleep_until", "acquire", "acquire_on_behalf_of", "accept", "sock_accept", "serve_forever"}
_SIGNALED = {"asyncio.locks", "asyncio.queues", "anyio.streams.memory", "trio._sync", "trio._channel", "trio._timeouts"}
_OF_ANYIO = {"Event", "Condition", "Semaphore"}


class Awaited(enum.Enum):
    """Where that comes from what a task waits for."""

    INSIDE = "inside"  # a timer, a lock, another task
    SIGNALED = "signaled"  # an event or a queue: another task most likely, or else a thread
    OUTSIDE = "outside"  # a socket, a process, or a future of the program's own


def awaited(frames: list[FrameType], future: object = None) -> Awaited:
    """What a task waits for that stands in these frames, and awaits this future."""
    if isinstance(future, asyncio.Task) or _is_of_tasks(getattr(future, "_children", None)):
        return Awaited.INSIDE
    found = Awaited.OUTSIDE
    for frame in reversed(frames):
        module = frame.f_globals.get("__name__") or ""
        if module.partition(".")[0] not in _LIBRARIES:
            break
        name, qualified = frame.f_code.co_name, frame.f_code.co_qualname
        if name in _INSIDE or qualified.endswith(("TaskGroup.__aexit__", "NurseryManager.__aexit__")):
            return Awaited.INSIDE
        if module == "asyncio.tasks" and _is_of_tasks(frame.f_locals.get("fs") or [frame.f_locals.get("fut")]):
            return Awaited.INSIDE
        if module in _SIGNALED:
            found = Awaited.SIGNALED
        elif module.startswith("anyio._backends.") and qualified.partition(".")[0] not in _OF_ANYIO:
            return Awaited.OUTSIDE
    return found


def _is_of_tasks(futures: Collection[object] | None) -> bool:
    return bool(futures) and all(isinstance(future, asyncio.Task) for future in futures or ())


class Patience:
    """For how long a run waits for threads of which nobody can tell whether they answer to it."""

    def __init__(self) -> None:
        self._older = frozenset[int]() if is_alone() else frozenset(other_threads())
        self._left = _GRACE
        self.ran_out = False
        self.reason = ""

    def seconds(self, kinds: Collection[Awaited], *, looked: bool, timers: bool) -> float:
        """How long to wait really, before another look; 0 to go on.

        `looked` says whether this is another look already, and `timers` whether to go on is to let time pass.
        """
        if is_alone() or not (Awaited.OUTSIDE in kinds or Awaited.SIGNALED in kinds):
            return 0
        outside = Awaited.OUTSIDE in kinds
        names = [name for ident, name in working_threads() if outside or ident not in self._older]
        if names:
            self.reason = f"the thread {names[0]}"
            seconds = _SLICE if outside and timers else self._take(_SLICE)
            self.ran_out = self.ran_out or not seconds
            return seconds
        if not looked and (outside or not self._older.issuperset(other_threads())):
            return self._take(_WAKE) or _LEAST
        return 0

    def _take(self, seconds: float) -> float:
        taken = min(seconds, self._left)
        self._left -= taken
        return taken
