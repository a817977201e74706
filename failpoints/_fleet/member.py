"""A member of a fleet: keeps the process-wide registry as the fleet has it, and shows what happens there.

A thread looks at the place of the fleet when it is woken, and ten times a second. Visits do not wait for it.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from .._core.clock import monotonic
from .._core.configuration import Ask, Configuration
from .._core.context import Matchers
from .._core.ending import before_end
from .._core.locks import guard
from .._core.log import logger
from .._core.store import PROCESS_STORE
from .._core.wakeups import Wakeup, wake
from .._http.wire import shown_site, status_document
from ..errors import FailpointError, FailpointUsageError
from .background import Background
from .leases import Leases
from .leave import refusal
from .place import Ended, Gone, Place, Record, Reported, Seat, member_name
from .state import Command, Counts, Entry, State

if TYPE_CHECKING:
    from .visits import VisitLog

_LOOK: Final = 0.1  # seconds between two looks at the place, if nothing wakes the member
_REPORT: Final = 0.02  # seconds between two reports
_ABSENT: Final = 1.0  # seconds between two attempts to join
_NO_MEMBER: Final = "this process is not a member at the moment"


class _SharedCounts:
    """The ledger of a configuration: its counts are those of the fleet. Called with the lock of the stores held."""

    __slots__ = ("_base", "_member", "_spent", "_waiting", "_written", "entry", "refusal", "slot", "version")

    def __init__(self, member: Member, entry: Entry, slot: int, refusal: str | None = None) -> None:
        self._member = member
        self.entry = entry
        self.slot = slot
        self.refusal = refusal
        self._spent: set[int] = set()
        self._base = Counts()  # what was counted in another seat
        self._written = Counts()
        self._waiting = 0
        self.version = 0  # of what waits, and of the misses

    def take(self, term: int, times: int) -> bool | Ask | None:
        if term in self._spent:
            return False
        seat = self._member.seat
        if seat is None:
            self._leave_out(_NO_MEMBER)
            return None
        try:
            taken = seat.take(self.entry.serial, term, times)
        except Ended:  # the member is about to see it
            return None
        except OSError as error:
            self._leave_out(error)
            return None
        if taken is None:
            return Ask(term, times)
        if not taken:
            self._spent.add(term)
        return taken

    def ask(self, term: int, times: int, wakeup: Wakeup) -> Callable[[], bool | None]:
        seat = self._member.seat
        if seat is None:
            self._leave_out(_NO_MEMBER)
            wake([wakeup])
            return lambda: None
        answer = seat.ask(self.entry.serial, term, times, wakeup)

        def is_granted() -> bool | None:
            taken = answer()
            if taken is None:
                self._leave_out("there was no answer in time")
            elif not taken:
                self._spent.add(term)
            return taken

        return is_granted

    def _leave_out(self, why: object) -> None:
        self._member.note_trouble(f"a count of {self.entry.name!r} cannot be taken, so its action is left out: {why}")

    def note(self, configuration: Configuration) -> None:
        counted = Counts(configuration.hits, configuration.misses, configuration.triggers)
        waiting = len(configuration.parked)
        has_missed = counted.misses != self._written.misses
        wakes = waiting != self._waiting or (has_missed and self._written.misses == self._base.misses)  # the first one
        if wakes or has_missed:
            self.version += 1
        self._waiting = waiting
        if self._member.write_record(self._record(counted, waiting), self.slot):
            self._written = counted
        if wakes:
            self._member.wake()

    def write_first(self) -> None:
        self._member.write_record(self._record(self._written, 0), self.slot)

    def _record(self, counted: Counts, waiting: int) -> Record:
        counts = Counts(*(max(count - base, 0) for count, base in zip(counted, self._base, strict=True)))
        return Record(self.entry.serial, counts, waiting, self.refusal is not None, self.version)

    def leave_to_parent(self) -> None:
        """Begin to count, in a forked child: what was counted so far is the parent's."""
        self._base = self._written

    def move(self, slot: int, configuration: Configuration | None, before: Counts) -> None:
        """Go on in another seat. What was counted *before* stays in the one before."""
        self.slot = slot
        self._base = self._base.plus(before)
        if configuration is not None:
            self.note(configuration)
        else:
            self.write_first()
        self._member.has_news()


class Member:
    """This process as a member of a fleet."""

    def __init__(self, place: Place, leave: Collection[str] = ()) -> None:
        self.place = place
        self._leaves = leave
        self.seat: Seat | None = None
        self._left: Seat | None = None  # until there is another one
        self._process = os.getpid()
        self._woken = threading.Event()
        self._state: State | None = None
        self._leases = Leases(place)
        self._mine: dict[int, tuple[_SharedCounts, Configuration | None]] = {}
        self._commands_done = 0
        self._unanswered: dict[int, object] = {}  # the answers to commands that are done
        self._news = False
        self._next_report = 0.0
        self._trouble: dict[str, None] = {}  # to be logged
        self._logged: set[str] = set()  # until the next time that it joins
        self._fleet: str | None = None  # its id
        self._visits: VisitLog | None = None
        self._thread = Background("failpoints fleet", self._step, self.wake)

    # from the start to the end

    def start(self) -> None:
        """Join, have what is configured, and follow the fleet from now on.

        Raises `FailpointUsageError` if the place can never be that of a fleet. If it cannot be reached, or the state
        cannot be read, that is logged, and the program goes on and joins when it can.
        """
        with suppress(OSError):  # it is tried again
            self.place.open()
        self._follow()
        self._thread.start()
        atexit.register(self.end)
        before_end.append(self._end_here)
        self._end_with_multiprocessing()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._in_child)

    def end(self) -> None:
        """Stop following. The counts stay where they are, for those who sum them."""
        if self._process == os.getpid() and self._thread.stop():
            if self._news:
                self._report()
            self._note_modules()
            self._end_here()

    def _end_with_multiprocessing(self) -> None:
        """Have `end` called in a child of multiprocessing, too. It ends by `os._exit`, after its own finalizers."""
        util: Any = sys.modules.get("multiprocessing.util")
        if util is not None:

            def end_at_last(member: Member) -> None:
                util.Finalize(member, member.end, exitpriority=-100)

            util.register_after_fork(self, end_at_last)

    def wake(self) -> None:
        """Let the thread look now."""
        seat = self.seat
        if seat is None:
            self._woken.set()
        else:
            seat.wake()

    def _end_here(self) -> None:
        if self.seat is not None:
            self.seat.flush()
        self.place.close()

    def _in_child(self) -> None:
        """Join in a forked child, before any code of the program runs there."""
        self._process = os.getpid()
        self.seat = self._left = None
        self.place.forget()
        for counts, _ in self._mine.values():
            counts.leave_to_parent()
        self._woken = threading.Event()
        self._follow()
        self._end_with_multiprocessing()
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads can be started
            logger.error("failpoints fleet: process %d does not follow it: %s", os.getpid(), error)

    # the thread

    def _step(self) -> None:
        self._wait(_LOOK if self.seat is not None else _ABSENT)
        self._follow()
        self._note_modules()

    def _wait(self, seconds: float) -> None:
        if self._news:
            seconds = min(seconds, max(self._next_report - monotonic(), 0))
        if self.seat is not None:
            self.seat.wait(seconds)
        else:
            self._woken.wait(seconds)
            self._woken.clear()

    def _follow(self) -> None:
        """Do what is due. Called on the thread, and before the thread runs."""
        try:
            if self.seat is None or not self.seat.is_in_place:
                self._join()
            state = self.place.state()
            self._apply(state)
        except Gone:
            self._leave()
            self.note_trouble(f"the fleet in {self.place} is gone, and with it what it had configured")
        except FailpointUsageError as error:
            self.note_trouble(str(error))
        except OSError as error:  # a TimeoutError is one, too
            self.note_trouble(f"cannot reach the fleet in {self.place}: {error}")
        self._end_what_is_over()
        self._drop_stale()
        if self._news and monotonic() >= self._next_report:
            self._report()
        self._log_trouble()

    def _join(self) -> None:
        if self.seat is not None:
            self._left, self.seat = self.seat, None
            self._left.close()
        elif self._left is not None:  # it could not join since then: a part of the place may be missing
            self.place.state()  # first, since a fleet that is gone is not made again here
            self.place.open()
        if self._fleet is None:
            self.place.open()
        state = self.place.state()
        if state.fleet != self._fleet:
            self._leave()
            self._fleet = state.fleet
        seat = self.place.join(self._left)
        self._left = None
        self._unanswered.clear()
        self._commands_done = self.place.state().numbers
        self._state = None
        self._logged.clear()
        with guard.lock:  # so that no visit is counted meanwhile
            self.seat = seat
            for slot, (counts, configuration) in enumerate(self._mine.values()):
                counts.move(slot, configuration, seat.counted_before.get(counts.entry.serial, Counts()))
        self._count_visits(seat.name)
        logger.info("joined the fleet in %s as %s", self.place, member_name(seat.name))

    def _leave(self) -> None:
        """End everything of the fleet: it is gone."""
        self._remove(list(self._mine))
        self._state = None
        seat, self.seat, self._left = self.seat, None, None
        if seat is not None:
            seat.close()

    def _count_visits(self, member: str) -> None:
        before, self._visits = self._visits, None
        if before is not None:
            before.close()
        folder = self.place.folder_of_visits
        if folder is not None:
            from .visits import VisitLog  # imported here because only a report needs it

            self._visits = VisitLog(folder, member)

    def _note_modules(self) -> None:
        if self._visits is not None:
            self._visits.note_modules()

    def _log_trouble(self) -> None:
        while self._trouble:
            trouble, _ = self._trouble.popitem()
            if trouble not in self._logged:
                self._logged.add(trouble)
                logger.warning("failpoints fleet: %s (process %d)", trouble, os.getpid())

    def _apply(self, state: State) -> None:
        seat = self.seat
        if state is self._state or seat is None:
            return
        over = self._leases.ended(state)
        wanted = {entry.serial: entry for entry in state.entries if entry.serial not in over}
        prepared = [self._prepare(entry) for serial, entry in wanted.items() if serial not in self._mine]
        # Before the removal, so that no visit comes between the two.
        PROCESS_STORE.install_all([configuration for configuration in prepared if configuration is not None])
        self._remove([serial for serial in self._mine if serial not in wanted])
        for command in state.commands:
            if command.number > self._commands_done:
                self._commands_done = command.number
                self._unanswered[command.number] = self._carry_out(command, seat)
        for number, answer in list(self._unanswered.items()):  # what cannot be written now is tried again
            seat.write_answer(number, answer)
            del self._unanswered[number]
        if any(counts.refusal for counts, _ in self._mine.values()):
            self._report()  # first, so that whoever sees the revision can read why
        seat.acknowledge(state.revision)
        self._state = state

    def _remove(self, serials: Iterable[int]) -> None:
        for serial in serials:
            _, configuration = self._mine.pop(serial)
            if configuration is not None:
                PROCESS_STORE.remove_one(configuration)

    def _end_what_is_over(self) -> None:
        """End what nobody renews, also if the folder cannot be reached."""
        state = self._state
        over = self._leases.ended(state) if state is not None else {}
        if not over:
            return
        self._remove([serial for serial in over if serial in self._mine])
        with suppress(OSError, FailpointUsageError):  # else a process that can write does it
            self.place.change(lambda state: state.without(lambda entry: entry.serial in over), patience=0)

    def _prepare(self, entry: Entry) -> Configuration | None:
        taken = {counts.slot for counts, _ in self._mine.values()}
        slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
        counts = _SharedCounts(self, entry, slot)
        configuration: Configuration | None = None
        try:
            configuration = PROCESS_STORE.prepare(entry.name, entry.actions, entry.matchers, for_block=True)
            counts.refusal = refusal(configuration.terms, self._leaves) if self.place.needs_leave else None
            configuration.ledger = counts
        except FailpointError as error:
            counts.refusal = str(error)
        if counts.refusal is not None:
            configuration = None
            logger.error("failpoints fleet: process %d refuses %s: %s", os.getpid(), entry.name, counts.refusal)
        self._mine[entry.serial] = counts, configuration
        counts.write_first()
        self.has_news()
        return configuration

    def _carry_out(self, command: Command, seat: Seat) -> object:
        """Do what a command says, and return the answer."""
        mine = self._mine.get(command.serial) if command.serial is not None else None
        only = mine[1] if mine is not None else None
        answer: int | list[str] | dict[str, list[str]] = 0
        if command.declares:
            answer = _declared()
        elif command.serial is not None and only is None:
            pass  # it is no longer configured here
        elif command.asks:
            status = PROCESS_STORE.status(command.name) if only is None else PROCESS_STORE.status_of(only)
            matchers = Matchers(command.matchers)
            answer = [each.since.isoformat() for each in status.waiting if matchers.mismatch(each.context) is None]
        elif command.waiter is not None:
            answer = self._resume_one(command.name, *command.waiter)
        elif command.tasks is None or seat.name in command.tasks:
            tasks = command.tasks[seat.name] if command.tasks is not None else None
            answer = PROCESS_STORE.resume(command.name, command.matchers, tasks, only=only)
        return answer

    def _resume_one(self, name: str, member: str, task: str, since: str) -> int:
        """Wake one waiter, and return how many were woken: none if it is of another member, or has gone on."""
        if self.seat is None or member_name(self.seat.name) != member:
            return 0
        for arrival, each in PROCESS_STORE.parked(name, sys.maxsize)[1].items():
            if (each.name, each.since.isoformat()) == (task, since):
                return PROCESS_STORE.resume(name, arrival=arrival)
        return 0

    def _drop_stale(self) -> None:
        """Remove what is no longer configured, and what the program has put back, for example after a test."""
        for configuration in PROCESS_STORE.configurations():
            ledger = configuration.ledger
            if isinstance(ledger, _SharedCounts) and ledger.entry.serial not in self._mine:
                PROCESS_STORE.remove_one(configuration)

    # what others see

    def write_record(self, record: Record, slot: int) -> bool:
        """Show the counts of a configuration, and return whether they are. Called with the lock of the stores held."""
        self._news = True
        seat = self.seat
        if seat is None or self._process != os.getpid():
            return False
        try:
            return seat.write_record(slot, record)
        except OSError as error:
            self.note_trouble(f"the counts of this process cannot be written: {error}")
            return False

    def has_news(self) -> None:
        """Note that the report of this member is out of date."""
        self._news = True

    def note_trouble(self, trouble: str) -> None:
        """Log a warning once, on the thread: a visit holds the lock of the stores."""
        self._trouble[trouble] = None

    def _report(self) -> None:
        self._news = False
        self._next_report = monotonic() + _REPORT
        seat = self.seat
        if seat is None:
            return
        report: dict[int, Reported] = {}
        for serial, (counts, configuration) in list(self._mine.items()):
            version = counts.version  # first: what comes now makes another report
            status = None if configuration is None else status_document(PROCESS_STORE.status_of(configuration))
            report[serial] = Reported(counts.refusal, version, status)
        try:
            seat.write_report(report)
        except FileNotFoundError:
            pass  # the folder is being removed, as the next look finds
        except OSError as error:
            self.note_trouble(f"what waits in this process cannot be shown: {error}")


def _declared() -> dict[str, list[str]]:
    from .._core.declared import with_declared  # imported here because it brings in the scanner of source code

    return {status.name: list(map(shown_site, status.sites)) for status in with_declared(())}


def join(place: Place, leave: Collection[str]) -> None:
    """Make this process a member, until it ends. *leave* has the words of `FAILPOINTS_FLEET_ALLOW`."""
    Member(place, leave).start()
