"""The registry: what is configured, and for whom; who waits for what to happen.

All that is configured hangs on the registries, behind one lock. Nothing of a user's runs under it:
no predicate, no `str()`, no pattern, no log handler.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Self

from anyio import move_on_after

from ..errors import FailpointUsageError
from . import environment
from .actions import Actions, Hit
from .arming import ARMED, arm_or_disarm
from .configuration import NOTHING, Configuration, Decision, Waiter, site_places
from .context import GivenMatchers, Matchers
from .grammar import as_terms, check_name, describe_actions
from .handle import Configured, Handle
from .log import logger
from .messages import safe_repr
from .multimap import Multimap
from .status import FailpointStatus
from .validation import entry_parts, positive, seconds
from .wakeups import Ended, TaskWakeup, ThreadWakeup, Wakeup, on_event_loop, wake
from .watches import Watch, Watches

_lock = threading.RLock()
_registries: weakref.WeakSet[Registry] = weakref.WeakSet()
_in_force: dict[Registry, None] = {}


class Registry:
    """To keep the failpoints of concurrent tests apart: `with Registry() as registry:`.

    Its configurations hold for this task and the tasks and `to_thread` workers started inside the block, and
    for nobody else; a name configured in it hides an outer one, also when it misses or is spent. Leaving resets
    it and wakes its waiters. Every method may be called from any thread and any task, also outside the block.
    The functions of the package that bear the same names act on the registry of the whole process.

    >>> with Registry() as registry:
    ...     registry.configure("gateway.charge", "raise(TimeoutError)")
    """

    def __init__(self) -> None:
        self._configurations: dict[str, Configuration] = {}
        self._not_ended = Multimap[Configuration]()
        self._watches = Watches()
        # The seed of the process, for a test's registries too; that one itself is made first, and has none.
        self._seed: int | str | None = PROCESS_WIDE._seed if _registries else None
        with _lock:
            _registries.add(self)

    def __enter__(self) -> Self:
        with _lock:
            if self in _in_force:
                raise FailpointUsageError("this Registry is already entered; make one for each block")
            _in_force[self] = None
            for name in list(self._configurations):
                _arm_or_disarm(name)
        _scope.set((self, *_scope.get()))
        return self

    def __exit__(self, *exception: object) -> None:
        with _lock:  # out of force first: nobody comes to wait after the reset
            _in_force.pop(self, None)
            for name in list(self._configurations):
                _arm_or_disarm(name)
        self.reset()
        # Not by a token: registries may be left in another order, or in another context, than they were entered in.
        _scope.set(tuple(registry for registry in _scope.get() if registry is not self))

    # configuring

    def configure(self, name: str, actions: Actions, *, context: GivenMatchers | None = None) -> None:
        """To make a failpoint do something, from the next visit on.

        `actions` is a text (`"2*off->return(42)"`), an action, a `Term`, or a sequence of the last two.
        `context` are the matchers: a mapping of context keys to a pattern (`str` or `re.Pattern`) that must match
        the whole `str()` of the value, a predicate of one argument, or a value to be equal to; all must hold.
        Whoever waits at the failpoint is woken and goes on with `Continue()`; its counts begin anew.

        Raises `ActionSyntaxError`, `FailpointNameError` (also for a pattern), or `FailpointUsageError` for
        arguments of a wrong type and while `FAILPOINTS_ENABLED=0`; then nothing has changed.

        >>> configure("backup", "return(0)", context={"tenant_id": "test_.*", "shard": 3})
        >>> remove("backup")
        """
        self.install(name, actions, context)

    def install(
        self, name: str, actions: Actions, context: GivenMatchers | None = None, *, pause_limit: float | None = None
    ) -> Configuration:
        """`configure`, for who goes on with what came of it.

        A pause in it that has no limit of its own lasts `pause_limit` seconds at most.
        """
        configuration = self._configuration(name, actions, context, pause_limit)
        self.install_all([configuration])
        return configuration

    def configure_all(
        self,
        entries: Iterable[tuple[str, Actions] | tuple[str, Actions, GivenMatchers | None]],
    ) -> None:
        """To configure several failpoints at one moment: all of them or, on any error, none.

        Each entry is `(name, actions)` or `(name, actions, context)`; a later one of the same name counts. Raises
        what `configure` raises.

        >>> configure_all([("backup", "pause"), ("upload", "raise(OSError)", {"shard": 3})])
        >>> reset()
        """
        self.install_all(self.prepared(entries))

    def prepared(
        self,
        entries: Iterable[tuple[str, Actions] | tuple[str, Actions, GivenMatchers | None]],
    ) -> list[Configuration]:
        """What `configure_all` would install: everything is checked, and nothing has changed."""
        return [self._configuration(*parts) for parts in entry_parts(entries)]

    def configured(self, name: str, actions: Actions, *, context: GivenMatchers | None = None) -> Configured:
        """To configure a failpoint for a block of code, and to watch it there.

        Takes what `configure` takes; the block is given a `Handle`. On leaving, the failpoint is removed and
        everyone who waits at it is woken. Serves `with` and `async with`; raises, on entering, what `configure`
        raises.

        >>> with configured("backup", "off") as handle:
        ...     handle.hits
        0
        """
        return Configured(lambda: Handle(self, name, self.install(name, actions, context)))

    def remove(self, name: str) -> None:
        """To end what was configured under this name, waking who waits there; no error if there is nothing.

        Raises `FailpointNameError` for what cannot be a name.
        """
        self._take_away([check_name(name)])

    def reset(self) -> None:
        """To end everything that was configured in this registry, waking everyone who waits."""
        self._take_away(list(self._configurations))

    def resume(self, name: str) -> int:
        """To let those go on who wait at a failpoint now, and hold the next ones: returns how many were woken.

        Raises `FailpointNameError` for what cannot be a name.
        """
        check_name(name)
        with _lock:
            configuration = self._configurations.get(name)
            wakeups = configuration.release() if configuration else []
        wake(wakeups)
        return len(wakeups)

    def seed(self, n: int | None) -> None:
        """To have chances (`25%…`) come out the same in every run.

        Each failpoint draws from a generator of its own, made of `n` and its name and begun anew by `seed` and
        by each `configure`, so that one failpoint's draws do not depend on another's. `None` is any seed.
        Raises `FailpointUsageError` for what is no `int`.
        """
        if n is not None and (not isinstance(n, int) or isinstance(n, bool)):
            raise FailpointUsageError(f"a seed is an int, or None for any; got {safe_repr(n)}")
        self.draw_from(n)

    def draw_from(self, seed: int | str | None) -> None:
        """`seed`, with what may be a text, too."""
        with _lock:
            self._seed = seed
            for configuration in list(self._configurations.values()):
                configuration.seed(seed)

    def save(self) -> Callable[[], None]:
        """What is configured now, as a call that puts it back and wakes everyone who waits."""
        with _lock:
            return partial(self._put_back, dict(self._configurations), self._seed)

    # looking

    def status(self, name: str) -> FailpointStatus:
        """To see what a failpoint did since it was configured; reading changes nothing.

        Of one that is not configured: no actions, and zeros. Raises `FailpointNameError` for what cannot be a
        name.
        """
        check_name(name)
        with _lock:
            configuration = self._configurations.get(name)
            if configuration is not None:
                return configuration.status()
        return FailpointStatus(name, sites=site_places(name))

    def statuses(self) -> list[FailpointStatus]:
        """To see everything that is configured, in the order of its names."""
        with _lock:
            return [configuration.status() for _, configuration in sorted(self._configurations.items())]

    # waiting for something to happen

    async def wait_until_hit(self, name: str, hits: int = 1, *, timeout: float | None = None) -> None:
        """To go on once a failpoint has been hit so often since it was configured; counts what was before, too.

        Goes on through a reconfiguration, counting anew. `timeout` is in seconds, `None` for no limit. Raises
        `FailpointUsageError` when the failpoint is not configured, or is removed meanwhile (`off` only counts),
        and `FailpointTimeout`, which tells the state, after the timeout.
        """
        __tracebackhide__ = True
        await self._wait(Watch(check_name(name), "hit", positive("hits", hits)), timeout)

    async def wait_until_paused(self, name: str, tasks: int = 1, *, timeout: float | None = None) -> None:
        """To go on once so many tasks or threads wait at a failpoint *now*, in a pause or a sleep.

        For the rest as `wait_until_hit`.
        """
        __tracebackhide__ = True
        await self._wait(Watch(check_name(name), "paused", positive("tasks", tasks)), timeout)

    def wait_until_hit_sync(self, name: str, hits: int = 1, *, timeout: float | None = None) -> None:
        """`wait_until_hit` for a thread without an event loop; on a loop's thread a `FailpointUsageError`."""
        __tracebackhide__ = True
        self._wait_sync(Watch(check_name(name), "hit", positive("hits", hits)), timeout)

    def wait_until_paused_sync(self, name: str, tasks: int = 1, *, timeout: float | None = None) -> None:
        """`wait_until_paused` for a thread without an event loop; on a loop's thread a `FailpointUsageError`."""
        __tracebackhide__ = True
        self._wait_sync(Watch(check_name(name), "paused", positive("tasks", tasks)), timeout)

    async def _wait(self, watch: Watch, timeout: float | None) -> None:
        __tracebackhide__ = True  # a test that waited in vain is shown at its own line
        timeout = seconds(timeout)
        try:
            with move_on_after(timeout):
                while not self._has_ended(watch, wakeup := TaskWakeup()):
                    await wakeup.wait()
                return
            if not self._has_ended(watch):
                raise watch.timed_out(timeout, self.status(watch.name), self.statuses())
        finally:
            self._unwatch(watch)

    def _wait_sync(self, watch: Watch, timeout: float | None) -> None:
        __tracebackhide__ = True
        timeout = seconds(timeout)
        if on_event_loop():
            raise FailpointUsageError(
                f"waiting for {watch.name!r} here would block the event loop of this thread: use the wait without"
                " _sync, with await"
            )
        deadline = time.monotonic() + (math.inf if timeout is None else timeout)
        try:
            while not self._has_ended(watch, wakeup := ThreadWakeup()):
                ended = wakeup.wait(max(deadline - time.monotonic(), 0))
                if ended is Ended.EXPIRED and not self._has_ended(watch):
                    raise watch.timed_out(timeout, self.status(watch.name), self.statuses())
        finally:
            self._unwatch(watch)

    def _has_ended(self, watch: Watch, wakeup: Wakeup | None = None) -> bool:
        with _lock:
            # Before the look: what happens after it must find somebody to wake.
            self._watches.add(watch)
            return watch.has_ended(self._configurations, wakeup)

    def _unwatch(self, watch: Watch) -> None:
        with _lock:
            self._watches.discard(watch)

    # what sites ask, and handles

    def all(self) -> list[Configuration]:
        """What is configured, without a look at the lock."""
        return list(self._configurations.values())

    def current(self, name: str) -> Configuration | None:
        """What is configured under this name, without a look at the lock."""
        return self._configurations.get(name)

    def status_of(self, configuration: Configuration) -> FailpointStatus:
        """The state of a configuration, be it gone or not."""
        with _lock:
            return configuration.status()

    def decide(
        self, configuration: Configuration, hit: Hit, mismatch: str | None, wakeup: Wakeup | None
    ) -> Decision | None:
        """Count a visit, choose its action and enroll it if that waits: one step.

        `None` if the configuration has been replaced meanwhile. Without a `wakeup` an action that waits is chosen
        but not used up: the site is going to refuse it.
        """
        with _lock:
            if self._configurations.get(hit.name) is not configuration:
                return None
            if mismatch is not None:
                configuration.miss(hit.context, mismatch)
                return NOTHING
            configuration.hits += 1
            told = self._watches.changed(hit.name, configuration)
            decision = configuration.decide(hit, wakeup)
        wake(told)
        return decision

    def enroll(self, configuration: Configuration, hit: Hit, wakeup: Wakeup) -> Waiter | None:
        """Enroll a visit whose action came out of a `Call`; `None` if the configuration is gone."""
        with _lock:
            if self._configurations.get(hit.name) is not configuration:
                return None
            return configuration.enroll(hit, wakeup)

    def park(self, waiter: Waiter) -> bool:
        """The visit is about to wait now; false if it has been woken already."""
        sleeper = waiter.wakeup.sleeper()
        with _lock:
            parked = waiter.configuration.park(waiter, sleeper)
            current = self._configurations.get(waiter.hit.name)
            told = self._watches.changed(waiter.hit.name, current) if parked else []
        wake(told)
        return parked

    def leave(self, waiter: Waiter) -> bool:
        """The visit waits no more, for whatever reason; whether nobody had woken it before."""
        with _lock:
            return waiter.configuration.dismiss(waiter)

    # installing and taking away

    def _configuration(
        self,
        name: str,
        actions: Actions,
        context: GivenMatchers | None = None,
        pause_limit: float | None = None,
    ) -> Configuration:
        if not environment.ENABLED:
            raise FailpointUsageError(
                f"cannot configure {name!r}: this process was started with FAILPOINTS_ENABLED=0; unset it"
            )
        return Configuration(check_name(name), as_terms(actions), Matchers(context), pause_limit)

    def install_all(self, configurations: Sequence[Configuration]) -> None:
        """Put what was prepared in force, all of it at one moment."""
        woken: list[Wakeup] = []
        with _lock:
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

    def _take_away(self, names: Iterable[str]) -> None:
        removed: list[str] = []
        woken: list[Wakeup] = []
        with _lock:
            for name in names:
                if self._configurations.pop(name, None) is not None:
                    removed.append(name)
                    woken += self._settle(name) + self._watches.changed(name, None)
        wake(woken)
        for name in removed:
            logger.info("removed %s", name)

    def _put_back(self, saved: Mapping[str, Configuration], seed: int | str | None) -> None:
        woken: list[Wakeup] = []
        with _lock:
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
        """Put a configuration in force, be it a new one or one that was: those who wait at another, to be woken."""
        name = configuration.name
        self._configurations[name] = configuration
        # What comes in between two lines here may have ended it; it lives as long as it is the current one.
        while self._configurations.get(name) is configuration and not (
            configuration.ended_by is None and configuration in self._not_ended.under(name)
        ):
            configuration.revive()
            self._not_ended.add(name, configuration)
        return self._settle(name)

    def _settle(self, name: str) -> list[Wakeup]:
        """End what is no longer the current configuration of this name: those who wait there, to be woken.

        Right also when a signal handler or a finalizer reconfigures between any two lines, while this thread holds
        the lock: it asks what is so, not what this call has done.
        """
        woken: list[Wakeup] = []
        for configuration in self._not_ended.under(name):
            if configuration is not self._configurations.get(name):
                woken += configuration.end()
                self._not_ended.discard(name, configuration)
        _arm_or_disarm(name)
        return woken

    def keep_this_thread(self) -> None:
        """After a fork: forget who waits in threads that this process does not have."""
        for configuration in self._configurations.values():
            configuration.keep_this_thread()
        self._watches.keep_this_thread()


def find(name: str) -> tuple[Registry, Configuration] | None:
    """The configuration that holds for a visit from here: of the innermost registry that has the name."""
    for registry in _scope.get():
        configuration = registry.current(name)
        if configuration is not None and registry in _in_force:
            return registry, configuration
    return None


def in_force() -> list[Configuration]:
    """What is configured for visits from here, in whatever registry."""
    return [configuration for registry in _scope.get() if registry in _in_force for configuration in registry.all()]


def _arm_or_disarm(name: str) -> None:
    while (armed := any(registry.current(name) for registry in list(_in_force))) != (name in ARMED):
        if armed:
            ARMED[name] = None
        else:
            ARMED.pop(name, None)
    arm_or_disarm()


def arm(name: str, *, armed: bool) -> None:
    """Have every site look whether it has something to do, by a name that no failpoint can have; or no longer."""
    with _lock:
        if armed:
            ARMED[name] = None
        else:
            ARMED.pop(name, None)
        arm_or_disarm()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()
    for registry in list(_registries):
        registry.keep_this_thread()


if hasattr(os, "register_at_fork"):  # not on Windows
    # Held while forking, so that the child never sees a change half done.
    os.register_at_fork(
        before=lambda: _lock.acquire(), after_in_parent=lambda: _lock.release(), after_in_child=_renew_lock
    )

PROCESS_WIDE = Registry()
_in_force[PROCESS_WIDE] = None
_scope: ContextVar[tuple[Registry, ...]] = ContextVar("failpoints.registry", default=(PROCESS_WIDE,))

configure = PROCESS_WIDE.configure
configure_all = PROCESS_WIDE.configure_all
configured = PROCESS_WIDE.configured
remove = PROCESS_WIDE.remove
reset = PROCESS_WIDE.reset
resume = PROCESS_WIDE.resume
seed = PROCESS_WIDE.seed
status = PROCESS_WIDE.status
statuses = PROCESS_WIDE.statuses
wait_until_hit = PROCESS_WIDE.wait_until_hit
wait_until_paused = PROCESS_WIDE.wait_until_paused
