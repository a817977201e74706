"""Finding out about callables: their kind, their code and their name."""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any


class Kind(enum.Enum):
    """The kind of a function, which decides how its failpoints are visited."""

    SYNC = "function"
    ASYNC = "async function"
    GENERATOR = "generator function"
    ASYNC_GENERATOR = "async generator function"


def kind_of(function: Callable[..., Any]) -> Kind:
    """Return the kind of a function, a `functools.partial` of one, or an object with a `__call__`."""
    # Without inspect.unwrap: a sync function around an async one is sync.
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
    """Return the Python function whose body a call runs, or `None` if that is not written in Python."""
    target = _called(function)
    return target if isinstance(target, FunctionType) else None


def callable_name(thing: Any) -> str:
    """Return a callable's name, for messages."""
    return getattr(thing, "__qualname__", None) or repr(thing)


def _called(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):
        function = type(function).__call__
    return getattr(function, "__func__", function)  # of a bound method, for example inside a partial
