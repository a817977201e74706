"""A fleet on a server: how it is named and reached, and what its members allow."""

from __future__ import annotations

import os
import re
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from failpoints import FailpointUsageError
from failpoints.cli import main
from failpoints.fleet import Fleet
from tests.fleet.conftest import Server, free_port
from tests.fleet.waits import joined

Start = Callable[..., Any]

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on one event loop: these tests are about the server."""
    return str(request.param)


@pytest.fixture
def place(shared_server: Server) -> str:
    return shared_server.url()


async def test_two_fleets_on_one_server(start: Start, shared_server: Server) -> None:
    """The name of the fleet keeps two of them apart, also in one database. `valkey://` is the same as `redis://`."""
    member = start()
    other = shared_server.url().replace("redis://", "valkey://")
    async with Fleet(other) as fleet:
        await fleet.configure("x", "return")
        assert await fleet.members() == []
    assert member.ask("visit('x')") == ["Continue()"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_tasks_take_counts(start: Start, place: str, backend: str) -> None:
    """Tasks of asyncio and trio take counts at the same time, exactly as many as there are. So do threads."""
    code = f"""
import anyio, anyio.to_thread
async def run():
    taken = []
    async def hit(_=None):
        taken.append(bool(outcome := await failpoint("x")))
    async with anyio.create_task_group() as group:
        for _ in range(50): group.start_soon(hit)
    async def in_thread(): taken.append(bool(await anyio.to_thread.run_sync(failpoint("x").hit)))
    async with anyio.create_task_group() as group:
        for _ in range(20): group.start_soon(in_thread)
    with anyio.move_on_after(0): await hit()
    try: failpoint("y").hit()
    except failpoints.FailpointUsageError as error: print(json.dumps(str(error)), flush=True)
    return sum(taken)
def visits(): return anyio.run(run, backend={backend!r})
main()
"""
    members = [start(code) for _ in range(2)]
    async with Fleet(place) as fleet:
        for member in members:
            assert member.line() == member.pid
        await fleet.configure("x", "60*return")
        await fleet.configure("y", "1*off")
        for member in members:
            member.tell("visits()")
        for member in members:
            assert "cannot take a count of its fleet in the sync" in member.line()
        assert sum([member.line() for member in members]) == 60
        assert (await fleet.status("x")).triggers == 60


async def test_what_needs_a_leave(start: Start, place: str) -> None:
    """Without a leave in its environment, a member refuses `exit`, `delay` and `break`. Then no other has it either."""
    careful = start(FAILPOINTS_FLEET_ALLOW="delay")
    start()
    async with Fleet(place) as fleet:
        await fleet.configure("x", "return(before)")
        with pytest.raises(
            FailpointUsageError,
            match=rf"member .*:{careful.pid} refuses: exit would be carried out for anyone .*_ALLOW=delay,exit",
        ):
            await fleet.configure("x", "5%return->sleep(1)+exit(9)")
        await fleet.configure("y", "delay(1)")
        assert careful.ask("visit('x') + visit('y')") == ["Return(value='before')", "Continue()"]


def test_a_word_that_is_no_leave(start: Start, place: str) -> None:
    """An unknown word in `FAILPOINTS_FLEET_ALLOW` stops the import with one sentence."""
    with pytest.raises(EOFError, match="_ALLOW has the word 'raise': expected some of exit, delay, break"):
        start(FAILPOINTS_FLEET_ALLOW="exit,raise")


async def test_a_server_that_is_not_there_yet(start: Start, tmp_path: Path, place: str) -> None:
    """A program whose fleet cannot be reached goes on, says so once, and joins when it can. A `Fleet` raises."""
    port = free_port()
    url = f"redis://user:secret@127.0.0.1:{port}/0?fleet=later"
    program = start(fleet=url)
    assert program.ask("visit('x', 2)") == ["Continue()"] * 2
    with pytest.raises(FailpointUsageError) as caught:
        async with Fleet(url):
            pass
    shown = f"'redis://127.0.0.1:{port}/0?fleet=later'"
    assert str(caught.value).startswith(f"cannot use the fleet in {shown}: [Errno 111]")
    assert "secret" not in repr(Fleet(url))
    server = Server(tmp_path, "--user", "user", "on", ">secret", "~*", "+@all", port=port)
    try:
        async with Fleet(url) as fleet:
            await fleet.configure("x", "return")
            await joined(fleet)
            await fleet.configure("y", "return")
            assert program.ask("visit('x')") == ["Return(value=None)"]
        with pytest.raises(FailpointUsageError, match="refuses the user or the password"):
            async with Fleet(url.replace("secret", "guess")):
                pass
        assert program.end() == 0
    finally:
        server.kill()
    (said,) = [line for line in program.errors if line]
    assert said.startswith("failpoints fleet: cannot reach the fleet in " + shown)
    assert "secret" not in said


async def test_a_server_with_a_certificate(start: Start, tmp_path: Path, place: str) -> None:
    """Over TLS, the certificate and the name in it are checked."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    await anyio.run_process(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate),
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    )  # fmt: skip
    tls = ["--tls-port", str(free_port()), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    server = Server(tmp_path, *tls, "--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no")
    url = f"rediss://localhost:{tls[1]}/0?fleet=tls&ssl_ca_certs={certificate}"
    try:
        program = start(fleet=url)
        async with Fleet(url) as fleet:
            await fleet.configure("x", "1*return(7)")
            assert program.ask("visit('x', 2)") == ["Return(value='7')", "Continue()"]
        for wrong in (url.partition("&")[0], url.replace("localhost", "127.0.0.1")):
            with pytest.raises(FailpointUsageError, match="certificate verify failed"):
                async with Fleet(wrong):
                    pass
    finally:
        server.kill()


async def test_a_unix_socket(tmp_path: Path, place: str) -> None:
    """`unix://` is the path of a socket, with the database as an option."""
    server = Server(tmp_path, "--unixsocket", str(tmp_path / "s"))
    try:
        async with Fleet(f"unix://{tmp_path}/s?db=3&fleet=here") as fleet:
            await fleet.configure("x", "return")
            assert "db3" in server.ask("INFO", "keyspace")
    finally:
        server.kill()


async def test_a_cluster(start: Start, tmp_path: Path, place: str) -> None:
    """All keys of a fleet are in one slot. A node that does not have it names the one that has."""
    nodes = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "30000"]
        nodes.append(Server(tmp_path / str(number), *options, "--cluster-port", str(free_port())))
    try:
        nodes[1].ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        bus = nodes[1].options[nodes[1].options.index("--cluster-port") + 1]
        nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", nodes[1].port, bus)
        with anyio.fail_after(20):
            while not all(re.search(r"cluster_state\W+ok", str(node.ask("CLUSTER", "INFO"))) for node in nodes):
                await anyio.sleep(0.05)
        member = start(fleet=nodes[0].url("shop"))
        async with Fleet(nodes[0].url("shop")) as fleet:
            await fleet.configure("x", "1*return(7)")
            assert member.ask("visit('x', 2)") == ["Return(value='7')", "Continue()"]
            assert await fleet.resume("x") == 0
            assert (await fleet.status("x")).hits == 2
    finally:
        for node in nodes:
            node.kill()


def test_valkey(tmp_path: Path, place: str) -> None:
    """A Valkey server is one for a fleet."""
    if shutil.which("valkey-server") is None:
        pytest.skip("valkey-server is not installed")
    server = Server(tmp_path, program="valkey-server")
    try:
        url = server.url().replace("redis://", "valkey://")
        assert main(["set", "x", "2*return", "--fleet", url]) == 0
        assert main(["reset", "--fleet", url]) == 0
    finally:
        server.kill()


@contextmanager
def pretended(kind: str, version: str) -> Iterator[str]:
    """Run a server that says that it is one of this version, and yield its URL."""
    hello = f"%4\r\n+server\r\n+{kind}\r\n+version\r\n+{version}\r\n+proto\r\n:3\r\n+id\r\n:1\r\n"

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while received := self.request.recv(1000):
                self.request.sendall(hello.encode() if b"HELLO" in received else b"+OK\r\n" * received.count(b"*"))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"redis://127.0.0.1:{server.server_address[1]}/0?fleet=old"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("kind", "version", "problem"),
    [
        ("redis", "6.2.14", "it is Redis 6.2.14, and Redis 7 or newer is needed"),
        ("valkey", "7.2.9", "it is Valkey 7.2.9, and Valkey 8 or newer is needed"),
    ],
)
async def test_a_server_that_is_too_old(kind: str, version: str, problem: str) -> None:
    """A server of an older version is refused in one sentence."""
    with pretended(kind, version) as url, pytest.raises(FailpointUsageError, match=problem):
        async with Fleet(url):
            pass


def test_the_command(start: Start, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The verbs act on a fleet on a server, too."""
    member = start()
    assert main(["set", "x", "2*return", "--fleet", place]) == 0
    assert main(["members", "--fleet", place]) == 0
    assert capsys.readouterr().out.endswith(f":{member.pid}\n")
    assert member.ask("visit('x')") == ["Return(value=None)"]
    assert main(["wait", "x", "--hits", "1", "--fleet", place]) == 0
    assert main(["reset", "--fleet", place]) == 0
    assert member.ask("len(failpoints.statuses())") == 0


def test_without_the_extra(tmp_path: Path) -> None:
    """If coredis is not installed, one sentence says what to install."""
    code = "import sys; sys.modules['coredis'] = None; import failpoints"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "FAILPOINTS_FLEET": "redis://user:secret@host/0?fleet=shop"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 1
    assert done.stderr.endswith(
        "failpoints.errors.FailpointUsageError: FAILPOINTS_FLEET with redis:// needs coredis, which is not installed:"
        " pip install 'failpoints[redis]'\n"
    )
