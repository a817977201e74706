"""A disk that operations come in for: what a power loss leaves for certain, and what it may take back.

Names persist in order. So the operations on names that may be lost are a queue, and a crash leaves a part of it from
the front. Truncations wait in the same queue. The data of a file is loose until the file is synced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from .content import EMPTY, Content
from .operations import (
    ROOT,
    Acknowledge,
    Kind,
    Link,
    Make,
    NameOperation,
    Operation,
    Remove,
    Rename,
    Sync,
    Truncate,
    Visit,
    Write,
    parent_of,
)

Names: TypeAlias = Mapping[str, int]
"""The file at each path."""


@dataclass(frozen=True, slots=True)
class Step:
    """An operation on the content of a file, with its position among all operations."""

    position: int
    operation: Write | Truncate


@dataclass(frozen=True, slots=True)
class Pending:
    """An operation that may be taken back, with its position, and the names once it has had its effect."""

    position: int
    operation: NameOperation | Truncate
    names: Names


@dataclass(frozen=True, slots=True)
class File:
    """A file or folder: its kind, the bytes that are certain, and what may change them, in order.

    A truncation among the latter is certain if it is not among the operations that may be taken back.
    """

    kind: Kind = Kind.FILE
    target: str = ""  # of a symbolic link
    content: Content = EMPTY
    loose: tuple[Step, ...] = ()

    def synced(self) -> File:
        """Return the file once all its content is certain."""
        content = self.content
        for step in self.loose:
            content = applied(content, step.operation)
        return replace(self, content=content, loose=())


@dataclass(frozen=True, slots=True)
class Disk:
    """Everything about a folder that matters to a crash. Cannot be changed: each operation makes another one.

    Attributes:
        files: All files by number, also those without a name.
        names: Those that are certain.
        current: Those that the program sees.
        pending: The operations that a crash may take back, from the end.
    """

    files: Mapping[int, File] = field(default_factory=lambda: {ROOT: File(Kind.FOLDER)})
    names: Names = field(default_factory=dict[str, int])
    current: Names = field(default_factory=dict[str, int])
    pending: tuple[Pending, ...] = ()

    def after(self, position: int, operation: Operation) -> Disk:
        """Return the disk once the operation at this position is done."""
        match operation:
            case Write(file):
                return replace(self, files=self._with(file, position, operation))
            case Truncate(file):
                files = self._with(file, position, operation)
                return replace(self, files=files, pending=(*self.pending, Pending(position, operation, self.current)))
            case Sync(file):
                return self._all_synced() if file is None else self._synced(file)
            case Acknowledge() | Visit():
                return self
            case Make() | Link() | Rename() | Remove():
                return self._renamed(position, operation)

    def _with(self, number: int, position: int, operation: Write | Truncate) -> Mapping[int, File]:
        file = self.files[number]
        return {**self.files, number: replace(file, loose=(*file.loose, Step(position, operation)))}

    def _renamed(self, position: int, operation: NameOperation) -> Disk:
        files = self.files
        if isinstance(operation, Make):
            files = {**files, operation.file: File(operation.kind, operation.target)}
            if operation.path is None:
                return replace(self, files=files)
        current = renamed(self.current, operation)
        return replace(
            self, files=files, current=current, pending=(*self.pending, Pending(position, operation, current))
        )

    def _all_synced(self) -> Disk:
        files = {number: file.synced() for number, file in self.files.items()}
        return Disk(files, self.current, self.current)

    def _synced(self, number: int) -> Disk:
        file = self.files[number]
        if file.kind is Kind.FOLDER:
            count = self._needed_by(number)
            names = self.pending[count - 1].names if count else self.names
            return replace(self, names=names, pending=self.pending[count:])
        pending = tuple(
            each
            for each in self.pending
            if not (isinstance(each.operation, Truncate) and each.operation.file == number)
        )
        return replace(self, files={**self.files, number: file.synced()}, pending=pending)

    def _needed_by(self, folder: int) -> int:
        """Return how many of the pending operations have to persist, for the names in a folder to be as they are."""
        names, needed = self.names, 0
        for count, each in enumerate(self.pending, 1):
            for path in changed_paths(each.operation):
                parent = parent_of(path)
                if (names.get(parent) if parent else ROOT) == folder:
                    needed = count
            names = each.names
        return needed


def changed_paths(operation: Operation) -> tuple[str, ...]:
    """Return the paths whose names an operation changes."""
    if isinstance(operation, Rename):
        return operation.source, operation.path
    return (operation.path,) if isinstance(operation, Make | Link | Remove) and operation.path is not None else ()


def applied(content: Content, operation: Write | Truncate) -> Content:
    """Return a content once an operation has had its effect."""
    if isinstance(operation, Truncate):
        return content.resized(operation.size)
    return content.written(operation.offset, operation.data)


def renamed(names: Names, operation: NameOperation) -> Names:
    """Return the names once an operation has had its effect."""
    changed = dict(names)
    if isinstance(operation, Remove):
        changed.pop(operation.path, None)
    elif isinstance(operation, Rename):
        changed.pop(operation.path, None)
        for path in names:
            if path == operation.source or path.startswith(f"{operation.source}/"):
                changed[operation.path + path[len(operation.source) :]] = changed.pop(path)
    elif operation.path is not None:
        changed[operation.path] = operation.file
    return changed
