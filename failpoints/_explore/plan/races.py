"""Finds the races of a run: pairs of segments that meet, and that nothing else puts in order.

A segment is what a task does between two suspensions, or a part of that. The order of the segments of one task is
fixed, and so is that of a segment and another one that made it possible. Two other segments that meet have been run in
one order and might be run in the other.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
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
        is_exact: Whether it is an operation of a primitive and nothing else, in a thread.
        may_wait: Whether such an operation had to wait, or would have had to at another time, for several others.
        pending: If the run ended before it, because it would still have to wait, the label at which its task was held.
    """

    task: TaskPath | None
    turn: int
    is_chosen: bool = False
    accesses: Accesses = field(default_factory=dict[Hashable, Mode])
    because: list[int] = field(default_factory=list[int])
    is_declared: bool = False
    is_exact: bool = False
    may_wait: bool = False
    pending: int | None = None


class _History:
    """The last accesses to a resource: those that commute with each other, and the ones before, as bits."""

    __slots__ = ("before", "last", "mode")

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.last = 0
        self.before = 0


class HappensBefore:
    """The partial order of the segments of a run.

    Attributes:
        before: For each segment, a bit for each one that comes before it in every equivalent run.
        caused: For each segment, a bit for each one without which it could not have run, whatever they touch.
        races: The pairs of segments that are in order only because they meet.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.before: list[int] = []
        self.caused: list[int] = []
        self.races: list[tuple[int, int]] = []
        last_of: dict[TaskPath | None, int] = {}  # as a bit
        histories: dict[Hashable, _History] = {}
        for index, segment in enumerate(segments):
            bit = 1 << index
            fixed = last_of.get(segment.task, 0)
            for cause in segment.because:
                fixed |= 1 << cause
            last_of[segment.task] = bit
            causes = fixed
            for resource, mode in segment.accesses.items():
                history = histories.get(resource)
                if history is None and segment.pending is not None:
                    continue
                if history is None:
                    history = histories[resource] = _History(mode)
                elif segment.pending is not None:  # it was not run, so it is not before any other one
                    causes |= history.last if mode != history.mode or mode == "w" else history.before
                    continue
                elif mode != history.mode or mode == "w":
                    history.mode = mode
                    history.before, history.last = history.last, 0
                history.last |= bit
                causes |= history.before
            self.before.append(self._with_all_before(causes & ~bit, self.before, fixed))
            self.caused.append(self._with_all_before(fixed, self.caused, fixed))

    def _with_all_before(self, causes: int, before: Sequence[int], fixed: int) -> int:
        """Return the causes of the next segment and all that come before these. Add the races that are found."""
        found = 0
        while causes:  # the latest one, which no other one comes after
            cause = causes.bit_length() - 1
            found |= before[cause] | 1 << cause
            causes &= ~found
            if not fixed >> cause & 1:
                self.races.append((cause, len(before)))
        return found

    def is_before(self, earlier: int, later: int) -> bool:
        """Return whether a segment comes before another one in every equivalent run."""
        return bool(self.before[later] >> earlier & 1)


def turns_before(segments: Sequence[Segment], before: Sequence[int], turns: int) -> list[int]:
    """Return, for each turn, a bit for each earlier turn that has to come before it.

    *before* has, for each segment, a bit for each one that has to come before it.
    """
    members, needed = [0] * turns, [0] * turns  # of each turn, a bit for each segment
    for index, segment in enumerate(segments):
        if 0 <= segment.turn < turns:
            members[segment.turn] |= 1 << index
            needed[segment.turn] |= before[index]
    found: list[int] = []
    for turn in range(turns):
        bits = 0
        for earlier in range(turn):
            if needed[turn] & members[earlier]:
                bits |= found[earlier] | 1 << earlier
        found.append(bits)
    return found


def go_with_their_turns(segments: Sequence[Segment]) -> list[bool]:
    """Return, for each segment, whether it is part of its turn wherever that comes.

    That is what the chosen task does first, and what nothing but that, or such a segment, has woken. A task that has
    also waited for another turn goes on in the later one of the two.
    """
    found: list[bool] = []
    last_of: dict[TaskPath | None, int] = {}
    for index, segment in enumerate(segments):
        causes = list(segment.because)
        before = last_of.get(segment.task)
        if before is not None and segments[before].turn == segment.turn:
            causes.append(before)
        are_of_turn = [found[cause] and segments[cause].turn == segment.turn for cause in causes]
        found.append(segment.is_chosen or (bool(causes) and all(are_of_turn)))
        last_of[segment.task] = index
    return found
