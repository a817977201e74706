"""The process-wide registry as the source of a fleet: what is configured there reaches all members.

This process is not a member itself. Its registry has the counts of the members added to its own.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from .._core.clock import monotonic
from .._core.configuration import NOWHERE, Configuration, Elsewhere
from .._core.context import GivenMatchers
from .._core.locks import guard
from .._core.log import logger
from .._core.store import PROCESS_STORE
from .._core.validation import check_count
from .._core.wakeups import Wakeup
from .._http.wire import entry_document, matchers_document
from ..errors import FailpointUsageError
from .background import keep_renewed
from .folder import Folder
from .member import Member
from .place import Ended, Gone, member_name
from .state import Command, Counts, Entry, State
from .status import status_of_fleet

_LEASE: Final = 30.0  # seconds
_ACKNOWLEDGED: Final = 10.0  # seconds for all members to have what is configured
_REPORTED: Final = 0.3  # seconds for the reports of members to be as new as their counts
_LOOK: Final = 0.001  # seconds


class _Tickets:
    """The ledger of a configuration of this process: it takes its counts from those of the fleet."""

    __slots__ = ("_configuration", "_folder", "_serial")

    def __init__(self, folder: Folder, serial: int, configuration: Configuration) -> None:
        self._folder = folder
        self._serial = serial
        self._configuration = configuration

    def take(self, term: int, times: int) -> bool | None:
        try:
            return self._folder.take(self._serial, term, times)
        except Ended:  # it is being configured again, or the fleet is gone with its folder
            pass
        except OSError as error:  # the test has to see it
            self._configuration.error = FailpointUsageError(
                f"a count cannot be taken from those of all processes, so the visit did nothing: {error}"
            )
        return None

    def ask(self, term: int, times: int, wakeup: Wakeup) -> Callable[[], bool]:
        raise NotImplementedError  # `take` always has the answer

    def note(self, configuration: Configuration) -> None:
        pass  # they are added to those of the fleet here


class Source:
    """Hands on what the process-wide registry has, to the members of the fleet in a folder.

    What has no text, such as a `Call` or a predicate, stays in this process.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._changing = self._changed_again = False
        self._published: dict[Configuration, Entry] = {}
        self._bases = weakref.WeakKeyDictionary[Configuration, Counts]()  # what was counted under another serial
        self._is_active = True
        folder.open()
        self._owner = folder.own()
        self._renewing = keep_renewed(self._owner, _LEASE)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._in_child)
        PROCESS_STORE.others = self
        self.changed()

    def end(self) -> None:
        """End what is configured in the members."""
        PROCESS_STORE.others = None
        self._is_active = False
        self._renewing.stop()
        for configuration in self._published:
            configuration.ledger = None
        self._published.clear()
        self._owner.remove()
        with suppress(OSError):
            self._folder.wake_all()

    def _in_child(self) -> None:
        """Make a forked child a member, before any code of the program runs there."""
        if not self._is_active:
            return
        self._is_active = False
        PROCESS_STORE.others = None
        for configuration in self._published:
            PROCESS_STORE.remove_one(configuration)
        self._published = {}
        Member(self._folder).start()

    # configuring

    def changed(self) -> None:
        """Configure the members as the registry is now. Returns once they have acknowledged it, or after some time."""
        with self._lock:
            if self._changing:  # a log handler or a signal handler configures something
                self._changed_again = True
                return
            self._changing = self._changed_again = True
            try:
                while self._changed_again:
                    self._changed_again = False
                    self._publish()
            except (OSError, Gone, FailpointUsageError) as error:
                logger.warning("failpoints fleet: other processes are not configured: %s", error)
            finally:
                self._changing = False

    def _publish(self) -> None:
        removed: list[Configuration] = []
        added: list[tuple[Configuration, Entry]] = []
        stacks = PROCESS_STORE.stacks
        for name in {**stacks, **dict.fromkeys(each.name for each in self._published)}:
            before = [each for each in self._published if each.name == name]
            now = [each for each in reversed(PROCESS_STORE.stack(name).configurations()) if self._is_own(each)]
            entries = {each: entry for each in now if (entry := self._entry(each)) is not None}
            kept = 0  # what comes after the first difference is configured again, so that the order is the same
            for one, other in zip(before, entries, strict=False):
                if one is not other:
                    break
                kept += 1
            removed += before[kept:]
            added += list(entries.items())[kept:]
        if removed or added:
            used = {each: self._used(each) for each in removed}
            self._exchange(removed, added, used)

    def _used(self, configuration: Configuration) -> list[int]:
        """Return how often all processes together have used each term."""
        serial = self._published[configuration].serial
        return [self._folder.drawn(serial, term) for term in range(len(configuration.terms))]

    def _is_own(self, configuration: Configuration) -> bool:
        return configuration.ledger is None or configuration in self._published

    def can_have(self, configuration: Configuration) -> bool:
        """Return whether the members can be given a configuration. One without a text stays in this process."""
        return self._entry(configuration) is not None

    def _entry(self, configuration: Configuration) -> Entry | None:
        try:
            document = entry_document(configuration.name, configuration.terms, configuration.matchers.given)
        except FailpointUsageError:  # it has no text
            return None
        return Entry(
            serial=0,
            name=configuration.name,
            actions=document["actions"],
            matchers=document["context_matchers"],
            owner=self._owner.name,
            lease=_LEASE,
            block=True,  # the registry says itself what replaces what
        )

    def _exchange(
        self,
        removed: list[Configuration],
        added: list[tuple[Configuration, Entry]],
        used: Mapping[Configuration, Sequence[int]],
    ) -> None:
        self.refresh(removed)
        for configuration in removed:
            self._bases[configuration] = Counts(*configuration.elsewhere[:3])
        serials = {self._published[each].serial for each in removed}
        entries = [entry for _, entry in added]

        def alter(state: State) -> State:
            return state.without(lambda entry: entry.serial in serials).with_entries(entries)

        state = self._folder.change(alter)
        with guard.lock:
            for configuration in removed:
                del self._published[configuration]
                configuration.ledger = None
            for number, (configuration, entry) in enumerate(added, state.numbers - len(added) + 1):
                self._published[configuration] = replace(entry, serial=number)
                configuration.share(_Tickets(self._folder, number, configuration), used.get(configuration, ()))
        self._wait_for(state)

    def _wait_for(self, state: State) -> None:
        deadline = monotonic() + _ACKNOWLEDGED
        pause = threading.Event()
        while missing := self._folder.unacknowledged(state.revision):
            if monotonic() >= deadline:
                names = ", ".join(map(member_name, missing))
                logger.warning("failpoints fleet: not acknowledged within %g s: %s", _ACKNOWLEDGED, names)
                return
            pause.wait(_LOOK)

    def begin_again(self) -> Callable[[], None]:
        """Begin the counts of the members again. Calling the result adds up what was counted before and since."""
        with self._lock:
            self.refresh(self._published)
            before = {each: Counts(*each.elsewhere[:3]) for each in self._published}
            again = [(each, entry) for each, entry in self._published.items()]
            try:
                self._exchange(list(self._published), again, {})
            except (OSError, Gone, FailpointUsageError) as error:
                logger.warning("failpoints fleet: other processes go on counting: %s", error)
            for configuration in before:
                self._bases.pop(configuration, None)
                configuration.elsewhere = NOWHERE

        def go_on() -> None:
            with self._lock:
                for configuration, counts in before.items():
                    self._bases[configuration] = self._bases.get(configuration, Counts()).plus(counts)
                self.refresh(before)

        return go_on

    # looking, and waking

    def refresh(self, configurations: Iterable[Configuration]) -> None:
        """Note in each configuration what the members did."""
        serials = {each: self._published[each].serial for each in configurations if each in self._published}
        if not serials:
            return
        try:
            seen = self._folder.seen()
            reports = self._folder.reports(seen)
            deadline = monotonic() + _REPORTED
            while not seen.agrees_with(reports, serials.values()) and monotonic() < deadline:
                self._folder.wake_all()
                threading.Event().wait(_LOOK)
                seen = self._folder.seen()
                reports = self._folder.reports(seen)
        except (OSError, Gone, FailpointUsageError):  # what was counted so far stays
            return
        for configuration, serial in serials.items():
            status = status_of_fleet(configuration.name, seen, reports, serial)
            counts = self._bases.get(configuration, Counts()).plus(seen.counts(serial))
            configuration.elsewhere = Elsewhere(
                *counts,
                paused=seen.waiting(serial),
                waiting=status.waiting,
                last_miss=status.last_miss,
                last_mismatch=status.last_mismatch,
            )

    def resume(self, name: str, context: GivenMatchers | None, tasks: int | None, only: Configuration | None) -> int:
        """Wake what waits in this process and in the members, the longest waiting first."""
        if tasks is None:
            answers = self._command(name, context, only)
            return PROCESS_STORE.resume_here(name, context, only=only) + sum(map(int, answers.values()))
        left = check_count("tasks", tasks)
        while left:
            here = [(each.isoformat(), "") for each in PROCESS_STORE.waiting_since(name, context, only)]
            there = self._command(name, context, only, asks=True)
            waiting = sorted([*here, *((each, member) for member, since in there.items() for each in since)])
            chosen = dict(Counter(member for _, member in waiting[:left]))  # `asdict` cannot copy a Counter
            own = chosen.pop("", 0)
            woken = PROCESS_STORE.resume_here(name, context, own, only=only) if own else 0
            if chosen:
                woken += sum(map(int, self._command(name, context, only, tasks=chosen).values()))
            if not own and not chosen:
                break
            left -= woken
        return tasks - left

    def _command(
        self,
        name: str,
        context: GivenMatchers | None,
        only: Configuration | None,
        *,
        tasks: Mapping[str, int] | None = None,
        asks: bool = False,
    ) -> dict[str, Any]:
        if only is not None and only not in self._published:
            return {}
        serial = None if only is None else self._published[only].serial
        try:
            command = Command(0, name, matchers_document(context or {}), serial, tasks, asks)
            state = self._folder.change(lambda state: state.with_command(command))
            self._wait_for(state)
            answers = self._folder.answers(state.commands[-1].number)
        except (OSError, Gone, FailpointUsageError) as error:
            logger.warning("failpoints fleet: other processes are not resumed: %s", error)
            return {}
        return {member: answer for member, answer in answers.items() if answer}
