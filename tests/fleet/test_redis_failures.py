"""A server that is killed, restarted, emptied, stopped, full, replaced by an older copy of it, or cut off."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.abc import SocketAttribute, SocketStream, TaskStatus
from anyio.from_thread import start_blocking_portal

from failpoints import FailpointUsageError
from failpoints._fleet.state import Entry
from failpoints._fleet.urls import parse_url
from failpoints.fleet import Fleet
from tests.fleet.conftest import Server, free_port
from tests.fleet.test_leases import OWNER
from tests.fleet.waits import NAMES, joined, until

Start = Callable[..., Any]

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KEPT = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on one event loop: these tests are about the server."""
    return str(request.param)


@pytest.fixture
def options() -> tuple[str, ...]:
    return ()


@pytest.fixture
def server(tmp_path: Path, shared_server: Server, options: tuple[str, ...]) -> Iterator[Server]:
    """Run a server of the test's own."""
    server = Server(tmp_path, *options)
    yield server
    server.process.send_signal(signal.SIGCONT)
    server.kill()


@pytest.fixture
def place(server: Server) -> str:
    return server.url()


async def test_a_server_that_restarts_empty(start: Start, place: str, server: Server) -> None:
    """The fleet is gone with it: members end everything, say so once, and join when there is a fleet again."""
    member = start()
    async with Fleet(place) as fleet:
        await fleet.configure("x", "pause")
        member.ask("visit_in_thread('x')")
        await fleet.wait_until_paused("x")
        server.kill()
        assert member.ask(NAMES) == ["x"]
        with pytest.raises(FailpointUsageError, match=f"cannot use the fleet in 'redis://127.0.0.1:{server.port}/"):
            await fleet.configure("y", "off")
        server.start()
        await until(member, NAMES, [])
        with pytest.raises(FailpointUsageError, match="is gone"):
            await fleet.configure("y", "off")
    async with Fleet(place) as fleet:
        await joined(fleet)
        await fleet.configure("x", "1*return(again)")
        assert member.ask("visit('x', 2)") == ["Return(value='again')", "Continue()"]
    assert member.end() == 0
    assert len([line for line in member.errors if "is gone, and with it what it had configured" in line]) == 1


@pytest.mark.parametrize("options", [KEPT])
async def test_a_server_that_restarts_with_its_data(start: Start, place: str, server: Server) -> None:
    """Members keep what they have. Counts go on, exactly. What is configured during the restart is there after it."""
    member = start()
    async with Fleet(place) as fleet:
        await fleet.configure("x", "3*return")
        assert member.ask("visit('x', 2)") == ["Return(value=None)"] * 2
        server.kill()
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(fleet.configure, "y", "return")
                await anyio.sleep(0.2)
                await anyio.to_thread.run_sync(server.start)
        assert member.ask("visit('x', 2)") == ["Return(value=None)", "Continue()"]
        assert member.ask("visit('y')") == ["Return(value=None)"]
        assert (await fleet.status("x")).hits == 4
        assert len(await fleet.members()) == 1


async def test_a_server_that_is_stopped(start: Start, place: str, server: Server) -> None:
    """Nothing hangs: a count is left out after a second, all else goes on, and verbs raise. Later all go on."""
    member = start()
    async with Fleet(place) as fleet:
        await fleet.configure("x", "2*return")
        await fleet.configure("y", "return", duration=3)
        server.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        assert member.ask("visit('y', 100)") == ["Return(value=None)"] * 100
        assert time.monotonic() - began < 1
        assert member.ask("visit('x')") == ["Continue()"]
        assert time.monotonic() - began < 5
        for verb in (fleet.statuses(), fleet.configure("z", "off"), fleet.wait_until_hit("x", timeout=1)):
            with anyio.fail_after(8), pytest.raises(FailpointUsageError, match="it has not answered within"):
                await verb
        await until(member, NAMES, ["x"])  # by its own clock
        server.process.send_signal(signal.SIGCONT)
        with anyio.fail_after(20):
            while "Return(value=None)" not in member.ask("visit('x', 3)"):  # one at least is left
                await anyio.sleep(0.05)
        await fleet.configure("z", "return")
        assert member.ask("visit('z')") == ["Return(value=None)"]
        assert (await fleet.status("x")).triggers <= 2
    assert member.end() == 0
    assert len([line for line in member.errors if "a count of 'x' cannot be taken" in line]) == 1


async def test_a_server_that_is_slow(start: Start, place: str, server: Server) -> None:
    """A server that does not answer for a moment is waited for, but not by visits that need no count."""
    member = start()
    async with Fleet(place) as fleet:
        await fleet.configure("x", "return")
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, server.ask, "DEBUG", "SLEEP", "1.5")
            await anyio.sleep(0.1)
            began = time.monotonic()
            assert member.ask("visit('x')") == ["Return(value=None)"]
            assert time.monotonic() - began < 1
            await fleet.configure("y", "return")
        assert member.ask("visit('y')") == ["Return(value=None)"]


async def test_a_server_without_memory(start: Start, place: str, server: Server) -> None:
    """`configure` raises, and nothing is changed. What is configured works, and can be removed."""
    member = start()
    async with Fleet(place, lease=1) as fleet:
        await fleet.configure("x", "2*return")
        server.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(FailpointUsageError, match="OOM"):
            await fleet.configure("y", "return")
        await anyio.sleep(1.5)  # the lease is renewed
        assert member.ask(NAMES) == ["x"]
        assert member.ask("visit('x', 3)") == ["Return(value=None)"] * 2 + ["Continue()"]
        assert (await fleet.status("x")).triggers == 2
        await fleet.remove("x")
        assert member.ask(NAMES) == []


async def test_a_copy_takes_over_that_has_lost_the_newest_change(start: Start, place: str, server: Server) -> None:
    """Members have what the copy has, and nothing of the change that was lost."""
    member = start()
    async with Fleet(place) as fleet:
        await fleet.configure("x", "return(old)")
        server.ask("SAVE")
        await fleet.configure("x", "return(new)")
        await fleet.configure("y", "return(new)")
        assert member.ask("visit('x')") == ["Return(value='new')"]
        server.kill()
        server.start()
        await until(member, NAMES, ["x"])
        assert member.ask("visit('x')") == ["Return(value='old')"]
        await fleet.configure("y", "return(again)")
        assert member.ask("visit('x') + visit('y')") == ["Return(value='old')", "Return(value='again')"]


async def test_a_server_that_refuses_to_be_written_to(start: Start, place: str, server: Server) -> None:
    """Members of a replica connect again less and less often, and go on soon after it can be written to."""
    member = start()
    server.ask("REPLICAOF", "127.0.0.1", free_port())
    before = connections(server)
    await anyio.sleep(1.5)
    assert 1 < connections(server) - before < 30
    server.ask("REPLICAOF", "NO", "ONE")
    async with Fleet(place) as fleet:
        await fleet.configure("x", "return")
        assert member.ask("visit('x')") == ["Return(value=None)"]


def connections(server: Server) -> int:
    return int(server.ask("INFO", "stats")["total_connections_received"])


class Forwarder:
    """The address of a service, behind which one server takes over from another."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0

    async def serve(self, *, task_status: TaskStatus[None]) -> None:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            self.port = listener.extra(SocketAttribute.local_port)
            task_status.started()
            await listener.serve(self._forward)

    async def _forward(self, client: SocketStream) -> None:
        with suppress(OSError):
            async with (
                client,
                await anyio.connect_tcp("127.0.0.1", self.target) as server,
                anyio.create_task_group() as group,
            ):
                group.start_soon(self._pass_on, client, server, group.cancel_scope)
                group.start_soon(self._pass_on, server, client, group.cancel_scope)

    @staticmethod
    async def _pass_on(source: SocketStream, to: SocketStream, scope: anyio.CancelScope) -> None:
        with suppress(anyio.BrokenResourceError):
            async for received in source:
                await to.send(received)
        scope.cancel()


@pytest.fixture
def forwarder(server: Server) -> Iterator[Forwarder]:
    """Forward to the server of the test, on a thread: the tests wait for their programs without an event loop."""
    forwarder = Forwarder(server.port)
    with start_blocking_portal() as portal:
        serving, _ = portal.start_task(forwarder.serve)
        yield forwarder
        serving.cancel()


@pytest.fixture
def replica(server: Server, tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "replica").mkdir()
    server.ask("CONFIG", "SET", "repl-diskless-sync-delay", "0")  # not the 5 seconds that it waits for more replicas
    replica = Server(tmp_path / "replica", "--replicaof", "127.0.0.1", str(server.port))
    yield replica
    replica.kill()


async def test_a_replica_takes_over_that_has_lost_the_newest_changes(
    start: Start, server: Server, replica: Server, forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members have what the replica has. No owner is forgotten that is there, and none is kept that is not."""
    key, url = "failpoints:{shop}:state", f"redis://127.0.0.1:{forwarder.port}/0?fleet=shop"
    member = start(fleet=url)
    killed = start(OWNER.format(folder=url, lease=1, seconds=60, backend="trio"), member=False)
    assert killed.line() == 1
    async with Fleet(url) as fleet:
        await fleet.configure("a", "3*return(old)")
        assert member.ask("visit('a')") == ["Return(value='old')"]
        with anyio.fail_after(20):
            while replica.ask("HGETALL", key) != server.ask("HGETALL", key):
                await anyio.sleep(0.02)
        replica.ask("REPLICAOF", "127.0.0.1", free_port())  # it is cut off
        async with Fleet(url) as late:  # an owner that the replica does not know
            await late.configure("b", "return(lost)")
            assert member.ask("visit('a') + visit('b')") == ["Return(value='old')", "Return(value='lost')"]
            await fleet.configure("a", "off")
            is_waiting = anyio.Event()
            unacknowledged = late._engine.unacknowledged

            async def note_the_wait(revision: int) -> list[str]:
                is_waiting.set()
                return await unacknowledged(revision)

            monkeypatch.setattr(late._engine, "unacknowledged", note_the_wait)
            member.process.send_signal(signal.SIGSTOP)
            async with anyio.create_task_group() as group:

                async def configure_what_is_lost() -> None:
                    with pytest.raises(FailpointUsageError, match="it has lost the newest change"):
                        await late.configure("c", "return(lost)")

                group.start_soon(configure_what_is_lost)
                with anyio.fail_after(20):
                    await is_waiting.wait()
                server.kill()
                killed.kill()
                forwarder.target = replica.port
                await anyio.sleep(0.2)  # while it is still a replica, which refuses to be written to
                replica.ask("REPLICAOF", "NO", "ONE")
                member.process.send_signal(signal.SIGCONT)
            await late.configure("b", "return(again)")
            assert member.ask("visit('b')") == ["Return(value='again')"]
            assert member.ask("visit('a', 5)") == ["Return(value='old')"] * 2 + ["Continue()"] * 3  # a count was lost
            await until(member, NAMES, ["a", "b"])
            assert [status.name for status in await fleet.statuses()] == ["a", "b"]
        assert member.ask(NAMES) == ["a"]
    assert member.ask(NAMES) == []


async def test_a_change_that_was_lost_is_not_waited_for(place: str) -> None:
    """If the server has an older state than the one that is waited for, no member can ever acknowledge it."""
    at = parse_url(place, "the URL")
    try:
        at.open()
        revision = at.change(lambda state: state.with_entries([Entry(0, "x", "off", {})])).revision
        assert at.unacknowledged(revision) == []
        with pytest.raises(OSError, match="it has lost the newest change"):
            at.unacknowledged(revision + 1)
        at.change(lambda state: state.with_entries([Entry(0, "x", "off", {})]))
        assert at.unacknowledged(revision) == []
        with pytest.raises(OSError, match="it has lost the newest change"):  # even though another one was made since
            at.unacknowledged(revision + 1)
    finally:
        at.close()


async def test_connections_that_break(start: Start, place: str, server: Server) -> None:
    """While all connections are cut again and again, counts stay exact, and each change arrives."""
    members = start(count=2)
    async with Fleet(place) as fleet:
        await fleet.configure("x", "200*return->off")
        for member in members:
            member.tell("visit('x', 300).count('Return(value=None)')")
        for _ in range(40):
            server.ask("CLIENT", "KILL", "TYPE", "normal")
            await anyio.sleep(0.02)
        assert sum([member.line() for member in members]) == 200
        async with anyio.create_task_group() as group:

            async def cut() -> None:
                for _ in range(20):
                    server.ask("CLIENT", "KILL", "TYPE", "normal")
                    await anyio.sleep(0.05)

            group.start_soon(cut)
            for number in range(10):
                await fleet.configure("y", f"return({number})")
                for member in members:
                    assert member.ask("visit('y')") == [f"Return(value='{number}')"]
        assert (await fleet.status("x")).hits == 600


async def test_an_owner_that_is_killed(start: Start, place: str) -> None:
    """What a killed `Fleet` has configured ends with its lease, in members that are there and in those that come."""
    member = start()
    program = start(OWNER.format(folder=place, lease=1, seconds=60, backend="trio"), member=False)
    assert program.line() == 1
    await anyio.sleep(1.5)
    assert member.ask(NAMES) == ["x"]
    program.kill()
    await until(member, NAMES, [])
    assert start().ask(NAMES) == []
    async with Fleet(place) as fleet:
        assert await fleet.statuses() == []


async def test_a_lease_ends_although_the_server_is_gone(start: Start, place: str, server: Server) -> None:
    """If an owner is killed together with the server, each member ends by its own clock what it had configured."""
    member = start()
    program = start(OWNER.format(folder=place, lease=1, seconds=60, backend="trio"), member=False)
    assert program.line() == 1
    assert member.ask(NAMES) == ["x"]
    server.kill()
    program.kill()
    await until(member, NAMES, [])


async def test_a_member_that_is_killed_is_waited_for_some_seconds(start: Start, place: str) -> None:
    """A server sees by its silence that a member is gone. What it has counted stays."""
    killed, other = start(count=2)
    async with Fleet(place) as fleet:
        await fleet.configure("x", "off")
        killed.ask("visit('x', 5)")
        other.ask("visit('x', 2)")
        assert (await fleet.status("x")).hits == 7
        killed.kill()
        began = time.monotonic()
        await fleet.configure("y", "off")
        assert time.monotonic() - began < 8
        assert len(await fleet.members()) == 1
        assert (await fleet.status("x")).hits == 7
