"""The page of the control plane: who is let in, what it is sent, and what its buttons do."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

import failpoints
from failpoints import configure, failpoint, wait_until_paused_sync
from failpoints._core.store import PROCESS_STORE
from failpoints._http import page, sessions
from failpoints.admin import admin_app
from failpoints.client import FailpointsClient

TOKEN = "s3cret-Token"
BEARER = f"Authorization: Bearer {TOKEN}"
PAGE = "/v1/page"
LIMIT = 20
Serve = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="module")
def open_url(serve: Serve) -> Iterator[str]:
    """Serve a control plane without a token."""
    with serve(admin_app()) as url:
        yield url


@pytest.fixture(scope="module")
def token_url(serve: Serve) -> Iterator[str]:
    """Serve a control plane with a token."""
    with serve(admin_app(token=TOKEN)) as url:
        yield url


@pytest.fixture
def session(open_url: str, raw: Any) -> str:
    """Return the header of a page that was let in."""
    return admitted(raw, open_url)


def ticket_of(raw: Any, url: str, prefix: str = "", *headers: str) -> str:
    answer = raw.ask(url, "POST", f"{prefix}{PAGE}", *headers)
    assert answer.status == 200
    return str(answer.json["ticket"])


def admitted(raw: Any, url: str, prefix: str = "", *headers: str) -> str:
    ticket = ticket_of(raw, url, prefix, *headers)
    answer = raw.ask(url, "POST", f"{prefix}{PAGE}/session", json={"ticket": ticket})
    assert answer.status == 200
    return f"failpoints-session: {answer.json['session']}"


def origin_of(url: str) -> str:
    return f"Origin: http://{urlsplit(url).netloc}"


# the document


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["Sec-Fetch-Site: none", "Sec-Fetch-Dest: document"],
        ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Dest: document"],  # it is reloaded
    ],
)
def test_the_document(open_url: str, raw: Any, headers: list[str]) -> None:
    """An address that is typed, or opened by a program, gets the page. Its policy allows its own style and script."""
    answer = raw.ask(open_url, "GET", "/", *headers)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    html = answer.body.decode()
    policy = answer.headers["content-security-policy"]
    for element in "style", "script":
        (content,) = re.findall(f"<{element}>(.*?)</{element}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy
    assert "'unsafe" not in policy
    for part in "default-src 'none'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'":
        assert part in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-frame-options"] == "DENY"
    assert not re.search(r"https?://|//[a-z]+\.|innerHTML|\bstyle=|\son[a-z]+=", html)


def test_the_document_has_no_secret(open_url: str, token_url: str, raw: Any) -> None:
    """The document is the same for every visitor, so it needs no token. A program with a token serves it, too."""
    first = raw.ask(open_url, "GET", "/")
    assert raw.ask(token_url, "GET", "/", "Sec-Fetch-Site: none", host="shop.example").body == first.body
    assert raw.ask(open_url, "GET", "/").body == first.body


@pytest.mark.parametrize(
    "headers",
    [
        ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Dest: document"],
        ["Sec-Fetch-Site: same-site"],
        ["Sec-Fetch-Site: same-origin"],
        ["Sec-Fetch-Site: none", "Sec-Fetch-Dest: iframe"],
        ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Dest: iframe"],
        ["Sec-Fetch-Dest: frame"],
        ["Sec-Fetch-Dest: image"],
        ["Sec-Fetch-Dest: script"],
        ["Sec-Fetch-Dest: embed"],
        ["Origin: http://evil.example"],
        ["Origin: null"],
    ],
)
def test_a_document_for_another_page(open_url: str, token_url: str, raw: Any, headers: list[str]) -> None:
    """A frame, an image or a link of another page does not get the document."""
    for url in open_url, token_url:
        assert raw.ask(url, "GET", "/", *headers).status == 403


def test_a_document_through_another_name(open_url: str, raw: Any) -> None:
    """A name of another site that leads here, as in DNS rebinding, gets neither the document nor anything else."""
    session = admitted(raw, open_url)
    requests = [("GET", "/"), ("POST", PAGE), ("POST", f"{PAGE}/session"), ("GET", f"{PAGE}/events")]
    for method, path in requests:
        headers = ["Sec-Fetch-Site: same-origin"] if path.startswith(f"{PAGE}/") else []
        answer = raw.ask(open_url, method, path, session, *headers, host="evil.example", json={})
        assert answer.status == 421, path


def test_a_document_through_a_proxy(open_url: str, raw: Any) -> None:
    """Without a token nothing that came through a proxy is answered, a page with a session included."""
    session = admitted(raw, open_url)
    for path in "/", f"{PAGE}/events":
        assert raw.ask(open_url, "GET", path, session, "X-Forwarded-For: 1.2.3.4").status == 403


# tickets


@pytest.mark.parametrize("header", ["Origin: http://evil.example", "Sec-Fetch-Site: same-origin"])
def test_a_ticket_for_a_web_page(open_url: str, token_url: str, raw: Any, header: str) -> None:
    """No web page gets a ticket, the page itself and one of the same origin included."""
    assert raw.ask(open_url, "POST", PAGE, header, origin_of(open_url)).status == 403
    assert raw.ask(open_url, "POST", PAGE, header, admitted(raw, open_url)).status == 403
    assert raw.ask(token_url, "POST", PAGE, header, BEARER).status == 403


def test_a_ticket_for_a_form(open_url: str, raw: Any) -> None:
    """The form of an old browser, which sends no Origin, gets no ticket and opens no session."""
    for content_type in "text/plain", "application/x-www-form-urlencoded":
        header = f"Content-Type: {content_type}"
        body = json.dumps({"ticket": ticket_of(raw, open_url)}).encode()
        assert raw.ask(open_url, "POST", PAGE, header, body=body).status == 415
        assert raw.ask(open_url, "POST", f"{PAGE}/session", header, body=body).status == 415


def test_a_ticket_needs_the_token(token_url: str, raw: Any) -> None:
    """Where there is a token, a ticket is handed out to a client that has it. The page then needs only its session."""
    assert raw.ask(token_url, "POST", PAGE).status == 401
    assert raw.ask(token_url, "POST", PAGE, "Authorization: Bearer other").status == 401
    session = admitted(raw, token_url, "", BEARER)
    assert raw.ask(token_url, "POST", f"{PAGE}/remove", session, json={"name": None}).json is None


def test_a_ticket_works_once(open_url: str, raw: Any) -> None:
    """A ticket that was used is refused, and so is every other text. The session that it opened goes on."""
    ticket = ticket_of(raw, open_url)
    session = raw.ask(open_url, "POST", f"{PAGE}/session", json={"ticket": ticket}).json["session"]
    for wrong in ticket, session, "", "x", "ä\ud800":
        answer = raw.ask(open_url, "POST", f"{PAGE}/session", json={"ticket": wrong})
        assert answer.status == 401
        assert "failpoints page" in answer.msg
    header = f"failpoints-session: {session}"
    assert raw.ask(open_url, "POST", f"{PAGE}/remove", header, json={"name": None}).status == 200


def test_a_ticket_expires(open_url: str, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ticket can be used for two minutes."""
    ticket, later = ticket_of(raw, open_url), ticket_of(raw, open_url)
    now = sessions.monotonic()
    monkeypatch.setattr(sessions, "monotonic", lambda: now + 119)
    assert raw.ask(open_url, "POST", f"{PAGE}/session", json={"ticket": ticket}).status == 200
    monkeypatch.setattr(sessions, "monotonic", lambda: now + 121)
    assert raw.ask(open_url, "POST", f"{PAGE}/session", json={"ticket": later}).status == 401


def test_old_tickets_and_sessions_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are at most 32 tickets and 32 sessions, and a session that is not used for twelve hours ends."""
    kept = sessions.Sessions()
    tickets = [kept.ticket() for _ in range(33)]
    assert kept.open(tickets[0]) is None
    opened = [kept.open(ticket) for ticket in tickets[1:]]
    assert None not in opened
    tokens = [str(token).encode() for token in opened]
    assert kept.find(tokens[0]) is not None  # used just now, so the second one makes room
    assert kept.open(kept.ticket()) is not None
    assert [kept.find(token) is None for token in tokens[:3]] == [False, True, False]
    now = sessions.monotonic()
    monkeypatch.setattr(sessions, "monotonic", lambda: now + 12 * 3600 + 1)
    assert kept.find(tokens[0]) is None
    assert kept.find(tokens[0]) is None


# requests of the page, and of others that pretend to be it

WITHOUT_SESSION = [
    [],
    ["failpoints-session: "],
    ["failpoints-session: x"],
    ["failpoints-session: \xff"],
    ["Cookie: failpoints-session={}"],
    ["Authorization: Bearer {}"],
    ["failpoints-session: {}", "failpoints-session: {}"],
    ["failpoints-session: {}x"],
]
ANOTHER_PAGE = [
    ["Origin: http://evil.example"],
    ["Origin: null"],
    ["Origin: http://127.0.0.1:1"],
    ["Sec-Fetch-Site: cross-site"],
    ["Sec-Fetch-Site: same-site"],
    ["Sec-Fetch-Site: none"],
    ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"],
    ["Sec-Fetch-Site: same-origin", "Origin: http://a", "Origin: http://b"],
]
REQUESTS = [
    ("GET", f"{PAGE}/events", None),
    ("POST", f"{PAGE}/configure", [{"name": "b", "actions": "off"}]),
    ("POST", f"{PAGE}/remove", {"name": "a"}),
    ("POST", f"{PAGE}/resume", {"name": "a", "waiter": None}),
    ("GET", f"{PAGE}/x", None),
]


@pytest.mark.parametrize("headers", WITHOUT_SESSION, ids=map(str, WITHOUT_SESSION))
def test_no_session(open_url: str, raw: Any, session: str, headers: list[str]) -> None:
    """Without its session a page can do nothing, on its own origin either. A cookie is not a session."""
    configure("a", "off")
    token = session.partition(": ")[2]
    for method, path, body in REQUESTS:
        answer = raw.ask(open_url, method, path, *(header.format(token) for header in headers), json=body)
        assert answer.status == 401
    assert [status.name for status in failpoints.statuses()] == ["a"]


@pytest.mark.parametrize("headers", ANOTHER_PAGE, ids=map(str, ANOTHER_PAGE))
def test_another_page_with_a_session(open_url: str, raw: Any, session: str, headers: list[str]) -> None:
    """A session is refused where another page uses it."""
    configure("a", "off")
    for method, path, body in REQUESTS:
        answer = raw.ask(open_url, method, path, session, *headers, json=body)
        assert answer.status == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert [status.name for status in failpoints.statuses()] == ["a"]


@pytest.mark.parametrize("headers", [[], ["Sec-Fetch-Site: same-origin"]])
def test_its_own_page(open_url: str, raw: Any, session: str, headers: list[str]) -> None:
    """The page itself is let in, by the header of a browser or, where that is missing, by its Origin."""
    host = urlsplit(open_url).netloc
    for origin in [], [origin_of(open_url)]:
        answer = raw.ask(open_url, "POST", f"{PAGE}/remove", session, *headers, *origin, host=host, json={"name": None})
        assert answer.status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
def test_a_session_opens_nothing_else(open_url: str, token_url: str, raw: Any, method: str) -> None:
    """With its session the page gets nothing from the API, which refuses every web page as before."""
    configure("a", "off")
    pages = ["Sec-Fetch-Site: same-origin", origin_of(open_url)]
    for path in "/v1/failpoints", "/v1/failpoints/a", "/v1/page":
        body = [{"name": "b", "actions": "off"}]
        assert raw.ask(open_url, method, path, admitted(raw, open_url), *pages, json=body).status == 403
        session = admitted(raw, token_url, "", BEARER)
        assert raw.ask(token_url, method, path, session, json=body).status == 401
    assert [status.name for status in failpoints.statuses()] == ["a"]


def test_another_page_asks_first(open_url: str, raw: Any) -> None:
    """A browser asks before it sends the session's header to another origin. The answer does not allow it."""
    headers = ["Origin: http://evil.example", "Access-Control-Request-Headers: failpoints-session"]
    for path in f"{PAGE}/events", f"{PAGE}/session", f"{PAGE}/configure", "/":
        answer = raw.ask(open_url, "OPTIONS", path, "Access-Control-Request-Method: POST", *headers)
        assert answer.status == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_websocket(open_url: str, raw: Any, run: Callable[..., Any]) -> None:
    """There is no WebSocket, neither in a server of the program nor in the standalone control plane."""
    standalone = run("stay()", interpreter=["-c", "from prelude import *\nstay()"], FAILPOINTS_HTTP="127.0.0.1:0").url()
    for url in open_url, standalone:
        for path in "/", f"{PAGE}/events":
            upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
            key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
            answer = raw.ask(url, "GET", path, *upgrade, key, "Origin: http://evil.example")
            assert answer.status == 403


def test_mounted(serve: Serve, raw: Any) -> None:
    """Mounted in Starlette or FastAPI, the page is below the mount, also for an address without the last slash."""
    fastapi = FastAPI()
    fastapi.mount("/debug", admin_app())
    for app in Starlette(routes=[Mount("/debug", app=admin_app())]), fastapi:
        with serve(app) as url:
            assert b"<title>failpoints" in raw.ask(url, "GET", "/debug/").body
            assert raw.ask(url, "GET", "/debug").headers["location"].endswith("/debug/")
            session = admitted(raw, url, "/debug")
            assert raw.ask(url, "POST", f"/debug{PAGE}/remove", session, json={"name": None}).status == 200


# events


class Stream:
    """The events of a page, from a bare socket."""

    def __init__(self, url: str, session: str, last: str | None = None) -> None:
        where = urlsplit(url)
        self._socket = socket.create_connection((str(where.hostname), where.port or 80), timeout=LIMIT)
        header = "" if last is None else f"last-event-id: {last}\r\n"
        self._socket.sendall(
            f"GET {PAGE}/events HTTP/1.1\r\nHost: {where.netloc}\r\n{session}\r\n{header}\r\n".encode()
        )
        self.response = http.client.HTTPResponse(self._socket)
        self.response.begin()
        self.last = last

    def event(self) -> Any:
        """Wait for the next event and return its data; `None` if the stream has ended."""
        data = None
        while line := self.response.readline():
            key, _, value = line.decode().rstrip("\n").partition(": ")
            if not key:
                return data
            if key == "data":
                data = json.loads(value)
            elif key == "id":
                self.last = value
        return None

    def until_complete(self) -> dict[str, Any]:
        """Return what is sent at first, by name, and `None` for what was removed."""
        found: dict[str, Any] = {}
        while not (event := self.event()).get("complete"):
            found.update({each["name"]: each for each in event.get("changed", ())})
            found.update(dict.fromkeys(event.get("removed", ())))
        return found

    def close(self) -> None:
        self.response.close()
        self._socket.close()


@pytest.fixture
def stream(open_url: str, session: str) -> Iterator[Callable[..., Stream]]:
    """Connect to the events."""
    streams: list[Stream] = []

    def connect(last: str | None = None) -> Stream:
        streams.append(Stream(open_url, session, last))
        return streams[-1]

    yield connect
    for each in streams:
        each.close()


def test_the_standalone_control_plane(raw: Any, run: Callable[..., Any]) -> None:
    """The page of a program that has no web server follows it."""
    program = run(
        """
        from prelude import *
        failpoints.configure("a", "off")
        ready()
        failpoints.failpoint("a").hit()
        stay()
        """,
        FAILPOINTS_HTTP="127.0.0.1:0",
    )
    url = program.ready()
    shown = Stream(url, admitted(raw, url))
    try:
        assert shown.until_complete()["a"]["hits"] == 0
        program.send_line()
        (status,) = shown.event()["changed"]
        assert (status["name"], status["hits"]) == ("a", 1)
    finally:
        shown.close()


@contextmanager
def paused(name: str, *contexts: dict[str, Any]) -> Iterator[None]:
    """Let a thread wait at a failpoint for each context, in this order."""
    threads = [
        threading.Thread(target=failpoint(name, context=context).hit, name=f"worker-{number}")
        for number, context in enumerate(contexts)
    ]
    for number, thread in enumerate(threads, start=1):
        thread.start()
        wait_until_paused_sync(name, number, timeout=LIMIT)
    yield
    failpoints.remove(name)
    for thread in threads:
        thread.join(LIMIT)


def test_everything_at_first(stream: Callable[..., Stream]) -> None:
    """A page is sent every failpoint: configured with its counts and its misses, or only declared with its sites."""
    configure("page.configured", "2*off->return(1)", context={"tenant": "t.*"})
    failpoint("page.configured", context={"tenant": "t1"}).hit()
    failpoint("page.configured", context={"tenant": "x"}).hit()
    sent = stream().until_complete()
    status = sent["page.configured"]
    assert (status["hits"], status["misses"], status["triggers"]) == (1, 1, 1)
    assert status["last_mismatch"] == "tenant='x' does not match 't.*'"
    assert [each["actions"] for each in status["configurations"]] == ["2*off->return(1)"]
    assert status["configurations"][0]["matchers"] == {"tenant": "t.*"}
    declared = sent["page.declared"]
    assert (declared["configurations"], declared["waiting_count"]) == ([], 0)
    assert re.fullmatch(r"tests/http/test_page.py:\d+", declared["sites"][0])


@failpoint("page.declared")
def declared() -> None:
    """Declare a failpoint that nothing configures."""


def test_changes_are_pushed(stream: Callable[..., Stream]) -> None:
    """Each change is sent when it happens, with nothing but the failpoint that has changed."""
    shown = stream()
    shown.until_complete()
    configure("a", "pause")
    assert [each["name"] for each in shown.event()["changed"]] == ["a"]
    with paused("a", {"order": 7, "big": 2**60 + 1, "text": "<b>"}):
        status: Any = {"waiting": []}
        while not status["waiting"]:
            (status,) = shown.event()["changed"]
        (waiter,) = status["waiting"]
        assert (waiter["name"], status["waiting_count"]) == ("worker-0", 1)
        assert waiter["context"] == {"order": "7", "big": str(2**60 + 1), "text": "<b>"}
    removed: list[str] = []
    while not removed:
        event = shown.event()
        removed = event["removed"] or [each["name"] for each in event["changed"] if not each["configurations"]]
    assert removed == ["a"]


def test_a_connection_that_was_cut(stream: Callable[..., Stream]) -> None:
    """After a cut, a page is sent what has changed since its last event, and nothing else."""
    configure("a", "off")
    configure("b", "off")
    first = stream()
    first.until_complete()
    first.close()
    failpoint("a").hit()
    again = stream(first.last)
    assert again.event()["fresh"] is False
    sent = again.until_complete()
    assert {name: each["hits"] for name, each in sent.items()} == {"a": 1}
    again.close()
    nothing = stream(again.last)
    assert nothing.until_complete() == {}


@pytest.mark.parametrize("last", ["x", "x-1", "-", "{}-99", "{}-", "{}-\u0661", "{}-" + "9" * 400])
def test_a_position_that_is_not_known(stream: Callable[..., Stream], last: str) -> None:
    """A page whose last event is not known, or is not one at all, begins again."""
    configure("a", "off")
    first = stream()
    first.until_complete()
    name = str(first.last).partition("-")[0]
    again = stream(last.format(name))
    assert again.event()["fresh"] is True
    assert "a" in again.until_complete()


def test_many_waiters_at_one_failpoint(stream: Callable[..., Stream], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one failpoint, those that have waited longest are sent, and the number of all."""
    monkeypatch.setattr("failpoints._http.program.MOST_WAITERS", 2)
    configure("a", "pause")
    with paused("a", {"n": 1}, {"n": 2}, {"n": 3}):
        status = stream().until_complete()["a"]
        assert status["waiting_count"] == 3
        assert [waiter["context"]["n"] for waiter in status["waiting"]] == ["1", "2"]


def test_many_failpoints(stream: Callable[..., Stream]) -> None:
    """An event has a hundred failpoints at most, and ends early if they are large."""
    failpoints.configure_all([(f"many.{number:03}", "off") for number in range(250)])
    shown = stream()
    sizes: list[int] = []
    while not (event := shown.event()).get("complete"):
        sizes.append(len(event.get("changed", ())))
    assert max(sizes) == 100
    assert sum(sizes) >= 250


def test_a_stream_ends_and_goes_on(stream: Callable[..., Stream], monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection ends after some seconds, so that a server can shut down. The next one goes on."""
    monkeypatch.setattr(page, "_STREAM_SECONDS", 0)
    shown = stream()
    shown.until_complete()
    assert shown.event() is None
    assert stream(shown.last).event()["fresh"] is False


def test_nothing_is_followed_without_a_page(stream: Callable[..., Stream], monkeypatch: pytest.MonkeyPatch) -> None:
    """When the page goes away, the program follows nothing any more."""
    ended = threading.Event()
    unfollow = PROCESS_STORE.unfollow
    monkeypatch.setattr(PROCESS_STORE, "unfollow", lambda follower: (unfollow(follower), ended.set()))
    shown = stream()
    shown.until_complete()
    assert PROCESS_STORE._followers.present
    shown.close()
    assert ended.wait(LIMIT)
    assert not PROCESS_STORE._followers.present


@pytest.mark.anyio
async def test_events_on_every_loop(open_url: str) -> None:
    """The events come on asyncio and on trio, and end when the browser disconnects."""
    app = admin_app()
    answers: list[Any] = []

    async def request(method: str, path: str, *headers: tuple[bytes, bytes], body: bytes = b"") -> None:
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])
        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
        ends = {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}
        content = (b"content-type", b"application/json")

        async def receive() -> Any:
            message = next(messages, None)
            if message is None:
                await disconnected.wait()
            return message or {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            answers.append(message)
            if b"complete" in message.get("body", b""):
                complete.set()
            if b'"hits":1' in message.get("body", b""):
                hit.set()

        await app({**scope, **ends, "headers": [(b"host", b"localhost"), content, *headers]}, receive, send)

    disconnected, complete, hit = anyio.Event(), anyio.Event(), anyio.Event()
    configure("a", "off")
    await request("POST", PAGE, body=b"{}")
    ticket = json.loads(answers[-1]["body"])["ticket"]
    await request("POST", f"{PAGE}/session", body=json.dumps({"ticket": ticket}).encode())
    session = json.loads(answers[-1]["body"])["session"]
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            header = (b"failpoints-session", session.encode())
            group.start_soon(request, "GET", f"{PAGE}/events", header)
            await complete.wait()
            failpoint("a").hit()
            await hit.wait()
            disconnected.set()


# buttons


def test_configure(open_url: str, raw: Any, session: str) -> None:
    """The page configures, and is told what is wrong with a caret. That is not an error for the browser's console."""
    entry = {"name": "a", "actions": "2*retrun(1)", "context_matchers": {"tenant": "t.*"}}
    answer = raw.ask(open_url, "POST", f"{PAGE}/configure", session, json=[entry])
    assert answer.status == 200
    assert answer.msg.split("\n")[1:] == ["    2*retrun(1)", "      ^"]
    assert failpoints.statuses() == []
    entry["actions"] = "2*return(1)"
    assert raw.ask(open_url, "POST", f"{PAGE}/configure", session, json=[entry]).json is None
    assert failpoints.status("a").matchers == {"tenant": "t.*"}


def test_resume_one(open_url: str, raw: Any, session: str, stream: Callable[..., Stream]) -> None:
    """One of several waiters is resumed by its number, and all of them without one."""
    configure("a/..", "pause")
    with paused("a/..", {"n": 1}, {"n": 1}, {"n": 1}):
        waiters = stream().until_complete()["a/.."]["waiting"]
        assert [each["name"] for each in waiters] == ["worker-0", "worker-1", "worker-2"]

        def resume(waiter: object) -> Any:
            answer = raw.ask(open_url, "POST", f"{PAGE}/resume", session, json={"name": "a/..", "waiter": waiter})
            assert answer.status == 200
            return answer.json

        assert resume(waiters[1]["id"]) == {"resumed": 1}
        assert resume(waiters[1]["id"]) == {"resumed": 0}
        assert [each.name for each in failpoints.status("a/..").waiting] == ["worker-0", "worker-2"]
        assert resume("1")["msg"] == "waiter must be a number or null; got '1'"
        assert resume(True)["msg"].startswith("waiter must be a number")
        assert resume(None) == {"resumed": 2}


def test_remove(open_url: str, raw: Any, session: str) -> None:
    """The page removes one configuration, or all of them."""
    failpoints.configure_all([("a", "off"), ("b", "off"), ("c", "off")])
    assert raw.ask(open_url, "POST", f"{PAGE}/remove", session, json={"name": "a"}).json is None
    assert [status.name for status in failpoints.statuses()] == ["b", "c"]
    assert raw.ask(open_url, "POST", f"{PAGE}/remove", session, json={"name": None}).json is None
    assert failpoints.statuses() == []


@pytest.mark.parametrize("body", [[], {}, {"name": "a", "x": 1}, {"name": 1}, None, "a"])
def test_a_malformed_request(open_url: str, raw: Any, session: str, body: object) -> None:
    """A body that is not what the page sends is refused, and nothing is done."""
    configure("a", "off")
    answer = raw.ask(open_url, "POST", f"{PAGE}/remove", session, json=body)
    assert answer.msg
    assert [status.name for status in failpoints.statuses()] == ["a"]


@pytest.mark.anyio
async def test_the_url_for_a_client(open_url: str) -> None:
    """`FailpointsClient.page_url` returns an address whose ticket no log shows: it is behind the `#`."""
    async with FailpointsClient(open_url) as client:
        url = await client.page_url()
    assert re.fullmatch(re.escape(open_url) + r"/#[\w-]{43}", url)
