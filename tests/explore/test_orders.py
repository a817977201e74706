"""Every order of the tasks, each once, and the limits of that."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from itertools import pairwise
from math import factorial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from failpoints import failpoint, failpoint_scope
from failpoints.explore import ExplorationFailed, Run, explore


def orders_of(backend: Any, tasks: int, hits: int, **given: Any) -> tuple[Any, list[str]]:
    """Explore *tasks* tasks with *hits* visits each, and return the result and the order of each run."""
    orders: list[str] = []

    async def scenario(run: Run) -> None:
        orders.append("")

        async def visit(name: str) -> None:
            for _ in range(hits):
                await failpoint("turn")
                orders[-1] += name

        async with run.injecting(), anyio.create_task_group() as group:
            for name in "abcd"[:tasks]:
                group.start_soon(visit, name)

    return explore(scenario, backend=backend, interleavings=True, **given), orders


@pytest.mark.parametrize(("tasks", "hits"), [(1, 3), (2, 1), (2, 2), (2, 4), (3, 1), (3, 2), (4, 1)])
def test_every_order_once(backend: Any, tasks: int, hits: int) -> None:
    """Of t tasks with h visits each, all (t h)! / (h!)^t orders are run: 90 of three tasks with two visits."""
    exploration, orders = orders_of(backend, tasks, hits)
    assert len(orders) == len(set(orders)) == exploration.runs == factorial(tasks * hits) // factorial(hits) ** tasks
    assert all(Counter(order) == dict.fromkeys("abcd"[:tasks], hits) for order in orders)
    assert exploration.exhaustive
    runs = f"{exploration.runs} run{'s' if exploration.runs > 1 else ''}"
    tried = f"every order of {tasks} tasks" if tasks > 1 else "only one task to put in order"
    assert str(exploration) == f"{runs}, {tried}: no failure"


def test_the_first_run_takes_turns(backend: Any) -> None:
    """In the first run, the tasks take turns."""
    assert orders_of(backend, 3, 2, max_runs=1)[1] == ["abcabc"]


@pytest.mark.parametrize("primitive", ["anyio", "own"])
def test_behind_one_lock(backend: Any, primitive: str) -> None:
    """Three tasks with a visit before a lock and two visits inside it have 72 orders."""
    orders: list[str] = []
    own: Any = asyncio.Lock if backend == "asyncio" else trio.Lock

    async def scenario(run: Run) -> None:
        orders.append("")
        lock = anyio.Lock() if primitive == "anyio" else own()

        async def withdraw(name: str) -> None:
            await failpoint("come")
            orders[-1] += name
            async with lock:
                await failpoint("read")
                orders[-1] += name.upper()
                await failpoint("write")
                orders[-1] += name.upper()

        async with run.injecting(), anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(withdraw, name)

    exploration = explore(scenario, backend=backend, interleavings=True)
    assert exploration.runs == len(set(orders)) == 72
    assert all("AA" in order.replace("a", "").replace("b", "").replace("c", "") for order in orders)


def preemptions(order: str, hits: int) -> int:
    """Count the switches away from a task that could go on."""
    return sum(
        current != last and order[: index + 1].count(last) < hits
        for index, (last, current) in enumerate(pairwise(order))
    )


def test_max_preemptions(backend: Any) -> None:
    """`max_preemptions` leaves out exactly the orders with more switches. The verdict names the limit."""
    _, every = orders_of(backend, 3, 2)
    for most in range(6):
        exploration, orders = orders_of(backend, 3, 2, max_preemptions=most)
        assert sorted(orders) == sorted(order for order in every if preemptions(order, 2) <= most)
        assert exploration.exhaustive == (len(orders) == len(every))
        if not exploration.exhaustive:
            assert str(exploration) == (
                f"{len(orders)} runs: orders with more than max_preemptions={most} left out: not exhaustive: no failure"
                " found so far"
            )


def test_sync_visits_do_not_switch(backend: Any) -> None:
    """A sync visit cannot be held, so it adds no order."""

    async def scenario(run: Run) -> None:
        async def visit() -> None:
            failpoint("sync").hit()
            await failpoint("async")

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(visit)
            group.start_soon(visit)

    assert explore(scenario, backend=backend, interleavings=True).runs == 2


def test_tasks_that_start_tasks_and_wait_for_each_other(backend: Any) -> None:
    """Between visits, tasks may end, start others, and wait for events, streams, locks and task groups."""
    seen: set[tuple[str, ...]] = set()

    async def scenario(run: Run) -> None:
        log: list[str] = []
        send, receive = anyio.create_memory_object_stream[int](0)
        ready = anyio.Event()

        async def producer() -> None:
            async with send:
                for number in range(2):
                    await failpoint("produce", context={"number": number})
                    log.append(f"produce {number}")
                    await send.send(number)

        async def consumer() -> None:
            await ready.wait()
            async with receive:
                async for number in receive:
                    async with failpoint_scope("consume", context={"number": number}):
                        log.append(f"consume {number}")

        async def starter(tasks: Any) -> None:
            await failpoint("start")
            async with anyio.create_task_group() as inner:
                inner.start_soon(consumer)
                await failpoint("get_ready")
                ready.set()
                log.append("ready")

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(producer)
            group.start_soon(starter, group)
        seen.add(tuple(log))

    exploration = explore(scenario, backend=backend, interleavings=True)
    assert exploration.exhaustive
    assert exploration.runs == 9  # 3 positions of the first "produce", then 3 of the second
    # The stream has no buffer, so the second "produce" comes after the consumer has asked for the first item.
    assert seen == {
        ("produce 0", "ready", "consume 0", "produce 1", "consume 1"),
        ("produce 0", "ready", "produce 1", "consume 0", "consume 1"),
        ("ready", "produce 0", "consume 0", "produce 1", "consume 1"),
        ("ready", "produce 0", "produce 1", "consume 0", "consume 1"),
    }


def test_a_task_that_is_cancelled_while_held(backend: Any) -> None:
    """A task that is cancelled while it is held does not go on, and may make visits as it cleans up."""
    logs: set[tuple[str, ...]] = set()

    async def scenario(run: Run) -> None:
        log: list[str] = []

        async def worker() -> None:
            try:
                await failpoint("work")
                log.append("worked")
            finally:
                with anyio.CancelScope(shield=True):
                    failpoint("note").hit()
                    await failpoint("clean_up")
                    log.append("cleaned up")

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(worker)
            await failpoint("stop")
            log.append("stopped")
            group.cancel_scope.cancel()
        logs.add(tuple(log))

    assert explore(scenario, backend=backend, interleavings=True).exhaustive
    assert logs == {
        ("stopped", "cleaned up"),
        ("worked", "stopped", "cleaned up"),
        ("worked", "cleaned up", "stopped"),
    }


def test_tasks_that_are_held_at_the_end(backend: Any) -> None:
    """A task that is held when `run.injecting()` ends goes on, unless it was cancelled."""
    logs: set[tuple[str, ...]] = set()

    async def scenario(run: Run) -> None:
        log: list[str] = []

        async def worker(name: str, scope: anyio.CancelScope) -> None:
            with scope:
                await failpoint("work")
                log.append(name)

        cancelled, others = anyio.CancelScope(), anyio.CancelScope()
        async with anyio.create_task_group() as group, run.injecting():
            group.start_soon(worker, "cancelled", cancelled)
            group.start_soon(worker, "other", others)
            await anyio.wait_all_tasks_blocked()
            cancelled.cancel()
        logs.add(tuple(log))

    async def at_once(run: Run) -> None:
        log: list[str] = []

        async def worker(name: str) -> None:
            await failpoint("work")
            log.append(name)

        async with anyio.create_task_group() as group, run.injecting():
            group.start_soon(worker, "held")
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        logs.add(tuple(log))

    assert explore(at_once, backend=backend, interleavings=True).runs == 1
    assert logs == {()}
    assert explore(scenario, backend=backend, interleavings=True).exhaustive


def test_tasks_that_are_cancelled_together(backend: Any) -> None:
    """Tasks that are cancelled together clean up in the same order in every run."""
    logs: set[tuple[int, ...]] = set()

    async def scenario(run: Run) -> None:
        log: list[int] = []

        async def worker(number: int) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                log.append(number)

        async with run.injecting(), anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(worker, number)
            await failpoint("a")
            await failpoint("b")
            await anyio.sleep(1)
            group.cancel_scope.cancel()
        logs.add(tuple(log))

    for _ in range(5):
        explore(scenario, backend=backend, max_faults=2, faults={"*": ["yield", "off"]})
    assert len(logs) == 1


def test_asyncio_s_own_ways_to_start_tasks() -> None:
    """Tasks of `create_task`, `gather` and `TaskGroup` take turns."""
    counts: list[int] = []

    async def visit() -> None:
        await failpoint("turn")

    async def gathered(run: Run) -> None:
        async with run.injecting():
            await asyncio.gather(visit(), visit(), visit())

    async def created(run: Run) -> None:
        async with run.injecting():
            tasks = [asyncio.create_task(visit(), name=f"worker {number}") for number in range(3)]
            for task in tasks:
                await task

    async def grouped(run: Run) -> None:
        async with run.injecting(), asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(visit())

    for scenario in (gathered, created, grouped):
        counts.append(explore(scenario, interleavings=True).runs)
    assert counts == [6, 6, 6]


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="eager tasks are new in Python 3.12")
def test_eager_tasks() -> None:
    """Tasks of an eager factory take turns, although they begin before the call that creates them returns."""

    async def scenario(run: Run) -> None:
        factory: Any = asyncio.eager_task_factory  # type: ignore[attr-defined, unused-ignore]
        asyncio.get_running_loop().set_task_factory(factory)

        async def visit() -> None:
            await failpoint("turn")
            await failpoint("turn")

        async with run.injecting(), asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(visit())

    assert explore(scenario, interleavings=True).runs == 90


def test_a_poll_that_never_ends_is_cut(backend: Any) -> None:
    """A loop that visits until another task is done has endless orders. The verdict names the limit."""

    async def scenario(run: Run) -> None:
        done = False

        async def poll() -> None:
            while not done:
                await failpoint("poll")

        async def work() -> None:
            nonlocal done
            await failpoint("work")
            done = True

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(poll)
            group.start_soon(work)

    exploration = explore(scenario, backend=backend, interleavings=True)
    assert not exploration.exhaustive
    assert "orders left out after 100 turns at the same visit: not exhaustive" in str(exploration)
    assert exploration.runs < 200
    assert explore(scenario, backend=backend, interleavings=True, max_preemptions=1).runs < 200


def test_both_at_once(backend: Any) -> None:
    """A bug that needs both a fault and an order is found in fewer than ten runs."""

    async def scenario(run: Run) -> None:
        stock = {"apples": 10}

        async def sell(count: int) -> None:
            before = stock["apples"]
            stock["apples"] -= count
            try:
                await failpoint("ship")
            except Exception:
                stock["apples"] = before  # which undoes the sale of the other customer
                raise

        sold = 0

        async def customer(count: int) -> None:
            nonlocal sold
            try:
                await sell(count)
                sold += count
            except Exception:
                pass

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(customer, 1)
            group.start_soon(customer, 2)
        assert stock["apples"] == 10 - sold

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, interleavings=True, max_faults=1)
    assert failed.value.exploration.runs < 10
    assert len(failed.value.failure.faults) == 1


def test_both_counted(backend: Any) -> None:
    """With two tasks of one visit each, every order is run with every set of faults, once."""
    seen: list[tuple[str, ...]] = []

    async def scenario(run: Run) -> None:
        log: list[str] = []

        async def visit(name: str) -> None:
            try:
                await failpoint("turn", context={"name": name})
                log.append(name)
            except Exception:
                log.append(name.upper())

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(visit, "a")
            group.start_soon(visit, "b")
        seen.append(tuple(log))

    exploration = explore(scenario, backend=backend, interleavings=True, max_faults=2)
    assert sorted(seen) == sorted(
        (first, second) for one, two in (("aA", "bB"), ("bB", "aA")) for first in one for second in two
    )
    assert str(exploration) == "8 runs, every order of 2 tasks, every fault at 2 visits, up to 2 in one run: no failure"


def test_threads_that_take_unequal_time() -> None:
    """Visits in threads that are not put in order may come in another order in each run. That is not exhaustive."""
    turn = 0

    async def scenario(run: Run) -> None:
        nonlocal turn
        turn += 1
        first, second = threading.Event(), threading.Event()
        (first if turn % 2 else second).set()

        def work(number: int, mine: threading.Event, other: threading.Event) -> None:
            mine.wait(5)
            try:
                with failpoint_scope("db.write", context={"number": number}):
                    pass
            finally:
                other.set()

        async with run.injecting():
            await asyncio.gather(
                asyncio.to_thread(work, 1, first, second), asyncio.to_thread(work, 2, second, first),
                return_exceptions=True,
            )  # fmt: skip

    exploration = explore(scenario, max_faults=2)
    assert not exploration.exhaustive
    assert "visits came in another order from run to run" in str(exploration)
    with pytest.raises(ExplorationFailed, match="nondeterministic"):
        explore(scenario, interleavings=True, max_faults=2)
