"""What a callable is: which kind of function, written where."""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

__all__ = ["Kind", "described", "kind_of", "underlying_function"]


class Kind(enum.Enum):
    """How a function is called, and so how a failpoint in it has to be visited."""

    SYNC = "function"
    ASYNC = "async function"
    GENERATOR = "generator function"
    ASYNC_GENERATOR = "async generator function"


def kind_of(function: Callable[..., Any]) -> Kind:
    """The kind of a function, a `functools.partial` of one, or an object with a `__call__`."""
    # Never inspect.unwrap: a sync function around an async one is sync.
    target = _called(function)
    if inspect.isasyncgenfunction(target):
        return Kind.ASYNC_GENERATOR
    if inspect.iscoroutinefunction(target):
        return Kind.ASYNC
    if inspect.isgeneratorfunction(target):
        is_coroutine = target.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE  # @types.coroutine
        return Kind.ASYNC if is_coroutine else Kind.GENERATOR
    return Kind.SYNC


def underlying_function(function: Callable[..., Any]) -> FunctionType | None:
    """The Python function whose body runs when `function` is called; `None` if it is not written in Python."""
    target = _called(function)
    return target if isinstance(target, FunctionType) else None


def described(thing: Any) -> str:
    """A callable's name for a message."""
    return getattr(thing, "__qualname__", None) or repr(thing)


def _called(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):
        function = type(function).__call__
    return getattr(function, "__func__", function)  # of a bound method, in a partial say
