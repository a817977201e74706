"""What a program does to the files of a folder, as a recorder notes it.

Paths are relative to the folder, with `/` between their parts. The folder itself is "". A file or folder is known by a
number, as by its inode, whatever names it has.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, TypeAlias

ROOT: Final = 0  # the number of the folder itself


class Kind(enum.Enum):
    """What a name stands for."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "symbolic link"


@dataclass(frozen=True, slots=True)
class Make:
    """A new file, folder or symbolic link. The file has no name if its path is `None` (`O_TMPFILE`)."""

    path: str | None
    file: int
    kind: Kind = Kind.FILE
    target: str = ""  # of a symbolic link


@dataclass(frozen=True, slots=True)
class Link:
    """One more name of a file."""

    path: str
    file: int


@dataclass(frozen=True, slots=True)
class Rename:
    """Another name for a file or folder, in place of whatever had that name."""

    source: str
    path: str


@dataclass(frozen=True, slots=True)
class Remove:
    """A name that is removed, of a file or an empty folder."""

    path: str


@dataclass(frozen=True, slots=True)
class Truncate:
    """A new size of a file, smaller or larger."""

    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes that are written into a file."""

    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Sync:
    """An fsync or fdatasync of a file or a folder that has returned; of everything, if *file* is `None`."""

    file: int | None


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """A call of `acknowledge`, with its value pickled."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit of a failpoint."""

    name: str


NameOperation: TypeAlias = Make | Link | Rename | Remove
Operation: TypeAlias = NameOperation | Truncate | Write | Sync | Acknowledge | Visit


def parent_of(path: str) -> str:
    """Return the path of the folder that contains a path."""
    return path.rpartition("/")[0]


def relative_to(root: str, path: str) -> str | None:
    """Return an absolute path relative to the folder at *root*, or `None` if it is not in there."""
    if path == root:
        return ""
    return path[len(root) + 1 :] if path.startswith(f"{root}/") else None
