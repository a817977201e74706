"""The number of runs that a proof takes: orders that differ only in steps that do not meet are run once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import anyio
import pytest

from failpoints import failpoint
from failpoints.explore import Exploration, ExplorationFailed, Run, explore


class Account:
    def __init__(self) -> None:
        self.balance = 0


def declared(kind: str, tasks: int) -> Callable[[Run], Any]:
    """Return a scenario of deposits, whose sites declare what they read and write."""

    async def scenario(run: Run) -> None:
        accounts = [Account() for _ in range(tasks if kind == "independent" else 1)]
        lock = anyio.Lock()

        async def deposit(number: int) -> None:
            account = accounts[number % len(accounts)]
            resource = (f"balance {number % len(accounts)}",)
            if kind == "locked":
                await failpoint("deposit.come")
                async with lock:
                    await failpoint("deposit.write", reads=resource, writes=resource)
                    account.balance += 1
                return
            await failpoint("deposit.read", reads=resource)
            before = account.balance
            await failpoint("deposit.write", writes=resource)
            account.balance = before + 1

        async with run.injecting(), anyio.create_task_group() as group:
            for number in range(tasks):
                group.start_soon(deposit, number)
        check(kind, tasks, accounts)

    return scenario


def shared(kind: str, tasks: int) -> Callable[[Run], Any]:
    """Return the same scenario with objects that the run sees."""

    async def scenario(run: Run) -> None:
        accounts = [run.shared(Account()) for _ in range(tasks if kind == "independent" else 1)]
        lock = anyio.Lock()

        async def deposit(number: int) -> None:
            account = accounts[number % len(accounts)]
            await failpoint("deposit.come")
            async with lock if kind == "locked" else nullcontext():
                before = account.balance
                await failpoint("deposit.write")
                account.balance = before + 1

        async with run.injecting(), anyio.create_task_group() as group:
            for number in range(tasks):
                group.start_soon(deposit, number)
        check(kind, tasks, accounts)

    return scenario


def check(kind: str, tasks: int, accounts: list[Account]) -> None:
    total = sum(account.balance for account in accounts)
    assert 1 <= total <= tasks
    assert kind == "unlocked" or total == tasks


@pytest.mark.parametrize("scenario", [declared, shared])
@pytest.mark.parametrize(
    ("kind", "tasks", "runs", "every_order"),
    [
        ("locked", 3, 6, 30),
        ("locked", 4, 24, 336),
        ("unlocked", 3, 36, 90),
        pytest.param("unlocked", 4, 576, 2520, marks=pytest.mark.slow),
        ("independent", 3, 1, 90),
        ("independent", 4, 1, 2520),
    ],
)
def test_the_runs_of_a_proof(
    backend: Any, scenario: Callable[[str, int], Any], kind: str, tasks: int, runs: int, every_order: int
) -> None:
    """The runs are as many as the classes of equivalent orders. None is begun in vain."""
    exploration = explore(scenario(kind, tasks), backend=backend, interleavings=True, reduction="declared")
    assert (exploration.runs, exploration.cut_short, exploration.exhaustive) == (runs, 0, True)
    if every_order < 100:
        assert explore(scenario(kind, tasks), backend=backend, interleavings=True, reduction=None).runs == every_order


def test_a_lost_update_is_found_among_equivalent_orders(backend: Any) -> None:
    """The reduction leaves the bugs in: an update is lost in one of the runs."""

    async def scenario(run: Run) -> None:
        account = run.shared(Account())

        async def deposit() -> None:
            await failpoint("deposit.come")
            before = account.balance
            await failpoint("deposit.write")
            account.balance = before + 1

        async with run.injecting(), anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(deposit)
        assert account.balance == 3

    with pytest.raises(ExplorationFailed):
        explore(scenario, backend=backend, interleavings=True, reduction="declared")


def verdict_of(scenario: Any, **given: Any) -> Exploration:
    return explore(scenario, interleavings=True, **given)


def test_a_step_without_a_declaration_meets_everything(backend: Any) -> None:
    """With "sound", the default, a scenario that declares nothing runs every order, and one of two declares half."""

    async def scenario(run: Run) -> None:
        async def undeclared() -> None:
            await failpoint("turn")

        async def its_own(number: int) -> None:
            await failpoint("write", writes=(f"own {number}",))

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(its_own, 1)
            group.start_soon(its_own, 2)
            group.start_soon(undeclared)

    assert verdict_of(scenario, backend=backend, reduction=None).runs == 6
    assert verdict_of(scenario, backend=backend, reduction="sound").runs == 4
    assert verdict_of(scenario, backend=backend, reduction="declared").runs == 1


def test_a_limit_of_preemptions_turns_the_reduction_off(backend: Any) -> None:
    """With `max_preemptions`, every order within the limit is run."""
    scenario = declared("independent", 3)
    assert verdict_of(scenario, backend=backend, max_preemptions=100).runs == 90


def test_faults_and_orders_of_declared_steps(backend: Any) -> None:
    """Each fault is tried in each class of equivalent orders."""

    async def scenario(run: Run) -> None:
        async def work(number: int) -> None:
            try:
                await failpoint("work", writes=(f"own {number}",))
            except Exception:
                pass

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(work, 1)
            group.start_soon(work, 2)

    exploration = explore(scenario, backend=backend, interleavings=True, reduction="declared", max_faults=2)
    assert (exploration.runs, exploration.exhaustive) == (4, True)


@pytest.mark.parametrize("reduction", ["sound", "declared"])
def test_a_declared_visit_that_repeats(backend: Any, reduction: Any) -> None:
    """A loop with more turns at a visit than are put in order is cut short, and the verdict mentions that."""

    async def scenario(run: Run) -> None:
        async def poll(number: int) -> None:
            for _ in range(104):
                await failpoint("poll", writes=(f"own {number}",))

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(poll, 1)
            group.start_soon(poll, 2)

    exploration = verdict_of(scenario, backend=backend, reduction=reduction, max_runs=5)
    assert exploration.runs >= 1
    assert "orders left out after 100 turns at the same visit" in str(exploration)
