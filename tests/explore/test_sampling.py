"""Sampled orders: what is run, how often bugs are found, and the chance that the verdict gives."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from failpoints import FailpointUsageError, failpoint
from failpoints._explore.plan.sampling import SampledOrders
from failpoints.explore import ExplorationFailed, Progress, Run, explore


def scenario_of(orders: list[str], tasks: int, hits: int, bad: str = "") -> Any:
    """Return a scenario of tasks with visits, which adds its order to a list and fails on one of them."""

    async def scenario(run: Run) -> None:
        order: list[str] = []

        async def visit(name: str) -> None:
            for _ in range(hits):
                await failpoint("turn")
                order.append(name)

        async with run.injecting(), anyio.create_task_group() as group:
            for name in "abcd"[:tasks]:
                group.start_soon(visit, name)
        orders.append("".join(order))
        assert orders[-1] != bad

    return scenario


def test_a_sample_is_not_exhaustive(backend: Any) -> None:
    """As many orders are run as asked for. The verdict has the chances, and is not exhaustive."""
    orders: list[str] = []
    exploration = explore(scenario_of(orders, 3, 2), backend=backend, interleavings=True, sample=30)
    assert exploration.runs == len(orders) == 30
    assert len(set(orders)) > 10
    assert not exploration.exhaustive
    # Of three tasks and at most five turns with a choice, in ten runs for each depth.
    chances = [int((1 - (1 - 1 / (3 * 5**more)) ** 10) * 1000) / 10 for more in range(3)]
    assert str(exploration) == (
        "30 runs: orders sampled: a bug that depends on 1, 2 or 3 pairs of turns had a chance of at least"
        f" {chances[0]} %, {chances[1]} % or {chances[2]} % to be found:"
        " not exhaustive: no failure found so far"
    )


def test_the_same_orders_in_every_exploration(backend: Any) -> None:
    """Two explorations sample the same orders."""
    first, second = list[str](), list[str]()
    explore(scenario_of(first, 3, 2), backend=backend, interleavings=True, sample=12)
    explore(scenario_of(second, 3, 2), backend=backend, interleavings=True, sample=12)
    assert first == second


def test_a_failure_is_confirmed_and_replayed(backend: Any) -> None:
    """A failure in a sampled order is repeated, reduced, and can be replayed."""
    scenario = scenario_of([], 2, 2, "abba")
    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, interleavings=True, sample=200)
    assert failed.value.failure.kind == "error"
    with pytest.raises(ExplorationFailed, match="in the replay"):
        explore(scenario, backend=backend, replay=failed.value.replay)


def test_every_set_of_faults_is_sampled() -> None:
    """With faults, so many orders are run of each set of faults."""
    faults: list[int] = []

    def on_run(progress: Progress) -> None:
        faults.append(progress.faults)

    async def scenario(run: Run) -> None:
        async with run.injecting(expect=(ExceptionGroup,)), anyio.create_task_group() as group:
            group.start_soon(visit)
            group.start_soon(visit)

    async def visit() -> None:
        await failpoint("turn")

    exploration = explore(scenario, interleavings=True, max_faults=1, sample=5, on_run=on_run)
    assert sorted(faults) == [0] * 5 + [1] * 10
    assert "with each set of faults" in str(exploration)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sample": 0, "interleavings": True}, "sample="),
        ({"sample": 5}, "needs interleavings=True"),
        ({"sample": 5, "interleavings": True, "max_preemptions": 1}, "max_preemptions= has no meaning"),
        ({"sample": 5, "interleavings": True, "reduction": "declared"}, "reduction='declared' has no meaning"),
        ({"reduction": "declared"}, "needs interleavings=True"),
        ({"reduction": "declared", "interleavings": True, "max_preemptions": 1}, "max_preemptions= has no meaning"),
        ({"interleavings": "await"}, "did you mean 'awaits'"),
        ({"interleavings": 1}, "interleavings= must be"),
        ({"reduction": "sounds"}, "did you mean 'sound'"),
    ],
)
def test_options_that_contradict_each_other(given: dict[str, Any], message: str) -> None:
    """A word that no option has, and options that have no meaning together, are usage errors."""
    with pytest.raises(FailpointUsageError, match=message):
        explore(scenario_of([], 1, 1), **given)


SECOND_BUG = [("a", 1, "b", 1), ("b", 1, "a", 2)]


@pytest.mark.parametrize(
    ("depth", "bug"), [(1, [("b", 0, "a", 0)]), (2, SECOND_BUG), (3, [*SECOND_BUG, ("a", 2, "b", 2)])]
)
def test_the_chance_holds(depth: int, bug: list[tuple[str, int, str, int]]) -> None:
    """Bugs of each depth are found at least as often as the verdict gives."""
    tasks = {"a": 3, "b": 3}
    sampled = SampledOrders(3000, lambda label: (label // 10,))
    found = 0
    while not sampled.is_done:
        sampled.begin()
        made = dict.fromkeys(tasks, 0)
        when: dict[tuple[str, int], int] = {}
        while left := [name for name in tasks if made[name] < tasks[name]]:
            options = tuple("ab".index(name) * 10 + made[name] for name in left)
            name = "ab"[sampled.choose(options, None) // 10]
            when[name, made[name]] = len(when)
            made[name] += 1
        is_of_depth = sampled.queued % 3 == (3 - depth) % 3
        found += is_of_depth and all(when[one, i] < when[other, j] for one, i, other, j in bug)
        sampled.finish()
    turns = 6
    assert found / 1000 > 1 / (2 * turns ** (depth - 1))
