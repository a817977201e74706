"""The configurations of one registry, and everything that visits, tests and the control plane do with them.

All stores share one lock. No user code runs while it is held: no predicate, no `str()`, no pattern, no log handler.
"""

from __future__ import annotations

import heapq
import logging
import math
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final

from ..errors import FailpointUsageError
from . import environment
from .actions import Actions, Hit
from .arming import report_failures
from .configuration import NOTHING, Ask, Configuration, Decision, Waiter, describe_waiters, in_order, site_places
from .context import GivenMatchers, Matchers, Mismatch
from .events import fields
from .followers import Follower, Followers
from .formatting import describe_actions
from .grammar import as_terms
from .hooks import Others
from .late_imports import import_for_visits
from .locks import guard as _guard
from .log import logger
from .messages import safe_repr
from .multimap import Multimap
from .raising import check_raisable
from .reachability import unreachable
from .stack import NO_CONFIGURATIONS, Stack
from .status import FailpointStatus, Waiting, read, summed
from .strays import Strays
from .switches import ARMED, arm_everything, learn_scope, settle
from .validation import check_count, check_name
from .wakeups import Wakeup, forget_other_threads, owed, pay
from .watches import Watch, Watches

_stores: weakref.WeakSet[Store] = weakref.WeakSet()
stores_in_force: Final[dict[Store, None]] = {}
"""The store of the process-wide registry, and those that are entered, in the order in which they were."""

_unsettled: Final[dict[tuple[Store, str], None]] = {}  # the names that were changed, until all that follows is done


def _begin_in_child() -> None:
    for store in list(_stores):
        store.begin_in_child()
    forget_other_threads()


_guard.after_fork = _begin_in_child


def finish() -> None:
    """Do what follows from the changes so far: end what is not in force any more, and wake what waited for that.

    An exception from a signal handler can end a call halfway. So each call begins and ends with this.
    """
    if _unsettled:
        with _guard.lock:
            _settle_all()
    pay()


def _settle_all() -> None:
    for store, name in list(_unsettled):
        store.settle(name)
        _unsettled.pop((store, name), None)


class Store:
    """The configurations of one registry. Any thread may call any method."""

    def __init__(self) -> None:
        self.stacks: Mapping[str, Stack] = {}  # by name; never changed: each change makes another one
        self._not_ended: Multimap[Configuration] = Multimap()
        self._watches = Watches()
        self._followers = Followers()
        self._strays = Strays()
        self.others: Others | None = None
        # The stores of tests begin with the seed of the process, whose own store is made first.
        self._seed: int | str | None = PROCESS_STORE._seed if _stores else None  # noqa: SLF001 - of its own kind
        with _guard.lock:
            _stores.add(self)

    # entering and leaving

    def put_in_force(self) -> None:
        """Let the store decide visits, and arm the sites of its failpoints."""
        with _guard.lock:
            if self in stores_in_force:
                raise FailpointUsageError("this Registry is already entered; make one for each block")
            stores_in_force[self] = None
            for name in self.stacks:
                _arm_or_disarm(name)
        report_failures()

    def end(self) -> None:
        """Take the store out of force and remove everything in it."""
        stores_in_force.pop(self, None)  # first, so that no new waiter arrives after the reset
        self.reset()

    # configuring

    def prepare(
        self,
        name: str,
        actions: Actions,
        context: GivenMatchers | None = None,
        *,
        pause_limit: float | None = None,
        for_block: bool = False,
        for_run: bool = False,
    ) -> Configuration:
        """Check what `configure` was given, and change nothing yet.

        Args:
            name: The failpoint.
            actions: What it is to do.
            context: The matchers.
            pause_limit: How long a pause lasts that has no limit of its own, in seconds.
            for_block: Whether what it replaces is to return when it is removed.
            for_run: Whether it is for a whole run of tests, which a site that comes to be known does not end.
        """
        if not environment.ENABLED:
            raise FailpointUsageError(
                f"cannot configure {name!r}: this process was started with FAILPOINTS_ENABLED=0; unset it",
                code="FP017",
            )
        import_for_visits()
        terms = as_terms(actions)
        check_name(name)
        if not for_run:
            check_raisable(name, terms)
        return Configuration(name, terms, Matchers(context), pause_limit=pause_limit, for_block=for_block)

    def install(self, configuration: Configuration) -> Configuration:
        """Make a prepared configuration the newest one of its name, and return it."""
        self.install_all([configuration])
        return configuration

    def install_all(self, configurations: Sequence[Configuration]) -> None:
        """Make prepared configurations the newest ones of their names, all at the same moment."""

        def installed(before: Mapping[str, Stack]) -> Mapping[str, Stack]:
            changed: dict[str, Stack] = {}
            for configuration in configurations:
                name = configuration.name
                configuration.seed(self._seed)
                changed[name] = changed.get(name, before.get(name, NO_CONFIGURATIONS)).with_newest(configuration)
            return changed

        self._change(installed)
        report_failures()
        for configuration in configurations:
            problem = unreachable(configuration.terms)
            if problem is not None:
                noted = fields("configured", configuration.name, action=describe_actions(configuration.terms))
                logger.warning("configured %s: %s", configuration.name, problem, extra=noted)
        if not logger.isEnabledFor(logging.INFO):
            return
        for configuration in configurations:
            asked = configuration.matchers.given
            actions = describe_actions(configuration.terms)
            logger.info(
                "configured %s: %s%s",
                configuration.name,
                actions,
                f" where {safe_repr(asked)}" if asked else "",
                extra=fields("configured", configuration.name, action=actions),
            )

    def remove(self, name: str) -> None:
        """Remove all configurations of *name*, if there are any, and wake their waiters."""
        self._remove(lambda before: {name: NO_CONFIGURATIONS} if name in before else {})

    def remove_one(self, configuration: Configuration) -> None:
        """Remove one configuration if it is there, wake its waiters, and put in force again what it hid."""
        name = configuration.name

        def removed(before: Mapping[str, Stack]) -> Mapping[str, Stack]:
            stack = before.get(name, NO_CONFIGURATIONS)
            return {name: stack.without(configuration)} if configuration in stack.configurations() else {}

        self._remove(removed)

    def reset(self) -> None:
        """Remove every configuration and wake all waiters."""
        self._remove(lambda before: dict.fromkeys(before, NO_CONFIGURATIONS))

    def resume(
        self,
        name: str,
        context: GivenMatchers | None = None,
        tasks: int | None = None,
        *,
        only: Configuration | None = None,
        arrival: float | None = None,
    ) -> int:
        """Wake waiters of *name*, the longest waiting first, and return how many were woken.

        Args:
            name: The failpoint.
            context: The matchers that the visits must match.
            tasks: How many to wake at most; `None` for all.
            only: The configuration whose waiters are woken; `None` for all of the name.
            arrival: The number of the one waiter that is woken, as `parked` returns it; `None` for all.
        """
        if self.others is not None and arrival is None:
            return self.others.resume(name, context, tasks, only)
        return self.resume_here(name, context, tasks, only=only, arrival=arrival)

    def resume_here(
        self,
        name: str,
        context: GivenMatchers | None = None,
        tasks: int | None = None,
        *,
        only: Configuration | None = None,
        arrival: float | None = None,
    ) -> int:
        """Wake waiters of this process, like `resume`."""
        matchers = Matchers(context)
        limit = math.inf if tasks is None else check_count("tasks", tasks)
        finish()
        try:
            waiters = [w for w in self._waiters(name, only) if matchers.mismatch(w.hit.context) is None]
            woken = 0
            with _guard.lock:
                for waiter in waiters:
                    if woken < limit and arrival in (None, waiter.arrival):
                        woken += waiter.configuration.release(waiter, resumed=True)
                self._followers.note(name)
        finally:
            finish()
        return woken

    def seed(self, seed: int | str | None) -> None:
        """Seed the draws of all configurations, present and future; `None` draws a random seed for each."""
        with _guard.lock:
            self._seed = seed
            for stack in self.stacks.values():
                for configuration in stack.configurations():
                    configuration.seed(seed)

    def save(self) -> Callable[[], None]:
        """Snapshot the configurations and the seed. Calling the result restores them and wakes all waiters."""
        with _guard.lock:
            return partial(self._restore, self.stacks, self._seed)

    def start_over(self) -> Callable[[], None]:
        """Begin the counts and draws of all configurations again. Calling the result restores what is configured now.

        Counts of before and since are then added up, and all waiters are woken.
        """
        with _guard.lock:
            before = [
                configuration.start_over(self._seed)
                for stack in self.stacks.values()
                for configuration in stack.configurations()
            ]
            restore = self.save()
        add_others = self.others.begin_again() if self.others is not None else None

        def go_on() -> None:
            if add_others is not None:
                add_others()
            restore()
            with _guard.lock:
                for continued in before:
                    continued()

        return go_on

    # looking

    def configurations(self) -> list[Configuration]:
        """Return the configurations in force. Takes no lock."""
        return [configuration for stack in self.stacks.values() for configuration in stack.current]

    def current(self, name: str) -> tuple[Configuration, ...]:
        """Return the configurations of *name* in force, the newest first. Takes no lock."""
        return self.stack(name).current

    def stack(self, name: str) -> Stack:
        """Return the stack of *name*, which is empty if it is not configured. Takes no lock."""
        stacks = self.stacks
        return stacks[name] if name in stacks else NO_CONFIGURATIONS  # noqa: SIM401 - docs/internals.md: "dict.get"

    def status(self, name: str) -> FailpointStatus:
        """Return the status of *name*: empty, but for its sites, when it is not configured."""
        self.refresh(self.current(name))
        with _guard.lock:
            status = self._status(name)
        return read(status)

    def statuses(self) -> list[FailpointStatus]:
        """Return the status of every configured name, sorted by name."""
        self.refresh(self.configurations())
        with _guard.lock:
            statuses = list(map(self._status, sorted(self.stacks)))
        return list(map(read, statuses))

    def status_of(self, configuration: Configuration) -> FailpointStatus:
        """Return the status of a configuration of this store, in force or not."""
        self.refresh([configuration])
        with _guard.lock:
            status = self._status_of(configuration)
        return read(status)

    def parked(self, name: str, most: int) -> tuple[int, dict[float, Waiting]]:
        """Return how many tasks and threads wait at a failpoint, and those that have waited longest, by their numbers.

        The number of a waiter is its own in the whole process.
        """
        with _guard.lock:
            parked = [waiter for each in self.current(name) for waiter in list(each.parked)]
            longest = heapq.nsmallest(most, parked, key=lambda waiter: waiter.arrival)
            return len(parked), {waiter.arrival: each for waiter in longest for each in describe_waiters([waiter])}

    def _status(self, name: str) -> FailpointStatus:
        current = self.current(name)
        if not current:
            return FailpointStatus(name, sites=site_places(name))
        statuses = tuple(map(self._status_of, current))
        if len(current) == 1:
            return summed(statuses, statuses[0].waiting)
        here = describe_waiters(waiter for each in current for waiter in list(each.parked))
        elsewhere = tuple(waiting for each in current for waiting in each.elsewhere.waiting)
        return summed(statuses, in_order(here, elsewhere))

    def refresh(self, configurations: Iterable[Configuration]) -> None:
        """Learn what other processes did, if they have what this store has."""
        if self.others is not None:
            self.others.refresh(configurations)

    def _status_of(self, configuration: Configuration) -> FailpointStatus:
        return replace(configuration.status(), strays=self._strays.of(configuration.name))

    def waiting_since(self, name: str, context: GivenMatchers | None, only: Configuration | None) -> list[datetime]:
        """Return since when visits wait in this process whose contexts match."""
        matchers = Matchers(context)
        waiters = [each for each in self._waiters(name, only) if matchers.mismatch(each.hit.context) is None]
        return [each.parked[1] for each in waiters if each.parked is not None]

    def _waiters(self, name: str, only: Configuration | None) -> list[Waiter]:
        """Return the waiters of a name or of one configuration, the longest waiting first."""
        with _guard.lock:
            waiters: list[Waiter] = []
            for configuration in self.current(name) if only is None else (only,):
                configuration.dismiss_abandoned()
                waiters += configuration.waiters
            return sorted(waiters, key=lambda waiter: waiter.arrival)

    # visits

    def decide(
        self,
        name: str,
        stack: Stack,
        hit: Hit | None,
        missed: Iterable[tuple[Configuration, Mismatch]],
        deciding: Configuration | None,
        wakeup: Wakeup | None,
    ) -> Decision | None:
        """Count a visit, choose its action and, if that waits, enroll the visit as a waiter: all in one step.

        Returns `None` if other configurations are in force by now. Without a *wakeup* an action that waits is chosen
        but not used up, because the site is going to refuse it.

        Args:
            name: The failpoint.
            stack: Its configurations, as the visit found them.
            hit: The visit, if there are matchers or an action that waits.
            missed: The configurations whose matchers do not match, and why.
            deciding: The configuration that decides the visit, if there is one.
            wakeup: What the visit will sleep on, if an action waits.
        """
        decision = NOTHING
        try:
            with _guard.lock:
                stacks = self.stacks
                if name not in stacks or stacks[name] is not stack:
                    return None
                is_watched = name in self._watches.names or bool(self._followers.present)
                if is_watched:
                    _unsettled[self, name] = None
                if hit is not None:
                    for configuration, mismatch in missed:
                        configuration.miss(hit.context, mismatch)
                if deciding is not None:
                    deciding.hits += 1
                    if is_watched:
                        self._watches.changed(name, stack.current)
                    decision = deciding.decide(hit, wakeup)
                    if deciding.ledger is not None:
                        deciding.note()
        finally:
            if _unsettled or owed:
                finish()
        return decision

    def decide_further(
        self, configuration: Configuration, hit: Hit, wakeup: Wakeup | None, asked: Ask, *, granted: bool | None
    ) -> Decision:
        """Go on with the decision about a visit that has asked for a count. It does nothing if the configuration ended.

        Args:
            configuration: The configuration that decides the visit, which has counted it.
            hit: The visit.
            wakeup: What the visit will sleep on, if an action waits.
            asked: What it has asked the ledger.
            granted: The answer; `None` if there was none.
        """
        decision = NOTHING
        try:
            with _guard.lock:
                current = self.current(hit.name)
                if configuration in current:
                    if hit.name in self._watches.names or self._followers.present:
                        _unsettled[self, hit.name] = None
                    decision = configuration.decide(hit, wakeup, asked, granted=granted)
                    configuration.note()
        finally:
            finish()
        return decision

    def enroll(self, configuration: Configuration, hit: Hit, wakeup: Wakeup) -> Waiter | None:
        """Enroll a visit whose action a `Call` returned; `None` if the configuration is no longer in force."""
        with _guard.lock:
            return configuration.enroll(hit, wakeup) if configuration in self.current(hit.name) else None

    def park(self, waiter: Waiter) -> bool:
        """Note that the visit begins to wait; false if it was woken before that."""
        sleeper = waiter.wakeup.sleeper()
        name = waiter.hit.name
        with _guard.lock:
            parked = waiter.configuration.park(waiter, sleeper)
            if parked:
                self._watches.changed(name, self.current(name))
                self._followers.note(name)
        finish()
        return parked

    def unpark(self, waiter: Waiter) -> None:
        """Note that the visit does not wait for the moment; a wake-up is kept for its next wait."""
        with _guard.lock:
            waiter.configuration.unpark(waiter)
            self._followers.note(waiter.hit.name)
        finish()

    def leave(self, waiter: Waiter) -> bool:
        """Note that the visit has stopped waiting; false if it was woken before that."""
        with _guard.lock:
            waiting = waiter.configuration.dismiss(waiter)
            self._followers.note(waiter.hit.name)
        finish()
        return waiting

    def add_stray(self, name: str, thread: str, context: Mapping[str, Any]) -> None:
        """Count a visit in a thread that the store does not reach, if the name is configured in it."""
        with _guard.lock:
            if self.stack(name):
                self._strays.add(name, thread, context)
                self._followers.note(name)
        finish()

    # watches

    def has_ended(self, watch: Watch, wakeup: Wakeup | None = None) -> bool:
        """Return whether the watch is over; if not, *wakeup* is set when that may have changed."""
        finish()
        self.refresh(self.current(watch.name))
        with _guard.lock:
            # Added before the check, so that no later event can miss it.
            self._watches.add(watch)
            return watch.has_ended(self.current(watch.name), self.stacks, wakeup)

    def unwatch(self, watch: Watch) -> None:
        """Forget a watch."""
        with _guard.lock:
            self._watches.discard(watch)

    # followers

    def follow(self, follower: Follower) -> None:
        """Keep a follower informed of every change from now on."""
        with _guard.lock:
            self._followers.add(follower)

    def unfollow(self, follower: Follower) -> None:
        """Forget a follower."""
        with _guard.lock:
            self._followers.discard(follower)

    def changes(self, follower: Follower, wakeup: Wakeup) -> list[str]:
        """Return the names that have changed since the last call. If there are none, a change sets *wakeup*."""
        finish()
        with _guard.lock:
            return follower.take(wakeup)

    # changing the configurations

    def _change(self, changes: Callable[[Mapping[str, Stack]], Mapping[str, Stack]]) -> Mapping[str, Stack]:
        """Put other stacks in force, all at the same moment, and do what follows from it. Returns those changed.

        *changes* returns the stacks to change, by name, given those in force. It is called again if these have changed
        in the meantime. It may run the user's code, which compares matchers.
        """
        finish()
        try:
            while True:
                before = self.stacks
                changed = changes(before)
                if not changed:
                    return changed
                after = {**before, **changed}
                for name, stack in changed.items():
                    if not stack:
                        after.pop(name, None)
                unsettled: dict[tuple[Store, str], None] = {(self, name): None for name in changed}
                with _guard.lock:
                    _settle_all()
                    _unsettled.update(unsettled)
                    # In one line and without a call, so that no signal handler comes between the two steps.
                    self.stacks = after if (done := self.stacks is before) else self.stacks
                    _unsettled.update(unsettled)  # again, since a handler may have settled them too early
                if done:
                    return changed
        finally:
            finish()
            if self.others is not None:
                self.others.changed()

    def _remove(self, changes: Callable[[Mapping[str, Stack]], Mapping[str, Stack]]) -> None:
        for name in self._change(changes):
            logger.info("removed %s", name, extra=fields("removed", name))

    def _restore(self, saved: Mapping[str, Stack], seed: int | str | None) -> None:
        self._change(
            lambda before: {
                name: saved.get(name, NO_CONFIGURATIONS)
                for name in {**saved, **before}
                if saved.get(name) is not before.get(name)
            }
        )
        try:
            with _guard.lock:
                self._seed = seed
                for configuration in self.configurations():
                    configuration.release_all()
        finally:
            finish()

    def settle(self, name: str) -> None:
        """Do what follows from a change of this name: end what is not in force any more, inform the watches, arm sites.

        Safe to re-enter when a signal handler or a finalizer reconfigures between any two lines, while this thread
        holds the lock: it checks the actual state instead of remembering what it did.
        """
        stack = None
        while stack is not self.stack(name):
            stack = self.stack(name)
            in_force = set(stack.current)
            for configuration in self._not_ended.under(name):
                if configuration not in in_force:
                    configuration.end()
                    self._not_ended.discard(name, configuration)
            for configuration in stack.current:
                configuration.revive()
                self._not_ended.add(name, configuration)
            if not stack:
                self._strays.forget(name)
            self._watches.changed(name, stack.current)
            self._followers.note(name)
            _arm_or_disarm(name)

    def begin_in_child(self) -> None:
        """Forget, after a fork, what waits in threads that this process does not have.

        Unless the draws are seeded, they differ from those of the parent and of its other children.
        """
        for stack in self.stacks.values():
            for configuration in stack.configurations():
                configuration.forget_other_threads()
                if self._seed is None:
                    configuration.seed(None)
        self._watches.forget_other_threads()
        self._followers.forget_other_threads()


def arm_all_sites(*, armed: bool) -> None:
    """Make every site look for something to do, whatever is configured, or end that."""
    with _guard.lock:
        arm_everything(armed=armed)
    report_failures()


def note_scope_elsewhere(name: str) -> None:
    """Arm from now on all functions that may contain the scope *name*: it was entered in one that was not armed."""
    with _guard.lock:
        learn_scope(name)


def _arm_or_disarm(name: str) -> None:
    while (wanted := _may_return(name)) is not ARMED.get(name):
        if wanted is None:
            ARMED.pop(name, None)
        else:
            ARMED[name] = wanted
    settle(name)


def _may_return(name: str) -> bool | None:
    """Return whether a visit of *name* may return early, as configured in any registry; `None` if it is not."""
    stacks = [stack for store in list(stores_in_force) if (stack := store.stack(name))]
    return any(stack.may_return for stack in stacks) if stacks else None


PROCESS_STORE: Final = Store()
"""The store of the process-wide registry."""

stores_in_force[PROCESS_STORE] = None
