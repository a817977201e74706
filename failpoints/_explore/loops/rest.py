"""Decides how a run goes on once none of its tasks can run. The policy is the same on asyncio and trio.

If a task is held, it is released. Otherwise the clock advances to the next timer, which takes no time if the clock is
virtual. Without a timer the run is deadlocked. Before each of these steps, the run waits in real time for anything that
may still wake a task from outside: I/O, a signal, or another thread. A thread may answer while it is looked at, and
have ended then. So what has arrived is looked for after the threads.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable
from threading import Thread
from typing import Protocol

from ..._core.clock import monotonic
from ..execution import Execution
from ..threads import (
    acting_threads,
    busy_threads,
    is_only_thread,
    other_threads,
    working_threads,
    working_threads_of_program,
)
from .outside_waits import BOUND_IF_SLOW, OutsideWait, OutsideWaits
from .wait_sources import WaitSource

MAX_ROUNDS = 1_000  # of the event loop without a rest, after which a task is assumed to be polling
GRACE = 1.0  # seconds to wait at most for threads before a task is released, and for the tasks of a run that is ended
SLICE = 0.05  # seconds to wait for a thread before the threads are checked again
_DOUBT = 0.02  # seconds to wait before a deadlock is reported, if there are other threads
_WAKE = 0.005  # seconds to wait for a thread that looks idle, but may just have been given something to do
_MINIMUM = 0.001  # seconds to wait for such a thread if the patience of the run has run out, or for what has arrived
_MAXIMUM = 86_400.0  # seconds in one call of a selector


class RestingLoop(Protocol):
    """The facts that the policy needs about an event loop at rest, and the way to end its run."""

    def threads_may_answer(self) -> bool:
        """Return whether there is any thread or process that might wake a task. Must be fast."""
        ...

    def thread_waits(self) -> Collection[OutsideWait]:
        """Return the waits for threads, if there are more than threads that may be waiting for a held task."""
        ...

    def is_signal_awaited(self) -> bool:
        """Return whether a signal could wake a task."""
        ...

    def has_io(self) -> bool:
        """Return whether any file descriptor is registered, apart from the loop's own."""
        ...

    def outside_waits(self) -> Collection[OutsideWait]:
        """Return the waits for I/O of tasks that are not held, if something may come from outside the run."""
        ...

    def wait_sources(self) -> Collection[WaitSource]:
        """Return the kinds of waits of all tasks that are not held."""
        ...

    def has_arrived(self) -> bool:
        """Return whether a thread or a signal handler has called into the loop since it came to rest."""
        ...

    def end_in_deadlock(self) -> None:
        """End the run, since nothing can wake a task."""


class RestPolicy:
    """Decides what one run does at rest, and keeps its virtual time.

    Attributes:
        deadline: When the run must have ended, on the monotonic clock.
        now: The virtual time of the run.
        rounds: The number of rounds that the event loop has made since its last rest.
        waiting_since: When the run began to wait for something outside, on the monotonic clock. `None` if a task has
            run since.
    """

    def __init__(self, loop: RestingLoop, execution: Execution, deadline: float, *, is_virtual: bool) -> None:
        self.deadline = deadline
        self.now = 0.0
        self.rounds = 0
        self.waiting_since: float | None = None
        self._loop = loop
        self._execution = execution
        self._is_virtual = is_virtual
        self._timer: float | None = None  # the next one, while waiting for what may come before it
        self._patience = _Patience(execution.slow_waits)
        self._waits = OutsideWaits(execution.slow_waits)
        self._thread_waits = OutsideWaits(execution.slow_waits)
        self._is_quiet = False  # whether every thread was waiting for another thread or a task when last looked at
        self._real_for = ""  # what the run was waiting for when its clock was last real

    def next_wait(self, timer: float) -> float:
        """Return the number of seconds to really wait for I/O and threads, before this is called again.

        Returns 0 if the run goes on at once: a task was released, or the virtual clock was advanced. *timer* is when
        the next timer fires on the clock of the run, or `math.inf` if there is none.
        """
        self.rounds = 0
        steering = self._execution.steering
        if steering is not None and steering.threads:
            if steering.offer():
                return 0.0
            timer = min(timer, steering.timer)
        if self._execution.held:
            seconds = self._seconds_before_release()
            if not seconds:
                if self._loop.has_arrived():
                    return _MINIMUM
                self.waiting_since = None
                self._leave_threads()
                self._execution.release_one()
            return seconds
        if timer == math.inf:
            return self._seconds_without_timer()
        if not self._is_virtual:
            return max(min(timer - monotonic(), self._seconds_left()), 0.0)
        return self._seconds_before_timer(timer)

    def woken(self) -> None:
        """Take note that tasks run again, since something has arrived from outside."""
        self._leave_threads()
        self._execution.intrude()
        self._pass_time()
        self.waiting_since = self._timer = None

    def _leave_threads(self) -> None:
        """Take note that a task goes on beside threads that wait for something that is not steered."""
        steering = self._execution.steering
        if steering is not None and steering.has_outside:
            self._execution.see_thread(is_beside=True)

    def release_beside_poller(self) -> None:
        """Release a held task although another task never rests, since that one may be polling for it."""
        self.rounds = 0
        if self._execution.steering is not None:
            self._execution.steering.offer()
        if self._execution.held:
            if self._loop.thread_waits():
                self._execution.scheduler.bounds.add("threads")
            if self._loop.has_io() and self._loop.outside_waits():
                self._execution.scheduler.bounds.add("sockets")
            self._execution.release_one()

    def detach(self) -> None:
        """Drop the references to the loop and to the run, so that no cycle is left to the garbage collector."""
        del self._loop, self._execution

    def hang_notes(self) -> tuple[str, ...]:
        """Explain why a run that did not end is not reported as a deadlock, and why its clock was real."""
        threads = ", ".join(thread.name for thread in busy_threads())
        notes: list[str] = []
        if threads:
            notes.append(f"not reported as a deadlock, since other threads might still answer: {threads}")
        if self._loop.is_signal_awaited():
            notes.append("not reported as a deadlock, since it handles a signal that might still come")
        if self._real_for:
            notes.append(f"its clock was real while it waited for {self._real_for}")
        return tuple(notes)

    def _seconds_before_release(self) -> float:
        """Return how long to wait for anything that may wake another task, before a held task is released."""
        has_threads = self._loop.threads_may_answer()
        waits = self._loop.outside_waits() if self._loop.has_io() else ()
        if not has_threads and not waits:
            return 0.0
        now = monotonic()
        has_looked = self.waiting_since is not None
        if self.waiting_since is None:
            self.waiting_since = now
        if has_threads and self._patience.are_new_threads_working():
            self._execution.see_thread()
        if waits:
            seconds = self._seconds_until_recheck(self._waits.seconds(waits, now))
            if seconds:
                return seconds
            self._execution.scheduler.bounds.add("sockets")
        if not has_threads:
            return 0.0
        thread_waits = self._loop.thread_waits()
        if thread_waits:
            if not acting_threads():
                # Each of them waits for a task that is held, unless one was woken just now.
                was_quiet, self._is_quiet = self._is_quiet and has_looked, True
                return 0.0 if was_quiet else _WAKE
            self._is_quiet = False
            seconds = min(self._thread_waits.seconds(thread_waits, now), SLICE)
            has_run_out = not seconds
        else:
            seconds = self._patience.seconds(self._loop.wait_sources(), has_looked=has_looked, is_before_timer=False)
            has_run_out = self._patience.has_run_out
        if not seconds and has_run_out:
            self._execution.scheduler.bounds.add("threads")
        return seconds

    def _seconds_without_timer(self) -> float:
        if self._may_be_woken():
            self.waiting_since = None
            return self._seconds_left() if self._loop.has_io() else min(SLICE, self._seconds_left())
        if self.waiting_since is None and not is_only_thread():
            self.waiting_since = monotonic()
            return _DOUBT
        if self._loop.has_arrived():
            return _MINIMUM
        self._loop.end_in_deadlock()
        return 0.0

    def _may_be_woken(self) -> bool:
        loop = self._loop
        if loop.has_io() or loop.is_signal_awaited() or loop.thread_waits():
            return True
        return not is_only_thread() and bool(busy_threads())

    def _seconds_before_timer(self, timer: float) -> float:
        has_looked = self.waiting_since is not None
        self._pass_time()
        seconds = min(self._seconds_for_outside(has_looked), timer - self.now, self._seconds_left())
        if seconds <= 0 and self._loop.has_arrived():
            seconds = _MINIMUM
        if seconds <= 0:
            self._leave_threads()
            self._execution.intrude()
            self.now = timer
            self.waiting_since = self._timer = None
            return 0.0
        self.waiting_since = monotonic()
        self._timer = timer
        return seconds

    def _pass_time(self) -> None:
        """Add the time that has really passed to the virtual time, up to the next timer."""
        if self.waiting_since is not None and self._timer is not None:
            self.now = min(self.now + monotonic() - self.waiting_since, self._timer)

    def _seconds_for_outside(self, has_looked: bool) -> float:
        """Return how long to wait for anything outside that may wake a task before the timer does, or 0 for nothing."""
        loop = self._loop
        if not loop.has_io() and not loop.threads_may_answer():
            return 0.0
        if loop.thread_waits():
            self._real_for = "a worker thread"
            return SLICE
        sources = loop.wait_sources()
        waits = loop.outside_waits() if loop.has_io() else ()
        if waits:
            self._real_for = next(iter(waits)).source
            return self._seconds_until_recheck(math.inf)
        seconds = self._patience.seconds(sources, has_looked=has_looked, is_before_timer=True)
        if seconds and self._patience.reason:
            self._real_for = self._patience.reason
        return seconds

    def _seconds_until_recheck(self, seconds: float) -> float:
        """Return how long to wait for I/O at most. A thread that may answer may also turn out to be idle soon."""
        return min(seconds, self._seconds_left(), _WAKE if self._loop.threads_may_answer() else math.inf)

    def _seconds_left(self) -> float:
        return min(max(self.deadline - monotonic(), 0.0), _MAXIMUM)


class _Patience:
    """Limits how long a run waits for threads that may or may not wake one of its tasks.

    If one run waits in vain, the runs after it do not wait as long. *slow* keeps that.
    """

    def __init__(self, slow: set[Hashable]) -> None:
        self._older_threads: frozenset[Thread] = frozenset() if is_only_thread() else frozenset(other_threads())
        self._slow = slow
        self._left = BOUND_IF_SLOW if _Patience in slow else GRACE
        self.has_run_out = False
        self.reason = ""
        self._found_idle = False  # whether no thread was working when they were last checked

    def are_new_threads_working(self) -> bool:
        """Return whether a thread is working that the program has started during the run."""
        if self._older_threads.issuperset(other_threads()):
            return False
        return not self._older_threads.issuperset(working_threads_of_program())

    def seconds(self, sources: Collection[WaitSource], *, has_looked: bool, is_before_timer: bool) -> float:
        """Return how long to wait before the threads are checked again, or 0 to go on.

        *has_looked* is whether the run has waited for them already. *is_before_timer* is whether a timer fires when
        the run goes on. Otherwise a task is released.
        """
        is_outside = WaitSource.OUTSIDE in sources
        if is_only_thread() or not (is_outside or WaitSource.SIGNALED in sources):
            return 0.0
        # A thread that is older than the run may complete a future or write to a socket. It hardly sets an event.
        threads = [thread for thread in working_threads() if is_outside or thread not in self._older_threads]
        if threads:
            self._found_idle = False
            self.reason = f"the thread {threads[0].name}"
            seconds = SLICE if is_outside and is_before_timer else self._take(SLICE)
            if not seconds:
                self.has_run_out = True
                self._slow.add(_Patience)
            return seconds
        if has_looked and self._found_idle:
            return 0.0
        if is_outside or not self._older_threads.issuperset(other_threads()):
            # A thread may have answered just before it was found idle. Wait, so that such an answer arrives first.
            self._found_idle = True
            return self._take(_WAKE) or _MINIMUM
        return 0.0

    def _take(self, seconds: float) -> float:
        taken = min(seconds, self._left)
        self._left -= taken
        return taken
