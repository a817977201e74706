"""What happens when a site is reached: find what is configured, match, choose, act.

A visit comes in two forms, for async and for sync code; what does not wait is the same in both.
"""

from __future__ import annotations

import builtins
import inspect
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import isawaitable
from types import FrameType
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, cast

from anyio.lowlevel import checkpoint

from ..errors import FailpointPanic, FailpointTimeout, FailpointUsageError, InjectedFault
from . import known_sites
from .actions import (
    Action,
    Break,
    Call,
    Cancelled,
    Continue,
    Delay,
    Exit,
    Hit,
    Off,
    Outcome,
    Panic,
    Pause,
    Print,
    Raise,
    Return,
    Sleep,
    Yield,
    named_exception,
)
from .configuration import Configuration, Waiter
from .context import Context, ambient_context
from .functions import callable_name
from .grammar import check_name, describe_actions
from .log import logger
from .messages import did_you_mean, safe_repr
from .own_calls import hands_over
from .store import Store, find
from .wakeups import CancelEvent, Ended, TaskWakeup, ThreadWakeup, on_event_loop

CONTINUE = Continue()
_CANCELLED = Cancelled()

observers: Final[list[Callable[[Configuration, Action | None, bool], object]]] = []
"""Called at each visit of what is configured: with the action that triggers, and whether the context matched."""


class Explorer(Protocol):
    """One run of an exploration, as the sites see it that are visited in it."""

    def arrive(self, name: str, context: Context) -> Awaitable[object] | None:
        """What to await before an async visit goes on: the turn of its task."""

    def turn_away(self) -> None:
        """The running task does not wait for its turn any longer: it is cancelled."""

    def choose(self, name: str, context: Context, raises: tuple[type[BaseException], ...]) -> Action | None:
        """What an async visit that goes on is to do, instead of what is configured."""

    def choose_sync(self, name: str, context: Context, raises: tuple[type[BaseException], ...]) -> Action | None:
        """What a visit in sync code is to do."""

    def raised(self, error: BaseException) -> None:
        """Take down what came of the action that was chosen."""


exploring: Final[ContextVar[Explorer | None]] = ContextVar("failpoints.exploring", default=None)
"""The run that the visits from here belong to; asked only while something is armed."""

Cancel: TypeAlias = CancelEvent | Callable[[], CancelEvent | None]


class Declaration:
    """What a site says of itself when it is written down: the part that all kinds of site share."""

    __slots__ = ("cancel", "context", "name", "raises")

    name: str
    context: Any
    raises: tuple[type[BaseException], ...]
    cancel: Cancel | None

    def check(self) -> None:
        """Raise `FailpointNameError` or `FailpointUsageError` if this cannot be a site."""
        check_name(self.name)
        if self.name.endswith(":after"):
            raise self.refusal(
                "no site's name may end in ':after', which every decorated function and scope has of itself;"
                f" declare {self.name.removesuffix(':after')!r}"
            )
        if not isinstance(self.raises, tuple) or not all(
            isinstance(kind, type) and issubclass(kind, BaseException) for kind in self.raises
        ):
            raise self.refusal(f"raises= is a tuple of exception types; got {safe_repr(self.raises)}")
        if isinstance(self.cancel, type):
            raise self.refusal(f"cancel= is an event, not the class of one; did you mean {self.cancel.__name__}()?")
        if self.cancel is not None and not (callable(self.cancel) or hasattr(self.cancel, "is_set")):
            raise self.refusal(f"cancel= is an event, or a callable that returns one; got {safe_repr(self.cancel)}")

    def refusal(self, problem: str) -> FailpointUsageError:
        """What to raise when this cannot do what is asked of it."""
        return FailpointUsageError(f"failpoint {self.name!r}: {problem}")

    def own_context(self) -> Context:
        """The context of a site that is no function call."""
        return self.context_of("no arguments")

    def context_of(self, arguments: str, /, *args: Any, **kwargs: Any) -> Context:
        """What `context=` says of a call with these arguments, which a message calls `arguments`."""
        if self.context is None:
            return {}
        context: Any = self.context
        if callable(context):
            context = self._called("context=", context, arguments, *args, **kwargs)
        if not isinstance(context, Mapping):
            raise self.refusal(
                f"context= is a mapping of keys to values, or a callable that returns one; got {safe_repr(context)}"
            )
        return cast(Context, context)

    def _called(self, what: str, function: Callable[..., Any], arguments: str, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            try:
                inspect.signature(function).bind(*args, **kwargs)
            except TypeError:
                raise self.refusal(f"{what} is given {arguments}: {error}") from error
            except ValueError:  # a function in C that tells no signature
                pass
            raise

    def cancel_event(self, *, in_async: bool) -> CancelEvent | None:
        """The event that would end a wait now; raises `FailpointUsageError` for one that could not."""
        cancel: Any = self.cancel
        event: CancelEvent | None = cancel
        if cancel is not None and not hasattr(cancel, "is_set"):
            event = self._called("cancel=", cancel, "no arguments")
        if event is not None and not (hasattr(event, "is_set") and hasattr(event, "wait")):
            raise self.refusal(f"cancel= is to return an event or None; it returned {safe_repr(event)}")
        if event is not None and inspect.iscoroutinefunction(event.wait) is not in_async:
            wanted = "one of anyio, asyncio or trio" if in_async else "a threading.Event"
            raise self.refusal(
                f"the cancel event of {'async' if in_async else 'sync'} code is {wanted}; got {safe_repr(event)}"
            )
        return event


def caller_frame() -> FrameType:
    """The frame from which the function that asks was called."""
    asking = cast(FrameType, inspect.currentframe()).f_back
    assert asking is not None
    return asking.f_back or asking  # none before it: the whole of a thread


def check_new_place(declaration: Declaration, frame: FrameType, *names: str) -> None:
    """Check a scope or an inline call, and note the place when it is visited there for the first time."""
    declaration.check()
    if known_sites.is_known(declaration.name, frame):
        return
    for name in (declaration.name, *names):
        known_sites.note(name, frame)


class _Arrival(NamedTuple):
    """A visit whose action is chosen."""

    store: Store
    configuration: Configuration
    hit: Hit
    action: Action
    waiter: Waiter | None


_NewWakeup: TypeAlias = Callable[[], TaskWakeup | ThreadWakeup | None]


async def visit(name: str, declaration: Declaration, context: Callable[[], Context]) -> Outcome:
    """Visit `name` in async code: `declaration` says what the site is, `context` gives its own context."""
    explorer = exploring.get()
    if explorer is not None:
        given = {**ambient_context(), **context()}
        turn = explorer.arrive(name, given)
        if turn is not None:
            try:
                await turn
            except BaseException:
                explorer.turn_away()
                raise
        action = explorer.choose(name, given, declaration.raises)
        if action is not None:
            with _raised_to(explorer):
                return await _act(_injected(Hit(name, given), action, TaskWakeup), declaration, "injected")
    arrival = _arrive(name, context, TaskWakeup)
    return CONTINUE if arrival is None else await _act(arrival, declaration, "hit")


def visit_sync(name: str, declaration: Declaration, context: Callable[[], Context], function: str) -> Outcome:
    """Visit `name` in sync code, in the `function` of that name."""
    explorer = exploring.get()
    if explorer is not None:
        given = {**ambient_context(), **context()}
        action = explorer.choose_sync(name, given, declaration.raises)
        if action is not None:
            with _raised_to(explorer):
                return _act_sync(_injected(Hit(name, given), action, _thread_wakeup), declaration, function, "injected")
    arrival = _arrive(name, context, _thread_wakeup)
    return CONTINUE if arrival is None else _act_sync(arrival, declaration, function, "hit")


def _injected(hit: Hit, action: Action, new_wakeup: _NewWakeup) -> _Arrival:
    """The visit with an action that an exploration chose, which no registry in force knows of."""
    store = Store()
    configuration = store.install(hit.name, action)
    decision = store.decide(configuration, hit, None, new_wakeup() if configuration.may_wait else None)
    return _Arrival(store, configuration, hit, action, None if decision is None else decision.waiter)


@contextmanager
def _raised_to(explorer: Explorer) -> Generator[None]:
    try:
        yield
    except BaseException as error:
        explorer.raised(error)
        raise


def _thread_wakeup() -> ThreadWakeup | None:
    return None if on_event_loop() else ThreadWakeup()


def _arrive(name: str, context: Callable[[], Context], new_wakeup: _NewWakeup) -> _Arrival | None:
    """Find what is configured, match, count and choose; `None` if the site is to go on."""
    hit: Hit | None = None
    while True:
        found = find(name)
        if found is None:
            return None
        store, configuration = found
        try:
            if hit is None:
                hit = Hit(name, {**ambient_context(), **context()})
            mismatch = configuration.matchers.mismatch(hit.context)
        except Exception as error:
            configuration.refusal = error  # for the messages: the program may swallow it
            raise
        wakeup = new_wakeup() if configuration.may_wait else None
        decision = store.decide(configuration, hit, mismatch, wakeup)
        if decision is not None:
            break
        if configuration.ended_by == threading.get_ident():
            # This very visit reconfigured it, out of a predicate say: like one who waits, it goes on.
            return None
    for observe in observers:
        refused = isinstance(decision.action, (Pause, Sleep)) and decision.waiter is None
        observe(configuration, None if refused else decision.action, mismatch is None)
    if mismatch is not None:
        return None
    if decision.action is None or isinstance(decision.action, Off):
        _log("hit", hit, decision.action)
        return None
    return _Arrival(store, configuration, hit, decision.action, decision.waiter)


async def _act(arrival: _Arrival, declaration: Declaration, event: str) -> Outcome:
    try:
        _log(event, arrival.hit, arrival.action)
        match arrival.action:
            case Pause() | Sleep() as action:
                return await _wait(arrival, action, declaration)
            case Yield():
                await checkpoint()
                await checkpoint()  # trio runs a batch in any order: after the second, each of the others has run
                return CONTINUE
            case Call(function=function):
                result = await _run(function, arrival.hit)
                returned = _returned_action(arrival, function, result, TaskWakeup)
                return CONTINUE if returned is None else await _act(returned, declaration, "called")
            case action:
                return _act_now(action, arrival.hit.name, declaration)
    except FailpointUsageError as error:
        arrival.configuration.refusal = error
        raise
    finally:
        _leave(arrival)


def _act_sync(arrival: _Arrival, declaration: Declaration, function: str, event: str) -> Outcome:
    try:
        _log(event, arrival.hit, arrival.action)
        match arrival.action:
            case Pause() | Sleep() as action:
                return _wait_sync(arrival, action, declaration, function)
            case Yield():
                time.sleep(0)
                return CONTINUE
            case Call(function=called):
                result = _run_sync(called, arrival.hit)
                if isawaitable(result):
                    if inspect.iscoroutine(result):
                        result.close()
                    raise FailpointUsageError(
                        f"failpoint {arrival.hit.name!r} calls the async {callable_name(called)} in the sync"
                        f" {function}: give Call a sync function, or make the site async"
                    )
                returned = _returned_action(arrival, called, result, _thread_wakeup)
                return CONTINUE if returned is None else _act_sync(returned, declaration, function, "called")
            case action:
                return _act_now(action, arrival.hit.name, declaration)
    except FailpointUsageError as error:
        arrival.configuration.refusal = error
        raise
    finally:
        _leave(arrival)


@hands_over
async def _run(function: Callable[[Hit], Any], hit: Hit) -> Any:
    result = function(hit)
    return await result if isawaitable(result) else result


@hands_over
def _run_sync(function: Callable[[Hit], Any], hit: Hit) -> Any:
    return function(hit)


@contextmanager
def refusals(name: str) -> Generator[None]:
    """Keep for the messages that a site could not do what an outcome of this failpoint asked of it."""
    try:
        yield
    except FailpointUsageError as error:
        explorer, found = exploring.get(), find(name)
        if explorer is not None:
            explorer.raised(error)
        elif found is not None:
            found[1].refusal = error
        raise


def _log(event: str, hit: Hit, action: Action | None) -> None:
    if logger.isEnabledFor(logging.INFO):
        what = "no term is due" if action is None else describe_actions(action)
        logger.info("%s %s: %s%s", event, hit.name, what, f" at {safe_repr(hit.context)}" if hit.context else "")


def _leave(arrival: _Arrival) -> bool:
    """Whether the visit waited, and nobody had woken it before."""
    return arrival.waiter is not None and arrival.store.leave(arrival.waiter)


def _returned_action(
    arrival: _Arrival, function: Callable[[Hit], Any], result: object, new_wakeup: _NewWakeup
) -> _Arrival | None:
    """The visit with the action that a `Call` returned; `None` if there is none, or nobody to wait for."""
    if result is None:
        return None
    if not isinstance(result, Action):
        raise FailpointUsageError(
            f"failpoint {arrival.hit.name!r} called {callable_name(function)}, which may return an action or None;"
            f" it returned {safe_repr(result)}"
        )
    waiter = None
    if isinstance(result, (Pause, Sleep)):
        wakeup = new_wakeup()
        if wakeup is not None:
            waiter = arrival.store.enroll(arrival.configuration, arrival.hit, wakeup)
            if waiter is None:
                return None
    return arrival._replace(action=result, waiter=waiter)


async def _wait(arrival: _Arrival, action: Pause | Sleep, declaration: Declaration) -> Outcome:
    assert arrival.waiter is not None
    assert isinstance(arrival.waiter.wakeup, TaskWakeup)
    cancel = declaration.cancel_event(in_async=True)
    if cancel is not None and cancel.is_set():
        return _CANCELLED
    if not arrival.store.park(arrival.waiter):
        return CONTINUE
    _log_paused(arrival)
    return _after_wait(arrival, action, await arrival.waiter.wakeup.wait(_seconds(arrival, action), cancel))


def _wait_sync(arrival: _Arrival, action: Pause | Sleep, declaration: Declaration, function: str) -> Outcome:
    if arrival.waiter is None:
        raise FailpointUsageError(
            f"failpoint {arrival.hit.name!r} was told to {describe_actions(action)} in the sync {function}, on a"
            " thread that runs an event loop, and would block the whole loop: make the site async, call the function in"
            " a worker thread (anyio.to_thread.run_sync), or configure 'delay', whose purpose that is"
        )
    assert isinstance(arrival.waiter.wakeup, ThreadWakeup)
    cancel = declaration.cancel_event(in_async=False)
    if cancel is not None and cancel.is_set():
        return _CANCELLED
    if not arrival.store.park(arrival.waiter):
        return CONTINUE
    _log_paused(arrival)
    return _after_wait(arrival, action, arrival.waiter.wakeup.wait(_seconds(arrival, action), cancel))


def _seconds(arrival: _Arrival, action: Pause | Sleep) -> float | None:
    return arrival.configuration.pause_limit if action.seconds is None else action.seconds


def _log_paused(arrival: _Arrival) -> None:
    if logger.isEnabledFor(logging.INFO) and arrival.waiter is not None and arrival.waiter.parked is not None:
        logger.info("paused %s: %s waits", arrival.hit.name, arrival.waiter.parked[0])


def _after_wait(arrival: _Arrival, action: Pause | Sleep, ended: Ended) -> Outcome:
    name = arrival.hit.name
    logger.info("resumed %s", name)
    if ended is not Ended.WOKEN and not _leave(arrival):
        ended = Ended.WOKEN  # in time, and only seen too late
    if ended is Ended.CANCELLED:
        return _CANCELLED
    if ended is Ended.EXPIRED and isinstance(action, Pause):
        who = arrival.waiter.parked[0] if arrival.waiter is not None and arrival.waiter.parked else "the site"
        limit = " (failpoints_pause_limit in pytest's ini file)" if action.seconds is None else ""
        context = f", context {safe_repr(dict(arrival.hit.context))}" if arrival.hit.context else ""
        raise FailpointTimeout(
            f"failpoint {name!r} was told to {describe_actions(action)}, and nobody resumed {who}{context}, within"
            f" {_seconds(arrival, action):g} s{limit}"
        )
    return CONTINUE


def _act_now(action: Action, name: str, declaration: Declaration) -> Outcome:
    match action:
        case Return():
            return action
        case Raise():
            raise _exception(action, name, declaration.raises)
        case Panic(message=message):
            raise FailpointPanic(_injected_by(name) if message is None else message)
        case Exit(status=status):
            os._exit(status)
        case Print(message=message):
            logger.info("%s", f"failpoint {name} was reached" if message is None else message)
        case Delay():
            time.sleep(min(action.seconds, threading.TIMEOUT_MAX))
        case Break():
            breakpoint()  # noqa: T100 - its purpose
        case _:  # an Off that a Call returned
            pass
    return CONTINUE


def _injected_by(name: str) -> str:
    return f"injected by failpoint {name!r}"


def _exception(action: Raise, name: str, raises: tuple[type[BaseException], ...]) -> BaseException:
    """The exception to raise: a new one each time."""
    error = InjectedFault if action.error is None else action.error
    if isinstance(error, BaseException):
        return _fresh(error)
    kind = _named(error, name, raises) if isinstance(error, str) else error
    message = _injected_by(name) if action.message is None else action.message
    try:
        return kind(message)
    except Exception as problem:
        raise FailpointUsageError(
            f"failpoint {name!r} cannot raise {kind.__name__} with nothing but a message ({problem});"
            f" configure Raise({kind.__name__}(…)) in Python"
        ) from problem


def _named(text: str, name: str, raises: tuple[type[BaseException], ...]) -> type[BaseException]:
    for kind in raises:
        if text in (kind.__name__, kind.__qualname__, f"{kind.__module__}.{kind.__qualname__}"):
            return kind
    builtin = named_exception(text)
    if builtin is not None:
        return builtin
    declared = [kind.__name__ for kind in raises]
    known = [word for word in dir(builtins) if named_exception(word)]
    raise FailpointUsageError(
        f"failpoint {name!r} was told to raise {text}, which is no builtin exception and is not declared at the site"
        f" (raises={', '.join(declared) or 'nothing'}){did_you_mean(text, [*declared, *known])}"
    )


def _fresh(error: BaseException) -> BaseException:
    """A copy without the traceback that the last raise left in it, and without a call of its `__init__`."""
    kind: Any = type(error)
    builtin = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    fresh: BaseException = builtin.__new__(kind, *error.args)
    for name in _fields(kind):
        value = getattr(error, name, None)
        if value is not None:  # one that is not set reads as None, too
            try:
                setattr(fresh, name, value)
            except (AttributeError, TypeError):
                pass  # read only: __new__ made it, as a group's exceptions
    vars(fresh).update(vars(error))
    if "__notes__" in vars(error):
        fresh.__notes__ = list(error.__notes__)
    fresh.__cause__ = error.__cause__
    fresh.__suppress_context__ = error.__suppress_context__
    return fresh


def _fields(kind: type) -> Iterator[str]:
    """What an exception holds outside its `__dict__`: in slots, or in C as `OSError.filename`."""
    for base in kind.__mro__:
        for name, thing in vars(base).items():
            if not name.startswith("__") and (inspect.ismemberdescriptor(thing) or inspect.isgetsetdescriptor(thing)):
                yield name
