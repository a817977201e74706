"""Interrupts sync code that does not return, which no event loop can do."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

from .._core.clock import monotonic
from .threads import ignored_threads
from .user_frames import frame_location, is_user_frame, source_line

_CHECK_INTERVAL = 0.05  # seconds, while any thread is watched
_GRACE = 0.25  # seconds after the deadline, for a run to end by itself
_REPEAT_INTERVAL = 1.0  # seconds until a thread is interrupted again, if it has swallowed the exception
_IDLE_TIMEOUT = 5.0  # seconds without a watched thread, after which the watchdog ends


class Stuck(BaseException):
    """Raised in a thread whose run does not return to its event loop."""


class WatchedThread:
    """A thread that explores, with the deadline of its current run.

    `thread` is the ident of the thread that runs the program's code: the one that explores, or one of its run.
    """

    __slots__ = ("_deadline", "_interrupted_at", "_lock", "_thrown", "look", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.look: Callable[[], object] | None = None  # called every now and then, by the watchdog's thread
        self._deadline: float | None = None
        self._interrupted_at: str | None = None
        self._thrown = 0.0
        self._lock = threading.Lock()

    def begin(self, deadline: float) -> None:
        """Start watching a run that may last until *deadline*, on the monotonic clock."""
        self._interrupted_at = None
        self._deadline = deadline

    def extend(self, deadline: float) -> None:
        """Let the run last until *deadline*, since it is being ended."""
        if self._deadline is not None:
            self._deadline = max(self._deadline, deadline)

    def end(self) -> str | None:
        """Stop watching the run, and return the line at which it was interrupted, or `None` if it was not.

        This may raise `Stuck`. Call it again then.
        """
        self._deadline = None
        with self._lock:
            thrown, self._thrown = self._thrown, 0.0
        if thrown:
            # The exception may still be pending, and must not surface later, where nothing expects it. Clearing it
            # would leave CPython 3.11 looking for it forever while a tracer is active. So throw another one, which
            # replaces it, and wait for that here.
            try:
                self._throw()
                while True:
                    pass
            except Stuck:
                pass
        return self._interrupted_at

    def _throw(self) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread), ctypes.py_object(Stuck))

    def check(self, now: float) -> None:
        """Interrupt the thread if it is past its deadline, and again after a second if it goes on."""
        with self._lock:
            deadline = self._deadline
            if deadline is None or now < deadline + _GRACE or now < self._thrown + _REPEAT_INTERVAL:
                return
            line = _user_line(sys._current_frames().get(self.thread))  # pyright: ignore[reportPrivateUsage] # noqa: SLF001 - there is no public way
            self._interrupted_at = self._interrupted_at or line
            self._thrown = now
            self._throw()


def _user_line(frame: FrameType | None) -> str:
    while frame is not None:
        if is_user_frame(frame):
            return f"{frame_location(frame)}: {source_line(frame)}"
        frame = frame.f_back
    return ""


_lock = threading.Lock()
_watched: dict[WatchedThread, None] = {}
_watchdog: threading.Thread | None = None
_has_work = threading.Event()


@contextmanager
def watching() -> Generator[WatchedThread]:
    """Watch the current thread inside the block. `WatchedThread.begin` sets the deadline of each run."""
    global _watchdog
    watched = WatchedThread()
    with _lock:
        _watched[watched] = None
        if _watchdog is None or not _watchdog.is_alive():
            _watchdog = threading.Thread(target=_watch, name="failpoints.explore watchdog", daemon=True)
            _watchdog.start()
            ignored_threads[_watchdog.ident or 0] = None
        _has_work.set()
    try:
        yield watched
    finally:
        with _lock:
            del _watched[watched]


def _watch() -> None:
    global _watchdog
    while True:
        if not _has_work.wait(_IDLE_TIMEOUT):
            with _lock:
                if not _watched:
                    _watchdog = None
                    ignored_threads.pop(threading.get_ident(), None)
                    return
        now = monotonic()
        with _lock:
            all_watched = list(_watched)
            if not all_watched:
                _has_work.clear()
        for watched in all_watched:
            watched.check(now)
            look = watched.look
            if look is not None:
                look()
        if all_watched:
            time.sleep(_CHECK_INTERVAL)
