"""Time in a run: virtual, unless something outside the run is awaited."""

from __future__ import annotations

import math
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

from failpoints import failpoint
from failpoints.explore import ExplorationFailed, Run, explore
from tests.explore.connection import WAIT, Connection


def test_time_is_virtual(backend: Any) -> None:
    """Sleeps and timeouts take no real time, and fire in the order of their deadlines."""
    logs: list[list[Any]] = []

    async def scenario(run: Run) -> None:
        log: list[Any] = []
        start = anyio.current_time()

        async def sleeper(seconds: float) -> None:
            await anyio.sleep(seconds)
            log.append((seconds, round(anyio.current_time() - start)))

        async with run.injecting(), anyio.create_task_group() as group:
            for seconds in (7200, 60, 86400 * 3, 3600):
                group.start_soon(sleeper, seconds)
        with anyio.move_on_after(3600) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        logs.append(log)

    start = time.monotonic()
    explore(scenario, backend=backend)
    assert time.monotonic() - start < 5
    assert logs == [[(60, 60), (3600, 3600), (7200, 7200), (259200, 259200)]]


def test_a_back_off_takes_no_time(backend: Any) -> None:
    """A retry that waits longer each time is explored at once."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            for attempt in range(5):
                try:
                    await failpoint("ask", raises=(TimeoutError,))
                    break
                except TimeoutError:
                    await anyio.sleep(60 * 2**attempt)

    start = time.monotonic()
    assert explore(scenario, backend=backend, max_faults=4).runs == 5
    assert time.monotonic() - start < 5


def test_real_time(backend: Any) -> None:
    """With `clock="real"` a sleep takes real time."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await anyio.sleep(WAIT)

    start = time.monotonic()
    explore(scenario, backend=backend, clock="real")
    assert time.monotonic() - start >= WAIT


def test_no_time_passes_while_a_task_is_held(backend: Any) -> None:
    """No time passes while a task is held, so a sleeping task wakes after it."""
    logs: set[tuple[str, ...]] = set()

    async def scenario(run: Run) -> None:
        log: list[str] = []

        async def sleeper() -> None:
            await anyio.sleep(0.001)
            await failpoint("woken")
            log.append("woken")

        async def visitor() -> None:
            for _ in range(3):
                await failpoint("visit")
                log.append("visit")

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(sleeper)
            group.start_soon(visitor)
        logs.add(tuple(log))

    explore(scenario, backend=backend, interleavings=True)
    assert logs == {("visit", "visit", "visit", "woken")}


def test_no_time_limit(backend: Any) -> None:
    """With `timeout=math.inf` a run has no time limit, as for debugging."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await anyio.to_thread.run_sync(time.sleep, WAIT)
            await failpoint("visit")

    assert explore(scenario, backend=backend, timeout=math.inf).runs == 2


@pytest.fixture
def idle_thread() -> Iterator[None]:
    """Start a thread that is older than every run, and only waits."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="metrics")
    thread.start()
    yield
    end.set()
    thread.join(10)


async def with_back_off() -> None:
    for _ in range(3):
        try:
            await failpoint("ask", raises=(OSError,))
            break
        except OSError:
            await anyio.sleep(30)


def test_a_back_off_beside_an_idle_thread(backend: Any, idle_thread: None) -> None:
    """The clock stays virtual while another thread runs that no task waits for."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await with_back_off()

    assert explore(scenario, backend=backend, max_faults=2, timeout=3).runs == 3


def test_a_back_off_beside_an_idle_connection(backend: Any) -> None:
    """The clock stays virtual with a connection without a request, and a task that waits for an event."""

    async def scenario(run: Run) -> None:
        with Connection() as connection:
            await connection.ask(backend, 0)
            event = anyio.Event()
            async with run.injecting(), anyio.create_task_group() as group:
                group.start_soon(event.wait)
                await with_back_off()
                await connection.ask(backend, 0)
                event.set()

    assert explore(scenario, backend=backend, timeout=3).runs == 2


def test_a_back_off_beside_a_server(backend: Any) -> None:
    """The clock stays virtual with a server that nothing connects to."""

    async def scenario(run: Run) -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, run.injecting(), anyio.create_task_group() as group:
            group.start_soon(listener.serve, print)
            await with_back_off()
            group.cancel_scope.cancel()

    assert explore(scenario, backend=backend, timeout=3).runs == 2


def test_a_time_limit_beside_a_busy_connection(backend: Any) -> None:
    """A time limit does not fire before a thread that is working has answered."""

    async def scenario(run: Run) -> None:
        with Connection() as connection:
            async with run.injecting():
                with anyio.fail_after(3600):
                    await connection.ask(backend, WAIT)

    assert explore(scenario, backend=backend, timeout=20).runs == 1


def test_a_clock_that_is_real(backend: Any) -> None:
    """If a run does not end because its clock is real, the message has the reason."""

    async def scenario(run: Run) -> None:
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, release.wait)
            await anyio.sleep(30)

    release = threading.Event()
    try:
        with pytest.raises(ExplorationFailed) as failed:
            explore(scenario, backend=backend, timeout=0.3)
    finally:
        release.set()
    assert failed.value.failure.kind == "hang"
    assert "its clock was real while it waited for a worker thread" in str(failed.value)
