"""The recorder that runs strace sees what C code does, and sees of Python code what the other recorder does."""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from failpoints import FailpointUsageError, failpoint
from failpoints._crashes.disk import Disk
from failpoints._crashes.operations import Make, Operation, Sync, Visit, Write
from failpoints._crashes.syscalls import calls
from failpoints._crashes.traced import BEGIN, END, MARKER, Traced
from failpoints.explore import CrashExploration, ExplorationFailed, acknowledge, explore_crashes
from tests.crashes import test_recorder as ways


@cache
def why_not() -> str:
    """Return why strace cannot be used here, or "" if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-qq", "-e", "trace=none", "true"], capture_output=True, text=True)
    return f"strace cannot trace here: {done.stderr.strip()}" if done.returncode else ""


@pytest.fixture
def strace() -> None:
    """Skip the test where strace cannot be used."""
    if why_not():
        pytest.skip(why_not())


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(
    "act",
    [
        ways.text_modes,
        ways.pathlib_ways,
        ways.shutil_ways,
        ways.tempfile_ways,
        ways.descriptors,
        ways.linux,
        ways.references_from_before,
        ways.several_threads,
    ],
    ids=lambda act: act.__name__,
)
def test_both_recorders_see_the_same(act: ways.Act) -> None:
    """What Python's functions do has the same operations in both recorders."""
    assert ways.recorded(act, recorder="strace") == ways.recorded(act)


@pytest.mark.usefixtures("strace")
def test_children_and_visits_are_seen() -> None:
    """Child processes are followed, and visits and acknowledged values come between the right operations."""

    def act(folder: Path) -> None:
        subprocess.run(["sh", "-c", "printf 12 > a; mv a b"], cwd=folder, check=True)
        failpoint("store.between").hit()
        (folder / "c").touch()

    operations = ways.recorded(act, recorder="strace")
    assert operations[:2] == [Make("a", 1), Write(1, 0, b"12")]
    assert operations[-2:] == [Visit("store.between"), Make("c", 2)]


@pytest.mark.usefixtures("strace")
def test_a_child_may_have_any_descriptor() -> None:
    """What a child process writes is not taken for a mark, whichever descriptor it writes to."""
    program = """if True:
        import os
        for number in range(3, 40):
            os.dup2(os.open("a", os.O_WRONLY | os.O_CREAT), number)
            os.write(number, b"12")
    """

    def act(folder: Path) -> None:
        subprocess.run([sys.executable, "-S", "-c", program], cwd=folder, check=True)

    assert ways.recorded(act, recorder="strace") == [Make("a", 1), *[Write(1, 0, b"12")] * 37]


def open_database(folder: Path, mode: str, synchronous: str) -> sqlite3.Connection:
    database = sqlite3.connect(folder / "db", isolation_level=None)
    database.execute(f"PRAGMA journal_mode={mode}")
    database.execute(f"PRAGMA synchronous={synchronous}")
    return database


def arrange_database(folder: Path, mode: str, synchronous: str) -> None:
    database = open_database(folder, mode, synchronous)
    database.execute("CREATE TABLE t (version, text)")
    database.execute("CREATE INDEX i ON t (text)")
    database.executemany("INSERT INTO t VALUES (?, ?)", [(0, "0" * 300)] * 20)
    database.close()


def commit(folder: Path, mode: str, synchronous: str) -> None:
    database = open_database(folder, mode, synchronous)
    for version in (1, 2):
        database.execute("BEGIN")
        database.execute("UPDATE t SET version = ?, text = ?", (version, str(version) * 300))
        database.execute("COMMIT")
        acknowledge(version)
    database.close()


def check_database(folder: Path, acknowledged: list[Any], is_durable: bool) -> None:
    database = sqlite3.connect(folder / "db")
    try:
        integrity = database.execute("PRAGMA integrity_check").fetchall()
        versions = database.execute("SELECT DISTINCT version FROM t").fetchall()
    except sqlite3.DatabaseError as error:
        raise AssertionError(f"malformed: {error}") from None
    assert integrity == [("ok",)], "malformed"
    last = acknowledged[-1] if acknowledged else 0
    assert len(versions) == 1
    assert versions[0][0] in ((last, last + 1) if is_durable else range(last + 2)), "lost"


def explore_sqlite(disk: Any, mode: str, synchronous: str, is_durable: bool, max_states: int) -> CrashExploration:
    how = {"mode": mode, "synchronous": synchronous}
    try:
        return explore_crashes(
            partial(commit, **how),
            partial(check_database, is_durable=is_durable),
            arrange=partial(arrange_database, **how),
            disk=disk,
            recorder="strace",
            max_states=max_states,
        )
    except ExplorationFailed as failed:
        exploration: CrashExploration = failed.exploration
        return exploration


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(
    ("disk", "mode", "synchronous", "broken"),
    [
        ("process", "OFF", "FULL", "malformed"),
        ("process", "MEMORY", "FULL", "malformed"),
        pytest.param("power", "WAL", "NORMAL", "lost", marks=pytest.mark.slow),
        pytest.param("power", "DELETE", "FULL", "lost", marks=pytest.mark.slow),
    ],
)
def test_what_sqlite_does_not_promise(disk: str, mode: str, synchronous: str, broken: str) -> None:
    """Known losses are found: without a journal by the mere end of the process, and of commits that are not synced."""
    exploration = explore_sqlite(disk, mode, synchronous, True, 1_000)
    assert exploration.broken == 1
    assert broken in exploration.failures[0].summary


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(
    ("disk", "mode", "synchronous", "is_durable", "max_states"),
    [
        ("process", "DELETE", "OFF", True, 100),
        ("process", "WAL", "OFF", True, 100),
        pytest.param("power", "WAL", "FULL", True, 200, marks=pytest.mark.slow),
        pytest.param("power", "WAL", "NORMAL", False, 200, marks=pytest.mark.slow),
        pytest.param("power", "DELETE", "EXTRA", True, 200, marks=pytest.mark.slow),
        pytest.param("power", "DELETE", "FULL", False, 200, marks=pytest.mark.slow),
    ],
)
def test_what_sqlite_promises(disk: str, mode: str, synchronous: str, is_durable: bool, max_states: int) -> None:
    """No crash breaks a promise of SQLite: nothing is malformed and, with enough syncs, no commit is lost."""
    exploration = explore_sqlite(disk, mode, synchronous, is_durable, max_states)
    assert exploration.broken == 0, exploration
    assert exploration.states > 20


@pytest.mark.usefixtures("strace")
def test_memory_maps_are_in_the_verdict() -> None:
    """What is written by a memory map is not seen. The verdict mentions it, and is not exhaustive."""

    def act(folder: Path) -> None:
        with open(folder / "a", "w+b") as file:
            file.truncate(8)
            with mmap.mmap(file.fileno(), 8) as mapped:
                mapped[:] = b"12345678"

    exploration = explore_crashes(act, lambda folder, acknowledged: None, recorder="strace")
    assert exploration.bounds == ("what is written to 'a' by a memory map (mmap) is out of sight",)


def exchange_outside(folder: Path, outside: Path) -> None:
    (folder / "a").touch()
    (folder / "a").rename(outside / "a")


def bind(folder: Path, outside: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))


def end_strace(folder: Path, outside: Path) -> None:
    status = Path("/proc/self/status").read_text()
    os.kill(int(status.partition("TracerPid:")[2].split()[0]), signal.SIGKILL)
    (folder / "a").touch()
    (folder / "a").unlink()


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(
    ("act", "message"),
    [
        (ways.write_outside, r"writes to a file outside of its folder: /.*/a"),
        (exchange_outside, r"changes a file outside of its folder: /.*/a"),
        (ways.leave_thread, r"leaves a thread behind"),
        (ways.leave_child, r"leaves a child process behind"),
        (bind, r"uses the network \(bind\)"),
        (end_strace, r"strace ended before the program"),
    ],
)
def test_what_strace_refuses(act: Any, message: str, tmp_path: Path) -> None:
    """A program that does what cannot be recorded is refused."""
    with pytest.raises(FailpointUsageError, match=message):
        explore_crashes(partial(act, outside=tmp_path), lambda folder, acknowledged: None, recorder="strace")


@pytest.mark.usefixtures("strace")
def test_a_process_that_cuts_itself_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is no child of the program any more, in a session of its own, is seen as long as it runs."""
    monkeypatch.setattr("failpoints._crashes.strace._ENDING", 0.5)
    held, holding = os.pipe()

    def act(folder: Path) -> None:
        command = ["setsid", "--fork", "sh", "-c", "echo begun; cat"]
        with subprocess.Popen(command, stdin=held, stdout=subprocess.PIPE) as parent:
            assert parent.stdout
            assert parent.stdout.readline() == b"begun\n"

    try:
        with pytest.raises(FailpointUsageError, match="A process that the program leaves behind may go on writing"):
            explore_crashes(act, lambda folder, acknowledged: None, recorder="strace")
    finally:
        os.close(holding)  # which ends it
        os.close(held)


_SLOW = """\
#!{python}
import ctypes, os, sys, time
_, *arguments = sys.argv
process = int(arguments[-1])
for request, seconds in ((0x4206, 0.2), (0x4207, 0.0)):  # PTRACE_SEIZE, PTRACE_INTERRUPT
    assert ctypes.CDLL(None).ptrace(request, process, None, None) == 0
    time.sleep(seconds)
os.waitpid(process, 0x40000000)  # __WALL
ctypes.CDLL(None).ptrace(17, process, None, None)  # PTRACE_DETACH
os.execv({strace!r}, [{strace!r}, *arguments])
"""


@pytest.mark.usefixtures("strace")
def test_a_program_begins_once_strace_sees_its_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program waits for strace to see its calls. Some time before that, strace is the tracer already."""
    slow = tmp_path / "strace"
    slow.write_text(_SLOW.format(python=sys.executable, strace=shutil.which("strace")))
    slow.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert ways.recorded(ways.references_from_before, recorder="strace")


def test_without_strace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where strace is not installed, one sentence says how to get it."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FailpointUsageError, match="needs the program strace, which is not installed: apt-get install"):
        explore_crashes(ways.text_modes, lambda folder, acknowledged: None, recorder="strace")


def hexadecimal(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    return "".join(f"\\x{byte:02x}" for byte in data)


def traced(*lines: str) -> Traced:
    """Return what these lines of strace do to the folder /f. `'text'` in them becomes hexadecimal, in quotes."""

    def encoded(line: str) -> str:
        parts = line.split("'")
        parts[1::2] = [f'"{hexadecimal(part)}"' for part in parts[1::2]]
        text = "".join(parts).replace("<CWD>", f"<{hexadecimal('/f')}>")
        return text.replace("<PIPE>", f"<{hexadecimal('pipe:[7]')}>")

    def marked(mark: bytes) -> str:
        marker = hexadecimal(f"/memfd:{MARKER}")
        return f'1 write(9<{marker}>(deleted), "{hexadecimal(mark)}", {len(mark)}) = {len(mark)}'

    followed = Traced("/f", Disk())
    followed.follow(calls([marked(BEGIN), *map(encoded, lines), marked(END), encoded("1 mkdir('/f/late', 0777) = 0")]))
    return followed


@pytest.mark.parametrize(
    ("lines", "operations"),
    [
        (
            [
                "1 openat(AT_FDCWD<CWD>, 'a', O_WRONLY|O_CREAT, 0666 <unfinished ...>",
                "2 getpid() = 2",
                "1 <... openat resumed>) = 3<CWD>",
                "1 write(3<CWD>, 'abc', 3 <unfinished ...>",
                "1 <... write resumed>) = 2",
                "1 write(3<CWD>, 'c', 1) = 1",
                "1 fsync(3<CWD>) = -1 EIO (Input/output error)",
                "1 fdatasync(3<CWD>) = 0",
            ],
            [Make("a", 1), Write(1, 0, b"ab"), Write(1, 2, b"c"), Sync(1)],
        ),
        (
            [
                "1 creat('/f/a', 0666) = 3",
                "1 dup(3) = 4",
                "1 writev(3, [{iov_base='ab', iov_len=2}, {iov_base='cd', iov_len=2}], 2) = 4",
                "1 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD <unfinished ...>",
                "2 close(3) = 0",
                "1 <... clone resumed>, child_tidptr=0x7f) = 2",
                "2 write(3, 'no', 2) = 2",
                "2 write(4<PIPE>, 'no', 2) = 2",
                "2 dup2(4<PIPE>, 1) = 1<PIPE>",
                "2 write(1<PIPE>, 'no', 2) = 2",
                "1 fcntl(3, F_DUPFD_CLOEXEC, 10) = 10",
                "1 pwritev2(10, [{iov_base='x', iov_len=1}], 1, 7, RWF_DSYNC) = 1",
                "1 lseek(10, 1, SEEK_SET) = 1",
                "1 read(3, 'b', 1) = 1",
                "1 write(3, 'y', 1) = 1",
            ],
            [Make("a", 1), Write(1, 0, b"abcd"), Write(1, 7, b"x"), Sync(1), Write(1, 2, b"y")],
        ),
        (
            [
                "1 openat(AT_FDCWD<CWD>, 'a', O_WRONLY|O_CREAT|O_APPEND|O_DSYNC, 0666) = 3",
                "1 clone(child_stack=0x7f, flags=CLONE_VM|CLONE_FILES|CLONE_THREAD) = 2",
                "2 write(3, 'ab', 2) = 2",
                "1 pwrite64(3, 'cd', 2, 0) = 2",
                "1 close_range(3, 4294967295, 0) = 0",
                "2 write(3, 'ef', 2) = 2",
            ],
            [Make("a", 1), Write(1, 0, b"ab"), Sync(1), Write(1, 2, b"cd"), Sync(1)],
        ),
        (
            [
                "1 openat(AT_FDCWD<CWD>, 'a', O_RDWR|O_CREAT, 0666) = 3",
                "1 fallocate(3, 0, 0, 4) = 0",
                "1 fallocate(3, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 2, 9) = 0",
                "1 fallocate(3, FALLOC_FL_KEEP_SIZE, 2, 9) = 0",
                "1 sync_file_range(3, 0, 0, SYNC_FILE_RANGE_WRITE) = 0",
                "1 sync() = 0",
            ],
            [Make("a", 1), ways.Truncate(1, 4), Write(1, 2, b"\0\0"), Sync(None)],
        ),
    ],
)
def test_lines_of_strace(lines: list[str], operations: list[Operation]) -> None:
    """Calls are followed through threads, children, shared and duplicated descriptors, until the program has ended."""
    followed = traced(*lines)
    assert followed.refused == ""
    assert followed.operations == operations


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 openat2(AT_FDCWD<CWD>, 'a', {flags=O_RDONLY}, 24) = 3", "openat2"),
        ("1 renameat2(AT_FDCWD<CWD>, 'a', AT_FDCWD<CWD>, 'b', RENAME_EXCHANGE) = 0", "exchanges two names"),
        ("1 rename('/f/a', '/tmp/a') = 0", "changes a file outside of its folder: /tmp/a"),
        ("1 unlink('/tmp/a') = 0", "changes a file outside of its folder: /tmp/a"),
        ("1 connect(3, {sa_family=AF_INET, sin_port=htons(9)}, 16) = 0", "uses the network"),
    ],
)
def test_calls_that_cannot_be_followed(line: str, message: str) -> None:
    """Whatever cannot be followed is refused."""
    assert message in traced(line).refused
