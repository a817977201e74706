"""Finding out about callables: their kind, their code and their name."""

from __future__ import annotations

import enum
import functools
import inspect
import sys
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

if sys.version_info >= (3, 14):
    import annotationlib

    # Annotations may contain names that are not defined yet, or never will be: Python does not evaluate them before a
    # program asks for them, and neither does this package.
    signature_of = functools.partial(inspect.signature, annotation_format=annotationlib.Format.STRING)
else:
    signature_of = inspect.signature


class Kind(enum.Enum):
    """The kind of a function, which decides how its failpoints are visited."""

    SYNC = "function"
    ASYNC = "async function"
    GENERATOR = "generator function"
    ASYNC_GENERATOR = "async generator function"


class Wrapping:
    """The base of this package's wrappers, for modules that do not import them: they bring in wrapt."""

    __slots__ = ()
    if TYPE_CHECKING:  # a proxy would show an annotation of its class as its own
        __wrapped__: Any


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


def makes_methods(thing: object) -> bool:
    """Return whether an object cannot be called itself, but what it becomes as the attribute of a class can be."""
    return isinstance(thing, (functools.partialmethod, functools.singledispatchmethod))


def is_method_object(thing: object) -> bool:
    """Return whether an object is a class or static method itself, and not a proxy of one, such as wrapt's."""
    return issubclass(type(thing), (classmethod, staticmethod))


def annotations_of(function: FunctionType, form: int, /) -> dict[str, Any]:
    """Return a function's annotations in a format of `annotationlib`: the `__annotate__` of its copies.

    They are evaluated when a program asks for them, in the function itself, so that all have the same dictionary.
    """
    if sys.version_info >= (3, 14) and form != annotationlib.Format.VALUE:
        return annotationlib.get_annotations(function, format=annotationlib.Format(form))
    return function.__annotations__


def return_annotation(function: FunctionType) -> Any:
    """Return the annotation of what a function returns, without evaluating any other; `Any` if it has none."""
    if sys.version_info >= (3, 14):
        return annotationlib.get_annotations(function, format=annotationlib.Format.FORWARDREF).get("return", Any)
    return function.__annotations__.get("return", Any)


def callable_name(thing: Any) -> str:
    """Return a callable's name, for messages."""
    return getattr(thing, "__qualname__", None) or repr(thing)


_AROUND_A_FUNCTION = (functools.partial, functools.partialmethod, functools.singledispatchmethod)


def _called(function: Any) -> Any:
    while isinstance(function, _AROUND_A_FUNCTION):
        function = cast(Any, function).func
    if not inspect.isroutine(function):
        function = type(function).__call__
    return getattr(function, "__func__", function)  # of a bound method, for example inside a partial
