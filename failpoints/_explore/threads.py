"""Finds the other threads of the process that may still wake a task of a run, by their frames.

In case of doubt a thread may. So a deadlock is only reported if nothing is left that could end it.
"""

from __future__ import annotations

import _thread
import linecache
import re
import sys
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from types import FrameType
from typing import Any, Final, cast

ignored_threads: Final[dict[int, None]] = {}
"""Threads that wake no task: the watchdog, and every thread that explores, including the current one."""

_CONDITION_WAIT = threading.Condition.wait.__code__  # also called by Event, Queue, Semaphore, Barrier and Future
_POOL_WORKER = ("concurrent.futures.thread", "_worker")
_TRIO_WORKER = ("trio._core._thread_cache", "_work")
_ANYIO_WORKER = ("anyio._backends._asyncio", "run")
_WORKERS = {_POOL_WORKER, _TRIO_WORKER, _ANYIO_WORKER}
_JOINS = {("threading", "join"), ("threading", "_wait_for_tstate_lock")}
_WAITS_FOR_THREADS = {*_JOINS, ("concurrent.futures._base", "result")}
_WAITING_MODULES = ("threading", "queue", "concurrent.futures._base")
_STEERING = f"{__name__.rpartition('.')[0]}.steering."
_RUNS_IN_THREAD = {
    ("anyio._backends._asyncio", "run_sync_in_worker_thread"),
    ("trio._threads", "to_thread_run_sync"),
}
_DEVELOPMENT_TOOLS = {"execnet", "xdist", "pytest_timeout", "pydevd", "_pydevd_bundle", "debugpy", "ptvsd"}
_GET = re.compile(r"([A-Za-z_][\w.]*)\.get\(")
_GET_WITH_TIMEOUT = re.compile(r"\.get\((?!\s*(?:(?:block\s*=\s*)?True\s*)?\))")


def is_only_thread() -> bool:
    """Return whether there is no other thread at all, apart from those that are ignored."""
    # threading.active_count() takes a lock, which is slower.
    return _thread._count() < len(ignored_threads)  # pyright: ignore[reportPrivateUsage] # noqa: SLF001


def other_threads() -> dict[threading.Thread, FrameType]:
    """Return the innermost frame of every other thread that is not ignored.

    Threads are told apart by their objects, since the ident of a thread is used again once the thread has ended.
    """
    own = threading.get_ident()
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage] # noqa: SLF001 - there is no public way
    return {
        thread: frames[thread.ident]
        for thread in threading.enumerate()
        if thread.ident in frames and thread.ident != own and thread.ident not in ignored_threads
    }


def busy_threads() -> list[threading.Thread]:
    """Return the other threads, without those that do nothing until another thread gives them work."""
    return [thread for thread, frame, is_runnable in _look_at_threads() if not _is_idle(frame, is_runnable)]


def working_threads() -> list[threading.Thread]:
    """Return the busy threads, without those blocked at an event, a condition or a queue."""
    return [
        thread
        for thread, frame, is_runnable in _look_at_threads()
        if not _is_idle(frame, is_runnable) and not _waits_for_work(frame, is_runnable)
    ]


def acting_threads() -> list[threading.Thread]:
    """Return the other threads, without those that go on only if another thread or a task wakes them."""
    return [
        thread
        for thread, frame, is_runnable in _look_at_threads()
        if not _is_of_development_tool(frame)
        and (_has_timeout(frame) or not (_is_idle(frame, is_runnable) or _waits_for_work(frame, is_runnable)))
    ]


def working_threads_of_program() -> list[threading.Thread]:
    """Return the working threads without the workers of pools, and without those that wait for a process.

    The worker of a pool answers the task that has called it, which is known.
    """
    return [
        thread
        for thread, frame, is_runnable in _look_at_threads()
        if not _is_idle(frame, is_runnable)
        and not _waits_for_work(frame, is_runnable)
        and not _is_worker(frame)
        and "waitpid-" not in thread.name
    ]


def _is_worker(frame: FrameType | None) -> bool:
    while frame is not None and _location(frame) not in _WORKERS:
        frame = frame.f_back
    return frame is not None


def awaits_thread(frames: list[FrameType]) -> bool:
    """Return whether a task with these frames is waiting for a worker thread of anyio or trio."""
    return any(_location(frame) in _RUNS_IN_THREAD for frame in frames)


def _look_at_threads() -> Iterator[tuple[threading.Thread, FrameType, bool]]:
    """Generate the other threads, their frames, and whether the operating system is about to run them, if it shows."""
    # A thread that was woken inside a C function may wait for the interpreter's lock. Reading a file releases that, so
    # such a thread is runnable then, or it has left the function before the frames are taken.
    runnable = {thread for thread in threading.enumerate() if is_runnable(thread)}
    for thread, frame in other_threads().items():
        yield thread, frame, thread in runnable


def is_runnable(thread: threading.Thread) -> bool:
    """Return whether the operating system runs a thread, or is about to, if it shows."""
    try:
        with open(f"/proc/self/task/{thread.native_id}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"R"
    except OSError:  # the thread has ended, or the system is not Linux
        return False


def _location(frame: FrameType) -> tuple[str, str]:
    return frame.f_globals.get("__name__") or "", frame.f_code.co_name


def _is_idle(frame: FrameType, is_runnable: bool) -> bool:
    location = _location(frame)
    if location == _POOL_WORKER:
        queue: Any = frame.f_locals.get("work_queue")
        return not is_runnable and "work_item" not in frame.f_locals and (queue is None or queue.empty())
    if _is_worker_of_trio(frame):
        return not is_runnable
    caller = _caller_of_wait(frame)
    if caller is not None and _is_blocked(frame):
        location = _location(caller)
        if location in _WAITS_FOR_THREADS or (location == _ANYIO_WORKER and "func" not in caller.f_locals):
            return True
    return _is_of_development_tool(caller)


def _is_of_development_tool(frame: FrameType | None) -> bool:
    while frame is not None and _location(frame)[0].partition(".")[0] not in _DEVELOPMENT_TOOLS:
        frame = frame.f_back
    return frame is not None


def _has_timeout(frame: FrameType | None) -> bool:
    """Return whether a thread is in a wait of the standard library that ends by itself."""
    if frame is not None and _is_worker_of_trio(frame):
        return False
    while frame is not None and (_location(frame)[0] in _WAITING_MODULES or _is_wrapper(frame)):
        if frame.f_locals.get("timeout") is not None:
            return True
        frame = frame.f_back
    # SimpleQueue.get is written in C, and has no frame: the frame is that of its caller.
    return frame is not None and _GET_WITH_TIMEOUT.search(_line(frame)) is not None


def _is_worker_of_trio(frame: FrameType) -> bool:
    """Return whether a thread waits for work in trio's cache of threads, with a lock that was made in a run or not."""
    waiting: FrameType | None = frame
    while waiting is not None and _is_wrapper(waiting):
        waiting = waiting.f_back
    return waiting is not None and _location(waiting) == _TRIO_WORKER


def _is_wrapper(frame: FrameType) -> bool:
    """Return whether a frame is that of a method of a primitive, as it is while threads are steered."""
    return _location(frame)[0].startswith(_STEERING)


def _caller_of_wait(frame: FrameType) -> FrameType | None:
    """Return the frame that called into `threading` or `queue`, or that is in a known wait for a thread."""
    caller: FrameType | None = frame
    while caller is not None and (_location(caller)[0] in ("threading", "queue") or _is_wrapper(caller)):
        if _location(caller) in _WAITS_FOR_THREADS:
            break
        caller = caller.f_back
    return caller


def _is_blocked(frame: FrameType) -> bool:
    """Return whether a thread is waiting, and nothing has ended its wait yet.

    A thread that was just started is not in a wait yet, and a thread that was just woken is still in one, until the
    operating system runs it. On a busy machine that may take long.
    """
    if frame.f_code is _CONDITION_WAIT:
        # The frame is that of Condition.wait: notify() removes the waiter before it wakes the thread.
        waiter = frame.f_locals.get("waiter")
        return waiter is not None and waiter in frame.f_locals["self"]._waiters  # noqa: SLF001
    return _location(frame) in _JOINS


def _waits_for_work(frame: FrameType, is_runnable: bool) -> bool:
    if _is_blocked(frame):
        return not _belongs_to_timer(frame)
    # SimpleQueue.get is written in C, and has no frame: the frame is that of its caller.
    found = _GET.search(_line(frame))
    if found is None or is_runnable:
        return False
    # Since Python 3.13, an item goes directly to a thread that waits, and the queue stays empty.
    source = _look_up(found[1], frame)
    return source.empty() if isinstance(source, SimpleQueue) else not isinstance(source, dict)


def _line(frame: FrameType) -> str:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno)


def _look_up(dotted: str, frame: FrameType) -> Any:
    """Return the value of a dotted name in a frame, or `None` if that takes more than looking into dictionaries."""
    name, *attributes = dotted.split(".")
    value = frame.f_locals.get(name, frame.f_globals.get(name))
    for attribute in attributes:
        try:
            value = cast(dict[str, Any], object.__getattribute__(value, "__dict__")).get(attribute)
        except AttributeError:
            return None
    return value


def _belongs_to_timer(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code is not threading.Timer.run.__code__:
        frame = frame.f_back
    return frame is not None
