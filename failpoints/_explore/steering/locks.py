"""The primitives that are written in C, for the threads of a run: `threading.Lock`, and `queue.SimpleQueue`.

Each has the original inside. So a thread that is not steered can use it, too, and so can the program after the run.
"""

from __future__ import annotations

import _queue
import threading
from _thread import LockType, allocate_lock
from types import GenericAlias
from typing import Any, Final, cast

from ..plan.identity import TaskPath
from .control import Steering, steering
from .steered import Abandoned, Wants

_threading: Final[Any] = threading
_PyRLock: Final[Any] = _threading._PyRLock  # noqa: SLF001 - written in Python
_CRLock: Final[Any] = _threading._CRLock  # noqa: SLF001 - written in C


class Lock:
    """A lock of `threading`. A thread that is not steered gets the original when it makes one."""

    __slots__ = ("__weakref__", "_failpoints_name", "_raw", "holder", "is_section")

    holder: TaskPath | None
    is_section: bool  # what is done while it is held is a single operation: only the lock is touched

    def __new__(cls) -> Any:
        return allocate_lock() if steering() is None else super().__new__(cls)

    def __init__(self) -> None:
        self._raw = allocate_lock()
        self.holder = None
        self.is_section = False
        found = steering()
        assert found is not None
        found.create(self)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        found = steering()
        if found is None or (not blocking and timeout != -1) or (timeout < 0 and timeout != -1):
            return self._raw.acquire(blocking, timeout)
        return acquire(found, self, blocking=blocking, timeout=None if timeout == -1 else timeout)

    def release(self) -> None:
        found = steering()
        if found is None:
            self._raw.release()
        else:
            release(found, self)

    def locked(self) -> bool:
        found = steering()
        if found is not None:
            found.before(self)
            found.note(self, "r", "state")
        is_locked = self._raw.locked()
        if found is not None:
            found.after()
        return is_locked

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()

    acquire_lock = acquire
    release_lock = release
    locked_lock = locked

    def is_free(self) -> bool:
        """Return whether no thread holds it, without a trace."""
        return not self._raw.locked()

    def take(self) -> bool:
        """Acquire it if it is free, without a trace."""
        return self._raw.acquire(False)

    def free(self) -> None:
        """Release it, without a trace."""
        self._raw.release()

    def _at_fork_reinit(self) -> None:
        self._raw = allocate_lock()

    def __repr__(self) -> str:
        return f"<{'un' * (not self._raw.locked())}locked threading.Lock object at {id(self):#x}>"


def acquire(found: Steering, lock: Lock, *, blocking: bool = True, timeout: float | None = None) -> bool:
    """Acquire a lock, in the running thread."""
    is_certain = blocking and timeout is None
    while True:
        if blocking:
            found.before(lock, lock.is_free, timeout, wants_lock(lock))
        else:
            found.before(lock)
        note_request(found, lock, is_certain=is_certain)
        is_taken = lock.take()
        if is_taken or not is_certain:  # else a thread that is not steered has come first
            break
    if is_taken:
        note_acquired(found, lock, is_certain=is_certain)
    if not (is_taken and lock.is_section):
        found.after()
    return is_taken


def wants_lock(lock: Lock | None) -> Wants:
    """Return what a thread would touch that waits for a lock."""
    return () if lock is None else ((lock, "w", "queue"), (lock, "u", "state"))


def note_request(found: Steering, lock: Lock, *, is_certain: bool = True) -> None:
    """Note that the running thread asks for a lock. *is_certain* is whether it waits until it gets it."""
    # Only the order of the requests matters. A lock that may not be obtained depends on its state, too.
    found.note(lock, "w", "queue")
    found.note(lock, "u" if is_certain else "w", "state")


def note_acquired(found: Steering, lock: Lock, *, is_certain: bool = True) -> None:
    """Note that the running thread has got a lock for which it asked."""
    lock.holder = found.node.path
    if is_certain:
        found.split(found.mark_of(lock))
        found.note(lock, "u", "state")


def release(found: Steering, lock: Lock) -> None:
    """Release a lock, in the running thread."""
    if not lock.is_section:
        found.before(lock)
    note_release(found, lock)
    lock.free()
    found.after()


def note_release(found: Steering, lock: Lock) -> None:
    """Note that the running thread releases a lock. Only its holder does so in any order of the threads."""
    if lock.holder == found.node.path and not lock.is_free():
        found.note(lock, "u", "state")
    else:
        found.note(lock, "w", "queue", "state")
    lock.holder = None
    found.set_mark(lock)


class _SteeredRLock(_PyRLock):  # type: ignore[misc]
    """The reentrant lock that `threading` has in Python, with a steered lock inside."""

    __module__ = "_thread"  # that of the class it stands for: trio asserts it


def RLock(*args: Any, **kwargs: Any) -> Any:  # noqa: N802 - it has the name that it replaces
    """Return a reentrant lock. A thread that is not steered gets the original."""
    return _CRLock(*args, **kwargs) if steering() is None else _SteeredRLock(*args, **kwargs)


def lock_of(thing: Any) -> Lock | None:
    """Return the steered lock in a lock, or `None` if it has none, because it was made outside the run."""
    inner = getattr(thing, "_block", thing)
    return inner if isinstance(inner, Lock) else None


class SimpleQueue:
    """A queue without a limit. A thread that is not steered gets the original when it makes one."""

    __slots__ = ("__weakref__", "_failpoints_name", "_raw", "_steering")

    __class_getitem__: Any = classmethod(cast(Any, GenericAlias))

    def __new__(cls) -> Any:
        return cast(Any, _queue.SimpleQueue)() if steering() is None else super().__new__(cls)

    def __init__(self) -> None:
        self._raw: Any = _queue.SimpleQueue()
        self._steering = found = steering()
        assert found is not None
        found.create(self)

    def _steered(self) -> Steering | None:
        """Return the threads of the run, if the queue was made in it.

        An executor that an earlier run has left behind puts something into its queue when it is deleted, in any run.
        """
        found = steering()
        return found if found is self._steering else None

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        found = self._steered()
        if found is None:
            self._raw.put(item)
            return
        try:
            found.before(self)
            found.note(self, "w", "all")
            self._raw.put(item)
            found.after()
        except Abandoned:  # which must not leave a finalizer, from which this may be called; the next point raises it
            pass

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        found = self._steered()
        if found is None or (block and timeout is not None and timeout < 0):
            return self._raw.get(block, timeout)
        while True:
            is_there = (
                found.before(self, self._is_filled, timeout, ((self, "w", "all"),)) if block else found.before(self)
            )
            found.note(self, "w", "all")
            try:
                item = self._raw.get(False)
            except _queue.Empty:
                if block and timeout is None and is_there:
                    continue  # a thread that is not steered has come first
                found.after()
                raise
            found.after()
            return item

    def _is_filled(self) -> bool:
        return not self._raw.empty()

    def put_nowait(self, item: Any) -> None:
        self.put(item)

    def get_nowait(self) -> Any:
        return self.get(False)

    def empty(self) -> bool:
        return self.qsize() == 0

    def qsize(self) -> int:
        found = self._steered()
        if found is not None:
            found.before(self)
            found.note(self, "r", "all")
        size: int = self._raw.qsize()
        if found is not None:
            found.after()
        return size


ORIGINALS: Final[dict[Any, Any]] = {
    threading.Lock: Lock,
    LockType: Lock,
    allocate_lock: Lock,
    threading.RLock: RLock,
    _CRLock: RLock,
    _queue.SimpleQueue: SimpleQueue,
}
"""What is written in C, and what takes its place."""
