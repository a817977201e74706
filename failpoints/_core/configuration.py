"""One configuration of one failpoint: its terms, its counts and its waiters.

Nothing here takes a lock. The caller of a method that changes or reads the counts holds the store's.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from .actions import ENDS_VISIT, Action, Call, Hit, Return, Term, steps, waits
from .clock import now
from .context import Matchers, Mismatch
from .known_sites import known_sites, made_sites
from .status import FailpointStatus, Waiting
from .wakeups import Wakeup, owe

if TYPE_CHECKING:
    from random import Random

_arrivals: Final = itertools.count()


class Waiter:
    """A visit that waits or is about to. It is enrolled when its action is chosen, and parked once it really waits.

    Sorted by *arrival*, the waiters that have waited longest come first, and those that do not wait yet come last.
    """

    __slots__ = ("arrival", "configuration", "hit", "parked", "resumed", "wakeup")

    def __init__(self, configuration: Configuration, hit: Hit, wakeup: Wakeup) -> None:
        self.configuration = configuration
        self.hit = hit
        self.wakeup = wakeup
        self.parked: tuple[str, datetime] | None = None
        self.resumed = False  # rather than woken because its configuration ended
        self.arrival: float = math.inf


class Ask(NamedTuple):
    """What a visit asks the ledger of its configuration before it can be decided: one of the *times* of a term."""

    term: int
    times: int


class Decision(NamedTuple):
    """The decision about a visit: to do nothing, to carry out an action, or to wait for one as an enrolled waiter.

    Of an `Ask`, the answer is still needed.
    """

    action: Action | Ask | None = None
    waiter: Waiter | None = None


NOTHING = Decision()


class Elsewhere(NamedTuple):
    """What a configuration did in other processes."""

    hits: int = 0
    misses: int = 0
    triggers: int = 0
    paused: int = 0
    waiting: tuple[Waiting, ...] = ()
    last_miss: Mapping[str, Any] | None = None
    last_mismatch: str | None = None


NOWHERE: Final = Elsewhere()


class Ledger(Protocol):
    """Shares the counts of a configuration with other processes."""

    def take(self, term: int, times: int) -> bool | Ask | None:
        """Use up one of the *times* triggers of a term, and return whether there was one left in all processes.

        Returns `None` if that cannot be known, and an `Ask` if it takes longer, so that `ask` has to. Called with the
        lock of the stores held.
        """
        ...

    def ask(self, term: int, times: int, wakeup: Wakeup) -> Callable[[], bool | None]:
        """Begin to take one, without a lock. *wakeup* is set soon, in any case, and the result then called once.

        It returns what `take` does. If the visit is cancelled before that, the one may be used up.
        """
        ...

    def note(self, configuration: Configuration) -> None:
        """Show the counts, and how many visits wait. Called with the lock of the stores held."""


class Configuration:
    """The checked arguments of one `configure`, and what happened since."""

    __slots__ = (
        "__weakref__",
        "_always",
        "_decisions",
        "_left",
        "_numbered",
        "_random",
        "elsewhere",
        "ended_by",
        "error",
        "for_block",
        "hit_in_child",
        "hits",
        "last_mismatch",
        "last_miss",
        "ledger",
        "matchers",
        "may_prevent",
        "may_return",
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
        self,
        name: str,
        terms: tuple[Term, ...],
        matchers: Matchers,
        *,
        pause_limit: float | None = None,
        for_block: bool = False,
    ) -> None:
        self.name = name
        self.terms = terms
        self.matchers = matchers
        self.pause_limit = pause_limit  # seconds, for a pause without a limit of its own
        self.for_block = for_block  # what it replaces returns when it is removed
        self.may_wait = any(waits(term.action) for term in terms)
        all_steps = [step for term in terms for step in steps(term.action)]
        self.may_return = any(isinstance(step, (Return, Call)) for step in all_steps)
        self.may_prevent = any(isinstance(step, (*ENDS_VISIT, Call)) for step in all_steps)  # what comes after a visit
        self.hits = 0
        self.misses = 0
        self.last_miss: Mapping[str, Any] | None = None
        self.last_mismatch: Mismatch | None = None
        self.triggers = 0
        self.waiters: dict[Waiter, None] = {}
        self.parked: dict[Waiter, None] = {}
        self.ended_by: int | None = None
        self.waiting_at_end: tuple[Waiting, ...] = ()  # the waiters that it had when it ended
        self.hit_in_child: memoryview | None = None  # one byte, which a process forked from this one sets if it hits
        self.elsewhere = NOWHERE
        self.ledger: Ledger | None = None  # if it is that of several processes
        self.error: Exception | None = None  # the last one that kept a site from carrying out an action
        self._decisions = [Decision(term.action) for term in terms]
        self._numbered = tuple(enumerate(terms))
        first = terms[0]
        is_always = first.probability == 1 and first.times is None and not waits(first.action)
        self._always = self._decisions[0] if is_always else None  # whatever was decided before
        self._left = [term.times for term in terms]
        self._random: Random | None = None

    def replaces(self, other: Configuration) -> bool:
        """Return whether it replaces another one of its name. May run the user's code, which compares matchers."""
        return not self.matchers.given or self.matchers.same_as(other.matchers)

    def revive(self) -> None:
        """Note that it is in force, also if it had been replaced or removed. The counts go on, the waiters are gone."""
        self.ended_by = None
        self.waiting_at_end = ()

    def seed(self, seed: int | str | None) -> None:
        """Seed the random draws with *seed* and the name. `None` picks a random seed."""
        if any(0 < term.probability < 1 for term in self.terms):
            from random import Random  # `import_for_visits` has imported it

            self._random = Random(None if seed is None else f"{seed}:{self.name}")

    def start_over(self, seed: int | str | None) -> Callable[[], None]:
        """Begin the counts and the draws again, as if it had just been configured.

        Calling the result goes on with what was left before, and adds the counts up.
        """
        hits, misses, triggers = self.hits, self.misses, self.triggers
        last_miss, last_mismatch, error = self.last_miss, self.last_mismatch, self.error
        left, random = self._left, self._random
        hit_in_child = self.hit_in_child is not None and self.hit_in_child[0]
        if self.hit_in_child is not None:
            self.hit_in_child[0] = 0
        self.hits = self.misses = self.triggers = 0
        self.last_miss = self.last_mismatch = self.error = None
        self._left = [term.times for term in self.terms]
        self.seed(seed)

        def go_on() -> None:
            self.hits += hits
            self.misses += misses
            self.triggers += triggers
            self.error = self.error or error
            if self.last_miss is None:
                self.last_miss, self.last_mismatch = last_miss, last_mismatch
            self._left, self._random = left, random
            if hit_in_child and self.hit_in_child is not None:
                self.hit_in_child[0] = 1

        return go_on

    def share(self, ledger: Ledger, used: Sequence[int] = ()) -> None:
        """Take the counts from a ledger from now on. What was used up so far is used up there, too.

        *used* has, for each term, what another ledger has given.
        """
        self.ledger = ledger
        for index, (term, left) in enumerate(zip(self.terms, self._left, strict=True)):
            if term.times is not None and left is not None:
                for _ in range(min(term.times, max(term.times - left, *used[index : index + 1], 0))):
                    ledger.take(index, term.times)

    def decide(
        self, hit: Hit | None, wakeup: Wakeup | None, asked: Ask | None = None, *, granted: bool | None = False
    ) -> Decision:
        """Choose the first term whose modifiers allow it, count it, and enroll the visit if the action waits.

        Without a *wakeup* an action that waits is chosen, but not counted. If the ledger has to be asked for a count,
        the decision is an `Ask`. With this one as *asked*, the decision goes on at its term if it was *granted*, and
        else after it. A count that cannot be known decides to do nothing: the terms after it are for visits that come
        when it is used up.
        """
        if granted is None:
            return NOTHING
        if self._always is not None:
            self.triggers += 1
            return self._always
        for index, term in self._numbered:
            is_wait = self.may_wait and waits(term.action)
            if asked is not None and index <= asked.term:
                if index < asked.term or not granted:
                    continue
            else:
                # Draw first, so that the draws do not depend on the counts.
                if term.probability < 1 and not self._draw(term.probability):
                    continue
                left = self._left[index]
                if left == 0:
                    continue
                if is_wait and wakeup is None:
                    return self._decisions[index]
                if left is not None and term.times is not None:
                    if self.ledger is None:
                        self._left[index] = left - 1
                    else:
                        taken = self.ledger.take(index, term.times)
                        if taken is None:
                            return NOTHING
                        if isinstance(taken, Ask):
                            return Decision(taken)
                        if not taken:
                            continue
            self.triggers += 1
            if is_wait and wakeup is not None and hit is not None:
                return Decision(term.action, self.enroll(hit, wakeup))
            return self._decisions[index]
        return NOTHING

    def _draw(self, probability: float) -> bool:
        return self._random is not None and self._random.random() < probability

    def miss(self, context: Mapping[str, Any], mismatch: Mismatch) -> None:
        """Count a visit whose context did not match."""
        self.misses += 1
        self.last_miss = context
        self.last_mismatch = mismatch
        self.error = mismatch.error or self.error
        self.note()

    def note(self) -> None:
        """Show other processes what has changed, if it is theirs as well."""
        if self.ledger is not None:
            self.ledger.note(self)

    # A signal handler or finalizer can re-enter between any two lines while this thread holds the lock. Each step
    # below is therefore valid whatever ran since the previous one.

    def enroll(self, hit: Hit, wakeup: Wakeup) -> Waiter:
        """Make the visit a waiter, which a reconfiguration wakes from now on."""
        waiter = Waiter(self, hit, wakeup)
        self.waiters[waiter] = None
        return waiter

    def park(self, waiter: Waiter, sleeper: str) -> bool:
        """Note that the visit begins to wait. Return false if it was woken before that."""
        waiter.parked = (sleeper, now())
        waiter.arrival = next(_arrivals)
        self.parked[waiter] = None
        if waiter in self.waiters and self.ended_by is None:
            self.note()
            return True
        self.dismiss(waiter)
        return False

    def unpark(self, waiter: Waiter) -> None:
        """Note that the visit does not wait for the moment. A release is still kept for its next wait."""
        self.parked.pop(waiter, None)
        self.note()

    def dismiss(self, waiter: Waiter) -> bool:
        """Note that the visit has stopped waiting. Return false if it was released before that."""
        self.parked.pop(waiter, None)
        self.note()
        return self.waiters.pop(waiter, waiter) is None

    def dismiss_abandoned(self) -> None:
        """Dismiss the waiters whose event loop is closed. They can never do it themselves."""
        for waiter in list(self.waiters):
            if waiter.wakeup.abandoned:
                self.dismiss(waiter)

    def release(self, waiter: Waiter, *, resumed: bool = False) -> bool:
        """Dismiss a waiter and owe it its wake-up. Return false if it was released before."""
        if waiter in self.waiters:
            waiter.resumed = resumed
        owe(waiter.wakeup)
        return self.dismiss(waiter)

    def release_all(self) -> None:
        """Release all waiters."""
        self.dismiss_abandoned()
        for waiter in list(self.waiters):
            self.release(waiter)

    def end(self) -> None:
        """Note that it was replaced or removed, and release its waiters."""
        self.ended_by = threading.get_ident()
        self.dismiss_abandoned()
        self.waiting_at_end = self.waiting_at_end or describe_waiters(self.parked)
        self.release_all()

    def forget_other_threads(self) -> None:
        """Dismiss, after a fork, the waiters in threads that this process does not have."""
        for waiter in list(self.waiters):
            if waiter.wakeup.thread != threading.get_ident():
                self.dismiss(waiter)

    def status(self) -> FailpointStatus:
        """Return the current state as plain values, copied for the caller."""
        self.dismiss_abandoned()
        elsewhere = self.elsewhere
        return FailpointStatus(
            name=self.name,
            actions=self.terms,
            matchers=dict(self.matchers.given),
            hits=self.hits + elsewhere.hits,
            misses=self.misses + elsewhere.misses,
            last_miss=elsewhere.last_miss if self.last_miss is None else dict(self.last_miss),
            # `read` makes it a text
            last_mismatch=cast(Any, elsewhere.last_mismatch if self.last_miss is None else self.last_mismatch),
            triggers=self.triggers + elsewhere.triggers,
            waiting=in_order(describe_waiters(self.parked), elsewhere.waiting),
            sites=site_places(self.name),
        )


def describe_waiters(waiters: Iterable[Waiter]) -> tuple[Waiting, ...]:
    """Return those that are parked as plain values, the longest waiting first."""
    return tuple(
        Waiting(waiter.parked[0], dict(waiter.hit.context), waiter.parked[1])
        for waiter in sorted(waiters, key=lambda waiter: waiter.arrival)
        if waiter.parked is not None
    )


def in_order(here: tuple[Waiting, ...], elsewhere: tuple[Waiting, ...]) -> tuple[Waiting, ...]:
    """Return what waits in this process and in others, the longest waiting first."""
    return tuple(sorted((*here, *elsewhere), key=lambda each: each.since)) if elsewhere else here


def site_places(name: str) -> tuple[str, ...]:
    """Return the known sites of a name, each as `file:line`; of one that was not visited yet, where it was made."""
    return tuple(map(str, known_sites(name) or made_sites(name)))
