"""What a member and a `Fleet` need of the place where a fleet is kept: a folder, or a server."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias
from urllib.parse import unquote

from .._core.wakeups import Wakeup
from .state import Counts, State


class Gone(Exception):
    """The fleet is not there: its folder or its server has no state of it."""


class Ended(Exception):
    """A configuration is not in the state any more."""


class Record(NamedTuple):
    """What a member has counted of one configuration."""

    serial: int
    counts: Counts
    waiting: int
    refused: bool
    version: int  # of what waits and of the misses, of which the report has the rest


class Shown(NamedTuple):
    """What a member shows: the revision that it has, and a record of each configuration."""

    revision: int
    records: dict[int, Record]


class Reported(NamedTuple):
    """What a member knows of a configuration beside its counts."""

    refusal: str | None
    version: int
    status: Any


Reports: TypeAlias = Mapping[str, Mapping[int, Reported]]
"""The reports of members, by member and serial."""


class Seen(NamedTuple):
    """The state of a fleet and the counts of all its members, at one moment."""

    state: State
    members: Mapping[str, Shown]  # those that are there, and those that have ended and are not yet in the state
    living: frozenset[str]

    def waiting(self, serial: int) -> int:
        """Return how many visits wait at a configuration, in all processes."""
        records = (self.members[name].records.get(serial) for name in self.living)
        return sum(record.waiting for record in records if record is not None)

    def counts(self, serial: int) -> Counts:
        """Return what a configuration did in all processes, those that have ended included."""
        counts = self.state.departed.get(serial, Counts())
        for member in self.members.values():
            if serial in member.records:
                counts = counts.plus(member.records[serial].counts)
        return counts

    def agrees_with(self, reports: Reports, serials: Collection[int] | None = None) -> bool:
        """Return whether the reports are as new as the counts, of these configurations or of all."""
        for member in self.living:
            for serial, record in self.members[member].records.items():
                reported = reports.get(member, {}).get(serial)
                asked = serials is None or serial in serials
                if asked and (reported is None or reported.version != record.version):
                    return False
        return True


class Renewal(NamedTuple):
    """What an owner has shown last: another *token* each time, and how many seconds ago."""

    token: float
    age: float


class Owner(Protocol):
    """A `Fleet`, whose configurations end when it is no longer there."""

    @property
    def name(self) -> str: ...

    def touch(self) -> None:
        """Show that it is not stopped."""

    def remove(self) -> None:
        """End what is left of it."""


class Seat(Protocol):
    """A member of the fleet, as its own process sees it."""

    @property
    def name(self) -> str: ...

    @property
    def is_in_place(self) -> bool:
        """Whether the others see this member."""
        ...

    @property
    def counted_before(self) -> Mapping[int, Counts]:
        """What this process has counted in another seat, and is counted there for good, by serial."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait until there is something new, or until *wake* is called."""

    def wake(self) -> None:
        """End the wait."""

    def acknowledge(self, revision: int) -> None:
        """Show that this member has a revision of the state."""

    def write_record(self, slot: int, record: Record) -> bool:
        """Show a record, and return whether it is shown. Called with the lock of the stores held, so it is quick."""
        ...

    def write_report(self, report: Mapping[int, Reported]) -> None:
        """Show what is known beside the counts, by serial."""

    def write_answer(self, command: int, answer: object) -> None:
        """Answer a command."""

    def take(self, serial: int, term: int, times: int) -> bool | None:
        """Use up one of the *times* triggers of a term; `None` if `ask` has to. See `Ledger.take`.

        Raises `Ended`, and `OSError` if it cannot be taken.
        """
        ...

    def ask(self, serial: int, term: int, times: int, wakeup: Wakeup) -> Callable[[], bool | None]:
        """Begin to take one. See `Ledger.ask`. The result returns `None` if it cannot be taken."""
        ...

    def flush(self) -> None:
        """Return once all that was written is shown, or after a second."""

    def close(self) -> None:
        """Leave the seat. What was counted in it stays."""


class Place(Protocol):
    """Where a fleet is kept. Any thread may call any method.

    All raise `OSError` if it cannot be reached. `str` of it is what messages call it.
    """

    @property
    def needs_leave(self) -> bool:
        """Whether others than this user can configure something there, so that some actions need a leave."""
        ...

    @property
    def folder_of_visits(self) -> Path | None:
        """The folder in which members note what they visit, for the report of a run of tests; `None` for none."""
        ...

    def open(self) -> None:
        """Make the fleet unless it is there. Raises `FailpointUsageError` if it cannot be one."""

    def close(self) -> None:
        """Use it no longer."""

    def forget(self) -> None:
        """Forget, in a forked child, what is of the parent."""

    def time(self) -> float:
        """Return the time, by the clock of the place."""
        ...

    def state(self) -> State:
        """Return the state. Raises `Gone`, and `FailpointUsageError` if it cannot be read."""
        ...

    def change(self, alter: Callable[[State], State], patience: float = 5.0) -> State:
        """Change the state, let every member look at it, and return what it is now.

        *alter* returns what it is to be, and may raise.
        """
        ...

    def wake_all(self) -> None:
        """Let every member look at the state, and report what is new."""

    def refresh(self, seconds: float) -> None:
        """Wait until every member has shown what it had counted so far, or until this has taken too long."""

    def unacknowledged(self, revision: int) -> list[str]:
        """Return the members that do not have a revision yet, and whose process is there."""
        ...

    def members(self) -> list[str]:
        """Return the members whose process is there."""
        ...

    def seen(self) -> Seen:
        """Return the state and the counts of one moment. Raises `Gone`."""
        ...

    def reports(self, seen: Seen) -> Reports:
        """Return the reports of all members, those that have ended included."""
        ...

    def answers(self, command: int) -> dict[str, Any]:
        """Return the answers to a command, by member."""
        ...

    def own(self, lease: float) -> Owner:
        """Make a new owner, which has to be touched more often than every *lease* seconds."""
        ...

    def renewed(self, owner: str) -> Renewal | None:
        """Return what an owner has shown last; `None` if it has ended."""
        ...

    def join(self, before: Seat | None) -> Seat:
        """Make this process a member, which has been one in the seat *before*. Raises `Gone`."""
        ...


def member_name(member: str) -> str:
    """Return a member as people know it: `HOST:PID`."""
    return unquote(member.rpartition(":")[0])
