"""Small programs that save files in the usual ways, each right and with the usual mistake.

How many states and how many broken ones each has, is known from the plain model of the disk as well.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import shutil
import threading
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from failpoints._crashes.operations import Acknowledge, Kind, Make, Sync
from failpoints.explore import CrashExploration, ExplorationFailed, acknowledge, explore_crashes
from tests.crashes.model import all_states
from tests.crashes.test_recorder import recorded
from tests.crashes.test_strace import why_not

Act = Callable[[Path], object]
Check = Callable[[Path, list[Any]], object]


def sync(path: Path) -> None:
    place = os.open(path, os.O_RDONLY)
    os.fsync(place)
    os.close(place)


def last(acknowledged: list[int]) -> int:
    return acknowledged[-1] if acknowledged else 0


# An append-only log, whose last line may be torn


def line(number: int) -> bytes:
    return b"%d %08x\n" % (number, zlib.crc32(b"%d" % number))


def append_lines(folder: Path) -> None:
    with open(folder / "log", "ab", buffering=0) as log:
        sync(folder)
        for number in (1, 2):
            log.write(line(number))
            os.fdatasync(log)
            acknowledge(number)


def lines_before_damage(folder: Path) -> list[int]:
    numbers: list[int] = []
    for text in (folder / "log").read_bytes().splitlines(keepends=True) if (folder / "log").exists() else []:
        number = len(numbers) + 1
        if text != line(number):
            break
        numbers.append(number)
    return numbers


def check_sums(folder: Path, acknowledged: list[int]) -> None:
    assert len(lines_before_damage(folder)) in (last(acknowledged), last(acknowledged) + 1)


def trust_lines(folder: Path, acknowledged: list[int]) -> None:
    for text in (folder / "log").read_bytes().splitlines() if (folder / "log").exists() else []:
        number, checksum = text.split()
        assert int(checksum, 16) == zlib.crc32(number)


# A log and its compaction into a snapshot


def compact(folder: Path, *, is_synced: bool) -> None:
    with open(folder / "log", "ab", buffering=0) as log:
        log.write(line(1))
        os.fsync(log)
        sync(folder)
        acknowledge(1)
        with open(folder / "new", "wb", buffering=0) as snapshot:
            snapshot.write(line(1))
            os.fsync(snapshot)
        os.replace(folder / "new", folder / "snapshot")
        if is_synced:
            sync(folder)
        log.truncate(0)
        os.fsync(log)
        log.write(line(2))
        os.fsync(log)
        acknowledge(2)


def check_compacted(folder: Path, acknowledged: list[int]) -> None:
    snapshot = (folder / "snapshot").read_bytes() if (folder / "snapshot").exists() else b""
    log = (folder / "log").read_bytes() if (folder / "log").exists() else b""
    assert snapshot in (b"", line(1))
    found = [number for number in (1, 2) if line(number) in (snapshot, log)]
    assert last(acknowledged) <= len(found)


# Two files that must agree, with a journal


def transfer(folder: Path, *, is_synced: bool) -> None:
    for name in "ab":
        (folder / name).write_text("10")
    os.sync()
    acknowledge(0)
    with open(folder / "journal", "wb", buffering=0) as journal:
        journal.write(b"5 15.")
        os.fsync(journal)
    sync(folder)
    for name, amount in (("a", b"5"), ("b", b"15")):
        with open(folder / name, "wb", buffering=0) as account:
            account.write(amount)
            if is_synced:
                os.fsync(account)
    os.unlink(folder / "journal")
    sync(folder)
    acknowledge(1)


def check_transfer(folder: Path, acknowledged: list[int]) -> None:
    if not acknowledged:
        return
    if (folder / "journal").exists() and (folder / "journal").read_text().endswith("."):
        for name, amount in zip("ab", (folder / "journal").read_text()[:-1].split(), strict=True):
            (folder / name).write_text(amount)
    assert sum(int((folder / name).read_text()) for name in "ab") == 20


# Folders


def save_in_folder(folder: Path, *, is_synced: bool) -> None:
    (folder / "deep").mkdir()
    with open(folder / "deep" / "state", "wb", buffering=0) as file:
        file.write(b"1")
        os.fsync(file)
    if is_synced:
        sync(folder / "deep")
        sync(folder)
    acknowledge(1)


def is_in_folder(folder: Path, acknowledged: list[int]) -> None:
    assert not acknowledged or (folder / "deep" / "state").read_bytes() == b"1"


def move_to_folder(folder: Path, *, is_synced: bool) -> None:
    (folder / "new").mkdir()
    (folder / "done").mkdir()
    with open(folder / "new" / "job", "wb", buffering=0) as file:
        file.write(b"12")
        os.fsync(file)
    sync(folder / "new")
    sync(folder)
    acknowledge(1)
    os.replace(folder / "new" / "job", folder / "done" / "job")
    if is_synced:
        sync(folder / "done")
    acknowledge(2)


def is_in_one_folder(folder: Path, acknowledged: list[int]) -> None:
    new, done = folder / "new" / "job", folder / "done" / "job"
    if acknowledged:
        assert new.exists() != done.exists()
        assert (new if new.exists() else done).read_bytes() == b"12"
    assert last(acknowledged) < 2 or done.exists()


# Hard links


def publish(folder: Path, *, is_synced: bool) -> None:
    with open(folder / "new", "wb", buffering=0) as file:
        file.write(b"12")
        if is_synced:
            os.fsync(file)
    os.link(folder / "new", folder / "state")
    os.unlink(folder / "new")


def is_published_whole(folder: Path, acknowledged: list[int]) -> None:
    assert not (folder / "state").exists() or (folder / "state").read_bytes() == b"12"


# Files that are open several times


def two_descriptors(folder: Path, *, is_synced: bool) -> None:
    file = os.open(folder / "state", os.O_WRONLY | os.O_CREAT)
    other = os.open(folder / "state", os.O_WRONLY)
    sync(folder)
    os.pwrite(file, b"12", 0)
    if is_synced:
        os.fsync(other)  # it is about the file, whoever has written
    acknowledge(1)


def has_12(folder: Path, acknowledged: list[int]) -> None:
    assert not acknowledged or (folder / "state").read_bytes()[:2] == b"12"


def append_in_threads(folder: Path, *, is_synced: bool) -> None:
    log = os.open(folder / "state", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sync(folder)
    first_done = threading.Event()

    def append(text: bytes, before: threading.Event | None) -> None:
        if before is not None:
            before.wait(30)
        os.write(log, text)
        first_done.set()

    threads = [threading.Thread(target=append, args=given) for given in ((b"12", None), (b"34", first_done))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if is_synced:
        os.fsync(log)
    acknowledge(1)


async def append_in_tasks(folder: Path, *, is_synced: bool) -> None:
    log = os.open(folder / "state", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sync(folder)
    first_done = anyio.Event()

    async def append(text: bytes, before: anyio.Event | None) -> None:
        if before is not None:
            await before.wait()
        await anyio.to_thread.run_sync(os.write, log, text)
        first_done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(append, b"34", first_done)
        tasks.start_soon(append, b"12", None)
    if is_synced:
        os.fsync(log)
    acknowledge(1)


def has_1234(folder: Path, acknowledged: list[int]) -> None:
    assert not acknowledged or (folder / "state").read_bytes() == b"1234"


# Sizes, and writes that are synced by themselves


def cut(folder: Path, *, is_synced: bool) -> None:
    (folder / "state").write_text("1234")
    os.sync()
    acknowledge(0)
    file = os.open(folder / "state", os.O_WRONLY)
    os.ftruncate(file, 2)
    if is_synced:
        os.fdatasync(file)
    acknowledge(1)


def is_cut(folder: Path, acknowledged: list[int]) -> None:
    assert not acknowledged or (folder / "state").read_text() in ("12", "1234")[: 2 - last(acknowledged)]


def write_synced(folder: Path, *, is_synced: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | (os.O_DSYNC if is_synced else 0)
    file = os.open(folder / "state", flags)
    sync(folder)
    os.write(file, b"12")
    acknowledge(1)


RIGHT, WRONG = {"is_synced": True}, {"is_synced": False}


@pytest.mark.parametrize(
    ("act", "check", "states", "broken"),
    [
        pytest.param(append_lines, check_sums, 8, 0, id="log"),
        pytest.param(append_lines, trust_lines, 8, 2, id="log without checksums"),
        pytest.param(partial(compact, **RIGHT), check_compacted, 13, 0, id="compaction"),
        pytest.param(partial(compact, **WRONG), check_compacted, 21, 6, id="compaction too early"),
        pytest.param(partial(transfer, **RIGHT), check_transfer, 24, 0, id="journal"),
        pytest.param(partial(transfer, **WRONG), check_transfer, 37, 10, id="journal removed too early"),
        pytest.param(partial(save_in_folder, **RIGHT), is_in_folder, 5, 0, id="folder"),
        pytest.param(partial(save_in_folder, **WRONG), is_in_folder, 7, 2, id="folder without fsync"),
        pytest.param(partial(move_to_folder, **RIGHT), is_in_one_folder, 9, 0, id="move"),
        pytest.param(partial(move_to_folder, **WRONG), is_in_one_folder, 10, 1, id="move without fsync"),
        pytest.param(partial(publish, **RIGHT), is_published_whole, 6, 0, id="link"),
        pytest.param(partial(publish, **WRONG), is_published_whole, 10, 4, id="link without fsync"),
        pytest.param(partial(two_descriptors, **RIGHT), has_12, 5, 0, id="two descriptors"),
        pytest.param(partial(two_descriptors, **WRONG), has_12, 7, 2, id="two descriptors without fsync"),
        pytest.param(partial(append_in_threads, **RIGHT), has_1234, 11, 0, id="threads"),
        pytest.param(partial(append_in_threads, **WRONG), has_1234, 19, 8, id="threads without fsync"),
        pytest.param(partial(append_in_tasks, **RIGHT), has_1234, 11, 0, id="tasks"),
        pytest.param(partial(append_in_tasks, **WRONG), has_1234, 19, 8, id="tasks without fsync"),
        pytest.param(partial(cut, **RIGHT), is_cut, 7, 0, id="truncate"),
        pytest.param(partial(cut, **WRONG), is_cut, 8, 1, id="truncate without fdatasync"),
        pytest.param(partial(write_synced, **RIGHT), has_12, 5, 0, id="O_DSYNC"),
        pytest.param(partial(write_synced, **WRONG), has_12, 7, 2, id="without O_DSYNC"),
    ],
)
def test_usual_programs(act: Act, check: Check, states: int, broken: int, tmp_path: Path) -> None:
    """A program has exactly the states, and the broken ones, that the plain model has for it."""
    exploration = explored(act, check)
    assert by_the_model(act, check, tmp_path / "model") == (exploration.states, exploration.broken)
    assert (exploration.states, exploration.broken, exploration.exhaustive) == (states, broken, True)


def explored(act: Act, check: Check, **options: Any) -> CrashExploration:
    try:
        return explore_crashes(act, check, max_failures=None, **options)
    except ExplorationFailed as failed:
        exploration: CrashExploration = failed.exploration
        return exploration


def by_the_model(act: Act, check: Check, folder: Path) -> tuple[int, int]:
    """Return how many states the plain model has, and on how many of them `check` fails."""
    operations = recorded(act)
    values = [pickle.loads(each.value) for each in operations if isinstance(each, Acknowledge)]
    folders = {each.path for each in operations if isinstance(each, Make) and each.kind is Kind.FOLDER}
    found = all_states(operations, "power")
    broken = 0
    for files, acknowledged in found:
        folder.mkdir()
        for path, data in files:
            (folder / path).mkdir() if path in folders else (folder / path).write_bytes(data)
        try:
            check(folder, values[:acknowledged])
        except (AssertionError, OSError, ValueError):
            broken += 1
        shutil.rmtree(folder)
    return len(found), broken


def write_range(folder: Path) -> None:
    file = os.open(folder / "state", os.O_WRONLY | os.O_CREAT)
    sync(folder)
    os.write(file, b"12")
    assert ctypes.CDLL(None).sync_file_range(file, ctypes.c_int64(0), ctypes.c_int64(2), 7) == 0
    acknowledge(1)


def test_sync_file_range_promises_nothing() -> None:
    """What `sync_file_range` was called for may be lost, as without it: it syncs neither the size nor the disk."""
    if why_not():
        pytest.skip(why_not())
    exploration = explored(write_range, has_12, recorder="strace")
    assert (exploration.states, exploration.broken) == (7, 2)
    assert Sync(1) not in recorded(write_range, recorder="strace")
