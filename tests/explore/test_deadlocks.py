"""Deadlocks: found at once, and shown with the locks, their holders and the cycle."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from typing import Any

import anyio
import anyio.abc
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio

from failpoints import failpoint
from failpoints.explore import ExplorationFailed, Run, explore
from tests.explore.connection import WAIT


def lock_of(backend: str, library: str) -> Any:
    own: Any = asyncio.Lock if backend == "asyncio" else trio.Lock
    return anyio.Lock() if library == "anyio" else own()


@pytest.mark.parametrize("library", ["anyio", "own"])
def test_two_locks_in_opposite_order(backend: Any, library: str) -> None:
    """A deadlock is found at once. The message shows which task waits for which lock, the holder, and the cycle."""

    async def move(run: Run) -> None:
        savings, current = lock_of(backend, library), lock_of(backend, library)

        async def deposit() -> None:
            async with savings:
                await failpoint("deposit")
                async with current:
                    pass

        async def withdraw() -> None:
            async with current:
                await failpoint("withdraw")
                async with savings:
                    pass

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(deposit)
            group.start_soon(withdraw)

    start = time.monotonic()
    with pytest.raises(ExplorationFailed) as failed:
        explore(move, backend=backend, interleavings=True, timeout=20)
    assert time.monotonic() - start < 15
    assert failed.value.failure.kind == "deadlock"
    message = str(failed.value)
    assert "deposit   waits for the lock current, held by withdraw, at " in message
    assert "withdraw  waits for the lock savings, held by deposit, at " in message
    assert "the cycle: deposit → withdraw → deposit" in message


def test_three_locks_of_an_object(backend: Any) -> None:
    """A cycle may have more than two tasks, and a lock may be an attribute."""

    class Table:
        def __init__(self) -> None:
            self.forks = [anyio.Lock() for _ in range(3)]
            self.left, self.middle, self.right = self.forks

        async def ada(self) -> None:
            async with self.left:
                await failpoint("take")
                async with self.middle:
                    pass

        async def bob(self) -> None:
            async with self.middle:
                await failpoint("take")
                async with self.right:
                    pass

        async def eve(self) -> None:
            async with self.right:
                await failpoint("take")
                async with self.left:
                    pass

    async def dine(run: Run) -> None:
        table = Table()
        async with run.injecting(), anyio.create_task_group() as group:
            for eat in (table.ada, table.bob, table.eve):
                group.start_soon(eat)

    with pytest.raises(ExplorationFailed) as failed:
        explore(dine, backend=backend, interleavings=True)
    message = str(failed.value)
    assert "ada   waits for the lock self.middle, held by bob" in message
    assert "the cycle: ada → bob → eve → ada" in message


def test_a_task_that_waits_for_its_child(backend: Any) -> None:
    """A task may hold a lock while it waits for a task that wants the lock."""

    async def scenario(run: Run) -> None:
        lock = anyio.Lock()

        async def child() -> None:
            async with lock:
                pass

        async with run.injecting(), lock:
            await failpoint("holding")
            async with anyio.create_task_group() as group:
                group.start_soon(child)

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend)
    message = str(failed.value)
    assert "child     waits for the lock lock, held by scenario, at " in message
    assert "scenario  waits in TaskGroup.__aexit__, at " in message


def test_an_event_that_is_never_set(backend: Any) -> None:
    """A task that waits for an event that is never set is a deadlock, shown with its line."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("ask")
            await anyio.Event().wait()

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend)
    assert failed.value.failure.kind == "deadlock"
    assert "waits in Event" in str(failed.value)
    assert ": await anyio.Event().wait()" in str(failed.value)


def test_a_lock_that_is_not_released_after_a_fault(backend: Any) -> None:
    """A lock that an error path does not release is found."""

    async def scenario(run: Run) -> None:
        lock = anyio.Lock()

        async def careless() -> None:
            await lock.acquire()
            await failpoint("work", raises=(OSError,))
            lock.release()

        async with run.injecting():
            try:
                await careless()
            except OSError:
                pass

            async def next_one() -> None:
                async with lock:
                    pass

            async with anyio.create_task_group() as group:
                group.start_soon(next_one)

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend)
    assert failed.value.failure.kind == "deadlock"
    assert failed.value.failure.faults == ("work=raise(OSError)",)
    assert "next_one  waits for the lock lock, held by scenario" in str(failed.value)


def test_a_shielded_deadlock(backend: Any) -> None:
    """A deadlock inside a shielded scope ends its run too."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            with anyio.CancelScope(shield=True):
                await anyio.sleep_forever()

    start = time.monotonic()
    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, timeout=20)
    assert failed.value.failure.kind == "deadlock"
    assert time.monotonic() - start < 15


def test_a_deadlock_after_threads(backend: Any) -> None:
    """Threads that have nothing left to do do not hide a deadlock."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await anyio.to_thread.run_sync(int)
            if backend == "asyncio":
                await asyncio.to_thread(int)
            await anyio.sleep_forever()

    start = time.monotonic()
    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, timeout=20)
    assert failed.value.failure.kind == "deadlock"
    assert time.monotonic() - start < 15


def test_a_thread_that_may_still_answer(backend: Any) -> None:
    """While another thread is alive, a stuck run is reported as a hang, with the reason."""
    release = threading.Event()

    async def scenario(run: Run) -> None:
        async with run.injecting():
            threading.Thread(target=release.wait, name="the other one").start()
            await anyio.sleep_forever()

    try:
        with pytest.raises(ExplorationFailed) as failed:
            explore(scenario, backend=backend, timeout=0.3)
    finally:
        release.set()
    assert failed.value.failure.kind == "hang"
    assert "not reported as a deadlock, since other threads might still answer: the other one" in str(failed.value)


@pytest.mark.skipif(sys.platform == "win32", reason="no event loop handles signals on Windows")
def test_a_signal_that_is_still_to_come(backend: Any) -> None:
    """A run that waits for a signal is not a deadlock."""

    async def scenario(run: Run) -> None:
        with anyio.open_signal_receiver(signal.SIGALRM) as signals:
            signal.setitimer(signal.ITIMER_REAL, WAIT)
            async with run.injecting():
                async for _ in signals:
                    break

    assert explore(scenario, backend=backend, timeout=20).runs == 1


@pytest.mark.parametrize("interleavings", [False, "visits", "awaits"])
def test_tasks_that_wait_for_each_other(interleavings: Any) -> None:
    """Two tasks that await each other are a deadlock. They are ended, although asyncio cannot cancel either of them."""

    async def scenario(run: Run) -> None:
        tasks: list[asyncio.Task[None]] = []

        async def wait(number: int) -> None:
            try:
                await tasks[number]
            finally:
                ended.append(number)

        async with run.injecting():
            tasks.extend([asyncio.create_task(wait(1)), asyncio.create_task(wait(0))])
            await asyncio.gather(*tasks)

    ended: list[int] = []
    with pytest.raises(ExplorationFailed, match="waits for wait 2 to end") as failed:
        explore(scenario, interleavings=interleavings)
    assert failed.value.failure.kind == "deadlock"
    assert set(ended) == {0, 1}
