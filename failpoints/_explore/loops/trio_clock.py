"""Runs a scenario on trio, with a custom clock.

Trio asks its clock how long to sleep only when no task can run, so that call shows that the run is at rest. If the
clock returns 0, trio runs what the clock has made runnable.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from time import sleep
from typing import Any, ClassVar, cast

import trio
import trio._core._run as trio_run
from outcome import Error
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

from ..._core.clock import monotonic
from ..._core.reentrancy import runs_user_code
from ..execution import Execution
from ..plan.identity import TaskNode, current_node
from ..problem import Problem
from ..steering.beside import Beside
from ..threads import awaits_thread, is_only_thread
from ..user_frames import suspended_at
from .abandon import keep_forever
from .await_frames import awaited_frames, running_frames
from .blocked import UnfinishedTask, blocked_problem
from .outside_waits import OutsideWait
from .rest import GRACE, MAX_ROUNDS, SLICE, RestPolicy
from .sockets import LocalConnections, awaited_descriptor
from .trio_order import batch_hooks
from .wait_sources import WaitSource, wait_place, wait_source

_FOREIGN = 0  # the number, among the children of the root, of the node above all tasks that no task has started
_TRIO_THREADS = ("trio._socket", "trio._subprocess")  # modules that call functions in a thread for their own ends
_IDLE_WAIT = 1.0  # seconds, which trio shortens to what wait_all_tasks_blocked() needs
_POLL_INTERVAL = 0.005  # seconds, while trio must not wait itself


class _Abandon(BaseException):
    """Leaves a run that does not end when it is cancelled."""


class _Entries(deque[Any]):
    """Trio's queue of the calls into the loop. Those from other threads are reported to the run."""

    def __init__(self, execution: Execution, clock: _ExplorationClock, entries: Iterable[Any]) -> None:
        super().__init__(entries)
        self._execution = execution
        self._clock = clock

    def append(self, entry: Any) -> None:
        steering = self._execution.steering
        node = None if steering is None else steering.thread_node()
        if threading.get_ident() != self._execution.thread:
            entry = (self._call, entry)
        elif node is not None:
            entry = (self._clock.call_for, (node, *entry))
        super().append(entry)

    def _call(self, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        if not _answers_trio_itself(function):
            self._execution.see_thread()
        function(*args)


def _answers_trio_itself(function: Callable[..., object]) -> bool:
    """Return whether a worker thread calls that trio has started to look up an address, or to start a process."""
    code: Any = getattr(function, "__code__", None)
    if code is None or "task_register" not in code.co_freevars:
        return False
    cell: Any = cast(Any, function).__closure__[code.co_freevars.index("task_register")]
    task: Task | None = cell.cell_contents[0]
    frames = awaited_frames(task.coro) if task is not None else []
    modules = [frame.f_globals.get("__name__") or "" for frame in frames]
    while modules and modules[-1] != "trio._threads":  # which has called trio's own way to sleep
        modules.pop()
    return len(modules) > 1 and modules[-2].startswith(_TRIO_THREADS)


class _ExplorationClock(trio.abc.Clock, trio.abc.Instrument):
    """The clock of one run, which is also the instrument that follows its tasks."""

    hooks: ClassVar = ["task_exited", "task_spawned"]

    def __init__(self, execution: Execution, deadline: float, *, is_virtual: bool) -> None:
        self.scope = trio.CancelScope()
        self.problem: Problem | None = None
        self._execution = execution
        self._is_virtual = is_virtual
        self._foreign = TaskNode((_FOREIGN,), "")
        self._nodes: dict[Task, TaskNode] = {}
        self._alive: dict[Task, None] = {}  # of trio itself, too
        self._root_task: Task | None = None
        self._held: dict[TaskNode, Task] = {}
        self._going: Task | None = None  # the task that was released last, until it runs
        self._suspended: dict[TaskNode, Task] = {}  # tasks that are held at a wake-up
        self._acting: TaskNode | None = None  # a task that is being cancelled instead of going on, or a thread
        self._connections = LocalConnections()
        self._has_stepped = True
        self._is_over = False
        self._rest = RestPolicy(self, execution, deadline, is_virtual=is_virtual)
        self.steering: Beside | None = None
        if execution.scheduler.interleavings is not None:
            self.steering = execution.steering = Beside(execution, self, self._rest, deadline, is_virtual=is_virtual)

    # trio.abc.Clock

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        # A task that asks for the time would catch what ends the run.
        if monotonic() > self._rest.deadline and (not self._is_over or _running_task() is None):
            self._end("hang")
        return self._rest.now if self._is_virtual else monotonic()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Return the number of real seconds for which trio is to wait for I/O. No task can run until *deadline*."""
        if self._has_stepped:
            self._has_stepped = False
            if self.has_io() or not is_only_thread():
                return 0  # look for what has arrived first
        self._rest.rounds = 0
        if self._is_over:
            return self._seconds_while_closing(deadline)
        if self._execution.steering is not None and self._execution.steering.problem is not None:
            self._end(self._execution.steering.problem.kind)
            return 0
        if _runner().waiting_for_idle and not self._execution.held:
            return _IDLE_WAIT
        seconds = self._rest.next_wait(deadline)
        if seconds and _runner().waiting_for_idle and self._execution.held:
            # Trio takes the tasks that are held for blocked, and would wake wait_all_tasks_blocked().
            sleep(min(seconds, _POLL_INTERVAL))
            return 0
        return seconds

    # trio.abc.Instrument

    def __dir__(self) -> list[str]:
        return self.hooks  # among which trio looks for its own

    def task_spawned(self, task: Task) -> None:
        self._alive[task] = None
        if self._root_task is None:
            return
        starter = _running_task()
        parent = self._foreign if starter is None else self._nodes.get(starter, self._acting or self._foreign)
        node = self._nodes[task] = parent.child(task.name)
        task.context.run(current_node.set, node)

    def task_exited(self, task: Task) -> None:
        self._alive.pop(task, None)

    def begin(self) -> None:
        """Take note that the running task is that of the scenario."""
        self._root_task = current_task()
        self._nodes[self._root_task] = self._execution.root
        current_node.set(self._execution.root)
        entries = _runner().entry_queue
        entries.queue = _Entries(self._execution, self, entries.queue)
        self._wakeup = entries.wakeup

    def call_for(self, node: TaskNode, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Call a function that a thread has scheduled."""
        self._acting = node
        try:
            function(*args)
        finally:
            self._acting = None

    # Loop, the interface for the run

    def current_node(self) -> TaskNode:
        """Return the node of the running task, or the foreign node for a task from outside the scenario."""
        task = _running_task()
        return self._foreign if task is None else self._nodes.get(task, self._foreign)

    def acting_node(self) -> TaskNode:
        """Return the running task, or the one that is being cancelled, as if it did this itself."""
        return self._acting or self.current_node()

    def hold(self, task: TaskNode) -> Coroutine[Any, Any, object]:
        """Return the coroutine that suspends the running task."""
        self._held[task] = current_task()
        return wait_task_rescheduled(partial(self._cancel_hold, task))

    def _cancel_hold(self, task: TaskNode, raise_cancel: object) -> Abort:
        self._held.pop(task, None)
        return Abort.SUCCEEDED

    def suspend(self) -> Coroutine[Any, Any, None]:
        """Return the coroutine that suspends the running task, which can go on at once."""
        return trio.lowlevel.checkpoint()

    def release(self, task: TaskNode) -> None:
        """Let a task that is held go on."""
        suspended = self._suspended.pop(task, None)
        if suspended is not None:
            self._going = suspended
            _runner().runq.append(suspended)
            return
        held = self._held.pop(task, None)
        if held is not None:  # else it is cancelled, and will run
            self._going = held
            reschedule(held)

    def begin_round(self, batch: list[Task]) -> None:
        """Take note of the tasks that are about to run, without those that are to be held at their wake-up."""
        rest = self._rest
        rest.rounds += 1
        if rest.rounds > MAX_ROUNDS and not self._is_over:
            rest.release_beside_poller()
        if self._execution.holds_wakeups:
            self._hold_woken(batch)
        if batch:
            self._has_stepped = True
            self._going = None
            if rest.waiting_since is not None:
                rest.woken()

    def _hold_woken(self, batch: list[Task]) -> None:
        for task in reversed(batch):
            node = self._nodes.get(task)
            if node is None or task is self._going:
                continue
            self._suspended[node] = task
            self._execution.woken(node)
        held = set(self._suspended.values())
        batch[:] = [task for task in batch if task not in held]

    def position(self, task: TaskNode) -> tuple[str, str]:
        """Return the user's line at which a task that is held at a wake-up is suspended: its place, and its text."""
        coroutine = self._suspended[task].coro
        return suspended_at(coroutine, awaited_frames(coroutine))

    def can_cancel(self, task: TaskNode) -> bool:
        """Return whether a task that is held at a wake-up can be cancelled there."""
        return True

    def cancel(self, task: TaskNode) -> None:
        """Cancel the innermost scope of a task that is held at a wake-up. That arrives at its next checkpoint."""
        status: Any = self._suspended[task]._cancel_status  # pyright: ignore[reportPrivateUsage]
        self._acting = task
        status._scope.cancel()
        self._acting = None

    def forget(self, task: TaskNode) -> None:
        """Take note that a task is not held any more."""
        self._held.pop(task, None)

    def end_asleep(self) -> None:
        """End the run, since everything that could follow has been run."""
        self._end("asleep")

    # RestingLoop, the interface for the policy

    def threads_may_answer(self) -> bool:
        """Return whether there is another thread."""
        return not is_only_thread()

    def thread_waits(self) -> list[OutsideWait]:
        """Return the waits for worker threads of tasks that are not held."""
        waits: list[OutsideWait] = []
        for task in () if is_only_thread() else self._waiting_tasks():
            frames = awaited_frames(task.coro)
            if awaits_thread(frames):
                waits.append(OutsideWait(frames[-1], wait_place(self._nodes[task].path, frames), "a worker thread"))
        return waits

    def is_signal_awaited(self) -> bool:
        """Return whether a task is receiving signals."""
        frames = (frame for task in self._unfinished() for frame in awaited_frames(task.coro))
        return any(frame.f_globals.get("__name__") == "trio._signals" for frame in frames)

    def has_io(self) -> bool:
        """Return whether a task is waiting for I/O."""
        registered: Any = getattr(_runner().io_manager, "_registered", None)
        if registered is not None:
            return len(registered) > 1  # one is trio's own, which is always there
        statistics: Any = trio.lowlevel.current_statistics().io_statistics  # slow
        kinds = ("tasks_waiting_read", "tasks_waiting_write", "tasks_waiting", "monitors")
        return sum(getattr(statistics, kind, 0) for kind in kinds) > 1

    def outside_waits(self) -> list[OutsideWait]:
        """Return the waits for I/O of tasks that are not held, if something may come from outside the run."""
        waits: list[OutsideWait] = []
        for task in self._waiting_tasks():
            frames = awaited_frames(task.coro)
            descriptor = awaited_descriptor(frames) if wait_source(frames) is WaitSource.OUTSIDE else None
            if descriptor is not None and not self._connections.are_between_tasks(descriptor):
                place = wait_place(self._nodes[task].path, frames)
                waits.append(OutsideWait(frames[-1], place, "a socket, a pipe or a process"))
        return waits

    def wait_sources(self) -> set[WaitSource]:
        """Return the kinds of waits of all tasks that are not held."""
        return {self._connections.source(awaited_frames(task.coro)) for task in self._waiting_tasks()}

    def has_arrived(self) -> bool:
        """Return whether a thread or a signal handler has called into the loop since it came to rest."""
        entries = _runner().entry_queue
        return bool(entries.queue or entries.idempotent_queue)

    def end_in_deadlock(self) -> None:
        """End the run, since nothing can wake a task."""
        self._end("deadlock")

    def _waiting_tasks(self) -> list[Task]:
        steering, held = self._execution.steering, self._execution.held
        waiting = [task for task in self._unfinished() if self._nodes[task] not in held]
        if steering is not None and steering.threads:
            waiting = [task for task in waiting if not steering.awaits(task)]
        return waiting

    def wake(self) -> None:
        """End the wait of the loop for I/O."""
        self._wakeup.wakeup_thread_and_signal_safe()

    # The end

    def _unfinished(self) -> list[Task]:
        return [task for task in self._nodes if task in self._alive]

    def unfinished_tasks(self) -> list[UnfinishedTask]:
        """Describe the tasks that have not ended."""
        running = _running_task()
        return [
            UnfinishedTask(
                self._nodes[task],
                id(task),
                running_frames(task.coro) if task is running else awaited_frames(task.coro),
            )
            for task in self._unfinished()
        ]

    def nodes(self) -> list[TaskNode]:
        """Return the nodes of all tasks."""
        return list(self._nodes.values())

    def close(self) -> None:
        """Drop what would leave a cycle to the garbage collector, and leave behind what has not ended."""
        self._rest.detach()
        for task in self._alive:
            keep_forever(task)

    def _end(self, kind: str) -> None:
        """End the run by cancelling everything, or leave it if that was done before."""
        if self._is_over:
            raise _Abandon
        self._is_over = True
        notes = self._rest.hang_notes() if kind == "hang" else ()
        unfinished = () if kind == "asleep" else self.unfinished_tasks()
        self.problem = blocked_problem(kind, unfinished, notes)
        steering = self._execution.steering
        if steering is not None and kind != "asleep":
            self.problem = steering.problem or steering.beside(self.problem)
        self._execution.stop()
        self.end_threads()
        _runner().runq.extend(self._suspended.values())
        self._suspended.clear()
        self._rest.deadline = monotonic() + GRACE
        self._execution.watched.extend(self._rest.deadline)
        self.scope.cancel()

    def end_threads(self) -> None:
        """End the threads that are left."""
        if self._execution.steering is not None:
            self._execution.steering.unwind()
            self._execution.steering = None

    def _seconds_while_closing(self, deadline: float) -> float:
        """Return how long to wait while the run has not ended, although it is cancelled.

        Shields are taken off. A task that is waiting for a worker thread is given half of the time to go on.
        """
        if self._rest.deadline - monotonic() < GRACE / 2:
            for task in self._unfinished():
                if awaits_thread(awaited_frames(task.coro)):
                    reschedule(task, Error(_Abandon()))
                    return 0
        for task in self._unfinished():
            status: Any = task._cancel_status  # pyright: ignore[reportPrivateUsage]
            while status is not None:
                status._scope.shield = False
                status = status._parent
        if deadline != math.inf and self._is_virtual:
            self._rest.now = deadline
            return 0
        return SLICE


class _WakeupClock(_ExplorationClock):
    """The clock of a run of which the search has to know what wakes its tasks."""

    hooks: ClassVar = [*_ExplorationClock.hooks, "task_scheduled"]

    def task_scheduled(self, task: Task) -> None:
        """Take note of a wake-up. Called by trio."""
        steps = self._execution.steps
        node = self._nodes.get(task)
        if steps is None or node is None or task is self._going:
            return
        running = _running_task()
        by = self._acting or (None if running is None else self._nodes.get(running))
        steps.wake(node, None if by is None else steps.mark(by), could_run=node in self._execution.held)


def _runner() -> Any:
    context: Any = trio_run.GLOBAL_RUN_CONTEXT
    return context.runner


def _running_task() -> Task | None:
    try:
        return current_task()
    except RuntimeError:
        return None


@runs_user_code
def _run_trio(root: Callable[[], Coroutine[Any, Any, None]], clock: _ExplorationClock) -> None:
    trio.run(root, clock=clock, instruments=[clock])


@runs_user_code
async def _run_scenario(main: Coroutine[Any, Any, Any]) -> None:
    await main


def run(execution: Execution, main: Coroutine[Any, Any, Any], deadline: float, *, is_virtual: bool) -> Problem | None:
    """Run a scenario once, in a trio run of its own, and return what went wrong."""
    kind = _WakeupClock if execution.scheduler.is_reduced else _ExplorationClock
    clock = kind(execution, deadline, is_virtual=is_virtual)
    execution.loop = clock
    batch_hooks[execution.thread] = clock.begin_round

    async def root() -> None:
        clock.begin()
        try:
            with clock.scope:
                await _run_scenario(main)
                while clock.steering is not None and clock.steering.settle():
                    await trio.lowlevel.checkpoint()
        finally:
            execution.active = False
            if clock.steering is not None and clock.problem is None:
                clock.problem = clock.steering.problem

    problem: Problem | None = None
    try:
        _run_trio(root, clock)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        problem = Problem("error", "", error)
    if clock.steering is not None and clock.problem is None and problem is None:
        problem = clock.steering.problem_of_thread()
    execution.stop()
    clock.end_threads()
    if execution.recorder is not None:
        execution.recorder.finish([*clock.nodes(), *(clock.steering.threads if clock.steering else ())])
    clock.close()
    del batch_hooks[execution.thread]
    execution.seen = None
    del execution.loop  # which refers to the execution: less work for the garbage collector
    return clock.problem or problem
