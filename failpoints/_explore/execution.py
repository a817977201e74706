"""One run of a scenario: holds tasks at visits, releases them, and injects faults, as the scheduler decides."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Final, Protocol
from weakref import WeakSet

from .._core.accesses import Accesses
from .._core.actions import Action
from .._core.context import Context
from .._core.site import Site
from ..errors import FailpointUsageError
from .plan.accesses import Mode
from .plan.faults import Alternatives
from .plan.identity import IN_THREAD, Labels, TaskNode, TaskPath, Visit, VisitKey, context_text, current_node
from .plan.races import Segment
from .plan.scheduler import MAX_TURNS_AT_A_VISIT, Scheduler, last_one_first
from .steps import Steps
from .watchdog import WatchedThread


class Loop(Protocol):
    """The part of an event loop that a run needs."""

    def current_node(self) -> TaskNode:
        """Return the running task."""
        ...

    def acting_node(self) -> TaskNode:
        """Return the running task or, for a callback, the task that has scheduled it."""
        ...

    def hold(self, task: TaskNode) -> Awaitable[object]:
        """Return an awaitable that suspends the running task until it is released."""
        ...

    def suspend(self) -> Awaitable[object]:
        """Return an awaitable that suspends the running task, which can go on at once."""
        ...

    def release(self, task: TaskNode) -> None:
        """Let a task that is held go on."""

    def position(self, task: TaskNode) -> tuple[str, str]:
        """Return the user's line at which a task that is held at a wake-up is suspended: its place, and its text."""
        ...

    def can_cancel(self, task: TaskNode) -> bool:
        """Return whether a task that is held at a wake-up can be cancelled there."""
        ...

    def cancel(self, task: TaskNode) -> None:
        """Cancel a task that is held at a wake-up."""

    def forget(self, task: TaskNode) -> None:
        """Take note that a task is not held any more, because it was cancelled."""

    def end_asleep(self) -> None:
        """End the run, since everything that could follow has been run."""


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that a run has injected.

    `visit` is the visit and `action` the injected action. `number` counts the visits of the run at which a fault was
    possible, and `alternative` the faults possible there, both from 1. `label` identifies the visit in all runs.
    """

    visit: Visit
    action: Action
    number: int
    alternative: int
    label: int


class Recorder(Protocol):
    """Receives every visit of a run, to show them."""

    def arrived(self, visit: Visit) -> None:
        """Record that a task is held at a visit."""

    def visited(self, visit: Visit, *, inside: bool) -> None:
        """Record a visit that goes on. *inside* is whether it is explored: inside `run.injecting()`."""

    def resumed(self, wakeup: Visit, location: str, line: str, *, is_before: bool = False) -> None:
        """Record that a task goes on at a wake-up, after the line at which it was suspended. Both may be "".

        *is_before* is whether a thread has yet to carry out that line.
        """

    def injected(self, path: TaskPath, action: Action, raises: tuple[type[BaseException], ...]) -> None:
        """Record that a fault is injected at the last visit of this task, at a site that declares *raises*."""

    def finish(self, tasks: Sequence[TaskNode]) -> None:
        """Record the tasks of the run, which has ended."""


class Execution:
    """One run, as sites and the event loop see it."""

    def __init__(
        self,
        scheduler: Scheduler,
        alternatives: Alternatives,
        labels: Labels,
        watched: WatchedThread,
        recorder: Recorder | None = None,
        steps: Steps | None = None,
    ) -> None:
        self.watched = watched
        self.scheduler = scheduler
        self.root = TaskNode((), "")
        self.thread = threading.get_ident()
        self.loop: Loop
        self.active = False  # between `begin` and `end`
        self.expect: tuple[type[BaseException], ...] = ()
        self.injected: list[Injected] = []
        self.usage_error: FailpointUsageError | None = None
        self.refused: Injected | None = None  # the action that could not be carried out, if that is the usage error
        self.recorder = recorder
        self.order: list[int] = []  # the labels at which the tasks were held that went on, if orders are left out
        self.turns: list[int] = []  # indexes into the tasks that could go on, with the last one at the front
        self.preemptions = 0
        self.tasks = 0  # that were released at least once
        self.slow_waits: set[Hashable] = set()  # the places of those that lasted too long, in all runs
        self.held: dict[TaskNode, int] = {}  # with the labels of the visits or wake-ups at which they are held
        self.steps: Steps | None = None  # between `begin` and `end`, if equivalent orders are left out
        self.is_reduced = steps is not None  # equivalent orders are left out
        self.seen: object = None  # of the primitives of the libraries, if equivalent orders are left out
        self.holds_wakeups = False  # between `begin` and `end`, with every wake-up as a switch point
        self.steering: Any = None  # of the threads of the run, if their order is explored
        self.is_sync = False  # the scenario is a plain function
        self.threads = 0  # that were released at least once, beside tasks
        self.holds_threads = False  # between `begin` and `end`, if the order of the threads is explored
        self._has_begun = False
        self._regions: list[tuple[object, TaskNode, Accesses]] = []  # in the order in which they were entered
        self._has_threads = self._are_threads_beside = False
        self._errors: list[BaseException] = []
        self._alternatives = alternatives
        self._labels = labels
        self._interleavings = scheduler.interleavings
        self._steps = steps
        self._injects_faults = scheduler.injects_faults
        self._looks_at_visits = scheduler.injects_faults or recorder is not None
        self._counts: dict[VisitKey, int] = {}
        self._step = 0
        self._last: TaskNode | None = None
        self._faultable = 0

    # Called by sites: see Explorer.

    def arrive_sync(self, name: str, context: Context) -> None:
        """Stop a thread that is steered, at a visit in sync code, until it is its turn."""
        if not self.active or self.steering is None:
            return
        if threading.get_ident() != self.thread and not self.steering.come_back():
            return
        task = self.steering.thread_node()
        if task is None:
            return
        task.label = label = self._identify(task, name)
        if self.holds_threads:
            if self.recorder is not None:
                self.recorder.arrived(self._shown(label, context))
            self.steering.visit(label)

    def arrive(self, name: str, context: Context) -> Awaitable[object] | None:
        """Return what to await until it is the turn of the running task."""
        if not self.active or threading.get_ident() != self.thread:
            return None
        if self._thread_node() is not None:  # on an event loop that the scenario, or a thread of it, runs by itself
            self.steering.see_task()
            self.arrive_sync(name, context)
            return None
        task = self.loop.current_node()
        task.label = label = self._identify(task, name)
        if self._interleavings is None:
            return None
        if self.recorder is not None:
            self.recorder.arrived(self._shown(label, context))
        if self.holds_wakeups:
            task.arrived_at = label
            return self.loop.suspend()
        self.held[task] = label
        return self.loop.hold(task)

    def turn_away(self) -> None:
        """Forget the running task, which was cancelled while it was held."""
        task = self.loop.current_node()
        task.label = -1
        self.held.pop(task, None)
        self.loop.forget(task)

    def choose(self, name: str, context: Context, site: Site) -> Action | None:
        """Choose the fault to inject at an async visit whose turn it is."""
        if not self.active or threading.get_ident() != self.thread:
            # Outside the explored part; or on another event loop, in a thread of the run.
            return self.choose_sync(name, context, site)
        if not self._looks_at_visits:
            return None
        task = self._current_task()
        return self._go_on(task, task.label, context, site, is_async=True)

    def choose_sync(self, name: str, context: Context, site: Site) -> Action | None:
        """Choose the fault to inject at a visit in sync code, on the event loop or in a thread."""
        if not self.active:
            if self.recorder is not None:
                path = self._current_task().path
                self.recorder.visited(Visit(path, name, 0, context_text(context)), inside=False)
            return None
        task = self._current_task()
        is_steered = threading.get_ident() == self.thread and self._thread_node() is not None
        label = task.label if is_steered else self._identify(task, name)
        if not self._looks_at_visits:
            return None
        return self._go_on(task, label, context, site, is_async=False)

    def declare_step(self, accesses: Accesses) -> None:
        """Note what a site declares of the running step."""
        if self.steps is not None and threading.get_ident() == self.thread:
            self.steps.declare_step(self.acting_task(), accesses)

    def enter_region(self, region: object, accesses: Accesses) -> None:
        """Note what a site declares of every step of the running task, until it leaves the region."""
        if threading.get_ident() == self.thread:
            task = self.acting_task()
            self._regions.append((region, task, accesses))
            if self.steps is not None:
                self.steps.enter_region(task, accesses)

    def leave_region(self, region: object) -> Accesses | None:
        """End a region of the running task, or the latest of these if only other tasks have entered it."""
        entered = [number for number, each in enumerate(self._regions) if each[0] is region]
        if not entered or threading.get_ident() != self.thread:
            return None
        running = self.acting_task()
        own = [number for number in entered if self._regions[number][1] is running]
        _, task, accesses = self._regions.pop((own or entered)[-1])
        if self.steps is not None:
            self.steps.leave_region(task, accesses)
        return accesses

    def misdeclared(self, error: FailpointUsageError) -> None:
        """Keep the error of a site that cannot declare what it declares."""
        self.usage_error = error

    def raised(self, error: BaseException) -> None:
        """Keep an error that came from an injected action."""
        if isinstance(error, FailpointUsageError):
            self.usage_error = error  # kept apart, since the program may swallow it
            self.refused = self.injected[-1]
        else:
            self._errors.append(error)

    def acting_task(self) -> TaskNode:
        """Return the running task or thread or, for a callback, the task that has scheduled it."""
        return self._thread_node() or (self.loop.acting_node() if hasattr(self, "loop") else self.root)

    def _thread_node(self) -> TaskNode | None:
        """Return the running thread, if it is steered and not that of an event loop."""
        return None if self.steering is None else self.steering.thread_node()

    def _loop_of(self, task: TaskNode) -> Loop:
        """Return what lets a task or a thread go on."""
        loop: Loop = self.steering if self._is_thread(task) else self.loop
        return loop

    def _is_thread(self, task: TaskNode) -> bool:
        return self.steering is not None and task in self.steering.threads

    def _current_task(self) -> TaskNode:
        if threading.get_ident() == self.thread:
            # The scenario is called before there is a loop, and may visit before it returns a coroutine.
            return self._thread_node() or (self.loop.current_node() if hasattr(self, "loop") else self.root)
        self.see_thread()
        starter = current_node.get() or self.root
        return TaskNode((*starter.path, IN_THREAD), "thread")

    def _identify(self, task: TaskNode, name: str) -> int:
        key = (task.path, name)
        occurrence = self._counts[key] = self._counts.get(key, 0) + 1
        if occurrence > MAX_TURNS_AT_A_VISIT:
            self.scheduler.visit_repeats()
        return self._labels.of_visit(key, occurrence)

    def _go_on(self, task: TaskNode, label: int, context: Context, site: Site, *, is_async: bool) -> Action | None:
        if self.recorder is not None:
            self.recorder.visited(self._shown(label, context), inside=True)
        if not self._injects_faults:
            return None
        name = self._labels.visit(label).name
        alternatives = self._alternatives.of(name, site.faults or site.raises, is_async=is_async)
        return self._choose_fault(label, context, alternatives, site.raises)

    def _shown(self, label: int, context: Context) -> Visit:
        return replace(self._labels.visit(label), context=context_text(context))

    def _choose_fault(
        self,
        label: int,
        context: Context,
        alternatives: tuple[Action, ...],
        raises: tuple[type[BaseException], ...] = (),
    ) -> Action | None:
        if not alternatives:
            return None
        self._faultable += 1
        visit = self._labels.visit(label)
        chosen = self.scheduler.choose_fault(label, (visit.path, visit.name), len(alternatives))
        if not chosen:
            return None
        action = alternatives[chosen - 1]
        self.injected.append(Injected(self._shown(label, context), action, self._faultable, chosen, label))
        if self.recorder is not None:
            self.recorder.injected(visit.path, action, raises)
        return action

    # Called by the event loop.

    def woken(self, task: TaskNode) -> None:
        """Hold a task that could go on, with every wake-up as a switch point."""
        label, task.arrived_at = task.arrived_at, -1
        if label < 0:
            task.wakeups += 1
            label = self._labels.of_visit((task.path, ""), task.wakeups)
        self.held[task] = label

    def label_of_point(self, task: TaskNode) -> int:
        """Return the label of the next point of a thread that is not a visit."""
        if not self.holds_threads:
            return -1
        task.wakeups += 1
        return self._labels.of_visit((task.path, ""), task.wakeups)

    def intrude(self) -> None:
        """Take note that something outside the run has an effect now: the clock, a thread or a socket."""
        if self.steps is not None:
            self.steps.intrude()

    def see_thread(self, *, is_beside: bool = False) -> None:
        """Take note that another thread works for this run, which may call this itself.

        *is_beside* is whether it is known to work beside another thread, or beside a task that is held.
        """
        if self.active:
            self._has_threads = True
            self._are_threads_beside = self._are_threads_beside or is_beside

    def miss_files(self) -> None:
        """Take note that a thread which does not belong to the run has changed files, without any fault."""
        self.scheduler.bounds.add("missed files")

    def release_one(self) -> None:
        """Choose one of the tasks that are held, and let it go on."""
        held = self.held
        if len(held) == 1 and not self.scheduler.is_reduced:
            task = next(iter(held))
        else:
            options = sorted(held, key=_last_turn)
            touched = self.steps.touched if self.steps is not None else dict[Hashable, Mode]
            chosen = self.scheduler.next_task(options, held, self._last, touched)
            if chosen is None:
                self.loop.end_asleep()
                return
            task = chosen
            if self.recorder is not None and len(options) > 1:
                last = self._last if self._last in held else None
                self.turns.append(last_one_first(options, last).index(task))
                self.preemptions += last is not None and task is not last
        if self.steps is not None:
            self.steps.begin_turn(task)
            self.order.append(held[task])
        if (self.holds_wakeups or self.holds_threads) and (self._injects_faults or self.recorder is not None):
            self._resume(task, held[task])
        self._release(task)

    def _resume(self, task: TaskNode, label: int) -> None:
        """Show a wake-up, and cancel the task instead if that is the fault to inject there."""
        wakeup = self._labels.visit(label)
        if wakeup.name:  # a visit, which does the same once it goes on
            return
        if self.recorder is not None:
            position = self._loop_of(task).position(task)
            is_before = self._is_thread(task) and self.steering.is_before(task)
            self.recorder.resumed(wakeup, *position, is_before=is_before)
        if not self._injects_faults or not self._loop_of(task).can_cancel(task):
            return
        if self._choose_fault(label, {}, self._alternatives.at_wakeup()) is not None:
            self.loop.cancel(task)

    def _release(self, task: TaskNode) -> None:
        del self.held[task]
        loop = self._loop_of(task)
        step, path = task.last_turn
        if not step and loop is not self.loop:
            self.threads += 1
        elif not step:
            self.tasks += 1
        self._step += 1
        task.last_turn = (self._step, path)
        self._last = task
        loop.release(task)

    @property
    def cancels_at_wakeups(self) -> bool:
        """Whether a task may be cancelled at any of its wake-ups, so that it matters whether it has one."""
        return self._interleavings == "awaits" and self._injects_faults and bool(self._alternatives.at_wakeup())

    @property
    def segments(self) -> Sequence[Segment]:
        """What the run did between `begin` and `end`, if equivalent orders are left out."""
        return () if self._steps is None else self._steps.segments

    def hits(self) -> Iterator[tuple[str, int]]:
        """Generate names of failpoints with numbers of visits. A name may come several times."""
        for (_, name), count in self._counts.items():
            yield name, count

    # Called by what run.shared() has made.

    def touch(self, resource: Hashable, mode: Mode) -> None:
        """Note what the running task does to something shared."""
        if self.steps is not None and threading.get_ident() == self.thread:
            self.steps.touch(self.acting_task(), resource, mode)

    def current_place(self) -> TaskPath:
        """Return the position of the running task."""
        return self._current_task().path

    # Called by run.injecting().

    def begin(self, expect: tuple[type[BaseException], ...]) -> None:
        """Hold tasks and inject faults from now on."""
        if self._has_begun:
            raise FailpointUsageError("run.injecting() can only be entered once in a run: put everything in one block")
        self._has_begun = True
        self.active = True
        active.add(self)
        self.steps = self._steps
        self.holds_wakeups = self._interleavings == "awaits" and not self.is_sync
        steering = self.steering
        self.holds_threads = self._interleavings is not None and steering is not None
        if self.holds_threads and steering is not None:
            steering.begin()
        self.expect = expect
        if self.steps is not None:
            for _, task, accesses in self._regions:  # that were entered before
                self.steps.enter_region(task, accesses)

    def end(self) -> None:
        """Stop holding tasks and injecting faults, and release every task that is held."""
        # If there is only one task, it waits for the thread. Otherwise any task may have run beside the thread.
        are_unordered = self._has_threads and (self._are_threads_beside or self.root.has_started_tasks)
        if are_unordered and self._interleavings is not None and (self._counts or self.tasks):
            self.scheduler.bounds.add("unordered threads")
        if self.steps is not None:
            self.steps.leave(self.acting_task())
        self._withdraw_threads()
        self._deactivate()
        for task in sorted(self.held, key=_last_turn):
            self._release(task)

    def stop(self) -> None:
        """Decide nothing any more, since the event loop ends the run. It lets all tasks go on, to clean up."""
        if self.holds_wakeups:
            self.held.clear()
        self._withdraw_threads()
        self._deactivate()

    def _withdraw_threads(self) -> None:
        if self.holds_threads:  # they go on once this thread waits
            self.steering.withdraw()

    def _deactivate(self) -> None:
        active.discard(self)
        self.active = self.holds_wakeups = self.holds_threads = False
        if self.steps is not None:
            self.steps.end_turn()
            self.steps = None

    def is_surfaced(self, error: BaseException) -> bool:
        """Return whether an error is a fault of this run, or was made of one by the program."""
        if not self.injected:
            return False
        if isinstance(error, self.expect) or any(error is raised for raised in self._errors):
            return True
        if isinstance(error, BaseExceptionGroup):
            leaves: tuple[BaseException, ...] = error.exceptions  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            if all(self.is_surfaced(leaf) for leaf in leaves):
                return True
        return error.__cause__ is not None and self.is_surfaced(error.__cause__)


_last_turn = attrgetter("last_turn")

active: Final = WeakSet[Execution]()
"""The runs between `begin` and `end`, of all threads that explore."""
