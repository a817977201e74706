"""The recorder in Python sees whatever a program does to its folder by Python's functions, and refuses what it cannot.

That a recording is complete is checked by the recorder itself: it compares the folder with what was recorded.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import mmap
import os
import pickle
import re
import shelve
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from functools import partial
from os import replace as taken_before
from pathlib import Path
from typing import Any

import anyio
import pytest

from failpoints import FailpointUsageError
from failpoints._crashes.explore import _folder
from failpoints._crashes.folder import write_folder
from failpoints._crashes.operations import Kind, Link, Make, Operation, Remove, Rename, Sync, Truncate, Write
from failpoints._crashes.recording import record
from failpoints.explore import explore_crashes

Act = Callable[[Path], object]


def recorded(act: Act, backend: str = "asyncio", recorder: str = "python") -> list[Operation]:
    with _folder() as folder:
        write_folder(folder, {}, {})
        ending, recording = record(
            act, (Path(folder),), folder, recorder=recorder, backend=backend, timeout=10, is_act=True
        )
    assert recording is not None, ending
    return list(recording.operations)


def text_modes(folder: Path) -> None:
    with open(folder / "a", "w", encoding="utf-8", newline="\n") as file:
        file.write("é\n")
        file.flush()
        file.write("two\n")
    with (folder / "a").open("a") as file:
        print("three", file=file)
    with open(folder / "a", "r+") as file:
        file.seek(2)
        file.write("X")
        file.truncate()
    with open(folder / "b", "x") as file:
        file.writelines(["1", "2"])
    with open(folder / "a", "w+b", buffering=0) as file:
        file.write(b"raw")
        file.seek(1)
        assert file.read() == b"aw"


def pathlib_ways(folder: Path) -> None:
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "a").write_text("a")
    (folder / "deep").rename(folder / "other")
    (folder / "other" / "er" / "a").replace(folder / "a")
    (folder / "b").hardlink_to(folder / "a")
    (folder / "c").symlink_to("a")
    (folder / "c").write_bytes(b"through the link")
    (folder / "d").touch()
    (folder / "c").unlink()
    (folder / "other" / "er").rmdir()


def shutil_ways(folder: Path) -> None:
    (folder / "a").write_bytes(b"x" * 100_000)
    shutil.copy(folder / "a", folder / "b")
    shutil.copyfile(__file__, folder / "from_outside")
    shutil.copytree(folder, folder.parent / "folder" / "copy", ignore=shutil.ignore_patterns("copy"))
    shutil.move(folder / "b", folder / "copy" / "moved")
    shutil.rmtree(folder / "copy")


def tempfile_ways(folder: Path) -> None:
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as kept:
        kept.write("kept")
    os.replace(kept.name, folder / "a")
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(b"gone")
    with tempfile.TemporaryFile(dir=folder) as unnamed:
        unnamed.write(b"unnamed")
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        Path(inside, "b").write_text("b")
    descriptor, path = tempfile.mkstemp(dir=folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"mkstemp")
    os.rename(path, folder / "b")


def descriptors(folder: Path) -> None:
    file = os.open(folder / "a", os.O_RDWR | os.O_CREAT)
    os.write(file, memoryview(b"12345678"))
    os.writev(file, [b"ab", b"cd"])
    os.pwrite(file, b"X", 3)
    os.lseek(file, 1, os.SEEK_SET)
    os.write(os.dup(file), b"Y")
    os.ftruncate(file, 5)
    os.truncate(folder / "a", 10)
    os.fdatasync(file)
    other = os.open("b", os.O_WRONLY | os.O_CREAT | os.O_APPEND, dir_fd=os.open(folder, os.O_RDONLY))
    os.write(other, b"12")
    os.lseek(other, 0, os.SEEK_SET)
    os.write(other, b"34")
    with open(file, "r+b", closefd=False) as same:
        same.write(b"Z")
    os.chdir(folder)
    os.rename("b", "c")
    os.sync()
    os.close(file)
    os.close(other)


def linux(folder: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("functions of Linux")
    file = os.open(folder / "a", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(file, 0, 10)
    os.pwritev(file, [b"ab", b"c"], 2)
    other = os.open(folder / "b", os.O_RDWR | os.O_CREAT)
    os.copy_file_range(file, other, 5)
    os.copy_file_range(file, other, 5, 1, 7)
    os.sendfile(other, file, 0, 4)
    unnamed = os.open(folder, os.O_RDWR | os.O_TMPFILE)
    os.write(unnamed, b"later")
    os.link(f"/proc/self/fd/{unnamed}", folder / "named", src_dir_fd=file)  # else Python follows no link


def standard_library(folder: Path) -> None:
    with gzip.open(folder / "a.gz", "wt") as file:
        file.write("text" * 100)
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("name", "content")
    with open(folder / "a.json", "w") as file:
        json.dump({"a": 1}, file)
    with open(folder / "a.pickle", "wb") as file:
        pickle.dump({"a": 1}, file)
    with shelve.Shelf(__import__("dbm.dumb").dumb.open(str(folder / "shelf"), "c")) as shelf:
        shelf["a"] = [1, 2]


def references_from_before(folder: Path) -> None:
    (folder / "a").write_text("a")
    taken_before(folder / "a", folder / "b")


def several_threads(folder: Path) -> None:
    turns = [threading.Event() for _ in range(4)]
    turns[0].set()

    def write(number: int) -> None:
        with open(folder / "log", "ab", buffering=0) as log:
            turns[number].wait(10)
            log.write(b"%d\n" % number)
            turns[number + 1].set()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    (folder / "log").touch()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    "act",
    [
        text_modes,
        pathlib_ways,
        shutil_ways,
        tempfile_ways,
        descriptors,
        linux,
        standard_library,
        references_from_before,
        several_threads,
    ],
    ids=lambda act: act.__name__,
)
def test_what_python_does_is_seen(act: Act) -> None:
    """Each way to change a folder is recorded completely."""
    assert recorded(act)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_programs(backend: str) -> None:
    """An async program is run, with its tasks and worker threads."""

    async def act(folder: Path) -> None:
        async def write(name: str) -> None:
            await anyio.to_thread.run_sync((folder / name).write_text, name)
            await anyio.Path(folder / name).rename(folder / f"{name}{name}")

        for name in "ab":
            await write(name)

    made = [operation.path for operation in recorded(act, backend) if isinstance(operation, Make | Rename)]
    assert made == ["a", "aa", "b", "bb"]


def test_the_operations_of_a_save() -> None:
    """Each operation is noted with what it did."""

    def save(folder: Path) -> None:
        with open(folder / "tmp", "w") as file:
            file.write("1234")
            file.flush()
            os.fsync(file.fileno())
        os.replace(folder / "tmp", folder / "state")
        place = os.open(folder, os.O_RDONLY)
        os.fsync(place)
        os.close(place)
        with open(folder / "state", "w") as file:
            file.write("5")
        os.link(folder / "state", folder / "other")
        os.remove(folder / "state")
        os.mkdir(folder / "sub")

    assert recorded(save) == [
        Make("tmp", 1),
        Write(1, 0, b"1234"),
        Sync(1),
        Rename("tmp", "state"),
        Sync(0),
        Truncate(1, 0),
        Write(1, 0, b"5"),
        Link("other", 1),
        Remove("state"),
        Make("sub", 2, Kind.FOLDER),
    ]


@pytest.mark.parametrize("flag", ["O_SYNC", "O_DSYNC"])
def test_synced_writes(flag: str) -> None:
    """Each write to a file that was opened with `O_SYNC` or `O_DSYNC` is durable once it returns."""

    def act(folder: Path) -> None:
        os.write(os.open(folder / "a", os.O_WRONLY | os.O_CREAT | getattr(os, flag)), b"12")

    assert recorded(act) == [Make("a", 1), Write(1, 0, b"12"), Sync(1)]


def test_renaming_a_file_to_its_own_other_name_does_nothing() -> None:
    """A rename between two names of one file changes nothing, and is not recorded."""

    def act(folder: Path) -> None:
        (folder / "a").touch()
        os.link(folder / "a", folder / "b")
        os.rename(folder / "a", folder / "b")

    assert recorded(act) == [Make("a", 1), Link("b", 1)]


def test_random_names_are_the_same_each_time() -> None:
    """Names and ids that Python draws at random are the same in each recording."""

    def act(folder: Path) -> None:
        descriptor, _ = tempfile.mkstemp(dir=folder)
        os.write(descriptor, os.urandom(8))

    assert recorded(act) == recorded(act)


def write_outside(folder: Path, outside: Path) -> None:
    (outside / "a").write_text("a")


def rename_outside(folder: Path, outside: Path) -> None:
    (folder / "a").touch()
    (folder / "a").rename(outside / "a")


def swallow(folder: Path, outside: Path) -> None:
    try:
        (outside / "a").write_text("a")
    except Exception:
        pass


def leave_thread(folder: Path, outside: Path) -> None:
    threading.Thread(target=time.sleep, args=(60,), daemon=True, name="writer").start()


def end_child() -> None:
    """Start a child process, and wait until it has ended, but keep its exit status for a later wait."""
    child = os.posix_spawn(sys.executable, [sys.executable, "-S", "-c", ""], os.environ)
    assert os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)


def leave_child(folder: Path, outside: Path) -> None:
    end_child()
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def write_by_child(folder: Path, outside: Path) -> None:
    subprocess.run(["touch", folder / "a"], check=True)


def write_by_c(folder: Path, outside: Path) -> None:
    sqlite3.connect(folder / "db").execute("CREATE TABLE t (a)")


def write_by_map(folder: Path, outside: Path) -> None:
    with open(folder / "a", "w+b") as file:
        file.write(b"12345678")
        file.flush()
        mmap.mmap(file.fileno(), 8)


def use_network(folder: Path, outside: Path) -> None:
    socket.create_connection(("127.0.0.1", 9), timeout=1)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (write_outside, r"writes to a file outside of its folder: /.*/a"),
        (rename_outside, r"changes a file outside of its folder: /.*/a"),
        (swallow, r"writes to a file outside of its folder: /.*/a"),
        (leave_thread, r"leaves a thread behind, which may go on writing: 'writer'"),
        (leave_child, r"leaves a child process behind"),
        (write_by_child, r"'a' was not seen to be made\. recorder='strace' sees"),
        (write_by_c, r"'db' was not seen to be made\. recorder='strace' sees"),
        (write_by_map, r"maps a file of the folder into memory"),
        (use_network, r"uses the network \(socket\.(connect|getaddrinfo)\)"),
    ],
)
def test_what_cannot_be_recorded_is_refused(act: Callable[[Path, Path], None], message: str, tmp_path: Path) -> None:
    """A program that does what cannot be recorded is refused, even if it swallows the error."""
    with pytest.raises(FailpointUsageError, match=message):
        explore_crashes(partial(act, outside=tmp_path), lambda folder, acknowledged: None)
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_was_not_waited_for_is_not_left_behind() -> None:
    """A child process that has ended does not go on writing."""

    def act(folder: Path) -> None:
        (folder / "a").touch()
        end_child()
        end_child()

    assert recorded(act) == [Make("a", 1)]


def test_reading_is_not_refused(tmp_path: Path) -> None:
    """A program may read files anywhere, also by a map, and write to devices and pipes."""

    def act(folder: Path) -> None:
        (folder / "a").write_bytes(Path(__file__).read_bytes())
        with open(folder / "a", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert mapped[:3] == b'"""'
        with open(os.devnull, "w") as device:
            device.write("nothing")
        asyncio.run(asyncio.sleep(0))
        assert subprocess.run(["true"], check=True).returncode == 0

    assert recorded(act)


def test_the_modules_are_as_they_were() -> None:
    """Recording replaces functions in another process only."""
    before: list[Any] = [open, os.open, os.replace, tempfile.NamedTemporaryFile]
    recorded(text_modes)
    assert before == [open, os.open, os.replace, tempfile.NamedTemporaryFile]
    assert re.search("built-in", repr(os.replace))


class Lazy:
    """Stands for another object, which it makes when its class is asked for, as Django's settings do."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("made too early")


class Compared(type):
    """A class of classes that cannot be hashed."""

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("compared")

    __hash__ = None  # type: ignore[assignment]


def test_no_object_is_touched() -> None:
    """Looking for references to functions runs no code of the program."""
    kept = [Lazy(), Compared("Class", (), {"function": staticmethod(os.replace)})]
    assert recorded(references_from_before)
    assert len(kept) == 2


def test_the_public_module_needs_nothing_of_unix() -> None:
    """`failpoints.explore` does not import what records, whose modules Windows does not have."""
    program = "import sys, failpoints.explore; sys.exit('failpoints._crashes.files' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
