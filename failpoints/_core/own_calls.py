"""Whose call it is: the program's own, or one that this package makes for its own ends (to `logging`, `json`, …).

The stack tells. So nothing is to be set or put back, nothing leaks into a task that is started in between, and a call
by way of others (a log handler that writes JSON) is known, too. What is asked of the user's code on the way (contexts,
predicates, `str()`) counts as ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from sys import _getframe  # pyright: ignore[reportPrivateUsage]  # once: what stands in the module can be replaced
from types import CodeType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_PACKAGE = os.path.dirname(os.path.dirname(_getframe().f_code.co_filename)) + os.sep
_passing_on: set[CodeType] = set()
_handing_over: set[CodeType] = set()


def passes_on(function: F) -> F:
    """For a function of ours that calls the user's in the caller's place: what that calls is its caller's call.

    It must call nothing else directly that is not this package's own, not even a builtin function.
    """
    _passing_on.add(function.__code__)
    return function


def hands_over(function: F) -> F:
    """For a function of ours in which the user's code runs for its own ends: what that calls is the user's call."""
    _handing_over.add(function.__code__)
    return function


def is_own_call() -> bool:
    """Whether the call of the function that asks this is made by this package, directly or not."""
    frame = _getframe(1).f_back
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_PACKAGE) and code not in _passing_on:
            return code not in _handing_over
        frame = frame.f_back
    return False
