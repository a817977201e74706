"""What a callable is: which kind of function, written where."""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

T = TypeVar("T", bound=type)


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


def callable_name(thing: Any) -> str:
    """A callable's name for a message."""
    return getattr(thing, "__qualname__", None) or repr(thing)


def annotated_as_wrapped(wrapper: T) -> T:
    """For a class of wrapt's wrappers: what it wraps tells the annotations, whatever wrapt's own classes have.

    Who looks at the annotations of those (as `mock`'s autospec does) gives them some, which hide the wrapped ones.
    """

    def get(self: Any) -> Any:
        return self.__wrapped__.__annotations__

    def put(self: Any, annotations: Any) -> None:
        self.__wrapped__.__annotations__ = annotations

    setattr(wrapper, "__annotations__", property(get, put))  # noqa: B010 - in the body it would mean the class's own
    return wrapper


def _called(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):
        function = type(function).__call__
    return getattr(function, "__func__", function)  # of a bound method, in a partial say
