"""Finds the file descriptor that a task waits for, and whether something can come from it from outside the run."""

from __future__ import annotations

import os
import select
import socket
import stat
import struct
from types import FrameType
from typing import Any, TypeAlias

from ..threads import busy_threads, is_only_thread
from .wait_sources import WaitSource, wait_source

_Address: TypeAlias = tuple[str, int]
_Ends: TypeAlias = tuple[_Address, _Address]  # of a connection: the own one first

_DESCRIPTORS = "/dev/fd"  # the open file descriptors of this process, on Linux and macOS


def awaited_descriptor(frames: list[FrameType]) -> int | None:
    """Return the file descriptor that a task with these frames waits for, or `None` if it is not known."""
    for frame in reversed(frames):
        module = frame.f_globals.get("__name__") or ""
        if module.startswith("trio._core._io_"):
            return _descriptor(frame.f_locals.get("fd", frame.f_locals.get("sock")))
        if module.partition(".")[0] not in ("asyncio", "anyio"):
            continue
        for name in ("sock", "self"):
            found = _descriptor(frame.f_locals.get(name))
            if found is not None:
                return found
    return None


def _descriptor(thing: Any) -> int | None:
    if isinstance(thing, int):
        return thing
    if not isinstance(thing, socket.socket):
        transport: Any = getattr(thing, "_transport", None)
        thing = transport.get_extra_info("socket") if hasattr(transport, "get_extra_info") else None
    try:
        return None if thing is None else int(thing.fileno())
    except (AttributeError, OSError, ValueError):
        return None


class LocalConnections:
    """The connections of which this process has both ends."""

    def __init__(self) -> None:
        self._known: set[_Ends] = set()
        self._listening: dict[_Address, int] = {}  # the descriptors, by address

    def source(self, frames: list[FrameType], future: object = None) -> WaitSource:
        """Classify the wait of a task. What comes over a connection between tasks comes from inside the run."""
        found = wait_source(frames, future)
        if found is WaitSource.OUTSIDE:
            descriptor = awaited_descriptor(frames)
            if descriptor is not None and self.are_between_tasks(descriptor):
                return WaitSource.INSIDE
        return found

    def are_between_tasks(self, descriptor: int) -> bool:
        """Return whether both ends of a connection belong to tasks of the run, which is at rest.

        Then nothing is on its way: a computer sends to itself without delay.
        """
        # A thread may serve the other end.
        return self._has_both_ends(descriptor) and (is_only_thread() or not busy_threads())

    def _has_both_ends(self, descriptor: int) -> bool:
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                return False
            with socket.socket(fileno=os.dup(descriptor)) as copy:
                if copy.family not in (socket.AF_INET, socket.AF_INET6):
                    return _is_named_and_ours(copy)
                ends = _ends(copy)
        except OSError:  # closed, or not connected
            return False
        if ends[0][0] != ends[1][0]:  # the other end is on another computer
            return False
        if ends not in self._known and not self._is_accepted_soon(ends):
            self._look()
        return ends in self._known or self._is_accepted_soon(ends)

    def _is_accepted_soon(self, ends: _Ends) -> bool:
        """Return whether a listening socket of this process has a connection that it has not accepted yet."""
        host, port = ends[1]
        listening = (self._listening.get((each, port)) for each in (host, "0.0.0.0", "::"))
        return any(each is not None and _is_readable(each) for each in listening)

    def _look(self) -> None:
        self._known.clear()
        self._listening.clear()
        try:
            descriptors = list(map(int, os.listdir(_DESCRIPTORS)))
        except OSError:
            return
        for descriptor in descriptors:
            try:
                if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    continue
                with socket.socket(fileno=os.dup(descriptor)) as copy:
                    if copy.family not in (socket.AF_INET, socket.AF_INET6):
                        continue
                    if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        self._listening[_address(copy.getsockname())] = descriptor
                    else:
                        ours, theirs = _ends(copy)
                        self._known.add((theirs, ours))
            except OSError:  # closed, or not connected
                pass


def _ends(connection: socket.socket) -> _Ends:
    return _address(connection.getsockname()), _address(connection.getpeername())


def _address(address: tuple[Any, ...]) -> _Address:
    return address[0].removeprefix("::ffff:"), address[1]


def _is_named_and_ours(connection: socket.socket) -> bool:
    """Return whether the other end of a Unix socket with a name belongs to this process, where the system shows it.

    The ends of a pair have no name. The process that has made the pair may have given one of them away.
    """
    credentials: int | None = getattr(socket, "SO_PEERCRED", None)
    if credentials is None or not (connection.getsockname() or connection.getpeername()):
        return False
    (process,) = struct.unpack_from("i", connection.getsockopt(socket.SOL_SOCKET, credentials, 12))
    return bool(process == os.getpid())


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
