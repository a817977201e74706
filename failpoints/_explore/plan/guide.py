"""How a run decides: by a plan of the search, or by a replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .places import IN_THREAD, Labels, Place
from .search import Plan, Trail

MOST_FAULTS_AT_A_VISIT = 10  # in one run: a loop that retries for ever would go on as long as it is made to fail
MOST_TURNS_AT_A_VISIT = 100  # in one run: a loop that polls can be let go again and again
_MOST_TURNS_IN_A_ROW = 100  # of one task while others are held, where no preemption is left


class Guide(Protocol):
    """What a run asks when there is something to decide.

    `bounds` are what cut the orders short.
    """

    bounds: set[str]

    def turn(self, options: list[Place], held: dict[Place, int], last: Place | None) -> Place:
        """Which task is to go on: of two or more, the one that was let go longest ago first."""
        ...

    def fault(self, label: int, at: tuple[tuple[int, ...], str, str], options: int) -> int:
        """Which of so many faults to inject at a visit, counted from 1; 0 for none."""
        ...

    def repeats(self) -> None:
        """A task has come to the same visit very often."""


@dataclass(frozen=True, slots=True)
class Stray:
    """Where a run left its plan: at the decision of this number, what was expected there, and what came."""

    position: int
    expected: int
    found: int | None


class Planned:
    """Follows a plan of the search, and takes down every decision."""

    def __init__(
        self,
        plan: Plan,
        labels: Labels,
        *,
        max_faults: int,
        max_preemptions: int | None = None,
        continuing: bool = False,
        fixed_faults: dict[int, int] | None = None,
    ) -> None:
        self.plan = plan
        self.trail = Trail()
        self.stray: Stray | None = None
        self.bounds: set[str] = set()
        self._labels = labels
        self._faults_left = max_faults
        self._preemptions_left = max_preemptions
        self._continuing = continuing
        self._fixed_faults = fixed_faults
        self._turns_in_a_row = 0
        self._faults_at: dict[object, int] = {}
        self._unmet = dict(plan.faults)
        self._has_threads = False
        self.is_lost = False  # it left the plan, as what threads do can: nothing can be made of where it went
        self._repeats = False

    def turn(self, options: list[Place], held: dict[Place, int], last: Place | None) -> Place:
        """Which task is to go on."""
        if last not in held:
            last = None
        if self._repeats:
            self.bounds.add("repeats")
            return options[0]
        if self._continuing:
            options = by_continuing(options, last)
        if last is not None and self._preemptions_left == 0 and self._turns_in_a_row < _MOST_TURNS_IN_A_ROW:
            self.bounds.add("max_preemptions")
            self._turns_in_a_row += 1
            return last
        label = self._labels.number(tuple(map(held.__getitem__, options)))
        chosen = options[self._decide(label, len(options), is_fault=False)]
        if chosen is last:
            self._turns_in_a_row += 1
        else:
            self._turns_in_a_row = 0
            if last is not None and self._preemptions_left:
                self._preemptions_left -= 1
        return chosen

    def fault(self, label: int, at: tuple[tuple[int, ...], str, str], options: int) -> int:
        """Which fault to inject, 0 for none."""
        self._has_threads = self._has_threads or at[0][-1:] == (IN_THREAD,)
        if self._fixed_faults is not None:
            return min(self._fixed_faults.get(label, 0), options)
        if not self._faults_left:
            return 0
        if self._faults_at.get(at, 0) >= MOST_FAULTS_AT_A_VISIT:
            self.bounds.add("faults at a visit")
            return 0
        chosen = self._decide(label, options + 1, is_fault=True)
        if chosen:
            self._faults_left -= 1
            self._faults_at[at] = self._faults_at.get(at, 0) + 1
            self._unmet.pop(label, None)
        return chosen

    def repeats(self) -> None:
        """No more is tried in this run."""
        self._repeats = True

    def _decide(self, label: int, options: int, *, is_fault: bool) -> int:
        position = len(self.trail)
        chosen = 0
        if position < self.plan.length:
            expected = self.plan.labels[position]
            if expected != label and self.stray is None:
                self.stray = Stray(position, expected, label)
            if not is_fault and self.stray is None:
                chosen = self.plan.choices[position]
        if is_fault:
            chosen = self.plan.faults.get(label, 0)
        if chosen >= options:
            self.stray = self.stray or Stray(position, label, None)
            chosen = 0
        self.trail.add(label, options, chosen, is_fault=is_fault)
        return chosen

    def diverged(self, *, orders: bool) -> Stray | None:
        """Where the run that has ended did not follow the plan, if so.

        Without orders, visits may have come in another order: what counts is that each planned fault was met.
        """
        if self._has_threads and (self.stray is not None or self._unmet or len(self.trail) < self.plan.length):
            self.bounds.add("arrival")
            self.is_lost = True
            return None
        if self.stray is not None and orders:
            return self.stray
        if self._unmet:
            label = next(iter(self._unmet))
            return self.stray or Stray(len(self.trail), label, None)
        if len(self.trail) < self.plan.length:
            return Stray(len(self.trail), self.plan.labels[len(self.trail)], None)
        if self.stray is not None:
            self.bounds.add("arrival")
        return None


def by_continuing(options: Sequence[Place], last: Place | None) -> list[Place]:
    """The same tasks, with the one that was let go last before the others, if it is held again."""
    if last is None or last not in options:
        return list(options)
    return [last, *(place for place in options if place is not last)]
