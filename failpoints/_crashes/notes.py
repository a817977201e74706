"""What the recorders note: operations on a folder, visits, acknowledged values, and what they cannot record."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Awaitable
from typing import NoReturn

from .._core.accesses import Accesses
from .._core.actions import Action
from .._core.context import Context
from .._core.messages import safe_repr
from .._core.site import Site
from ..errors import FailpointUsageError
from .operations import (
    Acknowledge,
    Kind,
    Link,
    Make,
    Operation,
    Remove,
    Rename,
    Sync,
    Truncate,
    Visit,
    Write,
    relative_to,
)


class Notes:
    """What a program does to the folder at *root*, whose files have these numbers, by device and inode."""

    def __init__(self, root: str, numbers: dict[tuple[int, int], int]) -> None:
        self.root = root
        self.operations: list[Operation] = []
        self.refused = ""  # what the program does that cannot be recorded
        self.lock = threading.RLock()
        self._numbers = numbers
        self._count = len(numbers)

    def acknowledge(self, value: object) -> None:
        """Note that a client was told *value*."""
        try:
            pickled = pickle.dumps(value)
        except Exception as error:
            raise FailpointUsageError(
                f"acknowledge() takes a value that can be pickled; got {safe_repr(value)}: {error}"
            ) from None
        self.mark(Acknowledge(pickled))

    def visit(self, name: str) -> None:
        """Note that a failpoint is visited."""
        self.mark(Visit(name))

    def mark(self, operation: Acknowledge | Visit) -> None:
        """Note something that is not done to a file."""
        with self.lock:
            self.operations.append(operation)

    def refuse(self, what: str) -> NoReturn:
        """Raise, in the program, that it does something that cannot be recorded."""
        self.refused = self.refused or what
        raise FailpointUsageError(self.refused)

    # Files

    def number_of(self, status: os.stat_result) -> int | None:
        """Return the number of a file, or `None` if it is not in the folder."""
        return self._numbers.get((status.st_dev, status.st_ino))

    def relative(self, path: str) -> str | None:
        """Return an absolute path relative to the folder, or `None` if it is not in there."""
        return relative_to(self.root, path)

    def made(self, path: str | None, status: os.stat_result, kind: Kind = Kind.FILE, target: str = "") -> None:
        """Note a new file. It has no name if *path* is `None`."""
        self._numbers[status.st_dev, status.st_ino] = self._count
        self.operations.append(Make(path, self._count, kind, target))
        self._count += 1

    def linked(self, path: str, number: int) -> None:
        """Note one more name of a file."""
        self.operations.append(Link(path, number))

    def renamed(self, source: str, path: str) -> None:
        """Note another name."""
        self.operations.append(Rename(source, path))

    def removed(self, path: str) -> None:
        """Note a name that is removed."""
        self.operations.append(Remove(path))

    def resized(self, number: int, size: int) -> None:
        """Note a new size of a file."""
        self.operations.append(Truncate(number, size))

    def written(self, number: int, offset: int, data: bytes, *, is_synced: bool = False) -> None:
        """Note bytes that were written, and are durable if *is_synced*."""
        if data:
            self.operations.append(Write(number, offset, data))
        if is_synced:
            self.synced(number)

    def synced(self, number: int | None) -> None:
        """Note that a file or a folder is durable, or everything."""
        self.operations.append(Sync(number))


class Markers(Notes):
    """Writes what is acknowledged and visited to a descriptor, where strace sees it between the system calls."""

    def __init__(self, marker: int) -> None:
        super().__init__("", {})
        self._marker = marker

    def mark(self, operation: Acknowledge | Visit) -> None:
        """Write an operation."""
        os.write(self._marker, pickle.dumps(operation))


class NotedVisits:
    """Notes the visits of failpoints: an explorer that injects nothing."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def arrive(self, name: str, context: Context) -> Awaitable[object] | None:
        """Hold no task."""
        return None

    def arrive_sync(self, name: str, context: Context) -> None:
        """Do not wait: tasks and threads are not put in order."""

    def turn_away(self) -> None:
        """Do nothing."""

    def choose(self, name: str, context: Context, site: Site) -> Action | None:
        """Note a visit, and do what is configured."""
        self._notes.visit(name)
        return None

    choose_sync = choose

    def declare_step(self, accesses: Accesses) -> None:
        """Do nothing."""

    def enter_region(self, region: object, accesses: Accesses) -> None:
        """Do nothing."""

    def leave_region(self, region: object) -> Accesses | None:
        """Do nothing."""
        return None

    def misdeclared(self, error: FailpointUsageError) -> None:
        """Do nothing: it is raised."""

    def raised(self, error: BaseException) -> None:
        """Do nothing: nothing is injected."""
