"""Fixtures for the tests of the command: the command in this process and in its own, a terminal, and a server."""

from __future__ import annotations

import codecs
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
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
SECONDS = 50  # for a process, on a machine that is busy with other work

POLL_OFTEN = (
    "import sys; from failpoints._cli import remote; remote._POLL_INTERVAL = 0.01;"
    " from failpoints.cli import main; sys.exit(main())"
)


class Done(NamedTuple):
    """The result of running the command."""

    status: int
    output: str
    errors: str


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove every variable that would change what the command does or how it looks."""
    for name in [name for name in os.environ if name.startswith("FAILPOINTS")]:
        monkeypatch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run the command in this process."""

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        status = main(arguments)
        return Done(status, *capsys.readouterr())

    return run


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command as a child process with pipes. It is killed at the end of the test."""
    children: dict[subprocess.Popen[str], threading.Timer] = {}

    def spawn(
        *arguments: str,
        program: Sequence[str] = ("-m", "failpoints"),
        executable: str = sys.executable,
        **variables: str,
    ) -> Any:
        child = subprocess.Popen(
            [executable, *program, *arguments],
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        timer = threading.Timer(SECONDS, child.kill)  # a test that reads from it then meets the end of its output
        timer.daemon = True
        timer.start()
        children[child] = timer
        return child

    yield spawn
    for child, timer in children.items():
        timer.cancel()
        child.kill()
        child.communicate(timeout=SECONDS)


@pytest.fixture
def run_apart(spawn: Callable[..., subprocess.Popen[str]]) -> Callable[..., Done]:
    """Run the command in a process of its own."""

    def run_apart(*arguments: str, **options: Any) -> Done:
        child = spawn(*arguments, **options)
        output, errors = child.communicate(timeout=SECONDS)
        return Done(child.returncode, output, errors)

    return run_apart


@pytest.fixture
def in_a_shell(run_apart: Callable[..., Done]) -> Callable[[str], Done]:
    """Run the command in a shell, which can redirect and close its streams."""
    if sys.platform == "win32":
        pytest.skip("Windows has no shell that closes streams")

    def in_a_shell(line: str) -> Done:
        # The shell is replaced by Python, so that the status is the command's own.
        return run_apart(executable="sh", program=("-c", f'exec "$0" -m failpoints {line}', sys.executable))

    return in_a_shell


_RUN_ALL = """if True:
    import json, os, sys
    calls, report, setup = json.loads(sys.argv[1])
    from failpoints.cli import main
    exec(setup)
    originals = [(stream, os.dup(stream.fileno())) for stream in (sys.stdout, sys.stderr) if stream is not None]
    statuses = []
    for arguments in calls:
        statuses.append(main(arguments))
        for stream, original in originals:
            stream.flush()  # as Python does when it exits, where an error would be shown
            os.dup2(original, stream.fileno())  # which the command has redirected
    with open(report, "w") as file:
        json.dump(statuses, file)
"""


@pytest.fixture
def run_all_in_a_shell(run_apart: Callable[..., Done], tmp_path: Path) -> Callable[..., tuple[list[int], str, str]]:
    """Run the command once for each line of arguments, all in one process.

    A shell has redirected the streams of that process, and it runs the code *setup* first. Return the exit statuses,
    the output, and the errors.
    """
    if sys.platform == "win32":
        pytest.skip("Windows has no shell that closes streams")

    def run_all_in_a_shell(lines: list[str], redirection: str = "", setup: str = "") -> tuple[list[int], str, str]:
        report = tmp_path / "statuses.json"
        calls = json.dumps([[line.split() for line in lines], str(report), setup])
        script = f'exec "$0" -c "$1" "$2" {redirection}'
        done = run_apart(executable="sh", program=("-c", script, sys.executable, _RUN_ALL, calls))
        assert done.status == 0, done.errors
        return json.loads(report.read_text()), done.output, done.errors

    return run_all_in_a_shell


@contextmanager
def _serving(*, port: int = 0, token: str | None = None) -> Iterator[str]:
    """Serve the control plane of this process on a thread. The block gets its URL."""
    config = uvicorn.Config(
        admin_app(token=token), host="127.0.0.1", port=port, lifespan="off", ws="none", log_level="critical"
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", port))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()  # clients that connect before it accepts are queued by the listener
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(SECONDS)
        listener.close()
        assert not thread.is_alive()


@pytest.fixture
def serving() -> Callable[..., AbstractContextManager[str]]:
    """Serve the control plane of this process for a block, on a given `port` or with a `token`."""
    return _serving


@pytest.fixture(scope="module")
def shared_server() -> Iterator[str]:
    """Serve the control plane of this process for a whole module, since starting a server takes time."""
    with _serving() as url:
        yield url


@pytest.fixture
def server(shared_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Set `FAILPOINTS_URL` to the control plane of this process, and return it."""
    monkeypatch.setenv("FAILPOINTS_URL", shared_server)
    return shared_server


def _visit(name: str, **context: object) -> None:
    if name.endswith(":after"):
        with failpoints.failpoint_scope(name.removesuffix(":after")):
            pass
    else:
        failpoints.failpoint(name, context=context).hit()


@pytest.fixture
def waiter() -> Iterator[Callable[..., threading.Thread]]:
    """Start a thread that pauses at a failpoint, and return once it is waiting there."""
    threads: list[threading.Thread] = []

    def waiter(name: str, thread_name: str = "waiter", **context: object) -> threading.Thread:
        already_waiting = len(failpoints.status(name).waiting)
        thread = threading.Thread(target=_visit, args=[name], kwargs=context, name=thread_name)
        threads.append(thread)
        thread.start()
        PROCESS_WIDE.wait_until_paused_sync(name, already_waiting + 1, timeout=SECONDS)
        return thread

    yield waiter
    failpoints.reset()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


class Terminal:
    """A terminal with a number of columns, in which the command runs."""

    def __init__(
        self, arguments: Sequence[str], program: Sequence[str], columns: int, variables: dict[str, str]
    ) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self.output = ""
        self._deadline = time.monotonic() + SECONDS
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.child = subprocess.Popen(
            [sys.executable, *program, *arguments],
            env={**os.environ, "TERM": "xterm-256color", **variables},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that typing Ctrl-C sends a signal
        )
        os.close(theirs)

    def read_until(self, text: str) -> None:
        """Read the output until *text* has appeared."""
        self.read_until_true(lambda output: text in output, repr(text))

    def read_until_true(self, condition: Callable[[str], bool], expected: str) -> None:
        """Read the output until *condition* holds for all of it."""
        while not condition(self.output):
            assert self._read(), f"it ended before {expected} appeared: {self.output!r}"

    def type(self, text: str) -> None:
        """Type at the keyboard."""
        os.write(self._ours, text.encode())

    def ended(self) -> int:
        """Read the output to its end, and return the exit status."""
        while self._read():
            pass
        return self.child.wait(SECONDS)

    def _read(self) -> bool:
        left = self._deadline - time.monotonic()
        ready, _, _ = select.select([self._ours], [], [], max(left, 0))
        assert ready and left > 0, f"it is still running: {self.output[-4000:]!r}"
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # how Linux reports the end
            return False
        self.output += self._decoder.decode(data)
        return bool(data)

    def close(self) -> None:
        """Kill the command if it still runs."""
        self.child.kill()
        self.child.wait(SECONDS)
        os.close(self._ours)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Run the command at a terminal."""
    if sys.platform == "win32":
        pytest.skip("Windows has no pseudo-terminals that a test could open")
    terminals: list[Terminal] = []

    def start(
        *arguments: str, columns: int = 80, program: Sequence[str] = ("-m", "failpoints"), **variables: str
    ) -> Terminal:
        terminals.append(Terminal(arguments, program, columns, variables))
        return terminals[-1]

    yield start
    for each in terminals:
        each.close()


@pytest.fixture
def impatient() -> Sequence[str]:
    """Return a `program` for `spawn` and `terminal`: the command, looking for changes every 10 ms."""
    return "-c", POLL_OFTEN
