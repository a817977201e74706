"""Finds the file descriptor that a task waits for, and whether something can come from it from outside the run."""

from __future__ import annotations

import os
import socket
import stat
from types import FrameType
from typing import Any, TypeAlias

from ..threads import busy_threads, is_only_thread

_Ends: TypeAlias = tuple[
    tuple[Any, ...], tuple[Any, ...]
]  # the addresses of the two ends of a connection, the own first

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
    """The TCP connections of which this process has both ends."""

    def __init__(self) -> None:
        self._known: set[_Ends] = set()

    def are_between_tasks(self, descriptor: int) -> bool:
        """Return whether both ends of a connection belong to tasks of the run, which is at rest.

        Then nothing is on its way: a computer sends to itself without delay.
        """
        ends = _ends(descriptor)
        if ends is None or ends[0][0] != ends[1][0]:  # the other end is on another computer
            return False
        if ends not in self._known:
            self._known = {(theirs, ours) for ours, theirs in _all_ends()}
        # A thread may serve the other end.
        return ends in self._known and (is_only_thread() or not busy_threads())


def _all_ends() -> list[_Ends]:
    try:
        descriptors = list(map(int, os.listdir(_DESCRIPTORS)))
    except OSError:
        return []
    return [ends for ends in map(_ends, descriptors) if ends is not None]


def _ends(descriptor: int) -> _Ends | None:
    """Return the addresses of a TCP connection, or `None` for anything else."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            if copy.family not in (socket.AF_INET, socket.AF_INET6):
                return None
            return copy.getsockname(), copy.getpeername()
    except OSError:  # closed, or not connected
        return None
