"""The primitives of `threading` and `queue` that are written in Python: each of their operations is one of a run.

The methods are wrapped in their classes. An operation is carried out by the original, which finds nothing to wait for.
"""

from __future__ import annotations

import concurrent.futures
import queue
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from ..._core.entered import entered
from ..._core.hooks import exploring
from ..._core.reentrancy import runs_user_code, transparent
from ..plan.accesses import Mode
from ..plan.identity import current_node, task_name
from ..watchdog import Stuck
from .control import Abandoned, Steered, Steering, steering
from .locks import lock_of, note_acquired, note_release, note_request, wants_lock

_Patch = tuple[Any, str, Any]


def patches() -> list[_Patch]:
    """Return the classes, the names of their methods, and what takes the place of each."""
    made: list[_Patch] = []

    def replace(owner: Any, names: str, wrap: Callable[[Any], Any]) -> None:
        made.extend((owner, name, wrap(owner.__dict__[name])) for name in names.split() if name in owner.__dict__)

    for owner in (threading.Condition, threading.Event, threading.Semaphore, queue.Queue):
        replace(owner, "__init__", _naming)
    replace(threading.Condition, "wait", _waiting)
    replace(threading.Condition, "notify", _notifying)
    replace(threading.Event, "set", _setting)
    replace(threading.Event, "clear", lambda original: _at_once(original, "w", "set", "clear"))
    replace(threading.Event, "is_set isSet", lambda original: _at_once(original, "r", "set"))
    replace(threading.Event, "wait", _awaiting_event)
    replace(threading.Semaphore, "acquire __enter__", _acquiring_semaphore)
    for owner in (threading.Semaphore, threading.BoundedSemaphore):
        replace(owner, "release", lambda original: _at_once(original, "w", "all"))
    replace(queue.Queue, "put", _putting)
    replace(queue.Queue, "get", _getting)
    replace(queue.Queue, "join", _joining_queue)
    replace(queue.Queue, "task_done shutdown", lambda original: _at_once(original, "w", "all"))
    replace(queue.Queue, "qsize empty full", lambda original: _at_once(original, "r", "all"))
    replace(concurrent.futures.Future, "__init__", _beginning_future)
    replace(concurrent.futures.ThreadPoolExecutor, "__init__", _beginning_executor)
    replace(concurrent.futures.ThreadPoolExecutor, "submit", _submitting)
    pools: Any = sys.modules.get("multiprocessing.pool")
    if pools is not None:
        made.append((pools.Pool, "_wait_for_updates", staticmethod(_waiting_in_pool(pools.Pool._wait_for_updates))))  # noqa: SLF001
    replace(threading.Thread, "start", _starting)
    replace(threading.Thread, "join", _joining)
    replace(threading.Thread, "is_alive", _looking)
    return made


@contextmanager
def _internal(found: Steering) -> Generator[None]:
    found.is_internal = True
    try:
        yield
    finally:
        found.is_internal = False


def _naming(original: Any) -> Any:
    @transparent
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        found = steering()
        if found is not None:
            found.create(self)
        original(self, *args, **kwargs)

    return __init__


def _at_once(original: Any, mode: Mode, *parts: str) -> Any:
    """Wrap an operation that waits for nothing."""

    @transparent
    def at_once(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = steering()
        if found is None:
            return original(self, *args, **kwargs)
        found.before(self)
        found.note(self, mode, *parts)
        try:
            with _internal(found):
                return original(self, *args, **kwargs)
        finally:
            found.after()

    return at_once


# Conditions


class _Waiter:
    """Stands in the list of a condition for a thread that waits. `notify` releases it."""

    def __init__(self) -> None:
        self.is_notified = False
        self.mark: int | None = None

    def release(self) -> None:
        if self.is_notified:
            raise RuntimeError("notified already")
        self.is_notified = True


def _waiting(original: Any) -> Any:
    @transparent
    def wait(self: Any, timeout: float | None = None) -> bool:
        found = steering()
        if found is None:
            result: bool = original(self, timeout)
            return result
        with _internal(found):
            is_owned = self._is_owned()
        if not is_owned:
            raise RuntimeError("cannot wait on un-acquired lock")
        return _wait(found, self, timeout)

    return wait


def _wait(found: Steering, condition: Any, timeout: float | None) -> bool:
    waiter, lock = _Waiter(), lock_of(condition._lock)  # noqa: SLF001

    def is_free() -> bool:
        return lock is None or lock.is_free()

    def can_go_on() -> bool:
        return waiter.is_notified and is_free()

    found.before(condition)
    condition._waiters.append(waiter)  # noqa: SLF001
    found.note(condition, "w", "waiters")
    if lock is not None:
        note_release(found, lock)
    with _internal(found):
        saved = condition._release_save()  # noqa: SLF001
    try:
        found.before(condition, can_go_on, timeout, (*wants_lock(lock), (condition, "r", "waiters")))
        if not waiter.is_notified:
            found.note(condition, "w", "waiters")
            condition._waiters.remove(waiter)  # noqa: SLF001
            if not is_free():
                found.before(lock, is_free, None, wants_lock(lock))
        if lock is not None:
            note_request(found, lock)
            found.split(waiter.mark)
            note_acquired(found, lock)
    finally:
        with _internal(found):
            condition._acquire_restore(saved)  # noqa: SLF001
    found.after()
    return waiter.is_notified


def _notifying(original: Any) -> Any:
    @transparent
    def notify(self: Any, n: int = 1) -> None:
        found = steering()
        if found is None:
            original(self, n)
            return
        found.touch(self, "w", "waiters")
        mark = found.mark()
        before = list(self._waiters)
        with _internal(found):
            original(self, n)
        for waiter in before:
            if isinstance(waiter, _Waiter) and waiter.is_notified:
                waiter.mark = mark

    return notify


# Events


def _setting(original: Any) -> Any:
    @transparent
    def set_(self: Any) -> None:
        found = steering()
        if found is None:
            original(self)
            return
        found.before(self)
        found.note(self, "w", "set")
        if not self._flag:
            found.set_mark(self)
        with _internal(found):
            original(self)
        found.after()

    return set_


def _awaiting_event(original: Any) -> Any:
    @transparent
    def wait(self: Any, timeout: float | None = None) -> bool:
        found = steering()
        if found is None:
            result: bool = original(self, timeout)
            return result
        is_set = found.before(self, lambda: self._flag, timeout, ((self, "r", "clear"),))
        found.note(self, "r", "clear", *(() if timeout is None else ("set",)))
        if is_set and timeout is None:
            found.split(found.mark_of(self))
        found.after()
        return is_set

    return wait


# Semaphores and queues, of which all operations meet


def _acquiring_semaphore(original: Any) -> Any:
    @transparent
    def acquire(self: Any, blocking: bool = True, timeout: float | None = None) -> bool:
        found = steering()
        if found is None or (not blocking and timeout is not None):
            result: bool = original(self, blocking, timeout)
            return result
        if blocking:
            found.before(self, lambda: self._value > 0, timeout, ((self, "w", "all"),))
        else:
            found.before(self)
        found.note(self, "w", "all")
        try:
            with _internal(found):
                result = original(self, False)
        finally:
            found.after()
        return result

    return acquire


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
            with _internal(found):
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
            with _internal(found):
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


def _beginning_future(original: Any) -> Any:
    @transparent
    def __init__(self: Any) -> None:  # noqa: N807
        original(self)
        lock = lock_of(self._condition._lock)  # noqa: SLF001
        if lock is not None:
            lock.is_section = True

    return __init__


class _Threads(dict[Any, None]):
    """The threads of an executor, in the order of their start. A set has the order of their addresses."""

    def add(self, thread: Any) -> None:
        self[thread] = None


def _beginning_executor(original: Any) -> Any:
    @transparent
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        original(self, *args, **kwargs)
        found = steering()
        if found is not None:
            found.create(self)
            self._threads = _Threads()

    return __init__


def _submitting(original: Any) -> Any:
    @transparent
    def submit(self: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        found = steering()
        if found is None:
            return original(self, function, *args, **kwargs)
        found.before(self)
        found.note(self, "w", "all")
        running = found.running
        running.is_atomic = True
        try:
            return original(self, function, *args, **kwargs)
        finally:
            running.is_atomic = False
            found.after()

    return submit


def _waiting_in_pool(original: Any) -> Any:
    """Wrap the function in which a thread of `multiprocessing.pool.ThreadPool` waits for a pipe."""

    @transparent
    def wait_for_updates(sentinels: Any, change_notifier: Any, timeout: float | None = None) -> None:
        found = steering()
        if found is None:
            original(sentinels, change_notifier, timeout)
            return
        found.before(change_notifier, lambda: not change_notifier.empty(), timeout)
        found.touch_everything()
        original(sentinels, change_notifier, 0)
        found.after()

    return wait_for_updates


# Threads


def _starting(original: Any) -> Any:
    @transparent
    def start(self: Any) -> None:
        found = steering()
        if found is None or self._started._flag:  # noqa: SLF001 - `is_set` is wrapped
            original(self)
            return
        found.before(self)
        name = getattr(getattr(self, "_target", None), "__name__", "") or type(self).__name__
        thread = Steered(found.running.node.child(task_name(_given_name(self), name)), self)
        found.note(thread.node, "w", "start")
        self.run = _Begin(found, thread, self.run, entered.get())
        try:
            with _internal(found):
                original(self)
        finally:
            vars(self).pop("run", None)
        thread.ident = self.ident
        found.add(thread)
        steps = found.execution.steps
        if steps is not None:
            steps.wake(thread.node, found.mark())
        found.after()

    return start


def _given_name(thread: threading.Thread) -> str:
    return "" if thread.name.startswith(("Thread-", "ThreadPoolExecutor-")) else thread.name


class _Begin:
    """Runs what a thread is to run, once it has the baton."""

    def __init__(self, found: Steering, thread: Steered, run: Callable[[], object], stores: Any) -> None:
        self._found = found
        self._thread = thread
        self._run = run
        self._stores = stores

    def __call__(self) -> None:
        found, thread = self._found, self._thread
        exploring.set(found.execution)
        entered.set(self._stores)
        current_node.set(thread.node)
        thread.baton.acquire()
        try:
            if not found.is_ending:
                if found.trace is not None:
                    sys.settrace(found.trace)
                _call(self._run)
        except (Abandoned, SystemExit):
            pass
        except Stuck:
            found.interrupted()
        except BaseException as error:
            found.errors.append((thread.node, error))
        finally:
            if found.trace is not None:
                sys.settrace(None)
            found.finish(thread)


@runs_user_code
def _call(function: Callable[[], object]) -> None:
    function()


def _joining(original: Any) -> Any:
    @transparent
    def join(self: Any, timeout: float | None = None) -> None:
        found = steering()
        thread = None if found is None else found.by_thread.get(self)
        if found is None or thread is None or thread is found.running:
            original(self, timeout)
            return
        has_ended = found.before(self, lambda: thread.is_ended, timeout)
        if has_ended:
            if timeout is None:
                found.split(thread.end)
            found.note(thread.node, "r", "end")
            with _internal(found):
                original(self)
        else:
            found.note(thread.node, "r", "end")
        found.after()

    return join


def _looking(original: Any) -> Any:
    @transparent
    def is_alive(self: Any) -> bool:
        found = steering()
        thread = None if found is None else found.by_thread.get(self)
        if found is None or thread is None:
            result: bool = original(self)
            return result
        found.before(self)
        found.note(thread.node, "r", "end")
        found.after()
        return not thread.is_ended

    return is_alive
