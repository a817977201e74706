"""What a sequence of system calls does to the files of a folder."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from .content import Content
from .disk import Disk, applied, renamed
from .operations import ROOT, Kind, Link, Make, Operation, Remove, Rename, Sync, Truncate, Write, relative_to
from .syscalls import Call

TRACED: Final = (
    *("open", "openat", "openat2", "creat", "close", "close_range", "dup", "dup2", "dup3", "fcntl", "lseek"),
    *("read", "readv", "write", "writev", "pwrite64", "pwritev", "pwritev2", "sendfile", "copy_file_range"),
    *(
        "truncate",
        "ftruncate",
        "fallocate",
        "rename",
        "renameat",
        "renameat2",
        "link",
        "linkat",
        "symlink",
        "symlinkat",
    ),
    *("unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "fsync", "fdatasync", "sync", "syncfs", "mmap"),
    *("chdir", "fchdir", "clone", "clone3", "fork", "vfork", "connect", "bind", "sendto"),
)
"""The system calls to trace. What others do to the folder is found when the folder is compared."""

MARKER: Final = "failpoints-marker"
"""The name of a file in memory. To it the program writes `BEGIN`, pickled operations of its own, and `END`."""

BEGIN: Final = b"begin"
END: Final = b"end"
_ELSEWHERE: Final = ("/dev/", "/proc/", "/sys/")


class _Refused(Exception):
    pass


@dataclass(slots=True)
class _Opened:
    """An open file, which several descriptors may share. Its file has a number if it is in the folder."""

    path: str
    number: int | None
    position: int = 0
    is_appending: bool = False
    is_synced: bool = False


@dataclass(slots=True)
class _Process:
    """A process or a thread: its descriptors, and its current folder, which it may share with others."""

    opened: dict[int, _Opened]
    folder: list[str]

    def started(self, *, shares: bool) -> _Process:
        return self if shares else _Process(dict(self.opened), list(self.folder))


class Traced:
    """Follows system calls, from a folder at *root* on.

    Args:
        root: The folder.
        start: What is in it.
    """

    def __init__(self, root: str, start: Disk) -> None:
        self.operations: list[Operation] = []
        self.refused = ""
        self.is_complete = False  # whether the program was seen from `BEGIN` to `END`
        self.mapped: dict[int, str] = {}  # files that are written to by mmap, with a path of each
        self._root = root
        self._is_running = False
        self._names = start.current
        self._targets = {number: file.target for number, file in start.files.items() if file.kind is Kind.LINK}
        self._contents = {number: file.content for number, file in start.files.items()}
        self._processes: dict[int, _Process] = {}
        self._starting: list[tuple[int, bool]] = []  # processes that start another one, and whether they share files

    def follow(self, calls: Iterable[Call]) -> None:
        """Take in the calls."""
        try:
            for call in calls:
                method: Callable[[Call], None] | None = getattr(self, f"_{call.name}", None)
                if method is not None:
                    method(call)
        except _Refused as refused:
            self.refused = str(refused)

    # The state

    def _process(self, number: int) -> _Process:
        if number not in self._processes:
            parent, shares = self._starting[-1] if self._starting else (0, False)
            around = self._processes.get(parent, _Process({}, [os.getcwd()]))
            self._processes[number] = around.started(shares=shares)
        return self._processes[number]

    def _table(self, process: int) -> dict[int, _Opened]:
        return self._process(process).opened

    def _opened(self, call: Call, index: int = 0) -> _Opened | None:
        path = call.folder(index)
        if path and not path.startswith("/"):  # a pipe or a socket, in place of a file that `execve` has closed
            return None
        return self._table(call.process).get(call.descriptor(index))

    def _place(self, call: Call, path: int, folder: int | None = None) -> str:
        text = call.path(path)
        around = self._process(call.process).folder[0] if folder is None else call.folder(folder)
        return os.path.normpath(os.path.join(around, text))

    def _relative(self, path: str) -> str | None:
        return relative_to(self._root, path)

    def _inside(self, path: str) -> str:
        relative = self._relative(path)
        if relative is None:
            raise _Refused(f"the program changes a file outside of its folder: {path}")
        return relative

    def _number(self, relative: str) -> int | None:
        return ROOT if not relative else self._names.get(relative)

    def _followed(self, path: str) -> str:
        for _ in range(40):
            relative = self._relative(path)
            number = None if relative is None else self._number(relative)
            if number not in self._targets:
                break
            path = os.path.normpath(os.path.join(os.path.dirname(path), self._targets[number]))
        return path

    def _note(self, operation: Operation) -> None:
        if not self._is_running:
            return
        self.operations.append(operation)
        if isinstance(operation, Make | Link | Rename | Remove):
            self._names = renamed(self._names, operation)
        if isinstance(operation, Make):
            self._contents[operation.file] = Content()
        elif isinstance(operation, Write | Truncate):
            self._contents[operation.file] = applied(self._contents[operation.file], operation)

    def _write_at(self, opened: _Opened, offset: int, data: bytes, *, is_synced: bool = False) -> None:
        if opened.number is None or not data:
            return
        self._note(Write(opened.number, offset, data))
        if opened.is_synced or is_synced:
            self._note(Sync(opened.number))

    def _end(self, opened: _Opened) -> int:
        return self._contents[opened.number].size if opened.number is not None else 0

    # Descriptors

    def _opened_by(self, call: Call, place: str, flags: int, result: int) -> None:
        relative = self._relative(place)
        is_writing = any(call.has(flags, each) for each in ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"))
        number: int | None = None
        if relative is None:
            if is_writing and self._is_running and not place.startswith(_ELSEWHERE):
                raise _Refused(f"the program writes to a file outside of its folder: {place}")
        elif call.has(flags, "O_TMPFILE"):
            number = len(self._contents)
            self._note(Make(None, number))
        else:
            number = self._number(relative)
            if number is None:
                number = len(self._contents)
                self._note(Make(relative, number))
            elif call.has(flags, "O_TRUNC"):
                self._note(Truncate(number, 0))
        self._table(call.process)[result] = _Opened(
            place,
            number,
            is_appending=call.has(flags, "O_APPEND"),
            is_synced=call.has(flags, "O_SYNC") or call.has(flags, "O_DSYNC"),
        )

    def _openat(self, call: Call) -> None:
        place = self._place(call, 1, 0)
        follows = not (call.has(2, "O_NOFOLLOW") or call.has(2, "O_EXCL"))
        self._opened_by(call, self._followed(place) if follows else place, 2, call.result or 0)

    def _open(self, call: Call) -> None:
        self._opened_by(call, self._followed(self._place(call, 0)), 1, call.result or 0)

    def _openat2(self, call: Call) -> None:
        raise _Refused("the program uses openat2, which cannot be followed")

    def _creat(self, call: Call) -> None:
        flags = Call(call.process, "open", (call.arguments[0], "O_WRONLY|O_CREAT|O_TRUNC"), call.result)
        self._open(flags)

    def _chdir(self, call: Call) -> None:
        self._process(call.process).folder[0] = self._place(call, 0)

    def _fchdir(self, call: Call) -> None:
        self._process(call.process).folder[0] = call.folder(0)

    def _close(self, call: Call) -> None:
        self._table(call.process).pop(call.descriptor(0), None)

    def _close_range(self, call: Call) -> None:
        table = self._table(call.process)
        first, last = call.number(0) or 0, call.number(1) or 0
        for descriptor in [each for each in table if first <= each <= last]:
            del table[descriptor]

    def _dup(self, call: Call) -> None:
        opened = self._opened(call)
        table = self._table(call.process)
        if opened is not None:
            table[call.result or 0] = opened
        else:
            table.pop(call.result or 0, None)

    _dup2 = _dup3 = _dup

    def _fcntl(self, call: Call) -> None:
        if call.arguments[1].startswith("F_DUPFD"):
            self._dup(call)
        elif call.arguments[1] == "F_SETFL" and (opened := self._opened(call)) is not None:
            opened.is_appending = call.has(2, "O_APPEND")

    def _lseek(self, call: Call) -> None:
        opened = self._opened(call)
        if opened is not None:
            opened.position = call.result or 0

    def _read(self, call: Call) -> None:
        opened = self._opened(call)
        if opened is not None:
            opened.position += call.result or 0

    _readv = _read

    # Data

    def _write(self, call: Call) -> None:
        if call.folder(0).startswith(f"/memfd:{MARKER}"):
            self._mark(call.text(1))
            return
        opened = self._opened(call)
        if opened is not None:
            offset = self._end(opened) if opened.is_appending else opened.position
            data = call.text(1)[: call.result]
            self._write_at(opened, offset, data)
            opened.position = offset + len(data)

    _writev = _write

    def _mark(self, data: bytes) -> None:
        if data == BEGIN:
            self._is_running = True
        elif data == END:
            self.is_complete = self._is_running
            self._is_running = False
        else:
            self._note(pickle.loads(data))  # written by our own child

    def _pwrite64(self, call: Call) -> None:
        self._positioned(call, 3)

    def _pwritev(self, call: Call) -> None:
        self._positioned(call, 3)

    def _pwritev2(self, call: Call) -> None:
        self._positioned(call, 3)

    def _positioned(self, call: Call, index: int) -> None:
        opened = self._opened(call)
        if opened is not None:
            offset = self._end(opened) if opened.is_appending else call.number(index) or 0
            is_synced = call.has(4, "RWF_DSYNC") or call.has(4, "RWF_SYNC")
            self._write_at(opened, offset, call.text(1)[: call.result], is_synced=is_synced)

    def _sendfile(self, call: Call) -> None:
        self._copied(call, source=(1, 2), target=(0, None))

    def _copy_file_range(self, call: Call) -> None:
        self._copied(call, source=(0, 1), target=(2, 3))

    def _copied(self, call: Call, source: tuple[int, int], target: tuple[int, int | None]) -> None:
        reading, writing, count = self._opened(call, source[0]), self._opened(call, target[0]), call.result or 0
        if reading is None or writing is None:
            if writing is not None and writing.number is not None:
                raise _Refused(f"the program copies from a file that was open before: {call.name}")
            return
        given = call.number(source[1])
        start = reading.position if given is None else given
        if given is None:
            reading.position += count
        to = None if target[1] is None else call.number(target[1])
        offset = writing.position if to is None else to
        if to is None:
            writing.position += count
        if writing.number is not None:
            self._write_at(writing, offset, self._data_of(reading, start, count))

    def _data_of(self, opened: _Opened, start: int, count: int) -> bytes:
        if opened.number is not None:
            return self._contents[opened.number].to_bytes()[start : start + count]
        with open(opened.path, "rb") as file:
            file.seek(start)
            return file.read(count)

    def _ftruncate(self, call: Call) -> None:
        opened = self._opened(call)
        if opened is not None and opened.number is not None:
            self._note(Truncate(opened.number, call.number(1) or 0))

    def _truncate(self, call: Call) -> None:
        number = self._number(self._inside(self._followed(self._place(call, 0))))
        if number is not None:
            self._note(Truncate(number, call.number(1) or 0))

    def _fallocate(self, call: Call) -> None:
        opened = self._opened(call)
        if opened is None or opened.number is None:
            return
        offset, length, size = call.number(2) or 0, call.number(3) or 0, self._end(opened)
        if "PUNCH_HOLE" in call.arguments[1] or "ZERO_RANGE" in call.arguments[1]:
            self._write_at(opened, offset, bytes(max(0, min(length, size - offset))))
        elif "COLLAPSE" in call.arguments[1] or "INSERT" in call.arguments[1]:
            raise _Refused("the program moves parts of a file (fallocate), which cannot be followed")
        if "KEEP_SIZE" not in call.arguments[1] and offset + length > size:
            self._note(Truncate(opened.number, offset + length))

    def _fsync(self, call: Call) -> None:
        opened = self._opened(call)
        if opened is not None and opened.number is not None:
            self._note(Sync(opened.number))

    _fdatasync = _fsync

    def _sync(self, call: Call) -> None:
        self._note(Sync(None))

    _syncfs = _sync

    def _mmap(self, call: Call) -> None:
        opened = self._opened(call, 4)
        is_shared = call.has(3, "MAP_SHARED") or call.has(3, "MAP_SHARED_VALIDATE")
        if opened is not None and opened.number is not None and is_shared and call.has(2, "PROT_WRITE"):
            self.mapped[opened.number] = self._relative(opened.path) or opened.path

    # Names

    def _renamed(self, source: str, path: str) -> None:
        if not self._is_running or (self._relative(source) is None and self._relative(path) is None):
            if self._is_running:
                raise _Refused(f"the program changes a file outside of its folder: {path}")
            return
        old, new = self._inside(source), self._inside(path)
        if self._names.get(old) != self._names.get(new):
            self._note(Rename(old, new))

    def _rename(self, call: Call) -> None:
        self._renamed(self._place(call, 0), self._place(call, 1))

    def _renameat(self, call: Call) -> None:
        if call.has(4, "RENAME_EXCHANGE") or call.has(4, "RENAME_WHITEOUT"):
            raise _Refused("the program exchanges two names (renameat2), which cannot be followed")
        self._renamed(self._place(call, 1, 0), self._place(call, 3, 2))

    _renameat2 = _renameat

    def _linked(self, call: Call, source: str, path: str) -> None:
        relative = self._inside(path)
        opened: _Opened | None = None
        if source.startswith(("/proc/self/fd/", f"/proc/{call.process}/fd/")):
            opened = self._table(call.process).get(int(source.rpartition("/")[2]))
        number = opened.number if opened is not None else self._number(self._inside(source))
        if number is not None:
            self._note(Link(relative, number))

    def _link(self, call: Call) -> None:
        self._linked(call, self._place(call, 0), self._place(call, 1))

    def _linkat(self, call: Call) -> None:
        self._linked(call, self._place(call, 1, 0), self._place(call, 3, 2))

    def _symlinked(self, target: str, path: str) -> None:
        number = len(self._contents)
        self._targets[number] = target
        self._note(Make(self._inside(path), number, Kind.LINK, target))

    def _symlink(self, call: Call) -> None:
        self._symlinked(call.path(0), self._place(call, 1))

    def _symlinkat(self, call: Call) -> None:
        self._symlinked(call.path(0), self._place(call, 2, 1))

    def _unlink(self, call: Call) -> None:
        self._removed(self._place(call, 0))

    _rmdir = _unlink

    def _unlinkat(self, call: Call) -> None:
        self._removed(self._place(call, 1, 0))

    def _removed(self, path: str) -> None:
        if self._is_running and not path.startswith(_ELSEWHERE):
            self._note(Remove(self._inside(path)))

    def _mkdir(self, call: Call) -> None:
        self._made(self._place(call, 0))

    def _mkdirat(self, call: Call) -> None:
        self._made(self._place(call, 1, 0))

    def _made(self, path: str) -> None:
        if self._is_running:
            self._note(Make(self._inside(path), len(self._contents), Kind.FOLDER))

    # Processes and the network

    def _clone(self, call: Call) -> None:
        shares = any("CLONE_FILES" in each for each in call.arguments)
        if call.result is None:
            self._starting.append((call.process, shares))
            return
        self._starting = [each for each in self._starting if each[0] != call.process]
        if call.result not in self._processes:
            self._processes[call.result] = self._process(call.process).started(shares=shares)

    _clone3 = _fork = _vfork = _clone

    def _connect(self, call: Call) -> None:
        if self._is_running and any("AF_INET" in each for each in call.arguments):
            raise _Refused(f"the program uses the network ({call.name}), which a crash of this machine does not undo")

    _bind = _sendto = _connect
