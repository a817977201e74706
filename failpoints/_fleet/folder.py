"""A fleet in a folder, for the processes of one machine. It needs no server, and no other package.

What each file holds, and what happens if a process dies between any two steps, is in docs/fleet.md.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, cast
from urllib.parse import quote, unquote

from .._core.clock import monotonic
from ..errors import FailpointUsageError
from . import files
from .files import Held, MemberFile, Pipe
from .state import Counts, Entry, State

_RETRY: Final = 0.002  # seconds between two attempts to become the only writer
_STALE_FILES: Final = 60.0  # seconds after which a file that was never finished is removed


class Gone(Exception):
    """The folder, or the state in it, is not there."""


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
    members: Mapping[str, MemberFile]  # those that are there, and those that have ended and are not yet in the state
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


class Folder:
    """The folder of a fleet. Any thread may call any method. All raise `OSError` if the file system refuses."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state_path = path / "state.json"
        self._read: tuple[tuple[int, int, int], State] | None = None

    # making, reading and changing the state

    def open(self) -> None:
        """Make the folder and its first state, unless they are there. Raises `FailpointUsageError` for another one."""
        files.make_folder(self.path)
        if not self._state_path.exists():
            self.change(lambda state: state)

    def state(self) -> State:
        """Return the state. Raises `Gone`, and `FailpointUsageError` if it cannot be read."""
        try:
            status = self._state_path.stat()
            identity = (status.st_ino, status.st_mtime_ns, status.st_size)
            read = self._read
            if read is not None and read[0] == identity:
                return read[1]
            text = self._state_path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            raise Gone from None
        state = State.from_json(text, str(self._state_path))
        self._read = identity, state
        return state

    def change(self, alter: Callable[[State], State], patience: float = 5.0) -> State:
        """Change the state, and return what it is now. *alter* returns what it is to be, and may raise.

        Raises `TimeoutError` if other processes are changing it for *patience* seconds.
        """
        deadline = monotonic() + patience
        while True:
            with files.locked(self.path / "lock") as is_only_writer:
                if is_only_writer:
                    return self._change(alter)
            if monotonic() >= deadline:
                raise TimeoutError(f"another process is changing {self._state_path}, and does not finish")
            time.sleep(_RETRY)

    def _change(self, alter: Callable[[State], State]) -> State:
        try:
            before = self.state()
        except Gone:
            before = State(secrets.token_hex(8))
        ended = {name: file for name, file in self._files_of_members() if not self.is_alive(name)}
        after = alter(before.without(self._is_over))
        if after is before and before.revision and not ended.keys() - before.folded:
            return before
        counts = {name: {r.serial: r.counts for r in file.records.values()} for name, file in ended.items()}
        present = list(files.names_in(self.path / "members"))
        after = replace(after, revision=before.revision + 1).with_departed(counts, present)
        self._make_tickets(entry for entry in after.entries if entry.serial > before.numbers)
        files.write_aside(self._state_path, after.to_json())
        self._remove_leftovers(after)
        return after

    def _make_tickets(self, entries: Iterable[Entry]) -> None:
        from .._core.grammar import parse_actions

        for entry in entries:
            for number, term in enumerate(parse_actions(entry.actions)):
                if term.times is not None:
                    path = self._tickets(entry.serial, number)
                    path.unlink(missing_ok=True)  # of a writer that died before it wrote the state
                    files.make_tickets(path)

    def _remove_leftovers(self, state: State) -> None:
        """Remove the files of what has ended."""
        serials = {entry.serial for entry in state.entries}
        commands = {command.number for command in state.commands}
        for folder, name in self._names("members", "wake", "reports", "owners", "answers", "counts"):
            match folder:
                case "members":
                    is_over = name in state.folded
                case "counts":
                    is_over = int(name.partition("-")[0]) not in serials
                case "answers":
                    is_over = int(name.partition("-")[0]) not in commands
                case "owners":
                    is_over = not files.is_held(self.path / folder / name)
                case _:
                    is_over = name in state.folded or not (self.path / "members" / name).exists()
            if is_over:
                with suppress(OSError):
                    (self.path / folder / name).unlink()
        for folder in (".", "members", "reports", "answers", "owners"):
            self._remove_unfinished(self.path / folder)

    def _remove_unfinished(self, folder: Path) -> None:
        with suppress(OSError):
            for path in folder.glob(f".*{files.ASIDE}"):
                if time.time() - path.stat().st_mtime > _STALE_FILES:
                    path.unlink()

    def _names(self, *folders: str) -> Iterator[tuple[str, str]]:
        for folder in folders:
            for name in files.names_in(self.path / folder):
                yield folder, name

    def wake_all(self) -> None:
        """Let every member look at the state now."""
        for name in files.names_in(self.path / "wake"):
            self.wake(name)

    # members

    def join(self) -> Held:
        """Make the file of a new member, and hold it."""
        name = f"{quote(socket.gethostname(), safe='')}:{os.getpid()}:{secrets.token_hex(4)}"
        return Held(self.path / "members" / name, files.EMPTY_MEMBER)

    def make_pipe(self, member: str) -> Pipe | None:
        """Make the pipe at which a member waits. `None` if the file system has no pipes."""
        try:
            return Pipe(self.path / "wake" / member)
        except OSError:
            return None

    def wake(self, member: str) -> None:
        """Let a member look at the state now."""
        files.wake(self.path / "wake" / member)

    def is_alive(self, member: str) -> bool:
        """Return whether the process of a member is there."""
        return files.is_held(self.path / "members" / member)

    def members(self) -> list[str]:
        """Return the members whose process is there."""
        return sorted(name for name in files.names_in(self.path / "members") if self.is_alive(name))

    def _files_of_members(self) -> Iterator[tuple[str, MemberFile]]:
        for name in files.names_in(self.path / "members"):
            file = files.read_member(self.path / "members" / name)
            if file is not None:
                yield name, file

    def unacknowledged(self, revision: int) -> list[str]:
        """Return the members that do not have a revision yet, and whose process is there."""
        return sorted(
            name for name, file in self._files_of_members() if file.revision < revision and self.is_alive(name)
        )

    def seen(self) -> Seen:
        """Return the state and the counts of one moment. Raises `Gone`."""
        while True:
            state = self.state()
            members = {name: file for name, file in self._files_of_members() if name not in state.folded}
            living = frozenset(name for name in members if self.is_alive(name))
            if self.state() is state:  # else counts may have moved from a file into the state meanwhile
                return Seen(state.without(self._is_over), members, living)

    @property
    def wants_visits(self) -> bool:
        """Whether the members that join now are to count their visits for a report."""
        return (self.path / files.VISITS).is_dir()

    # counts, reports and answers

    def _tickets(self, serial: int, term: int) -> Path:
        return self.path / "counts" / f"{serial}-{term}"

    def draw(self, serial: int, term: int) -> int:
        """Draw the number of a trigger of a term, from 0, which no other trigger of the fleet has."""
        return files.draw_ticket(self._tickets(serial, term))

    def drawn(self, serial: int, term: int) -> int:
        """Return how many numbers were drawn so far for a term: 0 for one that has no limit."""
        path = self._tickets(serial, term)
        return path.stat().st_size if path.exists() else 0

    def write_report(self, member: str, report: Mapping[int, Reported]) -> None:
        """Show what a member knows beside its counts, by serial."""
        files.write_aside(self.path / "reports" / member, json.dumps(dict(report)))

    def report(self, member: str) -> dict[int, Reported]:
        """Return what a member knows beside its counts, by serial."""
        document: Any = _read_json(self.path / "reports" / member) or {}
        return {int(serial): Reported(*reported) for serial, reported in document.items()}

    def reports(self, seen: Seen) -> Reports:
        """Return the reports of all members, those that have ended included."""
        return {name: self.report(name) for name in seen.members}

    def write_answer(self, command: int, member: str, answer: object) -> None:
        """Answer a command."""
        files.write_aside(self.path / "answers" / f"{command}-{member}", json.dumps(answer))

    def answers(self, command: int) -> dict[str, Any]:
        """Return the answers to a command, by member."""
        found: dict[str, Any] = {}
        for name in files.names_in(self.path / "answers"):
            number, _, member = name.partition("-")
            if number == str(command):
                found[member] = _read_json(self.path / "answers" / name)
        return found

    # owners

    def own(self) -> Held:
        """Make the file of a new owner, and hold it."""
        return Held(self.path / "owners" / f"{os.getpid()}-{secrets.token_hex(8)}")

    def _is_over(self, entry: Entry) -> bool:
        """Return whether the owner of a configuration has ended, or its time is over."""
        if entry.owner is not None and not files.is_held(self.path / "owners" / entry.owner):
            return True
        return entry.until is not None and entry.until <= time.time()

    def renewed(self, owner: str) -> float | None:
        """Return when an owner has shown that it is not stopped, by the wall clock; `None` if it has ended."""
        path = self.path / "owners" / owner
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns / 1e9 if files.is_held(path) else None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def member_name(member: str) -> str:
    """Return a member as people know it: `HOST:PID`."""
    return unquote(member.rpartition(":")[0])


def parse_url(url: object, source: str) -> Folder:
    """Return the folder that a URL names. Raises `FailpointUsageError`, whose message names *source*."""
    given: object = os.fspath(cast("os.PathLike[str]", url)) if isinstance(url, os.PathLike) else url
    if not isinstance(given, str) or not given or "\0" in given:
        raise FailpointUsageError(f"{source} is {given!r}: expected the absolute path of a folder, such as /run/shop")
    scheme, separator, _ = given.partition("://")
    if separator:
        known = scheme in ("redis", "rediss", "valkey", "valkeys")
        problem = "this version has no fleets on a server" if known else "this is not the URL of a fleet"
        raise FailpointUsageError(
            f"{source} begins with {scheme}://: {problem}; give the absolute path of a folder, such as /run/shop"
        )
    if not os.path.isabs(given):
        raise FailpointUsageError(
            f"{source} is {given!r}: the path must be absolute, since processes have different working directories;"
            f" did you mean {os.path.abspath(given)!r}?"
        )
    return Folder(Path(given))
