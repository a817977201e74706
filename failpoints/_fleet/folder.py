"""A fleet in a folder, for the processes of one machine. It needs no server, and no other package.

What each file holds, and what happens if a process dies between any two steps, is in docs/fleet.md.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from .._core.clock import monotonic
from .._core.wakeups import Wakeup
from ..errors import FailpointUsageError
from . import files
from .files import Held, Pipe
from .place import Ended, Gone, Record, Renewal, Reported, Reports, Seat, Seen, Shown
from .state import Counts, Entry, State

_RETRY: Final = 0.002  # seconds between two attempts to become the only writer
_RARELY: Final = 32  # changes: what a killed process has not finished harms nobody
_STALE_FILES: Final = 60.0  # seconds after which a file that was never finished is removed


class Folder:
    """The folder of a fleet: a `Place`. All methods raise `OSError` if the file system refuses."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state_path = path / "state.json"
        self._read: tuple[tuple[int, int, int], State] | None = None

    def __str__(self) -> str:
        return repr(str(self.path))

    def close(self) -> None:
        """Use it no longer."""

    def forget(self) -> None:
        """Forget, in a forked child, what is of the parent."""

    @staticmethod
    def time() -> float:
        """Return the time."""
        return time.time()

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

    def _has(self, serial: int) -> bool:
        """Return whether a configuration is in the state; false if that cannot be read."""
        try:
            return any(entry.serial == serial for entry in self.state().entries)
        except (Gone, FailpointUsageError):
            return False

    def change(self, alter: Callable[[State], State], patience: float = 5.0) -> State:
        """Change the state, let every member look at it, and return what it is now.

        *alter* returns what it is to be, and may raise.

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
            for name in files.names_in(self.path / "members"):  # of a fleet that is gone: they join this one
                (self.path / "members" / name).unlink(missing_ok=True)
        ended = {name: file for name, file in self._files_of_members() if not self.is_alive(name)}
        after = alter(self._without_ended(before))
        if after is before and before.revision and not ended.keys() - before.folded:
            return before
        counts = {name: {r.serial: r.counts for r in file.records.values()} for name, file in ended.items()}
        present = list(files.names_in(self.path / "members"))
        after = replace(after, revision=before.revision + 1).with_departed(counts, present)
        self._make_tickets(entry for entry in after.entries if entry.serial > before.numbers)
        files.write_aside(self._state_path, after.to_json())
        self.wake_all()  # before the rest, for which nobody waits
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
        if state.revision % _RARELY == 0:
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

    def refresh(self, seconds: float) -> None:
        """Do nothing: what a member has counted is in its file."""

    # members

    def join(self, before: Seat | None) -> FolderSeat:
        """Make the file of a new member, and hold it."""
        return FolderSeat(self, before.counted if isinstance(before, FolderSeat) else {})

    def wake(self, member: str) -> None:
        """Let a member look at the state now."""
        files.wake(self.path / "wake" / member)

    def is_alive(self, member: str) -> bool:
        """Return whether the process of a member is there."""
        return files.is_held(self.path / "members" / member)

    def members(self) -> list[str]:
        """Return the members whose process is there."""
        return sorted(name for name in files.names_in(self.path / "members") if self.is_alive(name))

    def _files_of_members(self) -> Iterator[tuple[str, Shown]]:
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
                return Seen(self._without_ended(state), members, living)

    @property
    def needs_leave(self) -> bool:
        """Whether others than this user can configure something: no."""
        return False

    @property
    def folder_of_visits(self) -> Path | None:
        """The folder in which the members that join now are to count their visits; `None` for none."""
        return self.path if (self.path / files.VISITS).is_dir() else None

    # counts, reports and answers

    def _tickets(self, serial: int, term: int) -> Path:
        return self.path / "counts" / f"{serial}-{term}"

    def draw(self, serial: int, term: int) -> int:
        """Draw the number of a trigger of a term, from 0, which no other trigger of the fleet has."""
        return files.draw_ticket(self._tickets(serial, term))

    def take(self, serial: int, term: int, times: int) -> bool:
        """Use up one of the *times* triggers of a term. See `Seat.take`."""
        try:
            return self.draw(serial, term) < times
        except FileNotFoundError:
            if self._has(serial):
                raise
            raise Ended from None

    def drawn(self, serial: int, term: int) -> int:
        """Return how many numbers were drawn so far for a term: 0 for one that has no limit."""
        path = self._tickets(serial, term)
        return path.stat().st_size if path.exists() else 0

    def report(self, member: str) -> dict[int, Reported]:
        """Return what a member knows beside its counts, by serial."""
        document: Any = _read_json(self.path / "reports" / member) or {}
        return {int(serial): Reported(*reported) for serial, reported in document.items()}

    def reports(self, seen: Seen) -> Reports:
        """Return the reports of all members, those that have ended included."""
        return {name: self.report(name) for name in seen.members}

    def answers(self, command: int) -> dict[str, Any]:
        """Return the answers to a command, by member."""
        found: dict[str, Any] = {}
        for name in files.names_in(self.path / "answers"):
            number, _, member = name.partition("-")
            if number == str(command):
                found[member] = _read_json(self.path / "answers" / name)
        return found

    # owners

    def own(self, lease: float = 0) -> Held:
        """Make the file of a new owner, and hold it."""
        return Held(self.path / "owners" / f"{os.getpid()}-{secrets.token_hex(8)}")

    def _without_ended(self, state: State) -> State:
        """Return the state without the configurations whose owner has ended, or whose time is over."""
        now = time.time()
        ended = {owner for owner in state.owners() if not files.is_held(self.path / "owners" / owner)}
        return state.without(lambda each: each.owner in ended or (each.until is not None and each.until <= now))

    def renewed(self, owner: str) -> Renewal | None:
        """Return when an owner has shown that it is not stopped; `None` if it has ended."""
        path = self.path / "owners" / owner
        try:
            touched = path.stat().st_mtime_ns / 1e9
        except FileNotFoundError:
            return None
        return Renewal(touched, time.time() - touched) if files.is_held(path) else None


class FolderSeat:
    """A member in a folder: a file that its process holds, and a pipe at which it waits."""

    def __init__(self, folder: Folder, counted_before: Mapping[int, Counts]) -> None:
        self._folder = folder
        self.name = f"{quote(socket.gethostname(), safe='')}:{os.getpid()}:{secrets.token_hex(4)}"
        self._file = Held(folder.path / "members" / self.name, files.EMPTY_MEMBER)
        self._pipe: Pipe | None = None
        with suppress(OSError):  # a file system may have no pipes
            self._pipe = Pipe(folder.path / "wake" / self.name)
        self._woken = threading.Event()
        self.counted: dict[int, Counts] = {}
        self.counted_before = counted_before

    @property
    def is_in_place(self) -> bool:
        return self._file.is_in_place

    def wait(self, seconds: float) -> None:
        pipe = self._pipe
        if pipe is None:
            self._woken.wait(seconds)
            self._woken.clear()
        elif not pipe.wait(seconds):  # the program has closed it
            self._pipe = None

    def wake(self) -> None:
        if self._pipe is None:
            self._woken.set()
        else:
            self._folder.wake(self.name)

    def acknowledge(self, revision: int) -> None:
        files.write_revision(self._file, revision)

    def write_record(self, slot: int, record: Record) -> bool:
        is_written = files.write_record(self._file, slot, record)
        if is_written:
            self.counted[record.serial] = record.counts
        return is_written

    def write_report(self, report: Mapping[int, Reported]) -> None:
        files.write_aside(self._folder.path / "reports" / self.name, json.dumps(dict(report)))

    def write_answer(self, command: int, answer: object) -> None:
        files.write_aside(self._folder.path / "answers" / f"{command}-{self.name}", json.dumps(answer))

    def take(self, serial: int, term: int, times: int) -> bool:
        return self._folder.take(serial, term, times)

    def ask(self, serial: int, term: int, times: int, wakeup: Wakeup) -> Callable[[], bool | None]:
        raise NotImplementedError  # `take` always has the answer

    def flush(self) -> None:
        pass  # what is written is shown

    def close(self) -> None:
        if self._file.is_open and not self._file.path.exists():
            self.counted.clear()  # nobody has them: the file was removed while it was held
        self._file.close()
        if self._pipe is not None:
            self._pipe.close()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
