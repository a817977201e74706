"""Records what the steps of a run do, for the search, which leaves out orders that make no difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable

from .._core.accesses import Accesses as Declared
from .plan.accesses import EVERYTHING, PROGRAM, Accesses, Mode, add_access, merge
from .plan.identity import TaskNode
from .plan.races import Segment

CANCELLATION = "cancellation"
"""The first part of a resource that every step of a task updates, and that its cancellation writes.

The second part is the path of the task.
"""


class Steps:
    """The segments of one run. A segment is what a task does between two suspensions, or a part of that.

    Args:
        needs_declaration: Whether a step of which nothing was declared touches everything.
        runs_woken: Whether a task that was woken runs in the same turn, and is not held before.
        are_of_threads: Whether they are steps of threads.
    """

    def __init__(self, *, needs_declaration: bool, runs_woken: bool, are_of_threads: bool = False) -> None:
        self.segments: list[Segment] = []
        self._needs_declaration = needs_declaration
        self._runs_woken = runs_woken
        self._are_of_threads = are_of_threads
        self._turn = -1
        self._first = 0  # the first segment of the current turn
        self._tasks: list[TaskNode | None] = []  # of the segments
        self._running: TaskNode | None = None
        self._woken: dict[TaskNode, list[int]] = {}  # tasks that will run, with the segments that woke them
        self._jump = 0  # the segment of the last jump of the clock
        self._regions: dict[TaskNode, Counter[tuple[str, Mode]]] = {}
        self._declared: Declared = ()  # by a site, of the running step

    # Called by the run.

    def begin_turn(self, task: TaskNode) -> None:
        """Begin the turn of a task that was held."""
        self.end_turn()
        self._turn += 1
        self._first = len(self.segments)
        self._begin(task).is_chosen = True

    def wake(self, task: TaskNode, because: int | None, *, could_run: bool = False) -> None:
        """Take note that a task will run, because of a segment, or of something outside if that is `None`.

        *could_run* is whether it was held, and could have been chosen before.
        """
        causes = self._woken.setdefault(task, [])
        if could_run:
            return
        if because is None:
            self.intrude()
            because = len(self.segments) - 1
        causes.append(because)

    def intrude(self) -> None:
        """Take note that something outside the run has an effect now: the clock, a thread or a socket."""
        self._running = None
        self._add(None, Segment(None, self._turn, accesses={EVERYTHING: "w"}))

    def jump(self) -> int:
        """Take note that the clock goes on, since no task can. Return the number of a segment that has no turn.

        That comes after everything before, and meets nothing: a task that could have gone on would have.
        """
        self._running = None
        because = [*range(self._jump, len(self.segments))]
        self._jump = len(self.segments)
        self._add(None, Segment(None, -1, because=because))
        return self._jump

    def task_of(self, index: int) -> TaskNode | None:
        """Return the task that has made a segment."""
        return self._tasks[index]

    def touched(self) -> Accesses:
        """End the turn, and return what it touched."""
        self.end_turn()
        touched: Accesses = {}
        for segment in self.segments[self._first :]:
            merge(touched, segment.accesses)
        return touched

    def end_turn(self) -> None:
        """Complete the segments of the turn, since no task can run any more."""
        if self._runs_woken:
            for task in list(self._woken):  # they have run, and touched nothing
                self._begin(task)
        for segment in self.segments[self._first :]:
            if segment.task is not None:
                is_opaque = self._needs_declaration and not segment.is_declared
                if not self._are_of_threads:
                    add_access(segment.accesses, EVERYTHING, "w" if is_opaque else "u")
                    continue
                add_access(segment.accesses, EVERYTHING, "u")
                if self._needs_declaration and not segment.is_exact:
                    add_access(segment.accesses, PROGRAM, "w" if is_opaque else "u")

    def _begin(self, task: TaskNode) -> Segment:
        accesses: Accesses = {} if self._are_of_threads else {(CANCELLATION, task.path): "u"}
        segment = Segment(task.path, self._turn, accesses=accesses, because=self._woken.pop(task, []))
        self._add(task, segment)
        self._running = task
        self._declared = ()
        region = self._regions.get(task)
        if region:
            segment.is_declared = True
            for resource, mode in region:
                add_access(segment.accesses, resource, mode)
        return segment

    def _add(self, task: TaskNode | None, segment: Segment) -> None:
        self.segments.append(segment)
        self._tasks.append(task)

    def segment(self, task: TaskNode) -> Segment:
        """Return the running segment of a task."""
        if self._running is task and task not in self._woken:
            return self.segments[-1]
        return self._begin(task)

    def pend(self, task: TaskNode, label: int, accesses: Accesses, *, may_wait: bool) -> None:
        """Note what a task would touch that waits at the end of the run, held at a label."""
        self._turn += 1
        add_access(accesses, EVERYTHING, "u")
        segment = Segment(task.path, self._turn, is_chosen=True, accesses=accesses, pending=label, may_wait=may_wait)
        self._add(task, segment)

    # Called by what a program does.

    def accesses(self, task: TaskNode) -> Accesses:
        """Return what the running step of a task touches, to add to."""
        return self.segment(task).accesses

    def leave(self, task: TaskNode) -> None:
        """Note that the explored part ends, so that what other tasks would still do comes too late for its result."""
        add_access(self.segment(task).accesses, EVERYTHING, "w")

    def touch(self, task: TaskNode, resource: Hashable, mode: Mode) -> None:
        """Note that the running step of a task touches a resource that the program has declared."""
        segment = self.segment(task)
        segment.is_declared = True
        add_access(segment.accesses, resource, mode)

    def split(self, task: TaskNode, because: int | None = None) -> None:
        """Begin a new segment of the running task, which could not have run before segment *because*."""
        before, declared = self.segment(task), self._declared
        segment = self._begin(task)
        segment.is_declared = before.is_declared
        self.declare_step(task, declared)
        if because is not None:
            segment.because.append(because)

    def follow(self, task: TaskNode, because: Iterable[int]) -> None:
        """Take note that the running segment could not have run before any of these, since its task waited for all."""
        self.segment(task).because.extend(because)

    def mark(self, task: TaskNode) -> int:
        """Return the number of the running segment, to be used as *because* later."""
        self.segment(task)
        return len(self.segments) - 1

    def declare_step(self, task: TaskNode, declared: Declared) -> None:
        """Declare what the running step of a task touches, until it is suspended."""
        self.segment(task)
        self._declared = (*self._declared, *declared)
        for resource, mode in declared:
            self.touch(task, resource, mode)

    def enter_region(self, task: TaskNode, declared: Declared) -> None:
        """Declare what the steps of a task touch from here on, including the running one."""
        self._regions.setdefault(task, Counter()).update(declared)
        for resource, mode in declared:
            self.touch(task, resource, mode)

    def leave_region(self, task: TaskNode, declared: Declared) -> None:
        """End what `enter_region` has begun."""
        region = self._regions[task]
        region.subtract(declared)
        self._regions[task] = +region
