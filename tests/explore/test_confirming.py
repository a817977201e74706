"""A run that fails is repeated under the bounds of the search before it is reported."""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import Any

import anyio
import pytest

from failpoints import failpoint
from failpoints.explore import ExplorationFailed, Run, explore


def scenario_that_fails_on(bad: str) -> Any:
    async def scenario(run: Run) -> None:
        log: list[str] = []

        async def work(name: str) -> None:
            for _ in range(3):
                await failpoint("step")
                log.append(name)

        async with run.injecting(), anyio.create_task_group() as tasks:
            tasks.start_soon(work, "a", name="a")
            tasks.start_soon(work, "b", name="b")
        assert "".join(log) != bad, bad

    return scenario


def preemptions(order: str) -> int:
    """Count the switches away from a task with steps left."""
    return sum(
        before != after and before in order[position:] for position, (before, after) in enumerate(pairwise(order), 1)
    )


@pytest.mark.parametrize("bound", [0, 1, 2, 3])
def test_each_order_under_a_bound(backend: Any, bound: int) -> None:
    """Each order that the bound allows is found if it fails, is shown as it was, and is repeated by its replay."""
    orders = sorted({"".join(order) for order in permutations("aaabbb")})
    allowed = [order for order in orders if preemptions(order) <= bound]
    assert len(allowed) == [2, 6, 14, 18][bound]
    for bad in allowed:
        scenario = scenario_that_fails_on(bad)
        with pytest.raises(ExplorationFailed) as failed:
            explore(scenario, backend=backend, interleavings=True, max_preemptions=bound)
        failure = failed.value.failure
        assert failure.summary == f"AssertionError: {bad}"
        assert "".join(line.split()[0] for line in failure.timeline if "comes to" not in line) == bad
        with pytest.raises(ExplorationFailed, match=bad):
            explore(scenario, backend=backend, interleavings=True, max_preemptions=bound, replay=failure.replay)


def test_a_fault_and_an_order_under_a_bound(backend: Any) -> None:
    """A failure that needs a fault and a switch is confirmed under `max_preemptions`, too."""

    async def scenario(run: Run) -> None:
        log: list[str] = []

        async def work(name: str) -> None:
            for _ in range(2):
                try:
                    await failpoint("step", raises=(OSError,))
                    log.append(name)
                except OSError:
                    log.append(name.upper())

        async with run.injecting(), anyio.create_task_group() as tasks:
            tasks.start_soon(work, "a")
            tasks.start_soon(work, "b")
        assert "".join(log) != "bAab"

    with pytest.raises(ExplorationFailed, match="with 1 fault and 1 switch away") as failed:
        explore(scenario, backend=backend, interleavings=True, max_faults=1, max_preemptions=1)
    assert failed.value.failure.kind == "error"
