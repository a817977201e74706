"""What is configured for a fleet, as a value that never changes. Every change makes another one. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, NamedTuple, Self

from ..errors import FailpointUsageError

FORMAT: Final = 1
_COMMANDS_KEPT: Final = 256  # a command is carried out within seconds
_LARGE_COMMANDS_KEPT: Final = 8  # of those whose answers are large


class Counts(NamedTuple):
    """What one configuration did in one process, or in several."""

    hits: int = 0
    misses: int = 0
    triggers: int = 0

    def plus(self, other: Counts) -> Counts:
        """Return the sums."""
        return Counts(self.hits + other.hits, self.misses + other.misses, self.triggers + other.triggers)


@dataclass(frozen=True, slots=True)
class Entry:
    """One configuration of the fleet.

    Attributes:
        serial: Its number, which no other configuration of the fleet ever has.
        name: The failpoint.
        actions: Its actions, as text.
        matchers: Its matchers, as JSON has them.
        owner: The `Fleet` whose end is its end; `None` if there is none.
        lease: How many seconds the owner may leave it unrenewed.
        span: How many seconds it lasts; `None` for no limit.
        until: When that is over, by the wall clock of the writer.
        block: Whether what it replaces is in force again once it is removed.
    """

    serial: int
    name: str
    actions: str
    matchers: Mapping[str, Any]
    owner: str | None = None
    lease: float = 0.0
    span: float | None = None
    until: float | None = None
    block: bool = False

    def replaces(self, older: Entry) -> bool:
        """Return whether it takes the place of an older one."""
        return self.name == older.name and (not self.matchers or self.matchers == older.matchers)


@dataclass(frozen=True, slots=True)
class Command:
    """A request to every member, which each carries out once.

    Attributes:
        number: Its number in the fleet.
        name: The failpoint.
        matchers: Which of the waiting visits are meant.
        serial: The configuration at which they wait; `None` for all of the failpoint.
        tasks: How many to wake in each member; `None` for all. Members that are not named wake nothing.
        asks: Whether the members only answer since when such visits wait.
        waiter: The only one to be woken: its member as `HOST:PID`, its task, and since when it waits.
        declares: Whether the members only answer which failpoints their modules declare, and where.
    """

    number: int
    name: str
    matchers: Mapping[str, Any]
    serial: int | None = None
    tasks: Mapping[str, int] | None = None
    asks: bool = False
    waiter: Sequence[str] | None = None
    declares: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """What is configured for a fleet, and what its members have to know.

    Attributes:
        fleet: The id of the fleet.
        revision: The number of changes so far.
        numbers: The number of serials and command numbers that were given out.
        entries: The configurations, the newest last.
        commands: The latest commands.
        departed: The counts of members that have ended, by serial.
        folded: The members whose counts are in *departed*, while their files may still be there.
    """

    fleet: str
    revision: int = 0
    numbers: int = 0
    entries: tuple[Entry, ...] = ()
    commands: tuple[Command, ...] = ()
    departed: Mapping[int, Counts] = field(default_factory=dict[int, Counts])
    folded: frozenset[str] = frozenset()

    def with_entries(self, entries: Iterable[Entry]) -> State:
        """Return the state with newer configurations, which replace those with equal matchers or, without any, all."""
        state = self
        for entry in entries:
            number = state.numbers + 1
            kept = tuple(each for each in state.entries if entry.block or not entry.replaces(each))
            state = replace(state, numbers=number, entries=(*kept, replace(entry, serial=number)))
        return state

    def settled(self, serials: Collection[int]) -> State:
        """Return the state in which these configurations have replaced for good what they hide."""
        final = [entry for entry in self.entries if entry.serial in serials]
        return self.without(lambda each: any(entry.serial > each.serial and entry.replaces(each) for entry in final))

    def without(self, ended: Callable[[Entry], bool]) -> State:
        """Return the state without some configurations."""
        kept = tuple(entry for entry in self.entries if not ended(entry))
        return self if len(kept) == len(self.entries) else replace(self, entries=kept)

    def with_command(self, command: Command) -> State:
        """Return the state with one more command."""
        number = self.numbers + 1
        commands = (*self.commands, replace(command, number=number))[-_COMMANDS_KEPT:]
        large = [each.number for each in commands if each.declares][:-_LARGE_COMMANDS_KEPT]
        commands = tuple(each for each in commands if each.number not in large)
        return replace(self, numbers=number, commands=commands)

    def with_departed(self, counts: Mapping[str, Mapping[int, Counts]], present: Iterable[str]) -> State:
        """Return the state with the counts of members that have ended.

        Args:
            counts: The counts of each such member, by serial.
            present: The members, ended or not, that still have a file.
        """
        serials = {entry.serial for entry in self.entries}
        departed = {serial: count for serial, count in self.departed.items() if serial in serials}
        folded = self.folded & frozenset(present)
        for member, by_serial in counts.items():
            if member not in folded:
                for serial, count in by_serial.items():
                    if serial in serials:
                        departed[serial] = departed.get(serial, Counts()).plus(count)
        folded |= frozenset(counts)
        return replace(self, departed=departed, folded=folded)

    def of(self, name: str) -> tuple[Entry, ...]:
        """Return the configurations of a name that are in force, the newest first."""
        found: list[Entry] = []
        for entry in reversed(self.entries):
            if entry.name == name and not any(newer.replaces(entry) for newer in found):
                found.append(entry)
        return tuple(found)

    def owners(self) -> frozenset[str]:
        """Return the owners of the configurations."""
        return frozenset(entry.owner for entry in self.entries if entry.owner is not None)

    # as text

    def to_json(self) -> str:
        """Return the state as text."""
        document = {
            "format": FORMAT,
            "fleet": self.fleet,
            "revision": self.revision,
            "numbers": self.numbers,
            "entries": [asdict(entry) for entry in self.entries],
            "commands": [asdict(command) for command in self.commands],
            "departed": {str(serial): list(counts) for serial, counts in self.departed.items()},
            "folded": sorted(self.folded),
        }
        return json.dumps(document, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Return the state that a text describes. Raises `FailpointUsageError`, whose message names *where*."""
        try:
            document: Any = json.loads(text)
            form: Any = document["format"]
            if isinstance(form, int) and form > FORMAT:
                raise FailpointUsageError(
                    f"{where} was written by a newer version of failpoints (format {form}, this version reads"
                    f" {FORMAT}): use the same version in all processes"
                )
            return cls(
                fleet=str(document["fleet"]),
                revision=int(document["revision"]),
                numbers=int(document["numbers"]),
                entries=tuple(Entry(**each) for each in document["entries"]),
                commands=tuple(Command(**each) for each in document["commands"]),
                departed={int(serial): Counts(*counts) for serial, counts in document["departed"].items()},
                folded=frozenset(map(str, document["folded"])),
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise FailpointUsageError(
                f"{where} is damaged, and is left as it is: remove the folder to begin again"
            ) from error
