"""Finds the races of a run: pairs of segments that meet, and that nothing else puts in order.

A segment is what a task does between two suspensions, or a part of that. The order of the segments of one task is
fixed, and so is that of a segment and another one that made it possible. Two other segments that meet have been run in
one order and might be run in the other.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from .accesses import Accesses, Mode
from .identity import TaskPath


@dataclass(slots=True)
class Segment:
    """A part of a run that one task made without a suspension.

    Attributes:
        task: The path of the task, or `None` for the clock and for everything outside the run.
        turn: The index of the turn in which it was made, or -1 before the first one.
        is_chosen: Whether it is the first step of the task that was chosen for this turn.
        accesses: What it touched.
        because: The indexes of earlier segments that made it possible.
        is_declared: Whether anything of it was declared.
    """

    task: TaskPath | None
    turn: int
    is_chosen: bool = False
    accesses: Accesses = field(default_factory=dict[Hashable, Mode])
    because: list[int] = field(default_factory=list[int])
    is_declared: bool = False


class _History:
    """The last accesses to a resource: those that commute with each other, and the ones before."""

    __slots__ = ("before", "last", "mode")

    def __init__(self) -> None:
        self.mode: Mode | None = None
        self.last: list[int] = []
        self.before: list[int] = []

    def add(self, index: int, mode: Mode) -> list[int]:
        """Add an access, and return the last ones that it does not commute with."""
        if mode != self.mode or mode == "w":
            self.mode = mode
            self.before, self.last = self.last, []
        self.last.append(index)
        return self.before


class HappensBefore:
    """The partial order of the segments of a run. `before[i]` has a bit for each segment that comes before segment i.

    `races` has the pairs of segments that are in order only because they meet.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.before: list[int] = []
        self.races: list[tuple[int, int]] = []
        last_of: dict[TaskPath | None, int] = {}
        histories: dict[Hashable, _History] = {}
        for index, segment in enumerate(segments):
            fixed = set(segment.because)
            if segment.task in last_of:
                fixed.add(last_of[segment.task])
            last_of[segment.task] = index
            met: set[int] = set()
            for resource, mode in segment.accesses.items():
                met.update(histories.setdefault(resource, _History()).add(index, mode))
            met -= fixed
            met.discard(index)
            causes = fixed | met
            bits = 0
            for cause in causes:
                bits |= self.before[cause] | 1 << cause
            self.before.append(bits)
            for cause in met:
                if not any(self.before[other] >> cause & 1 for other in causes):
                    self.races.append((cause, index))

    def is_before(self, earlier: int, later: int) -> bool:
        """Return whether a segment comes before another one in every equivalent run."""
        return bool(self.before[later] >> earlier & 1)


def turns_before(segments: Sequence[Segment], order: HappensBefore, turns: int) -> list[int]:
    """Return, for each turn, a bit for each earlier turn that has to come before it."""
    of_turn = [0] * turns
    for segment, bits in zip(segments, order.before, strict=True):
        if segment.turn >= 0:
            for earlier in _indexes(bits):
                turn = segments[earlier].turn
                if 0 <= turn < segment.turn:
                    of_turn[segment.turn] |= 1 << turn
    for turn in range(turns):
        for earlier in _indexes(of_turn[turn]):
            of_turn[turn] |= of_turn[earlier]
    return of_turn


def _indexes(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
