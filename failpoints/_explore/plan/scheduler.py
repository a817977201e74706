"""The decisions of a run: which task goes on next, and which fault to inject."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from .accesses import Accesses
from .identity import IN_THREAD, TaskNode, VisitKey
from .search import Plan, Trace

MAX_FAULTS_AT_A_VISIT = 10  # per run, since a loop that retries for ever goes on as long as it is made to fail
MAX_TURNS_AT_A_VISIT = 100  # per run, since a loop that polls can be released again and again
_MAX_TURNS_IN_A_ROW = 100  # of one task while others are held and no preemption is left
_LATE: Final = frozenset(
    {"blocked thread", "sockets", "threads"}
)  # the bounds on waiting for answers from outside the run

Touched: TypeAlias = Callable[[], Accesses]
"""Returns what was touched since the last choice of a task."""

Interleavings: TypeAlias = Literal["visits", "awaits"]
"""Where tasks are held: at their visits, or at every wake-up."""


class Scheduler(Protocol):
    """Makes the decisions of one run.

    Attributes:
        bounds: The keys of the limits that made the run leave out orders or faults.
        interleavings: Where tasks are held until `next_task` chooses them. `None` for nowhere.
        injects_faults: Whether visits ask `choose_fault`.
        is_reduced: Whether equivalent orders are left out. Then `next_task` is asked although a single task is held.
    """

    bounds: set[str]
    interleavings: Interleavings | None
    injects_faults: bool
    is_reduced: bool

    def next_task(
        self, options: list[TaskNode], held: Mapping[TaskNode, int], last: TaskNode | None, touched: Touched
    ) -> TaskNode | None:
        """Choose the next task. *options* are ordered by how long ago each last ran.

        *held* has the label of the visit or the wake-up at which each one is held, *last* is the task that ran last,
        and *touched* returns what was touched since the last choice. Returns `None` to end the run.
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

    `expected` has the labels of the visits that the decision is about in the plan, and `found` those in the run, or
    `None` if the run ended before it.
    """

    position: int
    expected: tuple[int, ...]
    found: tuple[int, ...] | None


class PlannedScheduler:
    """Follows a plan of the search, and records every decision.

    Args:
        plan: The faults, and the orders. After what these have planned, the first option is taken each time.
        interleavings: Where tasks are held.
        max_faults: The most faults to inject in the run.
        max_preemptions: The most switches away from a task that could go on, or `None` for no limit.
        continuing: Whether the first option is the task that ran last, rather than the one that waited longest.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        interleavings: Interleavings | None = None,
        max_faults: int = 0,
        max_preemptions: int | None = None,
        continuing: bool = False,
    ) -> None:
        self.plan = plan
        self.trace = Trace()
        self.bounds: set[str] = set()
        self.interleavings: Interleavings | None = interleavings
        self.injects_faults = bool(max_faults or plan.faults)
        self.is_reduced = plan.orders is not None and plan.orders.is_reduced
        self.is_asleep = False  # it ended early, since all that could follow has been run
        self.is_unusable = False  # it left the plan because of a thread, so it must not guide the search
        self._divergence: Divergence | None = None
        self._faults_left = max_faults
        self._preemptions_left = max_preemptions
        self._continuing = continuing
        self._turns = 0
        self._turns_in_a_row = 0
        self._faults_at: dict[VisitKey, int] = {}
        self._unmet = dict(plan.faults)
        self._has_threads = False
        self._repeats = False
        self._has_fixed_order = interleavings is None or (plan.is_ordinary and not plan.is_begun)
        if plan.orders is not None:
            plan.orders.begin()

    def next_task(
        self, options: list[TaskNode], held: Mapping[TaskNode, int], last: TaskNode | None, touched: Touched
    ) -> TaskNode | None:
        """Choose the next task by the plan."""
        if last not in held:
            last = None
        if self._repeats:
            if len(options) > 1:
                self.bounds.add("repeats")
            return options[0]
        if self._continuing:
            options = last_one_first(options, last)
        if last is not None and self._preemptions_left == 0 and self._turns_in_a_row < _MAX_TURNS_IN_A_ROW:
            self.bounds.add("max_preemptions")
            self._turns_in_a_row += 1
            return last
        chosen = self._choose(options, held, touched)
        if chosen is last:
            self._turns_in_a_row += 1
        else:
            self._turns_in_a_row = 0
            if last is not None and self._preemptions_left:
                self._preemptions_left -= 1
        return chosen

    def _choose(self, options: list[TaskNode], held: Mapping[TaskNode, int], touched: Touched) -> TaskNode | None:
        orders = self.plan.orders
        if orders is None or self._divergence is not None:
            return options[0]
        labels = tuple(map(held.__getitem__, options))
        planned = orders.planned
        if planned is not None and planned != labels:
            self._divergence = Divergence(self._turns, planned, labels)
            return options[0]
        self._turns += 1
        chosen = orders.choose(labels, touched)
        if chosen is None:
            self.is_asleep = True
            return None
        return options[labels.index(chosen)]

    def choose_fault(self, label: int, key: VisitKey, alternatives: int) -> int:
        """Choose a fault by the plan."""
        self._has_threads = self._has_threads or key[0][-1:] == (IN_THREAD,)
        if not self._faults_left:
            return 0
        if self._faults_at.get(key, 0) >= MAX_FAULTS_AT_A_VISIT:
            self.bounds.add("faults at a visit")
            return 0
        position = len(self.trace)
        expected = self.plan.expected
        if (
            self._has_fixed_order
            and self._divergence is None
            and expected[position : position + 1] not in ([], [label])
        ):
            self._divergence = Divergence(position, (expected[position],), (label,))
        chosen = self.plan.faults.get(label, 0)
        if chosen > alternatives:
            self._divergence = self._divergence or Divergence(position, (label,), None)
            chosen = 0
        self.trace.add(label, key[0], alternatives, chosen)
        if chosen:
            self._faults_left -= 1
            self._faults_at[key] = self._faults_at.get(key, 0) + 1
            self._unmet.pop(label, None)
        return chosen

    def visit_repeats(self) -> None:
        """Stop deciding about orders in this run."""
        self._repeats = True

    def find_divergence(self, bounds: set[str]) -> Divergence | None:
        """Return where the run, which has ended, left its plan, or `None` if it did not.

        *bounds* has the bounds of the runs before. An answer that comes too late comes at another moment in each run.
        If tasks are not held, visits may be made in another order than planned. Then the run has followed its plan
        if it met every planned fault.
        """
        found = self._divergence or self._missing()
        if found is None or self.is_asleep:
            return None
        if self._has_threads or _LATE & (bounds | self.bounds):
            self.bounds.add("arrival")
            self.is_unusable = True
            return None
        if self.interleavings is None and self._divergence is not None and not self._unmet:
            self.bounds.add("arrival")
            return None
        return found

    def _missing(self) -> Divergence | None:
        orders, expected = self.plan.orders, self.plan.expected
        planned = None if orders is None or self._repeats else orders.planned
        if planned is not None:
            return Divergence(self._turns, planned, None)
        if self._has_fixed_order and (self._unmet or len(self.trace) < len(expected)):
            position = min(len(self.trace), len(expected) - 1)
            return Divergence(position, (expected[position],), None)
        return None


def last_one_first(options: Sequence[TaskNode], last: TaskNode | None) -> list[TaskNode]:
    """Return the tasks with the one that ran last at the front, if it is among them."""
    if last is None or last not in options:
        return list(options)
    return [last, *(task for task in options if task is not last)]
