"""The declaration of a site: its name and context, what it can raise and touch, and what cancels a wait there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from sys import _getframe  # pyright: ignore[reportPrivateUsage]  # imported by name, since sys._getframe can be replaced
from types import CodeType, FrameType
from typing import Any, TypeAlias, cast

from ..errors import FailpointUsageError
from . import known_sites
from .accesses import Accesses, filled_in, problem_with
from .actions import Action
from .context import Context, GetContext, no_context
from .functions import signature_of
from .messages import safe_repr
from .validation import check_name
from .wakeups import CancelEvent

Cancel: TypeAlias = CancelEvent | Callable[[], CancelEvent | None]
"""The type of `cancel=`."""

Converter: TypeAlias = Callable[[str], Any]
"""The type of `convert=`."""


class Site:
    """The declaration of one site: the arguments of `failpoint`, `failpoint_scope` or `instrument`."""

    __slots__ = (
        "begun",
        "cancel",
        "code",
        "context",
        "convert",
        "faults",
        "is_checked",
        "name",
        "raises",
        "reads",
        "writes",
    )

    def __init__(
        self,
        name: str,
        context: Any = None,
        raises: tuple[type[BaseException], ...] = (),
        convert: Converter | None = None,
        cancel: Cancel | None = None,
        reads: tuple[str, ...] = (),
        writes: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.context = context
        self.raises = raises
        self.convert = convert
        self.cancel = cancel
        self.reads = reads
        self.writes = writes
        self.code: CodeType | None = None  # of the function that is the site
        self.faults: tuple[Action, ...] = ()  # to inject instead of the exceptions in `raises`
        self.is_checked = False
        self.begun: str | None = None  # where to put the failpoint instead, if the work here may have begun already

    def __reduce__(self) -> tuple[Any, ...]:
        return Site, self._given  # code cannot be pickled

    @property
    def _given(self) -> tuple[Any, ...]:
        return self.name, self.context, self.raises, self.convert, self.cancel, self.reads, self.writes

    def of_begun_work(self, instead: str) -> Site:
        """Return this site for a call whose work may have begun, and which *instead* would be in time for."""
        site = Site(*self._given)
        site.code = self.code
        site.begun = instead
        return site

    def check(self) -> None:
        """Raise `FailpointNameError` or `FailpointUsageError` if a scope or an inline call cannot be declared so."""
        check_name(self.name)
        if self.name.endswith(":after"):
            raise self.usage_error(
                "names ending in ':after' are reserved for decorated functions and scopes;"
                f" declare {self.name.removesuffix(':after')!r}"
            )
        if self.raises != () and not (isinstance(self.raises, tuple) and all(map(_is_exception_type, self.raises))):
            raise self.usage_error(f"raises= must be a tuple of exception types; got {safe_repr(self.raises)}")
        if isinstance(self.cancel, type):
            raise self.usage_error(f"cancel= must be an event, not a class; did you mean {self.cancel.__name__}()?")
        if self.cancel is not None and not (callable(self.cancel) or hasattr(self.cancel, "is_set")):
            raise self.usage_error(
                f"cancel= must be an event, or a callable that returns one; got {safe_repr(self.cancel)}"
            )
        for option, texts in (("reads=", self.reads), ("writes=", self.writes)):
            if texts != () and (problem := problem_with(option, texts)) is not None:
                raise self.usage_error(problem)
        self.is_checked = True

    def check_around_function(self) -> None:
        """Raise `FailpointNameError` or `FailpointUsageError` if a function cannot be decorated so."""
        self.check()
        if self.convert is not None and (not callable(self.convert) or inspect.iscoroutinefunction(self.convert)):
            raise self.usage_error(f"convert= must be a sync function that takes a text; got {safe_repr(self.convert)}")

    def usage_error(self, problem: str) -> FailpointUsageError:
        """Make the error to raise if the site cannot do what it is asked to."""
        return FailpointUsageError(f"failpoint {self.name!r}: {problem}")

    @property
    def get_context(self) -> GetContext:
        """A function that evaluates `context=` of a scope or an inline call."""
        return no_context if self.context is None else self._own_context

    def _own_context(self) -> Context:
        return self.context_of("no arguments")

    def context_of(self, arguments: str, /, *args: Any, **kwargs: Any) -> Context:
        """Evaluate `context=` for a call with the given arguments, which messages describe as *arguments*."""
        if self.context is None:
            return {}
        context: Any = self.context
        if callable(context):
            context = self._call("context=", context, arguments, *args, **kwargs)
        if not isinstance(context, Mapping):
            raise self.usage_error(
                "context= must be a mapping of keys to values, or a callable that returns one;"
                f" got {safe_repr(context)}"
            )
        return cast(Context, context)

    def _call(self, option: str, function: Callable[..., Any], arguments: str, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            try:
                signature_of(function).bind(*args, **kwargs)
            except TypeError:
                raise self.usage_error(f"{option} is called with {arguments}: {error}") from error
            except ValueError:  # a C function without a signature
                pass
            raise

    def accesses(self, context: Context) -> Accesses:
        """Return what a visit with this context declares to touch; raise `FailpointUsageError` if it lacks a key."""
        try:
            return filled_in(self.reads, self.writes, context)
        except FailpointUsageError as error:
            raise self.usage_error(str(error)) from error.__cause__

    def cancel_event(self, *, in_async: bool) -> CancelEvent | None:
        """Return the event that would end a wait now; raise `FailpointUsageError` if it cannot."""
        cancel: Any = self.cancel
        event: CancelEvent | None = cancel
        if cancel is not None and not hasattr(cancel, "is_set"):
            event = self._call("cancel=", cancel, "no arguments")
        if event is not None and not (hasattr(event, "is_set") and hasattr(event, "wait")):
            raise self.usage_error(f"cancel= must return an event or None; it returned {safe_repr(event)}")
        if event is not None and inspect.iscoroutinefunction(event.wait) is not in_async:
            wanted = "an event of anyio, asyncio or trio" if in_async else "a threading.Event"
            raise self.usage_error(
                f"in {'async' if in_async else 'sync'} code, cancel= must be {wanted}; got {safe_repr(event)}"
            )
        return event


def _is_exception_type(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


def caller_frame(calls: int) -> FrameType:
    """Return the frame from which the function that calls this was called, that many calls ago."""
    frame = _getframe(1)
    while calls and frame.f_back is not None:  # there is none before it if the function is all that a thread runs
        frame = frame.f_back
        calls -= 1
    return frame


def check_new_place(site: Site, frame: FrameType, *names: str) -> None:
    """Check a scope or an inline call at its first visit from this line, and register the line."""
    if not site.is_checked:
        site.check()
    if known_sites.is_registered(site.name, frame):
        return
    for name in (site.name, *names):
        known_sites.register_line(name, frame)
