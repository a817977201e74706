"""The client: the registry's verbs over HTTP, its errors, and its reaction to servers that are not control planes."""

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
from failpoints._core.store import Store
from failpoints._core.watches import Watch, Watches
from failpoints.admin import admin_app
from failpoints.client import FailpointsClient, RemoteHandle

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
LIMIT = 20  # seconds to wait for things that normally happen at once
TOKEN = "a-token"


@pytest.fixture(scope="module")
def url(serve: Callable[..., Any]) -> Iterator[str]:
    """Serve the control plane of this process."""
    with serve(admin_app()) as url:
        yield url


@pytest.fixture
async def client(url: str) -> Any:
    async with FailpointsClient(url) as client:
        yield client


class Waits:
    """The waits that the server carries out."""

    def __init__(self, watchers: Any) -> None:
        self._watchers = watchers

    @property
    def number(self) -> int:
        return int(self._watchers.number())

    async def come_to(self, number: int) -> None:
        """Wait until there are exactly *number* waits."""
        await anyio.to_thread.run_sync(self._watchers.until, number)


@pytest.fixture
def waits(watchers: Any) -> Waits:
    return Waits(watchers)


class FakeServer:
    """A server that reads the head of each request, sends fixed bytes and closes the connection."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer  # None never answers
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
        """Return the request lines that it has received."""
        return [request.partition("\r\n")[0] for request in self.requests]


@pytest.fixture
def fake() -> Iterator[Callable[[bytes | None], FakeServer]]:
    """Start a server that gives every request the same answer."""
    servers: list[FakeServer] = []

    def start(answer: bytes | None) -> FakeServer:
        servers.append(FakeServer(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def answer(status: str, body: str, *headers: str) -> bytes:
    """Encode an answer after which the connection is closed."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body.encode())}", "Connection: close", *headers]
    return "\r\n".join([*head, "", body]).encode()


async def visit(name: str, **context: Any) -> None:
    """Visit a failpoint, even one that ends in `:after`."""
    async with failpoint_scope(name.removesuffix(":after"), context=context):
        pass


def as_sent(*statuses: FailpointStatus) -> list[FailpointStatus]:
    """Return statuses as they are sent: with the sites' files relative to the import folder."""
    return [
        replace(
            each,
            sites=tuple(site.removeprefix(f"{ROOT}/") for site in each.sites),
            configurations=tuple(as_sent(*each.configurations)),
        )
        for each in statuses
    ]


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
    """Actions given in any form arrive unchanged."""
    await client.configure("a", actions)
    assert format_actions(failpoints.status("a").actions) == text
    assert (await client.status("a")).actions == failpoints.status("a").actions


async def test_configure_with_matchers(client: FailpointsClient) -> None:
    """Matchers keep their meaning: patterns, compiled patterns, and values that must be equal."""
    asked = {"tenant": "test_.*", "user": re.compile("ada", re.IGNORECASE), "shard": 3, "dry": False, "by": None}
    await client.configure("a", "off", context=asked)
    await visit("a", tenant="test_1", user="ADA", shard=3, dry=False, by=None)
    await visit("a", tenant="test_1", user="ADA", shard=4, dry=False, by=None)
    status = await client.status("a")
    assert (status.hits, status.misses, status.last_mismatch) == (1, 1, "shard=4 is not 3")
    assert status.last_miss == {"tenant": "test_1", "user": "ADA", "shard": 4, "dry": False, "by": None}


async def test_configure_all(client: FailpointsClient) -> None:
    """`configure_all` takes any iterable of entries, with matchers or without. The last entry of a name counts."""
    await client.configure_all(iter([("a", "pause"), ["b", Off(), {"x": 1}], ("c", "off", None), ("c", "panic")]))
    assert [(each.name, format_actions(each.actions), each.matchers) for each in failpoints.statuses()] == [
        ("a", "pause", {}),
        ("b", "off", {"x": 1}),
        ("c", "panic", {}),
    ]
    await client.configure_all([])
    assert len(failpoints.statuses()) == 3


async def test_changes_wake_waiters(client: FailpointsClient) -> None:
    """Reconfiguring or removing a failpoint from outside wakes its waiters."""
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
    """`remove` removes one failpoint, or does nothing if there is none. `reset` removes all."""
    await client.configure_all([("a", "off"), ("b", "off"), ("c", "off")])
    await client.remove("a")
    await client.remove("a")
    assert [each.name for each in await client.statuses()] == ["b", "c"]
    await client.reset()
    await client.reset()
    assert await client.statuses() == []


async def test_resume(client: FailpointsClient) -> None:
    """`resume` returns how many waiters it woke, 0 if the failpoint is not configured, and changes nothing else."""
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


# status


async def test_status(client: FailpointsClient) -> None:
    """A status contains what it contains in the process itself: counts, matchers, waiters with their context, sites."""
    failpoints.configure("client.status", "1*off->pause", context={"tenant": "t.*"})
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            await visit("client.status", tenant="other")
            await visit("client.status", tenant="t1")
            tasks.start_soon(partial(visit, "client.status", tenant="t2", seat=1))
            await client.wait_until_paused("client.status")
            there, here = await client.status("client.status"), failpoints.status("client.status")
            await client.resume("client.status")
    assert [there] == as_sent(here)
    assert (there.hits, there.misses, there.triggers) == (2, 1, 2)
    assert (there.last_miss, there.last_mismatch) == ({"tenant": "other"}, "tenant='other' does not match 't.*'")
    assert there.waiting[0].context == {"tenant": "t2", "seat": 1}
    assert all(re.fullmatch(r"tests/http/test_client\.py:\d+", site) for site in there.sites)


async def test_a_status_without_a_text_form(client: FailpointsClient) -> None:
    """Actions without a text form, and values that JSON does not have, arrive as their `repr`."""
    failpoints.configure("a", [Term(Call(print), 0.5), Term(Off())], context={"size": callable, "t": (1, 2)})
    status = await client.status("a")
    assert "Call(print)" in str(status.actions)
    assert status.matchers == {"size": "callable", "t": "(1, 2)"}


async def test_status_of_an_unconfigured_name(client: FailpointsClient) -> None:
    """A name that is not configured has no actions and zero counts. Looking configures nothing."""
    assert await client.status("a") == FailpointStatus("a")
    assert await client.statuses() == []


async def test_statuses(client: FailpointsClient) -> None:
    """`statuses` returns all of them, ordered by name."""
    # Names that no other test visits: a site elsewhere, such as in the standard library, would be sent in another form.
    await client.configure_all([("statuses.b", "off"), ("statuses.é", "off"), ("statuses.a", "pause")])
    statuses = [await client.status(name) for name in ("statuses.a", "statuses.b", "statuses.é")]
    assert await client.statuses() == statuses == as_sent(*failpoints.statuses())


# waiting


async def test_wait_until_hit(client: FailpointsClient, waits: Waits) -> None:
    """A wait ends when its last hit comes, and not before. Earlier hits count."""
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


async def test_wait_until_paused_is_about_the_present(client: FailpointsClient) -> None:
    """A pause that has ended does not count, so waiting for it times out."""
    await client.configure("a", "pause")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(visit, "a")
        await client.wait_until_paused("a", timeout=LIMIT)
        await client.resume("a")
    with pytest.raises(FailpointTimeout):
        await client.wait_until_paused("a", timeout=0)
    assert failpoints.status("a").hits == 1


async def test_200_waits_at_once(client: FailpointsClient, waits: Waits) -> None:
    """200 waits through one client are all answered, and so are other requests during the waits."""
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


async def test_a_wait_survives_a_reconfiguration(client: FailpointsClient, waits: Waits) -> None:
    """A wait for hits continues when the failpoint is reconfigured, and counts from zero again."""
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
async def test_a_wait_for_an_unconfigured_name(client: FailpointsClient, wait: str) -> None:
    """Waiting for a name that is not configured is a usage error at once, with the nearest name."""
    await client.configure("gateway.charge", "off")
    with pytest.raises(FailpointUsageError, match=r"'gateway.chrage' is not configured.*did you mean 'gateway.charge'"):
        await getattr(client, wait)("gateway.chrage")


async def test_a_wait_whose_failpoint_is_removed(client: FailpointsClient, waits: Waits) -> None:
    """A wait raises a usage error when its failpoint is removed."""
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
    """A timeout raises `FailpointTimeout`, which lists the facts about the failpoint and has its status."""
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


TIMED_OUT = r"""fewer than 2 tasks were paused at failpoint 'client\.wait' within 0\.05 s
  configured: pause where tenant='test_\.\*'
  counts:     hits 1, misses 1, triggers 1
  last miss:  tenant='t2' does not match 'test_\.\*'
  waiting:    '.+' has waited \d+\.\d s, {'tenant': 'test_1'}
  sites:      tests/http/test_client\.py:\d+"""


async def test_a_timeout_of_zero(client: FailpointsClient) -> None:
    """With a timeout of 0 a wait checks once."""
    await client.configure("nowhere", "off")
    with pytest.raises(FailpointTimeout) as error:
        await client.wait_until_hit("nowhere", timeout=0)
    assert "none seen so far in that process" in str(error.value)
    failpoints.configure("a", "off")
    await visit("a")
    await client.wait_until_hit("a", timeout=0)


@pytest.mark.parametrize("timeout", [None, float("inf"), 10**400, 0.35])
async def test_a_wait_longer_than_a_request(
    client: FailpointsClient, timeout: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long wait is split into several requests, until the event or the timeout."""
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
            for _ in range(5):  # each request checks at most twice
                assert await anyio.to_thread.run_sync(partial(asked.acquire, timeout=LIMIT))
            await visit("a")


@pytest.mark.parametrize("how", ["cancelled", "left"])
async def test_a_cancelled_wait_ends_at_the_server(client: FailpointsClient, waits: Waits, url: str, how: str) -> None:
    """The server gives up a wait that is cancelled, or whose client is closed."""
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


# blocks


async def test_configured(client: FailpointsClient) -> None:
    """`configured` configures for a block, whose handle gives all verbs, and removes the failpoint afterwards."""
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


async def test_configured_wakes_waiters_on_leaving(client: FailpointsClient) -> None:
    """Leaving the block wakes the waiters, also by an exception, which propagates unchanged."""
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            with pytest.raises(KeyError, match="in the block"):
                async with client.configured("a", "pause") as handle:
                    tasks.start_soon(visit, "a")
                    await handle.wait_paused()
                    raise KeyError("in the block")
    assert failpoints.statuses() == []


async def test_configured_is_removed_when_it_is_cancelled(client: FailpointsClient) -> None:
    """A cancelled block removes its configuration before the cancellation propagates."""
    with anyio.CancelScope() as scope:
        async with client.configured("a", "pause"):
            assert failpoints.status("a").actions
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert failpoints.statuses() == []


async def test_configured_that_cannot_be_removed(client: FailpointsClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the removal is raised, but does not replace an exception of the block."""

    async def refused(name: str, **handle: str) -> None:
        raise FailpointUsageError("refused")

    monkeypatch.setattr(client, "_remove", refused)
    with pytest.raises(FailpointUsageError, match="refused"):
        async with client.configured("a", "off"):
            pass
    with pytest.raises(KeyError, match="in the block"):
        async with client.configured("a", "off"):
            raise KeyError("in the block")


async def test_configured_with_invalid_actions(client: FailpointsClient) -> None:
    """If `configured` fails, the previous configuration of the name stays."""
    failpoints.configure("a", "off")
    with pytest.raises(ActionSyntaxError):
        async with client.configured("a", "retrun"):
            raise AssertionError
    with pytest.raises(FailpointUsageError, match=r"did you mean 'sleep\(1\)\+raise'"):
        async with client.configured("a", "sleep(1)->raise"):
            raise AssertionError
    assert format_actions(failpoints.status("a").actions) == "off"


async def test_a_cancelled_configured_stays_cancelled(
    fake: Callable[[bytes | None], FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entering a block can be cancelled although the program never answers, and raises nothing else."""
    monkeypatch.setattr("failpoints.client._CLEANUP_TIMEOUT", 0.05)
    with anyio.fail_after(LIMIT):
        async with FailpointsClient(fake(None).url) as client:
            with anyio.move_on_after(0.05) as scope:
                async with client.configured("a", "pause"):
                    raise AssertionError
    assert scope.cancelled_caught


async def test_configured_whose_answer_is_lost(fake: Callable[[bytes | None], FakeServer]) -> None:
    """If the answer is lost, `configured` removes what it may have configured. After a refusal it removes nothing."""
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
    """`configure` returns after an `exit` is configured, although its answer is sent before."""
    install_all = Store.install_all

    def delayed(store: Store, configurations: Any) -> None:
        time.sleep(0.05)  # the answer has arrived by now
        install_all(store, configurations)

    monkeypatch.setattr(Store, "install_all", delayed)
    await client.configure_all([("a", "off"), ("b", "1*off->print+exit")])
    assert [each.name for each in failpoints.statuses()] == ["a", "b"]


async def test_a_program_that_ends_inside_the_block(run: Callable[..., Any]) -> None:
    """Leaving the block is not an error if the program has ended. Later requests say that it cannot be reached."""
    program = run("import failpoints; input(); failpoints.failpoint('a').hit()", FAILPOINTS_HTTP="127.0.0.1:0")
    url = await anyio.to_thread.run_sync(program.url)
    async with FailpointsClient(url) as client:
        with anyio.fail_after(LIMIT):
            async with client.configured("a", "exit(7)"):
                program.send_line()
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
    "'\"<>\\^`{|}",
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
    """Every verb reaches exactly this name, whatever its characters mean in a path or a URL."""
    others = ["a", "a/b/c", "b", "é"]
    with anyio.fail_after(LIMIT):
        await client.configure_all((other, "off") for other in others)
        async with client.configured(name, "pause") as handle, anyio.create_task_group() as tasks:
            tasks.start_soon(visit, name)
            await handle.wait_paused()
            assert [await client.status(name)] == as_sent(failpoints.status(name))
            assert (await handle.status()).hits == 1
            await handle.wait_hit()
            assert await handle.resume() == 1
        assert [status.name for status in failpoints.statuses()] == others
        assert await client.status(name) == FailpointStatus(name)
        assert await client.resume(name) == 0


@pytest.mark.parametrize("name", ["\N{GRINNING FACE}" * 10_000, "x" * 70_000], ids=["emoji", "letters"])
async def test_a_name_too_long_for_a_url(client: FailpointsClient, name: str) -> None:
    """A name too long for a URL can be configured. The verbs that have it in their path raise a usage error."""
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
async def test_paths_of_requests(fake: Callable[[bytes | None], FakeServer], name: str, segment: str) -> None:
    """A name is percent-encoded as one segment of the path, below the path of the base URL."""
    server = fake(answer("200 OK", "null"))
    for base, prefix in (("", ""), ("/", ""), ("/debug/%41", "/debug/%41"), ("/debug/", "/debug")):
        async with FailpointsClient(server.url + base) as client:
            await client.remove(name)
        assert server.targets()[-1] == f"DELETE {prefix}/v1/failpoints/{segment} HTTP/1.1"


async def test_a_mounted_control_plane(serve: Callable[..., Any]) -> None:
    """The base URL may have a path, where the control plane is mounted."""
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
    """A control plane for one registry acts on that one only."""
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
        ((7, "off"), FailpointNameError, "a failpoint's name must be a str; got 7"),
        (("a", 100), FailpointUsageError, "did you mean Sleep(100)?"),
        (("a", Call(print)), FailpointUsageError, "has no text"),
        (("a", Return(42)), FailpointUsageError, "has no text"),
        (("a", "off", {"x": "("}), FailpointNameError, "is not a valid regular expression"),
        (("a", "off", {"x": callable}), FailpointUsageError, "the matcher for 'x' cannot be sent"),
        (("a", "off", {"x": float("nan")}), FailpointUsageError, "the matcher for 'x' cannot be sent"),
        (("a", "off", "x"), FailpointUsageError, "matchers must be a mapping"),
    ],
)
async def test_invalid_configurations(
    fake: Callable[[bytes | None], FakeServer], arguments: Any, error: type[Exception], message: str
) -> None:
    """An invalid argument raises the registry's own error, and nothing is sent, not even the rest of a batch."""
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
async def test_invalid_entries(fake: Callable[[bytes | None], FakeServer], entries: Any) -> None:
    """Invalid entries for `configure_all` raise the registry's own error."""
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
async def test_invalid_waits(
    fake: Callable[[bytes | None], FakeServer], wait: str, arguments: Any, keywords: Any
) -> None:
    """An invalid count, timeout or name raises the registry's own error, and nothing is sent."""
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
def test_invalid_urls(url: Any, message: str) -> None:
    """An invalid URL is refused when the client is made, with a suggestion."""
    with pytest.raises(FailpointUsageError, match=message):
        FailpointsClient(url)


def test_secrets_are_not_shown() -> None:
    """A password in the URL and an invalid token are refused without being shown. Nor is a valid token."""
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


async def test_outside_its_block(url: str) -> None:
    """Using a client outside its block, or entering it twice, is a usage error. It can be entered again later."""
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


# answers


async def test_a_token(serve: Callable[..., Any]) -> None:
    """With the token every verb works. Without it, or with another, the error says where the token is set."""
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
    """A refusal by the control plane raises its message, and nothing has changed."""
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
async def test_foreign_answers(fake: Callable[[bytes | None], FakeServer], given: bytes, message: str) -> None:
    """Whatever the answer, every verb raises `FailpointUsageError` with the answer and the URL."""
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


async def test_a_server_that_never_answers(
    fake: Callable[[bytes | None], FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no answer comes in time, that is a usage error. For a wait, its own timeout is added to the limit."""
    monkeypatch.setattr("failpoints.client._ANSWER_TIMEOUT", 0.3)
    server = fake(None)
    async with FailpointsClient(server.url) as client:
        with pytest.raises(FailpointUsageError, match=rf"^{server.url} did not answer within 0\.3 s") as error:
            await client.statuses()
        assert isinstance(error.value.__cause__, httpx.ReadTimeout)
        with pytest.raises(FailpointUsageError, match=r"did not answer within 0\.5 s"):
            await client.wait_until_hit("a", timeout=0.2)


async def test_a_wait_longer_than_the_answer_timeout(client: FailpointsClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait may last longer than the limit for an answer."""
    monkeypatch.setattr("failpoints.client._ANSWER_TIMEOUT", 1)
    await client.configure("a", "off")
    with pytest.raises(FailpointTimeout):
        await client.wait_until_hit("a", timeout=1.1)


async def test_a_closed_port() -> None:
    """A refused connection is a usage error that says what to check, with the `httpx` error as its cause."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with FailpointsClient(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(FailpointUsageError, match=rf"cannot connect to http://127.0.0.1:{port}") as error:
            await client.statuses()
    assert "FAILPOINTS_HTTP" in str(error.value)
    assert isinstance(error.value.__cause__, httpx.ConnectError)


async def test_proxies_of_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client ignores the proxies in the environment."""
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with FailpointsClient(url) as client:
        assert await client.statuses() == []


def test_a_client_with_disabled_failpoints(url: str) -> None:
    """A program with `FAILPOINTS_ENABLED=0` can still drive the failpoints of another program."""
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


# the extra


def test_without_httpx() -> None:
    """Without `httpx`, importing the client raises an error that says what to install."""
    script = "import sys; sys.modules['httpx'] = None; import failpoints, failpoints.client"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "failpoints.errors.FailpointUsageError: failpoints.client needs httpx, which is not installed:"
        " pip install 'failpoints[http]'"
    )
