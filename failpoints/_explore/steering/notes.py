"""Records what the operations of primitives touch, as segments of the run."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, cast

from ..execution import Execution
from ..plan.accesses import EVERYTHING, Mode, add_access
from ..plan.identity import TaskNode
from .steered import Steered


class Notes:
    """What the operations of one run touch.

    Attributes:
        running: The thread whose operations are noted.
    """

    running: Steered

    @property
    def node(self) -> TaskNode:
        """The running thread, in the tree of tasks."""
        return self.running.node

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self._marks: dict[Hashable, int] = {}

    def name(self, thing: Any) -> Hashable:
        """Return the name of a primitive: the thing itself if it was made outside the run."""
        if isinstance(thing, TaskNode):
            return thing.path
        named: tuple[Notes, Hashable] | None = getattr(thing, "_failpoints_name", None)
        return named[1] if named is not None and named[0] is self else cast(Hashable, thing)

    def create(self, thing: Any) -> None:
        """Name a primitive that the running thread has made, with the same name in every run."""
        node = self.node
        node.created += 1
        thing._failpoints_name = (self, (node.path, node.created))  # noqa: SLF001

    def note(self, thing: Any, mode: Mode, *parts: str) -> None:
        """Note that the running operation touches parts of a primitive, and nothing but primitives."""
        steps = self.execution.steps
        if steps is not None:
            segment = steps.segment(self.node)
            segment.is_exact = self.execution.holds_threads
            name = self.name(thing)
            for part in parts:
                add_access(segment.accesses, (name, part), mode)
            segment.may_wait = segment.may_wait or bool(self.running.wants)

    def note_nothing(self) -> None:
        """Note that the running step touches nothing but primitives."""
        steps = self.execution.steps
        if steps is not None:
            steps.segment(self.running.node).is_exact = self.execution.holds_threads

    def touch(self, thing: Any, mode: Mode, part: str) -> None:
        """Note that the running step touches a part of a primitive, in the middle of other things."""
        steps = self.execution.steps
        if steps is not None:
            add_access(steps.accesses(self.node), (self.name(thing), part), mode)

    def touch_everything(self) -> None:
        """Note that the running step meets every other one."""
        steps = self.execution.steps
        if steps is not None:
            add_access(steps.accesses(self.node), EVERYTHING, "w")

    def mark(self) -> int | None:
        """Return the number of the running segment."""
        steps = self.execution.steps
        return None if steps is None else steps.mark(self.node)

    def set_mark(self, thing: Any) -> None:
        """Remember the running segment as the one that has last made something possible."""
        steps = self.execution.steps
        if steps is not None:
            self._marks[self.name(thing)] = steps.mark(self.node)

    def split(self, *because: int | None) -> None:
        """Begin a new segment of the running operation, which could not have run before these."""
        steps = self.execution.steps
        if steps is not None and not self.running.is_atomic:  # else what it touches first puts it in order
            for mark in because:
                if mark is not None:
                    steps.split(self.node, mark)
                    steps.segments[-1].is_exact = self.execution.holds_threads

    def mark_of(self, thing: Any) -> int | None:
        """Return the segment that was remembered for a primitive."""
        return self._marks.get(self.name(thing))
