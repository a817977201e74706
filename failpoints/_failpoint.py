"""`failpoint`: a named place, as a decorator, awaited inline, or hit in sync code."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from types import CodeType, FunctionType, MethodType
from typing import Any, TypeVar, cast

import wrapt

from . import _environment, _sites
from ._actions import Cancelled, Outcome, Return
from ._context import Context
from ._convert import Converter, returned_value
from ._early_return import DecoratedCall, decorated_code
from ._functions import Kind, described, kind_of, underlying_function
from ._grammar import check_name
from ._registry import ARMED
from ._suggest import did_you_mean
from ._visit import (
    CONTINUE,
    Cancel,
    Declaration,
    caller_frame,
    check_new_place,
    checked_context,
    visit,
    visit_sync,
)
from .errors import FailpointCancelled, FailpointUsageError

__all__ = ["MISSING", "failpoint", "refuse_name"]

# A method written in C, which wrapt calls at the cost of a test; that it answers with a number is all the same.
_armed = cast(Callable[[], bool], ARMED.__len__)

F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, Any, Any] | staticmethod[Any, Any]")

MISSING: Any = object()


class failpoint(Declaration):
    """To name a place where a test can step in: do nothing there until it is configured.

    One object, three uses; kept in a variable it serves again and again:

    - `@failpoint("backup", context=["tenant_id"])` on a function or method of any kind, a class method, a static
      method or a generator: visits `backup` before the body and `backup:after` once it has completed;
    - `outcome = await failpoint("backup.upload")` inline in async code: each `await` is a visit;
    - `outcome = failpoint("backup.parse").hit()` inline in sync code.

    An outcome is `Continue()` (false), `Return(value)` or `Cancelled()` (both true).

    `context` is a mapping of keys to values; or a callable given the call's own arguments (`self` included; none
    inline) that returns one; or, on a decorator, the names of parameters to take from the call. It is evaluated
    only when this failpoint is configured. `raises` are the exception types that this place can really raise, which
    `raise(Name)` in text may name beside the builtin ones. `convert` makes a returned value out of a text;
    without it the function's return annotation says how. `cancel` is an event, or a callable that returns one
    or `None`: once set it ends a wait, inline with `Cancelled()`, in a decorated function with
    `FailpointCancelled`.

    Raises `FailpointUsageError` or `FailpointNameError` for what cannot be a site: at decoration, or at the first
    visit while anything is configured. A visit raises what it was configured to raise, `FailpointTimeout` for a
    pause that outlasted its limit, and `FailpointUsageError` for what this place cannot do. A call that began
    while nothing was configured is not intercepted.

    >>> @failpoint("double", context=["number"])
    ... def double(number: int) -> int:
    ...     return 2 * number
    >>> with configured("double", "return(0)", context={"number": 4}):
    ...     double(3), double(4)
    (6, 0)

    The idea of named failpoints is FreeBSD's `fail(9)`, by way of the Rust crates `fail` and `neon_failpoint`.
    """

    __slots__ = ("convert",)

    def __init__(
        self,
        name: str = MISSING,
        /,
        *,
        context: Context | Callable[..., Context] | Sequence[str] | None = None,
        raises: tuple[type[BaseException], ...] = (),
        convert: Converter | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        if name.__class__ is not str:
            refuse_name("failpoint", name)
        self.name = name
        self.context = context
        self.raises = raises
        self.convert = convert
        self.cancel = cancel

    def __repr__(self) -> str:
        return f"failpoint({self.name!r})"

    # outcome = await failpoint("name")

    def __await__(self) -> Generator[Any, Any, Outcome]:
        if ARMED:
            check_new_place(self, caller_frame(1))
            return (yield from visit(self.name, self, self.own_context).__await__())
        return CONTINUE

    # outcome = failpoint("name").hit()

    def hit(self) -> Outcome:
        """Visit the failpoint in sync code and return the outcome.

        In a thread that runs an event loop a `pause` or `sleep` is a `FailpointUsageError`.
        """
        if ARMED:
            frame = caller_frame(1)
            check_new_place(self, frame)
            return visit_sync(self.name, self, self.own_context, frame.f_code.co_qualname)
        return CONTINUE

    # @failpoint("name")

    def __call__(self, function: F, /) -> F:
        """Decorate a function; raises `FailpointUsageError` for what is none."""
        if isinstance(function, (classmethod, staticmethod)):
            inner: Any = self(function.__func__)
            return function if inner is function.__func__ else type(function)(inner)
        _check_function(self.name, function)
        decorated = _Decorated(self, function)
        return decorated.wrapper() if _environment.ENABLED else function  # type: ignore[return-value]


class _Wrapper(wrapt.FunctionWrapper[..., Any]):
    """What stands in the function's place: the function itself to whoever looks, or calls while nothing is armed."""

    _self_binds: bool

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        # A bound method of this very object, not one of wrapt's own kind: binding is cheap, and a method that
        # was stored before anything was configured still comes through here.
        return self if instance is None or not self._self_binds else MethodType(self, instance)

    def __reduce_ex__(self, protocol: Any) -> str:
        return str(self.__wrapped__.__qualname__)  # pickled and copied as functions are: by name


class _Decorated:
    """A decorated function: the visits around its calls."""

    def __init__(self, declaration: failpoint, function: Any) -> None:
        declaration.check()
        self.declaration = declaration
        self.name = declaration.name
        self.after = f"{declaration.name}:after"
        self.function = function
        self.qualname = described(function)
        underlying = underlying_function(function)
        self.code: CodeType | None = underlying.__code__ if underlying is not None else None
        self.parameters = _own_parameters(function)
        self.context_parameters = _context_parameters(self.name, declaration.context, function)
        self.run = {
            Kind.SYNC: self.run_sync,
            Kind.ASYNC: self.run_async,
            Kind.GENERATOR: self.run_generator,
            Kind.ASYNC_GENERATOR: self.run_async_generator,
        }[kind_of(function)]
        if self.code is not None:
            decorated_code.add(self.code)
            for name in (self.name, self.after):
                _sites.declare(name, self.qualname, self.code)

    def wrapper(self) -> _Wrapper:
        """The function that stands in the place of the decorated one."""
        wrapper = _Wrapper(self.function, self.called, enabled=_armed)
        wrapper._self_binds = hasattr(type(self.function), "__get__")
        return wrapper

    def called(self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call while anything is configured, with the arguments that the function itself takes."""
        if self.parameters is not None:
            try:
                self.parameters.bind(*args, **kwargs)
            except TypeError:
                return self.function(*args, **kwargs)  # raises its own TypeError, here and now
        return self.run(args, kwargs)

    def run_sync(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        context = functools.partial(self.context, args, kwargs)
        outcome = visit_sync(self.name, self.declaration, context, self.qualname)
        if outcome:
            return self.value(self.name, outcome)
        call = DecoratedCall(caller_frame(), self.code)
        try:
            result = self.function(*args, **kwargs)
        except BaseException as error:
            left = call.asked_by(error)
            if left is None:
                raise
            result = self.value(left.name, left.outcome)
        finally:
            call.end()
        outcome = visit_sync(self.after, self.declaration, context, self.qualname)
        return self.value(self.after, outcome) if outcome else result

    async def run_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        context = functools.partial(self.context, args, kwargs)
        outcome = await visit(self.name, self.declaration, context)
        if outcome:
            return self.value(self.name, outcome)
        body = self.function(*args, **kwargs)
        call = DecoratedCall(getattr(body, "cr_frame", None))
        try:
            result = await body
        except BaseException as error:
            left = call.asked_by(error)
            if left is None:
                raise
            result = self.value(left.name, left.outcome)
        finally:
            call.end()
        outcome = await visit(self.after, self.declaration, context)
        return self.value(self.after, outcome) if outcome else result

    def run_generator(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generator[Any, Any, Any]:
        context = functools.partial(self.context, args, kwargs)
        outcome = visit_sync(self.name, self.declaration, context, self.qualname)
        if outcome:
            return self.value(self.name, outcome)
        body = self.function(*args, **kwargs)
        call = DecoratedCall(getattr(body, "gi_frame", None))
        try:
            result = yield from body
        except BaseException as error:
            left = call.asked_by(error)
            if left is None:
                raise
            result = self.value(left.name, left.outcome)
        finally:
            call.end()
        outcome = visit_sync(self.after, self.declaration, context, self.qualname)
        return self.value(self.after, outcome) if outcome else result

    async def run_async_generator(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, Any]:
        context = functools.partial(self.context, args, kwargs)
        outcome = await visit(self.name, self.declaration, context)
        if outcome:
            self.end_iteration(self.name, outcome)
            return
        body = self.function(*args, **kwargs)
        call = DecoratedCall(getattr(body, "ag_frame", None))
        step = _first_step(body)
        try:
            while True:
                value = await step
                try:
                    sent = yield value
                except GeneratorExit:
                    raise
                except BaseException as error:
                    step = body.athrow(error)
                else:
                    step = body.asend(sent)
        except StopAsyncIteration:
            pass
        except BaseException as error:
            left = call.asked_by(error)
            if left is None:
                raise
            self.end_iteration(left.name, left.outcome)
        finally:
            call.end()
            await body.aclose()
        outcome = await visit(self.after, self.declaration, context)
        if outcome:
            self.end_iteration(self.after, outcome)

    def value(self, name: str, outcome: Outcome) -> Any:
        """What a call returns whose failpoint said so."""
        if isinstance(outcome, Cancelled):
            raise FailpointCancelled(name)
        assert isinstance(outcome, Return)
        return returned_value(name, outcome, self.function, self.declaration.convert)

    def end_iteration(self, name: str, outcome: Outcome) -> None:
        """An async generator ends, which has no way to return a value."""
        if isinstance(outcome, Cancelled):
            raise FailpointCancelled(name)
        if isinstance(outcome, Return) and outcome.value is not None:
            raise FailpointUsageError(
                f"failpoint {name!r} was told to return {outcome.value!r} from the async generator"
                f" {self.qualname}, which can only end: configure 'return' without a value"
            )

    def context(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Context:
        """What the call says about itself."""
        given = self.declaration.context
        if self.context_parameters is not None:
            try:
                bound = self.context_parameters.bind(*args, **kwargs)
            except TypeError:  # a wrapper that takes other arguments than the function it tells of
                return {}
            bound.apply_defaults()
            values = {**kwargs, **bound.arguments}
            return {name: values[name] for name in given if name in values}
        if not callable(given):
            return {} if given is None else checked_context(self.name, given)
        try:
            result = given(*args, **kwargs)
        except TypeError as error:
            raise FailpointUsageError(
                f"failpoint {self.name!r}: context= is given the call's own arguments, self included: {error}"
            ) from error
        return checked_context(self.name, result)


def _first_step(body: AsyncGenerator[Any, Any]) -> Any:
    """The first step of a generator that no loop is to close: the one around it is, and closes this one."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return body.__anext__()
    finally:
        sys.set_asyncgen_hooks(*hooks)


def refuse_name(kind: str, name: Any) -> None:
    """Say what was forgotten where a name was to be; a `str` of another class passes."""
    if name is MISSING or (callable(name) and not isinstance(name, str)):
        above = "" if name is MISSING else f", above {described(name)}"
        raise FailpointUsageError(f'{kind} needs a name first: write {kind}("some.name"){above}')
    check_name(name)


def _check_function(name: str, function: object) -> None:
    what = f"@failpoint({name!r}) decorates a function"
    if isinstance(function, type):
        raise FailpointUsageError(f"{what}, not the class {function.__qualname__}: decorate its methods")
    if inspect.ismethod(function):
        raise FailpointUsageError(
            f"{what}, not the bound method {described(function)}: decorate it where the class defines it"
        )
    if inspect.iscoroutine(function):
        raise FailpointUsageError(f"{what}, not a coroutine: leave out the call of {described(function)}")
    if isinstance(function, (property, functools.cached_property)):
        raise FailpointUsageError(f"{what}, not a property: put it under the property's decorator")
    if not callable(function):
        raise FailpointUsageError(f"{what}; got {function!r}")


def _own_parameters(function: Any) -> inspect.Signature | None:
    """The signature, where it is sure that a call which does not fit it fails."""
    if isinstance(function, FunctionType) and not hasattr(function, "__signature__"):
        return inspect.signature(function, follow_wrapped=False)
    return None


def _context_parameters(name: str, context: Any, function: Any) -> inspect.Signature | None:
    """The signature by which `context=["parameter", …]` finds its values; `None` for any other context."""
    what = f"failpoint {name!r}: context="
    if context is None or isinstance(context, Mapping) or callable(context):
        return None
    if isinstance(context, str) or not isinstance(context, Sequence):
        hint = f"; did you mean [{context!r}]?" if isinstance(context, str) else ""
        raise FailpointUsageError(
            f"{what} is a mapping, a callable that returns one, or a list of parameter names; got {context!r}{hint}"
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise FailpointUsageError(f"{what} names parameters, but {error}; give a callable") from None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        return signature
    for parameter in context:
        if parameter not in signature.parameters:
            known = ", ".join(signature.parameters) or "none"
            raise FailpointUsageError(
                f"{what} names {parameter!r}, which is no parameter of {described(function)} (it has: {known})"
                f"{did_you_mean(str(parameter), signature.parameters)}"
            )
    return signature
