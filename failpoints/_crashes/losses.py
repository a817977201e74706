"""What a crash takes away, as a value and as the text of a replay."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from .._core.messages import safe_repr
from ..errors import FailpointUsageError
from .operations import Acknowledge, Link, Make, Operation, Remove, Rename, Sync, Truncate, Visit, Write


class Part(enum.Enum):
    """The part of a write that is not lost."""

    NONE = "n"
    HALF = "h"


@dataclass(frozen=True, slots=True)
class Loss:
    """When a crash comes, and what the disk loses.

    Attributes:
        cut: How many operations are done.
        dropped: How many operations on names are taken back, from the end.
        lost: The writes of which a part is missing, by their positions.
    """

    cut: int
    dropped: int = 0
    lost: tuple[tuple[int, Part], ...] = ()

    def __str__(self) -> str:
        dropped = f"-{self.dropped}" if self.dropped else ""
        return f"{self.cut}{dropped}{''.join(f'.{position}{part.value}' for position, part in self.lost)}"


_LOSS: Final = re.compile(r"(\d+)(?:-(\d+))?((?:\.\d+[nh])*)")
_REPLAY: Final = re.compile(r"(\S+) #([0-9a-f]{4})")


@dataclass(frozen=True, slots=True)
class Replay:
    """The crashes that lead to one state: of `act`, then each of `check`; and what the operations look like."""

    losses: tuple[Loss, ...]
    checksum: str

    def __str__(self) -> str:
        return f"{'/'.join(map(str, self.losses))} #{self.checksum}"

    @classmethod
    def parse(cls, text: object) -> Replay:
        """Return the replay that a text stands for.

        Raises:
            FailpointUsageError: It is not the text of a failure.
        """
        found = _REPLAY.fullmatch(text) if isinstance(text, str) else None
        losses = [_LOSS.fullmatch(part) for part in found[1].split("/")] if found else []
        if found is None or None in losses:
            raise FailpointUsageError(
                f"replay= takes the text that a failure of explore_crashes() shows, such as '7-1.4h #3fa2'; got"
                f" {safe_repr(text)}"
            )
        return cls(tuple(_loss_of(each) for each in losses if each is not None), found[2])


def _loss_of(found: re.Match[str]) -> Loss:
    lost = tuple((int(part[:-1]), Part(part[-1])) for part in found[3].split(".")[1:])
    return Loss(int(found[1]), int(found[2] or 0), lost)


def checksum(operations: Sequence[Operation], own: Sequence[str] = ()) -> str:
    """Return a short text that differs for programs that do different things (see `shapes`)."""
    text = "\n".join(shapes(operations, own))
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=2).hexdigest()


def shapes(operations: Sequence[Operation], own: Sequence[str] = ()) -> list[str]:
    """Return operations as texts, without what they write: a time or an id may be of another length in each run.

    In the names of files, the numbers in *own* are those of the process itself, and differ in each run.
    """
    numbers = re.compile(rf"(?<!\d)(?:{'|'.join(own)})(?!\d)") if own else None
    return [_shape(each, lambda path: path if numbers is None else numbers.sub("PROCESS", path)) for each in operations]


def _shape(operation: Operation, named: Callable[[str], str]) -> str:
    """Return an operation without the bytes that it writes. *named* returns a path as it is shown."""
    match operation:
        case Write(file):
            return f"write {file}"
        case Make(path, file, kind):
            return f"make {kind.value} {path if path is None else named(path)} {file}"
        case Link(path, file):
            return f"link {named(path)} {file}"
        case Rename(source, path):
            return f"rename {named(source)} {named(path)}"
        case Remove(path):
            return f"remove {named(path)}"
        case Truncate(file):
            return f"truncate {file}"
        case Sync(file):
            return f"sync {file}"
        case Acknowledge():
            return "acknowledge"
        case Visit(name):
            return f"visit {name}"
