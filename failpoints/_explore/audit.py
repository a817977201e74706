"""The audit: runs steps that were said not to meet in the other order, and compares how the two runs end."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from .plan.fixed_order import FixedOrder
from .plan.identity import IN_THREAD, TaskPath, Visit
from .plan.scheduler import PlannedScheduler
from .plan.search import Plan
from .plan.swaps import Swap, swaps_of
from .report import summary
from .runner import Outcome, Runner


@dataclass(frozen=True, slots=True)
class Found:
    """Two turns whose order makes a difference, although they were said not to meet.

    Attributes:
        visits: Where the two turns began.
        difference: What the first run has, and what the second one has instead.
        one: The run with the turns as they were explored.
        other: The run in which they are exchanged.
    """

    visits: tuple[Visit, Visit]
    difference: tuple[str, str]
    one: Outcome
    other: Outcome


class Nondeterministic(Exception):
    """Equal runs end in different ways, so nothing can be said about two orders."""


class Audit:
    """Chooses pairs of turns, exchanges them, and compares.

    It takes a share of the pairs of visits or wake-ups, and at least one for each two names.

    Args:
        runner: Runs the scenario. The runs that are audited must have been recorded.
        share: The share of the pairs.
    """

    def __init__(self, runner: Runner, share: float) -> None:
        self.runs = 0
        self.runner = runner
        self._share = share
        self._random = random.Random(0)
        self._pairs: set[frozenset[int]] = set()
        self._audited: set[frozenset[int]] = set()
        self._names: set[frozenset[str]] = set()

    def examine(self, outcome: Outcome, plan: Plan) -> Found | None:
        """Exchange turns of a run, and return the first two whose order makes a difference.

        Raises `Nondeterministic` if equal runs end in different ways.
        """
        swaps = swaps_of(tuple(outcome.execution.order), outcome.execution.segments)
        pairs = {frozenset(swap.labels): swap for swap in reversed(swaps)}  # of equal pairs, that of neighbours
        self._pairs.update(pairs)
        first_of_names = [swap for swap in swaps if self._names_of(swap) not in self._names]
        others = list(pairs.values())
        self._random.shuffle(others)
        for swap in (*first_of_names, *others):
            pair, names = frozenset(swap.labels), self._names_of(swap)
            is_due = names not in self._names or len(self._audited) < self._share * len(self._pairs)
            if pair in self._audited or not is_due:
                continue
            self._audited.add(pair)
            self._names.add(names)
            swapped = self._run(plan, swap.swapped)
            if _difference(outcome, swapped) is not None:
                return self._narrowed(swap, outcome, swapped, plan)
        return None

    def _names_of(self, swap: Swap) -> frozenset[str]:
        return frozenset(map(self._name, swap.labels))

    def _name(self, label: int) -> str:
        visit = self.runner.labels.visit(label)
        return visit.name or f"wake-up of {visit.path}"

    def _narrowed(self, swap: Swap, outcome: Outcome, swapped: Outcome, plan: Plan) -> Found:
        """Find the two turns that make the difference, after the two runs were seen to end in the same way again."""
        if _difference(outcome, self._run(plan, swap.order)) or _difference(swapped, self._run(plan, swap.swapped)):
            raise Nondeterministic
        one = outcome
        for order, labels in swap.exchanges():
            other = self._run(plan, order)
            difference = _difference(one, other)
            if difference is not None:
                first, second = map(self.runner.labels.visit, labels)
                return Found((first, second), difference, one, other)
            one = other
        raise Nondeterministic

    def _run(self, plan: Plan, order: tuple[int, ...]) -> Outcome:
        self.runs += 1
        scheduler = PlannedScheduler(
            Plan(plan.faults, [], FixedOrder(order), is_ordinary=False),
            interleavings=self.runner.options.held_at,
            max_faults=len(plan.faults),
        )
        return self.runner.run(scheduler, recording=True)


def _difference(one: Outcome, other: Outcome) -> tuple[str, str] | None:
    """Return in what two runs differ, as it is in each, or `None` if they end alike."""
    if one.problem is None or not one.problem.is_like(other.problem):
        ends = tuple("no failure" if each.problem is None else summary(each.problem) for each in (one, other))
        if ends[0] != ends[1]:
            return ends[0], ends[1]
    visits, others = _visits_by_task(one), _visits_by_task(other)
    for path in sorted({*visits, *others}):
        if visits[path] != others[path]:
            return _first_difference(visits[path], others[path], "no further visit of the task")
    return _first_difference(one.observed, other.observed, "nothing") if one.observed != other.observed else None


def _visits_by_task(outcome: Outcome) -> defaultdict[TaskPath, list[str]]:
    visits: defaultdict[TaskPath, list[str]] = defaultdict(list)
    assert outcome.timeline is not None
    for visit in outcome.timeline.visits:
        if IN_THREAD not in visit.path:  # threads have no order
            visits[visit.path].append(f"{visit.name} {visit.context}".rstrip())
    return visits


def _first_difference(one: Sequence[str], other: Sequence[str], nothing: str) -> tuple[str, str]:
    pairs = itertools.zip_longest(one, other, fillvalue=nothing)
    return next((each, instead) for each, instead in pairs if each != instead)
