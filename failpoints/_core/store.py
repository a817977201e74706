"""The configurations of one registry, and everything that visits, tests and the control plane do with them.

All stores share one lock. No user code runs while it is held: no predicate, no `str()`, no pattern, no log handler.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Final

from ..errors import FailpointUsageError
from . import environment
from .actions import Actions, Hit
from .arming import ARMED, arm_or_disarm
from .configuration import NOTHING, Configuration, Decision, Waiter, site_places
from .context import GivenMatchers, Matchers
from .formatting import describe_actions
from .grammar import as_terms
from .locks import ForkSafeLock
from .log import logger
from .messages import safe_repr
from .multimap import Multimap
from .status import FailpointStatus
from .validation import check_name
from .wakeups import Wakeup, wake
from .watches import Watch, Watches

_stores: weakref.WeakSet[Store] = weakref.WeakSet()
_in_force: dict[Store, None] = {}


def _forget_other_threads() -> None:
    for store in list(_stores):
        store.forget_other_threads()


_guard: Final = ForkSafeLock(held_while_forking=True, after_fork=_forget_other_threads)


class Store:
    """The configurations of one registry. Any thread may call any method."""

    def __init__(self) -> None:
        self._configurations: dict[str, Configuration] = {}
        self._not_ended = Multimap[Configuration]()
        self._watches = Watches()
        # The stores of tests begin with the seed of the process, whose own store is made first.
        self._seed: int | str | None = PROCESS_STORE._seed if _stores else None  # noqa: SLF001 - of its own kind
        with _guard.lock:
            _stores.add(self)

    # entering and leaving

    def enter(self) -> None:
        """Put the store in force for the visits of this context."""
        with _guard.lock:
            if self in _in_force:
                raise FailpointUsageError("this Registry is already entered; make one for each block")
            _in_force[self] = None
            for name in list(self._configurations):
                _arm_or_disarm(name)
        entered.set((self, *entered.get()))

    def exit(self) -> None:
        """Take the store out of force and remove everything in it."""
        with _guard.lock:  # out of force first, so that no new waiter arrives after the reset
            _in_force.pop(self, None)
            for name in list(self._configurations):
                _arm_or_disarm(name)
        self.reset()
        # Without a token: registries may be left in another order, or in another context, than they were entered in.
        entered.set(tuple(store for store in entered.get() if store is not self))

    # configuring

    def prepare(
        self,
        name: str,
        actions: Actions,
        context: GivenMatchers | None = None,
        pause_limit: float | None = None,
    ) -> Configuration:
        """Check what `configure` was given, and change nothing yet.

        A pause in it that has no limit of its own lasts at most *pause_limit* seconds.
        """
        if not environment.ENABLED:
            raise FailpointUsageError(
                f"cannot configure {name!r}: this process was started with FAILPOINTS_ENABLED=0; unset it"
            )
        return Configuration(check_name(name), as_terms(actions), Matchers(context), pause_limit)

    def install(
        self, name: str, actions: Actions, context: GivenMatchers | None = None, *, pause_limit: float | None = None
    ) -> Configuration:
        """Prepare a configuration and install it."""
        configuration = self.prepare(name, actions, context, pause_limit)
        self.install_all([configuration])
        return configuration

    def install_all(self, configurations: Sequence[Configuration]) -> None:
        """Make prepared configurations the current ones of their names, all at the same moment."""
        woken: list[Wakeup] = []
        with _guard.lock:
            for configuration in configurations:
                configuration.seed(self._seed)
                woken += self._make_current(configuration)
        wake(woken)
        if not logger.isEnabledFor(logging.INFO):
            return
        for configuration in configurations:
            asked = configuration.matchers.given
            logger.info(
                "configured %s: %s%s",
                configuration.name,
                describe_actions(configuration.terms),
                f" where {safe_repr(asked)}" if asked else "",
            )

    def remove(self, name: str) -> None:
        """Remove the configuration of *name*, if there is one, and wake its waiters."""
        self._remove([name])

    def reset(self) -> None:
        """Remove every configuration and wake all waiters."""
        self._remove(list(self._configurations))

    def resume(self, name: str) -> int:
        """Wake everything waiting at *name* and return how many were woken."""
        with _guard.lock:
            configuration = self._configurations.get(name)
            wakeups = configuration.release(resumed=True) if configuration else []
        wake(wakeups)
        return len(wakeups)

    def seed(self, seed: int | str | None) -> None:
        """Seed the draws of all configurations, present and future; `None` draws a random seed for each."""
        with _guard.lock:
            self._seed = seed
            for configuration in list(self._configurations.values()):
                configuration.seed(seed)

    def save(self) -> Callable[[], None]:
        """Snapshot the configurations and the seed. Calling the result restores them and wakes all waiters."""
        with _guard.lock:
            return partial(self._restore, dict(self._configurations), self._seed)

    def start_over(self) -> Callable[[], None]:
        """Begin the counts and draws of all configurations again. Calling the result restores what is configured now.

        Counts of before and since are then added up, and all waiters are woken.
        """
        with _guard.lock:
            before = [configuration.start_over(self._seed) for configuration in list(self._configurations.values())]
            restore = self.save()

        def go_on() -> None:
            restore()
            with _guard.lock:
                for continued in before:
                    continued()

        return go_on

    # looking

    def configurations(self) -> list[Configuration]:
        """Return the current configurations. Takes no lock."""
        return list(self._configurations.values())

    def current(self, name: str) -> Configuration | None:
        """Return the current configuration of *name*, if there is one. Takes no lock."""
        return self._configurations.get(name)

    def status(self, name: str) -> FailpointStatus:
        """Return the status of *name*: empty, but for its sites, when it is not configured."""
        with _guard.lock:
            configuration = self._configurations.get(name)
            if configuration is not None:
                return configuration.status()
        return FailpointStatus(name, sites=site_places(name))

    def statuses(self) -> list[FailpointStatus]:
        """Return the status of every configuration, sorted by name."""
        with _guard.lock:
            return [configuration.status() for _, configuration in sorted(self._configurations.items())]

    def status_of(self, configuration: Configuration) -> FailpointStatus:
        """Return the status of a configuration of this store, current or not."""
        with _guard.lock:
            return configuration.status()

    # visits

    def decide(
        self, configuration: Configuration, hit: Hit, mismatch: str | None, wakeup: Wakeup | None
    ) -> Decision | None:
        """Count a visit, choose its action and, if that waits, enroll the visit as a waiter: all in one step.

        Returns `None` if the configuration is no longer the current one. Without a *wakeup* an action that waits is
        chosen but not used up, because the site is going to refuse it.
        """
        with _guard.lock:
            if self._configurations.get(hit.name) is not configuration:
                return None
            if mismatch is not None:
                configuration.miss(hit.context, mismatch)
                return NOTHING
            configuration.hits += 1
            woken = self._watches.changed(hit.name, configuration)
            decision = configuration.decide(hit, wakeup)
        wake(woken)
        return decision

    def enroll(self, configuration: Configuration, hit: Hit, wakeup: Wakeup) -> Waiter | None:
        """Enroll a visit whose action a `Call` returned; `None` if the configuration is no longer the current one."""
        with _guard.lock:
            if self._configurations.get(hit.name) is not configuration:
                return None
            return configuration.enroll(hit, wakeup)

    def park(self, waiter: Waiter) -> bool:
        """Note that the visit begins to wait; false if it was woken before that."""
        sleeper = waiter.wakeup.sleeper()
        with _guard.lock:
            parked = waiter.configuration.park(waiter, sleeper)
            current = self._configurations.get(waiter.hit.name)
            woken = self._watches.changed(waiter.hit.name, current) if parked else []
        wake(woken)
        return parked

    def leave(self, waiter: Waiter) -> bool:
        """Note that the visit has stopped waiting; false if it was woken before that."""
        with _guard.lock:
            return waiter.configuration.dismiss(waiter)

    # watches

    def has_ended(self, watch: Watch, wakeup: Wakeup | None = None) -> bool:
        """Return whether the watch is over; if not, *wakeup* is set when that may have changed."""
        with _guard.lock:
            # Added before the check, so that no later event can miss it.
            self._watches.add(watch)
            return watch.has_ended(self._configurations, wakeup)

    def unwatch(self, watch: Watch) -> None:
        """Forget a watch."""
        with _guard.lock:
            self._watches.discard(watch)

    # changing the configurations

    def _remove(self, names: Iterable[str]) -> None:
        removed: list[str] = []
        woken: list[Wakeup] = []
        with _guard.lock:
            for name in names:
                if self._configurations.pop(name, None) is not None:
                    removed.append(name)
                    woken += self._settle(name) + self._watches.changed(name, None)
        wake(woken)
        for name in removed:
            logger.info("removed %s", name)

    def _restore(self, saved: Mapping[str, Configuration], seed: int | str | None) -> None:
        woken: list[Wakeup] = []
        with _guard.lock:
            self._seed = seed
            for name in {**saved, **self._configurations}:
                before, now = saved.get(name), self._configurations.get(name)
                if now is before:
                    continue
                if before is None:
                    self._configurations.pop(name, None)
                    woken += self._settle(name)
                else:
                    woken += self._make_current(before)
                woken += self._watches.changed(name, before)
            for configuration in list(self._configurations.values()):
                woken += configuration.release()
        wake(woken)

    def _make_current(self, configuration: Configuration) -> list[Wakeup]:
        """Make a configuration, new or restored, the current one of its name; return the wakeups of the others."""
        name = configuration.name
        self._configurations[name] = configuration
        # A signal handler between two lines here may have ended it. While it is the current one, it must not be ended.
        while self._configurations.get(name) is configuration and not (
            configuration.ended_by is None and configuration in self._not_ended.under(name)
        ):
            configuration.revive()
            self._not_ended.add(name, configuration)
        return self._settle(name)

    def _settle(self, name: str) -> list[Wakeup]:
        """End all configurations of *name* but the current one, and return the wakeups of their waiters.

        Safe to re-enter when a signal handler or a finalizer reconfigures between any two lines, while this thread
        holds the lock: it checks the actual state instead of remembering what it did.
        """
        woken: list[Wakeup] = []
        for configuration in self._not_ended.under(name):
            if configuration is not self._configurations.get(name):
                woken += configuration.end()
                self._not_ended.discard(name, configuration)
        _arm_or_disarm(name)
        return woken

    def forget_other_threads(self) -> None:
        """Forget, after a fork, what waits in threads that this process does not have."""
        for configuration in self._configurations.values():
            configuration.forget_other_threads()
        self._watches.forget_other_threads()


def find(name: str) -> tuple[Store, Configuration] | None:
    """Find the configuration that decides a visit made here: that of the innermost store that has the name."""
    for store in entered.get():
        configuration = store.current(name)
        if configuration is not None and store in _in_force:
            return store, configuration
    return None


def in_force() -> list[Configuration]:
    """Return every configuration that may decide a visit made here."""
    return [configuration for store in entered.get() if store in _in_force for configuration in store.configurations()]


def arm(name: str, *, armed: bool) -> None:
    """Make every site look for something to do, under a name that no failpoint can have; or end that."""
    with _guard.lock:
        if armed:
            ARMED[name] = None
        else:
            ARMED.pop(name, None)
        arm_or_disarm()


def _arm_or_disarm(name: str) -> None:
    while (armed := any(store.current(name) for store in list(_in_force))) != (name in ARMED):
        if armed:
            ARMED[name] = None
        else:
            ARMED.pop(name, None)
    arm_or_disarm()


PROCESS_STORE: Final = Store()
"""The store of the process-wide registry."""

_in_force[PROCESS_STORE] = None

entered: Final[ContextVar[tuple[Store, ...]]] = ContextVar("failpoints.entered", default=(PROCESS_STORE,))
"""The stores whose blocks are around this point, the innermost first. One may be out of force already."""
