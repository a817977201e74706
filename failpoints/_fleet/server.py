"""A fleet on a Redis or Valkey server, for the processes of many machines.

Nothing that a visit does waits for the server, but for a count. All times are by the clock of the server. But each
process measures by its own clock how long it has not seen an owner.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from .._core.clock import monotonic
from . import scripts
from .following import Following
from .link import Link, Server, Unreachable
from .place import Gone, Renewal, Reports, Seat, Seen
from .replies import Look, fields_of, lost_owners, pairs, renewed_at, report_in, shown_in
from .seat import ServerSeat
from .state import State

_LEAVE: Final = 1.0  # seconds to leave the fleet
_LOG: Final = 64  # the newest changes that the log has at least
_LOOK: Final = 0.005  # seconds between two looks at what the members show
_BLINK: Final = 1.0  # seconds without a connection that are not worth a warning


class ServerPlace:
    """A fleet on a server: a `Place`."""

    def __init__(self, server: Server, name: str, shown: str) -> None:
        self._server = server
        self._shown = shown
        self._prefix = f"failpoints:{{{name}}}:"  # the braces keep all keys in one slot of a cluster
        self._read: State | None = None
        self._offset = 0.0  # of the server's clock
        self._owner: ServerOwner | None = None
        self._begin()

    def __str__(self) -> str:
        return self._shown

    @property
    def needs_leave(self) -> bool:
        return True

    @property
    def folder_of_visits(self) -> Path | None:
        return None

    def _begin(self) -> None:
        self._following = Following(self._server, self.key)
        self._link = Link(self._server, self._following)

    def key(self, *names: str) -> list[str]:
        """Return the keys of these names."""
        return [self._prefix + name for name in names]

    def open(self) -> None:
        self._following.is_closed = False
        self._link.open()
        looked = self._look()
        if looked is None:
            self._change(None, State(secrets.token_hex(8)), State(secrets.token_hex(8)))

    def close(self) -> None:
        self._following.is_closed = True
        self.leave()
        self._link.close()

    def leave(self) -> None:
        """Let this process be a member no longer."""
        seat, self._following.seat = self._following.seat, None  # first, so that nothing of it is shown after that
        if seat is not None:
            seat.close()
            with suppress(OSError):
                keys = self.key("beats", "draws")
                self._link.call(lambda redis: scripts.LEAVE.run(redis, keys, [seat.name]), patience=_LEAVE)

    def forget(self) -> None:
        self._begin()
        with suppress(OSError):  # it is tried again
            self._link.open()

    def time(self) -> float:
        return time.time() + self._offset

    # reading and changing the state

    def _look(self) -> Look | None:
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
        shown = {name: shown_in(text) for name, text in pairs(members)}
        return Look(now, state, shown, dict(pairs(beats)), dict(pairs(owners)))

    def _parsed(self, document: str) -> State:
        self._read = None
        self._read = state = State.from_json(document, f"the fleet in {self}")
        return state

    def _looked(self) -> Look:
        looked = self._look()
        if looked is None:
            raise Gone
        return looked

    def state(self) -> State:
        seat = self._following.seat
        if seat is None:
            return self._looked().state
        self._link.check(_BLINK)
        return self._parsed(seat.document) if self._read is None or self._read.revision != seat.revision else self._read

    def change(self, alter: Callable[[State], State], patience: float = 5.0) -> State:
        deadline = monotonic() + patience
        while True:
            looked = self._looked()
            owner = self._owner
            if owner is not None and looked.is_lost(owner.name, owner.lease):  # by a replica that took over
                owner.renew()
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

    def _change(self, looked: Look | None, before: State, after: State) -> bool:
        """Put a state in the place of the one before, and return whether it is there."""
        kept = {entry.serial for entry in after.entries}
        work = {
            "folded": {name: looked.beats.get(name, "") for name in looked.ended()} if looked is not None else {},
            "counted": fields_of(entry for entry in after.entries if entry.serial > before.numbers),
            "uncounted": fields_of(entry for entry in before.entries if entry.serial not in kept),
            "owners": [] if looked is None else lost_owners(looked),
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
            threading.Event().wait(_LOOK)

    # members

    def join(self, before: Seat | None) -> Seat:
        name = f"{quote(socket.gethostname(), safe='')}:{os.getpid()}:{secrets.token_hex(4)}"
        counted = dict(before.counted) if isinstance(before, ServerSeat) else {}
        seat = ServerSeat(self._following, name, counted)
        keys = self.key("state", "members", "beats")
        arguments: list[str | int | float] = [name, seat.text()]
        if not self._link.call(lambda redis: scripts.JOIN.run(redis, keys, arguments)):
            raise Gone
        if not self._link.call(lambda redis: self._following.show(redis, seat)):
            raise Gone
        self._following.seat = seat
        seat.changed()
        return seat

    def members(self) -> list[str]:
        return sorted(self._looked().living())

    def unacknowledged(self, revision: int) -> list[str]:
        looked = self._looked()
        newest = looked.state.revision
        if newest < revision or (newest > revision and not self._has_made(revision)):
            raise Unreachable("it has lost the newest change, as a replica that takes over can: make it again")
        return sorted(name for name in looked.living() if looked.members[name].revision < revision)

    def _has_made(self, revision: int) -> bool:
        """Return whether a change was made, and not lost since then. Also if it is too old to say."""
        (log,) = self.key("log")
        entries = self._link.call(lambda redis: redis.xrevrange(log, count=_LOG))
        made = [int(entry.field_values["revision"]) for entry in entries if "revision" in entry.field_values]
        return revision in made or all(each > revision for each in made)

    def seen(self) -> Seen:
        looked = self._looked()
        return Seen(looked.state.without(looked.is_over), looked.members, looked.living())

    def reports(self, seen: Seen) -> Reports:
        (key,) = self.key("reports")
        found = self._link.call(lambda redis: redis.hgetall(key))
        return {name: report_in(found[name]) if name in found else {} for name in seen.members}

    def answers(self, command: int) -> dict[str, Any]:
        (key,) = self.key(f"answers:{command}")
        found = self._link.call(lambda redis: redis.hgetall(key))
        return {str(member): json.loads(answer) for member, answer in found.items()}

    # owners

    def own(self, lease: float) -> ServerOwner:
        owner = ServerOwner(self, f"{os.getpid()}-{secrets.token_hex(8)}", lease)
        if not owner.renew():
            raise Gone
        self._owner = owner
        return owner

    def renew(self, owner: str, lease: float) -> bool:
        """Show that an owner is there, and return whether there is a fleet."""
        keys = self.key("state", "owners")
        arguments: list[str | int | float] = [owner, int(lease * 1000)]
        return bool(self._link.call(lambda redis: scripts.OWN.run(redis, keys, arguments)) == 1)

    def renewed(self, owner: str) -> Renewal | None:
        seat = self._following.seat
        self._link.check(0)
        if seat is None:
            raise Unreachable("this process is not a member")
        owners, now, received = seat.owners
        if owner not in owners:
            return None
        at = renewed_at(owners[owner])
        return Renewal(at, max(now - at, 0) + monotonic() - received)

    def remove_owner(self, name: str) -> None:
        """End what is left of an owner, and let the members know."""
        self._owner = None
        keys = self.key("owners")
        self._link.call(lambda redis: redis.hdel(keys[0], [name]))
        self.wake_all()


class ServerOwner:
    """A `Fleet` whose configurations are on a server."""

    def __init__(self, place: ServerPlace, name: str, lease: float) -> None:
        self._place = place
        self.name = name
        self.lease = lease

    def renew(self) -> bool:
        """Show that it is not stopped, and return whether there is a fleet."""
        return self._place.renew(self.name, self.lease)

    def touch(self) -> None:
        with suppress(OSError):  # it cannot be reached, which every verb says
            self.renew()

    def remove(self) -> None:
        with suppress(OSError):
            self._place.remove_owner(self.name)
