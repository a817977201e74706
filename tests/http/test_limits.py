"""The limits of the standalone control plane: of connections, of time, of bytes, and of file descriptors."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import anyio
import pytest

from failpoints import FailpointUsageError
from failpoints._http import sockets
from failpoints._http.sockets import Connection, Listener, Sockets
from failpoints.client import FailpointsClient

AT = "/v1/failpoints"
ANY = "127.0.0.1:0"
START = """
from prelude import *
from failpoints._http import server, sockets

def until_alone():  # waits until there is no connection
    import time
    while server._current._sockets.connections:
        time.sleep(0.01)
    print("alone", flush=True)
"""

Run = Callable[..., Any]


def get(raw: Any, connection: socket.socket, path: str = AT) -> Any:
    connection.sendall(raw.request_of("GET", path))
    return raw.answer_on(connection)


# connections


def test_too_many_connections(run: Run, raw: Any) -> None:
    """One connection more than the limit gets a 503 in words at once, and those before it go on working."""
    program = run(f"{START}sockets.MAX_CONNECTIONS = 3\nready()\nuntil_alone()\nstay()", FAILPOINTS_HTTP=ANY)
    url = program.ready()
    msg = "the control plane has 3 connections already: close some of them"
    with ExitStack() as stack:
        held = [stack.enter_context(raw.connected(url)) for _ in range(3)]
        assert [get(raw, each).status for each in held] == [200, 200, 200]
        for _ in range(5):
            with raw.connected(url) as refused:
                answer = raw.answer_on(refused)
                assert (answer.status, answer.msg, answer.headers["connection"]) == (503, msg, "close")
                assert refused.recv(1) == b""
        with pytest.raises(FailpointUsageError, match=f"answered 503: {msg}"):
            anyio.run(statuses, url)
        assert [get(raw, each).status for each in held] == [200, 200, 200]
    program.send_line()
    program.line("alone")
    assert anyio.run(statuses, url) == []


async def statuses(url: str) -> Any:
    async with FailpointsClient(url) as client:
        return await client.statuses()


def test_a_connection_is_checked_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of the event loop checks the control plane's own sockets, and none of the connections that idle."""
    checked: list[socket.socket] = []
    identity = sockets._file_identity
    ours = Sockets()
    with ExitStack() as stack:
        own, *ends = [stack.enter_context(each) for _ in range(50) for each in socket.socketpair()]
        ours.add(own)
        connections = [stack.enter_context(Connection(end, ours)) for end in ends]
        monkeypatch.setattr(sockets, "_file_identity", lambda each: checked.append(each) or identity(each))
        assert ours.check_own()
        assert checked == [own]
        connections[1].send(b"x")
        assert connections[2].recv(1) == b"x"
        connections[1].shutdown(socket.SHUT_WR)
        if hasattr(socket.socket, "sendmsg"):
            connections[2].sendmsg([b"y"])
        assert set(checked) == {own, *connections[1:3]}
        assert ours.check_all()
        assert set(checked) == {own, *connections}
        assert ours.connections == 99
    assert ours.connections == 0


# time


def test_a_slow_head(run: Run, raw: Any) -> None:
    """A request whose head does not arrive in time is ended with a 408, however often a byte of it comes."""
    program = run(f"{START}server.REQUEST_TIMEOUT = 0.5\nready()", FAILPOINTS_HTTP=ANY)
    url = program.ready()
    with raw.connected(url) as slow:
        slow.sendall(f"GET {AT} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode())
        slow.settimeout(0.05)
        while True:
            try:
                slow.sendall(b"X: y\r\n")
                first = slow.recv(1, socket.MSG_PEEK)
                break
            except TimeoutError:
                pass
        assert first == b"H"
        slow.settimeout(20)
        answer = raw.answer_on(slow)
        assert (answer.status, answer.msg) == (408, "the request did not arrive within 0.5 s")


def test_a_slow_second_head(run: Run, raw: Any) -> None:
    """The limit is that of each request on a connection. One that sends nothing is closed without a word."""
    program = run(f"{START}server.REQUEST_TIMEOUT = 0.3\nready()", FAILPOINTS_HTTP=ANY)
    url = program.ready()
    with raw.connected(url) as silent, raw.connected(url) as second:
        assert get(raw, second).status == 200
        second.sendall(b"GET ")
        assert raw.answer_on(second).status == 408
        assert second.recv(1) == b""
        assert silent.recv(1) == b""


def test_a_wait_has_a_limit_of_its_own(run: Run, raw: Any) -> None:
    """A request that has arrived is not ended by the limit, however long its answer takes."""
    program = run(
        f"{START}server.REQUEST_TIMEOUT = 0.1\nfailpoints.configure('a', 'off')\nready()", FAILPOINTS_HTTP=ANY
    )
    with raw.connected(program.ready()) as waiting:
        assert "within 0.5 s" in get(raw, waiting, f"{AT}/a/wait?timeout=0.5").json["msg"]


def test_a_body_that_never_comes(run: Run, raw: Any) -> None:
    """A connection whose body is not complete after the answer is closed in time."""
    program = run(f"{START}server.REQUEST_TIMEOUT = 0.3\nready()\nuntil_alone()", FAILPOINTS_HTTP=ANY)
    with raw.connected(program.ready()) as connection:
        connection.sendall(raw.request_of("GET", AT, "Content-Length: 9"))
        assert raw.answer_on(connection).status == 200
        program.send_line()
        program.line("alone")


def test_a_client_that_does_not_read(run: Run, raw: Any) -> None:
    """A client that does not take its answer loses its connection after some time."""
    program = run(
        f"{START}server.WRITE_TIMEOUT = 0.3\n"
        "failpoints.configure_all([(f'n{i}', f'return({\"x\" * 1_000_000})') for i in range(10)])\n"
        "ready()\nuntil_alone()",
        FAILPOINTS_HTTP=ANY,
    )
    with raw.connected(program.ready()) as connection:
        connection.sendall(raw.request_of("GET", AT))
        assert connection.recv(1) == b"H"
        program.send_line()
        program.line("alone")


# bytes


def test_a_body_in_tiny_chunks(run: Run, raw: Any) -> None:
    """A body that is sent in chunks of a byte is refused before it takes seconds to put together."""
    program = run("from prelude import *\nready()", FAILPOINTS_HTTP=ANY)
    head = raw.request_of("PUT", AT, "Content-Type: application/json", "Transfer-Encoding: chunked")
    with raw.connected(program.ready()) as connection:
        try:
            connection.sendall(head + b"1\r\n1\r\n" * 1_000_000 + b"0\r\n\r\n")
            status = raw.answer_on(connection).status
        except OSError:  # the connection was closed before all of it was sent
            status = 413
        assert status == 413


def test_many_requests_on_one_connection(run: Run, raw: Any) -> None:
    """The bytes are counted for each request: one connection may send any number of them."""
    program = run("from prelude import *\nready()", FAILPOINTS_HTTP=ANY)
    body = b"[" + b" " * 1_000_000 + b"]"
    with raw.connected(program.ready()) as connection:
        for _ in range(4):
            connection.sendall(raw.request_of("PUT", AT, "Content-Type: application/json", body=body))
            assert raw.answer_on(connection).status == 200


# file descriptors

EXHAUSTED = "the control plane accepts no connections while the process is out of file descriptors\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_process_without_file_descriptors(run: Run, raw: Any) -> None:
    """A process without file descriptors logs it once, and accepts the waiting connections once it has some again."""
    program = run(
        f"""{START}
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
ready()
taken = []
try:
    while True:
        taken.append(open(os.devnull))
except OSError:
    print("exhausted", flush=True)
sys.stdin.readline()
for each in taken:
    each.close()
stay()
""",
        FAILPOINTS_HTTP=ANY,
    )
    url = program.ready()
    program.send_line()
    program.line("exhausted")
    with ExitStack() as stack:
        waiting = [stack.enter_context(raw.connected(url)) for _ in range(9)]
        program.line("out of file descriptors")
        for each in waiting:
            each.sendall(raw.request_of("GET", AT))
        program.send_line()
        assert [raw.answer_on(each).status for each in waiting] == [200] * 9
    status, printed = program.ended()
    assert (status, printed.partition("\n")[2]) == (0, f"ready\nexhausted\n{EXHAUSTED}")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the control plane of Windows has the same code")
def test_the_loop_of_accepts_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure for lack of descriptors, the next accept ends asyncio's loop. The one after it tries again."""
    with socket.create_server(("127.0.0.1", 0)) as bound, Listener(bound, Sockets()) as listener:
        address = listener.getsockname()
        tried: list[int] = []

        def accept() -> Any:
            tried.append(1)
            raise OSError(errno.EMFILE, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(listener, "_accept", accept, raising=False)
            patch.setattr(socket.socket, "accept", lambda self: accept())
            with pytest.raises(OSError, match="Too many open files"):
                listener.accept()
            with pytest.raises(BlockingIOError):
                listener.accept()
            assert len(tried) == 1
        with socket.create_connection(address), listener.accept()[0] as accepted:
            assert isinstance(accepted, Connection)
