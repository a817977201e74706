"""Clients that misbehave: each gets an error if it can still receive one, and the server goes on."""

from __future__ import annotations

import logging
import random
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import failpoints
from failpoints import configure
from failpoints._core.store import PROCESS_STORE
from failpoints._http import exchange
from failpoints._http.address import Address, url_of
from failpoints._http.server import Server
from failpoints.admin import admin_app

AT = "/v1/failpoints"
HEAD = f"PUT {AT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()
MIB = 1024 * 1024
Serve = Callable[..., AbstractContextManager[str]]


class Errors(logging.Handler):
    """Collects the errors that any logger logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture(scope="module")
def errors() -> Iterator[list[logging.LogRecord]]:
    """Collect the errors that are logged while the server runs."""
    handler = Errors()
    logging.getLogger().addHandler(handler)
    yield handler.records
    logging.getLogger().removeHandler(handler)


@pytest.fixture(scope="module", params=["standalone", "mounted"])
def url(request: pytest.FixtureRequest, serve: Serve, errors: list[logging.LogRecord]) -> Iterator[str]:
    """Run the standalone server, or the application in the program's own uvicorn. Neither logs an error."""
    if request.param == "mounted":
        with serve(admin_app()) as url:
            yield url
    else:
        server = Server(Address("127.0.0.1", 0), None)
        server.start()
        assert server._socket is not None
        yield url_of(server._socket)
        server.end()
        assert server._thread is not None
        assert not server._thread.is_alive()
    assert errors == []


@pytest.fixture(autouse=True)
def still_serving(url: str, raw: Any, errors: list[logging.LogRecord]) -> Iterator[None]:
    """After every test the server still configures and answers, and has logged no error."""
    yield
    assert raw.ask(url, "PUT", AT, json=[{"name": "after", "actions": "off"}]).body == b"null"
    assert "after" in [each["name"] for each in raw.ask(url, "GET", AT).json]
    assert PROCESS_STORE._watches._watches.all() == []
    assert errors == []


def reset(connection: socket.socket) -> None:
    """Close a connection as a crash does: at once, and without sending what is still buffered."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


HALVES = [
    b"",
    b"P",
    HEAD[:20],
    HEAD,
    HEAD + b"Content-Length: 100\r\n\r\n",
    HEAD + b"Content-Length: 100\r\n\r\n[{",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n10\r\n[",
    HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n",
]


@pytest.mark.parametrize("half", HALVES, ids=range(len(HALVES)))
@pytest.mark.parametrize("close", [socket.socket.close, reset])
def test_half_a_request(url: str, raw: Any, half: bytes, close: Callable[[socket.socket], None]) -> None:
    """A client that disconnects in the middle of a request has changed nothing."""
    for _ in range(5):
        connection = raw.connected(url)
        connection.sendall(half)
        close(connection)
    assert raw.ask(url, "GET", AT).json == []


def test_a_body_that_stops_halfway(url: str, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server waits a limited time for the rest of a body."""
    monkeypatch.setattr(exchange, "_BODY_TIMEOUT", 0.05)
    with raw.connected(url) as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n[{")
        answer = raw.answer_on(connection)
    assert (answer.status, answer.msg) == (400, "the body did not arrive completely within 0.05 s")


@pytest.mark.parametrize("close", [socket.socket.close, reset])
def test_clients_that_do_not_wait_for_their_answer(
    url: str, raw: Any, watchers: Any, close: Callable[[socket.socket], None]
) -> None:
    """A request whose client has gone is carried out, but its wait ends."""
    configure("a", "off")
    clients = [raw.connected(url) for _ in range(20)]
    for client in clients:
        client.sendall(raw.request_of("GET", f"{AT}/a/wait?timeout=1000"))
    watchers.until(20)
    for client in clients:
        close(client)
    watchers.until(0)
    for name in "abc":
        client = raw.connected(url)
        client.sendall(raw.request_of("PUT", AT, json=[{"name": name, "actions": "off"}]))
        close(client)


@pytest.mark.parametrize("chunked", [False, True])
def test_ten_mebibytes(url: str, raw: Any, chunked: bool) -> None:
    """A body of 10 MiB is refused, and the connection stays usable."""
    body = b" " * (10 * MIB)
    sent = f"Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n" if chunked else f"Content-Length: {len(body)}\r\n\r\n"
    with raw.connected(url) as connection:
        connection.sendall(HEAD + sent.encode() + body + (b"\r\n0\r\n\r\n" if chunked else b""))
        assert raw.answer_on(connection).status == 413
        connection.sendall(raw.request_of("GET", AT))
        assert raw.answer_on(connection).status == 200


@pytest.mark.parametrize("url", ["mounted"], indirect=True)
def test_many_entries(url: str, raw: Any) -> None:
    """A batch as large as fits into 1 MiB is configured and listed."""
    entries = [{"name": f"n{number}", "actions": "off"} for number in range(25_000)]
    assert raw.ask(url, "PUT", AT, json=entries).body == b"null"
    assert len(raw.ask(url, "GET", AT).json) == 25_000
    failpoints.reset()


@pytest.mark.parametrize(
    "body", [b"\xff\xfe[]", b'[{"name": "\xe9", "actions": "off"}]', b'["\xed\xa0\x80"]', "[]".encode("utf-16"), b"\0"]
)
def test_a_body_that_is_not_utf8(url: str, raw: Any, body: bytes) -> None:
    """A body that is not JSON in UTF-8 is a 400."""
    assert "the body is" in raw.ask(url, "PUT", AT, "Content-Type: application/json", body=body).msg


def test_lone_surrogates(url: str, raw: Any) -> None:
    """A lone surrogate, which JSON can escape and UTF-8 cannot encode, is a 400 in a name. Messages can show it."""
    body = rb'[{"name": "\ud800", "actions": "off"}]'
    assert "\\ud800" in raw.ask(url, "PUT", AT, "Content-Type: application/json", body=body).msg
    body = rb'[{"name": "a", "actions": "return(\ud800)"}]'
    assert raw.ask(url, "PUT", AT, "Content-Type: application/json", body=body).status in {200, 400}
    assert raw.ask(url, "GET", AT).status == 200


GARBAGE = [
    b"\0" * 100,
    b"\xff" * 100 + b"\r\n\r\n",
    b"\r\n\r\n\r\n\r\nhello\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 500,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage(url: str, raw: Any, garbage: bytes) -> None:
    """Bytes that are not HTTP get an error, and end that connection only."""
    with raw.connected(url) as connection, raw.connected(url) as other:
        connection.sendall(garbage)
        try:
            assert raw.answer_on(connection).status >= 400
        except ConnectionError:
            assert len(garbage) > 65536  # refused before all of it was read, and the unread rest reset the connection
        other.sendall(raw.request_of("GET", AT))
        assert raw.answer_on(other).status == 200


@pytest.mark.parametrize("url", ["standalone"], indirect=True)
def test_garbage_is_answered_in_json(url: str, raw: Any) -> None:
    """The standalone server answers in JSON even to bytes that are not HTTP."""
    with raw.connected(url) as connection:
        connection.sendall(b"hello\r\n\r\n")
        answer = raw.answer_on(connection)
    assert (answer.status, answer.msg) == (400, "this is not an HTTP request")


# The program's own uvicorn stops reading while it answers a request, so there only the timeout ends the wait.
@pytest.mark.parametrize("url", ["standalone"], indirect=True)
@pytest.mark.parametrize("behind", [b"\0garbage\r\n\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"G"])
def test_a_client_that_sends_more_and_disconnects(url: str, raw: Any, watchers: Any, behind: bytes) -> None:
    """Bytes after a request that waits, even if they are not HTTP, do not hide that the client disconnects."""
    configure("a", "off")
    with raw.connected(url) as connection:
        connection.sendall(raw.request_of("GET", f"{AT}/a/wait?timeout=1000"))
        watchers.until(1)
        connection.sendall(behind)
    watchers.until(0)


def test_random_bytes(url: str, raw: Any) -> None:
    """Random bytes, alone or as a path, a header or a body, do no harm."""
    drawn = random.Random(1)
    for number in range(60):
        noise = drawn.randbytes(drawn.randrange(1, 300))
        sent = (
            noise,
            b"GET " + noise + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + noise + b"\r\n\r\n",
            HEAD + b"Content-Length: %d\r\n\r\n" % len(noise) + noise,
        )[number % 4]
        with raw.connected(url) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
    assert raw.ask(url, "GET", AT).json == []


def test_pipelined_requests(url: str, raw: Any) -> None:
    """Pipelined requests are answered in order, and each sees the effects of the ones before it."""
    requests = [raw.request_of("PUT", AT, json=[{"name": f"n{number}", "actions": "exit"}]) for number in range(5)]
    requests += [raw.request_of("GET", AT)]
    with raw.connected(url) as connection:
        connection.sendall(b"".join(requests))
        *configured, listed = raw.answers_on(connection, 6)
    assert [answer.body for answer in configured] == [b"null"] * 5
    assert len(listed.json) == 5


def test_a_websocket(url: str, raw: Any) -> None:
    """An upgrade to a WebSocket is refused, or answered as a plain request."""
    upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA=="]
    assert raw.ask(url, "GET", AT, *upgrade).status in {200, 403, 404}


def test_eight_clients_at_once(url: str, raw: Any) -> None:
    """Clients that configure, look and remove concurrently each get the right answers."""
    failures: list[BaseException] = []

    def client(me: int) -> None:
        try:
            with raw.connected(url) as connection:
                for number in range(50):
                    for request, expected in (
                        (raw.request_of("PUT", AT, json=[{"name": f"c{me}", "actions": f"return({number})"}]), None),
                        (raw.request_of("GET", f"{AT}/c{me}"), f"return({number})"),
                        (raw.request_of("DELETE", f"{AT}/c{me}"), None),
                    ):
                        connection.sendall(request)
                        answer = raw.answer_on(connection)
                        assert answer.status == 200
                        assert (answer.json or {}).get("actions") == expected
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=client, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the files of a process")
def test_nothing_is_left_open(url: str, raw: Any) -> None:
    """100 clients that disconnect in different ways leave no file descriptors open."""

    def opened() -> int:
        # This connection was made after the others were closed, so its answer shows that the server has seen them end.
        assert raw.ask(url, "GET", AT).status == 200
        return len(list(Path("/proc/self/fd").iterdir()))

    before = opened()
    for number in range(100):
        connection = raw.connected(url)
        connection.sendall(HALVES[number % len(HALVES)])
        (socket.socket.close, reset)[number % 2](connection)
    ends = {opened() for _ in range(20)}
    assert min(ends) < before + 25  # other parts of the process may open some in between
