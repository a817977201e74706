"""Everything that `failpoints` raises.

    FailpointError(Exception)
    ├── ActionSyntaxError(ValueError)      a text that is no actions
    ├── FailpointNameError(ValueError)     a name, or a matcher's pattern, that cannot be one
    ├── FailpointUsageError(RuntimeError)  a site or call that cannot do what is asked of it
    ├── FailpointCancelled                 the cancel event ended the wait of a decorator or scope
    └── FailpointTimeout(TimeoutError)     a pause or a wait that lasted too long
    InjectedFault(Exception)               what `raise` raises
    FailpointPanic(BaseException)          what `panic` raises

The last two are no `FailpointError`: they are what a test injects into a program, not what the
library has to say about its use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._core.status import FailpointStatus  # which is above: its actions know these errors

__all__ = [
    "ActionSyntaxError",
    "FailpointCancelled",
    "FailpointError",
    "FailpointNameError",
    "FailpointPanic",
    "FailpointTimeout",
    "FailpointUsageError",
    "InjectedFault",
]

_SHOWN = 60  # characters on either side of the caret: a whole FAILPOINTS can be very long


class FailpointError(Exception):
    """Catch this to catch whatever the library itself complains of."""


class ActionSyntaxError(FailpointError, ValueError):
    """A text that is no actions: says what was expected, and shows the place with a caret.

    `text` is what was given, `position` the index in it (from 0), `problem` the sentence, and `source`
    where the text came from (such as `"FAILPOINTS"`), or `None`.
    """

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
    """A name that cannot be a failpoint's, or a matcher's pattern that is no regular expression."""


class FailpointUsageError(FailpointError, RuntimeError):
    """A site or a call that cannot do what is asked of it: the message says what to do instead."""


class FailpointCancelled(FailpointError):
    """The `cancel` event ended the wait of a decorated function or a scope; `name` is the failpoint's."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"the cancel event ended the wait at failpoint {self.name!r}"


class FailpointTimeout(FailpointError, TimeoutError):
    """A pause that outlasted its limit, or a wait for a hit or a pause that never came.

    `status` is the failpoint's `FailpointStatus` at that moment, where it was a wait that ended; else `None`.
    """

    def __init__(self, message: str, status: FailpointStatus | None = None) -> None:
        super().__init__(message)
        self.status = status


class InjectedFault(Exception):
    """What `raise` raises when it names no other exception: never raised by anything real."""


class FailpointPanic(BaseException):
    """What `panic` raises: no `except Exception` sees it, as none would see a crash."""


def pointed_at(text: str, position: int) -> str:
    """The part of `text` around `position`, and below it a caret: two lines, indented."""
    start = max(position - _SHOWN, 0)
    end = position + _SHOWN
    before = "…" if start else ""
    after = "…" if end < len(text) else ""
    # One column a character, whatever it is: the caret has to stand under its place.
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[start:end])
    caret = " " * (len(before) + position - start) + "^"
    return f"    {before}{shown}{after}\n    {caret}"
