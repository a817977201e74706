"""What the tests of the command have: the command in this process and in one of its own, a terminal, and a server."""

from __future__ import annotations

import codecs
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn

import failpoints
from failpoints._core.registry import PROCESS_WIDE
from failpoints.admin import admin_app
from failpoints.cli import main

ROOT = Path(__file__).parents[2]
SECONDS = 50  # that a process may take, on a machine that has much else to do


class Done(NamedTuple):
    """How a run of the command ended."""

    status: int
    output: str
    errors: str


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the variables say outside is nothing to these tests."""
    for name in [name for name in os.environ if name.startswith("FAILPOINTS")]:
        monkeypatch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The command in this process."""

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        status = main(arguments)
        return Done(status, *capsys.readouterr())

    return run


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """The command in a process of its own, as it is started and with pipes to read; killed if it is still there."""
    children: dict[subprocess.Popen[str], threading.Timer] = {}

    def spawn(*arguments: str, program: Sequence[str] = ("-m", "failpoints"), **variables: str) -> Any:
        child = subprocess.Popen(
            [sys.executable, *program, *arguments],
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        too_late = threading.Timer(SECONDS, child.kill)  # whoever reads from it then meets the end
        too_late.daemon = True
        too_late.start()
        children[child] = too_late
        return child

    yield spawn
    for child, too_late in children.items():
        too_late.cancel()
        child.kill()
        child.communicate(timeout=SECONDS)


@pytest.fixture
def run_apart(spawn: Callable[..., subprocess.Popen[str]]) -> Callable[..., Done]:
    """The command in a process of its own, until it ends."""

    def run_apart(*arguments: str, **options: Any) -> Done:
        child = spawn(*arguments, **options)
        output, errors = child.communicate(timeout=SECONDS)
        return Done(child.returncode, output, errors)

    return run_apart


@pytest.fixture
def in_a_shell(spawn: Callable[..., subprocess.Popen[str]]) -> Callable[[str], Done]:
    """The command in a shell, which has its streams go elsewhere."""
    if sys.platform == "win32":
        pytest.skip("Windows has no shell that closes streams")

    def in_a_shell(line: str) -> Done:
        # Python is what is spawned; the shell takes its place, and the command that of the shell.
        arguments = ["sh", "-c", f'exec "$0" -m failpoints {line}', sys.executable]
        child = spawn(program=("-c", f"import os; os.execvp('sh', {arguments})"))
        output, errors = child.communicate(timeout=SECONDS)
        return Done(child.returncode, output, errors)

    return in_a_shell


@contextmanager
def _serving(*, port: int = 0, token: str | None = None) -> Iterator[str]:
    """The control plane of this process on a thread of its own; gives its URL."""
    config = uvicorn.Config(
        admin_app(token=token), host="127.0.0.1", port=port, lifespan="off", ws="none", log_level="critical"
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", port))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()  # whoever comes before it accepts waits in the listener's queue
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(SECONDS)
        listener.close()
        assert not thread.is_alive()


@pytest.fixture
def serving() -> Callable[..., AbstractContextManager[str]]:
    """The control plane of this process, for a block; takes a `port` and a `token`."""
    return _serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of this process's control plane, which the command knows by its variable."""
    with _serving() as url:
        monkeypatch.setenv("FAILPOINTS_URL", url)
        yield url


def _visit(name: str) -> None:
    if name.endswith(":after"):
        with failpoints.failpoint_scope(name.removesuffix(":after")):
            pass
    else:
        failpoints.failpoint(name).hit()


@pytest.fixture
def waiter() -> Iterator[Callable[[str], threading.Thread]]:
    """To start a thread that pauses at a failpoint, and is there when this returns."""
    threads: list[threading.Thread] = []

    def waiter(name: str, thread_name: str = "waiter") -> threading.Thread:
        there = len(failpoints.status(name).waiting)
        thread = threading.Thread(target=_visit, args=[name], name=thread_name)
        threads.append(thread)
        thread.start()
        PROCESS_WIDE.wait_until_paused_sync(name, there + 1, timeout=SECONDS)
        return thread

    yield waiter
    failpoints.reset()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


class Terminal:
    """A terminal of so many columns, with a program in it."""

    def __init__(self, arguments: Sequence[str], columns: int, variables: dict[str, str]) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self.output = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.child = subprocess.Popen(
            [sys.executable, "-m", "failpoints", *arguments],
            env={**os.environ, "TERM": "xterm-256color", **variables},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that what is typed is also a signal
        )
        os.close(theirs)

    def read_until(self, text: str) -> None:
        """Read what is shown until the text has appeared."""
        while text not in self.output:
            assert self._read(), f"it ended before {text!r} appeared: {self.output!r}"

    def type(self, text: str) -> None:
        """As a person does."""
        os.write(self._ours, text.encode())

    def ended(self) -> int:
        """The exit status, once it has ended and everything is read."""
        while self._read():
            pass
        return self.child.wait(SECONDS)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], SECONDS)
        assert ready, f"nothing came: {self.output!r}"
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # on Linux, the end
            return False
        self.output += self._decoder.decode(data)
        return bool(data)

    def close(self) -> None:
        """End what is still there."""
        self.child.kill()
        self.child.wait(SECONDS)
        os.close(self._ours)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """To run the command at a terminal."""
    if sys.platform == "win32":
        pytest.skip("Windows has no pseudo-terminals that a test could open")
    terminals: list[Terminal] = []

    def start(*arguments: str, columns: int = 80, **variables: str) -> Terminal:
        terminals.append(Terminal(arguments, columns, variables))
        return terminals[-1]

    yield start
    for each in terminals:
        each.close()
