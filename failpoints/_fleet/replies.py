"""What a server of a fleet replies, as values."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from .._core.grammar import parse_actions
from .place import Record, Reported, Shown
from .state import Counts, Entry, State

_LIVES: Final = 5.0  # seconds after its last sign in which a member is waited for
_FORGOTTEN: Final = 600.0  # seconds after which what it has counted is put together with the rest


class Look(NamedTuple):
    """What the server has, at one moment."""

    now: float
    state: State
    members: dict[str, Shown]
    beats: dict[str, str]
    owners: dict[str, str]

    def is_over(self, entry: Entry) -> bool:
        """Return whether the owner of a configuration has ended, or its time is over."""
        if entry.owner is not None and self.is_lost(entry.owner, entry.lease):
            return True
        return entry.until is not None and entry.until <= self.now

    def is_lost(self, owner: str, lease: float) -> bool:
        """Return whether an owner has left, or has not been seen for so long that its lease is over."""
        renewed = self.owners.get(owner)
        return renewed is None or self.now - renewed_at(renewed) > lease

    def age(self, member: str) -> float | None:
        """Return how many seconds ago a member has shown that it is there; `None` if it has left."""
        return self.now - float(self.beats[member]) / 1e6 if member in self.beats else None

    def living(self) -> frozenset[str]:
        """Return the members that are there."""
        return frozenset(name for name in self.members if (age := self.age(name)) is not None and age < _LIVES)

    def ended(self) -> dict[str, dict[int, Counts]]:
        """Return the counts of the members that come no more."""
        return {
            name: {record.serial: record.counts for record in shown.records.values()}
            for name, shown in self.members.items()
            if (age := self.age(name)) is None or age > _FORGOTTEN
        }


def pairs(flat: list[Any]) -> Iterable[tuple[str, str]]:
    return zip(map(str, flat[::2]), map(str, flat[1::2]), strict=True)


def shown_in(text: str) -> Shown:
    revision, records = json.loads(text)
    return Shown(
        revision,
        {
            serial: Record(serial, Counts(*counts), waiting, bool(refused), version)
            for serial, *counts, waiting, refused, version in records
        },
    )


def report_in(text: str) -> dict[int, Reported]:
    return {int(serial): Reported(*reported) for serial, reported in json.loads(text).items()}


def fields_of(entries: Iterable[Entry]) -> list[str]:
    """Return the fields of the counts of configurations."""
    return [
        f"{entry.serial}-{number}"
        for entry in entries
        for number, term in enumerate(parse_actions(entry.actions))
        if term.times is not None
    ]


def renewed_at(renewal: str) -> float:
    return int(renewal.partition(":")[0]) / 1e6


def lease_of(renewal: str) -> float:
    return int(renewal.partition(":")[2]) / 1000


def lost_owners(looked: Look) -> list[str]:
    """Return the owners that are gone for so long that nothing of theirs is left."""
    return [
        owner
        for owner, renewal in looked.owners.items()
        if looked.now - renewed_at(renewal) > lease_of(renewal) + _FORGOTTEN
    ]
