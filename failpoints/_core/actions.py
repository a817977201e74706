"""Actions, which a failpoint can carry out, and outcomes, which a site gets back: frozen, validated values.

A duration is a number of milliseconds or a `timedelta`.
"""

from __future__ import annotations

import builtins
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeAlias, cast

from ..errors import FailpointUsageError, InjectedFault
from .functions import callable_name
from .messages import safe_repr
from .validation import check_count
from .values import Value, dataclass, set_field

MAX_TIMES = 10**18
"""The highest count of a term: more than anyone needs, with far fewer digits than `int()` refuses to read."""


@dataclass(frozen=True)
class Continue(Value):
    """The outcome of a visit when there is nothing to do: the site goes on. False in a condition."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True)
class Cancelled(Value):
    """The outcome of a wait that the site's `cancel` event ended. True in a condition."""

    __slots__ = ()


class Step(Value):
    """The base of the actions. `A + B` carries out both in the same visit."""

    __slots__ = ()

    def __add__(self, other: Action) -> Then:
        return Then((cast("Action", self), other))


@dataclass(frozen=True)
class Off(Step):
    """Do nothing, but count as the hit's action. Use it to count hits, or to skip the first ones: `3*off->return`."""

    __slots__ = ()


@dataclass(frozen=True)
class Pause(Step):
    """Hold a task or thread until the failpoint is resumed, reconfigured or removed. Use it to force an order of tasks.

    With a *limit*, in milliseconds or as a `timedelta`, the pause raises `FailpointTimeout` after that time.
    """

    __slots__ = ("limit",)
    limit: float | timedelta | None

    def __init__(self, limit: float | timedelta | None = None) -> None:
        set_field(self, "limit", None if limit is None else _milliseconds("Pause", limit))


@dataclass(frozen=True)
class Sleep(Step):
    """Wait for *duration*, in milliseconds or as a `timedelta`. Use it to make a place slow.

    Whatever ends a `Pause` ends the sleep early. Other tasks run in the meantime, unlike with `Delay`.
    """

    __slots__ = ("duration",)
    duration: float | timedelta

    def __init__(self, duration: float | timedelta) -> None:
        set_field(self, "duration", _milliseconds("Sleep", duration))


@dataclass(frozen=True)
class Return(Step):
    """Return early with *value*. Both an action and, at an inline visit, the outcome that the site gets back.

    For a decorated function a `str` is converted, by its `convert` or its return annotation. Any other value is
    returned as it is.
    """

    __slots__ = ("value",)
    value: Any

    def __init__(self, value: Any = None) -> None:
        set_field(self, "value", value)


@dataclass(frozen=True)
class Raise(Step):
    """Raise an exception. Use it to fail as the real thing fails: `Raise(OSError)`, `Raise(OSError("disk full"))`.

    Two of them are equal when they have the same text form, or raise the same class or instance. Raises
    `FailpointUsageError` for an argument of a wrong type.

    Args:
        error: A class, which is raised with *message*. An instance, of which a fresh copy is raised each time. A
            name, which is looked up at the site among its `raises` and the builtin exceptions: `raise(OSError)` in
            text gives `Raise("OSError")`. `None` raises `InjectedFault`.
        message: The message for a class or a name. Without one, the message names the failpoint.
    """

    __slots__ = ("error", "message")
    error: type[BaseException] | BaseException | str | None
    message: str | None

    def __init__(
        self, error: type[BaseException] | BaseException | str | None = None, message: str | None = None
    ) -> None:
        if isinstance(error, str):
            if not is_exception_name(error):
                raise FailpointUsageError(f"Raise: {error!r} is not the name of an exception")
        elif not (error is None or isinstance(error, BaseException) or _is_exception_type(error)):
            raise FailpointUsageError(
                f"Raise takes an exception, its class, or the name of one; got {safe_repr(error)}"
            )
        if message is not None and (not isinstance(message, str) or not isinstance(error, (str, type))):
            raise FailpointUsageError(
                "Raise takes a message, a str, only together with a class or a name;"
                f" got {safe_repr(error)}, {safe_repr(message)}"
            )
        set_field(self, "error", error)
        set_field(self, "message", message)

    def _identity(self) -> object:
        return spelling_of(self) or (id(self.error), self.message)

    def __eq__(self, other: object) -> bool:
        return self._identity() == other._identity() if isinstance(other, Raise) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity())


class RaiseForRequest(Raise):
    """A `Raise` that came with a request. The name in it may not have the meaning of anything but an `Exception`."""

    __slots__ = ()


@dataclass(frozen=True)
class Panic(Step):
    """Raise `FailpointPanic`. Use it to fail in a way that no `except Exception` handles."""

    __slots__ = ("message",)
    message: str | None

    def __init__(self, message: str | None = None) -> None:
        _check_text("Panic", message)
        set_field(self, "message", message)


@dataclass(frozen=True)
class Exit(Step):
    """End the process at once, with `os._exit`: no `finally` runs, nothing is flushed. Use it to simulate a crash.

    One line on standard error says which failpoint ended the process, and where.
    """

    __slots__ = ("status",)
    status: int

    def __init__(self, status: int = 1) -> None:
        if not isinstance(status, int) or isinstance(status, bool) or not 0 <= status <= 255:
            raise FailpointUsageError(f"Exit takes a status from 0 to 255; got {safe_repr(status)}")
        set_field(self, "status", int(status))


@dataclass(frozen=True)
class Print(Step):
    """Log at INFO on the logger `failpoints`. Use it to see that a place is reached."""

    __slots__ = ("message",)
    message: str | None

    def __init__(self, message: str | None = None) -> None:
        _check_text("Print", message)
        set_field(self, "message", message)


@dataclass(frozen=True)
class Yield(Step):
    """Let the other tasks (or threads) run once before the site goes on."""

    __slots__ = ()


@dataclass(frozen=True)
class Delay(Step):
    """Block the thread for *duration*, in milliseconds or as a `timedelta`, and with it the event loop."""

    __slots__ = ("duration",)
    duration: float | timedelta

    def __init__(self, duration: float | timedelta) -> None:
        set_field(self, "duration", _milliseconds("Delay", duration))


@dataclass(frozen=True)
class Cancel(Step):
    """Cancel the task that visits, here. Use it to see what a cancelled task leaves behind.

    On asyncio it calls the task's `cancel()`. On trio it cancels the innermost cancel scope around the visit, which may
    be that of the task's nursery. Where there is none, and in sync code, it is a `FailpointUsageError` at the site.
    """

    __slots__ = ()


@dataclass(frozen=True)
class Break(Step):
    """Call `breakpoint()`, to look around at the site in a debugger. pdb shows the program's own frames."""

    __slots__ = ()


@dataclass(frozen=True)
class Hit(Value):
    """A visit, as the function of a `Call` gets it.

    Attributes:
        name: The failpoint.
        context: The context of the visit, a mapping.
        result: At the `name:after` of a function, what its body returned, or the value that a generator ended with.
            Otherwise `None`.
    """

    __slots__ = ("context", "name", "result")
    name: str
    context: Mapping[str, Any]
    result: Any

    def __init__(self, name: str, context: Mapping[str, Any], result: Any = None) -> None:
        set_field(self, "name", name)
        set_field(self, "context", context)
        set_field(self, "result", result)


@dataclass(frozen=True)
class Call(Step):
    """Call *function* with the `Hit`. Use it to run the test's own code at a site.

    The function returns `None`, or an action, which is then carried out. Any other value is a `FailpointUsageError`
    at the site. In async code the function may be async. An exception that it raises is raised at the site.

    While an async function is awaited, or a sync function runs in a thread without an event loop, the visit is among
    those that wait, for `wait_paused` and `status`. `resume`, `remove` and `configure` do not end the function. If it
    then returns a `Pause` or a `Sleep`, that ends at once.
    """

    __slots__ = ("function",)
    function: Callable[[Hit], Any]

    def __init__(self, function: Callable[[Hit], Any]) -> None:
        if not callable(function):
            raise FailpointUsageError(f"Call takes a function of the Hit; got {safe_repr(function)}")
        set_field(self, "function", function)


@dataclass(frozen=True)
class Then(Step):
    """Carry out several *actions* one after the other, in the same visit. `A + B` is `Then((A, B))`.

    `Sleep(200) + Raise(TimeoutError)` is slow and then fails. `Pause() + Raise(ConnectionResetError)` holds a task, and
    fails this very visit once it is resumed. The rest is left out if a wait ends because the failpoint is reconfigured
    or removed. Together they count as one trigger.

    Only the last may be a `Return`, `Raise`, `Panic`, `Exit` or `Cancel`, because nothing runs after it. A `Then` among
    the actions is taken apart. Raises `FailpointUsageError` for an earlier one of these, for fewer than two actions,
    and for a value that is not an action.
    """

    __slots__ = ("actions",)
    actions: tuple[Action, ...]

    def __init__(self, actions: tuple[Action, ...]) -> None:
        given: Any = actions
        if not isinstance(given, Sequence) or isinstance(given, (str, bytes, bytearray)):
            raise FailpointUsageError(
                f"Then takes a tuple of actions, such as (Sleep(200), Raise(TimeoutError)); got {safe_repr(given)}"
            )
        flat: list[Action] = []
        for action in cast(Sequence[object], given):
            if not isinstance(action, Action):
                raise FailpointUsageError(f"'+' joins actions; got {safe_repr(action)}{hint_for_action(action)}")
            flat += steps(action)
        for action in flat[:-1]:
            if isinstance(action, ENDS_VISIT):
                raise FailpointUsageError(f"nothing runs after {safe_repr(action)}, so it must be the last of its '+'")
        if len(flat) < 2:
            raise FailpointUsageError(f"Then takes two actions or more; got {safe_repr(cast(object, given))}")
        set_field(self, "actions", tuple(flat))


Action: TypeAlias = (
    Off | Pause | Sleep | Return | Raise | Panic | Exit | Print | Yield | Delay | Cancel | Break | Call | Then
)
Outcome: TypeAlias = Continue | Return | Cancelled
OUTCOMES = (Continue, Return, Cancelled)


ENDS_VISIT = (Return, Raise, Panic, Exit, Cancel)
"""The actions after which nothing more can run in the same visit."""


def steps(action: Action) -> tuple[Action, ...]:
    """Return the actions that are carried out one after the other: those of a `Then`, else the action alone."""
    return action.actions if isinstance(action, Then) else (action,)


def waits(action: Action | None) -> bool:
    """Return whether carrying out the action means to wait, for all that is known beforehand."""
    return isinstance(action, (Pause, Sleep)) or (isinstance(action, Then) and any(map(waits, action.actions)))


def may_exit(action: Action) -> bool:
    """Return whether carrying out the action ends the process."""
    return isinstance(steps(action)[-1], Exit)


@dataclass(frozen=True)
class Term(Value):
    """An action with a *probability* from 0 to 1, and a number of *times* (1 or more) after which it is used up.

    `Term(Return("x"), probability=0.25, times=3)` is `25%3*return(x)` in text. Raises `FailpointUsageError` for a
    number out of its range, and for an *action* that is not an action.
    """

    __slots__ = ("action", "probability", "times")
    action: Action
    probability: float
    times: int | None

    def __init__(self, action: Action, probability: float = 1.0, times: int | None = None) -> None:
        if not isinstance(action, Action):
            raise FailpointUsageError(f"Term takes an action, such as Return(1); got {safe_repr(action)}")
        if isinstance(probability, bool) or not isinstance(probability, (int, float)) or not 0 <= probability <= 1:
            raise FailpointUsageError(f"Term takes a probability from 0 to 1; got {safe_repr(probability)}")
        set_field(self, "action", action)
        # Keep plain numbers: the text of a NumPy float, an enum or -0.0 could not be read back.
        set_field(self, "probability", abs(float(probability)))
        count = None if times is None else int(check_count("Term: times", times, most=MAX_TIMES))
        set_field(self, "times", count)


Actions: TypeAlias = str | Action | Term | Sequence[Action | Term]
"""The actions that `configure` takes: a text, an action, a term, or a sequence of actions and terms."""


def hint_for_action(given: Any) -> str:
    """Return the end of a message about a value that is not an action: `"; did you mean Raise(OSError)?"`."""
    if isinstance(given, type) and issubclass(given, BaseException):
        return f"; did you mean Raise({given.__name__})?"
    if isinstance(given, BaseException):
        return f"; did you mean Raise({safe_repr(given)})?"
    if isinstance(given, type) and issubclass(given, Step):
        return f"; did you mean {callable_name(given)}(…)?"
    if isinstance(given, (int, float)) and not isinstance(given, bool) and 0 <= given <= MAX_TIMES:
        return f"; did you mean Sleep({given})?"
    if isinstance(given, timedelta):
        return "; did you mean Sleep(…)?"
    if isinstance(given, Term):
        return "; a chance or a count belongs to the whole: Term(A + B, times=3)"
    if inspect.isroutine(cast(object, given)):
        return f"; did you mean Call({callable_name(given)})?"
    return ""


def builtin_exception(name: str) -> type[BaseException] | None:
    """Return the exception that a name in text means at every site: a builtin one, or `InjectedFault`."""
    found = InjectedFault if name == "InjectedFault" else getattr(builtins, name, None)
    return found if _is_exception_type(found) else None


def is_exception_name(text: str) -> bool:
    """Return whether *text* could name an exception: identifiers, joined by dots."""
    return all(part.isidentifier() for part in text.split("."))


def spelling_of(action: Raise) -> tuple[str, str | None] | None:
    """Return the name and the message that text would use, `("", None)` for a bare `raise`; `None` if there is none."""
    error = action.error
    if error is None:
        return "", None
    if isinstance(error, str):
        return error, action.message
    kind = error if isinstance(error, type) else type(error)
    if builtin_exception(kind.__name__) is not kind:
        return None
    if isinstance(error, type):
        return kind.__name__, action.message
    # Text would lose what else an instance has, in its __dict__ or in C fields such as ImportError.name.
    if len(error.args) == 1 and isinstance(error.args[0], str) and error.__reduce__() == (kind, error.args):
        return kind.__name__, error.args[0]
    return None


def in_seconds(duration: float | timedelta) -> float:
    """Convert a duration of an action, in milliseconds or a `timedelta`, to seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else duration / 1000


def _is_exception_type(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseException)


def _check_text(owner: str, message: object) -> None:
    if message is not None and not isinstance(message, str):
        raise FailpointUsageError(f"{owner} takes a message, a str; got {safe_repr(message)}")


def _milliseconds(owner: str, given: object) -> float:
    if isinstance(given, timedelta):
        given = given / timedelta(milliseconds=1)
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        try:
            fits = math.isfinite(given) and given >= 0
        except OverflowError:  # an int too large for a float
            fits = False
        if fits:
            return abs(int(given) if isinstance(given, int) else float(given))
    raise FailpointUsageError(
        f"{owner} takes milliseconds or a timedelta, finite and not negative; got {safe_repr(given)}"
    )
