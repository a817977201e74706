"""A member on a server, as its own process sees it. What it shows is kept here, and sent by the loop."""

from __future__ import annotations

import itertools
import json
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from .._core.clock import monotonic
from .._core.wakeups import Wakeup, wake
from .place import Record, Reported
from .replies import lease_of, pairs, shown_in
from .state import Counts

BEAT: Final = 1.0
"""Seconds between two signs that a member is there."""

_COUNT: Final = 1.0  # seconds for a count to be taken
_FLUSH: Final = 1.0  # seconds for what is new to be shown
_MOST_COUNTS: Final = 500  # that are taken at once


class Loop(Protocol):
    """Sends what a member shows and asks."""

    def signal_news(self) -> None:
        """Show what is new, soon."""

    def signal_counts(self) -> bool:
        """Take counts, soon. Returns whether they will be."""
        ...

    def forget(self, seat: ServerSeat) -> None:
        """Follow a seat no longer."""


class Draw:
    """A count that a visit waits for."""

    __slots__ = ("deadline", "field", "granted", "number", "times", "wakeup")

    def __init__(self, number: int, field: str, times: int, wakeup: Wakeup) -> None:
        self.number = number
        self.field = field
        self.times = times
        self.wakeup = wakeup
        self.deadline = monotonic() + _COUNT
        self.granted: bool | None = None


class ServerSeat:
    """A member on a server. What it shows is kept here, and sent by the link."""

    def __init__(self, loop: Loop, name: str, counted_before: Mapping[int, Counts]) -> None:
        self._loop = loop
        self.name = name
        self.counted_before = counted_before
        self.counted: dict[int, Counts] = {}  # what the server has
        self.is_lost = False
        self.revision = 0
        self.document = ""
        self.owners: tuple[dict[str, str], float, float] = ({}, 0.0, 0.0)
        self._acknowledged = 0
        self._records: dict[int, Record] = {}
        self._report = ""
        self._answers: dict[int, str] = {}
        self._versions = itertools.count(1)
        self.version = 0
        self._shown_version = 0
        self._is_shown = threading.Condition()
        self._woken = threading.Event()
        self._numbers = itertools.count(1)
        self._asked: dict[Draw, None] = {}  # not answered yet
        self._newest = 0  # when the server had what is known here, in microseconds

    # for the thread of the member

    @property
    def is_in_place(self) -> bool:
        return not self.is_lost

    def wait(self, seconds: float) -> None:
        self._woken.wait(seconds)
        self._woken.clear()

    def wake(self) -> None:
        self._woken.set()

    def acknowledge(self, revision: int) -> None:
        self._acknowledged = revision
        self.changed()

    def write_record(self, slot: int, record: Record) -> bool:
        self._records[slot] = record
        self.changed()
        return True

    def write_report(self, report: Mapping[int, Reported]) -> None:
        self._report = json.dumps(dict(report))
        self.changed()

    def write_answer(self, command: int, answer: object) -> None:
        self._answers[command] = json.dumps(answer)
        self.changed()

    def changed(self) -> None:
        """Note that there is something new."""
        self.version = next(self._versions)
        self._loop.signal_news()

    def flush(self) -> None:
        with self._is_shown:
            self._is_shown.wait_for(lambda: self._shown_version == self.version, _FLUSH)

    def close(self) -> None:
        self._loop.forget(self)
        self.give_up()

    # counts

    def take(self, serial: int, term: int, times: int) -> bool | None:
        return None

    def ask(self, serial: int, term: int, times: int, wakeup: Wakeup) -> Callable[[], bool | None]:
        draw = Draw(next(self._numbers), f"{serial}-{term}", times, wakeup)
        self._asked[draw] = None
        if self.is_lost or not self._loop.signal_counts():
            self.answer(draw, granted=None)
        return lambda: draw.granted

    def draws(self) -> list[Draw]:
        """Return the draws that are to be sent. A draw that was sent without an answer is sent again."""
        return list(self._asked)[:_MOST_COUNTS]

    def answer(self, draw: Draw, *, granted: bool | None) -> None:
        """Let the visit go on that waits for a count, unless it has been given up."""
        if draw in self._asked:
            draw.granted = granted
            del self._asked[draw]
            wake([draw.wakeup])

    def expire(self) -> float:
        """Give up what has waited too long, and return how many seconds the next one has left."""
        now = monotonic()
        for draw in list(self._asked):
            if draw.deadline > now:
                return draw.deadline - now
            self.answer(draw, granted=None)
        return math.inf

    def give_up(self) -> None:
        """Answer all that is asked: the member is no longer there."""
        for draw in list(self._asked):
            self.answer(draw, granted=None)

    # for the link

    def begin_again(self) -> None:
        """Note that there is a new connection: it may be one to another server, whose clock is behind."""
        self._newest = 0

    def text(self) -> str:
        """Return what this member shows."""
        records = [[record.serial, *record.counts, *record[2:]] for record in list(self._records.values())]
        return json.dumps([self._acknowledged, records])

    def news(self) -> tuple[str, str, dict[int, str]]:
        """Return what this member shows, the report, and the answers that the server does not have."""
        return self.text(), self._report, dict(self._answers)

    def beat(self) -> float:
        """Return how many seconds later this member shows itself again, and sees which owners are there."""
        return min([BEAT, *(lease_of(renewal) / 4 for renewal in self.owners[0].values())])

    def note_shown(self, version: int, text: str, report: str, answers: Mapping[int, str]) -> None:
        """Note that the server has what was new at a version."""
        self.counted = {serial: record.counts for serial, record in shown_in(text).records.items()}
        if self._report is report:
            self._report = ""
        for command in answers:
            self._answers.pop(command, None)
        with self._is_shown:
            self._shown_version = version
            self._is_shown.notify_all()

    def receive(self, reply: list[Any]) -> None:
        """Take in the state and the owners that the server had at one moment. Nothing means that this is no member."""
        if not reply or not reply[0]:
            self.is_lost = True
            self.wake()
            return
        revision, document, owners, now = reply[:4]
        if int(now) < self._newest:  # it came over the other connection, and later
            return
        self._newest = int(now)
        self.owners = dict(pairs(json.loads(owners) or [])), int(now) / 1e6, monotonic()
        if document:
            self.document = str(document)
            self.revision = int(revision)
            self.wake()
