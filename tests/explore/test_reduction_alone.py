"""The reduction alone, without an event loop: programs of tasks that read and write, against all of their orders."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import pytest

from failpoints._explore.plan.accesses import Accesses, add_access, meet
from failpoints._explore.plan.orders import EveryOrder, touched_by_turn
from failpoints._explore.plan.races import HappensBefore, Segment

Memory = dict[str, int]
Task = Callable[[Memory], Iterator[list[tuple[str, Any]]]]
"""Yields the accesses of each of its steps."""


class Result(NamedTuple):
    """The runs of a search, those that were cut short, and the final states, with the classes of equivalent orders."""

    runs: int
    cut_short: int
    states: set[tuple[tuple[str, int], ...]]
    classes: set[frozenset[Any]]


def search(program: Sequence[Task], *, is_reduced: bool, most: int = 600) -> Result | None:
    """Run a program in all orders that the search chooses, or return `None` if there are too many."""
    orders = EveryOrder(is_reduced=is_reduced)
    runs = cut_short = 0
    states: set[tuple[tuple[str, int], ...]] = set()
    classes: set[frozenset[Any]] = set()
    while not orders.is_done:
        memory: Memory = {}
        tasks = [task(memory) for task in program]
        steps_made = [0] * len(tasks)
        alive = list(range(len(tasks)))
        segments: list[Segment] = []
        orders.begin()
        chosen: int | None = None
        while alive:
            options = tuple(task * 100 + steps_made[task] for task in alive)
            turns = len(segments)
            chosen = orders.choose(options, partial(last_touched, segments, turns))
            if chosen is None:
                break
            task = chosen // 100
            steps_made[task] += 1
            accesses: Accesses = {}
            made = next(tasks[task], None)
            for resource, mode in made or ():
                add_access(accesses, resource, mode)
            if made is None:
                alive.remove(task)
            segments.append(Segment((task,), turns, is_chosen=True, accesses=accesses))
        if alive:
            cut_short += 1
        else:
            runs += 1
            states.add(tuple(sorted(memory.items())))
            classes.add(class_of(segments))
        orders.finish(segments)
        if runs > most:
            return None
    return Result(runs, cut_short, states, classes)


def last_touched(segments: Sequence[Segment], turns: int) -> Accesses:
    return touched_by_turn(segments, turns)[-1]


def class_of(segments: Sequence[Segment]) -> frozenset[Any]:
    """Return the segments with those that come before each, which is the same for equivalent orders."""
    order = HappensBefore(segments)
    names: list[tuple[Any, int]] = []
    for segment in segments:
        names.append((segment.task, sum(name[0] == segment.task for name in names)))
    return frozenset(
        (name, frozenset(names[other] for other in range(index) if order.is_before(other, index)))
        for index, name in enumerate(names)
    )


def reader_and_writer(name: str) -> Task:
    def task(memory: Memory) -> Iterator[list[tuple[str, Any]]]:
        before = memory.get("balance", 0)
        yield [("balance", "r")]
        memory["balance"] = before + 1
        yield [("balance", "w")]

    return task


def writer_of_its_own(name: str) -> Task:
    def task(memory: Memory) -> Iterator[list[tuple[str, Any]]]:
        memory[name] = 1
        yield [(name, "w")]
        memory[name] = 2
        yield [(name, "w")]

    return task


def adder(name: str) -> Task:
    def task(memory: Memory) -> Iterator[list[tuple[str, Any]]]:
        memory["total"] = memory.get("total", 0) + 1
        yield [("total", "u")]
        memory["total"] = memory.get("total", 0) + 1
        yield [("total", "u")]

    return task


@pytest.mark.parametrize(
    ("make", "tasks", "runs"),
    [
        (reader_and_writer, 2, 4),
        (reader_and_writer, 3, 36),
        (reader_and_writer, 4, 576),
        (writer_of_its_own, 4, 1),
        (adder, 4, 1),
    ],
)
def test_each_class_of_orders_is_run_once(make: Callable[[str], Task], tasks: int, runs: int) -> None:
    """Orders that differ only in steps that do not meet are run once, and no run is cut short."""
    result = search([make(name) for name in "abcd"[:tasks]], is_reduced=True, most=1_000)
    assert result is not None
    assert (result.runs, result.cut_short, len(result.classes)) == (runs, 0, runs)


def random_task(source: random.Random) -> Task:
    """Return a task of up to four steps, which branch on what they read."""
    kinds = ["read", "write", "add", "write if", "read then write"]
    steps = [(source.choice(kinds), source.choice("xyz"), source.choice("xyz")) for _ in range(source.randint(1, 4))]

    def task(memory: Memory) -> Iterator[list[tuple[str, Any]]]:
        seen = 0
        for kind, one, other in steps:
            if kind == "read":
                seen = memory.get(one, 0)
                yield [(one, "r")]
            elif kind == "write":
                memory[one] = seen * 2 + 1
                yield [(one, "w")]
            elif kind == "add":
                memory[one] = memory.get(one, 0) + 3
                yield [(one, "u")]
            elif kind == "write if":
                target = one if seen % 3 == 1 else other
                memory[target] = seen + 1
                yield [(target, "w")]
            else:
                memory[other] = seen = memory.get(one, 0)
                yield [(one, "r"), (other, "w")]

    return task


@pytest.mark.parametrize("block", [0, 1, *(pytest.param(block, marks=pytest.mark.slow) for block in range(2, 10))])
def test_against_all_orders_of_random_programs(block: int) -> None:
    """No final state and no class of orders is missing, and no class is run twice."""
    compared = 0
    for seed in range(block * 25, block * 25 + 25):
        source = random.Random(seed)
        program = [random_task(source) for _ in range(source.choice([2, 2, 3]))]
        every = search(program, is_reduced=False)
        if every is None:
            continue
        reduced = search(program, is_reduced=True)
        assert reduced is not None
        assert (reduced.states, reduced.classes) == (every.states, every.classes), f"seed {seed}"
        assert reduced.runs == len(reduced.classes), f"seed {seed}"
        compared += 1
    assert compared > 12


def test_accesses_that_meet() -> None:
    """Reads commute with reads, and updates with updates. Everything else on the same resource meets."""
    modes = "rwu"
    met = {(one, other) for one in modes for other in modes if meet({"x": one}, {"x": other, "y": "w"})}  # type: ignore[dict-item]
    assert met == {(one, other) for one in modes for other in modes} - {("r", "r"), ("u", "u")}
    assert not meet({"x": "w"}, {"y": "w"})


def test_a_turn_that_was_made_possible_is_no_race() -> None:
    """Two segments that meet are no race if one has made the other possible, directly or not."""
    write = partial(Segment, is_chosen=True)
    segments = [
        write((1,), 0, accesses={"x": "w"}),
        write((2,), 1, because=[0], accesses={"y": "w"}),
        write((3,), 2, because=[1], accesses={"x": "w"}),
        write((4,), 3, accesses={"x": "r"}),
    ]
    assert HappensBefore(segments).races == [(2, 3)]
