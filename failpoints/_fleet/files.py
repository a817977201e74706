"""The files of a fleet: what the file system does at one moment, and what is left if a process dies in between.

Everything here raises `OSError` if the file system refuses, and leaves what was there.
"""

from __future__ import annotations

import os
import secrets
import select
import stat
import struct
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from .._core.locks import ForkSafeLock
from ..errors import FailpointUsageError
from .place import Record, Shown
from .state import Counts

if sys.platform != "win32":
    import fcntl

ASIDE: Final = ".new"
"""The end of the name of a file that is being written."""

_MAGIC: Final = b"failflt1"
_HEADER: Final = struct.Struct("=8sQ")  # what it is, and the revision that the member has
_RECORD: Final = struct.Struct("=7Q")  # a `Record`

_held: Final[set[Held | Pipe]] = set()  # of this process
_guard: Final = ForkSafeLock(held_while_forking=True)


def _close_inherited() -> None:
    """Close, in a forked child, what the parent holds: the child must not hold it after the parent's death."""
    for held in list(_held):
        held.close()


_guard.after_fork = _close_inherited


class Held:
    """A file that this process holds: another process sees when it is no longer there, however it ended."""

    __slots__ = ("_identity", "descriptor", "path")

    def __init__(self, path: Path, content: bytes = b"") -> None:
        """Make the file. It is held from the moment at which it has its name."""
        aside = path.with_name(f".{path.name}{ASIDE}")
        self.path = path
        with _guard.lock, _naming(path.parent):
            self.descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            self._identity = _identity(os.fstat(self.descriptor))
            _held.add(self)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(self.descriptor, content, 0)
            aside.rename(path)
        except BaseException:
            self.close()
            with suppress(OSError):
                aside.unlink()
            raise

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.path.name

    @property
    def is_open(self) -> bool:
        """Whether the descriptor is still that of the file. A program may close descriptors that it does not know."""
        try:
            return self.descriptor >= 0 and _identity(os.fstat(self.descriptor)) == self._identity
        except OSError:
            return False

    @property
    def is_in_place(self) -> bool:
        """Whether the file is held, and still has its name."""
        try:
            return self.is_open and _identity(self.path.stat()) == self._identity
        except OSError:
            return False

    def write(self, content: bytes, position: int) -> bool:
        """Write at a position, and return whether that could be done: the program may have closed the descriptor."""
        return self.is_open and os.pwrite(self.descriptor, content, position) == len(content)

    def touch(self) -> None:
        """Show that this process is not stopped."""
        if self.is_open:
            os.utime(self.descriptor)

    def close(self) -> None:
        """Hold the file no longer."""
        with _guard.lock:
            _held.discard(self)
            if self.is_open:  # else the descriptor may be another file's by now
                os.close(self.descriptor)
            self.descriptor = -1

    def remove(self) -> None:
        """Hold the file no longer, and remove it."""
        with suppress(OSError):
            if self.is_in_place:
                self.path.unlink()
        self.close()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def is_held(path: Path) -> bool:
    """Return whether a process holds a file; false if there is none."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def locked(path: Path) -> Generator[bool]:
    """Exclude every other block with this path, in all processes. Yields whether it could be entered at once."""
    with _guard.lock:  # so that no child is forked in the middle, which would go on to hold it
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)


@contextmanager
def _naming(path: Path) -> Generator[None]:
    """Let an error name a path, and not the file beside it, whose name differs each time: each error is logged once."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_aside(path: Path, text: str) -> None:
    """Replace a file at one moment."""
    aside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{ASIDE}")
    try:
        with _naming(path):
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise


# the file of a member


EMPTY_MEMBER: Final = _HEADER.pack(_MAGIC, 0)


def write_revision(file: Held, revision: int) -> None:
    """Acknowledge a revision."""
    file.write(_HEADER.pack(_MAGIC, revision), 0)


def write_record(file: Held, slot: int, record: Record) -> bool:
    """Write one record, and return whether it was written."""
    values = _RECORD.pack(record.serial, *record.counts, record.waiting, record.refused, record.version)
    return file.write(values, _HEADER.size + slot * _RECORD.size)


def read_member(path: Path) -> Shown | None:
    """Return the content of a member's file, or `None` if it is gone or is another file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(content) < _HEADER.size:
        return None
    magic, revision = _HEADER.unpack_from(content)
    if magic != _MAGIC:
        return None
    whole = len(content) - (len(content) - _HEADER.size) % _RECORD.size
    records: dict[int, Record] = {}
    for serial, *counts, waiting, refused, version in _RECORD.iter_unpack(content[_HEADER.size : whole]):
        if serial:
            records[serial] = Record(serial, Counts(*counts), waiting, bool(refused), version)
    return Shown(revision, records)


# tickets


def draw_ticket(path: Path) -> int:
    """Draw the next number, from 0, which no other draw of any process gets.

    The system appends a byte at one moment, and its position is the number. A process that dies then has used it up.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        if not os.write(descriptor, b"."):
            raise OSError(f"nothing was written to {path}")
        return os.lseek(descriptor, 0, os.SEEK_CUR) - 1
    finally:
        os.close(descriptor)


def make_tickets(path: Path) -> None:
    """Make the file from which tickets are drawn."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


# pipes


class Pipe:
    """A pipe at which this process waits. Raises `OSError` if the file system has none."""

    __slots__ = ("_descriptor", "_identity", "_path")

    def __init__(self, path: Path) -> None:
        self._path = path
        os.mkfifo(path, 0o600)
        with _guard.lock:
            self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self._identity = _identity(os.fstat(self._descriptor))
            _held.add(self)

    def wait(self, seconds: float) -> bool:
        """Wait until another process or thread wakes this one. Returns whether the pipe can be waited at."""
        poll = select.poll()
        try:
            if _identity(os.fstat(self._descriptor)) != self._identity:  # the program has closed it
                return False
            poll.register(self._descriptor, select.POLLIN)
            if poll.poll(seconds * 1000):
                os.read(self._descriptor, 4096)
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Wait there no longer."""
        with _guard.lock:
            _held.discard(self)
            with suppress(OSError):
                if _identity(os.fstat(self._descriptor)) == self._identity:
                    os.close(self._descriptor)


def wake(path: Path) -> None:
    """Wake the process that waits at a pipe. Does nothing if there is none."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # its process is gone
        return
    with suppress(OSError):  # the pipe is full, so that it wakes up anyway
        os.write(descriptor, b".")
    os.close(descriptor)


# folders

_FOLDERS: Final = ("members", "wake", "reports", "counts", "owners", "answers")
VISITS: Final = "visits"
"""The folder in which the members count their visits, if it is there."""

_FILES: Final = {*_FOLDERS, VISITS, "state.json", "lock"}


def check_folder(folder: Path) -> None:
    """Raise `FailpointUsageError` if the folder cannot be that of a fleet of this user."""
    if sys.platform == "win32":
        raise FailpointUsageError("a fleet in a folder needs file locks that Windows does not have", code="FP026")
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise FailpointUsageError(f"the fleet {str(folder)!r} is not a folder", code="FP026")
    if status.st_uid != os.geteuid():
        raise FailpointUsageError(
            f"the fleet's folder {str(folder)!r} belongs to another user, who could end this process: use one of your"
            " own",
            code="FP026",
        )
    if status.st_mode & 0o077:
        raise FailpointUsageError(
            f"the fleet's folder {str(folder)!r} is open to other users (mode {stat.S_IMODE(status.st_mode):04o}), and"
            f" anyone who can write there can end this process: use a folder of its own, made by mkdir -m 700",
            code="FP026",
        )
    foreign = [each.name for each in folder.iterdir() if each.name not in _FILES and not each.name.endswith(ASIDE)]
    if foreign:
        raise FailpointUsageError(
            f"the fleet's folder {str(folder)!r} has other files in it, such as {min(foreign)!r}: use an empty folder",
            code="FP026",
        )


def make_folder(folder: Path) -> None:
    """Make the folder of a fleet, and what belongs into it, unless it is there."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    check_folder(folder)
    for name in _FOLDERS:
        with suppress(FileExistsError):
            (folder / name).mkdir(mode=0o700)


def names_in(folder: Path) -> Iterator[str]:
    """Yield the names of the files in a folder, without those that are being written. None if there is no folder."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        if not name.endswith(ASIDE):
            yield name
