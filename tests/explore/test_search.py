"""The search alone: programs that only make decisions, and the runs that they take."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from math import comb, factorial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failpoints._explore.plan.orders import EveryOrder
from failpoints._explore.plan.search import Plan, Search, Trace

Choose = Callable[[int, int, bool], int]
Program = Callable[[Choose], object]


def runs_of(program: Program, max_faults: int, most: int = 100_000) -> list[tuple[int, ...]]:
    """Return the choices of each run that met its planned faults, in the order of the runs."""
    search = Search(max_faults, partial(EveryOrder, is_reduced=False))
    runs: list[tuple[int, ...]] = []
    while (plan := search.next()) is not None:
        assert plan.orders is not None
        trace, choices = run(program, plan, max_faults)
        plan.orders.finish()
        search.record(plan, trace)
        if sum(map(bool, trace.choices)) == len(plan.faults):
            runs.append(tuple(choices))
        assert len(runs) <= most
    assert search.next() is None
    assert search.queued == 0
    return runs


def run(program: Program, plan: Plan, max_faults: int) -> tuple[Trace, list[int]]:
    """Run a program once: follow the plan, then take the first option."""
    orders, trace, choices = plan.orders, Trace(), list[int]()
    assert orders is not None
    orders.begin()
    left = max_faults

    def choose(label: int, options: int, is_fault: bool = False) -> int:
        nonlocal left
        if not is_fault and options == 1:
            chosen = 0
        elif not is_fault:
            labels = tuple(label * 1000 + option for option in range(options))
            assert orders.planned in (None, labels)
            chosen = labels.index(orders.choose(labels, dict) or 0)
        elif left:
            chosen = plan.faults.get(label, 0)
            trace.add(label, (), options - 1, chosen)
            left -= chosen > 0
        else:
            return 0
        choices.append(chosen)
        return chosen

    program(choose)
    return trace, choices


@pytest.mark.parametrize(("hits", "alternatives", "faults"), list(product([0, 1, 3, 6], [1, 2, 3], [0, 1, 2, 3, 10])))
def test_faults_that_change_nothing_else(hits: int, alternatives: int, faults: int) -> None:
    """With n visits, f alternatives and up to k faults, there are sum(C(n, i) f^i) runs. None comes twice."""

    def program(choose: Choose) -> None:
        for hit in range(hits):
            choose(hit, alternatives + 1, True)

    runs = runs_of(program, faults)
    # A program makes no decision once its faults are used up. Add these choices.
    padded = [run + (0,) * (hits - len(run)) for run in runs]
    assert len(padded) == len(set(padded)) == sum(comb(hits, i) * alternatives**i for i in range(faults + 1))
    faults_in_each = [sum(map(bool, run)) for run in padded]
    assert faults_in_each == sorted(faults_in_each)


@pytest.mark.parametrize(("tasks", "hits"), [(1, 5), (2, 1), (2, 2), (2, 4), (3, 1), (3, 2), (3, 3), (4, 2), (7, 1)])
def test_orders(tasks: int, hits: int) -> None:
    """Of t tasks with h visits each, all (t h)! / (h!)^t orders are run. None comes twice."""
    orders: list[tuple[int, ...]] = []

    def program(choose: Choose) -> None:
        left = dict.fromkeys(range(tasks), hits)
        order: list[int] = []
        while left:
            options = sorted(left, key=lambda task: (order[::-1].index(task) if task in order else -1, task))
            task = options[choose(hash(tuple(options)) & 0xFFFF, len(options), False) if len(options) > 1 else 0]
            order.append(task)
            left[task] -= 1
            if not left[task]:
                del left[task]
        orders.append(tuple(order))

    runs_of(program, 0)
    assert len(orders) == len(set(orders)) == factorial(tasks * hits) // factorial(hits) ** tasks


@pytest.mark.parametrize(
    ("faults", "expected"),
    [(0, [()]), (1, [(), ("write",)]), (2, [(), ("write",), ("write", "roll back")])],
)
def test_decisions_after_a_fault(faults: int, expected: list[tuple[str, ...]]) -> None:
    """A decision that is only made after a fault is found, and made to fail too."""
    runs: list[tuple[str, ...]] = []

    def program(choose: Choose) -> None:
        failed: list[str] = []
        if choose(1, 2, True):
            failed.append("write")
            if choose(2, 2, True):
                failed.append("roll back")
        runs.append(tuple(failed))

    runs_of(program, faults)
    assert runs == expected


def test_the_sequence_of_orders_and_faults() -> None:
    """The ordinary order comes first, fewest faults first. The other orders follow, fewest faults first."""
    seen: list[tuple[bool, int]] = []

    def program(choose: Choose) -> None:
        first = choose(1, 2, True)
        order = choose(2, 3, False)
        second = choose(3, 2, True)
        seen.append((order > 0, bool(first) + bool(second)))

    runs = runs_of(program, 2)
    assert len(runs) == len(set(runs)) == 2 * 3 * 2
    assert seen == sorted(seen)


@given(
    st.recursive(st.none(), lambda inner: st.tuples(st.booleans(), st.lists(inner, min_size=1, max_size=3))),
    st.integers(0, 3),
)
@settings(max_examples=200, deadline=None)
def test_every_sequence_once(tree: object, max_faults: int) -> None:
    """In any program, every sequence of decisions within the fault limit is run. None comes twice."""

    def program(choose: Choose) -> None:
        node, label = tree, 1
        while node is not None:
            is_fault, children = node
            chosen = choose(label, len(children), is_fault)
            node, label = children[chosen], label * 3 + chosen

    def all_of(node: object, faults: int) -> list[tuple[int, ...]]:
        if node is None:
            return [()]
        is_fault, children = node  # type: ignore[misc]
        if is_fault and not faults:
            return all_of(children[0], faults)
        return [
            (index, *rest)
            for index, child in enumerate(children)
            for rest in all_of(child, faults - bool(is_fault and index))
        ]

    runs = runs_of(program, max_faults)
    assert sorted(runs) == sorted(all_of(tree, max_faults))


def test_the_search_keeps_few_decisions() -> None:
    """Without faults, the search keeps no more than the decisions of one run."""
    search = Search(0, partial(EveryOrder, is_reduced=False))

    def program(choose: Choose) -> None:
        for label in range(12):
            choose(label, 2, False)

    most = runs = 0
    while (plan := search.next()) is not None:
        assert plan.orders is not None
        trace, _ = run(program, plan, 0)
        plan.orders.finish()
        search.record(plan, trace)
        runs += 1
        most = max(most, search.queued)
    assert runs == 2**12
    assert most <= 12


def test_nothing_to_decide() -> None:
    """A program without any decision is run once."""
    assert runs_of(lambda choose: None, 3) == [()]
