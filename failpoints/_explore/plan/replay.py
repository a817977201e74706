"""A run in one line, to be repeated: `o0.1.2 f5.1 #4f2a`.

`o` has the turns, or `w` if tasks are held at every wake-up. Each turn is an index into the tasks that could go on,
with the one that ran last at the front. Zeros at the end are left out. `f` has the faults, each as the number of a
visit and the number of an alternative. `#` has a checksum of the visits, which shows whether the program still makes
the same ones.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..._core.messages import safe_repr
from ...errors import FailpointUsageError
from .identity import TaskNode, Visit, VisitKey
from .scheduler import Interleavings, last_one_first

_SCRIPT = re.compile(
    r"(?:(?P<held>[ow])(?P<turns>\d+(?:\.\d+)*|)(?: |$))?"
    r"(?P<faults>(?:f\d+\.\d+(?: |$))*)"
    r"(?:#(?P<checksum>[0-9a-f]{4}))?"
)


@dataclass(frozen=True, slots=True)
class Script:
    """The decisions of a run. `turns` is `None` if the run did not hold tasks."""

    turns: tuple[int, ...] | None
    faults: tuple[tuple[int, int], ...]
    checksum: str = ""
    interleavings: Interleavings | None = None

    def __str__(self) -> str:
        parts = [f"f{number}.{alternative}" for number, alternative in self.faults]
        if self.turns is not None:
            parts.insert(0, f"{'w' if self.interleavings == 'awaits' else 'o'}{'.'.join(map(str, self.turns))}")
        if self.checksum:
            parts.append(f"#{self.checksum}")
        return " ".join(parts)

    @classmethod
    def parse(cls, text: Any) -> Script:
        """Read the text that `str` of a script returns. Raises `FailpointUsageError` for anything else."""
        found = _SCRIPT.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise FailpointUsageError(
                "replay= must be the text that the message of a failed exploration has, such as 'o0.1 f5.1';"
                f" got {safe_repr(text)}"
            )
        turns = found["turns"]
        faults = [fault.removeprefix("f").split(".") for fault in found["faults"].split()]
        return cls(
            None if turns is None else tuple(int(turn) for turn in turns.split(".") if turn),
            tuple((int(number), int(alternative)) for number, alternative in faults),
            found["checksum"] or "",
            {"o": "visits", "w": "awaits"}.get(found["held"]),  # type: ignore[arg-type]
        )


def checksum(visits: Iterable[Visit]) -> str:
    """Return four characters that depend on all visits of a run, in order, but not on their contexts."""
    identities = [(visit.path, visit.name, visit.occurrence) for visit in visits]
    return f"{zlib.crc32(repr(identities).encode()) & 0xFFFF:04x}"


class ReplayScheduler:
    """Repeats the decisions of a script. Takes the first option where the script does not fit the run."""

    def __init__(self, script: Script) -> None:
        self.bounds: set[str] = set()
        self.interleavings: Interleavings | None = script.interleavings
        self.is_reduced = False
        self.injects_faults = bool(script.faults)
        self._turns = list(script.turns or ())
        self._faults = dict(script.faults)
        self._turn = 0
        self._visit = 0
        self._has_misfit = False

    def next_task(
        self, options: list[TaskNode], held: Mapping[TaskNode, int], last: TaskNode | None, touched: object
    ) -> TaskNode:
        """Choose the next task by the script."""
        options = last_one_first(options, last if last in held else None)
        chosen = self._turns[self._turn] if self._turn < len(self._turns) else 0
        self._turn += 1
        if chosen >= len(options):
            self._has_misfit, chosen = True, 0
        return options[chosen]

    def choose_fault(self, label: int, key: VisitKey, alternatives: int) -> int:
        """Choose a fault by the script."""
        self._visit += 1
        chosen = self._faults.pop(self._visit, 0)
        if chosen > alternatives:
            self._has_misfit, chosen = True, 0
        return chosen

    def visit_repeats(self) -> None:
        """Do nothing: a script is finite."""

    @property
    def is_followed(self) -> bool:
        """Whether the run made every decision of the script."""
        return not (self._has_misfit or self._faults or self._turn < len(self._turns))
