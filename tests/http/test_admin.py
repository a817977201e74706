"""The application of the control plane: every request and error, every name, mounted anywhere, on every event loop."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import quote

import anyio
import fastapi
import httpx
import pytest
import requests
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

import failpoints
from failpoints import (
    FailpointUsageError,
    Registry,
    Return,
    configure,
    failpoint,
    failpoint_context,
    failpoint_scope,
    status,
)
from failpoints.admin import admin_app

pytestmark = pytest.mark.anyio

AT = "/v1/failpoints"
Serve = Callable[..., AbstractContextManager[str]]


def client_of(app: Any, **settings: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, **settings), base_url="http://127.0.0.1")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of an application for the process-wide registry."""
    async with client_of(admin_app()) as client:
        yield client


@pytest.fixture(scope="module")
def live_url(serve: Serve) -> Iterator[str]:
    """Serve the process-wide registry's application, alone and mounted at /debug."""
    with serve(Starlette(routes=[Mount("/debug", app=admin_app()), Mount("/", app=admin_app())])) as url:
        yield url


def refused(answer: httpx.Response, status: int) -> str:
    """Check that the answer is an error and nothing else, and return its message."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert list(document) == ["msg"]
    return str(document["msg"])


# configuring


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_configure(client: httpx.AsyncClient, method: str) -> None:
    """PUT and POST configure every entry and answer `null`."""
    entries = [{"name": "a", "actions": "return(1)"}, {"name": "b", "actions": "2*off->return(2)"}]
    answer = await client.request(method, AT, json=entries)
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (200, "null", "application/json")
    assert await failpoint("a") == Return("1")
    assert [status.name for status in failpoints.statuses()] == ["a", "b"]


async def test_configuring_nothing(client: httpx.AsyncClient) -> None:
    """An empty array is accepted."""
    answer = await client.put(AT, json=[])
    assert (answer.status_code, answer.json()) == (200, None)


async def test_the_last_of_one_name_counts(client: httpx.AsyncClient) -> None:
    """Of several entries with the same name, the last one counts, as in the registry."""
    await client.put(AT, json=[{"name": "a", "actions": "return(1)"}, {"name": "a", "actions": "return(2)"}])
    assert await failpoint("a") == Return("2")


@pytest.mark.parametrize(
    ("matchers", "matches", "misses"),
    [
        ({"tenant": "t.*"}, {"tenant": "t1"}, {"tenant": "at1"}),
        ({"shard": 3}, {"shard": 3}, {"shard": 4}),
        ({"rate": 0.5}, {"rate": 0.5}, {"rate": 1}),
        ({"dry": True}, {"dry": True}, {"dry": False}),
        ({"parent": None}, {"parent": None}, {"parent": "x"}),
        ({"a": "1", "b": "2"}, {"a": 1, "b": 2}, {"a": 1}),
    ],
)
async def test_matchers(
    client: httpx.AsyncClient, matchers: dict[str, Any], matches: dict[str, Any], misses: dict[str, Any]
) -> None:
    """`context_matchers` match like the `context` of `configure`."""
    entry = {"name": "a", "actions": "return", "context_matchers": matchers}
    assert (await client.put(AT, json=[entry])).status_code == 200
    with failpoint_context(**misses):
        assert not await failpoint("a")
    with failpoint_context(**matches):
        assert await failpoint("a")
    shown = (await client.get(f"{AT}/a")).json()
    assert (shown["matchers"], shown["hits"], shown["misses"]) == (matchers, 1, 1)


@pytest.mark.parametrize("matchers", [{}, None])
async def test_no_matchers(client: httpx.AsyncClient, matchers: Any) -> None:
    """An empty `context_matchers` and `null` match every visit."""
    await client.put(AT, json=[{"name": "a", "actions": "return", "context_matchers": matchers}])
    assert await failpoint("a")


BAD = [
    (b"", "not JSON"),
    (b"{", "not JSON"),
    (b"[{]", "not JSON"),
    (b"\xff", "not UTF-8"),
    (b"null", "must be an array of objects"),
    (b'{"name": "a", "actions": "off"}', "must be an array of objects"),
    (b'"a=off"', "must be an array of objects"),
    (b"[1]", "an entry must be an object"),
    (b'[{"name": "a"}]', "actions is missing"),
    (b'[{"actions": "off"}]', "name is missing"),
    (b'[{"name": 1, "actions": "off"}]', "name must be a string"),
    (b'[{"name": "a", "actions": null}]', "actions must be a string"),
    (b'[{"name": "a", "actions": "off", "context": {}}]', "unknown key 'context'; an entry has name, actions,"),
    (b'[{"name": "a", "action": "off"}]', "did you mean 'actions'?"),
    (b'[{"name": "a", "name": "b", "actions": "off"}]', "appears twice"),
    (b'[{"name": "a b", "actions": "off"}]', "got 'a b'\n    a b\n     ^"),
    (b'[{"name": "", "actions": "off"}]', "cannot be empty"),
    (b'[{"name": "a", "actions": "retrun(1)"}]', "\n    retrun(1)\n    ^"),
    (b'[{"name": "a", "actions": "off", "context_matchers": []}]', "context_matchers must be an object"),
    (b'[{"name": "a", "actions": "off", "context_matchers": {"k": []}}]', "'k'"),
    (b'[{"name": "a", "actions": "off", "context_matchers": {"k": "("}}]', "'k'"),
    (b'[{"name": "a", "actions": "off", "context_matchers": {"k": NaN}}]', "NaN"),
    (b'[{"name": "a", "actions": "off", "context_matchers": {"k": 1e999}}]', "too large"),
    (b"[" * 100_000, "not JSON|nested too deeply"),
    (b"[" + b"9" * 5000 + b"]", "too many digits|an entry must be an object"),
]


@pytest.mark.parametrize(("body", "message"), BAD, ids=[repr(body[:40]) for body, _ in BAD])
async def test_bad_bodies(client: httpx.AsyncClient, body: bytes, message: str) -> None:
    """An invalid body is a 400 with the reason, and changes nothing."""
    configure("there", "return")
    answer = await client.put(AT, content=body, headers={"Content-Type": "application/json"})
    msg = refused(answer, 400)
    assert any(part in msg for part in message.split("|")), msg
    assert [status.name for status in failpoints.statuses()] == ["there"]


@pytest.mark.parametrize("bad", ["no action", "return(", "101%off", "raise(1x)"])
async def test_all_or_none(client: httpx.AsyncClient, bad: str) -> None:
    """If one entry is invalid, none is configured, and the message has its number."""
    configure("b", "return(old)")
    entries = [{"name": "a", "actions": "off"}, {"name": "b", "actions": bad}, {"name": "c", "actions": "exit"}]
    assert "entry 2" in refused(await client.put(AT, json=entries), 400)
    assert await failpoint("b") == Return("old")
    assert [status.name for status in failpoints.statuses()] == ["b"]


async def test_a_batch_wakes_waiters(client: httpx.AsyncClient) -> None:
    """Reconfiguring a failpoint wakes its waiters."""
    configure("a", "pause")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_visit, "a")
        await failpoints.wait_until_paused("a")
        await client.put(AT, json=[{"name": "a", "actions": "off"}])


async def _visit(name: str) -> None:
    await failpoint(name)


async def test_failpoints_that_are_disabled(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `FAILPOINTS_ENABLED=0`, configuring is a 400 that names the variable."""
    monkeypatch.setattr("failpoints._core.environment.ENABLED", False)
    assert "FAILPOINTS_ENABLED=0" in refused(await client.put(AT, json=[{"name": "a", "actions": "off"}]), 400)


# a batch with an exit


async def put(app: Any, send: Any, body: bytes) -> None:
    """Send a PUT directly to an application. The client disconnects after the answer."""
    scope = {
        "type": "http",
        "method": "PUT",
        "path": AT,
        "raw_path": AT.encode(),
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "http_version": "1.1",
    }
    messages = [{"type": "http.request", "body": body}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    await app(scope, receive, send)


EXIT = json.dumps([{"name": "a", "actions": "off"}, {"name": "b", "actions": "50%off->3*exit(3)"}]).encode()


async def test_an_exit_is_configured_after_the_answer() -> None:
    """A batch that contains an `exit` is configured after its answer is sent, any other batch before."""
    configured_then: list[list[str]] = []

    async def send(message: Any) -> None:
        configured_then.append([status.name for status in failpoints.statuses()])

    await put(admin_app(), send, EXIT)
    assert configured_then == [[], []]
    assert [status.name for status in failpoints.statuses()] == ["a", "b"]
    failpoints.reset()
    configured_then.clear()
    await put(admin_app(), send, EXIT.replace(b"3*exit", b"3*pause+exit"))
    assert configured_then == [[], []]
    configured_then.clear()
    await put(admin_app(), send, b'[{"name": "c", "actions": "pause"}]')
    assert configured_then == [["a", "b", "c"]] * 2


async def test_an_exit_whose_answer_cannot_be_sent() -> None:
    """An accepted `exit` is configured even if its answer cannot be sent."""

    async def send(message: Any) -> None:
        raise OSError("the client is gone")

    try:
        await put(admin_app(), send, EXIT)
    except OSError:
        pass
    assert [status.name for status in failpoints.statuses()] == ["a", "b"]


async def test_an_exit_behind_middleware_that_delays_the_answer() -> None:
    """The answer has left all middleware before an `exit` is configured."""
    seen: list[list[str]] = []

    async def delay(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        await anyio.sleep(0.02)
        return response

    async def send(message: Any) -> None:
        seen.append([status.name for status in failpoints.statuses()])

    app = Starlette(routes=[Mount("/", app=admin_app())], middleware=[Middleware(BaseHTTPMiddleware, dispatch=delay)])
    await put(app, send, EXIT)
    assert seen
    assert not any(seen)
    assert [status.name for status in failpoints.statuses()] == ["a", "b"]


# looking, removing, resuming


async def test_status(client: httpx.AsyncClient) -> None:
    """GET returns the status of one failpoint, or of all of them ordered by name."""
    configure("b", "2*off->return(1)", context={"k": "v"})
    configure("a", "pause")
    await failpoint("b", context={"k": "v"})
    await failpoint("b", context={"k": "w"})
    shown = (await client.get(f"{AT}/b")).json()
    assert shown["name"] == "b"
    assert shown["actions"] == "2*off->return(1)"
    assert shown["matchers"] == {"k": "v"}
    assert (shown["hits"], shown["misses"], shown["triggers"]) == (1, 1, 1)
    assert shown["last_miss"] == {"k": "w"}
    assert shown["waiting"] == []
    answer = await client.get(AT)
    assert [each["name"] for each in answer.json()] == ["a", "b"]
    assert answer.json()[1] == shown


async def test_nothing_configured(client: httpx.AsyncClient) -> None:
    """The list is empty while nothing is configured."""
    assert (await client.get(AT)).json() == []


async def test_head(client: httpx.AsyncClient) -> None:
    """HEAD has the status of GET."""
    assert (await client.head(AT)).status_code == 200
    assert (await client.head(f"{AT}/x")).status_code == 404


async def test_remove_and_reset(client: httpx.AsyncClient) -> None:
    """DELETE removes one failpoint, or all of them."""
    for name in "abc":
        configure(name, "off")
    answer = await client.delete(f"{AT}/b")
    assert (answer.status_code, answer.text) == (200, "null")
    assert [status.name for status in failpoints.statuses()] == ["a", "c"]
    answer = await client.delete(AT)
    assert (answer.status_code, answer.text) == (200, "null")
    assert failpoints.statuses() == []
    assert (await client.delete(AT)).status_code == 200


async def test_resume(client: httpx.AsyncClient) -> None:
    """`resume` wakes the waiters and returns their number, and the failpoint stays configured."""
    configure("a", "pause")
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(_visit, "a")
        await failpoints.wait_until_paused("a", 3)
        answer = await client.post(f"{AT}/a/resume")
        assert (answer.status_code, answer.json()) == (200, {"resumed": 3})
    assert (await client.post(f"{AT}/a/resume")).json() == {"resumed": 0}


@pytest.mark.parametrize(("method", "end"), [("GET", ""), ("DELETE", ""), ("POST", "/resume"), ("GET", "/wait")])
async def test_a_name_that_is_not_configured(client: httpx.AsyncClient, method: str, end: str) -> None:
    """A name that is not configured is a 404 that suggests the nearest one."""
    configure("gateway.charge", "off")
    answer = await client.request(method, f"{AT}/gateway.chrage{end}")
    expected = "failpoint 'gateway.chrage' is not configured; did you mean 'gateway.charge'?"
    assert refused(answer, 404) == expected
    assert refused(await client.request(method, f"{AT}/x{end}"), 404) == "failpoint 'x' is not configured"


# waiting


@pytest.mark.parametrize("query", ["", "?hits=1", "?hits=1&timeout=5", "?timeout=1e1&hits=01"])
async def test_waiting_for_a_hit(client: httpx.AsyncClient, query: str) -> None:
    """`wait` answers with the status as soon as the failpoint is hit. Earlier hits count."""
    configure("a", "off")
    async with anyio.create_task_group() as tasks:

        @tasks.start_soon
        async def wait() -> None:
            answer = await client.get(f"{AT}/a/wait{query}")
            assert (answer.status_code, answer.json()["hits"]) == (200, 1)

        await anyio.wait_all_tasks_blocked()
        await failpoint("a")
    assert (await client.get(f"{AT}/a/wait{query}")).json()["hits"] == 1


async def test_waiting_for_a_pause(client: httpx.AsyncClient) -> None:
    """`wait?paused=2` answers as soon as two tasks are paused, and leaves them paused."""
    configure("a", "pause")
    async with anyio.create_task_group() as tasks:

        @tasks.start_soon
        async def wait() -> None:
            answer = await client.get(f"{AT}/a/wait?paused=2")
            assert answer.status_code == 200
            assert len(answer.json()["waiting"]) == 2
            assert failpoints.resume("a") == 2

        tasks.start_soon(_visit, "a")
        await failpoints.wait_until_paused("a")
        tasks.start_soon(_visit, "a")


async def test_waiting_through_a_reconfiguration(client: httpx.AsyncClient) -> None:
    """A wait continues when the failpoint is reconfigured, and counts from zero again."""
    configure("a", "off")
    await failpoint("a")
    async with anyio.create_task_group() as tasks:

        @tasks.start_soon
        async def wait() -> None:
            assert (await client.get(f"{AT}/a/wait?hits=2")).json()["hits"] == 2

        await anyio.wait_all_tasks_blocked()
        await client.put(AT, json=[{"name": "a", "actions": "off"}])
        await failpoint("a")
        await failpoint("a")


async def test_removal_during_a_wait(client: httpx.AsyncClient) -> None:
    """A wait is answered with a 404 when the failpoint is removed."""
    configure("a", "off")
    async with anyio.create_task_group() as tasks:

        @tasks.start_soon
        async def wait() -> None:
            answer = await client.get(f"{AT}/a/wait")
            assert "failpoint 'a' was removed while" in refused(answer, 404)

        await anyio.wait_all_tasks_blocked()
        await client.delete(f"{AT}/a")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("hits=2", "failpoint 'a' was not hit 2 times within 0 s"),
        ("paused=1", "no task was paused at failpoint 'a' within 0 s"),
        ("paused=3", "fewer than 3 tasks were paused at failpoint 'a' within 0 s"),
    ],
)
async def test_a_wait_that_times_out(client: httpx.AsyncClient, query: str, message: str) -> None:
    """After the timeout the answer is a 408 with a message of one line and the status."""
    configure("a", "off")
    await failpoint("a")
    answer = await client.get(f"{AT}/a/wait?{query}&timeout=0")
    assert answer.status_code == 408
    document = answer.json()
    assert list(document) == ["msg", "status"]
    assert document["msg"] == message
    assert document["status"] == (await client.get(f"{AT}/a")).json()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("hits=0", "hits must be a whole number from 1 to 9007199254740991; got '0'"),
        ("hits=-1", "hits must be a whole number"),
        ("hits=1.0", "hits must be a whole number"),
        ("hits=+1", "hits must be a whole number"),
        ("hits=", "hits must be a whole number from 1 to 9007199254740991; got ''"),
        ("hits=%D9%A1", "hits must be a whole number"),
        ("hits=" + "9" * 5000, "hits must be a whole number"),
        ("paused=0", "paused must be a whole number from 1 to 9007199254740991; got '0'"),
        ("paused", "paused must be a whole number"),
        ("hits=1&paused=1", "hits and paused exclude each other"),
        ("hits=1&hits=1", "a parameter appears twice"),
        ("timeout=1&timeout=2", "a parameter appears twice"),
        ("timeout=-1", "timeout must be a number of seconds from 0 to 86400; got '-1'"),
        ("timeout=86400.1", "timeout must be a number of seconds"),
        ("timeout=nan", "timeout must be a number of seconds"),
        ("timeout=inf", "timeout must be a number of seconds"),
        ("timeout=1e999", "timeout must be a number of seconds"),
        ("timeout=1_0", "timeout must be a number of seconds"),
        ("timeout=", "timeout must be a number of seconds"),
        ("timeout=10s", "timeout must be a number of seconds"),
        ("hit=1", "unknown parameter 'hit': expected hits, paused, timeout, handle; did you mean 'hits'?"),
        ("hits=1&x", "unknown parameter 'x'"),
        ("hits=%FF", "UTF-8"),
        ("%FF=1", "UTF-8"),
    ],
)
async def test_invalid_waits(client: httpx.AsyncClient, query: str, message: str) -> None:
    """An invalid query is a 400, without any waiting."""
    configure("a", "off")
    assert message in refused(await client.get(f"{AT}/a/wait?{query}"), 400)


async def test_a_client_that_disconnects(watchers: Any) -> None:
    """A wait ends when its client disconnects."""
    configure("a", "off")
    gone = anyio.Event()

    async def receive() -> Any:
        if not gone.is_set():
            await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        """Discard the answer to the client that has gone."""

    scope = {
        "type": "http",
        "method": "GET",
        "path": f"{AT}/a/wait",
        "query_string": b"timeout=1000",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(admin_app(), scope, receive, send)
        await anyio.wait_all_tasks_blocked()
        watchers.until(1)
        gone.set()
    watchers.until(0)


async def test_a_body_during_a_wait() -> None:
    """A wait ignores the body of its request, unless it exceeds 1 MiB."""
    configure("a", "off")
    sent: list[Any] = []

    async def receive() -> Any:
        await anyio.lowlevel.checkpoint()
        return {"type": "http.request", "body": b"x" * 100_000, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": f"{AT}/a/wait",
        "query_string": b"timeout=1000",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await admin_app()(scope, receive, send)
    assert sent[0]["status"] == 413


# names

NAMES = [
    "a::b",
    "x:after",
    "a/wait",
    "a/resume",
    "wait",
    "resume",
    "a%2Fwait",
    "%41",
    "100%",
    ".",
    "..",
    "../..",
    "a//b",
    "/",
    "/a",
    "a/",
    "v1/failpoints",
    "openapi.json",
    "a?b",
    "a#b",
    "a+b",
    "a&b",
    "{name}",
    "\N{COLLISION SYMBOL}",
    "\N{FAMILY}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}",
    "é",
    "e\N{COMBINING ACUTE ACCENT}",
    "\\",
    '"',
    "x" * 1000,
]


def escaped(name: str) -> str:
    """Encode a name for a path. Dots too: clients resolve them as folders, and `openapi.json` is another resource."""
    return quote(name, safe="").replace(".", "%2E")


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:20])
@pytest.mark.parametrize("mount", ["", "/debug"])
def test_names(live_url: str, raw: Any, name: str, mount: str) -> None:
    """Every request reaches the failpoint of exactly the name in its path, and no other."""
    around = ["a", "b", "aa", "A", ".a", "v1", "%2F", "x"]
    for other in around:
        configure(other, "off")
    at = f"{mount}{AT}"
    assert raw.ask(live_url, "PUT", at, json=[{"name": name, "actions": "off"}]).body == b"null"
    with failpoint_scope(name.removesuffix(":after")):
        """Visits `name` and `name:after`."""
    for end in "", "/wait?hits=1&timeout=0":
        shown = raw.ask(live_url, "GET", f"{at}/{escaped(name)}{end}").json
        assert (shown["name"], shown["hits"]) == (name, 1)
    assert raw.ask(live_url, "POST", f"{at}/{escaped(name)}/resume").json == {"resumed": 0}
    assert raw.ask(live_url, "DELETE", f"{at}/{escaped(name)}").body == b"null"
    assert raw.ask(live_url, "DELETE", f"{at}/{escaped(name)}").status == 404
    assert [status.name for status in failpoints.statuses()] == sorted(around)


@pytest.mark.parametrize("name", ["a:b", "a::b", "..", ".", "a@b!$&'()*+,", "~"])
def test_names_that_need_no_escape(live_url: str, raw: Any, name: str) -> None:
    """Characters that a path may contain literally need no escape."""
    configure(name, "off")
    assert raw.ask(live_url, "GET", f"{AT}/{name}").json["name"] == name


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ("%FF", "not UTF-8: %FF"),
        ("%ED%A0%80", "not UTF-8"),
        ("%C3", "not UTF-8"),
        ("%zz", "write %25"),
        ("%", "write %25"),
        ("a%2", "write %25"),
        ("%00", "printable"),
        ("a%20b", "printable"),
        ("a%3Db", "printable"),
        ("a%3Bb", "printable"),
        ("a%0Ab", "printable"),
        ("%E2%80%AE", "printable"),
    ],
)
@pytest.mark.parametrize(("method", "end"), [("GET", ""), ("DELETE", ""), ("POST", "/resume"), ("GET", "/wait")])
async def test_invalid_names(client: httpx.AsyncClient, segment: str, message: str, method: str, end: str) -> None:
    """A path segment that does not encode a valid name is a 400."""
    url = httpx.URL("http://127.0.0.1").copy_with(raw_path=f"{AT}/{segment}{end}".encode())
    assert message in refused(await client.request(method, url), 400)


# paths and methods


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v2/failpoints",
        f"{AT}/",
        f"/{AT}",
        f"{AT}//",
        f"{AT}/a/",
        f"{AT}/a/b",
        f"{AT}/a/wait/",
        "/v1%2Ffailpoints",
        "/v1/failpoints%2Fa",
        "/%761/failpoints",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_no_such_path(client: httpx.AsyncClient, path: str, method: str) -> None:
    """Any other path is a 404 that lists the paths. None is guessed or redirected."""
    configure("a", "off")
    assert refused(await client.request(method, path), 404).startswith("no such path: expected /v1/failpoints")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (AT, {"GET", "HEAD", "PUT", "POST", "DELETE"}),
        (f"{AT}/openapi.json", {"GET", "HEAD"}),
        (f"{AT}/a", {"GET", "HEAD", "DELETE"}),
        (f"{AT}/a/resume", {"POST"}),
        (f"{AT}/a/wait", {"GET", "HEAD"}),
    ],
)
async def test_no_such_method(client: httpx.AsyncClient, path: str, allowed: set[str]) -> None:
    """Any other method is a 405 that lists the allowed ones. No header allows other origins."""
    for method in {"GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "FROB"} - allowed:
        answer = await client.request(method, path)
        assert set(answer.headers["allow"].split(", ")) == allowed
        assert ", ".join(sorted(allowed)) in refused(answer, 405)
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_websocket() -> None:
    """A WebSocket is closed."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await admin_app()({"type": "websocket", "path": AT, "headers": []}, receive, send)
    assert sent == ["websocket.close"]


# mounting


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


def in_starlette(app: Any) -> Any:
    return Starlette(routes=[Route("/v1/failpoints", hello), Mount("/debug", app=app), Route("/{path:path}", hello)])


def in_a_mount(app: Any) -> Any:
    return Starlette(routes=[Mount("/v1", routes=[Mount("/{tenant}", app=app), Route("/x", hello)])])


def in_fastapi(app: Any) -> Any:
    outer = fastapi.FastAPI()
    outer.add_route("/v1/failpoints", hello)
    outer.mount("/debug", app)
    return outer


def in_fastapi_with_a_root_path(app: Any) -> Any:
    outer = fastapi.FastAPI()
    outer.root_path = "/proxied"  # the argument of that name is deprecated, and does this
    outer.mount("/debug", app)
    return outer


def under_a_root_path(app: Any) -> Any:
    """Imitate a server with a root path of its own, which is part of `path` and `raw_path`."""
    mounted = in_starlette(app)

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        raw_path = b"/root" + scope["raw_path"]
        await mounted(
            {**scope, "root_path": "/root", "path": f"/root{scope['path']}", "raw_path": raw_path}, receive, send
        )

    return outer


MOUNTED = [
    (in_starlette, "/debug"),
    (in_a_mount, "/v1/tenant%20%2D%C3%A9"),
    (in_fastapi, "/debug"),
    (in_fastapi_with_a_root_path, "/debug"),
    (in_fastapi_with_a_root_path, "/proxied/debug"),
    (under_a_root_path, "/debug"),
]


@pytest.mark.parametrize(("mount", "at"), MOUNTED)
async def test_mounted(mount: Callable[[Any], Any], at: str) -> None:
    """Mounted anywhere, beside other routes, it answers as it does alone."""
    for name in "a", "a/wait", "x":
        configure(name, "off")
    async with client_of(mount(admin_app())) as client:
        for name in "a", "a%2Fwait":
            shown = await client.get(f"{at}{AT}/{name}")
            assert shown.json()["name"] == name.replace("%2F", "/"), shown.text
        assert (await client.get(f"{at}{AT}/a/wait?timeout=0")).status_code == 408
        assert (await client.get(f"{at}{AT}/openapi.json")).json()["openapi"] == "3.1.0"
        assert (await client.put(f"{at}{AT}", json=[])).text == "null"
        refused(await client.get(f"{at}/x"), 404)
        refused(await client.get(f"{at}{AT}/a/"), 404)


async def test_the_routes_beside_it() -> None:
    """The other routes of the surrounding application are not affected."""
    async with client_of(in_starlette(admin_app())) as client:
        for path in "/v1/failpoints", "/else", "/debugging/v1/failpoints":
            assert (await client.get(path)).text == "hello"


async def test_an_escaped_mount() -> None:
    """An escaped `/` is not a separator, so nothing is looked up after it."""
    async with client_of(in_starlette(admin_app())) as client:
        configure("a", "off")
        refused(await client.get("/debug%2Fv1/failpoints/a"), 404)


@pytest.mark.parametrize("raw_path", [None, b"", b"/somewhere/else"])
async def test_a_server_without_the_raw_path(raw_path: bytes | None) -> None:
    """The decoded path is used if the server gives no `raw_path`, or one that does not match."""
    inner = in_starlette(admin_app())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del scope["raw_path"]
        await inner(scope | ({} if raw_path is None else {"raw_path": raw_path}), receive, send)

    configure("\N{COLLISION SYMBOL}%41", "off")
    async with client_of(app) as client:
        shown = await client.get(f"/debug{AT}/{escaped(chr(0x1F4A5) + '%41')}")
        assert shown.json()["name"] == "\N{COLLISION SYMBOL}%41"


# the whole


async def test_a_registry_of_its_own() -> None:
    """An application for another registry acts on that one only."""
    with Registry() as registry:
        registry.configure("inner", "off")
        async with client_of(admin_app(registry)) as client:
            await client.put(AT, json=[{"name": "a", "actions": "return"}])
            assert [each["name"] for each in (await client.get(AT)).json()] == ["a", "inner"]
            assert await failpoint("a")
    assert failpoints.statuses() == []


@pytest.mark.parametrize("token", ["", " ", "a b", "é", "a\n", b"x", 1])
def test_invalid_tokens(token: Any) -> None:
    """A token that a header cannot carry is refused when the application is made, and not shown."""
    with pytest.raises(FailpointUsageError, match="^a token must be a non-empty str of printable ASCII"):
        admin_app(token=token)


def test_an_invalid_registry() -> None:
    """Anything but a registry is refused, such as a token passed in its place."""
    with pytest.raises(
        FailpointUsageError, match="registry must be a Registry, or None for the process-wide one; got 'secret'"
    ):
        admin_app("secret")  # type: ignore[arg-type]


async def test_an_internal_error(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An internal error is a 500 without details, and is logged with its traceback."""
    monkeypatch.setattr(Registry, "statuses", lambda self: 1 / 0)
    async with client_of(admin_app()) as client:
        answer = await client.get(AT)
    assert refused(answer, 500) == "the control plane failed: see the log of the program"
    [record] = [record for record in caplog.records if record.name == "failpoints"]
    assert record.levelno == logging.ERROR
    assert record.exc_info
    assert record.exc_info[0] is ZeroDivisionError


# on a live server


def visit_in_thread(name: str) -> None:
    failpoint(name).hit()  # in this file: the site of a bare `failpoint(name).hit` would be in threading.py


def test_two_hundred_waits(live_url: str, raw: Any, watchers: Any) -> None:
    """200 clients wait at once without a thread each. All that stay are answered, and none leaves a wait behind."""
    configure("a", "pause")
    threads = set(threading.enumerate())
    clients = [raw.connected(live_url) for _ in range(201)]
    try:
        for client in clients[:200]:
            client.sendall(raw.request_of("GET", f"{AT}/a/wait?paused=1&timeout=100"))
        watchers.until(200)
        assert set(threading.enumerate()) <= threads  # those of earlier tests may end
        clients[200].sendall(raw.request_of("GET", AT))
        assert raw.answer_on(clients[200]).status == 200
        for client in clients[:50]:
            client.close()
        watchers.until(150)
        visitor = threading.Thread(target=visit_in_thread, args=["a"])
        visitor.start()
        for client in clients[50:200]:
            answer = raw.answer_on(client)
            assert (answer.status, len(answer.json["waiting"])) == (200, 1)
        watchers.until(0)
        assert failpoints.resume("a") == 1
        visitor.join(10)
    finally:
        for client in clients:
            client.close()


def test_a_half_closed_connection(live_url: str, raw: Any, watchers: Any) -> None:
    """A client that shuts down its sending side counts as disconnected."""
    configure("a", "off")
    with raw.connected(live_url) as client:
        client.sendall(raw.request_of("GET", f"{AT}/a/wait?timeout=100"))
        watchers.until(1)
        client.shutdown(1)
        watchers.until(0)


def test_neon_traffic(live_url: str) -> None:
    """The requests of Neon's test runner get the answers that it requires: 200 and `null`, and `msg` on errors."""
    with requests.Session() as http:
        pairs = [("before-upload", "return(42)"), ("after-upload", "1*sleep(10)->off")]
        body = [{"name": name, "actions": actions} for name, actions in pairs]
        answer = http.put(f"{live_url.replace('127.0.0.1', 'localhost')}{AT}", json=body, headers={})
        answer.raise_for_status()
        assert answer.status_code == 200
        assert answer.json() is None
        assert failpoint("before-upload").hit() == Return("42")
        assert status("after-upload").actions
        matchers = [{**body[0], "context_matchers": {"tenant_id": "test_.*"}}]
        assert http.post(f"{live_url}{AT}", json=matchers).json() is None
        answer = http.put(f"{live_url}{AT}", json=[{"name": "x", "actions": "paws"}])
        assert answer.status_code == 400
        assert "did you mean 'pause'?" in answer.json()["msg"]
        assert http.delete(f"{live_url}{AT}").json() is None


def test_a_status_while_the_failpoint_is_visited(live_url: str) -> None:
    """A status is consistent while another thread visits the failpoint: its counts never decrease."""
    configure("a", "off")
    over = threading.Event()

    def visit() -> None:
        while not over.is_set():
            failpoint("a").hit()

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        with requests.Session() as http:
            hits = [http.get(f"{live_url}{AT}/a").json()["hits"] for _ in range(50)]
    finally:
        over.set()
        visitor.join(10)
    assert hits == sorted(hits)
    assert status("a").hits >= hits[-1]
