"""The functions that take the place of those of `os` for the files of a folder: each is visited, and may fail."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from .._core.actions import Return
from .._core.context import Context
from .._core.hooks import exploring
from .._core.site import Site
from .._core.visit import recording_usage_errors, visit_sync
from .._explore.execution import Execution, active
from . import faults
from .faults import Fault
from .operations import relative_to
from .replacing import SYNCED, Replacements, do, makes_unnamed, place_of

_NO_RUN: Final = object()  # in place of the run of an exploration


@dataclass(eq=False)
class Folder:
    """A folder whose files are instrumented.

    Attributes:
        root: Its path.
        synced: What files contained when they were last synced, by device and inode, of those changed since.
        full: The run in which the disk has become full, and the fault that it has from then on.
    """

    root: str
    synced: dict[tuple[int, int], bytes] = field(default_factory=dict[tuple[int, int], bytes])
    full: tuple[object, Fault] | None = None

    def keep(self, path: str) -> None:
        """Keep what a file contains, before it is changed for the first time since it was synced."""
        status = os.stat(path)
        if (status.st_dev, status.st_ino) not in self.synced and stat.S_ISREG(status.st_mode):
            with open(path, "rb") as file:
                self.synced[status.st_dev, status.st_ino] = file.read()

    def forget(self, descriptor: int) -> bytes | None:
        """Forget what a file contained when it was last synced. Return that, if the file was changed since."""
        status = os.fstat(descriptor)
        return self.synced.pop((status.st_dev, status.st_ino), None)

    def lose(self, descriptor: int) -> None:
        """Take a file back to what it was when it was last synced."""
        content = self.forget(descriptor)
        if content is not None:
            with open(_path_of(descriptor), "r+b") as file:
                file.write(content)
                file.truncate()


@dataclass(frozen=True, slots=True)
class _File:
    """A file in a folder that is instrumented, with its path there."""

    folder: Folder
    path: str


class Functions:
    """The functions. Each is given the original one first, then what the program gives."""

    def __init__(self) -> None:
        self._folders: list[Folder] = []
        self._replacements: Replacements | None = None
        self._lock = threading.Lock()
        self._thread = threading.local()

    def enter(self, folder: Folder) -> None:
        """Replace the functions, if this is the first folder."""
        with self._lock:
            if self._replacements is None:
                self._replacements = Replacements(self)
                self._replacements.install()
            self._folders = [folder, *self._folders]

    def leave(self, folder: Folder) -> None:
        """Put the original functions back, if this is the last folder."""
        with self._lock:
            self._folders = [each for each in self._folders if each is not folder]
            if not self._folders and self._replacements is not None:
                self._replacements.restore()
                self._replacements = None

    # Where a file is

    def _file(self, path: Any, folder: int | None = None, *, follow: bool = False) -> _File | None:
        """Return a file that is in an instrumented folder, or `None`."""
        if not self._folders or self._is_visiting:
            return None
        try:
            place = place_of(path, folder, follow=follow)
        except (OSError, TypeError, ValueError):
            return None  # the original function has to raise that
        for each in self._folders:
            relative = relative_to(each.root, place)
            if relative is not None:
                return _File(each, relative or ".")
        return None

    def _open_file(self, file: Any) -> _File | None:
        """Return an open file or folder that is in an instrumented folder, or `None`."""
        if not self._folders or self._is_visiting:
            return None
        try:
            path = os.readlink(_path_of(file if isinstance(file, int) else file.fileno()))
        except (OSError, AttributeError, ValueError):
            return None
        return self._file(path.removesuffix(" (deleted)"))

    def is_replaced(self, file: Any, mode: str) -> bool:
        """Return whether a file that is being opened may be changed, and may be in an instrumented folder."""
        if not self._folders or not isinstance(mode, str) or not set(mode) & set("wax+"):
            return False
        return isinstance(file, int) or self._file(file, follow=True) is not None

    # Visits

    @property
    def _is_visiting(self) -> bool:
        return getattr(self._thread, "is_visiting", False)

    @contextmanager
    def _visiting(self) -> Generator[None]:
        """Visit nothing in the block: what carries out a visit or a fault may write files as well."""
        self._thread.is_visiting = True
        try:
            yield
        finally:
            self._thread.is_visiting = False

    def _visit(self, site: Site, function: str, context: Context, size: int = 0) -> Fault | None:
        """Visit a failpoint before a system call, and return the fault that it is to have."""
        if exploring.get() is None:
            for run in list(active):
                run.miss_files()
        with self._visiting(), recording_usage_errors(site.name):
            try:
                outcome = visit_sync(site.name, site, lambda: context, f"os.{function}")
            except InterruptedError:
                faults.check_interrupted(site)
                raise
            return faults.meaning(site, outcome.value, size) if isinstance(outcome, Return) else None

    def _guard(self, site: Site, file: _File | None, original: Any, *paths: Any, **context: Any) -> None:
        """Visit a failpoint before a function is called for a file, and raise its error instead."""
        if file is not None:
            fault = self._visit(site, original.__name__, {"path": file.path, **context})
            if fault is not None:
                _fail(fault, *paths)

    def _write_some(
        self, function: str, descriptor: int, size: int, offset: int | None, write: Callable[[int], Any]
    ) -> Any:
        """Write *size* bytes or fewer, at an offset or the position of the descriptor."""
        file = self._open_file(descriptor) if size else None
        status = os.fstat(descriptor) if file is not None else None
        if file is None or status is None or not stat.S_ISREG(status.st_mode):
            return write(size)
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        if offset is None:
            offset = status.st_size if flags & os.O_APPEND else os.lseek(descriptor, 0, os.SEEK_CUR)
        full = file.folder.full
        if full is not None and full[0] is _current_run() and offset + size > status.st_size:
            _fail(full[1])
        site = faults.WRITE if size > 1 else faults.WRITE_BYTE
        fault = self._visit(site, function, {"path": file.path, "size": size}, size)
        if fault is not None and fault.code in faults.FULL:
            file.folder.full = _current_run(), Fault(fault.code)
        if fault is not None and not fault.written:
            _fail(fault)
        file.folder.keep(_path_of(descriptor))
        written = write(size if fault is None else fault.written)
        if flags & SYNCED:
            file.folder.forget(descriptor)
        return written

    # The functions

    def _open(self, original: Any, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        is_temporary = makes_unnamed(flags)
        file = None
        if flags & (os.O_CREAT | os.O_TRUNC) or is_temporary:
            file = self._file(path, dir_fd, follow=not flags & (os.O_NOFOLLOW | os.O_EXCL))
        is_new = False
        if file is not None:
            place = os.path.join(file.folder.root, file.path)
            is_new = is_temporary or not os.path.lexists(place)
            if is_new:
                self._guard(faults.OPEN, file, original, path)
            elif flags & os.O_TRUNC:
                file.folder.keep(place)
        descriptor: int = do(original, path, flags, mode, dir_fd=dir_fd)
        if is_new and file is not None:
            file.folder.forget(descriptor)  # another file had the same inode
        return descriptor

    def write_raw(self, write: Callable[[Any], int | None], descriptor: int, data: Any) -> int | None:
        """Write to a file that `open` has opened."""
        view = memoryview(data).cast("B")
        written: int | None = self._write_some("write", descriptor, len(view), None, lambda size: write(view[:size]))
        return written

    def _write(self, original: Any, fd: int, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        written: int = self._write_some("write", fd, len(view), None, lambda size: do(original, fd, view[:size]))
        return written

    def _writev(self, original: Any, fd: int, buffers: Any, /) -> int:
        views = [memoryview(each).cast("B") for each in buffers]
        written: int = self._write_some(
            "writev", fd, sum(map(len, views)), None, lambda size: do(original, fd, _first(views, size))
        )
        return written

    def _pwrite(self, original: Any, fd: int, data: Any, offset: int, /) -> int:
        view = memoryview(data).cast("B")
        written: int = self._write_some(
            "pwrite", fd, len(view), offset, lambda size: do(original, fd, view[:size], offset)
        )
        return written

    def _pwritev(self, original: Any, fd: int, buffers: Any, offset: int, flags: int = 0, /) -> int:
        views = [memoryview(each).cast("B") for each in buffers]
        written: int = self._write_some(
            "pwritev",
            fd,
            sum(map(len, views)),
            offset,
            lambda size: do(original, fd, _first(views, size), offset, flags),
        )
        return written

    def _sendfile(self, original: Any, out_fd: int, in_fd: int, offset: int | None, count: int) -> int:
        size = min(count, _left(in_fd, offset))
        sent: int = self._write_some(
            "sendfile", out_fd, size, None, lambda most: do(original, out_fd, in_fd, offset, most if size else count)
        )
        return sent

    def _copy_file_range(
        self,
        original: Any,
        src: int,
        dst: int,
        count: int,
        offset_src: int | None = None,
        offset_dst: int | None = None,
    ) -> int:
        size = min(count, _left(src, offset_src))
        copied: int = self._write_some(
            "copy_file_range",
            dst,
            size,
            offset_dst,
            lambda most: do(original, src, dst, most if size else count, offset_src, offset_dst),
        )
        return copied

    def _truncate(self, original: Any, path: Any, length: int) -> None:
        file = self._open_file(path) if isinstance(path, int) else self._file(path, follow=True)
        self._guard(faults.TRUNCATE, file, original, *([] if isinstance(path, int) else [path]), size=length)
        if file is not None:
            file.folder.keep(_path_of(path) if isinstance(path, int) else path)
        do(original, path, length)

    def _ftruncate(self, original: Any, fd: int, length: int, /) -> None:
        self._truncate(original, fd, length)

    def _posix_fallocate(self, original: Any, fd: int, offset: int, length: int, /) -> None:
        file = self._open_file(fd)
        self._guard(faults.RESERVE, file, original, size=offset + length)
        if file is not None:
            file.folder.keep(_path_of(fd))
        do(original, fd, offset, length)

    def _rename(
        self, original: Any, src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        self._guard_move((faults.RENAME, faults.MOVE), original, (src, src_dir_fd), (dst, dst_dir_fd))
        do(original, src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    _replace = _rename

    def _link(
        self,
        original: Any,
        src: Any,
        dst: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        self._guard_move((faults.LINK, faults.LINK_ELSEWHERE), original, (src, src_dir_fd), (dst, dst_dir_fd))
        do(original, src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks)

    def _guard_move(
        self,
        sites: tuple[Site, Site],
        original: Any,
        source: tuple[Any, int | None],
        target: tuple[Any, int | None],
    ) -> None:
        """Visit a failpoint before a file gets a name in the same folder, or in another one."""
        old, new = self._file(*source), self._file(*target)
        if old is None and new is None:
            return
        paths = [os.fsdecode(path) if file is None else file.path for file, (path, _) in ((old, source), (new, target))]
        is_elsewhere = old is None or new is None or os.path.dirname(old.path) != os.path.dirname(new.path)
        file = _File((new or old).folder, paths[1])  # type: ignore[union-attr]
        self._guard(sites[is_elsewhere], file, original, source[0], target[0], source=paths[0])

    def _symlink(
        self, original: Any, src: Any, dst: Any, target_is_directory: bool = False, *, dir_fd: int | None = None
    ) -> None:
        self._guard(faults.SYMLINK, self._file(dst, dir_fd), original, src, dst, source=os.fsdecode(src))
        do(original, src, dst, target_is_directory, dir_fd=dir_fd)

    def _unlink(self, original: Any, path: Any, *, dir_fd: int | None = None) -> None:
        self._guard(faults.REMOVE, self._file(path, dir_fd), original, path)
        do(original, path, dir_fd=dir_fd)

    _remove = _rmdir = _unlink

    def _mkdir(self, original: Any, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        file = self._file(path, dir_fd)
        if file is not None and not os.path.lexists(os.path.join(file.folder.root, file.path)):
            self._guard(faults.MKDIR, file, original, path)
        do(original, path, mode, dir_fd=dir_fd)

    def _fsync(self, original: Any, fd: Any) -> None:
        file = self._open_file(fd)
        descriptor = fd if isinstance(fd, int) else fd.fileno()
        if file is not None:
            fault = self._visit(faults.FSYNC, original.__name__, {"path": file.path})
            if fault is not None:
                with self._visiting():
                    file.folder.lose(descriptor)
                _fail(fault)
        do(original, fd)
        if file is not None:
            file.folder.forget(descriptor)

    _fdatasync = _fsync

    def _sync(self, original: Any) -> None:
        do(original)
        for folder in self._folders:
            folder.synced.clear()


FUNCTIONS: Final = Functions()


def _path_of(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def _first(views: list[memoryview], size: int) -> list[memoryview]:
    """Return the first bytes of several buffers."""
    found: list[memoryview] = []
    for view in views:
        found.append(view[:size])
        size -= len(found[-1])
    return found


def _left(descriptor: int, offset: int | None) -> int:
    """Return how many bytes a file has after an offset, or after its position."""
    try:
        start = os.lseek(descriptor, 0, os.SEEK_CUR) if offset is None else offset
        return max(0, os.fstat(descriptor).st_size - start)
    except OSError:  # a pipe or a socket, or no descriptor at all
        return 0


def _current_run() -> object:
    """Return the run of an exploration that this is a part of, or `None` before or after faults are injected."""
    explorer = exploring.get()
    if isinstance(explorer, Execution):
        return explorer if explorer.active else None
    return _NO_RUN


def _fail(fault: Fault, *paths: Any) -> NoReturn:
    """Raise the error of a fault, which counts as injected."""
    error = fault.error(*paths)
    explorer = exploring.get()
    if explorer is not None:
        explorer.raised(error)
    raise error
