"""The search: takes the decisions of each run, and returns the plan of the next. Pure: knows no loop, no failpoint.

A plan consists of the faults to inject and, among the orders of the tasks with these faults, the next one to run. The
first plan has no faults. Each run shows at which further visits a fault can be injected, after those that it has.

The first order of each plan comes first, fewest faults first. The other orders follow, depth first: those without a
fault, then those with one, and so on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from .identity import TaskPath
from .orders import Orders


class Plan:
    """The faults of a run, and its place among the orders of the runs with these faults.

    Attributes:
        faults: The alternative to inject, by the label of the visit.
        expected: The labels of the visits at which a run can inject a fault, up to the last one of `faults`, if the
            order of the tasks is always the same.
        orders: The orders with these faults, or `None` if the order of the tasks is not explored.
        is_ordinary: Whether the faults were found in runs with the first order of the tasks.
        is_begun: Whether it has been run.
    """

    __slots__ = ("expected", "faults", "is_begun", "is_ordinary", "orders")

    def __init__(
        self, faults: Mapping[int, int], expected: list[int], orders: Orders | None, *, is_ordinary: bool = True
    ) -> None:
        self.faults = faults
        self.expected = expected
        self.orders = orders
        self.is_ordinary = is_ordinary
        self.is_begun = False


class Trace:
    """The visits of a run at which a fault could be injected, in order.

    For each one, `labels` has its label, `tasks` its task, `options` the number of alternatives, and `choices` the
    injected one, from 1, or 0 for none.
    """

    __slots__ = ("choices", "labels", "options", "tasks")

    def __init__(self) -> None:
        self.labels: list[int] = []
        self.tasks: list[TaskPath] = []
        self.options: list[int] = []
        self.choices: list[int] = []

    def __len__(self) -> int:
        return len(self.choices)

    def add(self, label: int, task: TaskPath, options: int, chosen: int) -> None:
        """Record a visit."""
        self.labels.append(label)
        self.tasks.append(task)
        self.options.append(options)
        self.choices.append(chosen)


class Search:
    """Generates a plan for every set of at most *max_faults* faults, and for every order of the tasks with it.

    Call `next`, run the plan, let its orders know how the run went, and call `record`, until `next` returns `None`.

    Args:
        max_faults: The most faults in one run.
        new_orders: Makes the orders of a new set of faults. `None` if the order of the tasks is not explored.
    """

    def __init__(self, max_faults: int, new_orders: Callable[[], Orders] | None = None) -> None:
        self._max_faults = max_faults
        self._new_orders = new_orders
        self._faults = 0  # of the plans of which the orders are run
        self._first: Plan | None = self._plan({}, [])
        # The plans with one fault more than a run that was made: those of the ordinary order, one level of the tree
        # after the other, and those of the other orders, by number of faults.
        self._levels: deque[Iterator[Plan]] = deque()
        self._others: list[deque[Iterator[Plan]]] = [deque() for _ in range(max_faults + 1)]
        self._unfinished: list[deque[Plan]] = [deque() for _ in range(max_faults + 1)]  # whose orders are not all run
        self._known: set[frozenset[tuple[int, int]]] = set()  # since several orders lead to the same faults
        self._pending = 1  # plans of other faults that are known, and that `next` has not returned yet

    @property
    def queued(self) -> int:
        """The number of plans that are known, and that `next` has not returned yet."""
        orders = (plan.orders for plans in self._unfinished for plan in plans)
        return self._pending + sum(each.queued for each in orders if each is not None)

    def next(self) -> Plan | None:
        """Return the next plan, or `None` if there is nothing left to try."""
        if self._first is not None:
            first, self._first = self._first, None
            self._pending -= 1
            return first
        plan = _first_of(self._levels)
        while plan is None and self._faults <= self._max_faults:
            plan = self._with_another_order(self._unfinished[self._faults]) or _first_of(self._others[self._faults])
            if plan is None:
                self._faults += 1
        return plan

    @staticmethod
    def _with_another_order(unfinished: deque[Plan]) -> Plan | None:
        while unfinished and (unfinished[0].orders is None or unfinished[0].orders.is_done):
            unfinished.popleft()
        return unfinished[0] if unfinished else None

    def record(self, plan: Plan, trace: Trace) -> None:
        """Add the plans that the run of a plan leads to."""
        faults = len(plan.faults)
        if plan.orders is not None and not plan.is_begun and not plan.orders.is_done:
            self._unfinished[faults].append(plan)
        is_ordinary = not plan.is_begun and plan.is_ordinary
        plan.is_begun = True
        if faults < self._max_faults and sum(map(bool, trace.choices)) == faults:
            last = max((index for index, chosen in enumerate(trace.choices) if chosen), default=-1)
            self._extend(plan, trace, range(last + 1, len(trace)), is_ordinary=is_ordinary)
            if plan.orders is not None and plan.orders.is_reduced:
                # An order that is left out may have these visits of other tasks behind the last fault.
                earlier = [
                    index
                    for index in range(last)
                    if not trace.choices[index] and trace.tasks[index] != trace.tasks[last]
                ]
                self._extend(plan, trace, earlier, is_ordinary=False)

    def _extend(self, plan: Plan, trace: Trace, positions: Sequence[int], *, is_ordinary: bool) -> None:
        further = sum(trace.options[position] for position in positions)
        if further:
            self._pending += further
            pending = self._levels if is_ordinary else self._others[len(plan.faults) + 1]
            pending.append(self._with_another_fault(plan, trace, positions, is_ordinary=is_ordinary))

    def _with_another_fault(
        self, plan: Plan, trace: Trace, positions: Sequence[int], *, is_ordinary: bool
    ) -> Iterator[Plan]:
        """Generate the plans with one more fault, at one of these positions of the run."""
        for position in positions:
            label = trace.labels[position]
            for alternative in range(1, trace.options[position] + 1):
                self._pending -= 1
                faults = {**plan.faults, label: alternative}
                if self._is_new(faults):
                    yield self._plan(faults, trace.labels[: position + 1], is_ordinary=is_ordinary)

    def _plan(self, faults: Mapping[int, int], expected: list[int], *, is_ordinary: bool = True) -> Plan:
        orders = None if self._new_orders is None else self._new_orders()
        return Plan(faults, expected, orders, is_ordinary=is_ordinary)

    def _is_new(self, faults: Mapping[int, int]) -> bool:
        if self._new_orders is None:
            return True
        key = frozenset(faults.items())
        is_new = key not in self._known
        self._known.add(key)
        return is_new


def _first_of(pending: deque[Iterator[Plan]]) -> Plan | None:
    while pending:
        plan = next(pending[0], None)
        if plan is not None:
            return plan
        pending.popleft()
    return None
