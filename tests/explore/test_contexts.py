"""The context of a visit is shown, and is not part of the plan: it may be another one in each run."""

from __future__ import annotations

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import anyio
import pytest

from failpoints import failpoint
from failpoints.explore import ExplorationFailed, Run, explore

new_id = map(str, itertools.count()).__next__


@failpoint("payment.charge", context=["order"], raises=(TimeoutError,))
async def charge(order: str) -> None: ...


@failpoint("orders.mark_paid", context=["order"], raises=(OSError,))
async def mark_paid(order: str) -> None: ...


async def place(run: Run) -> str:
    order = new_id()
    async with run.injecting():
        await charge(order)
        await mark_paid(order)
    return order


def test_every_fault_is_tried(backend: Any) -> None:
    """Faults are tried at visits whose context has a new id in each run."""
    assert str(explore(place, backend=backend)) == "5 runs, every fault at 4 visits, one at a time: no failure"


def test_the_context_of_the_run_that_is_shown(backend: Any) -> None:
    """The timeline and `run.faults` have the contexts of their own run, and so has the replay, which is the same."""
    orders: list[str] = []

    async def scenario(run: Run) -> None:
        orders.append(await place(run))
        shown = [fault.visit.context for fault in run.faults]
        assert shown in ([], [f"{{'order': '{orders[-1]}'}}"])
        assert not any(fault.visit.name == "orders.mark_paid:after" for fault in run.faults), "lost"

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend)
    failure = failed.value.failure
    assert failure.summary == "AssertionError: lost"
    assert len(failure.timeline) == 4
    assert all(f"{{'order': '{orders[-1]}'}}" in line for line in failure.timeline)
    with pytest.raises(ExplorationFailed) as again:
        explore(scenario, backend=backend, replay=failure.replay)
    assert again.value.failure.replay == failure.replay
    assert all(f"{{'order': '{orders[-1]}'}}" in line for line in again.value.failure.timeline)


def test_an_order_is_reduced(backend: Any) -> None:
    """The order of a failure is reduced to the switches that it needs, in as few runs as with the same id each time."""

    def scenario_with(make_id: Any, contexts: list[str]) -> Any:
        async def scenario(run: Run) -> None:
            left: list[int] = [1]
            sold: list[str] = []

            async def buy(ident: str) -> None:
                contexts.append(ident)
                await failpoint("arrive", context={"id": ident})
                seen = left[0]
                if seen:
                    await failpoint("checked")
                    left[0] = seen - 1
                    sold.append(ident)
                    await failpoint("more")
                    await failpoint("more")

            async with run.injecting(), anyio.create_task_group() as tasks:
                tasks.start_soon(buy, make_id())
                tasks.start_soon(buy, make_id())
            assert len(sold) == 1

        return scenario

    found: list[tuple[str, str, int]] = []
    for make_id in (lambda: "the same", new_id):
        contexts: list[str] = []
        with pytest.raises(ExplorationFailed, match="and 1 switch away") as failed:
            explore(scenario_with(make_id, contexts), backend=backend, interleavings=True)
        found.append((str(failed.value).splitlines()[0], failed.value.replay, len(contexts)))
    assert found[0] == found[1]


def test_a_replay_with_other_contexts(backend: Any) -> None:
    """The checksum of a replay does not depend on contexts."""

    async def scenario(run: Run) -> None:
        await place(run)
        assert not run.faults or not is_broken

    is_broken = True
    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend)
    is_broken = False
    exploration = explore(scenario, backend=backend, replay=failed.value.replay)
    assert str(exploration) == "1 run, replayed: no failure"


def test_threads_that_one_task_starts_at_once() -> None:
    """Each call in an executor is known by its place among the calls of its task, however the threads arrive."""
    made: list[str] = []

    async def scenario(run: Run) -> None:
        number = len(made)
        meeting = Barrier(2, timeout=10)
        failed: list[str] = []

        def work(name: str) -> None:
            if name == "ab"[number % 2]:  # in every second run, the other one is first
                visit(name)
                meeting.wait()
            else:
                meeting.wait()
                visit(name)

        def visit(name: str) -> None:
            try:
                failpoint("work", raises=(OSError,)).hit()
            except OSError:
                failed.append(name)

        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(2) as pool:
            async with run.injecting():
                await asyncio.gather(*(loop.run_in_executor(pool, work, name) for name in "ab"))
        made.append("".join(failed))

    exploration = explore(scenario)
    assert exploration.runs == 3
    assert made == ["", "a", "b"]


def test_a_context_is_formatted_only_to_be_shown(backend: Any) -> None:
    """`repr()` of what a context contains is not called at visits that nothing shows."""
    formatted: list[int] = []

    class Order:
        def __repr__(self) -> str:
            formatted.append(1)
            return "order"

    async def scenario(run: Run) -> None:
        order = Order()
        async with run.injecting():
            for _ in range(5):
                await failpoint("visit", context={"order": order})

    assert explore(scenario, backend=backend).runs == 6
    assert len(formatted) == 5  # of the visit at which each of five runs has injected a fault
