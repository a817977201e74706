"""Threads of async scenarios take turns with the tasks: at visits, at primitives, and where they begin and end."""

from __future__ import annotations

import asyncio
import operator
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from failpoints import failpoint
from failpoints.explore import ExplorationFailed, Run, explore

STEPS = 3  # of a job with one visit: from its begin to the visit, from there to its end, and its answer


async def in_task(log: list[str], name: str) -> None:
    await failpoint("in.task")
    log.append(name)


def in_thread(log: list[str], name: str) -> None:
    log.append(name)
    failpoint("in.thread").hit()
    log.append(name)


def orders_of(*programs: str) -> set[str]:
    """Return every merge of these texts."""
    letters = "".join(programs)
    return {
        "".join(order)
        for order in permutations(letters)
        if all("".join(letter for letter in order if letter in program) == program for program in programs)
    }


@pytest.mark.parametrize("reduction", [None, "sound"])
def test_every_order_of_tasks_and_threads(backend: Any, reduction: Any) -> None:
    """Each order in which two tasks and a thread can run their steps is run, and no other one."""
    seen: set[str] = set()

    async def scenario(run: Run) -> None:
        log: list[str] = []
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(in_task, log, "a")
            group.start_soon(in_task, log, "b")
            group.start_soon(anyio.to_thread.run_sync, in_thread, log, "c")
        seen.add("".join(log))

    exploration = explore(scenario, backend=backend, interleavings=True, reduction=reduction)
    assert exploration.exhaustive
    assert exploration.runs == 20  # of five steps, of which three are the thread's
    assert seen == orders_of("a", "b", "cc")


@pytest.mark.parametrize("interleavings", [True, "awaits"])
def test_an_update_is_lost_between_a_task_and_a_thread(backend: Any, interleavings: Any) -> None:
    """An update that is lost between a task and a thread is found, and its replay repeats it."""

    async def scenario(run: Run) -> None:
        balance = 0

        def deposit_in_thread() -> None:
            nonlocal balance
            before = balance
            failpoint("in.thread").hit()
            balance = before + 1

        async def deposit() -> None:
            nonlocal balance
            before = balance
            await failpoint("in.task")
            balance = before + 1

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(deposit)
            group.start_soon(anyio.to_thread.run_sync, deposit_in_thread)
        assert balance == 2

    with pytest.raises(ExplorationFailed) as caught:
        explore(scenario, backend=backend, interleavings=interleavings)
    assert "deposit_in_thread  in.thread" in str(caught.value)
    with pytest.raises(ExplorationFailed, match="AssertionError"):
        explore(scenario, backend=backend, interleavings=interleavings, replay=caught.value.replay)


@pytest.mark.parametrize("is_locked", [False, True])
@pytest.mark.parametrize("reduction", ["sound", "declared"])
def test_two_threads_and_a_lock(backend: Any, is_locked: bool, reduction: Any) -> None:
    """A lock of `threading` that the scenario makes is steered: with it, no update of two calls is lost."""

    async def scenario(run: Run) -> None:
        balance = 0
        lock = threading.Lock() if is_locked else threading.Semaphore(2)

        def deposit() -> None:
            nonlocal balance
            with lock:
                failpoint("read", reads=("balance",)).hit()
                before = balance
                failpoint("write", writes=("balance",)).hit()
                balance = before + 1

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, deposit)
            group.start_soon(anyio.to_thread.run_sync, deposit)
        assert balance == 2

    if is_locked and reduction == "declared":
        exploration = explore(scenario, backend=backend, interleavings=True, reduction=reduction)
        assert exploration.exhaustive
        assert exploration.runs == 4  # the order of the two under the lock, and that of their answers
    elif not is_locked:
        with pytest.raises(ExplorationFailed, match="AssertionError"):
            explore(scenario, backend=backend, interleavings=True, reduction=reduction)


def test_a_deadlock_of_a_task_and_a_thread(backend: Any) -> None:
    """A deadlock of a task that awaits a thread, and a thread that waits for the event loop, is found at once."""

    async def scenario(run: Run) -> None:
        ready = anyio.Event()
        async with run.injecting():
            await anyio.to_thread.run_sync(anyio.from_thread.run, ready.wait)
            ready.set()

    with pytest.raises(ExplorationFailed, match="deadlock: every task is waiting"):
        explore(scenario, backend=backend, interleavings=True)


def test_a_deadlock_of_threads(backend: Any) -> None:
    """Two calls that take two locks in different orders deadlock: the locks and the cycle are shown."""

    async def scenario(run: Run) -> None:
        left, right = threading.Lock(), threading.Lock()

        def take(first: Any, second: Any) -> None:
            with first, second:
                pass

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, take, left, right)
            group.start_soon(anyio.to_thread.run_sync, take, right, left)

    with pytest.raises(ExplorationFailed, match="the cycle: take 1 → take 2 → take 1"):
        explore(scenario, backend=backend, interleavings=True, reduction="declared")


def test_a_thread_that_the_scenario_starts(backend: Any) -> None:
    """A `threading.Thread` is steered as well, and its error fails the run."""

    async def scenario(run: Run, work: Callable[[list[str], str], None]) -> None:
        log: list[str] = []
        async with run.injecting():
            threading.Thread(target=work, args=(log, "c")).start()
            await in_task(log, "a")

    def fail(log: list[str], name: str) -> None:
        raise ValueError(name)

    exploration = explore(lambda run: scenario(run, in_thread), backend=backend, interleavings=True)
    assert exploration.exhaustive
    assert (exploration.tasks, exploration.threads) == (1, 1)
    with pytest.raises(ExplorationFailed, match="thread fail failed"):
        explore(lambda run: scenario(run, fail), backend=backend, interleavings=True)


def test_threads_that_visit_nothing(backend: Any) -> None:
    """Threads have an order without any visit."""

    async def scenario(run: Run) -> None:
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, int)
            group.start_soon(anyio.to_thread.run_sync, int)

    exploration = explore(scenario, backend=backend, interleavings=True)
    assert str(exploration) == "6 runs, every order of 2 threads at visits and primitives: no failure"


def test_an_update_is_lost_before_a_thread_calls_into_the_event_loop(backend: Any) -> None:
    """A task can go on between what a thread has read and what it has the event loop write."""
    ends: set[int] = set()

    async def scenario(run: Run) -> None:
        number = 0

        def write(new: int) -> None:
            nonlocal number
            number = new

        async def add() -> None:
            nonlocal number
            await failpoint("add")
            number += 1

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(
                anyio.to_thread.run_sync, lambda: anyio.from_thread.run_sync(write, operator.add(number, 1))
            )
            group.start_soon(add)
        ends.add(number)

    exploration = explore(scenario, backend=backend, interleavings=True)
    assert exploration.exhaustive
    assert ends == {1, 2}


def test_a_thread_answers_while_another_one_calls_into_the_event_loop(backend: Any) -> None:
    """The two calls are single operations, and do not wait for each other."""
    ends: set[str] = set()

    async def scenario(run: Run) -> None:
        log: list[str] = []

        async def in_thread_of_thread() -> None:
            await anyio.to_thread.run_sync(in_thread, log, "c")

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, anyio.from_thread.run, in_thread_of_thread)
            group.start_soon(in_task, log, "a")
        ends.add("".join(log))

    exploration = explore(scenario, backend=backend, interleavings=True)
    assert exploration.exhaustive
    assert ends == orders_of("a", "cc")


def test_a_fault_in_a_thread(backend: Any) -> None:
    """A fault is injected in a thread, in every order, and reaches the task that awaits it."""
    errors: list[str] = []

    async def scenario(run: Run) -> None:
        log: list[str] = []
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(in_task, log, "a")
            try:
                await anyio.to_thread.run_sync(in_thread, log, "c")
            except Exception as error:
                errors.append(type(error).__name__)

    exploration = explore(scenario, backend=backend, interleavings=True, max_faults=1, faults={"in.thread": ["raise"]})
    assert exploration.exhaustive
    assert set(errors) == {"InjectedFault"}


def test_a_task_that_blocks_its_event_loop(backend: Any) -> None:
    """A task that waits for a thread without awaiting goes on once the thread has. That is not exhaustive."""

    async def scenario(run: Run) -> None:
        log: list[str] = []
        thread = threading.Thread(target=in_thread, args=(log, "c"))
        async with run.injecting():
            thread.start()
            thread.join()
            assert log == ["c", "c"]
            await in_task(log, "a")

    exploration = explore(scenario, backend=backend, interleavings=True)
    assert exploration.bounds == ("a task waited for a thread without letting its event loop go on",)


def test_executors_of_asyncio() -> None:
    """Calls in the default executor and in one of the scenario's own are put in order."""

    async def scenario(run: Run, executor: ThreadPoolExecutor | None) -> None:
        log: list[str] = []
        loop = asyncio.get_running_loop()
        async with run.injecting():
            calls = [loop.run_in_executor(executor, in_thread, log, name) for name in "ab"]
            await asyncio.gather(*calls)

    async def with_own(run: Run) -> None:
        with ThreadPoolExecutor(1) as executor:
            await scenario(run, executor)

    assert explore(lambda run: scenario(run, None), interleavings=True).runs == 20
    assert explore(with_own, interleavings=True, reduction="declared").exhaustive


def test_an_executor_that_is_not_shut_down(caplog: pytest.LogCaptureFixture) -> None:
    """Its idle worker is ended with the run, without a word."""

    async def scenario(run: Run) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        async with run.injecting():
            await asyncio.to_thread(in_thread, [], "c")

    assert explore(scenario, interleavings=True).exhaustive
    assert not caplog.records


def test_a_lock_of_a_dataclass_that_was_made_after_other_explorations(backend: Any) -> None:
    """Closures are looked into once a run has threads. If there is a new one, that run does not count."""
    calls = 0

    async def nothing(run: Run) -> None:
        pass

    explore(nothing, backend=backend, interleavings=True)

    @dataclass
    class Box:
        lock: Any = field(default_factory=threading.Lock)

    async def scenario(run: Run) -> None:
        nonlocal calls
        calls += 1
        box = Box()

        def work() -> None:
            with box.lock:
                failpoint("inside").hit()

        async with run.injecting(), anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(anyio.to_thread.run_sync, work)

    first = explore(scenario, backend=backend, interleavings=True, reduction="declared")
    assert calls == first.runs + 1
    second = explore(scenario, backend=backend, interleavings=True, reduction="declared")
    assert calls == first.runs + 1 + second.runs
    assert first.exhaustive and second.exhaustive
    assert first.runs == second.runs
    assert type(Box().lock).__module__ == "_thread"


def test_calls_beyond_the_size_of_an_executor() -> None:
    """A call that finds no free worker begins once another one has ended."""
    most: set[int] = set()

    async def scenario(run: Run) -> None:
        running = 0

        def count() -> None:
            nonlocal running
            running += 1
            most.add(running)
            failpoint("count", writes=("running",)).hit()
            running -= 1

        loop = asyncio.get_running_loop()
        async with run.injecting():
            await loop.run_in_executor(None, int)
            executor: Any = loop._default_executor  # type: ignore[attr-defined]
            executor._max_workers = 1
            await asyncio.gather(*(asyncio.to_thread(count) for _ in range(3)))

    assert explore(scenario, interleavings=True).exhaustive
    assert most == {1}
