"""Real servers and workers, started as a user starts them, and ended with all that they have started."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

ROOT = Path(__file__).parents[2]
APPS = Path(__file__).parent / "apps"
LIMIT = 30.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def pid_of(member: str) -> int:
    return int(member.rpartition(":")[2])


class Program:
    """A program whose processes are members of a fleet of their own.

    Attributes:
        fleet: The folder of the fleet.
        folder: The working directory, which has a copy of the applications.
        log: What the processes write.
    """

    def __init__(self, folder: Path, *command: str, **environment: str) -> None:
        self.folder = folder
        self.fleet = folder / "fleet"
        self.log = folder / "log"
        shutil.copytree(APPS, folder, dirs_exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FAILPOINTS", "COVERAGE"))}
        self.environment = kept | {
            "FAILPOINTS_FLEET": str(self.fleet),
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT), kept.get("PYTHONPATH", "")]).rstrip(os.pathsep),
            "PYTHONUNBUFFERED": "1",
            "HOME": str(folder),  # of the socket by which gunicorn is controlled
            **environment,
        }
        self.process = self._start([sys.executable, *command])

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_again(self) -> None:
        """Start the program again, after it has ended."""
        self.process.wait(LIMIT)
        self.process = self._start(self.process.args)  # type: ignore[arg-type]

    async def run(self, code: str) -> None:
        """Run Python code beside the program, as another member."""
        with anyio.fail_after(LIMIT):
            await anyio.run_process([sys.executable, "-c", code], cwd=self.folder, env=self.environment)

    def end(self) -> None:
        """End all its processes, also those that have made a process group of their own, as rq's do."""
        session = self.process.pid
        with suppress(ProcessLookupError):
            os.killpg(session, signal.SIGKILL)
        for member in (self.fleet / "members").glob("*:*"):
            with suppress(ProcessLookupError):
                if os.getsid(pid := int(member.name.split(":")[1])) == session:
                    os.kill(pid, signal.SIGKILL)
        self.process.wait(LIMIT)


@contextmanager
def running(folder: Path, *command: str, **environment: str) -> Iterator[Program]:
    """Run a program for a block. If the block fails, its error has what the program has written."""
    program = Program(folder, *command, **environment)
    try:
        yield program
    except BaseException as error:
        error.add_note(program.log.read_text(errors="replace")[-5000:])
        raise
    finally:
        program.end()


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server accepts connections."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server has ended"
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        time.sleep(0.02)  # another process: there is nothing to wait for
    raise AssertionError("the server does not accept connections")


class Client:
    """Sends each request over a connection of its own, so that the workers share them."""

    def __init__(self, port: int) -> None:
        self._http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            limits=httpx.Limits(max_keepalive_connections=0),
            timeout=LIMIT,
            trust_env=False,
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._http.aclose()

    async def get(self, path: str) -> dict[str, Any]:
        response = await self._http.get(path)
        response.raise_for_status()
        return dict(response.json())

    async def get_many(self, path: str, count: int) -> list[Any]:
        """Send *count* requests at once, and return the values of the answers."""
        values: list[Any] = []

        async def get() -> None:
            values.append((await self.get(path))["value"])

        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(get)
        return values

    async def get_once_it_listens(self, path: str) -> dict[str, Any]:
        """Send a request until it is answered."""
        with anyio.fail_after(LIMIT):
            while True:
                try:
                    return await self.get(path)
                except httpx.TransportError:
                    await anyio.sleep(0.02)


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Redis server, as a broker of jobs."""
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    if server is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    command = [
        server,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(tmp_path_factory.mktemp("redis")),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for_port(port, process)
        yield port
    finally:
        process.kill()
        process.wait(LIMIT)
