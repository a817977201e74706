"""Which other threads of this process could still answer to a run, as far as one can tell from outside.

When in doubt one could: a deadlock is only reported where nothing is left that might end it.
"""

from __future__ import annotations

import _thread
import linecache
import sys
import threading
from types import FrameType
from typing import Final

ignored_threads: Final[dict[int, None]] = {}
"""Threads of our own, which answer to no run: the watchdog, and whoever explores, this one included."""

# Where a worker thread that has nothing to do stands, and who else never talks to an event loop.
_IDLE = {("concurrent.futures.thread", "_worker"), ("trio._core._thread_cache", "_work")}
_WAITS_FOR_THREADS = {
    ("threading", "join"),
    ("threading", "_wait_for_tstate_lock"),
    ("concurrent.futures._base", "result"),
}
_DEVELOPERS = {"execnet", "xdist", "pytest_timeout", "pydevd", "_pydevd_bundle", "debugpy", "ptvsd"}
_WAITING = {"threading", "queue"}

_RUN_IN_THREAD = {
    ("anyio._backends._asyncio", "run_sync_in_worker_thread"),
    ("trio._threads", "to_thread_run_sync"),
}


def busy_threads() -> list[str]:
    """The names of the other threads that may still do something."""
    own = threading.get_ident()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return [
        names[ident]
        for ident, frame in sys._current_frames().items()  # pyright: ignore[reportPrivateUsage] # noqa: SLF001 - there is no public way
        if ident != own and ident in names and ident not in ignored_threads and not _is_idle(frame)
    ]


def other_threads() -> dict[int, FrameType]:
    """Where each of the other threads stands that may have to do with a run."""
    own = threading.get_ident()
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage] # noqa: SLF001 - there is no public way
    return {ident: frame for ident, frame in frames.items() if ident != own and ident not in ignored_threads}


def working_threads() -> list[tuple[int, str]]:
    """The other threads that do not wait themselves to be given something to do."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return [
        (ident, names[ident])
        for ident, frame in other_threads().items()
        if ident in names and not _is_idle(frame) and not _waits_for_work(frame)
    ]


def _waits_for_work(frame: FrameType) -> bool:
    if _place(frame)[0] in _WAITING and frame.f_code.co_name != "run":  # whose function may be of C
        return not _is_of_a_timer(frame)
    # queue.SimpleQueue is of C, and has no frame of its own
    return ".get(" in linecache.getline(frame.f_code.co_filename, frame.f_lineno)


def _is_of_a_timer(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code is not threading.Timer.run.__code__:
        frame = frame.f_back
    return frame is not None


def hang_notes(real: str = "", *, signals: bool = False) -> tuple[str, ...]:
    """What to add where a run did not end, and was no deadlock; and if its time was real, for what."""
    busy = busy_threads()
    notes: list[str] = []
    if busy:
        notes.append(f"not called a deadlock, since other threads might still answer: {', '.join(busy)}")
    if signals:
        notes.append("not called a deadlock, since a signal might still come, for which it has a handler")
    if real:
        notes.append(f"its clock was real while it waited for {real}")
    return tuple(notes)


def is_alone() -> bool:
    """Whether there is no other thread at all, but for our own."""
    # threading's own count takes a lock, which costs more
    return _thread._count() < len(ignored_threads)  # pyright: ignore[reportPrivateUsage] # noqa: SLF001


def _is_idle(frame: FrameType) -> bool:
    if _place(frame) in _IDLE:
        return True
    outer: FrameType | None = frame
    while outer is not None and _place(outer)[0] in _WAITING and _place(outer) not in _WAITS_FOR_THREADS:
        outer = outer.f_back
    if outer is not None and (_place(outer) in _WAITS_FOR_THREADS or _is_idle_of_anyio(outer)):
        return True
    while outer is not None:
        if _place(outer)[0].partition(".")[0] in _DEVELOPERS:
            return True
        outer = outer.f_back
    return False


def _is_idle_of_anyio(frame: FrameType) -> bool:
    return _place(frame) == ("anyio._backends._asyncio", "run") and "func" not in frame.f_locals


def _place(frame: FrameType) -> tuple[str, str]:
    return frame.f_globals.get("__name__") or "", frame.f_code.co_name


def awaits_thread(frames: list[FrameType]) -> bool:
    """Whether a task that stands in these frames waits for a worker thread to answer."""
    return any(_place(frame) in _RUN_IN_THREAD for frame in frames)
