"""`run.shared` and `run.observe` in an exploration."""

from __future__ import annotations

import array
import copy
from random import Random
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from failpoints import FailpointUsageError, failpoint
from failpoints._explore.sharing.snapshot import snapshot
from failpoints.explore import ExplorationFailed, Run, explore
from tests.explore.acts import ACTS, result_of, state_of
from tests.explore.bank import Account, Bank, Colour


def orders(backend: Any, reduction: Any, *, shared: bool, tasks: int = 3, own: bool = False) -> tuple[int, set[int]]:
    """Explore tasks with a visit before their read and one before their write. Return the runs, and the results."""
    found: set[int] = set()

    async def scenario(run: Run) -> None:
        given = dict.fromkeys(range(tasks), 0)
        numbers = run.shared(given) if shared else given

        async def add(name: int) -> None:
            declared: Any = {} if shared else {"reads": ("numbers",)}
            await failpoint("read", **declared)
            number = numbers[name if own else 0]
            declared = {} if shared else {"writes": ("numbers",)}
            await failpoint("write", **declared)
            numbers[name if own else 0] = number + 1

        async with run.injecting(), anyio.create_task_group() as group:
            for name in range(tasks):
                group.start_soon(add, name)
        found.add(sum(given.values()))

    exploration = explore(scenario, backend=backend, interleavings=True, reduction=reduction)
    assert exploration.exhaustive
    return exploration.runs, found


@pytest.mark.parametrize("reduction", ["sound", "declared"])
@pytest.mark.parametrize("shared", [False, True])
def test_tasks_that_read_and_write_the_same(backend: Any, reduction: str, *, shared: bool) -> None:
    """Of the 90 orders of three tasks that read and then write the same, 36 differ. No result is missed."""
    assert orders(backend, reduction, shared=shared) == (36, {1, 2, 3})
    assert orders(backend, None, shared=shared) == (90, {1, 2, 3})


def test_tasks_that_touch_different_items(backend: Any) -> None:
    """Tasks that touch different items of one dictionary have one order."""
    assert orders(backend, "declared", shared=True, own=True) == (1, {3})


def test_what_is_observed(backend: Any) -> None:
    """`run.observed` has what was observed, then what was shared, in an order that is not that of the tasks."""
    seen: set[tuple[str, ...]] = set()

    async def scenario(run: Run) -> None:
        account = run.shared(Account(3))
        assert account is run.shared(account)

        async def visit(name: str) -> None:
            await failpoint("visit")
            run.observe({"name": name, "set": {3, 1, 2}, "object": object()})

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(visit, "Ada")
            group.start_soon(visit, "Grace")
        seen.add(run.observed)

    explore(scenario, backend=backend, interleavings=True, reduction=None)
    assert seen == {
        (
            "observed 1 of task 1: {'name': 'Ada', 'object': <object object>, 'set': {1, 2, 3}}",
            "observed 1 of task 2: {'name': 'Grace', 'object': <object object>, 'set': {1, 2, 3}}",
            "shared 1 of the scenario: Account(balance=3, log=[])",
        )
    }


def test_snapshots() -> None:
    """A snapshot shows all that an object consists of, once, and nothing that differs from run to run."""
    bank = Bank()
    bank.log.append(bank.log)
    bank.total = lambda: 1  # type: ignore[assignment]
    text = snapshot(bank)
    assert text == snapshot(copy.copy(bank))
    assert "0x" not in text
    for part in ("log=[3, [1], 2, <1 up>]", "lock=<asyncio.locks.Lock>", "slots=Slots(left=0, right=0)"):
        assert part in text
    assert snapshot({"b": 1, "a": 2}) == snapshot({"a": 2, "b": 1})
    assert snapshot(ValueError("no", [1])) == "ValueError('no', [1])"
    assert snapshot(array.array("i", [1])) == "array(array('i', [1]))"


def test_a_worker_thread(backend: Any) -> None:
    """What a worker thread does with a proxy is not a step of a task, and works."""

    async def scenario(run: Run) -> None:
        numbers = run.shared([1])
        async with run.injecting():
            await anyio.to_thread.run_sync(numbers.append, 2)
        assert numbers == [1, 2]

    assert explore(scenario, backend=backend, interleavings=True).runs == 1


@pytest.mark.parametrize("value", [1, "text", (1, 2), len, Account, Colour.RED, ValueError(), None])
def test_what_cannot_be_shared(backend: Any, value: Any) -> None:
    """What cannot change, or is not looked into, is refused with what to share instead."""

    async def scenario(run: Run) -> None:
        run.shared(value)

    with pytest.raises(ExplorationFailed) as caught:
        explore(scenario, backend=backend)
    error = caught.value.__cause__
    assert isinstance(error, FailpointUsageError)
    assert "Share the object that has it as an attribute." in str(error)


Program = list[list[list[str]]]


def outcomes(program: Program, backend: Any, reduction: Any) -> tuple[int, set[str]]:
    """Explore tasks, each with visits before acts on a shared bank. Return the runs, and the ways in which they end."""
    found: set[str] = set()

    async def scenario(run: Run) -> None:
        bank = Bank()
        shared = run.shared(bank)
        results: list[tuple[int, list[str]]] = []

        async def work(number: int, steps: list[list[str]]) -> None:
            mine: list[str] = []
            for acts in steps:
                await failpoint("step")
                mine.extend(result_of(act, shared) for act in acts)
            results.append((number, mine))

        async with run.injecting(), anyio.create_task_group() as tasks:
            for number, steps in enumerate(program):
                tasks.start_soon(work, number, steps)
        found.add(f"{state_of(bank)} {sorted(results)}")

    exploration = explore(scenario, backend=backend, interleavings=True, reduction=reduction)
    assert exploration.exhaustive
    return exploration.runs, found


@pytest.mark.parametrize("seed", [0, 1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 10))])
def test_no_outcome_is_missed(backend: Any, seed: int) -> None:
    """Random programs on shared objects end in every way in which they can, in fewer runs than there are orders."""
    random = Random(seed)
    pool = random.sample(sorted(ACTS), 8)
    program: Program = [
        [[random.choice(pool) for _ in range(2)] for _ in range(2)] for _ in range(random.choice((2, 3)))
    ]
    runs, expected = outcomes(program, backend, None)
    for reduction in ("sound", "declared"):
        fewer, found = outcomes(program, backend, reduction)
        assert found == expected
        assert fewer <= runs
