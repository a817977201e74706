"""`instrument_files` puts failpoints on the functions that change files, and `explore` makes them fail."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from failpoints import FailpointUsageError, configured, resume, status, wait_until_paused_sync
from failpoints.explore import Exploration, ExplorationFailed, Run, explore
from failpoints.files import instrument_files
from tests.crashes import test_recorder as ways

Act = Callable[[Path], object]


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def save(folder: Path, text: str) -> None:
    with open(folder / "new", "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(folder / "new", folder / "state")


def saving(top: Path, act: Act, check: Act, **options: Any) -> Exploration:
    """Explore the faults of *act* on a folder in which "old" is saved, and run *check* after each."""

    async def scenario(run: Run) -> None:
        folder = Path(tempfile.mkdtemp(dir=top))
        save(folder, "old")
        async with run.injecting():
            act(folder)
        check(folder)

    with instrument_files(top):
        return explore(scenario, **options)


@pytest.mark.parametrize(
    "act",
    [
        *(ways.text_modes, ways.pathlib_ways, ways.shutil_ways, ways.tempfile_ways, ways.descriptors, ways.linux),
        *(ways.standard_library, ways.references_from_before, ways.several_threads),
    ],
    ids=lambda act: act.__name__,
)
def test_without_a_fault_nothing_changes(act: Act, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs do the same in a folder that is instrumented, and visit its failpoints."""
    monkeypatch.chdir(tmp_path)  # of which there is a copy to return to
    found: list[dict[str, Any]] = []
    for name in ("one", "two"):
        folder = tmp_path / name / "folder"
        folder.mkdir(parents=True)
        if name == "one":
            act(folder)
        else:
            with instrument_files(folder), configured("files.open", "off"):
                act(folder)
                assert status("files.open").hits
        found.append(contents(folder))
    assert set(found[0]) == set(found[1]) or act is ways.tempfile_ways
    changing = {"a.gz", "a.zip"}  # which have the time in them
    assert all(found[0][name] == found[1].get(name, found[0][name]) for name in set(found[0]) - changing)


def write(folder: Path) -> None:
    os.write(os.open(folder / "state", os.O_WRONLY), b"12345678")


def truncate(folder: Path) -> None:
    os.truncate(folder / "state", 1)


def sync(folder: Path) -> None:
    os.fsync(os.open(folder, os.O_RDONLY))


@pytest.mark.parametrize(
    ("name", "act", "paths"),
    [
        ("files.open", lambda folder: (folder / "a").touch(), ["a"]),
        ("files.write", write, []),
        ("files.truncate", truncate, ["state"]),
        ("files.fsync", sync, []),
        ("files.rename", lambda folder: (folder / "state").rename(folder / "a"), ["state", "a"]),
        ("files.link", lambda folder: os.link(folder / "state", folder / "a"), ["state", "a"]),
        ("files.symlink", lambda folder: os.symlink(folder / "state", folder / "a"), ["state", "a"]),
        ("files.mkdir", lambda folder: (folder / "a").mkdir(), ["a"]),
        ("files.remove", lambda folder: (folder / "state").unlink(), ["state"]),
    ],
)
def test_each_function_can_fail(name: str, act: Act, paths: list[str], tmp_path: Path) -> None:
    """Each failpoint raises the error that it is to return, as its function does, and the folder stays as it was."""
    save(tmp_path, "old")
    with instrument_files(tmp_path), configured(name, "return(EDQUOT)"):
        with pytest.raises(OSError, match="Disk quota exceeded") as failed:
            act(tmp_path)
        assert status(name).triggers == 1
    assert failed.value.errno == errno.EDQUOT
    found = [Path(path).name for path in (failed.value.filename, failed.value.filename2) if path is not None]
    assert found == paths
    assert contents(tmp_path) == {"state": b"old"}


def test_a_short_write(tmp_path: Path) -> None:
    """A short write has an effect where a program does not look at the number that `write` returns."""
    with instrument_files(tmp_path), configured("files.write", "1*return(short_write:3)"):
        file = os.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT)
        assert os.write(file, b"12345678") == 3
        assert os.write(file, b"45") == 2
    with instrument_files(tmp_path), configured("files.write", "return(short_write)"):
        (tmp_path / "b").write_text("12345678")
        assert status("files.write").triggers == 4  # of 8, 4, 2 and 1 bytes
    assert contents(tmp_path) == {"a": b"12345", "b": b"12345678"}


@pytest.mark.parametrize(
    "write",
    [
        lambda file, source: os.write(file, b"12345678"),
        lambda file, source: os.writev(file, [b"12", b"3456", b"78"]),
        lambda file, source: os.pwrite(file, b"12345678", 0),
        lambda file, source: os.pwritev(file, [b"1234", b"5678"], 0),
        lambda file, source: os.sendfile(file, source, 0, 100),
        lambda file, source: os.copy_file_range(source, file, 100),
    ],
)
def test_a_disk_that_is_full_at_a_byte(write: Callable[[int, int], int], tmp_path: Path) -> None:
    """Of a write up to the byte at which the disk is full, the rest is missing, and later writes fail."""
    (tmp_path / "source").write_bytes(b"12345678")
    source = os.open(tmp_path / "source", os.O_RDONLY)
    with instrument_files(tmp_path), configured("files.write", "1*return(ENOSPC:5)"):
        file = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
        assert write(file, source) == 5
        with pytest.raises(OSError, match="No space left on device"):
            os.pwrite(file, b"6", 5)
        with pytest.raises(OSError, match="No space left on device"):
            (tmp_path / "b").write_bytes(b"1")
        os.pwrite(file, b"X", 4)  # which needs no more space
    os.close(file)
    os.close(source)
    assert contents(tmp_path) == {"a": b"1234X", "b": b"", "source": b"12345678"}


def test_an_fsync_that_fails_loses_what_was_written(tmp_path: Path) -> None:
    """After an fsync that fails, the file is what it was when it was last synced. The next one succeeds."""
    with instrument_files(tmp_path):
        with open(tmp_path / "a", "w+b", buffering=0) as file:
            file.write(b"1234")
            os.fsync(file.fileno())
            file.write(b"56")
            os.ftruncate(file.fileno(), 5)
            with configured("files.fsync", "return(EIO)"), pytest.raises(OSError, match="Input/output error"):
                os.fsync(file.fileno())
            os.fsync(file.fileno())
            assert (tmp_path / "a").read_bytes() == b"1234"
        with open(tmp_path / "a", "wb") as file:  # truncated
            with configured("files.fsync", "return(EIO)"), pytest.raises(OSError, match="Input/output error"):
                os.fsync(file.fileno())
            assert (tmp_path / "a").read_bytes() == b"1234"
    with instrument_files(tmp_path):
        os.remove(tmp_path / "a")
        with open(tmp_path / "b", "wb", buffering=0) as file:  # likely with the inode of the other one
            file.write(b"1")
            with configured("files.fsync", "return(EIO)"), pytest.raises(OSError, match="Input/output error"):
                os.fsync(file.fileno())
    assert contents(tmp_path) == {"b": b""}


def append_and_try_again(folder: Path) -> None:
    with open(folder / "state", "ab", buffering=0) as file:
        file.write(b", new")
        try:
            os.fsync(file.fileno())
        except OSError:
            os.fsync(file.fileno())  # what PostgreSQL did until 2018


def has_all(folder: Path) -> None:
    assert (folder / "state").read_text() == "old, new"


def test_trying_fsync_again_is_found(tmp_path: Path) -> None:
    """A program that takes the success of a second fsync for success loses data. Its failure is repeated exactly."""
    faults = {"files.fsync": ["return(EIO)"], "*": []}
    with pytest.raises(ExplorationFailed) as failed:
        saving(tmp_path, append_and_try_again, has_all, faults=faults)
    (fault,) = failed.value.failure.faults
    assert fault == "files.fsync=return(EIO)"
    assert "files.fsync" in str(failed.value)
    assert "test_file_faults.py:" in next(line for line in failed.value.failure.timeline if "injected" in line)
    with pytest.raises(ExplorationFailed) as replayed:
        saving(tmp_path, append_and_try_again, has_all, faults=faults, replay=failed.value.replay)
    assert replayed.value.failure.faults == failed.value.failure.faults


def is_whole(folder: Path) -> None:
    assert (folder / "state").read_text() in ("old", "new")
    save(folder, "later")  # there is space again
    assert (folder / "state").read_text() == "later"


def test_a_save_that_survives_every_fault(tmp_path: Path) -> None:
    """With every fault of each function, up to two in one run, a file that is replaced as a whole stays whole."""
    result = saving(tmp_path, lambda folder: save(folder, "new"), is_whole, max_faults=2)
    assert result.exhaustive
    # Without a fault; with each of the 5; and with one of 4 more, once the rest of a short write is written.
    assert (result.runs, set(result.hits)) == (10, {"files.open", "files.write", "files.fsync", "files.rename"})


def test_writing_in_place_is_found(tmp_path: Path) -> None:
    """A file that is overwritten is damaged once the disk is full."""
    with pytest.raises(ExplorationFailed) as failed:
        saving(tmp_path, lambda folder: (folder / "state").write_text("new") and None, is_whole)
    assert failed.value.failure.faults == ("files.write=return(ENOSPC:half)",)


def move(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "state").write_text("new")
    try:
        os.replace(folder / "sub" / "state", folder / "state")
    except OSError:
        shutil.copyfile(folder / "sub" / "state", folder / "state")


def test_failures_of_two_faults_are_minimised(tmp_path: Path) -> None:
    """A bug in what is done after a fault is found with a second one, and only these two are in the failure."""
    faults = {"files.rename": ["return(EXDEV)"], "files.write": ["return(ENOSPC:0)"], "*": []}
    with pytest.raises(ExplorationFailed) as failed:
        saving(tmp_path, move, is_whole, faults=faults, max_faults=2)
    assert failed.value.failure.faults == ("files.rename=return(EXDEV)", "files.write=return(ENOSPC:0)")


def test_a_move_to_another_device(tmp_path: Path) -> None:
    """Between two folders, a rename fails by default as it does between two devices, which `shutil.move` copes with."""
    seen: list[int | None] = []

    def act(folder: Path) -> None:
        (folder / "sub").mkdir()
        shutil.move(folder / "state", folder / "sub" / "state")
        try:
            os.rename(folder / "sub" / "state", folder / "state")
        except OSError as error:
            seen.append(error.errno)
            raise

    result = saving(tmp_path, act, lambda folder: None)
    assert result.exhaustive
    assert seen == [errno.EXDEV]


@pytest.mark.parametrize(
    ("act", "faults", "message"),
    [
        (write, {"files.write": ["return(EINTR)"]}, r"repeats this system call after EINTR \(PEP 475\)"),
        (sync, {"files.fsync": ["raise(InterruptedError)"]}, r"repeats this system call after EINTR \(PEP 475\)"),
        (write, {"files.write": ["return(EI0)"]}, r"the name of an error, such as EIO, or short_write.*; got 'EI0'"),
        (write, {"files.write": ["return(short_writ)"]}, r"got 'short_writ'; did you mean 'short_write'\?"),
        (sync, {"files.fsync": ["return(short_write)"]}, r"the name of an error, such as EIO; got 'short_write'"),
        (write, {"files.write": ["return(EIO:3)"]}, r"a number of bytes has a meaning after ENOSPC and short_write"),
        (write, {"files.write": ["return"]}, r"the name of an error, such as EIO"),
    ],
)
def test_faults_that_cannot_be(act: Act, faults: Any, message: str, tmp_path: Path) -> None:
    """A fault that has no meaning, or that no program can see in Python, is a usage error."""
    with pytest.raises(FailpointUsageError, match=message):
        saving(tmp_path, act, lambda folder: None, faults={**faults, "*": []})


def test_an_interruption_where_a_program_sees_it(tmp_path: Path) -> None:
    """CPython does not repeat a rename after EINTR, so it can be injected there."""
    save(tmp_path, "old")
    with instrument_files(tmp_path), configured("files.rename", "return(EINTR)"), pytest.raises(InterruptedError):
        os.rename(tmp_path / "state", tmp_path / "other")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_programs_and_worker_threads(backend: Any, tmp_path: Path) -> None:
    """Faults are injected in tasks and in worker threads, on both event loops."""
    failed: list[str] = []

    async def scenario(run: Run) -> None:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        async with run.injecting():
            (folder / "a").write_bytes(b"1")
            async with await anyio.open_file(folder / "b", "wb") as file:
                await file.write(b"2")
            await anyio.Path(folder / "b").rename(folder / "c")
        failed.append(type(run.error).__name__)

    with instrument_files(tmp_path):
        result = explore(scenario, backend=backend)
    assert failed == ["NoneType", *["OSError"] * 5]
    assert result.hits == {"files.open": 10, "files.write": 8, "files.rename": 2}


def test_a_thread_that_no_fault_reaches(tmp_path: Path) -> None:
    """A thread that an async scenario starts by itself is out of reach, which the verdict mentions."""

    def act(folder: Path) -> None:
        thread = threading.Thread(target=save, args=(folder, "new"))
        thread.start()
        thread.join()

    def scenario(run: Run) -> None:
        with run.injecting():
            act(Path(tempfile.mkdtemp(dir=tmp_path)))

    result = saving(tmp_path, act, lambda folder: None)
    assert result.bounds == ("a thread that the scenario has started by itself changed files, and no fault reaches it",)
    with instrument_files(tmp_path):
        assert explore(scenario).exhaustive


def test_only_files_of_the_folder(tmp_path: Path) -> None:
    """Files elsewhere are not visited, and pipes neither."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    with instrument_files(inside), configured("files.write", "return(EIO)"), configured("files.symlink", "return(EIO)"):
        save(outside, "new")
        with pytest.raises(OSError, match="Input/output error"):
            os.symlink(outside, inside / "link")
        reading, writing = os.pipe()
        os.write(writing, b"1")
        os.close(reading)
        os.close(writing)
    assert contents(outside) == {"state": b"new"}


def test_the_functions_are_restored(tmp_path: Path) -> None:
    """At the end of the last block, all functions are the original ones, also those of which there were references."""
    before: list[Any] = [open, os.open, os.replace, os.unlink, ways.taken_before, tempfile.NamedTemporaryFile]
    supported = set(os.supports_dir_fd)
    with instrument_files(tmp_path):
        with instrument_files(tmp_path):
            taken_inside = os.replace
        kept = open(tmp_path / "a", "w")  # noqa: SIM115 - stays open
        assert os.replace is not before[2]
        assert ways.taken_before is os.replace
    assert before == [open, os.open, os.replace, os.unlink, ways.taken_before, tempfile.NamedTemporaryFile]
    assert os.supports_dir_fd == supported
    with configured("files.rename", "return(EIO)"), configured("files.write", "return(EIO)"):
        kept.write("1")
        kept.close()
        taken_inside(tmp_path / "a", tmp_path / "b")
    assert contents(tmp_path) == {"b": b"1"}


def test_a_log_in_the_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is written to carry out a visit is not visited itself."""
    handler = logging.FileHandler(tmp_path / "log")
    logger = logging.getLogger("failpoints")
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, "failpoints"), instrument_files(tmp_path), configured("files.open", "off"):
            (tmp_path / "a").touch()
            assert status("files.open").hits == 1
    finally:
        logger.removeHandler(handler)
        handler.close()
    assert "files.open" in (tmp_path / "log").read_text()


def test_a_thread_is_held(tmp_path: Path) -> None:
    """Every action of a failpoint can be configured: a thread is held before its write, and others go on."""
    with instrument_files(tmp_path), configured("files.write", "pause", context={"path": "a"}):
        thread = threading.Thread(target=(tmp_path / "a").write_text, args=("1",))
        thread.start()
        wait_until_paused_sync("files.write")
        (tmp_path / "b").write_text("2")
        assert contents(tmp_path) == {"a": b"", "b": b"2"}
        resume("files.write")
        thread.join(10)
    assert contents(tmp_path) == {"a": b"1", "b": b"2"}


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    """A folder that does not exist is refused."""
    with pytest.raises(FailpointUsageError, match=r"takes a folder that exists; got .*missing"):
        instrument_files(tmp_path / "missing").__enter__()
