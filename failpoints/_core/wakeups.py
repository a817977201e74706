"""Sleeping until woken, for tasks on any event loop and for threads. Any thread can wake them.

Does not depend on failpoints. A wakeup serves one sleep. The sleeper creates it and hands it to the waker. Once set it
stays set, so waking early is not lost.
"""

from __future__ import annotations

import enum
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeAlias

import anyio

from ..errors import FailpointUsageError
from .clock import monotonic

_POLL = 0.01  # seconds between checks of a threading.Event, because a thread cannot wait for two things at once


class CancelEvent(Protocol):
    """An event that ends a wait: in async code one of anyio, asyncio or trio, in sync code one of threading."""

    def is_set(self) -> bool: ...

    def wait(self) -> Any: ...


class Ended(enum.Enum):
    """How a sleep ended."""

    WOKEN = enum.auto()
    EXPIRED = enum.auto()
    CANCELLED = enum.auto()


class TaskWakeup:
    """A wakeup for the task that creates it."""

    __slots__ = ("_event", "loop", "thread")

    def __init__(self) -> None:
        self.loop: Any = anyio.lowlevel.current_token().native_token
        self.thread = threading.get_ident()
        self._event = anyio.Event()

    @property
    def abandoned(self) -> bool:
        """Whether its event loop is closed, so that nothing can wake it. Trio ends all tasks before it ends."""
        is_closed: Callable[[], bool] | None = getattr(self.loop, "is_closed", None)
        return is_closed is not None and is_closed()

    def set(self) -> None:
        """Wake the task. Must be called on its own event loop."""
        self._event.set()

    async def wait(self, seconds: float | None = None, cancel: CancelEvent | None = None) -> Ended:
        """Sleep until woken, until *seconds* have passed on the loop's clock, or until *cancel* is set."""
        if seconds is None:
            return await self._wait(cancel)
        with anyio.move_on_after(seconds):
            return await self._wait(cancel)
        return Ended.EXPIRED

    async def _wait(self, cancel: CancelEvent | None) -> Ended:
        if cancel is None:
            await self._event.wait()
            return Ended.WOKEN
        cancelled = False
        failure: Exception | None = None

        async def watch() -> None:
            nonlocal cancelled, failure
            try:
                await cancel.wait()
                cancelled = True
            except Exception as error:
                failure = error
            self._event.set()

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await self._event.wait()
            group.cancel_scope.cancel()
        if failure is not None:
            raise FailpointUsageError(
                f"cancel={cancel!r} cannot be waited for here: {failure}; in async code it must be an event of"
                " anyio, or of the running loop's own library"
            ) from failure
        return Ended.CANCELLED if cancelled else Ended.WOKEN

    @staticmethod
    def sleeper() -> str:
        """Return the name of the running task."""
        return anyio.get_current_task().name or "a task without a name"


class ThreadWakeup:
    """A wakeup for the thread that creates it."""

    __slots__ = ("_held", "loop", "thread")

    abandoned = False

    def __init__(self) -> None:
        self.loop = None
        self.thread = threading.get_ident()
        # A bare lock, held until the wakeup is set. An Event has a lock of its own, and a signal handler that sets it
        # while its thread begins to wait would wait for that lock forever.
        self._held = threading.Lock()
        self._held.acquire()

    def set(self) -> None:
        """Wake the thread."""
        try:
            self._held.release()
        except RuntimeError:  # woken already
            pass

    def wait(self, seconds: float | None = None, cancel: CancelEvent | None = None) -> Ended:
        """Sleep until woken, until *seconds* have passed, or until *cancel* is set."""
        limit = threading.TIMEOUT_MAX if seconds is None else min(seconds, threading.TIMEOUT_MAX)
        if cancel is None:
            return Ended.WOKEN if self._held.acquire(timeout=limit) else Ended.EXPIRED
        deadline = monotonic() + limit
        while not self._held.acquire(timeout=min(_POLL, max(deadline - monotonic(), 0))):
            if cancel.is_set():
                return Ended.CANCELLED
            if monotonic() >= deadline:
                return Ended.EXPIRED
        return Ended.WOKEN

    @staticmethod
    def sleeper() -> str:
        """Return the name of the running thread."""
        return threading.current_thread().name


Wakeup: TypeAlias = TaskWakeup | ThreadWakeup


owed: Final[dict[Wakeup, None]] = {}


def owe(wakeup: Wakeup) -> None:
    """Note that a sleeper is to be woken, before it is dismissed.

    An exception from a signal handler can end the call that dismissed it. The next call of `pay` then wakes it.
    """
    owed[wakeup] = None


def pay() -> None:
    """Wake every sleeper that is owed it. Call it without holding a lock."""
    while owed:
        wakeups = list(owed)
        wake(wakeups)
        for wakeup in wakeups:
            owed.pop(wakeup, None)


def forget_other_threads() -> None:
    """Forget, after a fork, the sleepers in threads that this process does not have."""
    for wakeup in list(owed):
        if wakeup.thread != threading.get_ident():
            owed.pop(wakeup, None)


def wake(wakeups: Iterable[Wakeup]) -> None:
    """Set all wakeups, on any loop and in any thread. Can be called from any thread and from a signal handler."""
    by_loop: dict[Any, list[Wakeup]] = {}
    for wakeup in wakeups:
        if wakeup.loop is None:
            wakeup.set()
        else:
            by_loop.setdefault(wakeup.loop, []).append(wakeup)
    for loop, sleepers in by_loop.items():
        call_soon(loop, _set_each, sleepers)


def call_soon(loop: Any, function: Callable[..., object], *args: Any) -> None:
    """Call a function soon on an event loop, from any thread. Does nothing if the loop is closed."""
    # Needed even on the loop's own thread: a signal handler runs there while the loop waits for I/O, and a plain
    # set() would not end that wait.
    threadsafe: Callable[..., object] = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
    try:
        threadsafe(function, *args)
    except RuntimeError:  # the loop is closed, and its tasks with it
        pass


def _set_each(wakeups: list[Wakeup]) -> None:
    for wakeup in wakeups:
        wakeup.set()


def running() -> object:
    """Return what identifies the running task, or the running thread where there is no task."""
    if on_event_loop():
        try:
            return anyio.get_current_task().id, "task"
        except RuntimeError:  # a callback of the loop
            pass
    return threading.get_ident()


def on_event_loop() -> bool:
    """Return whether an event loop runs in this thread, so that blocking the thread would block it."""
    # The libraries themselves are asked, because anyio knows a loop only inside a task. getattr, because another
    # thread may be importing one of them right now.
    in_trio_run = getattr(sys.modules.get("trio.lowlevel"), "in_trio_run", None)
    if in_trio_run is not None and in_trio_run():
        return True
    get_running_loop = getattr(sys.modules.get("asyncio"), "get_running_loop", None)
    if get_running_loop is None:
        return False
    try:
        get_running_loop()
    except RuntimeError:
        return False
    return True
