"""What a failpoint can do, and what a site is told: frozen dataclasses that refuse what they cannot be.

Durations are milliseconds; in Python a `timedelta` serves too.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from ..errors import FailpointUsageError, InjectedFault
from .messages import safe_repr
from .validation import check_count

MAX_TIMES = 10**18
"""The highest count: far beyond use, and far below what `int()` refuses to read."""


@dataclass(frozen=True, slots=True)
class Continue:
    """The outcome of a visit after which the site goes on: false in a condition."""

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The outcome of a wait that the site's `cancel` event ended: true in a condition."""


@dataclass(frozen=True, slots=True)
class Off:
    """To count hits and do nothing, or to let some hits pass before the next term: `3*off->return`."""


@dataclass(frozen=True, slots=True)
class Pause:
    """To hold a task or thread until the test lets it go: by reconfiguring, removing or resuming.

    With a `limit` in milliseconds (or a `timedelta`) it raises `FailpointTimeout` after that long.
    """

    limit: float | timedelta | None = None

    def __post_init__(self) -> None:
        if self.limit is not None:
            object.__setattr__(self, "limit", _milliseconds("Pause", self.limit))


@dataclass(frozen=True, slots=True)
class Sleep:
    """To make a place slow: waits so many milliseconds (or a `timedelta`), ended early as a pause is."""

    duration: float | timedelta

    def __post_init__(self) -> None:
        object.__setattr__(self, "duration", _milliseconds("Sleep", self.duration))


@dataclass(frozen=True, slots=True)
class Return:
    """To return early: `Return(value)`, as an action and as the outcome that a site is told.

    A `str` is converted for a decorated function, by its `convert` or its return annotation; any other
    value is returned as it is.
    """

    value: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Raise:
    """To fail as the real thing fails: `Raise(OSError)`, `Raise(OSError("disk full"))`, or `Raise()`.

    A class is raised with `message`, or with one that names the failpoint; an instance as a fresh copy
    each time; nothing at all is `InjectedFault`. A name (a `str`) stands for one of the site's `raises`
    or a builtin exception and is looked up at the site: that is what `raise(OSError)` in text gives.

    Raises `FailpointUsageError` for anything else. Two of them are equal when they have the same text, or
    raise the same class or instance.
    """

    error: type[BaseException] | BaseException | str | None = None
    message: str | None = None

    def __post_init__(self) -> None:
        error, message = self.error, self.message
        if isinstance(error, str):
            if not is_exception_name(error):
                raise FailpointUsageError(f"Raise: {error!r} is not the name of an exception")
        elif not (error is None or isinstance(error, BaseException) or _is_exception_type(error)):
            raise FailpointUsageError(
                f"Raise takes an exception, its class, or the name of one; got {safe_repr(error)}"
            )
        if message is not None and (not isinstance(message, str) or not isinstance(error, (str, type))):
            raise FailpointUsageError(
                "Raise takes a message, a str, only beside a class or a name;"
                f" got {safe_repr(error)}, {safe_repr(message)}"
            )

    def _identity(self) -> object:
        return spelling_of(self) or (id(self.error), self.message)

    def __eq__(self, other: object) -> bool:
        return self._identity() == other._identity() if isinstance(other, Raise) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity())


@dataclass(frozen=True, slots=True)
class Panic:
    """To fail in a way that no `except Exception` handles: raises `FailpointPanic`."""

    message: str | None = None

    def __post_init__(self) -> None:
        _check_text("Panic", self.message)


@dataclass(frozen=True, slots=True)
class Exit:
    """To crash: ends the process at once (`os._exit`), running no `finally` and flushing nothing."""

    status: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.status, int) or isinstance(self.status, bool) or not 0 <= self.status <= 255:
            raise FailpointUsageError(f"Exit takes a status from 0 to 255; got {safe_repr(self.status)}")
        object.__setattr__(self, "status", int(self.status))


@dataclass(frozen=True, slots=True)
class Print:
    """To see that a place is reached: logs at INFO on the logger `failpoints`."""

    message: str | None = None

    def __post_init__(self) -> None:
        _check_text("Print", self.message)


@dataclass(frozen=True, slots=True)
class Yield:
    """To give way once: lets the other tasks (or threads) run before the site goes on."""


@dataclass(frozen=True, slots=True)
class Delay:
    """To block the thread for so many milliseconds (or a `timedelta`), and the event loop with it."""

    duration: float | timedelta

    def __post_init__(self) -> None:
        object.__setattr__(self, "duration", _milliseconds("Delay", self.duration))


@dataclass(frozen=True, slots=True)
class Break:
    """To look around at the place: calls `breakpoint()`."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What a `Call` is given: the failpoint's `name` and the `context` of the visit (str to anything)."""

    name: str
    context: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """To run code of the test's own at a place: calls `function` with the `Hit`.

    In async code what it returns is awaited if it can be. An action that comes back is run; anything else
    but `None` is a `FailpointUsageError` at the site. What the function raises, the site raises.
    """

    function: Callable[[Hit], Any]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise FailpointUsageError(f"Call takes a function of the Hit; got {safe_repr(self.function)}")


Action: TypeAlias = Off | Pause | Sleep | Return | Raise | Panic | Exit | Print | Yield | Delay | Break | Call
Outcome: TypeAlias = Continue | Return | Cancelled


@dataclass(frozen=True, slots=True)
class Term:
    """To say how often: an action with a chance (`probability`, 0 to 1) and a count (`times`, 1 or more).

    `Term(Return("x"), probability=0.25, times=3)` is `25%3*return(x)` in text. Raises
    `FailpointUsageError` for a number out of its range, or for what is no action.
    """

    action: Action
    probability: float = 1.0
    times: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.action, Action):
            raise FailpointUsageError(f"Term takes an action, such as Return(1); got {safe_repr(self.action)}")
        chance, times = self.probability, self.times
        if isinstance(chance, bool) or not isinstance(chance, (int, float)) or not 0 <= chance <= 1:
            raise FailpointUsageError(f"Term takes a probability from 0 to 1; got {safe_repr(chance)}")
        # Plain numbers from here on: a NumPy float, an enum or -0.0 has no text that reads back.
        object.__setattr__(self, "probability", abs(float(chance)))
        if times is not None:
            object.__setattr__(self, "times", int(check_count("Term: times", times, most=MAX_TIMES)))


Actions: TypeAlias = str | Action | Term | Sequence[Action | Term]
"""What `configure` and its kin take: a text, an action, a term, or a sequence of the two."""


def builtin_exception(name: str) -> type[BaseException] | None:
    """The exception that a bare name in text stands for at any site: a builtin one, or `InjectedFault`."""
    found = InjectedFault if name == "InjectedFault" else getattr(builtins, name, None)
    return found if _is_exception_type(found) else None


def is_exception_name(text: str) -> bool:
    """Whether `text` could name an exception: identifiers, joined by dots."""
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
    # Text has no place for the rest of what an instance carries, in its __dict__ or in C as ImportError.name.
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
        except OverflowError:  # an int that no float holds
            fits = False
        if fits:
            return abs(int(given) if isinstance(given, int) else float(given))
    raise FailpointUsageError(
        f"{owner} takes milliseconds or a timedelta, finite and not negative; got {safe_repr(given)}"
    )
