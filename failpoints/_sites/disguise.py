"""Sync functions that return something to be awaited: async sites in disguise.

`Redis.incrby`, `ClientSession.post`, `AsyncEngine.begin` and every function under a plain `functools.wraps` decorator
are sync functions. Their work is done where the caller awaits what they return, enters it with `async with`, or
iterates it if it is an async generator. So that is where their failpoints have to be visited. A function that returns a
plain value is visited around the call. So the decision has to be made before the call, when nothing is returned yet. It
is made from the following evidence:

1. What the function is written to return. The source of its `return` statements is read, and the names in them are
   looked up: `return self._send()` with an `async def _send` returns a coroutine. Nothing is run to find out.
2. Its annotation: `Awaitable[int]`, `Coroutine[Any, Any, int]`, a class with an `__await__`. Annotations that are not
   evaluated stay so: only the names in them are looked up.
3. Whether it wraps an async function, by its `__wrapped__`, or is annotated as one that returns both. Either is no
   proof, since `asyncio.run` can be inside. So it counts only on the thread of an event loop.
4. What the last call returned, for an instance of the same class.
5. Whether the caller awaits the result, if nothing else is known.

If all `return` statements make coroutines, and an action at `name` could prevent the work, the function is not called
until it is awaited: with `raise` and `return` at `name`, none of it runs. In all other cases the function is called at
once, since what it returns must be known at once: its caller may ask for its class and its attributes. An async
generator is replaced by one that makes the visits, anything else by a stand-in (`stand_in.py`).

If nothing indicates an awaitable, `name` is visited before the call, as for any sync function. If the call returns an
awaitable all the same, only `name:after` is visited where that is awaited.
"""

from __future__ import annotations

import ast
import contextlib
import enum
import functools
import inspect
import sys
import types
import typing
from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping
from types import CodeType, FunctionType, MethodType
from typing import Any, Final, cast
from weakref import WeakSet

from .._core.arming import own_code
from .._core.functions import Kind, Wrapping, kind_of
from .._core.wakeups import on_event_loop
from .awaiting import caller_awaits
from .returns import UNKNOWN, Body, Scope, attribute_of, body_of

_MAX_DEPTH: Final = 6


class Expected(enum.Enum):
    """What a call will return, as far as that is known before it."""

    COROUTINE = "a new coroutine, for certain"
    AWAITABLE = "something to await, to enter with `async with`, or an async generator"
    EITHER = "an awaitable on the thread of an event loop, a plain value elsewhere"
    PLAIN = "a plain value"
    HIDDEN = "what a sync function returns whose source does not show it"
    UNKNOWN = "not known"


_OF_KIND: Final = {
    Kind.ASYNC: Expected.COROUTINE,
    Kind.ASYNC_GENERATOR: Expected.AWAITABLE,
    Kind.GENERATOR: Expected.PLAIN,
}


class Disguise:
    """Knows whether the calls of one sync function return awaitables."""

    def __init__(self) -> None:
        self._classes: WeakSet[type] = WeakSet()  # of the first argument, for which the last call returned an awaitable
        self._plain: CodeType | None = None  # whose source returns nothing to be awaited

    def expected(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Expected:
        """Return what this call will return: `COROUTINE`, `AWAITABLE` or `PLAIN`."""
        if type(function) is FunctionType and function.__code__ is self._plain and not self._classes:
            return Expected.PLAIN
        expected = _expected(function, args, kwargs)
        if expected is Expected.PLAIN and not self._classes:
            self._plain = _plain_code(function)
            return expected
        if expected is Expected.COROUTINE or expected is Expected.AWAITABLE:
            return expected
        if _class_of_first(args) in self._classes or (expected is Expected.EITHER and on_event_loop()):
            return Expected.AWAITABLE
        return Expected.AWAITABLE if expected is not Expected.PLAIN and caller_awaits() else Expected.PLAIN

    def is_awaitable(self, result: Any, args: tuple[Any, ...]) -> bool:
        """Return whether a call has returned something to be awaited, and remember it for later calls."""
        if type(result) in _PLAIN and not self._classes:
            return False
        # An object that returns itself, such as a pipeline to which a command was added, has not begun anything.
        found = is_awaitable(result) and not (args and result is args[0] and not inspect.iscoroutine(result))
        (self._classes.add if found else self._classes.discard)(_class_of_first(args))
        return found


def _plain_code(function: Any) -> CodeType | None:
    """Return the code of a function if calls of it are plain whatever its arguments are."""
    code = own_code(function) if type(function) is FunctionType else None
    body = None if code is None else body_of(code)
    return code if body is not None and body.is_plain else None


_PLAIN: Final = frozenset((bool, bytes, dict, float, int, list, set, str, tuple, type(None)))


def _class_of_first(args: tuple[Any, ...]) -> type:
    first: object = args[0] if args else None
    return type(first)


@contextlib.asynccontextmanager
async def _entered() -> AsyncGenerator[None]:
    yield


_GENERATED: Final = type(_entered())
"""The class of what a function under `@asynccontextmanager` returns."""


def is_awaitable(thing: Any) -> bool:
    """Return whether an object is there to be awaited, to be entered with `async with`, or an async generator."""
    return inspect.isawaitable(thing) or isinstance(thing, _GENERATED) or inspect.isasyncgen(thing)


# from the source


def _expected(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], depth: int = 0) -> Expected:
    while isinstance(function, (functools.partial, MethodType, Wrapping)):
        if isinstance(function, functools.partial):
            args, kwargs, function = (*function.args, *args), {**function.keywords, **kwargs}, function.func
        elif isinstance(function, MethodType):
            args, function = (function.__self__, *args), function.__func__
        else:
            function = function.__wrapped__
    if isinstance(function, type):
        return _of_class(cast(Any, function))
    if not inspect.isroutine(function):
        args, function = (function, *args), attribute_of(type(function), "__call__")
    if not isinstance(function, FunctionType) or depth > _MAX_DEPTH:
        return Expected.UNKNOWN
    kind = kind_of(function)
    if kind is not Kind.SYNC:
        return _OF_KIND[kind]
    body = body_of(own_code(function))
    if body is not None and body.is_plain:
        return Expected.PLAIN
    written = Expected.UNKNOWN if body is None else _of_body(function, body, args, kwargs, depth)
    annotated = _of_annotation(function)
    if written in (Expected.COROUTINE, Expected.AWAITABLE, Expected.PLAIN):
        return written
    if annotated is Expected.AWAITABLE:
        return annotated
    if written is Expected.UNKNOWN and (annotated is Expected.EITHER or _wraps_async(function)):
        return Expected.EITHER
    return Expected.HIDDEN if depth else Expected.UNKNOWN


def _wraps_async(function: FunctionType) -> bool:
    inner = inspect.unwrap(function)
    return inner is not function and kind_of(inner) in (Kind.ASYNC, Kind.ASYNC_GENERATOR)


def _of_class(kind: type[Any]) -> Expected:
    awaitable = hasattr(kind, "__await__") or issubclass(kind, _GENERATED)
    return Expected.AWAITABLE if awaitable else Expected.PLAIN


def _of_body(
    function: FunctionType, body: Body, args: tuple[Any, ...], kwargs: Mapping[str, Any], depth: int
) -> Expected:
    code = own_code(function)
    values = {**dict(zip(code.co_varnames[: code.co_argcount], args, strict=False)), **kwargs}
    reader = _Reader(Scope(function, values, body.bound), values, body, depth)
    expected = _either(map(reader.expected, body.returned)) if body.returned else Expected.PLAIN
    if expected is Expected.COROUTINE and not body.always_returns:
        return Expected.AWAITABLE
    return expected


def _either(several: Iterable[Expected]) -> Expected:
    """Return what is expected of a call that can return either of several things."""
    kinds = set(several)
    if len(kinds) == 1:
        return kinds.pop()
    if kinds & {Expected.COROUTINE, Expected.AWAITABLE}:
        return Expected.AWAITABLE
    return Expected.EITHER if Expected.EITHER in kinds else Expected.UNKNOWN


class _Reader:
    """Reads what the expressions of one function stand for."""

    def __init__(self, scope: Scope, values: Mapping[str, Any], body: Body, depth: int) -> None:
        self._scope = scope
        self._values = values
        self._body = body
        self._depth = depth
        self._names: set[str] = set()  # which are being read

    def expected(self, expression: ast.expr) -> Expected:
        """Return what kind of value an expression has."""
        match expression:
            case ast.Call(func=function):
                return self._of_call(function)
            case ast.Name(id=name):
                return self._of_name(name)
            case ast.IfExp(body=first, orelse=second):
                return _either(map(self.expected, (first, second)))
            case ast.BoolOp(values=values):
                return _either(map(self.expected, values))
            case ast.NamedExpr(value=value):
                return self.expected(value)
            case ast.Attribute() | ast.Subscript() | ast.Starred():
                return Expected.UNKNOWN
            case _:  # a literal, a comparison, arithmetic
                return Expected.PLAIN

    def _of_call(self, function: ast.expr) -> Expected:
        if isinstance(function, ast.Name) and function.id in self._body.bound:
            return _either(map(self._of_local_call, self._body.bound[function.id]))
        called = self._scope.look_up(function)
        return Expected.UNKNOWN if called is UNKNOWN else _expected(called, (), {}, self._depth + 1)

    def _of_local_call(self, definition: Any) -> Expected:
        """Return what a call of a function that is defined in the body returns."""
        if not isinstance(definition, ast.AsyncFunctionDef):
            return Expected.UNKNOWN
        is_generator = any(isinstance(part, (ast.Yield, ast.YieldFrom)) for part in ast.walk(definition))
        return Expected.UNKNOWN if is_generator else Expected.COROUTINE

    def _of_name(self, name: str) -> Expected:
        if name in self._names:
            return Expected.UNKNOWN
        if name not in self._body.bound:
            value = self._values.get(name, UNKNOWN)
            if value is UNKNOWN:
                return Expected.UNKNOWN
            return Expected.AWAITABLE if inspect.iscoroutine(value) else Expected.PLAIN
        self._names.add(name)
        try:
            values = self._body.bound[name]
            return _either(self.expected(one) if isinstance(one, ast.expr) else Expected.UNKNOWN for one in values)
        finally:
            self._names.discard(name)


# from the annotation


def _of_annotation(function: FunctionType) -> Expected:
    annotation = _annotation(function)
    if isinstance(annotation, str):
        return _of_written_annotation(_parsed(annotation), Scope(function, {}, {}))
    return _of_evaluated_annotation(annotation)


def _annotation(function: FunctionType) -> Any:
    """Return the return annotation as it is: from Python 3.14 on, its text, since it may not be evaluated yet."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format, get_annotations

        return get_annotations(function, format=Format.STRING).get("return")
    return function.__annotations__.get("return")


def _of_evaluated_annotation(annotation: Any) -> Expected:
    origin = typing.get_origin(annotation) or annotation
    if origin in (typing.Union, types.UnionType):
        return _of_union(map(_of_evaluated_annotation, typing.get_args(annotation)))
    if isinstance(origin, type):
        return Expected.AWAITABLE if issubclass(origin, Awaitable) else Expected.PLAIN
    return Expected.UNKNOWN


@functools.lru_cache(maxsize=1024)
def _parsed(annotation: str) -> ast.expr:
    try:
        return ast.parse(annotation.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return ast.Constant(None)


def _of_written_annotation(expression: ast.expr, scope: Scope) -> Expected:
    match expression:
        case ast.Constant(value=str(text)):
            return _of_written_annotation(_parsed(text), scope)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _of_union(_of_written_annotation(one, scope) for one in (left, right))
        case ast.Subscript(value=generic, slice=inside):
            if _last_name(generic) == "Union" and isinstance(inside, ast.Tuple):
                return _of_union(_of_written_annotation(one, scope) for one in inside.elts)
            return _of_written_annotation(generic, scope)
        case ast.Name() | ast.Attribute():
            meant = scope.look_up(expression)
            if meant is not UNKNOWN:
                return _of_evaluated_annotation(meant)
            known = _last_name(expression) in ("Awaitable", "Coroutine", "Future", "Task")  # imported for checkers only
            return Expected.AWAITABLE if known else Expected.UNKNOWN
        case _:
            return Expected.UNKNOWN


def _last_name(expression: ast.expr) -> str | None:
    match expression:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return None


def _of_union(members: Iterable[Expected]) -> Expected:
    kinds = set(members)
    if Expected.AWAITABLE not in kinds and Expected.EITHER not in kinds:
        return Expected.UNKNOWN
    return Expected.AWAITABLE if kinds == {Expected.AWAITABLE} else Expected.EITHER
