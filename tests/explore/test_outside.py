"""Threads, processes, sockets and signals: a run really waits for them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.abc
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio

from failpoints import failpoint
from failpoints._explore.loops import outside_waits
from failpoints.explore import ExplorationFailed, Run, explore
from tests.explore.connection import WAIT, Connection

pytestmark = pytest.mark.usefixtures("patience")


def in_thread_of_anyio() -> Any:
    return anyio.to_thread.run_sync(time.sleep, WAIT)


async def in_thread_of_asyncio() -> None:
    await asyncio.to_thread(time.sleep, WAIT)


async def in_thread_of_trio() -> None:
    await trio.to_thread.run_sync(time.sleep, WAIT)


@pytest.fixture(scope="module")
def pool() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """Start a pool that is older than every run."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        yield pool


async def in_own_thread() -> None:
    event = anyio.Event()
    token = anyio.lowlevel.current_token()

    def answer() -> None:
        time.sleep(WAIT)
        anyio.from_thread.run_sync(event.set, token=token)

    threading.Thread(target=answer).start()
    await event.wait()


async def in_process() -> None:
    await anyio.run_process([sys.executable, "-c", f"import time; time.sleep({WAIT})"], stdin=None)


async def over_a_socket() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:

        async def answer(stream: Any) -> None:
            async with stream:
                await stream.send(await stream.receive())

        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, answer)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(b"hello")
                assert await stream.receive() == b"hello"
            group.cancel_scope.cancel()


async def over_a_pipe() -> None:
    ours, theirs = socket.socketpair()

    def answer() -> None:
        time.sleep(WAIT)
        theirs.send(b"!")

    thread = threading.Thread(target=answer)
    thread.start()
    with ours, theirs:
        await anyio.wait_readable(ours)
        thread.join()


LATE = ("a task went on before a socket, a pipe or a process had answered",)
OUTSIDE = [in_thread_of_anyio, in_own_thread, in_process, over_a_socket, over_a_pipe]


@pytest.mark.parametrize("wait", OUTSIDE)
@pytest.mark.parametrize("interleavings", [False, True])
def test_waiting_for_the_outside(backend: Any, wait: Any, interleavings: bool) -> None:
    """A run really waits for a thread, a process or a socket, both with and without a timer beside it."""

    async def scenario(run: Run) -> None:
        async def visitor() -> None:
            await failpoint("visit")

        async with run.injecting():
            async with anyio.create_task_group() as group:
                group.start_soon(visitor)
                await wait()
                await failpoint("answered")
                group.start_soon(visitor)
            with anyio.fail_after(3600):
                await wait()

    is_late = interleavings and wait is over_a_pipe  # the thread that answers is held, too
    with pytest.MonkeyPatch.context() as patch:
        if is_late:
            patch.setattr(outside_waits, "BOUND", 0.1)
        exploration = explore(scenario, backend=backend, interleavings=interleavings, max_faults=0, timeout=20)
    assert exploration.bounds == (LATE if is_late else ())


def test_a_worker_that_trio_has_kept_from_another_exploration() -> None:
    """It waits with a lock that was made in a run, and does nothing by itself."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await in_process()

    assert explore(scenario, backend="trio", interleavings=True, timeout=20).exhaustive
    test_waiting_for_the_outside("trio", over_a_pipe, interleavings=True)


@pytest.mark.parametrize("wait", [in_thread_of_asyncio])
def test_waiting_for_a_thread_of_asyncio(wait: Any) -> None:
    """On asyncio, a run also waits for `to_thread`."""
    test_waiting_for_the_outside("asyncio", wait, interleavings=True)


def test_waiting_for_a_thread_of_trio() -> None:
    """On trio, a run also waits for trio's own `to_thread`."""
    test_waiting_for_the_outside("trio", in_thread_of_trio, interleavings=True)


def test_waiting_for_an_older_pool(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """A run waits for a future of a pool that is older than the run."""

    async def in_executor() -> None:
        await asyncio.get_running_loop().run_in_executor(pool, time.sleep, WAIT)

    async def wrapped() -> None:
        await asyncio.wrap_future(pool.submit(time.sleep, WAIT))

    for wait in (in_executor, wrapped):
        with pytest.raises(AssertionError, match="threads were not put in order"):
            test_waiting_for_the_outside("asyncio", wait, interleavings=True)


def test_a_thread_that_calls_back(backend: Any) -> None:
    """An async visit that a worker thread makes through `from_thread` does not hang."""

    async def visit() -> None:
        await failpoint("from_thread")

    def in_thread() -> None:
        anyio.from_thread.run(visit)

    async def scenario(run: Run) -> None:
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, in_thread)
            group.start_soon(visit)

    exploration = explore(scenario, backend=backend, interleavings=True, timeout=20)
    assert exploration.exhaustive
    assert (exploration.tasks, exploration.threads) == (2, 1)


@pytest.mark.parametrize("what", ["an event", "a queue"])
def test_a_worker_thread_that_waits(backend: Any, what: str) -> None:
    """A worker thread that waits for another one is not treated as idle."""
    event, things = threading.Event(), queue.Queue[int]()
    waits = event.wait if what == "an event" else things.get

    def answer() -> None:
        time.sleep(WAIT)
        event.set()
        things.put(1)

    async def scenario(run: Run) -> None:
        event.clear()
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, answer)
            await anyio.to_thread.run_sync(waits)

    assert explore(scenario, backend=backend, timeout=20).runs == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no event loop handles signals on Windows")
def test_a_signal_handler() -> None:
    """A scenario may handle signals on its loop."""

    async def scenario(run: Run) -> None:
        heard = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heard.set)
        async with run.injecting():
            await failpoint("visit")
        signal.raise_signal(signal.SIGUSR1)
        await heard.wait()

    assert explore(scenario).runs == 2


def test_a_lost_update_behind_a_connection(backend: Any) -> None:
    """A task that waits for a thread of the program takes part in the interleavings."""

    async def scenario(run: Run) -> None:
        balance = 0

        async def deposit(seconds: float) -> None:
            nonlocal balance
            await connection.ask(backend, seconds)
            left = balance
            await failpoint("deposit")
            balance = left + 1

        with Connection() as connection:
            async with run.injecting(), anyio.create_task_group() as group:
                group.start_soon(deposit, 0)
                group.start_soon(deposit, 0)
            assert balance == 2

    with pytest.raises(ExplorationFailed, match="AssertionError"):
        explore(scenario, backend=backend, interleavings=True)


def test_a_lost_update_behind_a_pool(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """A task that waits for a future of a pool takes part in the interleavings."""

    async def scenario(run: Run) -> None:
        balance = 0

        async def deposit() -> None:
            nonlocal balance
            await asyncio.wrap_future(pool.submit(time.sleep, 0.03))
            left = balance
            await failpoint("deposit")
            balance = left + 1

        async with run.injecting():
            await asyncio.gather(deposit(), deposit())
        assert balance == 2

    with pytest.raises(ExplorationFailed, match="AssertionError"):
        explore(scenario, interleavings=True)


def test_a_thread_that_takes_too_long(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exploration is not exhaustive if a task was released before a thread had answered."""

    async def scenario(run: Run) -> None:
        ours, theirs = socket.socketpair()

        async def visit() -> None:
            for _ in range(15):
                await failpoint("visit")
            theirs.send(b"!")

        with ours, theirs:
            async with run.injecting(), anyio.create_task_group() as group:
                group.start_soon(anyio.to_thread.run_sync, ours.recv, 1)
                group.start_soon(visit)

    monkeypatch.setattr(outside_waits, "BOUND", 1.0)
    start = time.monotonic()
    exploration = explore(scenario, backend=backend, interleavings=True, timeout=20)
    assert 1 <= time.monotonic() - start < 12  # once, and not at each step
    assert not exploration.exhaustive
    assert exploration.bounds == (
        "a task went on before a thread had answered", "threads were not put in order"
    )  # fmt: skip


@pytest.mark.parametrize("wait", [threading.Event.wait, queue.Queue.get, queue.SimpleQueue.get])
def test_a_thread_that_waits_for_a_held_task(backend: Any, wait: Any) -> None:
    """A thread that can only be woken by a task does not keep that task from going on."""

    async def scenario(run: Run) -> None:
        event, requests, simple = threading.Event(), queue.Queue[int](), queue.SimpleQueue[int]()

        def get() -> None:
            if wait is threading.Event.wait:
                event.wait()
            elif wait is queue.Queue.get:
                requests.get()
            else:
                simple.get()

        async def visit() -> None:
            for _ in range(5):
                await failpoint("visit")
            event.set()
            requests.put(1)
            simple.put(1)

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, get)
            group.start_soon(visit)

    exploration = explore(scenario, backend=backend, interleavings=True, reduction="declared", timeout=20)
    assert exploration.exhaustive
    assert (exploration.tasks, exploration.threads) == (1, 1)


def test_a_thread_that_waits_for_a_while(backend: Any) -> None:
    """A thread whose wait has a timeout goes on by itself, once the time of the run has come."""

    async def scenario(run: Run) -> None:
        balance = 0

        async def deposit(seconds: float) -> None:
            nonlocal balance
            await anyio.to_thread.run_sync(threading.Event().wait, seconds)
            left = balance
            await failpoint("deposit")
            balance = left + 1

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(deposit, WAIT)
            group.start_soon(deposit, WAIT)
        assert balance == 2

    with pytest.raises(ExplorationFailed, match="AssertionError"):
        explore(scenario, backend=backend, interleavings=True, timeout=20)


def test_an_older_thread_with_an_event_loop(backend: Any) -> None:
    """A thread that works all the time is waited for in one run, not in each."""
    end = threading.Event()

    def serve() -> None:
        while not end.is_set():
            time.sleep(0.01)

    async def scenario(run: Run) -> None:
        async with run.injecting(), anyio.create_task_group() as group:

            async def visit() -> None:
                for _ in range(3):
                    await failpoint("visit")

            async def wait() -> None:
                with anyio.CancelScope() as scope:
                    scopes.append(scope)
                    if backend == "asyncio":
                        await asyncio.get_running_loop().create_future()
                    else:
                        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)

            scopes: list[anyio.CancelScope] = []
            group.start_soon(wait)
            async with anyio.create_task_group() as visiting:
                visiting.start_soon(visit)
                visiting.start_soon(visit)
            scopes[0].cancel()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        start = time.monotonic()
        exploration = explore(scenario, backend=backend, interleavings=True, timeout=20)
        assert exploration.bounds == ("a task went on before a thread had answered",)
        assert exploration.runs == 20
        assert time.monotonic() - start < 15
    finally:
        end.set()
        thread.join(10)
