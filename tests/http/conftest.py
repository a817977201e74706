"""Fixtures for the tests of the control plane: servers in this and other processes, and a client on a bare socket."""

from __future__ import annotations

import http.client
import json
import os
import queue
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from json import dumps
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import uvicorn

from failpoints._core.store import PROCESS_STORE
from failpoints._core.watches import Watches

ROOT = Path(__file__).parents[2]
# A module beside each program that `run` starts. The control plane starts with its import.
PRELUDE = """
import logging, os, re, signal, sys, threading
import failpoints

def ready():  # announces it, and waits for a line
    print("ready", flush=True)
    sys.stdin.readline()

def stay():  # waits until the standard input ends
    sys.stdin.read()

def on_log(message, function):  # calls a function on the thread that logs a message, while it does so
    class Handler(logging.Handler):
        def emit(self, record):
            if record.getMessage().startswith(message):
                function()
    logger = logging.getLogger("failpoints")
    logger.addHandler(Handler())
    logger.setLevel("INFO")

def in_child(function):
    child = os.fork()
    if child:
        return child
    signal.alarm(30)
    try:
        function()
    except BaseException as error:
        print("failed:", repr(error), flush=True)
        os._exit(1)
    os._exit(0)

def waited(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""

LIMIT = 20  # seconds to wait for things that normally happen at once


@contextmanager
def serving(app: Any, listener: socket.socket, **settings: Any) -> Iterator[None]:
    """Run an application on a given socket, on a thread of its own, like `uvicorn` without options."""
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, **settings))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = server.force_exit = True
        thread.join(LIMIT)
        assert not thread.is_alive()


@contextmanager
def served(app: Any, **settings: Any) -> Iterator[str]:
    """Run an application on a free port. Gives its URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener, serving(app, listener, **settings):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="session")
def serve() -> Callable[..., Any]:
    """Run an application in this process for a `with` block, which gets its URL."""
    return served


@pytest.fixture(scope="session")
def serve_on() -> Callable[..., Any]:
    """Run an application in this process on a given listener for a `with` block."""
    return serving


@contextmanager
def port_in_use() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture(scope="session")
def taken_port() -> Callable[..., Any]:
    """Take a port for a `with` block, which gets its number."""
    return port_in_use


@pytest.fixture
def free_port() -> int:
    """Return a port that is not in use."""
    with port_in_use() as port:
        return port


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def msg(self) -> str:
        assert self.headers["content-type"] == "application/json"
        document = self.json
        assert isinstance(document, dict)
        assert set(document) == {"msg"}
        return str(document["msg"])


def connected(url: str) -> socket.socket:
    where = urlsplit(url)
    assert where.hostname
    return socket.create_connection((where.hostname, where.port or 80), timeout=LIMIT)


def answer_on(connection: Any) -> Answer:
    """Read the next answer on a connection."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


class _Shared:
    """Acts as a connection for `HTTPResponse`, so that several answers are read from the same file."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def makefile(self, mode: str) -> Any:
        return self

    def close(self) -> None:
        """Leave the file open for the next answer."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def answers_on(connection: socket.socket, number: int) -> list[Answer]:
    """Read the answers to pipelined requests."""
    with connection.makefile("rb") as file:
        return [answer_on(_Shared(file)) for _ in range(number)]


def request_of(
    method: str, path: str, *headers: str, body: bytes = b"", host: str | None = "127.0.0.1", json: object = ...
) -> bytes:
    """Encode a request exactly as given, even if it is invalid."""
    lines = [f"{method} {path} HTTP/1.1", *headers]
    if host is not None:
        lines.insert(1, f"Host: {host}")
    if json is not ...:
        body = dumps(json).encode()
        lines.append("Content-Type: application/json")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Raw:
    """A client on a bare socket."""

    connected = staticmethod(connected)
    answer_on = staticmethod(answer_on)
    answers_on = staticmethod(answers_on)
    request_of = staticmethod(request_of)

    @staticmethod
    def ask(url: str, *request: Any, **more: Any) -> Answer:
        """Send `request_of` these arguments and return the answer."""
        with connected(url) as connection:
            connection.sendall(request_of(*request, **more))
            return answer_on(connection)


@pytest.fixture(scope="session")
def raw() -> type[Raw]:
    """Return a client on a bare socket."""
    return Raw


class Watchers:
    """The waits for events in the process-wide registry, of all threads and event loops."""

    def __init__(self) -> None:
        self.changed = threading.Condition()

    @staticmethod
    def number() -> int:
        """How many waits there are now."""
        return len(PROCESS_STORE._watches._watches.all())

    def until(self, number: int) -> None:
        """Block until there are exactly *number* waits."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.number() == number, LIMIT), self.number()


@pytest.fixture
def watchers(monkeypatch: pytest.MonkeyPatch) -> Watchers:
    """Return the waits for events in this process, which can be waited for without polling."""
    watchers = Watchers()

    def notifying(method: Any) -> Any:
        def call(*arguments: Any) -> None:
            method(*arguments)
            with watchers.changed:
                watchers.changed.notify_all()

        return call

    monkeypatch.setattr(Watches, "add", notifying(Watches.add))
    monkeypatch.setattr(Watches, "discard", notifying(Watches.discard))
    return watchers


class Program:
    """A program in a process of its own, whose output can be waited for line by line."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], directory: Path) -> None:
        self._process = subprocess.Popen(
            command,
            env=environment,
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.printed: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    @property
    def pid(self) -> int:
        return self._process.pid

    def line(self, pattern: str) -> re.Match[str]:
        """Wait for the next line that the pattern matches."""
        while True:
            try:
                line = self._lines.get(timeout=LIMIT)
            except queue.Empty:
                raise AssertionError(f"no line matched {pattern!r} in time: {''.join(self.printed)}") from None
            assert line is not None, f"the program ended before a line matched {pattern!r}: {''.join(self.printed)}"
            self.printed.append(line)
            if found := re.search(pattern, line):
                return found

    def url(self) -> str:
        """Wait until a control plane logs its URL."""
        return self.line(r"failpoints control plane listening on (http://\S+)")[1]

    def urls(self, number: int) -> dict[int, str]:
        """Wait until *number* processes log their URLs, and return these by process id."""
        lines = [self.line(r"control plane listening on (http://\S+) \(process (\d+)\)") for _ in range(number)]
        return {int(line[2]): line[1] for line in lines}

    def ready(self) -> str:
        """Wait until a control plane logs its URL, and then for the program's line "ready"."""
        url = self.url()
        self.line("^ready$")
        return url

    def send_line(self) -> None:
        """Write an empty line to the program's standard input."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def ended(self) -> tuple[int, str]:
        """Close its standard input and wait for its end. Returns the exit status and the whole output."""
        assert self._process.stdin
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        status = self._process.wait(LIMIT)
        self._reader.join(LIMIT)
        while (line := self._lines.get(timeout=LIMIT)) is not None:
            self.printed.append(line)
        return status, "".join(self.printed)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self.pid, 9)
            else:
                self._process.kill()
        self._process.wait(LIMIT)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream
            with suppress(BrokenPipeError):
                stream.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Run a program, or a `command=`, in a process of its own. Keywords are variables of its environment."""
    programs: list[Program] = []
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}

    def start(
        source: str = "",
        *options: str,
        command: Sequence[str] | None = None,
        interpreter: Sequence[str] = (),
        **variables: str,
    ) -> Program:
        (tmp_path / "prelude.py").write_text(PRELUDE, encoding="utf-8")
        (tmp_path / "program.py").write_text(dedent(source), encoding="utf-8")
        environment = {**clean, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "PYTHONUNBUFFERED": "1", **variables}
        programs.append(
            Program(command or [sys.executable, *interpreter, "program.py", *options], environment, tmp_path)
        )
        return programs[-1]

    yield start
    for program in programs:
        program.kill()
