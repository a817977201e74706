"""Runs the threads of a scenario one at a time.

The thread that runs has the *baton*. It stops at each *point*: before and after an operation of a primitive, at a
visit, in `time.sleep`. There it has the next thread chosen, passes the baton on, and sleeps on a lock of its own until
it is chosen. A thread that waits for something is not among those that can be chosen until that is there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from sys import (
    _current_frames,  # pyright: ignore[reportPrivateUsage]  # there is no public way
    _getframe,  # pyright: ignore[reportPrivateUsage]  # imported by name, since sys._getframe can be replaced
)
from threading import get_ident
from types import FrameType
from typing import Any, Final

import anyio.lowlevel
from anyio.lowlevel import EventLoopToken

from ..._core.clock import monotonic
from ..._core.hooks import exploring
from ..execution import Execution
from ..plan.accesses import Accesses, add_access
from ..plan.identity import TaskNode
from ..problem import Problem
from ..threads import acting_threads, busy_threads, ignored_threads, is_only_thread, is_runnable
from ..user_frames import frame_location, is_user_frame, source_line
from .blocked import BlockedThread, blocked_problem
from .lines import Lines
from .notes import Notes
from .steered import INFINITE, Abandoned, Steered, Wants, by_path, by_since, call_of_pool, is_expendable

_real_sleep: Final = time.sleep
_MOST_POINTS: Final = 1_000  # of a thread that is being ended
_CHECK: Final = 0.001  # seconds until threads that are not steered are looked at again
_DOUBT: Final = 0.02  # seconds for which they have to be idle
GRACE: Final = 1.0  # seconds to wait for them before a timer fires
BLOCKED: Final = 0.5  # seconds for which the running thread has to wait for something else, until another one goes on


class Steering(Notes):
    """The threads of one run. It is the run's `Loop`.

    Attributes:
        running: The thread that has the baton.
        now: The time of the run, in seconds since its beginning.
        is_internal: Whether an operation is carried out, in which no other one counts.
        is_ending: Whether the run has ended, so that its threads are to end.
        problem: The reason, if it was ended from here.
    """

    def __init__(self, execution: Execution, deadline: float, *, is_virtual: bool) -> None:
        super().__init__(execution)
        self.is_virtual = is_virtual
        self.lines: Lines | None = None  # that are points
        self.is_internal = self.is_ending = self.is_settling = False
        self.problem: Problem | None = None
        self.errors: list[tuple[TaskNode, BaseException]] = []  # that have ended threads
        self.now = 0.0
        self.running = self._main = Steered(execution.root, None, get_ident())
        self.threads: dict[TaskNode, Steered] = {self._main.node: self._main}
        self.by_thread: dict[threading.Thread, Steered] = {}
        self._waiting: dict[TaskNode, Steered] = {}
        self._ended: list[Steered] = []  # and not yet gone
        self._began = monotonic()
        self._deadline = deadline
        self._chosen: Steered | None = None
        self._since = 0
        self._stalled_since: float | None = None
        self._seen: Any = None  # of the running thread, when it was last looked at: its frame, and where that is
        self._seen_since = 0.0
        self._outside: dict[int, Steered] = {}  # by ident
        self._visitors: dict[EventLoopToken, int] = {}  # the first task to visit a site, of each event loop

    @property
    def is_on_loop(self) -> bool:
        """Whether the running thread is that of an event loop, whose tasks take turns with the threads."""
        return False

    def is_of_library(self, thread: threading.Thread) -> bool:
        """Return whether a thread that is about to be started is not to be steered: a worker of an older executor."""
        target = getattr(thread, "_target", None)
        is_worker = getattr(target, "__module__", "") == "concurrent.futures.thread"
        return is_worker and not self.has_made(thread._args[0]())  # type: ignore[attr-defined]  # noqa: SLF001

    def has_made(self, executor: object) -> bool:
        """Return whether the scenario has made an executor, so that its threads are steered."""
        named: tuple[object, object] = getattr(executor, "_failpoints_name", (None, None))
        return named[0] is self

    def thread_node(self) -> TaskNode | None:
        """Return the running thread, or `None` if it is that of an event loop."""
        return self.running.node

    # Loop, for the run

    def current_node(self) -> TaskNode:
        """Return the running thread."""
        return self.running.node

    acting_node = current_node

    def hold(self, task: TaskNode) -> Awaitable[object]:
        """Not called: sites stop their thread by `visit`."""
        raise NotImplementedError

    suspend: Any = hold

    def release(self, task: TaskNode) -> None:
        """Choose a thread."""
        self._chosen = self.threads[task]

    def position(self, task: TaskNode) -> tuple[str, str]:
        """Return the user's line that a thread is at: its place, and its text."""
        thread = self.threads[task]
        frame = self._frame_of(thread)
        while frame is not None and not is_user_frame(frame):
            frame = frame.f_back
        return ("", "") if frame is None else (frame_location(frame), source_line(frame))

    def is_before(self, task: TaskNode) -> bool:
        """Return whether a thread is at an operation that it has not carried out yet."""
        return not self.threads[task].is_after

    def can_cancel(self, task: TaskNode) -> bool:
        """Return false: there is no way to cancel a thread."""
        return False

    def cancel(self, task: TaskNode) -> None:
        """Not called."""

    def forget(self, task: TaskNode) -> None:
        """Not called: a thread is not cancelled while it is held."""

    def withdraw(self) -> None:
        """Take the threads out of those that are held."""
        self.execution.held.clear()

    def end_asleep(self) -> None:
        """End the run, since everything that could follow has been run."""
        self.problem = Problem("asleep", "")
        self._pend()

    # Points

    def visit(self, label: int) -> None:
        """Stop the running thread at a visit."""
        self._stop(label, None, None, None, is_after=False)

    def before(
        self,
        thing: Any,
        is_enabled: Callable[[], bool] | None = None,
        timeout: float | None = None,
        wants: Wants = (),
    ) -> bool:
        """Stop the running thread before an operation, until that is possible. Return false if it is not in time."""
        self.running.wants = wants
        is_point = self.execution.holds_threads and not self.running.is_atomic
        if is_point or self.is_ending or not (is_enabled is None or is_enabled()):
            is_waiting = timeout is None or timeout > 0
            self._stop(self._label(), thing, is_enabled if is_waiting else None, timeout, is_after=False)
        return is_enabled is None or is_enabled()

    def after(self) -> None:
        """Stop the running thread after an operation."""
        if self.execution.holds_threads and not self.running.is_atomic:
            self._stop(self._label(), None, None, None, is_after=True)

    def stopping_at_lines(self) -> AbstractContextManager[None]:
        """Stop the calling thread at lines inside the block, if lines are points."""
        return nullcontext() if self.lines is None else self.lines.stopping()

    def line(self) -> None:
        """Stop the running thread before a line, or in the middle of one."""
        if self.execution.holds_threads:
            self._stop(self._label(), None, None, None, is_after=False)

    def sleep(self, seconds: float) -> None:
        """Stop the running thread for a time."""
        if self.is_ending:
            raise Abandoned
        self._stop(self._label(), None, _never, seconds, is_after=False)
        me, steps = self.running, self.execution.steps
        if steps is not None and me.alarm is not None:
            steps.follow(me.node, (me.alarm,))
        me.alarm = None

    def _label(self) -> int:
        return self.execution.label_of_point(self.running.node)

    def _stop(
        self, label: int, thing: Any, is_enabled: Callable[[], bool] | None, timeout: float | None, *, is_after: bool
    ) -> None:
        me = self.running
        if self.is_ending:
            self._pass_by(me, is_enabled)
            return
        self._end_step(me)
        self.split(me.alarm)  # not before the operation, which could have come before the clock went on
        me.alarm = None
        me.label = label
        me.thing = thing
        me.is_enabled = is_enabled
        me.is_after = is_after
        me.has_timed_out = False
        me.deadline = INFINITE if timeout is None else self.time() + max(timeout, 0.0)
        self._since += 1
        me.since = self._since
        self._waiting[me.node] = me
        self._switch(me)

    def _end_step(self, me: Steered) -> None:
        """Note that a step in the middle of a call of a pool does not touch the program."""
        call = call_of_pool(_getframe(2))
        if not me.runs_program and call is not None and call is (me.call or call):
            self.note_nothing()
        me.call, me.runs_program = call, call is None

    def _pass_by(self, me: Steered, is_enabled: Callable[[], bool] | None) -> None:
        """Let a thread that is being ended go past a point, unless it would have to wait there."""
        me.points += 1
        if me.points > _MOST_POINTS:  # it goes round in a loop that swallows everything
            self._give_up(me)
        if not (is_enabled is None or is_enabled()):
            raise Abandoned

    def _give_up(self, me: Steered) -> None:
        if me is not self._main:
            self._pass_on(self._main)
            me.baton.acquire()  # for ever
        raise Abandoned

    def _switch(self, me: Steered) -> None:
        chosen = self._choose()
        if chosen is me:
            return
        if self.is_ending:
            chosen = self._main
        assert chosen is not None
        if chosen is not me:
            self._pass_on(chosen)
            me.baton.acquire()
        if self.is_ending:
            raise Abandoned

    def _pass_on(self, thread: Steered) -> None:
        self.running = thread
        self.execution.thread = self.execution.watched.thread = thread.ident
        thread.baton.release()

    def see_task(self) -> None:
        """Take note of a visit on an event loop that the scenario runs by itself, which puts its tasks in order."""
        task = anyio.get_current_task().id
        if self._visitors.setdefault(anyio.lowlevel.current_token(), task) != task and self.execution.holds_threads:
            self.execution.scheduler.bounds.add("unordered tasks")

    # Threads that wait for something that is not steered

    def look(self) -> None:
        """Let another thread go on if the running one waits for something that is not steered. For the watchdog."""
        running = self.running
        frame = _current_frames().get(running.ident)
        seen = None if frame is None else (self._since, running, id(frame), frame.f_lasti)
        del frame
        now = monotonic()
        if seen is None or seen != self._seen or is_runnable(running.thread or threading.main_thread()):
            self._seen, self._seen_since = seen, now
            return
        if now - self._seen_since < BLOCKED or self.is_ending or not self._is_any_able():
            return
        self.execution.thread = 0
        running.is_outside = True
        self._outside[running.ident] = running
        self.execution.scheduler.bounds.add("blocked thread")
        chosen = self._choose()
        self._pass_on(self._main if chosen is None else chosen)

    def _is_any_able(self) -> bool:
        return any(thread.is_able() for thread in list(self._waiting.values()))

    def come_back(self) -> bool:
        """Let the calling thread wait for the baton, if it has lost it. Return whether it has it."""
        me = self._outside.get(get_ident())
        if me is None:
            return False
        me.is_outside = False
        me.is_enabled, me.deadline, me.has_timed_out = None, INFINITE, False
        self._arrive(me)
        self._waiting[me.node] = me
        del self._outside[me.ident]  # not before, since it would be in neither
        me.baton.acquire()
        if self.is_ending:
            raise Abandoned
        return True

    # The choice

    def _choose(self) -> Steered | None:
        """Return the thread that goes on, or `None` if the run ends, and why is in `problem`."""
        execution = self.execution
        while True:
            if monotonic() > self._deadline:
                self._end(self._blocked("hang"))
                return None
            is_any_outside = bool(self._outside)  # looked at first, since one may come back meanwhile
            able = [thread for thread in list(self._waiting.values()) if thread.is_able()]
            if able:
                self._wake()
                if execution.holds_threads:
                    execution.held = {thread.node: thread.label for thread in able}
                    execution.release_one()
                    if self.problem is not None:
                        self._end(self.problem)
                        return None
                    chosen = self._chosen
                    assert chosen is not None
                else:
                    chosen = self.running if self.running in able else min(able, key=by_since)
                del self._waiting[chosen.node]
                return chosen
            if is_any_outside:
                _real_sleep(_CHECK)
                continue
            problem = self._rest()
            if problem is not None:
                self._end(problem)
                return None

    def _rest(self) -> Problem | None:
        """Let something happen, since no thread can go on: time passes, or a thread that is not steered answers."""
        timer = self.timer
        self._reap()
        is_busy = False
        if not self._is_alone():
            now = monotonic()
            if self._stalled_since is None:
                self._stalled_since = now
            is_busy = bool(busy_threads() if timer == INFINITE else acting_threads())
            if (is_busy and timer == INFINITE) or now - self._stalled_since < (GRACE if is_busy else _DOUBT):
                _real_sleep(_CHECK)
                return None
            if is_busy:
                self.execution.scheduler.bounds.add("threads")
        if timer == INFINITE:
            self._pend()
            return self._blocked("leak" if self.is_settling else "deadlock")
        self._wait_until(timer)
        self._stalled_since = None
        late = [thread for thread in self._waiting.values() if thread.deadline <= self.time()]
        for thread in late:
            thread.has_timed_out = True
        steps = self.execution.steps
        if steps is None or not self.is_virtual or is_busy:
            self.execution.intrude()
        else:
            jump = steps.jump()
            for thread in late:
                thread.alarm = jump
        return None

    @property
    def timer(self) -> float:
        """When the next thread goes on by itself."""
        return min((thread.deadline for thread in list(self._waiting.values())), default=INFINITE)

    def _wait_until(self, timer: float) -> None:
        if self.is_virtual:
            self.now = max(self.now, timer)
        else:
            _real_sleep(max(min(timer - self.time(), self._deadline - monotonic()), 0.0))

    def _pend(self) -> None:
        """Note what the threads would touch that have to wait at the end of the run."""
        steps = self.execution.steps
        if steps is not None:
            steps.end_turn()
            waiting = [thread for thread in self._waiting.values() if not thread.is_able()]
            for thread in sorted(waiting, key=by_path):
                accesses: Accesses = {}
                for thing, mode, part in thread.wants:
                    add_access(accesses, (self.name(thing), part), mode)
                steps.pend(thread.node, thread.label, accesses, may_wait=bool(accesses))

    def _is_alone(self) -> bool:
        return is_only_thread()

    def _wake(self) -> None:
        if self._stalled_since is not None:  # a thread that is not steered has answered
            self._stalled_since = None
            self.execution.intrude()
            if self.execution.holds_threads:
                self.execution.scheduler.bounds.add("unordered threads")

    def time(self) -> float:
        """Return the time of the run, in seconds since its beginning."""
        return self.now if self.is_virtual else monotonic() - self._began

    # The end

    def _end(self, problem: Problem) -> None:
        self.problem = problem
        self.is_ending = True
        self.execution.stop()

    def _blocked(self, kind: str) -> Problem:
        return blocked_problem(
            kind,
            [
                BlockedThread(thread.node.path, self._frames_of(thread), thread.thing, self._awaited(thread))
                for thread in self._unfinished()
            ],
        )

    def _unfinished(self) -> list[Steered]:
        threads = [thread for thread in self.threads.values() if not thread.is_ended and thread is not self.running]
        if not self.running.is_ended:
            threads.append(self.running)
        if self.is_settling:
            threads.remove(self._main)
        return sorted(threads, key=by_path)

    def _awaited(self, thread: Steered) -> tuple[int, ...] | None:
        awaited = self.by_thread.get(thread.thing) if isinstance(thread.thing, threading.Thread) else None
        return None if awaited is None else awaited.node.path

    def _frame_of(self, thread: Steered) -> FrameType | None:
        if thread.ident == get_ident():
            return _getframe(1)
        return _current_frames().get(thread.ident)

    def _frames_of(self, thread: Steered) -> list[FrameType]:
        frames: list[FrameType] = []
        frame = self._frame_of(thread)
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back
        return frames[::-1]

    def add(self, thread: Steered) -> None:
        """Add a thread that has been started, and is waiting for the baton."""
        self.threads[thread.node] = thread
        if thread.thread is not None:
            self.by_thread[thread.thread] = thread
        self._arrive(thread)
        thread.is_after = True
        self._waiting[thread.node] = thread
        ignored_threads[thread.ident] = None

    def _arrive(self, thread: Steered) -> None:
        """Label the point that a thread has come to, which is no operation of its own."""
        thread.label = self.execution.label_of_point(thread.node)
        self._since += 1
        thread.since = self._since

    def interrupted(self) -> None:
        """End the run, since code of the running thread did not return."""
        self._end(self._blocked("hang"))

    def finish(self, me: Steered) -> None:
        """End a thread, which has the baton, and pass that on."""
        if me is not self.running:  # another one went on meanwhile
            me.is_ended = True
            self._outside.pop(me.ident, None)
            return
        if me.is_worker and not me.runs_program:
            self.note_nothing()
        me.call = None
        self._note_end(me)
        self._ended.append(me)
        chosen = None if self.is_ending else self._choose()
        self._pass_on(self._main if chosen is None else chosen)

    def _note_end(self, me: Steered) -> None:
        steps = self.execution.steps
        if steps is not None:
            self.touch(me.node, "w", "end")
            me.end = steps.mark(me.node)
        me.is_ended = True

    def begin(self) -> None:
        """Label the points of the threads that were started before the explored part."""
        for thread in self._waiting.values():
            thread.label = self.execution.label_of_point(thread.node)

    def _reap(self) -> None:
        """Wait until threads that have ended are gone: the last steps of each are those of Python."""
        was_internal, self.is_internal = self.is_internal, True
        while self._ended:
            thread = self._ended.pop()
            if thread.ident != get_ident() and thread.thread is not None:
                thread.thread.join(GRACE)
                if all(other.is_ended or other.ident != thread.ident for other in self.threads.values()):
                    ignored_threads.pop(thread.ident, None)  # else a thread that was started later has it again
        self.is_internal = was_internal

    def settle(self) -> None:
        """Let the other threads run until they end, since the scenario has."""
        self.is_settling = True
        if not all(map(_is_done, self._others())):
            self._stop(-1, None, lambda: all(map(_is_done, self._others())), None, is_after=False)

    def _others(self) -> list[Steered]:
        return [thread for thread in self.threads.values() if thread is not self._main]

    def unwind(self) -> None:
        """End all threads that are left. The scenario's own has the baton."""
        self.is_ending = True
        logger = logging.getLogger("concurrent.futures")  # to which each worker writes that it is ended
        was_disabled, logger.disabled = logger.disabled, True
        for thread in self._others():
            if not thread.is_ended and not thread.is_outside:
                self._go_on(thread)
        logger.disabled = was_disabled
        self._reap()
        for thread in self._others():
            ignored_threads.pop(thread.ident, None)

    def _go_on(self, thread: Steered) -> None:
        """Let a thread go on from the scenario's own, and wait until that has the baton again."""
        self._pass_on(thread)
        self._main.baton.acquire()


def _never() -> bool:
    return False


def _is_done(thread: Steered) -> bool:
    return thread.is_ended or is_expendable(thread)


def steering() -> Steering | None:
    """Return the threads of the run that the calling thread belongs to and has the baton of, or `None`."""
    execution: Any = exploring.get()
    if execution is None:
        return None
    found: Steering | None = execution.steering
    if found is None or (execution.thread != get_ident() and not found.come_back()):
        return None
    return None if found.is_internal else found


def steering_beside_loop() -> Steering | None:
    """Like `steering`, but `None` on an event loop, too."""
    found = steering()
    return None if found is None or found.is_on_loop else found
