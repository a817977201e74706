"""The recorder in Python: functions of `os` and `open` note what they do to the folder.

They are replaced in the child process that runs the program, which ends afterwards. References to the functions that
were taken before are replaced, too, unless they are in C code, a closure or an instance.
"""

from __future__ import annotations

import fcntl
import gc
import os
import sys
from collections.abc import Callable
from typing import Any, Final

from .notes import Notes
from .operations import Kind
from .replacing import SYNCED, Replacements, do, makes_unnamed, place_of

_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_ACCESS_READ, _ACCESS_COPY = 1, 3  # of mmap
_NETWORK: Final = ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo")


class Replaced:
    """The functions of `os` that change files, replaced by ones that take notes."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._os: Any = type("originals", (), {})  # the original functions
        for name in ("open", "fstat", "stat", "lseek", "pread"):
            setattr(self._os, name, getattr(os, name))

    def install(self) -> None:
        """Replace the functions wherever a module has them, for as long as the process lives."""
        gc.unfreeze()  # else not all objects are found
        Replacements(self).install()
        sys.addaudithook(self._audit)

    def is_replaced(self, file: Any, mode: str) -> bool:
        """Return whether a file that is being opened can matter: every one can."""
        return True

    def write_raw(self, write: Callable[[Any], int | None], descriptor: int, data: Any) -> int | None:
        """Write to a file that `open` has opened."""
        return self.write_through(lambda: write(data) or 0, descriptor, lambda count: _bytes(data)[:count])

    # Places

    def _inside(self, path: Any, folder: int | None = None) -> str:
        """Return the path of a name in the folder, and refuse one outside of it."""
        place = place_of(path, folder)
        relative = self._notes.relative(place)
        if relative is None:
            self._notes.refuse(f"the program changes a file outside of its folder: {place}")
        return relative

    def _number(self, descriptor: int) -> int | None:
        return self._notes.number_of(self._os.fstat(descriptor))

    # Each method is given the original function first, then what the program gives.

    def _open(self, original: Any, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if not flags & _WRITING:
            reading: int = do(original, path, flags, mode, dir_fd=dir_fd)
            return reading
        notes = self._notes
        with notes.lock:
            place = place_of(path, dir_fd, follow=not flags & (os.O_NOFOLLOW | os.O_EXCL))
            relative = notes.relative(place)
            exists = os.path.lexists(place)
            if relative is None and not (exists and not os.path.isfile(place)):
                notes.refuse(f"the program writes to a file outside of its folder: {place}")
            descriptor: int = do(original, path, flags, mode, dir_fd=dir_fd)
            if relative is None:  # a device
                return descriptor
            if makes_unnamed(flags):
                notes.made(None, self._os.fstat(descriptor))
            elif not exists:
                notes.made(relative, self._os.fstat(descriptor))
            elif flags & os.O_TRUNC and (number := self._number(descriptor)) is not None:
                notes.resized(number, 0)
            return descriptor

    def write_through(self, write: Callable[[], int], descriptor: int, data: Callable[[int], bytes]) -> int:
        """Write at the position of a descriptor, and note what was written. *data* returns so many bytes of it."""
        with self._notes.lock:
            number = self._number(descriptor)
            count = write()
            if number is not None and count:
                offset = self._os.lseek(descriptor, 0, os.SEEK_CUR) - count
                self._written(number, descriptor, offset, data(count))
            return count

    def _written(self, number: int, descriptor: int, offset: int, data: bytes, *, is_synced: bool = False) -> None:
        is_synced = is_synced or bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & SYNCED)
        self._notes.written(number, offset, data, is_synced=is_synced)

    def _write(self, original: Any, fd: int, data: Any, /) -> int:
        return self.write_through(lambda: do(original, fd, data), fd, lambda count: _bytes(data)[:count])

    def _writev(self, original: Any, fd: int, buffers: Any, /) -> int:
        return self.write_through(lambda: do(original, fd, buffers), fd, lambda count: _joined(buffers)[:count])

    def _pwrite(self, original: Any, fd: int, data: Any, offset: int, /) -> int:
        return self._written_at(original, fd, [data], offset, (fd, data, offset))

    def _pwritev(self, original: Any, fd: int, buffers: Any, offset: int, flags: int = 0, /) -> int:
        is_synced = bool(flags & (getattr(os, "RWF_DSYNC", 0) | getattr(os, "RWF_SYNC", 0)))
        return self._written_at(original, fd, buffers, offset, (fd, buffers, offset, flags), is_synced=is_synced)

    def _written_at(
        self, original: Any, fd: int, buffers: Any, offset: int, arguments: tuple[Any, ...], *, is_synced: bool = False
    ) -> int:
        with self._notes.lock:
            number = self._number(fd)
            end = self._os.fstat(fd).st_size
            count: int = do(original, *arguments)
            if number is not None:
                is_appended = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND  # Linux then ignores the offset
                self._written(number, fd, end if is_appended else offset, _joined(buffers)[:count], is_synced=is_synced)
            return count

    def _sendfile(self, original: Any, out_fd: int, in_fd: int, offset: int | None, count: int) -> int:
        position = self._os.lseek(in_fd, 0, os.SEEK_CUR) if offset is None else offset
        return self.write_through(
            lambda: do(original, out_fd, in_fd, offset, count),
            out_fd,
            lambda sent: self._os.pread(in_fd, sent, position),
        )

    def _copy_file_range(
        self,
        original: Any,
        src: int,
        dst: int,
        count: int,
        offset_src: int | None = None,
        offset_dst: int | None = None,
    ) -> int:
        with self._notes.lock:
            source = self._os.lseek(src, 0, os.SEEK_CUR) if offset_src is None else offset_src
            target = self._os.lseek(dst, 0, os.SEEK_CUR) if offset_dst is None else offset_dst
            copied: int = do(original, src, dst, count, offset_src, offset_dst)
            number = self._number(dst)
            if number is not None:
                self._written(number, dst, target, self._os.pread(src, copied, source))
            return copied

    def _truncate(self, original: Any, path: Any, length: int) -> None:
        with self._notes.lock:
            if not isinstance(path, int):
                self._inside(place_of(path, follow=True))
            do(original, path, length)
            number = self._notes.number_of(self._os.stat(path))
            if number is not None:
                self._notes.resized(number, length)

    def _ftruncate(self, original: Any, fd: int, length: int, /) -> None:
        self._truncate(original, fd, length)

    def _posix_fallocate(self, original: Any, fd: int, offset: int, length: int, /) -> None:
        with self._notes.lock:
            size = self._os.fstat(fd).st_size
            do(original, fd, offset, length)
            number = self._number(fd)
            if number is not None and offset + length > size:
                self._notes.resized(number, offset + length)

    def _rename(
        self, original: Any, src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        with self._notes.lock:
            source, path = self._inside(src, src_dir_fd), self._inside(dst, dst_dir_fd)
            is_same = self._is_same(source, path)
            do(original, src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            if not is_same:  # two names of one file: nothing happens
                self._notes.renamed(source, path)

    _replace = _rename

    def _is_same(self, source: str, path: str) -> bool:
        try:
            statuses = [
                self._os.stat(os.path.join(self._notes.root, each), follow_symlinks=False) for each in (source, path)
            ]
        except OSError:
            return False
        return os.path.samestat(*statuses)

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
        with self._notes.lock:
            path = self._inside(dst, dst_dir_fd)
            options = {"src_dir_fd": src_dir_fd, "dst_dir_fd": dst_dir_fd, "follow_symlinks": follow_symlinks}
            do(original, src, dst, **options)
            number = self._notes.number_of(self._os.stat(os.path.join(self._notes.root, path), follow_symlinks=False))
            if number is None:
                self._notes.refuse(f"the program links a file that is outside of its folder: {os.fsdecode(src)}")
            self._notes.linked(path, number)

    def _symlink(
        self, original: Any, src: Any, dst: Any, target_is_directory: bool = False, *, dir_fd: int | None = None
    ) -> None:
        with self._notes.lock:
            path = self._inside(dst, dir_fd)
            do(original, src, dst, target_is_directory, dir_fd=dir_fd)
            status = self._os.stat(os.path.join(self._notes.root, path), follow_symlinks=False)
            self._notes.made(path, status, Kind.LINK, os.fsdecode(src))

    def _unlink(self, original: Any, path: Any, *, dir_fd: int | None = None) -> None:
        with self._notes.lock:
            relative = self._inside(path, dir_fd)
            do(original, path, dir_fd=dir_fd)
            self._notes.removed(relative)

    _remove = _rmdir = _unlink

    def _mkdir(self, original: Any, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        with self._notes.lock:
            place = place_of(path, dir_fd)
            if self._notes.relative(place) is None and os.path.lexists(place):
                do(original, path, mode, dir_fd=dir_fd)  # which raises
            relative = self._inside(path, dir_fd)
            do(original, path, mode, dir_fd=dir_fd)
            status = self._os.stat(os.path.join(self._notes.root, relative), follow_symlinks=False)
            self._notes.made(relative, status, Kind.FOLDER)

    def _fsync(self, original: Any, fd: Any) -> None:
        with self._notes.lock:
            do(original, fd)
            number = self._number(fd if isinstance(fd, int) else fd.fileno())
            if number is not None:
                self._notes.synced(number)

    _fdatasync = _fsync

    def _sync(self, original: Any) -> None:
        with self._notes.lock:
            do(original)
            self._notes.synced(None)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "mmap.__new__":
            descriptor, _, access, _ = arguments
            if access not in (_ACCESS_READ, _ACCESS_COPY) and descriptor >= 0 and self._number(descriptor) is not None:
                self._notes.refuse(
                    "the program maps a file of the folder into memory (mmap), and what is written there cannot be"
                    " seen: use access=mmap.ACCESS_READ to read it"
                )
        elif event in _NETWORK:
            self._notes.refuse(f"the program uses the network ({event}), which a crash of this machine does not undo")


def _bytes(data: Any) -> bytes:
    return bytes(memoryview(data).cast("B"))


def _joined(buffers: Any) -> bytes:
    return b"".join(map(_bytes, buffers))
