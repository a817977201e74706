"""Limits how long a run waits for a socket, a process or a thread, before it lets a held task go on."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass

BOUND = 1.0  # seconds for each wait of a task
BOUND_IF_SLOW = 0.02  # seconds, if the same wait exceeded the bound in an earlier run


@dataclass(frozen=True, slots=True)
class OutsideWait:
    """The wait of a task for something that may come from a socket, a process or a thread.

    Attributes:
        key: An object that only this wait has. The next wait of the same task has another one.
        place: Identifies the wait in every run: its task, and where that is.
        source: A description of what it waits for.
    """

    key: object
    place: Hashable
    source: str


class OutsideWaits:
    """Keeps the time of each wait. *slow* has the places whose waits exceeded the bound, in all runs so far."""

    def __init__(self, slow: set[Hashable]) -> None:
        self._slow = slow
        self._ends: dict[object, float] = {}

    def seconds(self, waits: Collection[OutsideWait], now: float) -> float:
        """Return how long to wait at most for the next answer, or 0 if every wait has exceeded its bound."""
        self._ends = {
            wait.key: self._ends.get(wait.key, now + (BOUND_IF_SLOW if wait.place in self._slow else BOUND))
            for wait in waits
        }
        self._slow.update(wait.place for wait in waits if self._ends[wait.key] <= now)
        return max(0.0, *(end - now for end in self._ends.values()))
