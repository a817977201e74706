"""What to try next: decisions in, the next plan out. Pure; knows no event loop and no failpoint.

A run makes decisions, each among so many options, of which the first is the ordinary one: no fault, the task whose
turn it is. A plan says how the first decisions are to come out; after them the run takes the first option each time.
The children of a run differ from it in one decision after the last that its plan had changed, so that every
sequence of decisions is run exactly once.

First comes the ordinary order with its faults, fewest first; then the other orders, depth first, those without
a fault before those with one, and so on.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


class Trail:
    """What a run decided, one decision after the other.

    `labels` say about what, `choices` which of so many `options`, counted from 0, and `are_faults` whether it was to
    inject or not, 1 or 0.
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
        """Take down a decision."""
        self.labels.append(label)
        self.options.append(options)
        self.choices.append(chosen)
        self.are_faults.append(is_fault)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the first decisions of a run are to come out, and what they are to be about.

    `faults` are those of them that inject one: the alternative by the decision's label.
    """

    choices: Sequence[int]
    labels: Sequence[int]
    faults: dict[int, int]

    @property
    def length(self) -> int:
        """How many decisions it is about."""
        return len(self.choices)


NOTHING_FORCED = Plan((), (), {})


class _Node:
    """A run that was made: the plans of its children."""

    __slots__ = ("_start", "_trail", "faults", "is_ordinary_order")

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        changed = [index for index, chosen in enumerate(trail.choices) if chosen]
        self._start = changed[-1] + 1 if changed else 0
        are_faults = trail.are_faults
        self.faults = {trail.labels[index]: trail.choices[index] for index in changed if are_faults[index]}
        self.is_ordinary_order = len(self.faults) == len(changed)

    def fault_children(self) -> Iterator[Plan]:
        """With one more fault, the earliest first."""
        return self._children(range(self._start, len(self._trail)), is_fault=1)

    def order_children(self) -> Iterator[Plan]:
        """In another order."""
        # The last decision first: what is still to do is then never more than one run of each depth.
        return self._children(range(len(self._trail) - 1, self._start - 1, -1), is_fault=0)

    @property
    def children(self) -> int:
        """How many there are of both kinds; once no fault is left to inject, none of the decisions is about one."""
        return sum(self._trail.options[self._start :]) - (len(self._trail) - self._start)

    def _children(self, positions: range, is_fault: int) -> Iterator[Plan]:
        trail = self._trail
        for position in positions:
            if trail.are_faults[position] != is_fault:
                continue
            for chosen in range(1, trail.options[position]):
                choices = trail.choices[:position]
                choices.append(chosen)
                labels = trail.labels[: position + 1]
                faults = {**self.faults, labels[position]: chosen} if is_fault else self.faults
                yield Plan(choices, labels, faults)


class Search:
    """Every plan with so many faults at most, one after the other: `next`, run it, `record` what came of it."""

    def __init__(self, max_faults: int) -> None:
        self._max_faults = max_faults
        self._first: Plan | None = NOTHING_FORCED
        # The ordinary order: the fault-children still to come, in levels by themselves.
        self._levels: deque[Iterator[Plan]] = deque()
        # The other orders, by the number of faults: the order-children, and the fault-children, still to come.
        self._orders: defaultdict[int, list[Iterator[Plan]]] = defaultdict(list)
        self._others: defaultdict[int, deque[Iterator[Plan]]] = defaultdict(deque)
        self._faults = 0
        self.queued = 1  # plans that are known by now, and still to come

    def next(self) -> Plan | None:
        """The next plan; `None` once nothing is left to try."""
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

    def record(self, trail: Trail) -> None:
        """Take down what the run of the last plan decided."""
        if not len(trail):
            return
        node = _Node(trail)
        self.queued += node.children
        faults = len(node.faults)
        if 0 in trail.are_faults:
            self._orders[faults].append(node.order_children())
        if faults < self._max_faults:
            waiting = self._levels if node.is_ordinary_order else self._others[faults + 1]
            waiting.append(node.fault_children())
