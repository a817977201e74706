"""The steps of a run: what each task touches between two of its suspensions.

Two steps meet if they touch the same resource and one of them writes it. Orders that differ only in steps that do not
meet are one order.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal, TypeAlias

from .plan.identity import TaskNode

Mode: TypeAlias = Literal["r", "w", "u"]
"""How a resource is touched: read, written, or updated in a way that commutes with other updates."""

Accesses: TypeAlias = Sequence[tuple[Hashable, Mode]]


class Step:
    """What a task did since it was last let go, as far as it is known."""

    __slots__ = ("is_declared", "touched")

    def __init__(self) -> None:
        self.touched: dict[tuple[Hashable, Mode], None] = {}
        self.is_declared = False


class Steps:
    """The steps that the tasks of a run are in."""

    def __init__(self) -> None:
        self._running: dict[TaskNode, Step] = {}
        self._regions: dict[TaskNode, list[Accesses]] = {}

    def running(self, task: TaskNode) -> Step:
        """Return the step that a task is in."""
        step = self._running.get(task)
        return self.begin(task) if step is None else step

    def begin(self, task: TaskNode) -> Step:
        """Begin the next step of a task, in the regions that it has not left."""
        step = self._running[task] = Step()
        for accesses in self._regions.get(task, ()):
            self.declare_step(task, accesses)
        return step

    def touch(self, task: TaskNode, resource: Hashable, mode: Mode) -> None:
        """Note what was seen of the step that a task is in."""
        self.running(task).touched[resource, mode] = None

    def declare_step(self, task: TaskNode, accesses: Accesses) -> None:
        """Note what is declared of the step that a task is in: by its site, or by a use of what is shared."""
        step = self.running(task)
        step.is_declared = True
        step.touched.update(dict.fromkeys(accesses))

    def enter_region(self, task: TaskNode, accesses: Accesses) -> None:
        """Note what is declared of each step of a task, from the one that it is in to that in which it leaves."""
        self.declare_step(task, accesses)
        self._regions.setdefault(task, []).append(accesses)

    def leave_region(self, task: TaskNode, accesses: Accesses) -> None:
        """End a region of a task with the step that the task is in."""
        self._regions[task].remove(accesses)
