"""One configuration of one failpoint: its terms, its counts, and who waits in it.

Holds no lock: whoever calls a method that changes or reads the counts holds the registry's.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple

from .actions import Action, Hit, Pause, Sleep, Term
from .context import Matchers
from .known_sites import known_sites
from .status import FailpointStatus, Waiting
from .wakeups import Wakeup


class Waiter:
    """A visit that waits, or is about to: enrolled when its action is chosen, parked once it really waits."""

    __slots__ = ("configuration", "hit", "parked", "wakeup")

    def __init__(self, configuration: Configuration, hit: Hit, wakeup: Wakeup) -> None:
        self.configuration = configuration
        self.hit = hit
        self.wakeup = wakeup
        self.parked: tuple[str, datetime] | None = None


class Decision(NamedTuple):
    """What a visit is to do: nothing, an action, or an action for which it is enrolled."""

    action: Action | None = None
    waiter: Waiter | None = None


NOTHING = Decision()


class Configuration:
    """What `configure` made of its arguments; replaced as a whole when the failpoint is configured again."""

    __slots__ = (
        "_left",
        "_random",
        "ended_by",
        "error",
        "hits",
        "last_mismatch",
        "last_miss",
        "matchers",
        "may_wait",
        "misses",
        "name",
        "parked",
        "pause_limit",
        "terms",
        "triggers",
        "waiters",
        "waiting_at_end",
    )

    def __init__(
        self, name: str, terms: tuple[Term, ...], matchers: Matchers, pause_limit: float | None = None
    ) -> None:
        self.name = name
        self.terms = terms
        self.matchers = matchers
        self.pause_limit = pause_limit  # seconds, of a pause that has no limit of its own
        self.may_wait = any(isinstance(term.action, (Pause, Sleep)) for term in terms)
        self.hits = 0
        self.misses = 0
        self.last_miss: Mapping[str, Any] | None = None
        self.last_mismatch: str | None = None
        self.triggers = 0
        self.waiters: dict[Waiter, None] = {}
        self.parked: dict[Waiter, None] = {}
        self.ended_by: int | None = None
        self.waiting_at_end: tuple[Waiting, ...] = ()  # who waited when it ended
        self.error: Exception | None = None  # the last that kept a site from doing what it was told
        self._left = [term.times for term in terms]
        self._random: Random | None = None

    def revive(self) -> None:
        """Put back after it was replaced or removed: it goes on counting, and nobody waits in it."""
        self.ended_by = None
        self.waiting_at_end = ()

    def seed(self, seed: int | str | None) -> None:
        """Draw the chances from a generator made of the seed and the name; `None` is any seed."""
        if any(0 < term.probability < 1 for term in self.terms):
            self._random = Random(None if seed is None else f"{seed}:{self.name}")

    def decide(self, hit: Hit, wakeup: Wakeup | None) -> Decision:
        """Choose the first term whose modifiers allow it, use it up, and enroll the visit if it waits."""
        for index, term in enumerate(self.terms):
            # The chance first: a draw must not depend on what is used up.
            if term.probability < 1 and not self._draw(term.probability):
                continue
            left = self._left[index]
            if left == 0:
                continue
            waits = isinstance(term.action, (Pause, Sleep))
            if waits and wakeup is None:
                return Decision(term.action)
            if left is not None:
                self._left[index] = left - 1
            self.triggers += 1
            return Decision(term.action, self.enroll(hit, wakeup) if waits and wakeup else None)
        return NOTHING

    def _draw(self, probability: float) -> bool:
        return self._random is not None and self._random.random() < probability

    def miss(self, context: Mapping[str, Any], mismatch: str) -> None:
        """A site was reached with a context that did not match."""
        self.misses += 1
        self.last_miss = context
        self.last_mismatch = mismatch

    # A signal handler or a finalizer may call back in between any two lines, while this very thread holds the lock:
    # each step below is right whatever has happened since the one before.

    def enroll(self, hit: Hit, wakeup: Wakeup) -> Waiter:
        """From here on a reconfiguration wakes this visit."""
        waiter = Waiter(self, hit, wakeup)
        self.waiters[waiter] = None
        return waiter

    def park(self, waiter: Waiter, sleeper: str) -> bool:
        """The visit is about to wait now; false if it was woken before it came to it."""
        waiter.parked = (sleeper, datetime.now(UTC))
        self.parked[waiter] = None
        if waiter in self.waiters and self.ended_by is None:
            return True
        self.dismiss(waiter)
        return False

    def dismiss(self, waiter: Waiter) -> bool:
        """The visit waits no more, for whatever reason; whether nobody had released it before."""
        self.parked.pop(waiter, None)
        return self.waiters.pop(waiter, waiter) is None

    def dismiss_abandoned(self) -> None:
        """Dismiss those whose loop is closed: they will not come to do it themselves."""
        for waiter in list(self.waiters):
            if waiter.wakeup.abandoned:
                self.dismiss(waiter)

    def release(self) -> list[Wakeup]:
        """All who wait, to be woken; none of them counts as waiting any more."""
        self.dismiss_abandoned()
        waiters = list(self.waiters)
        for waiter in waiters:
            self.dismiss(waiter)
        return [waiter.wakeup for waiter in waiters]

    def end(self) -> list[Wakeup]:
        """Replaced or removed: all who wait, to be woken."""
        self.ended_by = threading.get_ident()
        self.dismiss_abandoned()
        self.waiting_at_end = self.waiting_at_end or self._waiting()
        return self.release()

    def forget_other_threads(self) -> None:
        """After a fork: the other threads, and whoever waits in them, are not in this process."""
        for waiter in list(self.waiters):
            if waiter.wakeup.thread != threading.get_ident():
                self.dismiss(waiter)

    def status(self) -> FailpointStatus:
        """The state as plain values, which are the caller's own."""
        self.dismiss_abandoned()
        return FailpointStatus(
            name=self.name,
            actions=self.terms,
            matchers=dict(self.matchers.given),
            hits=self.hits,
            misses=self.misses,
            last_miss=None if self.last_miss is None else dict(self.last_miss),
            last_mismatch=self.last_mismatch,
            triggers=self.triggers,
            waiting=self._waiting(),
            sites=site_places(self.name),
        )

    def _waiting(self) -> tuple[Waiting, ...]:
        return tuple(
            Waiting(waiter.parked[0], dict(waiter.hit.context), waiter.parked[1])
            for waiter in list(self.parked)
            if waiter.parked is not None
        )


def site_places(name: str) -> tuple[str, ...]:
    """The known sites of a name, each as `file:line`."""
    return tuple(map(str, known_sites(name)))
