"""The client: the registry's verbs over HTTP, its errors, and what it makes of servers that are something else."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import failpoints
from failpoints import (
    ActionSyntaxError,
    Call,
    FailpointError,
    FailpointNameError,
    FailpointStatus,
    FailpointTimeout,
    FailpointUsageError,
    Off,
    Pause,
    Registry,
    Return,
    Term,
    failpoint_scope,
    format_actions,
)
from failpoints._core.store import PROCESS_STORE, Store
from failpoints._core.watches import Watch, Watches
from failpoints.admin import admin_app
from failpoints.client import FailpointsClient, RemoteHandle

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
LIMIT = 20  # seconds, for what comes at once
TOKEN = "a-token"


@pytest.fixture(scope="module")
def url(serve: Callable[..., Any]) -> Iterator[str]:
    """The control plane of this very process."""
    with serve(admin_app()) as url:
        yield url


@pytest.fixture
async def client(url: str) -> Any:
    async with FailpointsClient(url) as client:
        yield client


class Waits:
    """Who waits at the server."""

    def __init__(self, watchers: Any) -> None:
        self._watchers = watchers

    @property
    def number(self) -> int:
        return len(PROCESS_STORE._watches._watches.all())

    async def come_to(self, number: int) -> None:
        """Go on once so many do."""
        await anyio.to_thread.run_sync(self._watchers.until, number)


@pytest.fixture
def waits(watchers: Any) -> Waits:
    return Waits(watchers)


class FakeServer:
    """A server that reads a request's head, and then does something to the connection."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer  # None: none, ever
        self.requests: list[str] = []
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(LIMIT)
            head = b""
            while b"\r\n\r\n" not in head and (received := connection.recv(65536)):
                head += received
            self.requests.append(head.decode("latin-1"))
            if self.answer is None:
                self._stopped.wait(LIMIT)
            else:
                connection.sendall(self.answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

    def close(self) -> None:
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def targets(self) -> list[str]:
        """The lines in which it was asked."""
        return [request.partition("\r\n")[0] for request in self.requests]


@pytest.fixture
def fake() -> Iterator[Callable[[bytes | None], FakeServer]]:
    """Start a server that gives everybody this answer."""
    servers: list[FakeServer] = []

    def start(answer: bytes | None) -> FakeServer:
        servers.append(FakeServer(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def answer(status: str, body: str, *headers: str) -> bytes:
    """The bytes of an answer, after which the connection is closed."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body.encode())}", "Connection: close", *headers]
    return "\r\n".join([*head, "", body]).encode()


async def visit(name: str, **context: Any) -> None:
    """Visit a failpoint, which may be that behind a scope."""
    async with failpoint_scope(name.removesuffix(":after"), context=context):
        pass


def seen_from_outside(*statuses: FailpointStatus) -> list[FailpointStatus]:
    """Statuses as another process is told them: the sites' files as an import sees them."""
    return [replace(each, sites=tuple(site.removeprefix(f"{ROOT}/") for site in each.sites)) for each in statuses]


# configuring


@pytest.mark.parametrize(
    ("actions", "text"),
    [
        ("2*off->25%return(42)", "2*off->25%return(42)"),
        (Pause(30_000), "pause(30000)"),
        (Term(Return("é 😀"), times=2), "2*return(é 😀)"),
        ([Off(), Return()], "off->return"),
    ],
)
async def test_configure(client: FailpointsClient, actions: Any, text: str) -> None:
    """Actions of every form are configured there as they are here."""
    await client.configure("a", actions)
    assert format_actions(failpoints.status("a").actions) == text
    assert (await client.status("a")).actions == failpoints.status("a").actions


async def test_configure_with_matchers(client: FailpointsClient) -> None:
    """Matchers are a pattern, a compiled one, or a value to be equal to, and mean there what they mean here."""
    asked = {"tenant": "test_.*", "user": re.compile("ada", re.IGNORECASE), "shard": 3, "dry": False, "by": None}
    await client.configure("a", "off", context=asked)
    await visit("a", tenant="test_1", user="ADA", shard=3, dry=False, by=None)
    await visit("a", tenant="test_1", user="ADA", shard=4, dry=False, by=None)
    status = await client.status("a")
    assert (status.hits, status.misses, status.last_mismatch) == (1, 1, "shard=4 is not 3")
    assert status.last_miss == {"tenant": "test_1", "user": "ADA", "shard": 4, "dry": False, "by": None}


async def test_configure_all(client: FailpointsClient) -> None:
    """Several are configured at once, from any iterable, with matchers or without; of one name the last counts."""
    await client.configure_all(iter([("a", "pause"), ["b", Off(), {"x": 1}], ("c", "off", None), ("c", "panic")]))
    assert [(each.name, format_actions(each.actions), each.matchers) for each in failpoints.statuses()] == [
        ("a", "pause", {}),
        ("b", "off", {"x": 1}),
        ("c", "panic", {}),
    ]
    await client.configure_all([])
    assert len(failpoints.statuses()) == 3


async def test_a_configuration_wakes_who_waits(client: FailpointsClient) -> None:
    """Configured again, or removed, from outside, a failpoint lets everyone go who waits at it."""
    for change in (
        lambda: client.configure("a", "off"),
        lambda: client.configure_all([("a", "off")]),
        lambda: client.remove("a"),
        client.reset,
    ):
        await client.configure("a", "pause")
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(visit, "a")
                await client.wait_until_paused("a")
                await change()


async def test_remove_and_reset(client: FailpointsClient) -> None:
    """`remove` takes one away and is no error where there is none; `reset` takes all."""
    await client.configure_all([("a", "off"), ("b", "off"), ("c", "off")])
    await client.remove("a")
    await client.remove("a")
    assert [each.name for each in await client.statuses()] == ["b", "c"]
    await client.reset()
    await client.reset()
    assert await client.statuses() == []


async def test_resume(client: FailpointsClient) -> None:
    """`resume` says how many it woke, and leaves the failpoint as it is; where there is none, it woke nobody."""
    assert await client.resume("a") == 0
    await client.configure("a", "pause")
    assert await client.resume("a") == 0
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(visit, "a")
            tasks.start_soon(visit, "a")
            await client.wait_until_paused("a", 2)
            assert await client.resume("a") == 2
    assert format_actions((await client.status("a")).actions) == "pause"


# looking


async def test_status(client: FailpointsClient) -> None:
    """A status tells what it tells in the process itself: counts, matchers, who waits with which context, and where."""
    failpoints.configure("client.status", "1*off->pause", context={"tenant": "t.*"})
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            await visit("client.status", tenant="other")
            await visit("client.status", tenant="t1")
            tasks.start_soon(partial(visit, "client.status", tenant="t2", seat=1))
            await client.wait_until_paused("client.status")
            there, here = await client.status("client.status"), failpoints.status("client.status")
            await client.resume("client.status")
    assert [there] == seen_from_outside(here)
    assert (there.hits, there.misses, there.triggers) == (2, 1, 2)
    assert (there.last_miss, there.last_mismatch) == ({"tenant": "other"}, "tenant='other' does not match 't.*'")
    assert there.waiting[0].context == {"tenant": "t2", "seat": 1}
    assert all(re.fullmatch(r"tests/http/test_client\.py:\d+", site) for site in there.sites)


async def test_status_of_what_has_no_text(client: FailpointsClient) -> None:
    """An action that has no text is shown as it is shown there, and a value that JSON has not as text."""
    failpoints.configure("a", [Term(Call(print), 0.5), Term(Off())], context={"size": callable, "t": (1, 2)})
    status = await client.status("a")
    assert "Call(print)" in str(status.actions)
    assert status.matchers == {"size": "callable", "t": "(1, 2)"}


async def test_status_of_none(client: FailpointsClient) -> None:
    """What is not configured has no actions, and zeros; nothing is configured by looking."""
    assert await client.status("a") == FailpointStatus("a")
    assert await client.statuses() == []


async def test_statuses(client: FailpointsClient) -> None:
    """All of them come in the order of their names."""
    await client.configure_all([("b", "off"), ("é", "off"), ("a", "pause")])
    statuses = [await client.status(name) for name in ("a", "b", "é")]
    assert await client.statuses() == statuses == seen_from_outside(*failpoints.statuses())


# waiting


async def test_wait_until_hit(client: FailpointsClient, waits: Waits) -> None:
    """A wait for a hit is over when it comes, not before and not much later; what was before counts."""
    await client.configure("a", "off")
    await visit("a")
    await client.wait_until_hit("a")
    over: list[int] = []

    async def wait(hits: int) -> None:
        await client.wait_until_hit("a", hits)
        over.append(hits)

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, 3)
            tasks.start_soon(wait, 2)
            await waits.come_to(2)
            await visit("a")
            await waits.come_to(1)
            await visit("a")
    assert over == [2, 3]
    assert waits.number == 0


async def test_wait_until_paused_asks_for_the_present(client: FailpointsClient) -> None:
    """A pause that is over again is none, and a wait for it times out."""
    await client.configure("a", "pause")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(visit, "a")
        await client.wait_until_paused("a", timeout=LIMIT)
        await client.resume("a")
    with pytest.raises(FailpointTimeout):
        await client.wait_until_paused("a", timeout=0)
    assert failpoints.status("a").hits == 1


async def test_200_waits_at_once(client: FailpointsClient, waits: Waits) -> None:
    """Two hundred waits through one client are all answered, and other requests are, meanwhile."""
    await client.configure_all([("a", "off"), ("b", "pause")])
    done = 0

    async def wait() -> None:
        nonlocal done
        await client.wait_until_hit("a")
        done += 1

    with anyio.fail_after(2 * LIMIT):
        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(wait)
            await waits.come_to(200)
            assert (await client.status("a")).hits == 0
            await visit("a")
    assert done == 200
    assert waits.number == 0


async def test_a_wait_goes_on_through_a_reconfiguration(client: FailpointsClient, waits: Waits) -> None:
    """Whoever waits for hits goes on waiting when the failpoint is configured anew, and counts anew."""
    await client.configure("a", "off")
    await visit("a")
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.wait_until_hit, "a", 2)
            await waits.come_to(1)
            await client.configure("a", "off")
            await visit("a")
            assert waits.number == 1
            await visit("a")


@pytest.mark.parametrize("wait", ["wait_until_hit", "wait_until_paused"])
async def test_a_wait_for_what_is_not_configured(client: FailpointsClient, wait: str) -> None:
    """A wait for what is not configured is a usage error at once, with the nearest name."""
    await client.configure("gateway.charge", "off")
    with pytest.raises(FailpointUsageError, match=r"'gateway.chrage' is not configured.*did you mean 'gateway.charge'"):
        await getattr(client, wait)("gateway.chrage")


async def test_a_wait_for_what_is_removed(client: FailpointsClient, waits: Waits) -> None:
    """A wait for what is removed meanwhile is a usage error then."""
    await client.configure("a", "off")

    async def wait() -> None:
        with pytest.raises(FailpointUsageError, match="'a'"):
            await client.wait_until_hit("a")

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await waits.come_to(1)
            await client.remove("a")


async def test_a_wait_that_times_out(client: FailpointsClient) -> None:
    """A wait in vain raises `FailpointTimeout`, which tells what is known, a line each, and has the status."""
    await client.configure("client.wait", "pause", context={"tenant": "test_.*"})
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(visit, "client.wait", tenant="test_1"))
            await client.wait_until_paused("client.wait")
            await visit("client.wait", tenant="t2")
            with pytest.raises(FailpointTimeout) as error:
                await client.wait_until_paused("client.wait", 2, timeout=0.05)
            await client.resume("client.wait")
    assert re.fullmatch(TIMED_OUT, str(error.value))
    assert error.value.status is not None
    assert (error.value.status.hits, len(error.value.status.waiting)) == (1, 1)


TIMED_OUT = r"""failpoint 'client\.wait' did not have 2 waiting at it within 0\.05 s
  configured: pause where tenant='test_\.\*'
  counts:     hits 1, misses 1, triggers 1
  last miss:  tenant='t2' does not match 'test_\.\*'
  waiting:    '.+' since \d\d:\d\d:\d\d UTC, {'tenant': 'test_1'}
  sites:      tests/http/test_client\.py:\d+"""


async def test_a_timeout_of_nothing(client: FailpointsClient) -> None:
    """With a timeout of 0 a wait looks once."""
    await client.configure("nowhere", "off")
    with pytest.raises(FailpointTimeout) as error:
        await client.wait_until_hit("nowhere", timeout=0)
    assert "none seen so far in that process" in str(error.value)
    failpoints.configure("a", "off")
    await visit("a")
    await client.wait_until_hit("a", timeout=0)


@pytest.mark.parametrize("timeout", [None, float("inf"), 10**400, 0.35])
async def test_a_wait_longer_than_a_request_may_last(
    client: FailpointsClient, timeout: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one request may not wait for is asked for again and again, until it is so or the timeout is over."""
    monkeypatch.setattr("failpoints.client._MAX_WAIT_REQUEST", 0.1)
    await client.configure("a", "off")
    asked = threading.Semaphore(0)
    add = Watches.add

    def count(watches: Watches, watch: Watch) -> None:
        asked.release()
        add(watches, watch)

    monkeypatch.setattr(Watches, "add", count)
    with anyio.fail_after(LIMIT):
        if timeout == 0.35:
            with pytest.raises(FailpointTimeout):
                await client.wait_until_hit("a", timeout=timeout)
            return
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                await client.wait_until_hit("a", timeout=timeout)

            tasks.start_soon(wait)
            for _ in range(5):  # each request looks twice at most
                assert await anyio.to_thread.run_sync(partial(asked.acquire, timeout=LIMIT))
            await visit("a")


@pytest.mark.parametrize("how", ["cancelled", "left"])
async def test_a_cancelled_wait_leaves_nobody_behind(
    client: FailpointsClient, waits: Waits, url: str, how: str
) -> None:
    """A wait that is cancelled, or whose client is left, is given up at the server too."""
    await client.configure("a", "pause")
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks, FailpointsClient(url) as other:
            for wait in (other.wait_until_hit, other.wait_until_paused):
                tasks.start_soon(wait, "a")
            await waits.come_to(2)
            tasks.cancel_scope.cancel()
            if how == "cancelled":
                with anyio.CancelScope(shield=True):
                    await waits.come_to(0)
        await waits.come_to(0)
        assert format_actions((await client.status("a")).actions) == "pause"


# a block


async def test_configured(client: FailpointsClient) -> None:
    """`configured` holds for a block, whose handle watches and steers it; afterwards it is removed."""
    with anyio.fail_after(LIMIT):
        async with client.configured("a", "pause", context={"tenant": "t1"}) as handle:
            assert isinstance(handle, RemoteHandle)
            assert (handle.name, repr(handle)) == ("a", "<RemoteHandle of failpoint 'a'>")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(visit, "a", tenant="t1"))
                await handle.wait_paused()
                tasks.start_soon(partial(visit, "a", tenant="t1"))
                await handle.wait_hit(2, timeout=LIMIT)
                await handle.wait_paused(2)
                assert (await handle.status()).waiting == failpoints.status("a").waiting
                assert await handle.resume() == 2
            with pytest.raises(FailpointTimeout):
                await handle.wait_hit(3, timeout=0)
            await handle.remove()
            assert failpoints.statuses() == []
        async with client.configured("a", "off"), client.configured("b", "off"):
            assert [each.name for each in failpoints.statuses()] == ["a", "b"]
        assert failpoints.statuses() == []


async def test_configured_wakes_who_waits_on_leaving(client: FailpointsClient) -> None:
    """Who waits when the block is left goes on, also when an exception leaves it, which stays what it is."""
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            with pytest.raises(KeyError, match="in the block"):
                async with client.configured("a", "pause") as handle:
                    tasks.start_soon(visit, "a")
                    await handle.wait_paused()
                    raise KeyError("in the block")
    assert failpoints.statuses() == []


async def test_configured_is_removed_when_it_is_cancelled(client: FailpointsClient) -> None:
    """A cancelled block removes what it configured, before anything else goes on."""
    with anyio.CancelScope() as scope:
        async with client.configured("a", "pause"):
            assert failpoints.status("a").actions
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert failpoints.statuses() == []


async def test_configured_that_cannot_be_removed(client: FailpointsClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A removal that is refused is an error, but not in place of what went wrong in the block."""

    async def refused(name: str) -> None:
        raise FailpointUsageError("refused")

    monkeypatch.setattr(client, "remove", refused)
    with pytest.raises(FailpointUsageError, match="refused"):
        async with client.configured("a", "off"):
            pass
    with pytest.raises(KeyError, match="in the block"):
        async with client.configured("a", "off"):
            raise KeyError("in the block")


async def test_configured_that_cannot_be(client: FailpointsClient) -> None:
    """What cannot be configured leaves what is configured under that name."""
    failpoints.configure("a", "off")
    with pytest.raises(ActionSyntaxError):
        async with client.configured("a", "retrun"):
            raise AssertionError
    assert format_actions(failpoints.status("a").actions) == "off"


async def test_a_cancelled_configured_stays_cancelled(
    fake: Callable[[bytes | None], FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gives up entering is not kept, and gets no other error, where the program answers nothing at all."""
    monkeypatch.setattr("failpoints.client._CLEANUP_TIMEOUT", 0.05)
    with anyio.fail_after(LIMIT):
        async with FailpointsClient(fake(None).url) as client:
            with anyio.move_on_after(0.05) as scope:
                async with client.configured("a", "pause"):
                    raise AssertionError
    assert scope.cancelled_caught


async def test_what_may_have_been_configured_is_removed(fake: Callable[[bytes | None], FakeServer]) -> None:
    """Where the answer is lost, `configured` removes what it may have configured; where it is refused, nothing."""
    server = fake(b"")
    async with FailpointsClient(server.url) as client:
        with pytest.raises(FailpointUsageError, match="did not answer"):
            async with client.configured("a", "pause"):
                raise AssertionError
    assert [request.split()[0] for request in server.requests] == ["PUT", "DELETE"]
    refusing = fake(answer("400 Bad Request", '{"msg": "no"}'))
    async with FailpointsClient(refusing.url) as client:
        with pytest.raises(FailpointUsageError, match="no"):
            async with client.configured("a", "pause"):
                raise AssertionError
    assert [request.split()[0] for request in refusing.requests] == ["PUT"]


async def test_an_exit_is_in_force_when_configure_returns(
    client: FailpointsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the answer is sent before an exit is configured, `configure` comes back after."""
    install_all = Store.install_all

    def late(store: Store, configurations: Any) -> None:
        time.sleep(0.05)  # the answer is there by now
        install_all(store, configurations)

    monkeypatch.setattr(Store, "install_all", late)
    await client.configure_all([("a", "off"), ("b", "1*off->exit")])
    assert [each.name for each in failpoints.statuses()] == ["a", "b"]


async def test_configured_outlives_its_program(run: Callable[..., Any]) -> None:
    """That the program ends inside the block is no error on leaving it, and what follows says that it is gone."""
    program = run("import failpoints; input(); failpoints.failpoint('a').hit()", FAILPOINTS_HTTP="127.0.0.1:0")
    url = await anyio.to_thread.run_sync(program.url)
    async with FailpointsClient(url) as client:
        with anyio.fail_after(LIMIT):
            async with client.configured("a", "exit(7)"):
                program.say()
                assert (await anyio.to_thread.run_sync(program.ended))[0] == 7
            with pytest.raises(FailpointUsageError, match=r"cannot connect to .*is the program running"):
                await client.status("a")


# names

NAMES = [
    "a/b",
    "a//b/",
    "/",
    "a%2Fb",
    "%",
    "%zz",
    ".",
    "..",
    "...",
    "../..",
    "./a",
    "\N{GRINNING FACE}",
    "naïve::été",
    "a:after",
    "a+b&c?d#e",
    "'\"<>\\^`{|}[]",
    "openapi.json",
    "resume",
    "a/wait",
    "wait?hits",
    "~_-",
    "e\N{COMBINING ACUTE ACCENT}",
    "x" * 10_000,
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:20]))
async def test_every_name_reaches_its_failpoint(client: FailpointsClient, name: str) -> None:
    """Every verb reaches the failpoint of exactly this name, whatever a path or a URL means by its characters."""
    others = ["a", "a/b/c", "b", "é"]
    with anyio.fail_after(LIMIT):
        await client.configure_all((other, "off") for other in others)
        async with client.configured(name, "pause") as handle, anyio.create_task_group() as tasks:
            tasks.start_soon(visit, name)
            await handle.wait_paused()
            assert [await client.status(name)] == seen_from_outside(failpoints.status(name))
            assert (await handle.status()).hits == 1
            await handle.wait_hit()
            assert await handle.resume() == 1
        assert [status.name for status in failpoints.statuses()] == others
        assert await client.status(name) == FailpointStatus(name)
        assert await client.resume(name) == 0


@pytest.mark.parametrize("name", ["\N{GRINNING FACE}" * 10_000, "x" * 70_000], ids=["emoji", "letters"])
async def test_a_name_that_no_url_can_hold(client: FailpointsClient, name: str) -> None:
    """A name too long for a URL can be configured; asking for it is a usage error, not another name's failpoint."""
    await client.configure(name, "off")
    assert [each.name for each in await client.statuses()] == [name]
    for verb in (client.status, client.resume, client.remove, client.wait_until_hit):
        with pytest.raises(FailpointUsageError, match="name does not fit in a URL: URL too long"):
            await verb(name)


@pytest.mark.parametrize(
    ("name", "segment"),
    [
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("../..", "..%2F.."),
        ("a%2Fb", "a%252Fb"),
        ("a/b:after", "a%2Fb%3Aafter"),
        ("openapi.json", "openapi%2Ejson"),
        ("gateway.charge", "gateway.charge"),
        ("é", "%C3%A9"),
    ],
)
async def test_what_goes_over_the_wire(fake: Callable[[bytes | None], FakeServer], name: str, segment: str) -> None:
    """A name is percent-encoded as one segment of the path, below that of the base URL."""
    server = fake(answer("200 OK", "null"))
    for base, prefix in (("", ""), ("/", ""), ("/debug/%41", "/debug/%41"), ("/debug/", "/debug")):
        async with FailpointsClient(server.url + base) as client:
            await client.remove(name)
        assert server.targets()[-1] == f"DELETE {prefix}/v1/failpoints/{segment} HTTP/1.1"


async def test_a_mounted_control_plane(serve: Callable[..., Any]) -> None:
    """The base URL may have a path: where the control plane is mounted in an application."""
    with serve(Starlette(routes=[Mount("/debug/tools", app=admin_app())])) as url, anyio.fail_after(LIMIT):
        for base in (f"{url}/debug/tools", f"{url}/debug/tools/"):
            async with FailpointsClient(base) as client, client.configured("a/..", "off") as handle:
                await visit("a/..")
                await handle.wait_hit()
        async with FailpointsClient(url) as client:
            with pytest.raises(
                FailpointUsageError, match="is not a control plane of failpoints: GET was answered with 404"
            ):
                await client.status("a")


async def test_a_registry_of_its_own(serve: Callable[..., Any]) -> None:
    """A control plane of one registry steers that one."""
    registry = Registry()
    with serve(admin_app(registry)) as url:
        async with FailpointsClient(url) as client:
            await client.configure("a", "off")
            assert [status.name for status in registry.statuses()] == ["a"]
            assert failpoints.statuses() == []


# errors before anything is sent


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("a", "2*off->retrun(42)"), ActionSyntaxError, "did you mean 'return'?\n    2*off->retrun(42)\n           ^"),
        (("a b", "off"), FailpointNameError, "printable, without white space"),
        (("", "off"), FailpointNameError, "cannot be empty"),
        ((7, "off"), FailpointNameError, "is a str; got 7"),
        (("a", 100), FailpointUsageError, "did you mean Sleep(100)?"),
        (("a", Call(print)), FailpointUsageError, "has no text"),
        (("a", Return(42)), FailpointUsageError, "has no text"),
        (("a", "off", {"x": "("}), FailpointNameError, "is no regular expression"),
        (("a", "off", {"x": callable}), FailpointUsageError, "the matcher for 'x' cannot be sent"),
        (("a", "off", {"x": float("nan")}), FailpointUsageError, "the matcher for 'x' cannot be sent"),
        (("a", "off", "x"), FailpointUsageError, "matchers are a mapping"),
    ],
)
async def test_what_cannot_be_configured(
    fake: Callable[[bytes | None], FakeServer], arguments: Any, error: type[Exception], message: str
) -> None:
    """What cannot be configured raises the registry's own error, and nothing is sent, whatever else is in the batch."""
    server = fake(answer("200 OK", "null"))
    name, actions, context = (*arguments, None)[:3]
    async with FailpointsClient(server.url) as client:
        with pytest.raises(error, match=re.escape(message)):
            await client.configure(name, actions, context=context)
        with pytest.raises(error, match=re.escape(message)):
            await client.configure_all([("b", "off"), arguments])
        with pytest.raises(error, match=re.escape(message)):
            async with client.configured(name, actions, context=context):
                raise AssertionError
    assert server.requests == []


@pytest.mark.parametrize("entries", [{"a": "off"}, 7, ["ab"], [("a",)], [("a", "off", None, None)], [7]])
async def test_entries_that_are_none(fake: Callable[[bytes | None], FakeServer], entries: Any) -> None:
    """What are no entries for `configure_all` is refused in the registry's own words."""
    with pytest.raises(FailpointUsageError) as here:
        failpoints.configure_all(entries)
    server = fake(answer("200 OK", "null"))
    async with FailpointsClient(server.url) as client:
        with pytest.raises(FailpointUsageError) as there:
            await client.configure_all(entries)
    assert str(there.value) == str(here.value)
    assert server.requests == []


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        (("a", 0), {}),
        (("a", True), {}),
        (("a", 1.5), {}),
        (("a",), {"timeout": -1}),
        (("a",), {"timeout": float("nan")}),
        (("a",), {"timeout": "10"}),
        (("a b",), {}),
    ],
)
@pytest.mark.parametrize("wait", ["wait_until_hit", "wait_until_paused"])
async def test_waits_that_are_none(
    fake: Callable[[bytes | None], FakeServer], wait: str, arguments: Any, keywords: Any
) -> None:
    """A count or a timeout that is none is refused in the registry's own words, and nothing is sent."""
    with pytest.raises(FailpointError) as here:
        await getattr(failpoints, wait)(*arguments, **keywords)
    server = fake(answer("200 OK", "null"))
    async with FailpointsClient(server.url) as client:
        with pytest.raises(FailpointError) as there:
            await getattr(client, wait)(*arguments, **keywords)
    assert (type(there.value), str(there.value)) == (type(here.value), str(here.value))
    assert server.requests == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("127.0.0.1:22381", "begins with http:// or https://.*did you mean 'http://127.0.0.1:22381'"),
        ("localhost:22381/x", "did you mean 'http://localhost:22381/x'"),
        ("localhost", "did you mean 'http://localhost'"),
        ("//localhost", "did you mean 'http://localhost'"),
        ("ftp://localhost:1", "did you mean 'http://localhost:1'"),
        ("http:/localhost", "did you mean 'http://localhost'"),
        ("http://", r"begins with http:// or https://; got 'http://'$"),
        ("", "begins with http:// or https://; got ''$"),
        ("http://127.0.0.1:x", "not a URL: 'http://127.0.0.1:x'"),
        ("http://[::1", "not a URL: "),
        ("http://127.0.0.1:99999", "a port is a number from 1 to 65535"),
        ("http://127.0.0.1:0", "a port is a number from 1 to 65535"),
        ("http://127.0.0.1:1/v1/failpoints", "did you mean 'http://127.0.0.1:1'"),
        ("http://127.0.0.1:1/x/v1/failpoints/", "did you mean 'http://127.0.0.1:1/x'"),
        ("http://127.0.0.1:1/x?y=1", "has no query.*did you mean 'http://127.0.0.1:1/x'"),
        ("http://127.0.0.1:1/#y", "did you mean 'http://127.0.0.1:1'"),
        (None, "a control plane's URL is a str, such as"),
        (22381, "got 22381"),
    ],
)
def test_a_url_that_is_none(url: Any, message: str) -> None:
    """A URL that cannot be a control plane's is refused at once, with what was probably meant."""
    with pytest.raises(FailpointUsageError, match=message):
        FailpointsClient(url)


def test_secrets_are_not_shown() -> None:
    """A password in the URL and a token that is none are refused, and not shown; nor is a good token."""
    for refused in (
        lambda: FailpointsClient("http://me:s3cret@localhost"),
        lambda: FailpointsClient("http://h", token="s3 cret"),
    ):
        with pytest.raises(FailpointUsageError) as error:
            refused()
        assert "cret" not in str(error.value)
        assert "token" in str(error.value)
    with pytest.raises(FailpointUsageError, match="token"):
        FailpointsClient("http://h", token="")
    assert repr(FailpointsClient("http://h/x/", token="s3cret")) == "<FailpointsClient of http://h/x>"


async def test_outside_of_its_block(url: str) -> None:
    """Outside of its block a client is a usage error that shows how it is entered; so is entering it twice."""
    client = FailpointsClient(url)
    with pytest.raises(
        FailpointUsageError, match=rf"has not been entered: write async with FailpointsClient\('{url}'\)"
    ):
        await client.statuses()
    async with client:
        with pytest.raises(FailpointUsageError, match="already entered"):
            async with client:
                raise AssertionError
        assert await client.statuses() == []
    with pytest.raises(FailpointUsageError, match="has not been entered"):
        await client.wait_until_hit("a")
    async with client:
        assert await client.statuses() == []


# what the control plane refuses


async def test_a_token(serve: Callable[..., Any]) -> None:
    """With the token all is granted; without it, or with another, the error says what to give."""
    with serve(admin_app(token=TOKEN)) as url:
        async with FailpointsClient(url, token=TOKEN) as client:
            await client.configure("a", "off")
            assert len(await client.statuses()) == 1
        for token in (None, "another"):
            async with FailpointsClient(url, token=token) as client:
                for verb in (client.statuses(), client.reset(), client.remove("a"), client.wait_until_hit("a")):
                    with pytest.raises(
                        FailpointUsageError, match=rf"the token of {url} is its FAILPOINTS_TOKEN, or the token="
                    ):
                        await verb
    assert [each.name for each in failpoints.statuses()] == ["a"]


async def test_a_batch_that_is_too_large(client: FailpointsClient) -> None:
    """What the control plane refuses is raised in its own words, and nothing has changed."""
    with pytest.raises(FailpointUsageError, match="at most 1048576 bytes"):
        await client.configure_all([(f"a{number}", f"return({'x' * 1000})") for number in range(2_000)])
    assert failpoints.statuses() == []


CARET = "expected an action, found 'x'\n    x\n    ^"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            answer("400 Bad Request", '{"msg": "expected an action, found \'x\'\\n    x\\n    ^"}'),
            re.escape(CARET) + "$",
        ),
        (answer("403 Forbidden", '{"msg": "no"}'), "^no$"),
        (answer("421 Misdirected Request", '{"msg": "the Host is"}'), "^the Host is$"),
        (answer("500 Internal Server Error", '{"msg": "it failed"}'), r"^http://\S+ answered 500: it failed$"),
        (
            answer("503 Service Unavailable", "<html>"),
            "not a control plane of failpoints: .* answered with 503 and '<html>'",
        ),
        (answer("408 Request Timeout", '{"msg": "slow"}'), "not a control plane of failpoints|^slow$"),
        (answer("408 Request Timeout", "slow"), "not a control plane of failpoints: .* answered with 408"),
        (answer("404 Not Found", "Not Found"), "not a control plane of failpoints: .* answered with 404"),
        (answer("404 Not Found", '{"detail": "Not Found"}'), "not a control plane of failpoints"),
        (answer("404 Not Found", '{"msg": "no such path"}'), "^no such path$"),
        (
            answer("307 Temporary Redirect", "", "Location: http://127.0.0.1:1/"),
            "not a control plane .* answered with 307",
        ),
        (answer("200 OK", "OK"), "not a control plane of failpoints: .* answered with 200 and 'OK'"),
        (answer("200 OK", ""), "not a control plane of failpoints"),
        (answer("200 OK", '{"hello": "world"}'), "not a control plane of failpoints"),
        (answer("200 OK", "[1]"), "not a control plane of failpoints"),
        (answer("200 OK", "[" * 100_000), "not a control plane of failpoints"),
        (answer("200 OK", "x" * 5_000), r"not a control plane of failpoints: .*xxx…$"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe\xfd\xfc", "not a control plane of failpoints"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\nnull", "did not answer .*either the program has ended"),
        (b"220 mail.example.org ESMTP\r\n", "did not answer .*not a control plane of failpoints"),
        (b"\x00\x01\x02\x03" * 100, "did not answer"),
        (b"", "did not answer .*either the program has ended"),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else "",
)
async def test_answers_that_are_none(fake: Callable[[bytes | None], FakeServer], given: bytes, message: str) -> None:
    """Whatever is answered, every verb raises `FailpointUsageError`, which says what was answered and by whom."""
    server = fake(given)
    async with FailpointsClient(server.url) as client:
        for verb in (
            lambda: client.configure("a", "off"),
            lambda: client.configured("a", "off").__aenter__(),
            client.reset,
            client.statuses,
            lambda: client.remove("a"),
            lambda: client.resume("a"),
            lambda: client.status("a"),
            lambda: client.wait_until_hit("a"),
            lambda: client.wait_until_paused("a", timeout=1),
        ):
            with pytest.raises(FailpointUsageError) as error, anyio.fail_after(LIMIT):
                await verb()
            assert re.search(message, str(error.value), re.DOTALL)
            assert server.url in str(error.value) or "^" in message


async def test_who_never_answers(fake: Callable[[bytes | None], FakeServer], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never answers is a usage error in time: a wait's own time is added to it."""
    monkeypatch.setattr("failpoints.client._ANSWER_TIMEOUT", 0.1)
    server = fake(None)
    async with FailpointsClient(server.url) as client:
        with pytest.raises(FailpointUsageError, match=rf"^{server.url} did not answer within 0\.1 s") as error:
            await client.statuses()
        assert isinstance(error.value.__cause__, httpx.ReadTimeout)
        with pytest.raises(FailpointUsageError, match=r"did not answer within 0\.3 s"):
            await client.wait_until_hit("a", timeout=0.2)


async def test_a_wait_has_its_own_time_and_that_of_an_answer(
    client: FailpointsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait that lasts longer than an answer may take is no server that does not answer."""
    monkeypatch.setattr("failpoints.client._ANSWER_TIMEOUT", 1)
    await client.configure("a", "off")
    with pytest.raises(FailpointTimeout):
        await client.wait_until_hit("a", timeout=1.1)


async def test_nobody_listens() -> None:
    """Where nobody listens, the error says so, and what to do; it comes from that of `httpx`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with FailpointsClient(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(FailpointUsageError, match=rf"cannot connect to http://127.0.0.1:{port}") as error:
            await client.statuses()
    assert "FAILPOINTS_HTTP" in str(error.value)
    assert isinstance(error.value.__cause__, httpx.ConnectError)


async def test_a_proxy_in_the_environment_has_no_part_in_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says of proxies and passwords does not concern a client."""
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with FailpointsClient(url) as client:
        assert await client.statuses() == []


def test_from_a_program_that_has_no_failpoints(url: str) -> None:
    """A program whose own failpoints are switched off drives those of another one."""
    script = f"""
        import anyio
        from failpoints.client import FailpointsClient
        async def main():
            async with FailpointsClient({url!r}) as client:
                await client.configure("a", "pause", context={{"x": 1}})
        anyio.run(main)
    """
    environment = {**os.environ, "FAILPOINTS_ENABLED": "0"}
    subprocess.run([sys.executable, "-c", dedent(script)], cwd=ROOT, env=environment, check=True, timeout=50)
    assert [format_actions(each.actions) for each in failpoints.statuses()] == ["pause"]


# installed, or not


def test_without_httpx() -> None:
    """Where `httpx` is not installed, importing the client is one sentence that says what to install."""
    script = "import sys; sys.modules['httpx'] = None; import failpoints, failpoints.client"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "failpoints.errors.FailpointUsageError: failpoints.client needs httpx, which is not installed:"
        " pip install 'failpoints[http]'"
    )
