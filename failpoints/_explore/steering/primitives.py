"""The primitives of `threading` that are written in Python: each of their operations is one of a run.

The methods are wrapped in their classes. An operation is carried out by the original, which finds nothing to wait for.
"""

from __future__ import annotations

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
from .control import Steering, steering
from .locks import lock_of, note_acquired, note_release, note_request, wants_lock
from .steered import Abandoned, Steered

Patch = tuple[Any, str, Any]


class Patches:
    """Collects methods to replace in their classes: each class, the name of a method, and what takes its place."""

    def __init__(self) -> None:
        self.all: list[Patch] = []

    def replace(self, owner: Any, names: str, wrap: Callable[[Any], Any]) -> None:
        """Wrap these methods of a class, as far as it has them."""
        self.all += [(owner, name, wrap(owner.__dict__[name])) for name in names.split() if name in owner.__dict__]


def patches() -> list[Patch]:
    """Return the classes, the names of their methods, and what takes the place of each."""
    made = Patches()
    replace = made.replace
    for owner in (threading.Condition, threading.Event, threading.Semaphore):
        replace(owner, "__init__", naming)
    replace(threading.Condition, "wait", _waiting)
    replace(threading.Condition, "notify", _notifying)
    replace(threading.Event, "set", _setting)
    replace(threading.Event, "clear", lambda original: at_once(original, "w", "set", "clear"))
    replace(threading.Event, "is_set isSet", lambda original: at_once(original, "r", "set"))
    replace(threading.Event, "wait", _awaiting_event)
    replace(threading.Semaphore, "acquire __enter__", _acquiring_semaphore)
    for owner in (threading.Semaphore, threading.BoundedSemaphore):
        replace(owner, "release", lambda original: at_once(original, "w", "all"))
    replace(threading.Thread, "start", _starting)
    replace(threading.Thread, "join", _joining)
    replace(threading.Thread, "is_alive", _looking)
    return made.all


@contextmanager
def internal(found: Steering) -> Generator[None]:
    found.is_internal = True
    try:
        yield
    finally:
        found.is_internal = False


def naming(original: Any) -> Any:
    @transparent
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        found = steering()
        if found is not None:
            found.create(self)
        original(self, *args, **kwargs)

    return __init__


def at_once(original: Any, mode: Mode, *parts: str) -> Any:
    """Wrap an operation that waits for nothing."""

    @transparent
    def at_once(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = steering()
        if found is None:
            return original(self, *args, **kwargs)
        found.before(self)
        found.note(self, mode, *parts)
        try:
            with internal(found):
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
        with internal(found):
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

    is_section = lock is not None and lock.is_section
    if not is_section:
        found.before(condition)
    condition._waiters.append(waiter)  # noqa: SLF001
    found.note(condition, "w", "waiters")
    if lock is not None:
        note_release(found, lock)
    with internal(found):
        saved = condition._release_save()  # noqa: SLF001
    try:
        found.before(condition, can_go_on, timeout, (*wants_lock(lock), (condition, "r", "waiters")))
        if not waiter.is_notified:
            found.note(condition, "w", "waiters")
            condition._waiters.remove(waiter)  # noqa: SLF001
        if not is_free():  # its time is up
            found.before(lock, is_free, None, wants_lock(lock))
        if lock is not None:
            note_request(found, lock)
            found.split(waiter.mark)
            note_acquired(found, lock)
    finally:
        if is_free() or not found.is_ending:  # else its holder is ended after this thread
            with internal(found):
                condition._acquire_restore(saved)  # noqa: SLF001
    if not is_section:
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
        found.set_mark(self)
        mark = found.mark()
        before = list(self._waiters)
        with internal(found):
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
        with internal(found):
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


# Semaphores, of which all operations meet


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
            with internal(found):
                result = original(self, False)
        finally:
            found.after()
        return result

    return acquire


# Threads


def _starting(original: Any) -> Any:
    @transparent
    def start(self: Any) -> None:
        found = steering()
        if found is None or self._started._flag:  # noqa: SLF001 - `is_set` is wrapped
            original(self)
            return
        if found.is_of_library(self):
            with internal(found):
                original(self)
            return
        found.before(self)
        name = getattr(getattr(self, "_target", None), "__name__", "") or type(self).__name__
        thread = Steered(found.node.child(task_name(_given_name(self), name)), self)
        found.note(thread.node, "w", "start")
        self.run = _Begin(found, thread, self.run, entered.get())
        try:
            with internal(found):
                original(self)
        except BaseException:  # it does not begin, which would do this
            self.__dict__.pop("run", None)
            raise
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
        vars(thread.thread).pop("run", None)  # before that, the thread may not have looked it up yet
        try:
            if not found.is_ending:
                with found.stopping_at_lines():
                    _call(self._run)
        except (Abandoned, SystemExit):
            pass
        except Stuck:
            found.interrupted()
        except BaseException as error:
            found.errors.append((thread.node, error))
        finally:
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
            with internal(found):
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
        is_ended = thread.is_ended
        found.after()
        return not is_ended

    return is_alive
