"""Sleeping until woken: tasks on any loop of either backend, and threads, woken from any thread.

Knows no failpoints. A wake-up is for one sleep: it is made by who will sleep, handed to who will wake, and
once set it stays set, so a wake-up that comes before the sleep is not lost.
"""

from __future__ import annotations

import enum
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

from anyio import Event, create_task_group, get_current_task, move_on_after
from anyio.lowlevel import current_token

from ..errors import FailpointUsageError

_POLL = 0.01  # seconds between looks at a threading.Event: a thread cannot wait for two things at once


class CancelEvent(Protocol):
    """An event that ends a wait: anyio's, asyncio's or trio's; in sync code one of threading's."""

    def is_set(self) -> bool: ...

    def wait(self) -> Any: ...


class Ended(enum.Enum):
    """How a sleep ended."""

    WOKEN = enum.auto()
    EXPIRED = enum.auto()
    CANCELLED = enum.auto()


class TaskWakeup:
    """Wakes a task; made in that task."""

    __slots__ = ("_event", "loop", "thread")

    def __init__(self) -> None:
        self.loop: Any = current_token().native_token
        self.thread = threading.get_ident()
        self._event = Event()

    @property
    def abandoned(self) -> bool:
        """Whether its loop is closed, so that nothing will ever wake it; trio ends its tasks before it ends."""
        is_closed: Callable[[], bool] | None = getattr(self.loop, "is_closed", None)
        return is_closed is not None and is_closed()

    def set(self) -> None:
        """Wake it; to be called on its own loop."""
        self._event.set()

    async def wait(self, seconds: float | None = None, cancel: CancelEvent | None = None) -> Ended:
        """Sleep until woken, for so many seconds of the loop's clock at most, or until `cancel` is set."""
        if seconds is None:
            return await self._wait(cancel)
        with move_on_after(seconds):
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

        async with create_task_group() as group:
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
        """Who would sleep: the running task's name."""
        return get_current_task().name or "a task without a name"


class ThreadWakeup:
    """Wakes a thread; made in that thread."""

    __slots__ = ("_held", "loop", "thread")

    abandoned = False

    def __init__(self) -> None:
        self.loop = None
        self.thread = threading.get_ident()
        # A bare lock that is held until the wake-up: an Event has a lock of its own, on which a signal handler would
        # wait for ever that sets it while its very thread begins to wait.
        self._held = threading.Lock()
        self._held.acquire()

    def set(self) -> None:
        """Wake it."""
        try:
            self._held.release()
        except RuntimeError:  # it is woken already
            pass

    def wait(self, seconds: float | None = None, cancel: CancelEvent | None = None) -> Ended:
        """Sleep until woken, for so many seconds at most, or until `cancel` is set."""
        limit = threading.TIMEOUT_MAX if seconds is None else min(seconds, threading.TIMEOUT_MAX)
        if cancel is None:
            return Ended.WOKEN if self._held.acquire(timeout=limit) else Ended.EXPIRED
        deadline = time.monotonic() + limit
        while not self._held.acquire(timeout=min(_POLL, max(deadline - time.monotonic(), 0))):
            if cancel.is_set():
                return Ended.CANCELLED
            if time.monotonic() >= deadline:
                return Ended.EXPIRED
        return Ended.WOKEN

    @staticmethod
    def sleeper() -> str:
        """Who would sleep: the running thread's name."""
        return threading.current_thread().name


Wakeup: TypeAlias = TaskWakeup | ThreadWakeup


def wake(wakeups: Iterable[Wakeup]) -> None:
    """Wake them all, wherever they sleep; may be called from any thread, a signal handler too."""
    by_loop: dict[Any, list[Wakeup]] = {}
    for wakeup in wakeups:
        if wakeup.loop is None:
            wakeup.set()
        else:
            by_loop.setdefault(wakeup.loop, []).append(wakeup)
    for loop, sleepers in by_loop.items():
        _call_soon(loop, sleepers)


def _call_soon(loop: Any, sleepers: list[Wakeup]) -> None:
    # Even on the loop's own thread: a signal handler runs there while the loop waits for I/O, and a plain
    # set() would not end that wait.
    call_soon: Callable[..., object] = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
    try:
        call_soon(_set_each, sleepers)
    except RuntimeError:  # the loop is closed, and who slept on it is gone
        pass


def _set_each(wakeups: list[Wakeup]) -> None:
    for wakeup in wakeups:
        wakeup.set()


def on_event_loop() -> bool:
    """Whether an event loop runs in this thread, so that blocking the thread would block it."""
    # Asked of the libraries themselves: anyio knows a loop only from inside a task.
    # Looked up with care: another thread may be importing one of them.
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
