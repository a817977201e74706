"""Fixtures for fleets: a folder, and programs that are members of it and do what a test asks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 30.0

PRELUDE = """
import atexit, json, os, signal, sys, threading
import failpoints
from failpoints import failpoint

def visit(name, times=1, **context):
    outcomes = []
    for _ in range(times):
        try:
            outcomes.append(str(failpoint(name, context=context).hit()))
        except BaseException as error:
            outcomes.append(type(error).__name__)
    return outcomes

def visit_in_thread(name, **context):
    thread = threading.Thread(target=visit, args=(name,), kwargs=context, name=f"visitor {os.getpid()}", daemon=True)
    thread.start()

def fork(code):
    "Run code in a child, and return its pid at once."
    child = os.fork()
    if not child:
        try:
            exec(code, globals())
        finally:
            atexit._run_exitfuncs()  # as a process that ends by itself
            os._exit(0)
    return child

def waited(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def main():
    print(json.dumps(os.getpid()), flush=True)
    for line in sys.stdin:
        print(json.dumps(eval(json.loads(line), globals())), flush=True)
"""


class Program:
    """A process that evaluates what it is asked to."""

    def __init__(self, fleet: str | None, code: str = "main()", **environment: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
        if fleet is not None:
            environment["FAILPOINTS_FLEET"] = fleet
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-c", PRELUDE + code],
            env={**inherited, "PYTHONPATH": str(ROOT), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lines: Queue[str] = Queue()
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._lines.put), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self.errors.append), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, put: Callable[[str], object]) -> None:
        for line in stream:
            put(line.rstrip("\n"))
        put("")

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> Any:
        try:
            line = self._lines.get(timeout=LIMIT)
        except Empty:
            raise AssertionError(f"no answer: {self.errors}") from None
        if not line:
            self.process.wait(LIMIT)
            raise EOFError("\n".join(self.errors))
        return json.loads(line)

    def tell(self, expression: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(expression) + "\n")
        self.process.stdin.flush()

    def ask(self, expression: str) -> Any:
        self.tell(expression)
        return self.line()

    def kill(self, by: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(by)
        self.process.wait(LIMIT)

    def end(self) -> int:
        """Let the program end by itself, and return its exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        status = self.process.wait(LIMIT)
        self._readers[1].join(LIMIT)
        return status


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Select the event loop that runs an async test."""
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the path of a folder that is not there yet."""
    return tmp_path / "fleet"


class Server:
    """A Redis server of its own, which keeps nothing unless it is told to."""

    def __init__(self, folder: Path, *options: str, port: int | None = None, program: str = "redis-server") -> None:
        self.port = port if port is not None else free_port()
        self.folder = folder
        self.options = options
        self.program = program
        self.start()

    def start(self) -> None:
        ours = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        self.process = subprocess.Popen(
            [self.program, *ours, "--save", "", "--enable-debug-command", "local", *self.options],
            stdout=subprocess.DEVNULL,
        )
        self.until_it_listens()

    def until_it_listens(self) -> None:
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port or 1), timeout=1).close()
                return
            except OSError:
                time.sleep(0.005)
        raise AssertionError("the server does not listen")

    def url(self, name: str | None = None) -> str:
        return f"redis://127.0.0.1:{self.port}/0?fleet={name or uuid.uuid4().hex}"

    def ask(self, *command: str | int) -> Any:
        """Send a command by another client than ours, and return the reply."""
        import redis

        with redis.Redis(port=self.port, decode_responses=True, socket_timeout=LIMIT) as client:
            return client.execute_command(*command)

    def kill(self, by: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(by)
        self.process.wait(LIMIT)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server for all tests, of which each has a fleet of its own on it."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = Server(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(params=["folder", pytest.param("redis", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest) -> str:
    """Return the URL of a fleet in a folder, or on a server."""
    if request.param == "folder":
        return str(request.getfixturevalue("folder"))
    return str(request.getfixturevalue("shared_server").url())


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Callable[..., Program]]:
    """Start programs that are members, and have joined when the call returns. They are killed after the test."""
    programs: list[Program] = []
    own = request.getfixturevalue("place" if "place" in request.fixturenames else "folder")

    def start(
        code: str = "main()",
        *,
        member: bool = True,
        fleet: object = own,
        count: int | None = None,
        **environment: str,
    ) -> Any:
        environment.setdefault("FAILPOINTS_FLEET_ALLOW", "exit,delay,break")
        new = [Program(str(fleet) if member else None, code, **environment) for _ in range(count or 1)]
        programs.extend(new)
        if code == "main()":
            for program in new:
                assert program.line() == program.pid
        return new[0] if count is None else new

    yield start
    for program in programs:
        try:
            os.killpg(program.pid, signal.SIGKILL)  # with its children, which keep its output open
        except ProcessLookupError:
            pass
        program.process.wait(LIMIT)
        for stream in (program.process.stdin, program.process.stdout, program.process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass
