"""A fleet on a Redis or Valkey server, for the processes of many machines.

Nothing that a visit does waits for the server, but for a count. All times are by the clock of the server. But each
process measures by its own clock how long it has not seen an owner.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import anyio
from coredis import Redis

from .._core.clock import monotonic
from .._core.grammar import parse_actions
from .._core.wakeups import Wakeup, wake
from . import scripts
from .link import ANSWER, Link, Server, Signal, Unreachable
from .place import Gone, Record, Renewal, Reported, Reports, Seat, Seen, Shown
from .state import Counts, Entry, State

_BEAT: Final = 1.0  # seconds between two signs that a member is there
_LIVES: Final = 5.0  # seconds after the last of them in which it is waited for
_FORGOTTEN: Final = 600.0  # seconds after which what it has counted is put together with the rest
_SHOWN: Final = 0.005  # seconds between two times that it shows what is new
_COUNT: Final = 1.0  # seconds for a count to be taken
_MOST_COUNTS: Final = 500  # that are taken at once
_BLINK: Final = 1.0  # seconds without a connection that are not worth a warning
_READ: Final = 5.0  # seconds for which the log is waited at


class _Look(NamedTuple):
    """What the server has, at one moment."""

    now: float
    state: State
    members: dict[str, Shown]
    beats: dict[str, str]
    owners: dict[str, str]

    def is_over(self, entry: Entry) -> bool:
        """Return whether the owner of a configuration has ended, or its time is over."""
        if entry.owner is not None:
            renewed = self.owners.get(entry.owner)
            if renewed is None or self.now - _renewed_at(renewed) > entry.lease:
                return True
        return entry.until is not None and entry.until <= self.now

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


class ServerPlace:
    """A fleet on a server: a `Place`."""

    def __init__(self, server: Server, name: str, shown: str) -> None:
        self._server = server
        self._shown = shown
        self._prefix = f"failpoints:{{{name}}}:"  # the braces keep all keys in one slot of a cluster
        self._read: State | None = None
        self._offset = 0.0  # of the server's clock
        self._seat: ServerSeat | None = None
        self._link = Link(server, self._work, self._watch)
        self._dirty: Signal | None = None
        self._asked: Signal | None = None
        self._timed: Signal | None = None
        self._is_closed = False

    def __str__(self) -> str:
        return self._shown

    @property
    def needs_leave(self) -> bool:
        return True

    @property
    def folder_of_visits(self) -> Path | None:
        return None

    def key(self, *names: str) -> list[str]:
        """Return the keys of these names."""
        return [self._prefix + name for name in names]

    def open(self) -> None:
        self._is_closed = False
        self._link.open()
        looked = self._look()
        if looked is None:
            self._change(None, State(secrets.token_hex(8)), State(secrets.token_hex(8)))

    def close(self) -> None:
        self._is_closed = True
        self.leave()
        self._link.close()

    def leave(self) -> None:
        """Let this process be a member no longer."""
        seat, self._seat = self._seat, None  # first, so that nothing of it is shown after that
        if seat is not None:
            seat.close()
            with suppress(OSError):
                keys = self.key("beats", "draws")
                self._link.call(lambda redis: scripts.LEAVE.run(redis, keys, [seat.name]), patience=_COUNT)

    def forget(self) -> None:
        self._seat = self._dirty = self._asked = self._timed = None
        self._link = Link(self._server, self._work, self._watch)
        with suppress(OSError):  # it is tried again
            self._link.open()

    def time(self) -> float:
        return time.time() + self._offset

    # reading and changing the state

    def _look(self) -> _Look | None:
        """Return what the server has; `None` if there is no fleet."""
        read = self._read
        keys = self.key("state", "members", "beats", "owners")
        arguments: list[str | int | float] = [read.revision if read is not None else ""]
        reply = self._link.call(lambda redis: scripts.LOOK.run(redis, keys, arguments))
        (seconds, microseconds), revision, document, members, beats, owners = reply
        now = int(seconds) + int(microseconds) / 1e6
        self._offset = now - time.time()
        if not revision:
            return None
        state = read if read is not None and not document else self._parsed(document)
        shown = {name: _shown(text) for name, text in _pairs(members)}
        return _Look(now, state, shown, dict(_pairs(beats)), dict(_pairs(owners)))

    def _parsed(self, document: str) -> State:
        self._read = None
        self._read = state = State.from_json(document, f"the fleet in {self}")
        return state

    def _looked(self) -> _Look:
        looked = self._look()
        if looked is None:
            raise Gone
        return looked

    def state(self) -> State:
        seat = self._seat
        if seat is None:
            return self._looked().state
        self._link.check(_BLINK)
        return self._parsed(seat.document) if self._read is None or self._read.revision != seat.revision else self._read

    def change(self, alter: Callable[[State], State], patience: float = 5.0) -> State:
        deadline = monotonic() + patience
        while True:
            looked = self._looked()
            before = looked.state
            ended = looked.ended()
            numbered = replace(before, numbers=max(before.numbers, int(looked.now * 1e6)))  # so that none is used again
            cleaned = numbered.without(looked.is_over)
            after = alter(cleaned)
            if after is numbered and not ended:
                return before
            after = replace(after, revision=max(before.revision + 1, int(looked.now * 1e6)))
            after = after.with_departed(ended, ())
            if self._change(looked, before, after):
                return after
            if monotonic() >= deadline:
                raise Unreachable("other processes change it all the time")

    def _change(self, looked: _Look | None, before: State, after: State) -> bool:
        """Put a state in the place of the one before, and return whether it is there."""
        kept = {entry.serial for entry in after.entries}
        work = {
            "folded": {name: looked.beats.get(name, "") for name in looked.ended()} if looked is not None else {},
            "counted": _counts(entry for entry in after.entries if entry.serial > before.numbers),
            "uncounted": _counts(entry for entry in before.entries if entry.serial not in kept),
            "owners": [] if looked is None else _lost_owners(looked),
        }
        adds = len(after.entries) > len([entry for entry in before.entries if entry.serial in kept])
        script = scripts.ADD if adds or looked is None else scripts.REMOVE
        keys = self.key("state", "log", "members", "beats", "counts", "draws", "owners", "reports")
        document = after.to_json()
        arguments: list[str | int | float] = [
            before.revision if looked is not None else "",
            after.revision,
            document,
            json.dumps(work),
        ]
        if self._link.call(lambda redis: script.run(redis, keys, arguments)):
            return True
        # The connection may have been lost after the change was made, so that it was sent again.
        there = self._look()
        return there is not None and there.state == after

    def wake_all(self) -> None:
        self._wake_all()

    def _wake_all(self) -> int:
        """Let every member look, and return when that was, by the clock of the server, in microseconds."""
        keys = self.key("state", "log")
        return int(self._link.call(lambda redis: scripts.WAKE.run(redis, keys, [])))

    def refresh(self, seconds: float) -> None:
        asked = self._wake_all()
        deadline = monotonic() + seconds
        while monotonic() < deadline:
            looked = self._looked()
            if all(int(looked.beats[name]) > asked for name in looked.living()):
                return
            threading.Event().wait(_SHOWN)

    # members

    def join(self, before: Seat | None) -> Seat:
        name = f"{quote(socket.gethostname(), safe='')}:{os.getpid()}:{secrets.token_hex(4)}"
        counted = dict(before.counted) if isinstance(before, ServerSeat) else {}
        seat = ServerSeat(self, name, counted)
        keys = self.key("state", "members", "beats")
        arguments: list[str | int | float] = [name, seat.text()]
        if not self._link.call(lambda redis: scripts.JOIN.run(redis, keys, arguments)):
            raise Gone
        if not self._link.call(lambda redis: self._show(redis, seat)):
            raise Gone
        self._seat = seat
        seat.changed()
        return seat

    def forget_seat(self, seat: ServerSeat) -> None:
        """Follow a seat no longer."""
        if self._seat is seat:
            self._seat = None

    def members(self) -> list[str]:
        return sorted(self._looked().living())

    def unacknowledged(self, revision: int) -> list[str]:
        looked = self._looked()
        if looked.state.revision < revision:
            raise Unreachable("it has lost the newest change, as a replica that takes over can: make it again")
        return sorted(name for name in looked.living() if looked.members[name].revision < revision)

    def seen(self) -> Seen:
        looked = self._looked()
        return Seen(looked.state.without(looked.is_over), looked.members, looked.living())

    def reports(self, seen: Seen) -> Reports:
        (key,) = self.key("reports")
        found = self._link.call(lambda redis: redis.hgetall(key))
        return {name: _report(found[name]) if name in found else {} for name in seen.members}

    def answers(self, command: int) -> dict[str, Any]:
        (key,) = self.key(f"answers:{command}")
        found = self._link.call(lambda redis: redis.hgetall(key))
        return {str(member): json.loads(answer) for member, answer in found.items()}

    # owners

    def own(self, lease: float) -> ServerOwner:
        owner = ServerOwner(self, f"{os.getpid()}-{secrets.token_hex(8)}", lease)
        if not owner.renew():
            raise Gone
        return owner

    def renew(self, owner: str, lease: float) -> bool:
        """Show that an owner is there, and return whether there is a fleet."""
        keys = self.key("state", "owners")
        arguments: list[str | int | float] = [owner, int(lease * 1000)]
        return bool(self._link.call(lambda redis: scripts.OWN.run(redis, keys, arguments)) == 1)

    def renewed(self, owner: str) -> Renewal | None:
        seat = self._seat
        self._link.check(0)
        if seat is None:
            raise Unreachable("this process is not a member")
        owners, now, received = seat.owners
        if owner not in owners:
            return None
        at = _renewed_at(owners[owner])
        return Renewal(at, max(now - at, 0) + monotonic() - received)

    def remove_owner(self, name: str) -> None:
        """End what is left of an owner, and let the members know."""
        keys = self.key("owners")
        self._link.call(lambda redis: redis.hdel(keys[0], [name]))
        self.wake_all()

    # on the loop of the link, while there is a connection

    async def _work(self, redis: Redis[str]) -> None:
        keys = self.key("state", "members", "beats", "owners")
        with anyio.fail_after(ANSWER):
            await scripts.LOOK.run(redis, keys, [""])  # a node of a cluster says if the keys are on another one
        if self._seat is not None:
            self._seat.begin_again()
        async with anyio.create_task_group() as group:
            group.start_soon(self._show_again_and_again, redis)
            group.start_soon(self._take_counts, redis)

    async def _watch(self) -> None:
        """Give up the counts that take too long, whether there is a connection or not."""
        self._timed = timed = Signal()
        while True:
            seat = self._seat
            await timed.wait(seat.expire() if seat is not None else math.inf)

    async def _show(self, redis: Redis[str], seat: ServerSeat) -> list[Any]:
        version = seat.version  # first: what comes now is shown next time
        text, report, answers = seat.news()
        keys = self.key("state", "members", "beats", "owners", "reports", "log")
        keys += self.key(*(f"answers:{command}" for command in answers))
        arguments: list[str | int | float] = [seat.name, seat.revision or "", text, report]
        reply: list[Any] = await scripts.SHOW.run(redis, keys, [*arguments, *answers.values()])
        if reply:
            seat.note_shown(version, text, report, answers)
        seat.receive(reply)
        return reply

    async def _show_again_and_again(self, redis: Redis[str]) -> None:
        signal = Signal()
        log: anyio.CancelScope | None = None
        followed: ServerSeat | None = None
        async with anyio.create_task_group() as group:
            while True:
                seat = self._seat
                self._dirty = signal
                if seat is not None and not seat.is_lost:
                    version = seat.version
                    with anyio.fail_after(ANSWER):
                        reply = await self._show(redis, seat)
                    if followed is not seat and reply:
                        if log is not None:
                            log.cancel()
                        log, followed = anyio.CancelScope(), seat
                        group.start_soon(self._follow_log, seat, reply[4], log)
                    await anyio.sleep(_SHOWN)
                    if seat.version != version:
                        continue
                await signal.wait(seat.beat() if seat is not None else _BEAT)

    def signal_news(self) -> None:
        """Let the loop show what is new. Called from any thread."""
        if self._dirty is not None:
            self._dirty.set()

    def signal_counts(self) -> bool:
        """Let the loop take counts, and return whether it will. Called from any thread."""
        for signal in (self._asked, self._timed):
            if signal is not None:
                signal.set()
        return not self._is_closed

    async def _follow_log(self, seat: ServerSeat, last: str, scope: anyio.CancelScope) -> None:
        (log,) = self.key("log")
        with scope:
            async with self._server.connected() as redis:  # a read that blocks wants a connection of its own
                while True:
                    with anyio.fail_after(_READ + ANSWER):
                        got = await redis.xread({log: last}, block=int(_READ * 1000))
                    for entries in (got or {}).values():
                        last = str(entries[-1].identifier)
                        for entry in reversed(entries):
                            values = {str(name): str(value) for name, value in entry.field_values.items()}
                            if "revision" in values:
                                now = int(values["now"])
                                seat.receive([values["revision"], values["document"], values["owners"], now])
                                break
                    if got:
                        seat.changed()

    async def _take_counts(self, redis: Redis[str]) -> None:
        keys = self.key("counts", "draws")
        self._asked = asked = Signal()
        while True:
            seat = self._seat
            draws = seat.draws() if seat is not None else []
            if seat is None or not draws:
                await asked.wait()
                continue
            arguments: list[str | int | float] = [seat.name]
            for draw in draws:
                arguments += [draw.number, draw.field, draw.times]
            with anyio.fail_after(ANSWER):
                results = await scripts.TAKE.run(redis, keys, arguments)
            for draw, result in zip(draws, results, strict=True):
                seat.answer(draw, granted=bool(result))


class _Draw:
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

    def __init__(self, place: ServerPlace, name: str, counted_before: Mapping[int, Counts]) -> None:
        self._place = place
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
        self._asked: dict[_Draw, None] = {}  # not answered yet
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
        self._place.signal_news()

    def flush(self) -> None:
        with self._is_shown:
            self._is_shown.wait_for(lambda: self._shown_version == self.version, ANSWER / 2)

    def close(self) -> None:
        self._place.forget_seat(self)
        self.give_up()

    # counts

    def take(self, serial: int, term: int, times: int) -> bool | None:
        return None

    def ask(self, serial: int, term: int, times: int, wakeup: Wakeup) -> Callable[[], bool | None]:
        draw = _Draw(next(self._numbers), f"{serial}-{term}", times, wakeup)
        self._asked[draw] = None
        if self.is_lost or not self._place.signal_counts():
            self.answer(draw, granted=None)
        return lambda: draw.granted

    def draws(self) -> list[_Draw]:
        """Return the draws that are to be sent. A draw that was sent without an answer is sent again."""
        return list(self._asked)[:_MOST_COUNTS]

    def answer(self, draw: _Draw, *, granted: bool | None) -> None:
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
        return min([_BEAT, *(_lease(renewal) / 4 for renewal in self.owners[0].values())])

    def note_shown(self, version: int, text: str, report: str, answers: Mapping[int, str]) -> None:
        """Note that the server has what was new at a version."""
        self.counted = {serial: record.counts for serial, record in _shown(text).records.items()}
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
        self.owners = dict(_pairs(json.loads(owners) or [])), int(now) / 1e6, monotonic()
        if document:
            self.document = str(document)
            self.revision = int(revision)
            self.wake()


class ServerOwner:
    """A `Fleet` whose configurations are on a server."""

    def __init__(self, place: ServerPlace, name: str, lease: float) -> None:
        self._place = place
        self.name = name
        self._lease = lease

    def renew(self) -> bool:
        """Show that it is not stopped, and return whether there is a fleet."""
        return self._place.renew(self.name, self._lease)

    def touch(self) -> None:
        with suppress(OSError):  # it cannot be reached, which every verb says
            self.renew()

    def remove(self) -> None:
        with suppress(OSError):
            self._place.remove_owner(self.name)


def _pairs(flat: list[Any]) -> Iterable[tuple[str, str]]:
    return zip(map(str, flat[::2]), map(str, flat[1::2]), strict=True)


def _shown(text: str) -> Shown:
    revision, records = json.loads(text)
    return Shown(
        revision,
        {
            serial: Record(serial, Counts(*counts), waiting, bool(refused), version)
            for serial, *counts, waiting, refused, version in records
        },
    )


def _report(text: str) -> dict[int, Reported]:
    return {int(serial): Reported(*reported) for serial, reported in json.loads(text).items()}


def _counts(entries: Iterable[Entry]) -> list[str]:
    """Return the fields of the counts of configurations."""
    return [
        f"{entry.serial}-{number}"
        for entry in entries
        for number, term in enumerate(parse_actions(entry.actions))
        if term.times is not None
    ]


def _renewed_at(renewal: str) -> float:
    return int(renewal.partition(":")[0]) / 1e6


def _lease(renewal: str) -> float:
    return int(renewal.partition(":")[2]) / 1000


def _lost_owners(looked: _Look) -> list[str]:
    """Return the owners that are gone for so long that nothing of theirs is left."""
    return [
        owner
        for owner, renewal in looked.owners.items()
        if looked.now - _renewed_at(renewal) > _lease(renewal) + _FORGOTTEN
    ]
