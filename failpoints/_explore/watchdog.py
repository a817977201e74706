"""Interrupts sync code that does not return: the only thing that an event loop cannot end by itself."""

from __future__ import annotations

import ctypes
import linecache
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from .program_frames import is_programs, shown_place
from .threads import ignored_threads

_LOOK = 0.05  # seconds between two looks while anybody is watched
_GRACE = 0.25  # for a run to end by itself, once its time is over
_IDLE = 5.0  # seconds without anybody to watch, after which the thread ends


class Stuck(BaseException):
    """Thrown into a thread whose run does not return to its loop."""


class Watched:
    """A thread that explores: until when its present run may last, and where it stood when that was over."""

    __slots__ = ("_deadline", "_lock", "_stood", "_thread", "_thrown")

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._deadline: float | None = None
        self._stood: str | None = None
        self._thrown = 0.0
        self._lock = threading.Lock()

    def begin(self, deadline: float) -> None:
        """A run begins, which may last that long."""
        self._stood = None
        self._deadline = deadline

    def extend(self, deadline: float) -> None:
        """The run is being ended, which may last that long."""
        if self._deadline is not None:
            self._deadline = max(self._deadline, deadline)

    def end(self) -> str | None:
        """The run has ended: where it was interrupted, if it was; to be called again if `Stuck` comes out of it."""
        self._deadline = None
        with self._lock:
            thrown, self._thrown = self._thrown, 0.0
        if thrown:
            # Nothing may come later, when nothing expects it. Taken back, it would leave CPython 3.11 looking for it
            # for ever where a tracer runs; so it is thrown once more, and comes here.
            try:
                self._throw()
                while True:
                    pass
            except Stuck:
                pass
        return self._stood

    def _throw(self) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(Stuck))

    def look(self, now: float) -> None:
        """Throw into the thread if it is over its time, and again each second if that is swallowed."""
        with self._lock:
            deadline = self._deadline
            if deadline is None or now < deadline + _GRACE or now < self._thrown + 1:
                return
            stood = _stood(sys._current_frames().get(self._thread))  # pyright: ignore[reportPrivateUsage] # noqa: SLF001 - there is no public way
            self._stood = self._stood or stood
            self._thrown = now
            self._throw()


def _stood(frame: FrameType | None) -> str:
    while frame is not None:
        if is_programs(frame):
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            return f"{shown_place(frame.f_code.co_filename, frame.f_lineno)}: {line}"
        frame = frame.f_back
    return ""


_lock = threading.Lock()
_watched: dict[Watched, None] = {}
_thread: threading.Thread | None = None
_wanted = threading.Event()


@contextmanager
def watching() -> Generator[Watched]:
    """Watch this thread; its runs set the deadline."""
    global _thread
    watched = Watched()
    with _lock:
        _watched[watched] = None
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_watch, name="failpoints.explore watchdog", daemon=True)
            _thread.start()
            ignored_threads[_thread.ident or 0] = None
        _wanted.set()
    try:
        yield watched
    finally:
        with _lock:
            del _watched[watched]


def _watch() -> None:
    global _thread
    while True:
        if not _wanted.wait(_IDLE):
            with _lock:
                if not _watched:
                    _thread = None
                    ignored_threads.pop(threading.get_ident(), None)
                    return
        now = time.monotonic()
        with _lock:
            everybody = list(_watched)
            if not everybody:
                _wanted.clear()
        for watched in everybody:
            watched.look(now)
        if everybody:
            time.sleep(_LOOK)
