"""A run on trio: a clock of its own kind, which trio asks how long to wait once nothing can run.

That question is the sign of rest, and its answer of 0 the way to act: what the clock reschedules runs next.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import trio
import trio._core._run as trio_run
from outcome import Error
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

from ..._core.own_calls import hands_over
from ..execution import Execution
from ..plan.places import Place, current_place
from ..problem import Problem
from ..threads import awaits_thread, busy_threads, hang_notes, is_alone
from .await_frames import awaited_frames, running_frames
from .blocked import Standing, blocked_problem
from .patience import Awaited, Patience, awaited

_SLICE = 0.05  # seconds of real waiting for a thread, before another look whether it still lives
_DOUBT = 0.02  # and before what looks like a deadlock is called one, where there are threads at all
_GRACE = 1.0  # for a thread that a task waits for, before another task goes on; and for tasks that are cancelled
_LONGEST = 86_400.0  # seconds that a selector is asked to wait at once
_MOST_ROUNDS = 1_000  # of the loop, without a rest, until a task that polls is taken for one that waits
_FOREIGN = 0  # the number, among the children of the root, that stands for what no task started


class _Abandon(BaseException):
    """Leaves a run that does not end when it is cancelled."""


class _World(trio.abc.Clock, trio.abc.Instrument):
    """The clock, and the eyes, of one run."""

    def __init__(self, execution: Execution, deadline: float, *, is_virtual: bool) -> None:
        self._execution = execution
        self._deadline = deadline
        self._is_virtual = is_virtual
        self._now = 0.0
        self._foreign = Place((_FOREIGN,), "")
        self._places: dict[Task, Place] = {}
        self._root_task: Task | None = None
        self._held: dict[Place, Task] = {}
        self._has_stepped = True
        self._waited: float | None = None  # since when it really waits
        self._rounds = 0
        self._patience = Patience()
        self._real_for = ""  # what it waits for while its clock is real
        self._is_over = False
        self.scope = trio.CancelScope()
        self.problem: Problem | None = None

    # trio.abc.Clock

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        if time.monotonic() > self._deadline:
            self._end("hang")
        return self._now if self._is_virtual else time.monotonic()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Nothing can run until `deadline`: for how many real seconds trio is to wait for I/O."""
        if self._has_stepped:
            self._has_stepped = False
            return 0  # a look at what has come in first
        return self._at_rest(deadline)

    # trio.abc.Instrument

    def before_io_wait(self, timeout: float) -> None:
        self._rounds += 1
        if self._rounds > _MOST_ROUNDS:  # some task goes on and on without waiting, for one that is held perhaps
            self._rounds = 0
            if self._execution.held and not self._is_over:
                if self._threads_are_awaited():
                    self._execution.guide.bounds.add("threads")
                self._execution.let_one_go()

    def before_task_step(self, task: Task) -> None:
        self._has_stepped = True
        self._waited = None

    def task_spawned(self, task: Task) -> None:
        if self._root_task is None:
            return
        starter = self._starter()
        parent = self._foreign if starter is None else self._places.get(starter, self._foreign)
        self._add(task, parent.child(task.name))

    def task_exited(self, task: Task) -> None:
        pass

    def _starter(self) -> Task | None:
        try:
            return current_task()
        except RuntimeError:
            return None

    def _add(self, task: Task, place: Place) -> None:
        self._places[task] = place
        task.context.run(current_place.set, place)

    def begin(self) -> None:
        """The running task is the scenario's."""
        self._root_task = current_task()
        self._places[self._root_task] = self._execution.root
        current_place.set(self._execution.root)

    # what a run asks for

    def current(self) -> Place:
        starter = self._starter()
        return self._foreign if starter is None else self._places.get(starter, self._foreign)

    def hold(self, place: Place) -> Coroutine[Any, Any, object]:
        self._held[place] = current_task()
        return wait_task_rescheduled(partial(self._give_up, place))

    def _give_up(self, place: Place, raise_cancel: object) -> Abort:
        self._held.pop(place, None)
        return Abort.SUCCEEDED

    def let_go(self, place: Place) -> None:
        task = self._held.pop(place, None)
        if task is not None:  # else cancelled, and about to be told so
            reschedule(task)

    def turn_away(self, place: Place) -> None:
        self._held.pop(place, None)

    # at rest

    def _at_rest(self, deadline: float) -> float:
        self._rounds = 0
        if self._is_over:
            return self._closing(deadline)
        execution = self._execution
        if execution.held:
            seconds = 0.0 if is_alone() else self._seconds_for_threads()
            if not seconds:
                self._waited = None
                execution.let_one_go()
            return seconds
        if _runner().waiting_for_idle:
            return 1.0  # which trio cuts down to what they wait for
        if deadline == math.inf:
            return self._without_timers()
        if not self._is_virtual:
            return min(deadline - time.monotonic(), self._left())
        return self._until_a_timer(deadline)

    def _seconds_for_threads(self) -> float:
        """For how long to wait for those that a task waits for, before another goes on that is held."""
        now = time.monotonic()
        looked = self._waited is not None
        self._waited = self._waited or now
        if self._threads_are_awaited():
            seconds = _SLICE if now - self._waited < _GRACE else 0.0
            ran_out = not seconds
        else:
            seconds = self._patience.seconds(self._kinds_of_waiting(), looked=looked, timers=False)
            ran_out = self._patience.ran_out
        if not seconds and ran_out:
            self._execution.guide.bounds.add("threads")
        return seconds

    def _without_timers(self) -> float:
        if self._is_pending():
            return self._left() if self._has_io() else min(_SLICE, self._left())
        if not is_alone() and self._waited is None:
            self._waited = time.monotonic()
            return _DOUBT
        self._end("deadlock")
        return 0

    def _until_a_timer(self, deadline: float) -> float:
        now = time.monotonic()
        looked = self._waited is not None
        if self._waited is not None:
            self._now = min(self._now + now - self._waited, deadline)
        seconds = min(self._seconds_before_a_timer(looked), deadline - self._now)
        if seconds <= 0:
            self._waited = None
            self._now = deadline
            return 0
        self._waited = now
        return seconds

    def _seconds_before_a_timer(self, looked: bool) -> float:
        """For how long to wait really for what a task waits for, before another look; 0 for none."""
        has_io = self._has_io()
        if is_alone() and not has_io:
            return 0
        if self._threads_are_awaited():
            self._real_for = "a worker thread"
            return _SLICE
        kinds = self._kinds_of_waiting()
        if has_io and Awaited.OUTSIDE in kinds:
            self._real_for = "a socket, a pipe or a process"
            return self._left()
        seconds = self._patience.seconds(kinds, looked=looked, timers=True)
        if seconds and self._patience.reason:
            self._real_for = self._patience.reason
        return seconds

    def _kinds_of_waiting(self) -> set[Awaited]:
        held = set(self._held.values())
        return {awaited(awaited_frames(task.coro)) for task in self._alive() if task not in held}

    def _left(self) -> float:
        return min(max(self._deadline - time.monotonic(), 0), _LONGEST)

    def _has_io(self) -> bool:
        statistics: Any = trio.lowlevel.current_statistics().io_statistics
        kinds = ("tasks_waiting_read", "tasks_waiting_write", "tasks_waiting", "monitors")
        return sum(getattr(statistics, kind, 0) for kind in kinds) > 1  # trio itself waits to be woken

    def _is_pending(self) -> bool:
        """Whether anything could still come, for all that one knows."""
        if self._has_io() or self._signals_are_awaited():
            return True
        return not is_alone() and bool(busy_threads() or self._threads_are_awaited())

    def _signals_are_awaited(self) -> bool:
        frames = (frame for task in self._alive() for frame in awaited_frames(task.coro))
        return any(frame.f_globals.get("__name__") == "trio._signals" for frame in frames)

    def _threads_are_awaited(self) -> bool:
        held = set(self._held.values())
        return any(awaits_thread(awaited_frames(task.coro)) for task in self._alive() if task not in held)

    # the end

    def _alive(self) -> list[Task]:
        alive = _runner().tasks
        return [task for task in self._places if task in alive]

    def standing(self) -> list[Standing]:
        """Where each task stands that has not ended."""
        running = self._starter()
        return [
            Standing(
                self._places[task],
                id(task),
                running_frames(task.coro) if task is running else awaited_frames(task.coro),
            )
            for task in self._alive()
        ]

    def places(self) -> list[Place]:
        """All tasks."""
        return list(self._places.values())

    def _end(self, kind: str) -> None:
        """End the run by cancelling everything; leave it if that does not end it."""
        if self._is_over:
            raise _Abandon
        self._is_over = True
        self.problem = blocked_problem(kind, self.standing(), self._hang_notes() if kind == "hang" else ())
        self._execution.active = False
        self._deadline = time.monotonic() + _GRACE
        self._execution.watched.extend(self._deadline)
        self.scope.cancel()

    def _hang_notes(self) -> tuple[str, ...]:
        return hang_notes(self._real_for, signals=self._signals_are_awaited())

    def _closing(self, deadline: float) -> float:
        """Cancelled, and still not at an end: nobody is shielded any more, nor waits for a thread that goes on."""
        if self._deadline - time.monotonic() < _GRACE / 2:
            for task in self._alive():
                if awaits_thread(awaited_frames(task.coro)):
                    reschedule(task, Error(_Abandon()))
                    return 0
        for task in self._alive():
            status: Any = task._cancel_status  # pyright: ignore[reportPrivateUsage]
            while status is not None:
                status._scope.shield = False
                status = status._parent
        if deadline != math.inf and self._is_virtual:
            self._now = deadline
            return 0
        return _SLICE


def _runner() -> Any:
    context: Any = trio_run.GLOBAL_RUN_CONTEXT
    return context.runner


@hands_over
def _run(root: Callable[[], Coroutine[Any, Any, None]], world: _World) -> None:
    trio.run(root, clock=world, instruments=[world])


@hands_over
async def _play(main: Coroutine[Any, Any, Any]) -> None:
    await main


def run(
    execution: Execution,
    main: Coroutine[Any, Any, Any],
    deadline: float,
    *,
    is_virtual: bool,
) -> Problem | None:
    """Run a scenario once in a trio run of its own."""
    world = _World(execution, deadline, is_virtual=is_virtual)
    execution.world = world

    async def root() -> None:
        world.begin()
        try:
            with world.scope:
                await _play(main)
        finally:
            execution.active = False

    problem: Problem | None = None
    try:
        _run(root, world)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        problem = Problem("error", "", error)
    if execution.recorder is not None:
        execution.recorder.finish(world.places())
    del execution.world  # which knows the execution: less work for the garbage collector
    return world.problem or problem
