"""One run in one line: `o0.1.2 f5.1 #4f2a`.

`o` are the turns, counted from the task that would simply go on; what is left out at the end is 0. `f` are the
faults: the number of the visit, and which alternative. `#` tells whether the program still visits the same places.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..._core.messages import safe_repr
from ...errors import FailpointUsageError
from .guide import by_continuing
from .places import Place, Visit

_SCRIPT = re.compile(
    r"(?:o(?P<orders>\d+(?:\.\d+)*|)(?: |$))?(?P<faults>(?:f\d+\.\d+(?: |$))*)(?:#(?P<sum>[0-9a-f]{4}))?"
)


@dataclass(frozen=True, slots=True)
class Script:
    """What a run decided; `orders` is `None` if it held no tasks."""

    orders: tuple[int, ...] | None
    faults: tuple[tuple[int, int], ...]
    checksum: str = ""

    def __str__(self) -> str:
        parts = [f"f{number}.{alternative}" for number, alternative in self.faults]
        if self.orders is not None:
            parts.insert(0, f"o{'.'.join(map(str, self.orders))}")
        if self.checksum:
            parts.append(f"#{self.checksum}")
        return " ".join(parts)

    @classmethod
    def parse(cls, text: Any) -> Script:
        """Read what `str` gives; raises `FailpointUsageError` for anything else."""
        found = _SCRIPT.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise FailpointUsageError(
                f"replay= is the text that a failure of explore() gave, such as 'o0.1 f5.1'; got {safe_repr(text)}"
            )
        orders = found["orders"]
        faults = [fault.removeprefix("f").split(".") for fault in found["faults"].split()]
        return cls(
            None if orders is None else tuple(int(turn) for turn in orders.split(".") if turn),
            tuple((int(number), int(alternative)) for number, alternative in faults),
            found["sum"] or "",
        )


def checksum(visits: Iterable[Visit]) -> str:
    """Four characters that tell one course of a run from another."""
    return f"{zlib.crc32(repr([tuple(visit) for visit in visits]).encode()) & 0xFFFF:04x}"


class Scripted:
    """Follows a script."""

    def __init__(self, script: Script) -> None:
        self._orders = list(script.orders or ())
        self._faults = dict(script.faults)
        self._turn = 0
        self._visit = 0
        self.misfits = False
        self.bounds: set[str] = set()

    def turn(self, options: list[Place], held: dict[Place, int], last: Place | None) -> Place:
        """Which task is to go on."""
        options = by_continuing(options, last if last in held else None)
        chosen = self._orders[self._turn] if self._turn < len(self._orders) else 0
        self._turn += 1
        if chosen >= len(options):
            self.misfits, chosen = True, 0
        return options[chosen]

    def fault(self, label: int, at: tuple[tuple[int, ...], str, str], options: int) -> int:
        """Which fault to inject, 0 for none."""
        self._visit += 1
        chosen = self._faults.pop(self._visit, 0)
        if chosen > options:
            self.misfits, chosen = True, 0
        return chosen

    def repeats(self) -> None:
        """A script ends by itself."""

    @property
    def is_followed(self) -> bool:
        """Whether everything in it could be done."""
        return not (self.misfits or self._faults or self._turn < len(self._orders))
