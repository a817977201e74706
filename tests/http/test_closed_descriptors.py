"""Programs that close file descriptors which they do not know, such as those of the standalone control plane."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

AT = "/v1/failpoints"
ANY = "127.0.0.1:0"
# Python 3.12 and later warn about a fork beside threads, and the server's thread is one.
FORK_DEV = ["-X", "dev", "-W", "error", "-W", "ignore:This process:DeprecationWarning"]

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no os.fork")

Run = Callable[..., Any]

# Opens files of its own that get the numbers of the closed ones, and checks that nothing touches them.
CLOSING = """
import atexit, socket
atexit.register(lambda: (check(), [each.close() for each in taken]))  # runs after the exit handlers of failpoints
from prelude import *
failpoints.configure("place", "off")
taken = []

def nothing():
    return []

def files():
    return [open(f"file{number}", "w+") for number in range(90)]

def sockets():
    return [end for _ in range(45) for end in socket.socketpair()]

def listeners():
    return [socket.create_server(("127.0.0.1", 0)) for _ in range(90)]

def close_and_open(take):
    os.closerange(3, 100)
    taken.extend(take())
    assert [each.fileno() for each in taken] == list(range(3, 3 + len(taken)))

def check():
    # everything that was opened is still there, and nothing was written to it
    for each in taken:
        assert os.fstat(each.fileno()).st_size == 0
        if isinstance(each, socket.socket) and not each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            each.setblocking(False)
            try:
                raise AssertionError(each.recv(100))
            except BlockingIOError:
                pass

def wait_for_its_end():
    for thread in threading.enumerate():
        if thread.name == "failpoints control plane":
            thread.join(20)
            assert not thread.is_alive()
    check()
"""
STOPPED = "control plane stopped: the program closed its sockets\n"
TAKES = ["nothing", "files", "sockets", "listeners"]


@forks
@pytest.mark.parametrize("take", TAKES)
def test_closing_all_files(run: Run, raw: Any, take: str) -> None:
    """A program that closes all descriptors ends the control plane, which logs it once and leaves new files alone."""
    program = run(
        CLOSING
        + f"""
ready()
close_and_open({take})
wait_for_its_end()
failpoints.failpoint("place").hit()
print("over", flush=True)
stay()
""",
        interpreter=FORK_DEV[:2],
        FAILPOINTS_HTTP=ANY,
    )
    url = program.ready()
    with raw.connected(url) as waiting, raw.connected(url) as idle:
        waiting.sendall(raw.request_of("GET", f"{AT}/place/wait?timeout=1000"))
        assert raw.ask(url, "GET", AT).status == 200
        program.send_line()
        assert (waiting.recv(1), idle.recv(1)) == (b"", b"")
        program.line("over")
        with pytest.raises(ConnectionRefusedError):
            raw.connected(url)
        status, printed = program.ended()
    assert (status, printed.partition("\n")[2]) == (0, f"ready\n{STOPPED}over\n")


@forks
@pytest.mark.parametrize("take", TAKES)
def test_closing_all_files_and_ending(run: Run, take: str) -> None:
    """A program that ends before the control plane notices ends as usual, and soon."""
    program = run(CLOSING + f"close_and_open({take})", interpreter=FORK_DEV[:2], FAILPOINTS_HTTP=ANY)
    status, printed = program.ended()
    assert (status, printed.partition("\n")[2] in {"", STOPPED}) == (0, True), printed


@forks
@pytest.mark.parametrize("take", TAKES)
def test_closing_all_files_and_forking(run: Run, raw: Any, take: str) -> None:
    """A child forked before or after the control plane notices gets a new one. The files of both are left alone."""
    program = run(
        CLOSING
        + f"""
close_and_open({take})
at_once = in_child(lambda: (stay(), check()))
wait_for_its_end()
later = in_child(lambda: (stay(), check()))
stay()
print(waited(at_once), waited(later))
""",
        interpreter=FORK_DEV,
        FAILPOINTS_HTTP=ANY,
    )
    urls = program.urls(3)
    del urls[program.pid]
    for url in urls.values():
        assert raw.ask(url, "GET", AT).status == 200
    status, printed = program.ended()
    rest = [line for line in printed.splitlines(keepends=True) if "control plane listening on" not in line]
    assert (status, rest) == (0, [STOPPED, "0 0\n"]), printed


@forks
@pytest.mark.parametrize("take", TAKES)
def test_a_daemon(run: Run, take: str) -> None:
    """The files of a child that closes all descriptors while its control plane starts are left alone as well."""
    program = run(
        CLOSING
        + f"""
if os.fork():
    os._exit(0)
os.setsid()
signal.alarm(30)
close_and_open({take})
wait_for_its_end()
""",
        interpreter=FORK_DEV[-2:],
        FAILPOINTS_HTTP=ANY,
    )
    status, printed = program.ended()
    lines = printed.splitlines(keepends=True)
    assert (status, lines[2:]) == (0, [STOPPED]), printed
    assert all("control plane listening on" in line for line in lines[:2]), printed


@forks
def test_closing_the_connections_of_clients(run: Run, raw: Any) -> None:
    """If the program closes only connections, the control plane ends and never writes to their descriptor numbers."""
    program = run(
        CLOSING
        + """
from failpoints._http import server
ours = {each.fileno() for each in server._current._sockets._files}
ready()
clients = sorted({each.fileno() for each in server._current._sockets._files} - ours)
for number in clients:
    os.closerange(number, number + 1)  # no error if the control plane has noticed the first, and closed the next itself
taken += sockets()
assert set(clients) < {each.fileno() for each in taken}
failpoints.failpoint("place").hit()  # its answer would go to one of the new files
wait_for_its_end()
print(len(clients), flush=True)
""",
        FAILPOINTS_HTTP=ANY,
    )
    url = program.ready()
    with raw.connected(url) as client:
        client.sendall(raw.request_of("GET", f"{AT}/place/wait?hits=1"))
        with raw.connected(url) as other:
            other.sendall(raw.request_of("GET", AT))
            assert raw.answer_on(other).status == 200
            program.send_line()
            assert client.recv(1) == b""
    status, printed = program.ended()
    assert (status, printed.partition("\n")[2]) == (0, f"ready\n{STOPPED}2\n")
