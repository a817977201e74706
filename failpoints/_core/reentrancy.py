"""Telling the program's calls apart from those that failpoints makes itself (to `logging`, `json`, …).

A failpoint on a function of the standard library must not be visited when this package calls that function. The stack
shows who calls. So there is no flag to set and reset, and none that a new task could inherit. Indirect calls are
covered, such as those of a log handler that writes JSON. The user's code that runs on the way (contexts, predicates,
`str()`) counts as this package's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from sys import _getframe  # pyright: ignore[reportPrivateUsage]  # imported by name, since sys._getframe can be replaced
from types import CodeType, FrameType
from typing import Any, Final, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

PACKAGE: Final = os.path.dirname(os.path.dirname(_getframe().f_code.co_filename)) + os.sep
"""The folder of this package, with which the file names of its code begin."""

_transparent: set[CodeType] = set()
_user_code: set[CodeType] = set()


def transparent(function: F) -> F:
    """Mark a function of this package that calls the user's function on behalf of its caller.

    Its calls count as its caller's. It must not directly call anything else outside this package, not even a builtin.
    """
    _transparent.add(function.__code__)
    return function


def runs_user_code(function: F) -> F:
    """Mark a function of this package in which the user's code runs for its own purposes.

    Its calls count as the program's own.
    """
    _user_code.add(function.__code__)
    return function


def is_internal_call() -> bool:
    """Return whether this package made the call of the function that asks, directly or indirectly."""
    return is_called_internally(_getframe(1))


def is_called_internally(frame: FrameType | None) -> bool:
    """Return whether this package made the call that a frame runs, directly or indirectly."""
    if frame is not None:
        frame = frame.f_back
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(PACKAGE) and code not in _transparent:
            return code not in _user_code
        frame = frame.f_back
    return False
