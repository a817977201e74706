"""Carrying out an action at a site, in async and in sync code. Knows no registry."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

import anyio

from ..errors import FailpointPanic, FailpointTimeout, FailpointUsageError
from . import actions
from .actions import Action, Cancelled, Continue, Hit, Outcome, Pause, Sleep, in_seconds, steps, waits
from .cancelling import cancel_task
from .debugger import stop_at
from .ending import end_process
from .events import fields, paused, resumed, visited
from .formatting import describe_actions
from .functions import callable_name
from .limits import limited
from .log import logger
from .messages import safe_repr
from .place import place_of
from .raising import default_message, make_exception
from .reentrancy import runs_user_code
from .site import Site
from .suspensions import warning
from .wakeups import Ended, TaskWakeup, ThreadWakeup, Wakeup, on_event_loop

CONTINUE = Continue()
_CANCELLED = Cancelled()


class Visit:
    """A visit whose action is chosen. This one waits unseen: no registry lists it, and none can wake it."""

    __slots__ = ("hit", "is_over", "pause_limit", "sleeper", "wakeup")

    def __init__(self, hit: Hit, wakeup: Wakeup | None, pause_limit: float | None = None) -> None:
        self.hit = hit
        self.pause_limit = pause_limit  # seconds until a pause without a limit of its own times out
        self.wakeup = wakeup  # of the next wait, if it is enrolled already
        self.sleeper = "the site"
        self.is_over = False  # since the failpoint was reconfigured or removed: the rest of the actions is left out

    def enroll(self, wakeup: Wakeup) -> bool:
        """Prepare to wait. Return false if there is nothing to wait for any more."""
        self.wakeup = wakeup
        return True

    def park(self) -> bool:
        """Begin to wait. Return false if the visit was woken already."""
        if self.wakeup is not None:
            self.sleeper = self.wakeup.sleeper()
        return True

    def leave(self) -> bool:
        """Stop waiting. Return true if nothing had woken the visit."""
        return True

    def unpark(self) -> None:
        """Stop waiting for the moment. A wake-up that has come ends the next wait at once."""

    def note_failure(self, error: Exception) -> None:
        """Note an error that the test of the visit has to see, even if the program swallows it."""

    @property
    def is_resumed(self) -> bool:
        """Whether the visit was woken to go on, and not because the failpoint was reconfigured or removed."""
        return True


def thread_wakeup() -> ThreadWakeup | None:
    """Make the wakeup of a visit in sync code; `None` if its wait would block an event loop."""
    return None if on_event_loop() else ThreadWakeup()


async def perform(action: Action, site: Site, visit: Visit, event: str) -> Outcome:
    """Carry out an action in async code.

    Args:
        action: What to do.
        site: What the visited site declares: the exceptions that it can raise, and what cancels a wait.
        visit: The visit, with a wakeup if the action waits.
        event: How the action came to be, for the log: `"hit"`, `"injected"` or `"called"`.
    """
    visited(event, visit.hit, action, site)
    for step in steps(action):
        outcome: Outcome = CONTINUE
        match step:
            case Pause() | Sleep():
                outcome = await _wait(step, site, visit)
            case actions.Yield():
                await anyio.lowlevel.checkpoint()
                # Trio runs a batch in any order: after the second, each of the others has run.
                await anyio.lowlevel.checkpoint()
            case actions.Cancel():
                await cancel_task(visit.hit.name)
            case actions.Call(function=function):
                returned = _returned_action(function, await _call(function, visit), visit)
                if returned is not None:
                    outcome = await perform(returned, site, visit, "called")
            case _:
                outcome = perform_now(step, visit.hit.name, site)
        if outcome or visit.is_over:
            return outcome
    return CONTINUE


def perform_sync(action: Action, site: Site, visit: Visit, event: str, function: str) -> Outcome:
    """Carry out an action in sync code, like `perform`. Messages name *function*, which contains the site."""
    visited(event, visit.hit, action, site)
    _check_sync(action, visit, function)
    for step in steps(action):
        outcome: Outcome = CONTINUE
        match step:
            case Pause() | Sleep():
                outcome = _wait_sync(step, site, visit)
            case actions.Yield():
                time.sleep(0)
            case actions.Call(function=called):
                result = _call_sync(called, visit)
                if isawaitable(result):
                    if inspect.iscoroutine(result):
                        result.close()
                    raise FailpointUsageError(
                        f"failpoint {visit.hit.name!r} calls the async {callable_name(called)} in the sync"
                        f" {function}: give Call a sync function, or make the site async"
                    )
                returned = _returned_action(called, result, visit)
                if returned is not None:
                    outcome = perform_sync(returned, site, visit, "called", function)
            case _:
                outcome = perform_now(step, visit.hit.name, site)
        if outcome or visit.is_over:
            return outcome
    return CONTINUE


def _check_sync(action: Action, visit: Visit, function: str) -> None:
    """Refuse what sync code cannot do, before any of it is done."""
    refused = f"failpoint {visit.hit.name!r} cannot {describe_actions(action)} in the sync {function}"
    if visit.wakeup is None and waits(action) and on_event_loop():
        raise FailpointUsageError(
            f"{refused} on the thread of an event loop, which it would block: make the site async, call the function in"
            " a worker thread (anyio.to_thread.run_sync), or configure 'delay', which blocks on purpose",
            code="FP013",
        )
    if isinstance(steps(action)[-1], actions.Cancel):
        raise FailpointUsageError(f"{refused}: only a task can be cancelled; make the site async", code="FP025")


async def _call(function: Callable[[Hit], Any], visit: Visit) -> Any:
    result = _run(function, visit.hit)
    if not isawaitable(result):
        return result
    _begin_call(visit, TaskWakeup())
    try:
        return await _awaited(result)
    finally:
        visit.unpark()


def _call_sync(function: Callable[[Hit], Any], visit: Visit) -> Any:
    if not on_event_loop():
        _begin_call(visit, ThreadWakeup())
    try:
        return _run(function, visit.hit)
    finally:
        visit.unpark()


def _begin_call(visit: Visit, wakeup: Wakeup) -> None:
    """Show the visit among those that wait. Waking it does not end the function, but the next wait of the visit."""
    if visit.wakeup is not None or visit.enroll(wakeup):
        visit.park()


@runs_user_code
def _run(function: Callable[[Hit], Any], hit: Hit) -> Any:
    return function(hit)


@runs_user_code
async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _returned_action(function: Callable[[Hit], Any], result: object, visit: Visit) -> Action | None:
    """Return the action that the function of a `Call` returned, if there is one to carry out."""
    if result is None or isinstance(result, Action):
        return result
    raise FailpointUsageError(
        f"failpoint {visit.hit.name!r} called {callable_name(function)}, which must return an action or None;"
        f" it returned {safe_repr(result)}"
    )


async def _wait(action: Pause | Sleep, site: Site, visit: Visit) -> Outcome:
    wakeup = visit.wakeup
    if wakeup is None and not visit.enroll(wakeup := TaskWakeup()):
        return _woken(visit)
    assert isinstance(wakeup, TaskWakeup)
    cancel = site.cancel_event(in_async=True)
    if cancel is not None and cancel.is_set():
        return _CANCELLED
    if not visit.park():
        return _woken(visit)
    paused(visit.hit, action, site, visit.sleeper, warning(visit.hit.name))
    seconds = _seconds(action, visit)
    if isinstance(action, Sleep):
        return _after_wait(action, site, visit, await wakeup.wait(seconds, cancel))
    ended = Ended.EXPIRED
    with limited(seconds):
        ended = await wakeup.wait(None, cancel)
    return _after_wait(action, site, visit, ended)


def _wait_sync(action: Pause | Sleep, site: Site, visit: Visit) -> Outcome:
    wakeup = visit.wakeup
    if wakeup is None and not visit.enroll(wakeup := ThreadWakeup()):
        return _woken(visit)
    assert isinstance(wakeup, ThreadWakeup)
    cancel = site.cancel_event(in_async=False)
    if cancel is not None and cancel.is_set():
        return _CANCELLED
    if not visit.park():
        return _woken(visit)
    paused(visit.hit, action, site, visit.sleeper, None)
    return _after_wait(action, site, visit, wakeup.wait(_seconds(action, visit), cancel))


def _woken(visit: Visit) -> Outcome:
    visit.wakeup = None  # it serves one wait, and another may follow
    visit.is_over = not visit.is_resumed
    return CONTINUE


def _seconds(action: Pause | Sleep, visit: Visit) -> float | None:
    duration = action.limit if isinstance(action, Pause) else action.duration
    return visit.pause_limit if duration is None else in_seconds(duration)


def _after_wait(action: Pause | Sleep, site: Site, visit: Visit, ended: Ended) -> Outcome:
    hit = visit.hit
    resumed(hit, action, site)
    if ended is not Ended.WOKEN and not visit.leave():
        ended = Ended.WOKEN  # woken in time, but it ran only after the timeout
    if ended is Ended.CANCELLED:
        return _CANCELLED
    if ended is Ended.EXPIRED and isinstance(action, Pause):
        limit = " (the setting failpoints_pause_limit)" if action.limit is None else ""
        context = f", context {safe_repr(dict(hit.context))}" if hit.context else ""
        error = FailpointTimeout(
            f"failpoint {hit.name!r}: {describe_actions(action)} held {visit.sleeper}{context}, and was not resumed"
            f" within {_seconds(action, visit):g} s{limit}",
            code="FP007",
        )
        if action.limit is None:
            visit.note_failure(error)
        raise error
    if ended is Ended.WOKEN:
        return _woken(visit)
    visit.wakeup = None
    return CONTINUE


def perform_now(action: Action, name: str, site: Site) -> Outcome:
    """Carry out an action that is the same in async and in sync code."""
    if site.begun is not None and isinstance(action, (actions.Return, actions.Raise, actions.Panic)):
        raise site.usage_error(
            f"{describe_actions(action)!r} would pretend that nothing was done, but the call has returned, and its"
            f" work may have begun: put the failpoint on {site.begun}, or configure '{site.name}:after'"
        )
    match action:
        case actions.Return():
            return action
        case actions.Raise():
            raise make_exception(action, name, site.raises)
        case actions.Panic(message=message):
            raise FailpointPanic(default_message(name) if message is None else message)
        case actions.Exit(status=status):
            end_process(status, name, place_of(site))
        case actions.Print(message=message):
            text = f"failpoint {name} was reached" if message is None else message
            logger.info("%s", text, extra=fields("print", name, site=site))
        case actions.Delay(duration=duration):
            time.sleep(min(in_seconds(duration), threading.TIMEOUT_MAX))
        case actions.Break():
            stop_at(site)
        case _:  # an Off that a Call returned
            pass
    return CONTINUE
