"""The exceptions of `failpoints`.

    FailpointError(Exception)
    ├── ActionSyntaxError(ValueError)      a text that cannot be parsed as actions
    ├── FailpointNameError(ValueError)     an invalid name, or an invalid pattern of a matcher
    ├── FailpointUsageError(RuntimeError)  a site or a call that cannot do what was asked
    ├── FailpointCancelled                 the cancel event ended the wait of a decorator or scope
    └── FailpointTimeout(TimeoutError)     a pause or a wait that lasted too long
        └── FleetTimeout                   processes of a fleet that have not answered in time
    InjectedFault(Exception)               what `raise` raises
    FailpointPanic(BaseException)          what `panic` raises

The last two are not a `FailpointError`: a test injects them into a program, while the others report how the library is
used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._core.status import FailpointStatus  # a room above this one, which imports these exceptions

__all__ = [
    "ActionSyntaxError",
    "FailpointCancelled",
    "FailpointError",
    "FailpointNameError",
    "FailpointPanic",
    "FailpointTimeout",
    "FailpointUsageError",
    "FleetTimeout",
    "InjectedFault",
]

_SHOWN = 60  # characters on either side of the caret: a whole FAILPOINTS can be very long


class FailpointError(Exception):
    """The base of the exceptions that report a problem with the use of the library. Catch it to catch them all.

    `code` is the address of the error in the documentation: `failpoints explain FP012` prints what it means.
    """

    code: str

    def __init__(self, *args: object, code: str | None = None) -> None:
        super().__init__(*args)
        if code is not None:
            self.code = code


class ActionSyntaxError(FailpointError, ValueError):
    """A text that cannot be parsed as actions. The message says what was expected, and shows the place with a caret.

    Attributes:
        text: The text that was given.
        position: The index of the problem in it, from 0.
        problem: The sentence that describes the problem.
        source: Where the text came from, such as `"FAILPOINTS"`, or `None`.
    """

    code = "FP001"

    def __init__(self, text: str, position: int, problem: str, source: str | None = None) -> None:
        super().__init__(text, position, problem, source)
        self.text = text
        self.position = position
        self.problem = problem
        self.source = source

    def __str__(self) -> str:
        heading = f"{self.source}: {self.problem}" if self.source else self.problem
        return f"{heading}\n{pointed_at(self.text, self.position)}"


class FailpointNameError(FailpointError, ValueError):
    """A name that cannot be a failpoint's, or a matcher's pattern that is not a regular expression."""

    code = "FP002"


class FailpointUsageError(FailpointError, RuntimeError):
    """A site or a call that cannot do what was asked. The message says what to do instead."""

    code = "FP004"


class FailpointCancelled(FailpointError):
    """The `cancel` event ended the wait of a decorated function or a scope. *name* is the failpoint's."""

    code = "FP005"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"the cancel event ended the wait at failpoint {self.name!r}"


class FailpointTimeout(FailpointError, TimeoutError):
    """A pause lasted longer than its limit, or a wait for a hit or a pause timed out.

    After a wait, *status* is the failpoint's `FailpointStatus` at that moment. After a pause it is `None`.
    """

    code = "FP006"

    def __init__(self, message: str, status: FailpointStatus | None = None, *, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status


class FleetTimeout(FailpointTimeout):
    """Processes of a fleet that have not acknowledged a change in time. *members* names them, as `HOST:PID`."""

    code = "FP008"

    def __init__(self, message: str, members: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.members = members


class InjectedFault(Exception):
    """The exception of an action `raise` that names no other one. Only a failpoint raises it."""

    code = "FP009"


class FailpointPanic(BaseException):
    """The exception of the action `panic`. No `except Exception` catches it, as none would catch a crash."""

    code = "FP010"


def pointed_at(text: str, position: int) -> str:
    """Return the part of *text* around *position* and a caret below it, as two indented lines."""
    start = max(position - _SHOWN, 0)
    end = position + _SHOWN
    before = "…" if start else ""
    after = "…" if end < len(text) else ""
    # Every character takes one column, so that the caret is under its place.
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[start:end])
    caret = " " * (len(before) + position - start) + "^"
    return f"    {before}{shown}{after}\n    {caret}"
