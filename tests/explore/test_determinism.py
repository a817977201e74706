"""Seeds, tasks and orders are the same in every run, differences are reported, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import count
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio
import trio._core._run as trio_run
from anyio._backends._asyncio import CancelScope

import failpoints
from failpoints import failpoint, failpoint_scope
from failpoints._core import store as _store
from failpoints._core.entered import entered
from failpoints.explore import Exploration, ExplorationFailed, Run, explore


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Check that everything that an exploration changes in the process is restored."""
    before = (trio_run._r, trio_run._ALLOW_DETERMINISTIC_SCHEDULING, CancelScope.__init__, asyncio.Lock.acquire)
    yield
    assert before == (
        trio_run._r, trio_run._ALLOW_DETERMINISTIC_SCHEDULING, CancelScope.__init__, asyncio.Lock.acquire,
    )  # fmt: skip
    assert not _store.ARMED
    assert list(_store.stores_in_force) == [_store.PROCESS_STORE]


def test_seeds(backend: Any) -> None:
    """`random` and the probabilities of failpoints give the same results in every run."""
    drawn: list[tuple[float, tuple[bool, ...]]] = []

    async def scenario(run: Run) -> None:
        store = entered.get()[0]
        store.install(store.prepare("chance", "50%return"))
        chances = tuple([bool(await failpoint("chance")) for _ in range(20)])
        drawn.append((random.random(), chances))
        async with run.injecting():
            await failpoint("visit")

    for _ in range(2):
        assert explore(scenario, backend=backend).runs == 2
    assert len(drawn) == 4
    assert len(set(drawn)) == 1


def test_batches_of_tasks_run_in_order(backend: Any) -> None:
    """Tasks that start together, or are woken together, run in the same order in every run."""
    orders: set[tuple[int, ...]] = set()

    async def scenario(run: Run) -> None:
        log: list[int] = []
        event = anyio.Event()

        async def worker(number: int) -> None:
            log.append(number)
            await event.wait()
            log.append(number)

        async with run.injecting(), anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(worker, number)
            await anyio.wait_all_tasks_blocked()
            event.set()
            await failpoint("visit")
        orders.add(tuple(log))

    for _ in range(5):
        explore(scenario, backend=backend, faults={"visit": ["off"] * 5})
    assert orders == {(*range(10), *range(10))}


def test_a_visit_that_changes_from_run_to_run(backend: Any) -> None:
    """A run that does not make the visit that it was to fail is reported, with both visits."""
    runs = count()

    async def scenario(run: Run) -> None:
        number = next(runs)
        async with run.injecting():
            await failpoint(f"visit.{number}")

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend)
    assert failed.value.failure.kind == "nondeterministic"
    assert str(failed.value).splitlines()[:3] == [
        "scenario is nondeterministic: run 2 did not follow its plan, at its decision 1.",
        "  expected, as in an earlier run:  visit.0 (task of the scenario, visit 1)",
        "  found:                           visit.1 (task of the scenario, visit 1)",
    ]


def test_an_order_that_changes_from_run_to_run(backend: Any) -> None:
    """A choice between other tasks than in an earlier run is reported, and so is a run that ends too early."""
    runs = count()

    async def scenario(run: Run) -> None:
        first = not next(runs)

        async def visit() -> None:
            await failpoint("one")
            if first:
                await failpoint("two")

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(visit)
            group.start_soon(visit)

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, interleavings=True)
    assert failed.value.failure.kind == "nondeterministic"
    assert str(failed.value).splitlines()[1:3] == [
        "  expected, as in an earlier run:  one (task 2, visit 1) or two (task 1, visit 1)",
        "  found:                           the run ended before it",
    ]


def test_a_failure_that_is_not_repeated(backend: Any) -> None:
    """A run that fails, and passes when it is repeated, is reported as nondeterministic."""
    runs = count()

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("visit")
        if next(runs) == 1:
            raise OSError("only once")

    with pytest.raises(ExplorationFailed, match="it failed, and passed when it was repeated") as failed:
        explore(scenario, backend=backend)
    assert failed.value.failure.kind == "nondeterministic"
    assert isinstance(failed.value.__cause__, OSError)


def test_the_same_visits_in_another_order(backend: Any) -> None:
    """Without interleavings, visits may come in another order. The exploration is not exhaustive then."""
    runs = count()

    async def scenario(run: Run) -> None:
        names = ["a", "b"] if next(runs) % 2 else ["b", "a"]
        async with run.injecting():
            for name in names:
                try:
                    await failpoint(name)
                except failpoints.InjectedFault:
                    pass

    exploration = explore(scenario, backend=backend)
    assert exploration.runs == 3
    assert str(exploration) == (
        "3 runs: visits came in another order from run to run: not exhaustive: no failure found so far"
    )


def test_in_several_threads_at_once() -> None:
    """Explorations in several threads, on both backends, do not affect each other."""
    explored: dict[int, Exploration] = {}
    errors: list[BaseException] = []

    async def scenario(run: Run) -> None:
        async def visit() -> None:
            await failpoint("visit")
            await failpoint("visit")

        async with run.injecting(), anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(visit)

    def in_thread(number: int, backend: Any) -> None:
        try:
            explored[number] = explore(scenario, backend=backend, interleavings=True)
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=in_thread, args=(number, backend))
        for number, backend in enumerate(["asyncio", "trio", "asyncio", "trio"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert [explored[number].runs for number in range(4)] == [90] * 4


def test_other_code_is_not_explored(backend: Any) -> None:
    """Visits of other threads, on event loops of their own, are not part of the exploration."""
    stop, visited = threading.Event(), threading.Event()
    outcomes: list[Any] = []

    def elsewhere() -> None:
        async def visits() -> None:
            while not stop.is_set():
                outcomes.append(await failpoint("visit"))
                visited.set()
                await anyio.lowlevel.checkpoint()

        anyio.run(visits, backend=backend)

    async def scenario(run: Run) -> None:
        visited.clear()
        assert visited.wait(10)
        async with run.injecting():
            await failpoint("visit")

    thread = threading.Thread(target=elsewhere)
    thread.start()
    try:
        assert explore(scenario, backend=backend).runs == 2
    finally:
        stop.set()
        thread.join(10)
    assert set(outcomes) == {failpoints.Continue()}


def test_a_loop_inside_a_thread(backend: Any) -> None:
    """An async visit on another loop, in a thread of the run, can be made to fail, and is not held."""

    async def elsewhere() -> None:
        await failpoint("elsewhere")

    def in_thread() -> None:
        try:
            anyio.run(elsewhere)
        except failpoints.InjectedFault:
            pass

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await anyio.to_thread.run_sync(in_thread)

    assert explore(scenario, backend=backend, interleavings=True, max_faults=1).runs == 2


MEMORY = """
import gc, sys, tracemalloc

import anyio

from failpoints import failpoint
from failpoints.explore import explore

async def scenario(run):
    async def visit():
        await failpoint("visit")
        await failpoint("visit")

    async with run.injecting(), anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(visit)

def look(progress):
    if progress.runs in (100, 500):
        gc.collect()
        print(tracemalloc.get_traced_memory()[0])

tracemalloc.start()
explore(scenario, backend=sys.argv[1], interleavings=True, on_run=look, max_runs=500)
"""


def test_memory_stays_level(backend: Any) -> None:
    """Memory does not grow with the number of runs. Measured in a process in which nothing else has run."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, backend], capture_output=True, text=True, timeout=60, check=True
    )
    before, after = map(int, done.stdout.split())
    assert after - before < 25_000


def test_an_interrupt() -> None:
    """`KeyboardInterrupt` ends an exploration, and nothing is left armed."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("visit")
            raise KeyboardInterrupt

    for backend in ("asyncio", "trio"):
        with pytest.raises(KeyboardInterrupt):
            explore(scenario, backend=backend)  # type: ignore[arg-type]


def test_system_tasks_of_trio() -> None:
    """A system task of trio visits failpoints like any other task."""

    async def scenario(run: Run) -> None:
        done = trio.Event()

        async def system() -> None:
            try:
                await failpoint("system")
            except failpoints.InjectedFault:
                pass
            done.set()

        async with run.injecting():
            trio.lowlevel.spawn_system_task(system)
            await done.wait()

    assert explore(scenario, backend="trio", interleavings=True, max_faults=1).runs >= 1


def test_garbage_is_collected_between_runs(backend: Any) -> None:
    """Garbage is collected between runs, never during one: its finalizers would run at another visit each time."""
    seen: set[bool] = set()
    collected: list[int] = []

    async def scenario(run: Run) -> None:
        seen.add(gc.isenabled())
        in_run.append(True)
        for _ in range(3000):
            cycle: list[Any] = []
            cycle.append(cycle)
        async with run.injecting():
            await failpoint("visit")
        in_run.clear()

    def look(phase: str, info: dict[str, int]) -> None:
        collected.append(len(in_run))

    in_run: list[bool] = []
    gc.callbacks.append(look)
    try:
        explore(scenario, backend=backend, faults={"visit": ["off"] * 20})
    finally:
        gc.callbacks.remove(look)
    assert seen == {False}
    assert gc.isenabled()
    assert collected
    assert not any(collected)


@pytest.mark.parametrize("was_enabled", [True, False])
def test_garbage_collection_is_restored(backend: Any, was_enabled: bool) -> None:
    """After a failure, garbage collection is on if it was on before."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("visit")
            raise OSError("always")

    (gc.enable if was_enabled else gc.disable)()
    try:
        with pytest.raises(ExplorationFailed):
            explore(scenario, backend=backend)
        assert gc.isenabled() is was_enabled
    finally:
        gc.enable()


def test_empty_contexts() -> None:
    """Visits in an executor, and in a task that was given an empty context, belong to the run."""

    def work() -> None:
        with failpoint_scope("executor"):
            pass

    async def visit() -> None:
        await failpoint("task")

    async def in_executor(run: Run) -> None:
        async with run.injecting():
            await asyncio.get_running_loop().run_in_executor(None, work)

    async def in_a_context(run: Run) -> None:
        store = entered.get()[0]
        async with run.injecting():
            await asyncio.create_task(visit(), context=contextvars.Context())
        store.install(store.prepare("task", "return"))
        seen.append(await asyncio.create_task(counted(), context=contextvars.Context()))

    async def counted() -> bool:
        return bool(await failpoint("task"))

    seen: list[bool] = []
    assert explore(in_executor).runs == 3
    assert explore(in_a_context).runs == 2
    assert seen == [True, True]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
def test_sets_of_eager_tasks() -> None:
    """Eager tasks have the same order in every set."""
    orders: set[tuple[str, ...]] = set()

    async def scenario(run: Run) -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]

        async def visit() -> None:
            await asyncio.sleep(0)

        async with run.injecting():
            kept.append([object() for _ in range(len(kept) * 7)])
            tasks = {asyncio.create_task(visit(), name=name) for name in "abcdefgh"}
            orders.add(tuple(task.get_name() for task in tasks))
            await asyncio.gather(*tasks)
            await failpoint("visit")

    kept: list[Any] = []
    for _ in range(3):
        explore(scenario, faults={"visit": ["off"] * 10})
    assert len(orders) == 1


def test_two_explorations_in_threads_leave_asyncio_as_it_was() -> None:
    """An exploration that records a run may go on after another one has ended, which has wrapped the same method."""
    acquire = asyncio.Lock.acquire
    first_runs, second_records, first_has_ended = threading.Event(), threading.Event(), threading.Event()
    runs = 0

    async def first(run: Run) -> None:
        async with run.injecting():
            await failpoint("visit")
        first_runs.set()
        assert second_records.wait(20)

    async def second(run: Run) -> None:
        nonlocal runs
        runs += 1
        if runs == 2:  # the run that confirms the failure
            second_records.set()
            assert first_has_ended.wait(20)
        raise LookupError

    def explore_first() -> None:
        explore(first, interleavings=True, timeout=30)
        first_has_ended.set()

    thread = threading.Thread(target=explore_first)
    thread.start()
    assert first_runs.wait(20)
    with pytest.raises(ExplorationFailed):
        explore(second, timeout=30)
    thread.join(20)
    assert asyncio.Lock.acquire is acquire
