"""Steers the threads of an async scenario beside its tasks, on the thread of the event loop.

The event loop chooses. Once it is at rest, the threads that can go on are among the tasks that are held. A thread that
is chosen gets the baton, and returns it to the loop at its next point. Meanwhile, the loop is blocked.
"""

from __future__ import annotations

import threading
import time
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from sys import _current_frames  # pyright: ignore[reportPrivateUsage]  # there is no public way
from threading import get_ident
from typing import Any, Final, Protocol

from ..._core.clock import monotonic
from ..._core.entered import entered
from ..._core.hooks import exploring
from ..._core.reentrancy import runs_user_code
from ..execution import Execution
from ..plan.identity import TaskNode, current_node
from ..problem import Problem
from ..threads import busy_threads, ignored_threads, is_only_thread, is_runnable
from ..watchdog import Stuck
from .control import Steering
from .steered import INFINITE, Abandoned, Steered, Wants, by_path, by_since, is_expendable

_real_sleep: Final = time.sleep
_CHECK: Final = 0.001  # seconds until threads that are not steered are looked at again
_LOOK: Final = 0.01  # seconds until the running thread is looked at
_OUTSIDE: Final = 0.05  # seconds in the same place, after which a thread is left to what it waits for
_ARRIVAL: Final = 1.0  # seconds in which a thread of a pool has to take a call
_UNKNOWN: Final = -2
"""The label of a thread that has come back, until the event loop gives it one."""

_LIBRARIES: Final = ("anyio", "asyncio", "trio")


class Clock(Protocol):
    """The virtual time of the run."""

    now: float


class ChoosingLoop(Protocol):
    """The part of an event loop that is needed to steer threads beside its tasks."""

    def acting_node(self) -> TaskNode:
        """Return the running task."""
        ...

    def wake(self) -> None:
        """End the wait of the loop for I/O. Called by other threads."""


class Beside(Steering):
    """The threads of one run of an async scenario."""

    def __init__(
        self, execution: Execution, loop: ChoosingLoop, clock: Clock, deadline: float, *, is_virtual: bool
    ) -> None:
        self._loop = loop
        self._clock = clock
        super().__init__(execution, deadline, is_virtual=is_virtual)
        self.threads.clear()
        self.jobs: dict[int, Job] = {}  # by the ident of the thread that runs each
        self._queued: deque[Job] = deque()  # in the default executor
        self.mutex = allocate_lock()  # of whether a thread is outside
        self._is_blocking = False

    @property
    def now(self) -> float:
        return self._clock.now

    @now.setter
    def now(self, value: float) -> None:
        self._clock.now = value

    @property
    def node(self) -> TaskNode:
        return self._loop.acting_node() if self.is_on_loop else self.running.node

    @property
    def is_on_loop(self) -> bool:
        return self.running is self._main

    def thread_node(self) -> TaskNode | None:
        return None if self.is_on_loop else self.running.node

    def is_of_library(self, thread: threading.Thread) -> bool:
        """Return whether a library has started a thread for its own ends, such as to wait for a process."""
        target = getattr(thread, "_target", None)
        modules = (type(thread).__module__, getattr(target, "__module__", "") or "")
        if self.is_on_loop and any(module.partition(".")[0] in _LIBRARIES for module in modules):
            return True
        return super().is_of_library(thread)

    # Points

    def before(
        self,
        thing: Any,
        is_enabled: Callable[[], bool] | None = None,
        timeout: float | None = None,
        wants: Wants = (),
    ) -> bool:
        if not self.is_on_loop:
            return super().before(thing, is_enabled, timeout, wants)
        return is_enabled is None or is_enabled() or self._block(is_enabled, timeout)

    def after(self) -> None:
        if not self.is_on_loop:
            super().after()

    def _switch(self, me: Steered) -> None:
        self._hand_over(me)
        me.baton.acquire()
        if self.is_ending:
            raise Abandoned

    def _hand_over(self, me: Steered) -> None:
        """Return the baton to the event loop, unless that has it already, since this thread was left behind."""
        with self.mutex:
            if me.is_outside:
                self._take_back(me)
            else:
                self._pass_on(self._main)

    def _take_back(self, me: Steered) -> None:
        me.is_outside = False
        del self._outside[me.ident]
        ignored_threads[me.ident] = None
        self._loop.wake()

    def come_back(self) -> bool:
        me = self._outside.get(get_ident())
        if me is None:
            return False
        me.is_enabled, me.deadline, me.has_timed_out, me.is_after = None, INFINITE, False, True
        me.label = _UNKNOWN
        self._waiting[me.node] = me
        with self.mutex:
            self._take_back(me)
        me.baton.acquire()
        if self.is_ending:
            raise Abandoned
        return True

    def finish(self, me: Steered) -> None:
        try:
            self.come_back()
        except Abandoned:
            pass
        self._note_end(me)
        job = self.jobs.pop(me.ident, None)
        if job is None:
            self._ended.append(me)
        ignored_threads.pop(me.ident, None)
        self._hand_over(me)

    # The event loop

    @property
    def has_outside(self) -> bool:
        """Whether a thread waits for something that is not steered."""
        return bool(self._outside)

    def release(self, task: TaskNode) -> None:
        """Let a thread go on to its next point."""
        self._go_on(self.threads[task])

    def offer(self) -> bool:
        """Hold the threads that can go on. If threads are not held now, let one go on and return true."""
        self._admit()
        self._reap()
        execution = self.execution
        if not execution.holds_threads:
            able = self._able()
            if able:
                self._go_on(min(able, key=by_since))
            return bool(able)
        able = self._able()
        for thread in list(self._waiting.values()):
            if thread in able:
                execution.held[thread.node] = thread.label
            else:
                execution.held.pop(thread.node, None)
        return False

    def _able(self) -> list[Steered]:
        now = self.time()
        able: list[Steered] = []
        for thread in list(self._waiting.values()):
            if thread.label == _UNKNOWN:  # it has come back
                self._arrive(thread)
            thread.has_timed_out = thread.has_timed_out or thread.deadline <= now
            if thread.is_able():
                able.append(thread)
        return able

    def withdraw(self) -> None:
        """Take the threads out of those that are held."""
        for node in self.threads:
            self.execution.held.pop(node, None)

    def _go_on(self, thread: Steered) -> None:
        self._waiting.pop(thread.node, None)
        self._pass_on(thread)
        seen, since = None, monotonic()
        while not self._main.baton.acquire(True, _LOOK):
            frame = _current_frames().get(thread.ident)
            found = None if frame is None else (id(frame), frame.f_lasti)
            del frame
            now = monotonic()
            if found is None or found != seen or is_runnable(thread.thread or threading.main_thread()):
                seen, since = found, now
            elif now - since > _OUTSIDE:
                with self.mutex:
                    if self.is_on_loop:
                        continue  # it has just come to a point
                    thread.is_outside = True
                    self._outside[thread.ident] = thread
                    ignored_threads.pop(thread.ident, None)
                    self.running = self._main
                    self.execution.thread = self.execution.watched.thread = self._main.ident
                return

    def _block(self, is_enabled: Callable[[], bool], timeout: float | None) -> bool:
        """Let threads go on until something is there for which a task waits without letting its event loop go on."""
        if timeout is not None and timeout <= 0:
            return False
        if self.is_ending:
            raise Abandoned
        if self.execution.holds_threads:
            self.execution.scheduler.bounds.add("blocked loop")
        end = INFINITE if timeout is None else monotonic() + timeout  # in real time, since the event loop is blocked
        while not is_enabled():
            self._admit()
            able = self._able()
            if monotonic() > self._deadline:
                self._fail("hang")
            elif able:
                self._go_on(min(able, key=by_since))
            elif self.timer != INFINITE:
                self._wait_until(self.timer)
            elif monotonic() > end:
                return False
            elif timeout is None and self._waiting and not self._outside and (is_only_thread() or not busy_threads()):
                self._fail("deadlock")
            else:
                _real_sleep(_CHECK)
        return True

    def _fail(self, kind: str) -> None:
        self._main.node = self.node
        self._is_blocking = True
        self._end(self._blocked(kind))
        raise Abandoned

    def _wait_until(self, timer: float) -> None:
        super()._wait_until(timer)
        self.execution.intrude()

    def beside(self, problem: Problem) -> Problem:
        """Return a problem of tasks, with the threads that wait, too."""
        if problem.kind == "deadlock":
            self._pend()
        return replace(problem, blocked=(*problem.blocked, *self._blocked(problem.kind).blocked))

    def _unfinished(self) -> list[Steered]:
        threads = [thread for thread in self.threads.values() if not thread.is_ended]
        return [*([self._main] if self._is_blocking else []), *sorted(threads, key=by_path)]

    def time(self) -> float:
        return self.now if self.is_virtual else monotonic()

    # Calls in the threads of pools

    def job(self, function: Callable[..., object]) -> Job:
        """Return a call of a function by the running task, as a thread of the run."""
        node = self.node.thread()
        node.name = _name_of(function) or node.name
        return Job(self, function, node)

    def submit(self, job: Job, most: int | None = None) -> None:
        """Wait until a thread has taken a call, or until fewer than *most* such calls have not ended."""
        steps = self.execution.steps
        if steps is not None:
            steps.wake(job.thread.node, self.mark())
        job.most = most
        self._queued.append(job)
        self._admit()

    def _admit(self) -> None:
        for job in list(self._queued):
            if job.most is not None and job.most <= sum(each.most is not None for each in list(self.jobs.values())):
                break
            self._queued.remove(job)
            has_arrived = job.has_arrived.acquire(True, _ARRIVAL)
            with self.mutex:
                has_arrived = has_arrived or job.has_arrived.acquire(False)
                job.is_left_alone = not has_arrived
            if has_arrived:
                self.jobs[job.thread.ident] = job
                self.add(job.thread)
            else:
                self.execution.scheduler.bounds.add("unordered threads")

    def answered(self) -> None:
        """End the call of the running thread, which has given its result to the event loop."""
        job = self.jobs.get(get_ident())
        if job is not None and job.is_returning:
            self.finish(job.thread)

    def awaits(self, waiter: object) -> bool:
        """Return whether a future is that of a call in a thread that is steered now."""
        return any(job.waiter is waiter and not job.thread.is_outside for job in (*self.jobs.values(), *self._queued))

    # The end

    def settle(self) -> bool:  # type: ignore[override]
        """Let the threads go on until each of them has ended, or waits. Return whether any has gone on."""
        has_gone_on = False
        while self.problem is None:
            self._admit()
            able = self._able()
            if able:
                self._go_on(min(able, key=by_since))
                has_gone_on = True
            elif self.timer != INFINITE and monotonic() < self._deadline:
                self._wait_until(self.timer)
            else:
                break
        self._reap()
        return has_gone_on

    def problem_of_thread(self) -> Problem | None:
        """Return what is wrong with the threads of a run that has ended: an error, or one that waits for ever."""
        if self.problem is not None:
            return self.problem
        for node, error in self.errors:
            if not self.execution.is_surfaced(error):
                return Problem("unhandled", f"thread {node.name} failed", error)
        if all(thread.is_ended or thread.is_outside or is_expendable(thread) for thread in self._others()):
            return None
        return self._blocked("leak")

    def unwind(self) -> None:
        self._admit()
        for job in list(self.jobs.values()):
            cancel: Callable[[], object] | None = getattr(job.waiter, "cancel", None)
            if cancel is not None:  # the future of a task on asyncio, which is not to get the error of the thread
                cancel()
        super().unwind()


class Job:
    """A call in a thread of a pool: a thread of the run, from the call until the event loop has its result.

    Attributes:
        waiter: What the calling task awaits.
        most: The number of calls that the pool runs at once, if it is the default executor.
        is_returning: Whether the function has returned.
        is_left_alone: Whether it is not steered, since no thread has taken it in time.
    """

    def __init__(self, found: Beside, function: Callable[..., object], node: TaskNode) -> None:
        self.thread = Steered(node, None)
        self.has_arrived: Any = allocate_lock()
        self.has_arrived.acquire()
        self.waiter: object = None
        self.most: int | None = None
        self.is_returning = self.is_left_alone = False
        self._found = found
        self._function = function
        self._stores = entered.get()
        self._values = [(exploring, found.execution), (entered, entered.get()), (current_node, node)]

    def __call__(self, *args: object) -> object:
        found, thread = self._found, self.thread
        thread.ident, thread.thread = get_ident(), threading.current_thread()
        with found.mutex:
            is_steered = not self.is_left_alone
            self.has_arrived.release()
        if is_steered:
            thread.baton.acquire()
        tokens: list[Any] = [variable.set(value) for variable, value in self._values]  # type: ignore[attr-defined]
        try:
            if found.is_ending:
                raise Abandoned
            if getattr(self.waiter, "cancelled", bool)():  # else it might not have begun, if it was taken later
                found.execution.scheduler.bounds.add("unordered threads")
            try:
                return _call(partial(self._function, *args))
            finally:
                if is_steered and not found.is_ending:
                    found.after()
        except Stuck:
            found.interrupted()
            raise
        finally:
            if is_steered:
                found.come_back()
                self.is_returning = True
            for token in tokens:
                token.var.reset(token)


@runs_user_code
def _call(function: Callable[[], object]) -> object:
    return function()


def _name_of(function: Any) -> str:
    """Return the name of the program's own function that a library calls in a thread."""
    if isinstance(function, partial):
        return _name_of(function.args[0] if function.args and callable(function.args[0]) else function.func)
    code = getattr(function, "__code__", None)
    if code is not None and (function.__module__ or "").partition(".")[0] in _LIBRARIES:
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if name in ("func", "sync_fn"):
                return _name_of(cell.cell_contents)
    return getattr(function, "__name__", "")
