"""Converting the text of a `return` to the value that a decorated function returns."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any

from .._core.actions import Return
from .._core.functions import Kind, callable_name, kind_of, return_annotation, underlying_function
from .._core.site import Converter
from ..errors import FailpointUsageError

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_NOTHING = {"none", "null"}


class _NotConvertible(Exception):
    pass


def returned_value(name: str, outcome: Return, function: Callable[..., Any], convert: Converter | None) -> Any:
    """Return the value for an early return from *function*.

    A `str` is converted, by *convert* or else by the function's return annotation. Other values are returned as they
    are. Raises `FailpointUsageError` for a text that cannot be converted.
    """
    text = outcome.value
    if type(text) is not str:  # a member of a str enum is a value, not a text
        return text
    problem = f"failpoint {name!r} cannot return the text {text!r} from {callable_name(function)}:"
    remedy = f"pass {'another' if convert else 'a'} convert= to @failpoint, or configure Return(value) in Python"
    if convert is not None:
        try:
            return convert(text)
        except Exception as error:
            failure = f"convert={callable_name(convert)} raised {type(error).__name__}: {error}"
            raise FailpointUsageError(f"{problem} {failure}; {remedy}", code="FP024") from error
    try:
        return _converted(text, _return_annotation(function))
    except _NotConvertible as error:
        raise FailpointUsageError(f"{problem} {error}; {remedy}", code="FP024") from None


def _return_annotation(function: Callable[..., Any]) -> Any:
    """Return what the function's body returns. Names in string annotations are resolved where it was defined."""
    underlying = underlying_function(function) or underlying_function(inspect.unwrap(function))  # lru_cache is in C
    if underlying is None:
        return Any
    # functools.wraps copies annotations from a function whose module and closure define their names.
    written = underlying_function(inspect.unwrap(underlying)) or underlying
    cells = zip(written.__code__.co_freevars, written.__closure__ or (), strict=False)

    def stub() -> None: ...

    try:
        annotation = return_annotation(underlying)
        stub.__annotations__ = {"return": annotation}
        local_names = {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}
        annotation = typing.get_type_hints(stub, written.__globals__, local_names)["return"]
    except Exception as error:  # evaluating an annotation can raise anything
        raise _NotConvertible(f"its return annotation cannot be resolved ({error})") from None
    kind = kind_of(function)
    if kind is Kind.SYNC:
        return _awaited(annotation, is_entered=inspect.isasyncgenfunction(inspect.unwrap(function)))
    if kind is not Kind.GENERATOR:
        return annotation
    origin: Any = typing.get_origin(annotation)
    arguments = typing.get_args(annotation) if origin is Generator else ()
    return arguments[2] if len(arguments) == 3 else Any


def _awaited(annotation: Any, *, is_entered: bool) -> Any:
    """Return the type of what a sync function gives its caller, by `await` or by `async with`.

    Args:
        annotation: The return annotation.
        is_entered: Whether the function is under `@asynccontextmanager`.
    """
    origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        members = tuple(_awaited(member, is_entered=is_entered) for member in arguments)
        return annotation if members == arguments else typing.Union[members]  # noqa: UP007
    given: Any = (Awaitable, AbstractAsyncContextManager, AsyncIterator)[: 3 if is_entered else 2]
    if not (isinstance(origin, type) and issubclass(origin, given)):
        return annotation
    if not arguments:
        return Any if origin.__module__ == "collections.abc" else annotation
    return arguments[-1 if issubclass(origin, Coroutine) else 0]


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty cell raises
    except ValueError:
        return False
    return True


def _converted(text: str, annotation: Any) -> Any:
    meant: Any = getattr(annotation, "__supertype__", None) or getattr(annotation, "__value__", None)
    if meant is not None:  # a NewType, or a `type` statement
        return _converted(text, meant)
    if annotation in (Any, object, str):
        return text
    if annotation is bytes:
        try:
            return text.encode()
        except UnicodeEncodeError:
            raise _NotConvertible("UTF-8 cannot encode it") from None
    if annotation in (int, float):
        try:
            return annotation(text)
        except ValueError:
            raise _NotConvertible(f"it is not {'an' if annotation is int else 'a'} {annotation.__name__}") from None
    if annotation is bool:
        if text.lower() not in _BOOLEANS:
            raise _NotConvertible("it is not a bool (true, false, 1 or 0)")
        return _BOOLEANS[text.lower()]
    if annotation is types.NoneType:
        if text.lower() not in _NOTHING:
            raise _NotConvertible("the function returns None (configure 'return' without a text)")
        return None
    origin = typing.get_origin(annotation) or annotation
    if origin in (typing.Union, types.UnionType):
        return _first_fitting(text, annotation)
    if origin in (dict, list):
        return _from_json(text, origin)
    raise _NotConvertible(f"a text cannot be converted to its return annotation {_annotation_name(annotation)}")


def _first_fitting(text: str, union: Any) -> Any:
    """Convert to the first member of a union that the text fits: `None`, then the others in order, `str` last."""
    members = typing.get_args(union)
    for member in sorted(members, key=lambda member: (member in (str, Any, object)) - (member is types.NoneType)):
        try:
            return _converted(text, member)
        except _NotConvertible:
            continue
    raise _NotConvertible(f"it fits no member of the return annotation {_annotation_name(union)}")


def _from_json(text: str, wanted: type) -> Any:
    import json  # `import_for_visits` has imported it

    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _NotConvertible(f"it is not the JSON of a {wanted.__name__} ({error})") from None
    if not isinstance(value, wanted):
        raise _NotConvertible(f"its JSON is not a {wanted.__name__}")
    return value


def _annotation_name(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
