"""Every wake-up as a switch point, in code that has no failpoints."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import pytest

from failpoints import failpoint
from failpoints.explore import ExplorationFailed, Run, explore


def orders_of(backend: Any, scenario_of: Any, **given: Any) -> tuple[int, set[str]]:
    """Explore a scenario that adds the names of its steps to a list, and return the runs and the orders."""
    orders: list[str] = []

    async def scenario(run: Run) -> None:
        log: list[str] = []
        await scenario_of(run, log.append)
        orders.append("".join(log))

    exploration = explore(scenario, backend=backend, interleavings="awaits", **given)
    assert exploration.exhaustive
    return exploration.runs, set(orders)


def test_checkpoints(backend: Any) -> None:
    """A task is held when it starts and at each checkpoint: two tasks of two steps have six orders."""

    async def scenario(run: Run, log: Any) -> None:
        async def step(name: str) -> None:
            log(name)
            await anyio.lowlevel.checkpoint()
            log(name)

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(step, "a")
            group.start_soon(step, "b")

    runs, orders = orders_of(backend, scenario)
    assert orders == {"aabb", "abab", "abba", "baab", "baba", "bbaa"}
    assert runs >= 6


def test_a_lost_update_without_any_failpoint(backend: Any) -> None:
    """A lost update between two checkpoints is found, and its replay fails in the same way."""

    async def scenario(run: Run) -> None:
        stock = 2

        async def sell() -> None:
            nonlocal stock
            left = stock
            await anyio.lowlevel.checkpoint()
            stock = left - 1

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(sell)
            group.start_soon(sell)
        assert stock == 0

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, interleavings="awaits")
    assert failed.value.replay.startswith("w")
    with pytest.raises(ExplorationFailed, match="in the replay"):
        explore(scenario, backend=backend, replay=failed.value.replay)


def test_the_order_of_a_lock(backend: Any) -> None:
    """Tasks that wait for a lock get it in every order in which they can ask for it."""

    async def scenario(run: Run, log: Any) -> None:
        lock = anyio.Lock()

        async def work(name: str) -> None:
            async with lock:
                log(name)
                await anyio.lowlevel.checkpoint()
                log(name)

        async with run.injecting(), anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(work, name)

    _, orders = orders_of(backend, scenario)
    assert orders == {"aabbcc", "aaccbb", "bbaacc", "bbccaa", "ccaabb", "ccbbaa"}


def test_the_tasks_that_an_event_wakes(backend: Any) -> None:
    """The tasks that one event wakes go on in every order."""

    async def scenario(run: Run, log: Any) -> None:
        ready = anyio.Event()

        async def wait(name: str) -> None:
            await ready.wait()
            log(name)

        async with run.injecting(), anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(wait, name)
            ready.set()

    _, orders = orders_of(backend, scenario)
    assert orders == {"abc", "acb", "bac", "bca", "cab", "cba"}


def test_visits_are_switch_points_too(backend: Any) -> None:
    """A visit holds its task once, and can fail."""
    seen: set[str] = set()

    async def scenario(run: Run) -> None:
        log: list[str] = []

        async def visit(name: str) -> None:
            try:
                await failpoint("turn")
                log.append(name)
            except Exception:
                log.append(name.upper())

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(visit, "a")
            group.start_soon(visit, "b")
        seen.add("".join(log))

    exploration = explore(scenario, backend=backend, interleavings="awaits", max_faults=1)
    assert exploration.exhaustive
    assert seen == {"ab", "ba", "Ab", "aB", "Ba", "bA"}


def test_a_deadlock(backend: Any) -> None:
    """Two locks in opposite order are found, with the cycle."""

    async def scenario(run: Run) -> None:
        one, other = anyio.Lock(), anyio.Lock()

        async def both(first: anyio.Lock, second: anyio.Lock) -> None:
            async with first, second:
                pass

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(both, one, other, name="one")
            group.start_soon(both, other, one, name="other")

    with pytest.raises(ExplorationFailed, match="deadlock") as failed:
        explore(scenario, backend=backend, interleavings="awaits")
    assert "the cycle" in str(failed.value)


def test_queues_gather_timeouts_and_callbacks_of_asyncio() -> None:
    """Asyncio's own tools are explored to the end: queues, gather, wait_for, shield, timeouts, callbacks."""
    seen: set[tuple[int, ...]] = set()

    async def scenario(run: Run) -> None:
        queue = asyncio.Queue[int](1)
        got: list[int] = []

        async def produce(number: int) -> None:
            await queue.put(number)

        async def consume() -> None:
            for _ in range(2):
                got.append(await asyncio.wait_for(queue.get(), 5))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await asyncio.shield(asyncio.Event().wait())

        async with run.injecting():
            await asyncio.gather(produce(1), produce(2), consume())
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()  # what was shielded
        seen.add(tuple(got))

    exploration = explore(scenario, interleavings="awaits")
    assert exploration.exhaustive
    assert seen == {(1, 2), (2, 1)}


def test_waiting_until_all_tasks_are_blocked_beside_another_thread(backend: Any) -> None:
    """A task that is held is not blocked, also while the run waits for a thread that might answer."""

    async def scenario(run: Run) -> None:
        has_begun = False

        async def other() -> None:
            nonlocal has_begun
            has_begun = True
            await anyio.sleep_forever()

        async with run.injecting(), anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            await anyio.wait_all_tasks_blocked()
            assert has_begun
            tasks.cancel_scope.cancel()

    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        explore(scenario, backend=backend, interleavings="awaits", sample=3)
    finally:
        end.set()
        thread.join()


def test_a_checkpoint_in_a_scope_that_is_cancelled_already(backend: Any) -> None:
    """Such a checkpoint raises in every order: no loop lets the task go on before its cancellation."""

    async def scenario(run: Run) -> None:
        async def other() -> None:
            await anyio.lowlevel.checkpoint()

        has_gone_on = False
        async with run.injecting(), anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await anyio.lowlevel.checkpoint()
                has_gone_on = True
        assert not has_gone_on

    assert explore(scenario, backend=backend, interleavings="awaits", reduction=None).exhaustive


def test_a_task_that_is_cancelled_while_it_is_held(backend: Any) -> None:
    """A task may be cancelled before it goes on, and after."""
    seen: set[str] = set()

    async def scenario(run: Run) -> None:
        log: list[str] = []

        async def work() -> None:
            log.append("a")
            await anyio.lowlevel.checkpoint()
            log.append("b")
            await anyio.lowlevel.checkpoint()
            log.append("c")

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(work)
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        seen.add("".join(log))

    assert explore(scenario, backend=backend, interleavings="awaits").exhaustive
    assert {"a", "ab"} <= seen <= {"", "a", "ab", "abc"}


def test_a_run_that_is_ended_lets_its_tasks_clean_up(backend: Any) -> None:
    """After a deadlock, the tasks are cancelled, and each goes on to its end, through its own wake-ups."""
    cleaned_up: list[str] = []

    async def scenario(run: Run) -> None:
        async def work(name: str) -> None:
            try:
                await anyio.Event().wait()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.lowlevel.checkpoint()
                cleaned_up.append(name)

        cleaned_up.clear()
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(work, "a")
            group.start_soon(work, "b")

    with pytest.raises(ExplorationFailed, match="deadlock"):
        explore(scenario, backend=backend, interleavings="awaits")
    assert sorted(cleaned_up) == ["a", "b"]
