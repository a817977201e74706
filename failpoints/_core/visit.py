"""The visit of a failpoint: find the configuration, match the context, choose an action, perform it.

There are two forms, for async and for sync code. What does not wait is shared.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

from ..errors import FailpointUsageError
from .accesses import Accesses
from .actions import OUTCOMES, Action, Hit, Off, Outcome, Panic, Raise, Return, waits
from .configuration import Ask, Configuration, Waiter
from .context import Context, GetContext, Mismatch, context_of_visit, no_context
from .entered import find, note_stray
from .events import are_taken, visited
from .hooks import Explorer, exploring, observers
from .perform import CONTINUE, Visit, perform, perform_now, perform_sync, thread_wakeup
from .site import Site
from .store import Store
from .switches import Switch
from .wakeups import TaskWakeup, ThreadWakeup, Wakeup, on_event_loop

_NewWakeup: TypeAlias = Callable[[], Wakeup | None]

_AT_ONCE: Final = (Off, Return, Raise, Panic)  # carried out without a coroutine: they neither wait nor call anything

_latest: Final[ContextVar[weakref.ref[Configuration] | None]] = ContextVar("failpoints.latest", default=None)
"""The configuration that gave the latest outcome in this context other than to go on. Does not keep it alive."""


class _ConfiguredVisit(Visit):
    """A visit that a configuration acts on. It is enrolled there while it waits, so others see and wake it."""

    __slots__ = ("_store", "_waiter", "action", "configuration")

    def __init__(
        self, store: Store, configuration: Configuration, hit: Hit, action: Action | Ask, waiter: Waiter | None
    ) -> None:
        super().__init__(hit, None if waiter is None else waiter.wakeup, configuration.pause_limit)
        self.action: Action | Ask | None = action
        self.configuration = configuration
        self._store = store
        self._waiter = waiter

    def ask(self, ask: Ask, wakeup: Wakeup) -> Callable[[], bool | None]:
        """Begin to take a count. See `Ledger.ask`."""
        ledger = self.configuration.ledger
        assert ledger is not None
        return ledger.ask(ask.term, ask.times, wakeup)

    def decide_further(self, ask: Ask, granted: bool | None, wakeup: Wakeup | None) -> None:
        """Choose the action, now that the ledger has answered. It may be a question to the ledger again."""
        self.action, self._waiter = self._store.decide_further(
            self.configuration, self.hit, wakeup, ask, granted=granted
        )
        self.wakeup = None if self._waiter is None else self._waiter.wakeup
        if not isinstance(self.action, Ask):
            _show(self.configuration, self.action, self._waiter)

    def note_failure(self, error: Exception) -> None:
        self.configuration.error = error

    def enroll(self, wakeup: Wakeup) -> bool:
        self._waiter = self._store.enroll(self.configuration, self.hit, wakeup)
        self.wakeup = wakeup
        return self._waiter is not None

    def park(self) -> bool:
        if self._waiter is None or not self._store.park(self._waiter):
            return False
        if self._waiter.parked is not None:
            self.sleeper = self._waiter.parked[0]
        return True

    def leave(self) -> bool:
        return self._waiter is not None and self._store.leave(self._waiter)

    def unpark(self) -> None:
        if self._waiter is not None:
            self._store.unpark(self._waiter)

    @property
    def is_resumed(self) -> bool:
        return self._waiter is not None and self._waiter.resumed


def concerns(name: str, switch: Switch) -> bool:
    """Return whether a visit of *name*, which is one of the names of a switch, may have an effect where it is made."""
    return (name in switch and (exploring.get() is not None or find(name) is not None)) or switch.is_of_no_name


async def visit(name: str, site: Site, context: GetContext, result: object = None, region: object = None) -> Outcome:
    """Visit the failpoint *name* in async code.

    Args:
        name: The failpoint. With `:after` at its end, it is not the site's own name.
        site: What the site declares.
        context: Evaluates the site's own context. Called once, and only if it is needed.
        result: What the function around the site has returned, at its `:after`.
        region: Of a call or block, what an exploration knows it by. If the visit returns, the caller has to leave it,
            with `leave_region`. Without a region, what the site declares is about the step that follows.
    """
    outcome = begin_visit(name, site, context, result, region)
    return outcome if isinstance(outcome, OUTCOMES) else await outcome


def begin_visit(
    name: str, site: Site, context: GetContext, result: object = None, region: object = None
) -> Outcome | Coroutine[Any, Any, Outcome]:
    """Begin a visit in async code, and return its outcome, or a coroutine that has it in the end."""
    if exploring.get() is not None:
        return _visit_in_exploration(name, site, context, result, region)
    arrived = _arrive(name, site, context, result, None, TaskWakeup)
    return _carry_out(arrived, site) if isinstance(arrived, _ConfiguredVisit) else arrived


async def _visit_in_exploration(name: str, site: Site, context: GetContext, result: object, region: object) -> Outcome:
    explorer = exploring.get()
    assert explorer is not None
    values = context_of_visit(context)
    accesses = _declared(explorer, site, name, values) if site.reads or site.writes else None
    turn = explorer.arrive(name, values)
    if turn is not None:
        try:
            await turn
        except BaseException:
            explorer.turn_away()
            raise
    if accesses is not None and region is None:
        explorer.declare_step(accesses)
    elif accesses is not None:
        explorer.enter_region(region, accesses)
    try:
        action = explorer.choose(name, values, site)
        outcome: Outcome = CONTINUE
        if action is not None:
            with _ErrorsTo(explorer):
                outcome = await perform(action, site, Visit(Hit(name, values, result), None), "injected")
        elif find(name) is not None:
            arrived = _arrive(name, site, context, result, Hit(name, values, result), TaskWakeup)
            outcome = await _carry_out(arrived, site) if isinstance(arrived, _ConfiguredVisit) else arrived
    except BaseException as error:
        if accesses is not None and region is not None:
            explorer.leave_region(region)
        elif accesses is not None and not isinstance(error, GeneratorExit):  # else any task may have closed this
            explorer.declare_step(accesses)
        raise
    if accesses is not None and region is None:
        explorer.declare_step(accesses)  # again: an action may have suspended the task
    return outcome


def _declared(explorer: Explorer, site: Site, name: str, context: Context) -> Accesses | None:
    """Return what the site declares to touch from this visit on, or `None`. Only `name:after` begins nothing."""
    if name != site.name:
        return None
    try:
        return site.accesses(context)
    except FailpointUsageError as error:
        explorer.misdeclared(error)  # the program may swallow it
        raise


async def _carry_out(configured: _ConfiguredVisit, site: Site) -> Outcome:
    try:
        action = configured.action
        while isinstance(action, Ask):
            wakeup = TaskWakeup()
            is_granted = configured.ask(action, wakeup)
            await wakeup.wait()
            configured.decide_further(action, is_granted(), TaskWakeup())
            action = configured.action
        if action is None:
            visited("hit", configured.hit, action, site)
            return CONTINUE
        return _decided_by(configured.configuration, await perform(action, site, configured, "hit"))
    except FailpointUsageError as error:
        configured.note_failure(error)
        raise
    finally:
        configured.leave()


def visit_sync(
    name: str, site: Site, context: GetContext, function: str, result: object = None, region: object = None
) -> Outcome:
    """Visit the failpoint *name* in sync code, like `visit`. Messages name *function*, which contains the site."""
    hit: Hit | None = None
    accesses: Accesses | None = None
    explorer = exploring.get()
    if explorer is not None:
        hit = Hit(name, context_of_visit(context), result)
        accesses = _declared(explorer, site, name, hit.context) if site.reads or site.writes else None
        explorer.arrive_sync(name, hit.context)
        if accesses is not None and region is None:
            explorer.declare_step(accesses)
        elif accesses is not None:
            explorer.enter_region(region, accesses)
    try:
        if explorer is not None and hit is not None:
            action = explorer.choose_sync(name, hit.context, site)
            if action is not None:
                with _ErrorsTo(explorer):
                    return perform_sync(action, site, Visit(hit, None), "injected", function)
        configured = _arrive(name, site, context, result, hit, thread_wakeup)
        if not isinstance(configured, _ConfiguredVisit):
            return configured
        return _carry_out_sync(configured, site, function)
    except BaseException:
        if explorer is not None and accesses is not None and region is not None:
            explorer.leave_region(region)
        raise


def _carry_out_sync(configured: _ConfiguredVisit, site: Site, function: str) -> Outcome:
    try:
        action = configured.action
        while isinstance(action, Ask):
            if on_event_loop():
                raise FailpointUsageError(
                    f"failpoint {configured.hit.name!r} cannot take a count of its fleet in the sync {function} on the"
                    " thread of an event loop, which it would block: make the site async, call the function in a worker"
                    " thread (anyio.to_thread.run_sync), or configure it without a count",
                    code="FP013",
                )
            wakeup = ThreadWakeup()
            is_granted = configured.ask(action, wakeup)
            wakeup.wait()
            configured.decide_further(action, is_granted(), ThreadWakeup())
            action = configured.action
        if action is None:
            visited("hit", configured.hit, action, site)
            return CONTINUE
        return _decided_by(configured.configuration, perform_sync(action, site, configured, "hit", function))
    except FailpointUsageError as error:
        configured.note_failure(error)
        raise
    finally:
        configured.leave()


def _decided_by(configuration: Configuration, outcome: Outcome) -> Outcome:
    if outcome:
        _latest.set(weakref.ref(configuration))
    return outcome


def may_prevent(name: str) -> bool:
    """Return whether a visit of *name* may end in something else than going on or waiting, for all that is known."""
    if exploring.get() is not None:
        return True
    found = find(name)
    return found is not None and any(configuration.may_prevent for configuration in found[1].current)


class _ErrorsTo:
    """Passes the errors that leave the block on to the explorer. Not made by `contextmanager`: see `Inside`."""

    __slots__ = ("_explorer",)

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            self._explorer.raised(error)


def _arrive(
    name: str, site: Site, context: GetContext, result: object, hit: Hit | None, new_wakeup: _NewWakeup
) -> Outcome | _ConfiguredVisit:
    """Find what is configured, match, count, and choose an action: return the outcome, or what is still to be done."""
    mismatches: dict[Configuration, Mismatch | None] = {}
    while True:
        found = find(name)
        if found is None:
            if new_wakeup is thread_wakeup:
                note_stray(name, context)
            return CONTINUE
        store, stack = found
        deciding: Configuration | None = None
        missed: list[tuple[Configuration, Mismatch]] = []
        for configuration in stack.current:
            try:
                if hit is None and (stack.needs_hit or context is not no_context):
                    hit = Hit(name, context_of_visit(context), result)
                if hit is None or not configuration.matchers.given:
                    deciding = configuration
                    break
                if configuration not in mismatches:
                    mismatches[configuration] = configuration.matchers.mismatch(hit.context)
            except Exception as error:
                configuration.error = error  # for the reports: the program may swallow it
                raise
            mismatch = mismatches[configuration]
            if mismatch is None:
                deciding = configuration
                break
            missed.append((configuration, mismatch))
        wakeup = new_wakeup() if deciding is not None and deciding.may_wait else None
        decision = store.decide(name, stack, hit, missed, deciding, wakeup)
        if decision is not None:
            break
        if any(each.ended_by == threading.get_ident() for each in stack.current):
            # This very visit reconfigured the failpoint, in a predicate for example. Like a waiter, it goes on.
            return CONTINUE
    action, waiter = decision
    if observers:
        for observe in observers:
            for configuration, _ in missed:
                observe(configuration, None, False)
        if deciding is not None and not isinstance(action, Ask):
            _show(deciding, action, waiter)
    if deciding is None:
        return CONTINUE
    if action is not None and not isinstance(action, _AT_ONCE):
        if hit is None:
            hit = Hit(name, context_of_visit(context), result)
        return _ConfiguredVisit(store, deciding, hit, action, waiter)
    if hit is None and are_taken():
        hit = Hit(name, context_of_visit(context), result)
    if hit is not None:
        visited("hit", hit, action, site)
    if action is None or isinstance(action, Off):
        return CONTINUE
    try:
        return _decided_by(deciding, perform_now(action, name, site))
    except FailpointUsageError as error:
        deciding.error = error
        raise


def _show(configuration: Configuration, action: Action | None, waiter: Waiter | None) -> None:
    """Show the observers what a visit does. An action that waits is refused if there is no waiter."""
    refused = waits(action) and waiter is None
    for observe in observers:
        observe(configuration, None if refused else action, True)


@contextmanager
def recording_usage_errors(name: str) -> Generator[None]:
    """Record a `FailpointUsageError` of a site that cannot carry out an outcome of *name*, so reports can show it."""
    try:
        yield
    except FailpointUsageError as error:
        explorer, decided, found = exploring.get(), _latest.get(), find(name)
        latest = decided() if decided is not None else None
        if explorer is not None:
            explorer.raised(error)
        elif latest is not None and latest.name == name:
            latest.error = error
        elif found is not None:  # another task got the outcome
            current = found[1].current
            next((each for each in current if each.triggers), current[0]).error = error
        raise
