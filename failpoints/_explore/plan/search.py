"""The search: takes the decisions of each run, and returns the plan of the next. Pure: knows no loop, no failpoint.

A run makes a sequence of decisions. Each has several options, of which the first is the ordinary one: no fault, or
the task that has waited longest. A plan fixes the first decisions of a run. After them the run takes the first option
each time. The children of a run differ from it in one decision, which comes after the last one that its own plan
changed. So every sequence of decisions is run exactly once.

The ordinary order comes first, with its faults, fewest first. The other orders follow, depth first: those without a
fault, then those with one, and so on.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


class Trace:
    """The decisions of a run, in order.

    For each decision, `labels` has what it was about, `options` the number of options, `choices` the index of the
    chosen one, and `are_faults` 1 if it was about a fault or 0 if it was about a turn.
    """

    __slots__ = ("are_faults", "choices", "labels", "options")

    def __init__(self) -> None:
        self.labels: list[int] = []
        self.options: list[int] = []
        self.choices: list[int] = []
        self.are_faults = bytearray()

    def __len__(self) -> int:
        return len(self.choices)

    def add(self, label: int, options: int, chosen: int, *, is_fault: bool) -> None:
        """Record a decision."""
        self.labels.append(label)
        self.options.append(options)
        self.choices.append(chosen)
        self.are_faults.append(is_fault)


@dataclass(frozen=True, slots=True)
class Plan:
    """The choices for the first decisions of a run, with the labels that these decisions must have.

    `faults` are the choices that inject a fault: the alternative, by the label of the decision.
    """

    choices: Sequence[int]
    labels: Sequence[int]
    faults: dict[int, int]

    @property
    def length(self) -> int:
        """The number of decisions that are planned."""
        return len(self.choices)


NOTHING_PLANNED = Plan((), (), {})


class _Node:
    """A finished run, as a node of the search tree: generates the plans of its children."""

    __slots__ = ("_start", "_trace", "faults", "is_ordinary_order")

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        changed = [index for index, chosen in enumerate(trace.choices) if chosen]
        self._start = changed[-1] + 1 if changed else 0
        are_faults = trace.are_faults
        self.faults = {trace.labels[index]: trace.choices[index] for index in changed if are_faults[index]}
        self.is_ordinary_order = len(self.faults) == len(changed)

    def fault_children(self) -> Iterator[Plan]:
        """Generate the plans with one more fault, the earliest one first."""
        return self._children(range(self._start, len(self._trace)), is_fault=1)

    def order_children(self) -> Iterator[Plan]:
        """Generate the plans with another order."""
        # The last decision comes first. So there is never more than one unfinished run of each depth.
        return self._children(range(len(self._trace) - 1, self._start - 1, -1), is_fault=0)

    @property
    def children(self) -> int:
        """The number of children of both kinds.

        A run that has injected all of its faults does not decide about any more, so none of these children is counted
        in vain.
        """
        return sum(self._trace.options[self._start :]) - (len(self._trace) - self._start)

    def _children(self, positions: range, is_fault: int) -> Iterator[Plan]:
        trace = self._trace
        for position in positions:
            if trace.are_faults[position] != is_fault:
                continue
            for chosen in range(1, trace.options[position]):
                choices = trace.choices[:position]
                choices.append(chosen)
                labels = trace.labels[: position + 1]
                faults = {**self.faults, labels[position]: chosen} if is_fault else self.faults
                yield Plan(choices, labels, faults)


class Search:
    """Generates every plan with at most *max_faults* faults.

    Call `next`, run the plan, and call `record` with the trace of the run, until `next` returns `None`.
    """

    def __init__(self, max_faults: int) -> None:
        self._max_faults = max_faults
        self._first: Plan | None = NOTHING_PLANNED
        # For the ordinary order: the unfinished fault children, one level of the tree after the other.
        self._levels: deque[Iterator[Plan]] = deque()
        # For the other orders, by number of faults: the unfinished order children and fault children.
        self._orders: defaultdict[int, list[Iterator[Plan]]] = defaultdict(list)
        self._others: defaultdict[int, deque[Iterator[Plan]]] = defaultdict(deque)
        self._faults = 0
        self.queued = 1  # plans that are known, and that `next` has not returned yet

    def next(self) -> Plan | None:
        """Return the next plan, or `None` if there is nothing left to try."""
        plan = self._next()
        if plan is not None:
            self.queued -= 1
        return plan

    def _next(self) -> Plan | None:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        while self._levels:
            plan = next(self._levels[0], None)
            if plan is not None:
                return plan
            self._levels.popleft()
        while self._orders or self._others:
            orders, others = self._orders[self._faults], self._others[self._faults]
            while orders:
                plan = next(orders[-1], None)
                if plan is not None:
                    return plan
                orders.pop()
            while others:
                plan = next(others[0], None)
                if plan is not None:
                    return plan
                others.popleft()
            del self._orders[self._faults], self._others[self._faults]
            self._faults += 1
        return None

    def record(self, trace: Trace) -> None:
        """Add the children of the run that the last plan led to."""
        if not len(trace):
            return
        node = _Node(trace)
        self.queued += node.children
        faults = len(node.faults)
        if 0 in trace.are_faults:
            self._orders[faults].append(node.order_children())
        if faults < self._max_faults:
            pending = self._levels if node.is_ordinary_order else self._others[faults + 1]
            pending.append(node.fault_children())
