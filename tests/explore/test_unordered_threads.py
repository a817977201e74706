"""When an exploration of orders is exhaustive although there are threads, and when it is not."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from failpoints import failpoint
from failpoints.explore import Run, explore

UNORDERED = ("threads were not put in order",)


def visit_in_thread() -> None:
    failpoint("in.thread").hit()


async def visit() -> None:
    await failpoint("in.task")


def test_two_threads_that_visit(backend: Any) -> None:
    """Two threads that visit failpoints are put in order: each begins, visits and ends."""

    async def scenario(run: Run) -> None:
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, visit_in_thread)
            group.start_soon(anyio.to_thread.run_sync, visit_in_thread)

    exploration = explore(scenario, backend=backend, interleavings=True)
    assert str(exploration) == "20 runs, every order of 2 threads at visits and primitives: no failure"


@pytest.mark.parametrize("function", [visit_in_thread, int])
def test_a_thread_beside_a_held_task(backend: Any, function: Any) -> None:
    """A thread takes turns with a task that is held, whether or not it visits a failpoint itself."""

    async def scenario(run: Run) -> None:
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(visit)
            group.start_soon(anyio.to_thread.run_sync, function)

    exploration = explore(scenario, backend=backend, interleavings=True)
    runs = 3 if function is int else 4
    assert str(exploration) == f"{runs} runs, every order of 1 task and 1 thread at visits and primitives: no failure"


def test_one_thread_after_the_other(backend: Any) -> None:
    """The order is not in doubt if a scenario is a single task that waits for each of its threads."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            for _ in range(3):
                await anyio.to_thread.run_sync(visit_in_thread)
                await visit()

    assert explore(scenario, backend=backend, interleavings=True).exhaustive


def test_threads_without_interleavings(backend: Any) -> None:
    """An exploration of faults alone claims nothing about orders."""

    async def scenario(run: Run) -> None:
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(visit)
            group.start_soon(anyio.to_thread.run_sync, int)

    assert explore(scenario, backend=backend, max_faults=0).exhaustive


def test_a_thread_outside_the_block(backend: Any) -> None:
    """A thread that works before and after `run.injecting()` is not part of what is explored."""

    async def scenario(run: Run) -> None:
        await anyio.to_thread.run_sync(int)
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(visit)
            group.start_soon(visit)
        await anyio.to_thread.run_sync(int)

    assert explore(scenario, backend=backend, interleavings=True).exhaustive


def test_several_threads_of_one_task() -> None:
    """Two calls that a single task makes in an executor are put in order, and so is one beside its own task."""

    async def two_calls(run: Run) -> None:
        loop = asyncio.get_running_loop()
        async with run.injecting():
            calls = [loop.run_in_executor(None, visit_in_thread) for _ in range(2)]
            for call in calls:
                await call

    async def beside_itself(run: Run) -> None:
        async with run.injecting():
            call = asyncio.get_running_loop().run_in_executor(None, int)
            await visit()
            await call

    assert explore(two_calls, interleavings=True).runs == 20
    assert explore(beside_itself, interleavings=True).runs == 3


def test_a_thread_of_the_program(backend: Any) -> None:
    """A thread that was there before the run, and that answers a task, races with the other tasks."""
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def serve() -> None:
        while (request := requests.get()) is not None:
            answer, token = request
            anyio.from_thread.run_sync(answer, token=token)

    async def scenario(run: Run) -> None:
        answered = anyio.Event()
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(visit)
            requests.put((answered.set, anyio.lowlevel.current_token()))
            await answered.wait()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert explore(scenario, backend=backend, interleavings=True).bounds == UNORDERED
    finally:
        requests.put(None)
        thread.join(10)


def test_threads_of_the_event_loop(backend: Any) -> None:
    """An event loop may use threads to look up an address and to wait for a process: these race with nothing."""

    async def look_up() -> None:
        await anyio.getaddrinfo("localhost", 80)
        await anyio.run_process([sys.executable, "-c", ""], stdin=None)

    async def scenario(run: Run) -> None:
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(visit)
            group.start_soon(look_up)

    assert explore(scenario, backend=backend, interleavings=True, timeout=20).exhaustive
