"""The decisions of a run: which task goes on next, and which fault to inject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .identity import IN_THREAD, Labels, TaskNode, VisitKey
from .search import Plan, Trace

MAX_FAULTS_AT_A_VISIT = 10  # per run, since a loop that retries for ever goes on as long as it is made to fail
MAX_TURNS_AT_A_VISIT = 100  # per run, since a loop that polls can be released again and again
_MAX_TURNS_IN_A_ROW = 100  # of one task while others are held and no preemption is left


class Scheduler(Protocol):
    """Makes the decisions of one run.

    Attributes:
        bounds: The keys of the limits that made the run leave out orders or faults.
        holds_tasks: Whether async visits hold their task until `next_task` chooses it.
        injects_faults: Whether visits ask `choose_fault`.
    """

    bounds: set[str]
    holds_tasks: bool
    injects_faults: bool

    def next_task(self, options: list[TaskNode], held: Mapping[TaskNode, int], last: TaskNode | None) -> TaskNode:
        """Choose the next task. *options* has two or more, ordered by how long ago each last ran.

        *held* has the label of the visit at which each one is held, and *last* is the task that ran last.
        """
        ...

    def choose_fault(self, label: int, key: VisitKey, alternatives: int) -> int:
        """Choose which of the *alternatives* to inject at a visit, counted from 1. Return 0 for none."""
        ...

    def visit_repeats(self) -> None:
        """Take note that a task has made the same visit `MAX_TURNS_AT_A_VISIT` times."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first decision at which a run did not follow its plan.

    `expected` is the label of the decision in the plan, and `found` that of the run's decision, or `None` if the run
    ended before it.
    """

    position: int
    expected: int
    found: int | None


class PlannedScheduler:
    """Follows a plan of the search, and records every decision.

    Args:
        plan: The first decisions. After these, the first option is taken each time.
        labels: The labels of the whole exploration.
        holds_tasks: Whether the order of tasks is decided here.
        max_faults: The most faults to inject in the run.
        max_preemptions: The most switches away from a task that could go on, or `None` for no limit.
        continuing: Whether the first option is the task that ran last, rather than the one that waited longest.
        fixed_faults: Exactly the faults to inject, by label, instead of those in the plan.
    """

    def __init__(
        self,
        plan: Plan,
        labels: Labels,
        *,
        holds_tasks: bool,
        max_faults: int = 0,
        max_preemptions: int | None = None,
        continuing: bool = False,
        fixed_faults: Mapping[int, int] | None = None,
    ) -> None:
        self.plan = plan
        self.trace = Trace()
        self.bounds: set[str] = set()
        self.holds_tasks = holds_tasks
        self.injects_faults = bool(max_faults or fixed_faults)
        self.is_unusable = False  # it left the plan because of a thread, so its trace must not guide the search
        self._divergence: Divergence | None = None
        self._labels = labels
        self._faults_left = max_faults
        self._preemptions_left = max_preemptions
        self._continuing = continuing
        self._fixed_faults = fixed_faults
        self._turns_in_a_row = 0
        self._faults_at: dict[VisitKey, int] = {}
        self._unmet = dict(plan.faults)
        self._has_threads = False
        self._repeats = False

    def next_task(self, options: list[TaskNode], held: Mapping[TaskNode, int], last: TaskNode | None) -> TaskNode:
        """Choose the next task by the plan."""
        if last not in held:
            last = None
        if self._repeats:
            self.bounds.add("repeats")
            return options[0]
        if self._continuing:
            options = last_one_first(options, last)
        if last is not None and self._preemptions_left == 0 and self._turns_in_a_row < _MAX_TURNS_IN_A_ROW:
            self.bounds.add("max_preemptions")
            self._turns_in_a_row += 1
            return last
        label = self._labels.of_turn(tuple(map(held.__getitem__, options)))
        chosen = options[self._decide(label, len(options), is_fault=False)]
        if chosen is last:
            self._turns_in_a_row += 1
        else:
            self._turns_in_a_row = 0
            if last is not None and self._preemptions_left:
                self._preemptions_left -= 1
        return chosen

    def choose_fault(self, label: int, key: VisitKey, alternatives: int) -> int:
        """Choose a fault by the plan."""
        self._has_threads = self._has_threads or key[0][-1:] == (IN_THREAD,)
        if self._fixed_faults is not None:
            return min(self._fixed_faults.get(label, 0), alternatives)
        if not self._faults_left:
            return 0
        if self._faults_at.get(key, 0) >= MAX_FAULTS_AT_A_VISIT:
            self.bounds.add("faults at a visit")
            return 0
        chosen = self._decide(label, alternatives + 1, is_fault=True)
        if chosen:
            self._faults_left -= 1
            self._faults_at[key] = self._faults_at.get(key, 0) + 1
            self._unmet.pop(label, None)
        return chosen

    def visit_repeats(self) -> None:
        """Stop deciding about orders in this run."""
        self._repeats = True

    def _decide(self, label: int, options: int, *, is_fault: bool) -> int:
        position = len(self.trace)
        chosen = 0
        if position < self.plan.length:
            expected = self.plan.labels[position]
            if expected != label and self._divergence is None:
                self._divergence = Divergence(position, expected, label)
            if not is_fault and self._divergence is None:
                chosen = self.plan.choices[position]
        if is_fault:
            chosen = self.plan.faults.get(label, 0)
        if chosen >= options:
            self._divergence = self._divergence or Divergence(position, label, None)
            chosen = 0
        self.trace.add(label, options, chosen, is_fault=is_fault)
        return chosen

    def find_divergence(self) -> Divergence | None:
        """Return where the run, which has ended, left its plan, or `None` if it did not.

        If tasks are not held, visits may be made in another order than planned. Then the run has followed its plan
        if it met every planned fault.
        """
        if self._has_threads and (self._divergence or self._unmet or len(self.trace) < self.plan.length):
            self.bounds.add("arrival")
            self.is_unusable = True
            return None
        if self._divergence is not None and self.holds_tasks:
            return self._divergence
        if self._unmet:
            label = next(iter(self._unmet))
            return self._divergence or Divergence(len(self.trace), label, None)
        if len(self.trace) < self.plan.length:
            return Divergence(len(self.trace), self.plan.labels[len(self.trace)], None)
        if self._divergence is not None:
            self.bounds.add("arrival")
        return None


def last_one_first(options: Sequence[TaskNode], last: TaskNode | None) -> list[TaskNode]:
    """Return the tasks with the one that ran last at the front, if it is among them."""
    if last is None or last not in options:
        return list(options)
    return [last, *(task for task in options if task is not last)]
