"""What the tests of the control plane have: servers in this process and in others, and clients that are not polite."""

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
LIMIT = 20  # seconds, for what comes at once


@contextmanager
def served(app: Any, **settings: Any) -> Iterator[str]:
    """Run an application on a thread and event loop of its own, as `uvicorn` without options does: its URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, **settings))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            thread.join(LIMIT)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def serve() -> Callable[..., Any]:
    """To run an application in this process, `with` its URL."""
    return served


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
    """The answer that comes on a connection."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


class _Shared:
    """A connection as `HTTPResponse` wants it, whose answers are read from one file."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def makefile(self, mode: str) -> Any:
        return self

    def close(self) -> None:
        """The next answer is read from it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def answers_on(connection: socket.socket, number: int) -> list[Answer]:
    """The answers to requests that were sent without waiting in between."""
    with connection.makefile("rb") as file:
        return [answer_on(_Shared(file)) for _ in range(number)]


def request_of(
    method: str, path: str, *headers: str, body: bytes = b"", host: str | None = "127.0.0.1", json: object = ...
) -> bytes:
    """A request, byte by byte as given."""
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
        """Send `request_of` these arguments, and take the answer."""
        with connected(url) as connection:
            connection.sendall(request_of(*request, **more))
            return answer_on(connection)


@pytest.fixture(scope="session")
def raw() -> type[Raw]:
    """A client on a bare socket."""
    return Raw


class Watchers:
    """Who waits for something to happen in the process-wide registry."""

    def __init__(self) -> None:
        self.changed = threading.Condition()

    def until(self, number: int) -> None:
        """Go on once there are so many."""
        with self.changed:
            there = self.changed.wait_for(lambda: len(PROCESS_STORE._watches._watches.all()) == number, LIMIT)
        assert there, PROCESS_STORE._watches._watches.all()


@pytest.fixture
def watchers(monkeypatch: pytest.MonkeyPatch) -> Watchers:
    """To wait, without polling, until so many wait."""
    watchers = Watchers()

    def told(method: Any) -> Any:
        def call(*arguments: Any) -> None:
            method(*arguments)
            with watchers.changed:
                watchers.changed.notify_all()

        return call

    monkeypatch.setattr(Watches, "add", told(Watches.add))
    monkeypatch.setattr(Watches, "discard", told(Watches.discard))
    return watchers


class Program:
    """A program in a process of its own, and what it prints, line by line."""

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
        """The next line in which the pattern is found."""
        while True:
            try:
                line = self._lines.get(timeout=LIMIT)
            except queue.Empty:
                raise AssertionError(f"{pattern!r} is not in {''.join(self.printed)}") from None
            assert line is not None, f"it ended, without {pattern!r}: {''.join(self.printed)}"
            self.printed.append(line)
            if found := re.search(pattern, line):
                return found

    def url(self) -> str:
        """Where the next control plane listens."""
        return self.line(r"failpoints control plane listening on (http://\S+)")[1]

    def say(self, line: str = "") -> None:
        """Write a line to its standard input."""
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def ended(self) -> tuple[int, str]:
        """Its exit status, and all that it printed."""
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
    """To run a program, or a `command=`, in a process of its own: `run(source, FAILPOINTS_HTTP="127.0.0.1:0")`."""
    programs: list[Program] = []
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}

    def start(
        source: str = "",
        *options: str,
        command: Sequence[str] | None = None,
        interpreter: Sequence[str] = (),
        **variables: str,
    ) -> Program:
        (tmp_path / "program.py").write_text(dedent(source), encoding="utf-8")
        environment = {**clean, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "PYTHONUNBUFFERED": "1", **variables}
        programs.append(
            Program(command or [sys.executable, *interpreter, "program.py", *options], environment, tmp_path)
        )
        return programs[-1]

    yield start
    for program in programs:
        program.kill()
