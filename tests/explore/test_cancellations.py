"""`cancellations=True` cancels the task at each async visit, and with "awaits" at each wake-up."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from failpoints import FailpointUsageError, failpoint
from failpoints.explore import ExplorationFailed, Run, explore


class Pool:
    """Loses its only slot if a user is cancelled between taking it and the `try`."""

    def __init__(self, *, fixed: bool = False) -> None:
        self.free = 1
        self.fixed = fixed

    async def use(self) -> None:
        self.free -= 1
        if not self.fixed:
            await anyio.lowlevel.checkpoint()  # where the slot is lost
        try:
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
        finally:
            self.free += 1


def scenario_of(*, fixed: bool) -> Any:
    async def scenario(run: Run) -> None:
        pool = Pool(fixed=fixed)
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(pool.use)
        assert pool.free == 1, "a slot is lost"

    return scenario


def test_a_slot_lost_between_two_awaits(backend: Any) -> None:
    """The slot that a cancelled task does not give back is found, in code without failpoints, and replayed."""
    with pytest.raises(ExplorationFailed, match="a slot is lost") as failed:
        explore(scenario_of(fixed=False), backend=backend, interleavings="awaits", cancellations=True, max_faults=1)
    assert failed.value.failure.faults == ("=cancel",) or "cancel injected" in str(failed.value)
    assert failed.value.failure.configuration is None
    assert "cancellations=True, replay=" in str(failed.value)
    with pytest.raises(ExplorationFailed, match="in the replay"):
        explore(scenario_of(fixed=False), backend=backend, cancellations=True, replay=failed.value.replay)


def test_a_fixed_pool_holds(backend: Any) -> None:
    """A pool that gives its slot back passes, however it is cancelled."""
    exploration = explore(
        scenario_of(fixed=True), backend=backend, interleavings="awaits", cancellations=True, max_faults=2
    )
    assert exploration.exhaustive
    assert exploration.runs > 3


def test_visits_without_any_other_fault(backend: Any) -> None:
    """Beside `faults={"*": []}`, the task is only cancelled: once at each of four visits."""
    cancelled: list[str] = []

    @failpoint("call")
    async def call() -> None:
        await failpoint("inside")

    async def scenario(run: Run) -> None:
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(call)
        cancelled.extend(f"{fault.visit.name} {fault.action}" for fault in run.faults)

    exploration = explore(scenario, backend=backend, faults={"*": []}, cancellations=True)
    assert exploration.exhaustive
    assert cancelled == ["call Cancel()", "inside Cancel()", "call:after Cancel()"]


def test_cancellations_beside_faults(backend: Any) -> None:
    """A cancellation is one more alternative at each async visit, and none at a sync one."""
    kinds: list[str] = []

    async def visits() -> None:
        failpoint("sync", raises=(OSError,)).hit()
        await failpoint("async", raises=(OSError, KeyError))

    async def scenario(run: Run) -> None:
        async with run.injecting(expect=(ExceptionGroup,)), anyio.create_task_group() as group:
            group.start_soon(visits)
        kinds.extend(f"{fault.visit.name} {fault.action}" for fault in run.faults)

    explore(scenario, backend=backend, cancellations=True)
    assert len(kinds) == 4
    assert sum("Cancel" in kind for kind in kinds) == 1


def test_cancellations_without_any_fault_are_refused() -> None:
    """With orders, no fault is injected unless asked for, so `cancellations` would have no effect."""
    with pytest.raises(FailpointUsageError, match="add max_faults=1"):
        explore(scenario_of(fixed=True), interleavings=True, cancellations=True)


def test_a_cancellation_that_the_program_puts_off() -> None:
    """A `TaskGroup` that raises another error cancels its task again. That is not a failure of the scenario."""
    ended: list[str] = []

    async def scenario(run: Run) -> None:
        async def work() -> None:
            await failpoint("work")

        async with run.injecting():
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(work())
                    raise KeyError
            except* KeyError:
                pass
        await asyncio.sleep(0)
        ended.append("ended")

    for interleavings in (False, "visits", "awaits"):
        exploration = explore(scenario, cancellations=True, max_faults=1, interleavings=interleavings)  # type: ignore[arg-type]
        assert exploration.runs == len(ended)
        ended.clear()
