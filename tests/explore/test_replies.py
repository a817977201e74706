"""Replies from sockets, pipes and processes: no held task goes on while the reply for another one is on its way."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.abc
import pytest
from anyio.streams.stapled import StapledByteStream

from failpoints import failpoint
from failpoints._explore.loops import outside_waits
from failpoints.explore import ExplorationFailed, Run, explore
from tests.explore.servers import PIPES, Client, connect, number_server

LATE = "a task went on before a socket, a pipe or a process had answered"


pytestmark = pytest.mark.usefixtures("patience")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Run a server in another process."""
    with number_server() as port:
        yield port


def lost_update(port: int, *, between: bool = True) -> Any:
    """Return a scenario in which two tasks read a number from a server, and write the next one."""

    async def scenario(run: Run) -> None:
        one, two = await connect(port), await connect(port)
        await one.ask(0)

        async def add(client: Client, queries: int) -> None:
            number = 0
            await failpoint("begin")
            for _ in range(queries):  # the second task looks other things up first
                number = await client.ask("get")
            if between:
                await failpoint("between")
            await client.ask(number + 1)

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(add, one, 1)
            group.start_soon(add, two, 3)
        total = await one.ask("get")
        await one.close()
        await two.close()
        assert total == 2, "an update was lost"

    return scenario


@pytest.mark.parametrize("repetition", range(5))
def test_a_lost_update_behind_a_server(backend: Any, port: int, repetition: int) -> None:
    """A lost update between two clients of a server in another process is found every time."""
    with pytest.raises(ExplorationFailed, match="an update was lost"):
        explore(lost_update(port), backend=backend, interleavings=True, timeout=20)


def test_every_order_behind_a_server(backend: Any, port: int) -> None:
    """A search whose tasks wait for a server in another process can be exhaustive."""
    exploration = explore(lost_update(port, between=False), backend=backend, interleavings=True, timeout=20)
    assert exploration.exhaustive
    assert exploration.runs == 2


def test_a_lost_update_with_streams_of_asyncio(port: int) -> None:
    """The same is true of the streams of asyncio."""

    async def scenario(run: Run) -> None:
        async def add(queries: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(queries):
                writer.write(b"get\n")
                number = int(await reader.readline())
            await failpoint("between")
            writer.write(b"%d\n" % (number + 1))
            await reader.readline()
            writer.close()
            await writer.wait_closed()

        client = await connect(port)
        await client.ask(0)
        async with run.injecting():
            await asyncio.gather(add(1), add(3))
        total = await client.ask("get")
        await client.close()
        assert total == 2, "an update was lost"

    with pytest.raises(ExplorationFailed, match="an update was lost"):
        explore(scenario, interleavings=True, timeout=20)


def test_a_lost_update_beside_a_process(backend: Any) -> None:
    """A task that reads from the pipe of a process takes part in the interleavings."""

    async def scenario(run: Run) -> None:
        balance = 0
        async with await anyio.open_process(
            [sys.executable, "-c", PIPES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            echo = Client(StapledByteStream(process.stdin, process.stdout))
            await echo.ask(1)  # it has started

            async def deposit(queries: int) -> None:
                nonlocal balance
                for _ in range(queries):
                    await echo.ask(1)
                left = balance
                await failpoint("between")
                balance = left + 1

            async with run.injecting(), anyio.create_task_group() as group:
                group.start_soon(deposit, 0)
                group.start_soon(deposit, 2)
            process.terminate()
        assert balance == 2, "an update was lost"

    with pytest.raises(ExplorationFailed, match="an update was lost"):
        explore(scenario, backend=backend, interleavings=True, timeout=20)


def test_a_lost_update_beside_the_end_of_a_process(backend: Any) -> None:
    """A task that waits for a process to end takes part in the interleavings."""

    async def scenario(run: Run) -> None:
        balance = 0

        async def deposit(*, waits: bool) -> None:
            nonlocal balance
            if waits:
                await anyio.run_process(
                    [sys.executable, "-c", "import time; time.sleep(0.05)"], stdin=None, stdout=None, stderr=None
                )
            left = balance
            await failpoint("between")
            balance = left + 1

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(lambda: deposit(waits=False))
            group.start_soon(lambda: deposit(waits=True))
        assert balance == 2, "an update was lost"

    with pytest.raises(ExplorationFailed, match="an update was lost"):
        explore(scenario, backend=backend, interleavings=True, timeout=20)


async def serve_numbers(listener: Any, *, delay: float = 0) -> None:
    number = 0

    async def answer(stream: Any) -> None:
        nonlocal number
        async with stream:
            try:
                while line := await stream.receive():
                    await failpoint("served")
                    await anyio.sleep(delay)
                    number = number if line == b"get\n" else int(line)
                    await stream.send(b"%d\n" % number)
            except anyio.EndOfStream:
                pass

    await listener.serve(answer)


def both_ends(*, delay: float = 0, clients: int = 2) -> Any:
    """Return a scenario whose tasks are a server, and clients that ask it over sockets."""

    async def scenario(run: Run) -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)

        async def ask() -> None:
            client = await connect(port)
            await failpoint("asks")
            await client.ask("get")
            await client.close()

        async with listener, run.injecting(), anyio.create_task_group() as group:
            group.start_soon(lambda: serve_numbers(listener, delay=delay))
            async with anyio.create_task_group() as asking:
                for _ in range(clients):
                    asking.start_soon(ask)
            group.cancel_scope.cancel()

    return scenario


def test_a_server_and_its_clients_in_one_run(backend: Any) -> None:
    """If both ends of a connection belong to tasks of the run, nothing is waited for, and the search is exhaustive."""
    exploration = explore(both_ends(), backend=backend, interleavings=True, timeout=20)
    assert exploration.exhaustive
    assert exploration.runs == 6  # orders of two pairs of visits


def test_time_between_the_ends_of_a_connection(backend: Any) -> None:
    """The clock stays virtual while a client waits for a server of the same run."""
    start = time.monotonic()
    assert explore(both_ends(delay=3600), backend=backend, max_faults=0, timeout=20).exhaustive
    assert time.monotonic() - start < 15


def test_an_idle_connection(backend: Any, port: int) -> None:
    """A connection that no task waits for costs nothing."""

    async def scenario(run: Run) -> None:
        client = await connect(port)
        await client.ask("get")

        async def visit() -> None:
            for _ in range(3):
                await failpoint("visit")

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(visit)
            group.start_soon(visit)
        await client.close()

    start = time.monotonic()
    assert explore(scenario, backend=backend, interleavings=True, timeout=20).exhaustive
    assert time.monotonic() - start < 15


def test_a_reply_that_does_not_come(backend: Any, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply that takes too long is waited for once, not at each step. Then the search is not exhaustive."""

    async def scenario(run: Run) -> None:
        client = await connect(port)

        async def listen() -> None:
            await client.ask("never")

        async def visit() -> None:
            for _ in range(3):
                await failpoint("visit")

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(listen)
            async with anyio.create_task_group() as visiting:
                visiting.start_soon(visit)
                visiting.start_soon(visit)
            group.cancel_scope.cancel()
        await client.close()

    monkeypatch.setattr(outside_waits, "BOUND", 1.0)
    start = time.monotonic()
    exploration = explore(scenario, backend=backend, interleavings=True, timeout=20)
    assert exploration.runs == 20
    assert exploration.bounds == (LATE,)
    assert not exploration.exhaustive
    assert 1 <= time.monotonic() - start < 15


def test_a_reply_that_is_late(backend: Any, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies that come too late come at another step in each run, which does not make a scenario nondeterministic."""
    monkeypatch.setattr(outside_waits, "BOUND", 0.0005)
    monkeypatch.setattr(outside_waits, "BOUND_IF_SLOW", 0.0001)

    async def scenario(run: Run) -> None:
        clients = [await connect(port) for _ in range(2)]

        async def ask(client: Client) -> None:
            await failpoint("asks")
            await client.ask("get")
            await failpoint("asked")
            await client.ask("get")
            await failpoint("asked")

        async with run.injecting(), anyio.create_task_group() as group:
            for client in clients:
                group.start_soon(ask, client)
        for client in clients:
            await client.close()

    assert LATE in explore(scenario, backend=backend, interleavings=True, timeout=20, max_runs=50).bounds


def listening(kind: str, folder: Any) -> Any:
    """Return a listener and a way to connect to it."""

    async def listen() -> tuple[Any, Any]:
        if kind == "unix":
            path = str(folder / f"socket-{next(numbers)}")
            return await anyio.create_unix_listener(path), lambda: anyio.connect_unix(path)
        host = {"IPv4": "127.0.0.1", "every address": "0.0.0.0"}[kind]
        listener = await anyio.create_tcp_listener(local_host=host)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        return listener, lambda: anyio.connect_tcp("127.0.0.1", port)

    return listen


numbers = itertools.count()


@pytest.mark.skipif(sys.platform != "linux", reason="which process has the other end is only known on Linux")
@pytest.mark.parametrize("interleavings", ["visits", "awaits"])
@pytest.mark.parametrize("kind", ["IPv4", "every address", "unix"])
def test_kinds_of_connections_between_tasks(backend: Any, kind: str, interleavings: Any, tmp_path: Any) -> None:
    """A connection between tasks is recognized whatever it is, even before it is accepted."""
    listen = listening(kind, tmp_path)

    async def scenario(run: Run) -> None:
        listener, connect = await listen()

        async def ask() -> None:
            await failpoint("asks")
            client = Client(await connect())
            await client.ask("get")
            await client.close()

        async with listener, run.injecting(), anyio.create_task_group() as group:
            group.start_soon(serve_numbers, listener)
            async with anyio.create_task_group() as asking:
                asking.start_soon(ask)
                asking.start_soon(ask)
            group.cancel_scope.cancel()

    exploration = explore(scenario, backend=backend, interleavings=interleavings, timeout=20, max_runs=5)
    assert LATE not in exploration.bounds
