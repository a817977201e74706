"""When what an owner has configured ends, by the clock of the process that asks."""

from __future__ import annotations

import math
from typing import Final

from .._core.clock import monotonic
from .place import Place, Renewal
from .state import Entry, State

_CLOCK_SKEW: Final = 1.0  # seconds: the file system has a coarser clock


class Leases:
    """Follows the owners of a fleet. The wall clock is only asked for what was before this process looked."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._renewals: dict[str, tuple[float, float]] = {}  # of an owner: what its file showed, and since when
        self._limits: dict[int, float] = {}  # of a configuration that lasts so long

    def ended(self, state: State) -> dict[int, Entry]:
        """Return the configurations whose time is over or whose owner is gone, by serial."""
        now = monotonic()
        since = {owner: self._since(owner, now) for owner in state.owners()}
        over = {
            entry.serial: entry
            for entry in state.entries
            if (entry.owner is not None and now - since[entry.owner] >= entry.lease) or self._is_at_its_end(entry, now)
        }
        serials = {entry.serial for entry in state.entries}
        self._renewals = {owner: seen for owner, seen in self._renewals.items() if owner in since}
        self._limits = {serial: limit for serial, limit in self._limits.items() if serial in serials}
        return over

    def _is_at_its_end(self, entry: Entry, now: float) -> bool:
        if entry.span is None or entry.until is None:
            return False
        if entry.serial not in self._limits:
            self._limits[entry.serial] = now + min(max(entry.until - self._place.time(), 0), entry.span)
        return now >= self._limits[entry.serial]

    def _since(self, owner: str, now: float) -> float:
        """Return when an owner has shown last that it is not stopped; `-math.inf` if it has ended."""
        seen = self._renewals.get(owner)
        try:
            renewed = self._place.renewed(owner)
        except OSError:  # it cannot be reached: the lease begins now, unless it has begun
            renewed = Renewal(seen[0] if seen is not None else 0.0, 0)
        if renewed is None:
            return -math.inf
        if seen is None:
            self._renewals[owner] = seen = renewed.token, now - (renewed.age if renewed.age > _CLOCK_SKEW else 0)
        elif seen[0] != renewed.token:
            self._renewals[owner] = seen = renewed.token, now
        return seen[1]
