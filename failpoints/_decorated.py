"""A decorated function: the visits around its calls, whatever kind of function it is."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from types import CodeType, MethodType
from typing import Any, Self, cast

import wrapt

from . import _environment, _sites
from ._actions import Cancelled, Outcome, Return
from ._context import Context
from ._convert import Converter, returned_value
from ._early_return import DecoratedCall, decorated_code
from ._functions import Kind, described, kind_of, underlying_function
from ._messages import did_you_mean, shown
from ._registry import ARMED
from ._visit import Declaration, refusals, visit, visit_sync
from .errors import FailpointCancelled, FailpointUsageError

__all__ = ["decorated"]

# A method written in C, which wrapt calls at the cost of a test; that it answers with a number is all the same.
_armed = cast(Callable[[], bool], ARMED.__len__)


def decorated(function: Any, declaration: Declaration, convert: Converter | None) -> Any:
    """The function with its two failpoints; itself while failpoints are not enabled.

    Raises `FailpointUsageError` for what is no function.
    """
    if isinstance(function, (classmethod, staticmethod)):
        method: Any = cast(Any, function)
        inner = decorated(method.__func__, declaration, convert)
        return method if inner is method.__func__ else type(method)(inner)
    _check_function(declaration.name, function)
    wrapper = _Wrapper(function, declaration, convert)
    return wrapper if _environment.ENABLED else function


class _Wrapper(wrapt.FunctionWrapper[..., Any]):
    """What stands in the function's place: the function itself to whoever looks, or calls while nothing is armed."""

    def __init__(self, function: Any, declaration: Declaration, convert: Converter | None) -> None:
        super().__init__(function, _Decorated(function, declaration, convert).called, enabled=_armed)
        self._self_given = function, declaration, convert
        self._self_binds: bool = hasattr(function, "__get__")

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        # A bound method of this very object, not one of wrapt's own kind: binding is cheap, and a method that
        # was stored before anything was configured still comes through here.
        return self if instance is None or not self._self_binds else MethodType(self, instance)

    def __set_name__(self, owner: type, name: str) -> None:
        if name in ("__init_subclass__", "__class_getitem__"):  # class methods without saying so, if plain functions
            setattr(owner, name, classmethod(self))

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    # Pickled and copied as functions are: by name, and as the very same.

    def __reduce_ex__(self, protocol: Any) -> Any:
        function: Any = self.__wrapped__
        return getattr(function, "__qualname__", None) or (decorated, self._self_given)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self


class _Decorated:
    """A decorated function: the visits around its calls."""

    def __init__(self, function: Any, declaration: Declaration, convert: Converter | None) -> None:
        self.declaration = declaration
        self.convert = convert
        self.name = declaration.name
        self.after = f"{declaration.name}:after"
        self.function = function
        self.qualname = described(function)
        self.function_name: str = getattr(function, "__name__", self.qualname)
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
        written = underlying or underlying_function(inspect.unwrap(function))  # lru_cache, say, is not where it is
        if written is not None:
            for name in (self.name, self.after):
                _sites.declare(name, self.qualname, written.__code__)

    def called(self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call while anything is configured, with the arguments that the function itself takes."""
        if self.parameters is not None:
            try:
                self.parameters.bind(*args, **kwargs)
            except TypeError:
                return self.function(*args, **kwargs)  # raises its own TypeError, here and now
        started: Any = self.run(args, kwargs)
        if self.run != self.run_sync:
            # What stands in a warning, a task's name or a debugger.
            started.__name__, started.__qualname__ = self.function_name, self.qualname
        return started

    def run_sync(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        context = functools.partial(self.context, args, kwargs)
        outcome = visit_sync(self.name, self.declaration, context, self.qualname)
        if outcome:
            return self.value(self.name, outcome)
        call = DecoratedCall(inspect.currentframe(), self.code)
        try:
            result = self.function(*args, **kwargs)
        except BaseException as error:
            left = call.asked_by(error)
            if left is None:
                raise
            result = self.value(*left)
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
        call = DecoratedCall(getattr(body, "cr_frame", None) or getattr(body, "gi_frame", None))
        try:
            result = await body
        except BaseException as error:
            left = call.asked_by(error)
            if left is None:
                raise
            result = self.value(*left)
        finally:
            call.end()
        outcome = await visit(self.after, self.declaration, context)
        return self.value(self.after, outcome) if outcome else result

    def run_generator(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generator[Any, Any, Any]:
        context = functools.partial(self.context, args, kwargs)
        outcome = visit_sync(self.name, self.declaration, context, self.qualname)
        if outcome:
            return self.value(self.name, outcome)
        body: Generator[Any, Any, Any] = self.function(*args, **kwargs)
        call = DecoratedCall(getattr(body, "gi_frame", None))
        step = functools.partial(next, body)
        result: Any = None
        closed = False
        try:
            # Not `yield from`, which makes a close() of a GeneratorExit that is thrown in.
            while True:
                value = step()
                try:
                    sent = yield value
                except BaseException as error:
                    closed = closed or isinstance(error, GeneratorExit)
                    step = functools.partial(body.throw, error)
                else:
                    step = functools.partial(body.send, sent)
        except StopIteration as stop:
            result = stop.value
        except BaseException as error:
            left = call.asked_by(error)
            if left is None:
                raise
            result = self.value(*left)
        finally:
            call.end()
            del step  # it may hold an exception, whose traceback holds this frame
        if closed:
            return result
        outcome = visit_sync(self.after, self.declaration, context, self.qualname)
        return self.value(self.after, outcome) if outcome else result

    async def run_async_generator(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncGenerator[Any, Any]:
        context = functools.partial(self.context, args, kwargs)
        outcome = await visit(self.name, self.declaration, context)
        if outcome:
            self.end_iteration(self.name, outcome)
            return
        body = self.function(*args, **kwargs)
        call = DecoratedCall(getattr(body, "ag_frame", None))
        step = _first_step(body)
        closed = False
        try:
            while True:
                value = await step
                try:
                    sent = yield value
                except BaseException as error:
                    closed = closed or isinstance(error, GeneratorExit)
                    step = body.athrow(error)
                else:
                    step = body.asend(sent)
        except StopAsyncIteration:
            pass
        except BaseException as error:
            left = call.asked_by(error)
            if left is None:
                raise
            self.end_iteration(*left)
        finally:
            call.end()
            del step
        if closed:
            return
        outcome = await visit(self.after, self.declaration, context)
        if outcome:
            self.end_iteration(self.after, outcome)

    def value(self, name: str, outcome: Outcome) -> Any:
        """What a call returns whose failpoint said so."""
        if isinstance(outcome, Cancelled):
            raise FailpointCancelled(name)
        assert isinstance(outcome, Return)
        with refusals(name):
            return returned_value(name, outcome, self.function, self.convert)

    def end_iteration(self, name: str, outcome: Outcome) -> None:
        """An async generator ends, which has no way to return a value."""
        if isinstance(outcome, Cancelled):
            raise FailpointCancelled(name)
        if isinstance(outcome, Return) and outcome.value is not None:
            with refusals(name):
                raise FailpointUsageError(
                    f"failpoint {name!r} was told to return {outcome.value!r} from the async generator"
                    f" {self.qualname}, which can only end: configure 'return' without a value"
                )

    def context(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Context:
        """What the call says about itself."""
        if self.context_parameters is not None:
            try:
                bound = self.context_parameters.bind(*args, **kwargs)
            except TypeError:  # a wrapper that takes other arguments than the function it tells of
                return {}
            bound.apply_defaults()
            values = {**kwargs, **bound.arguments}
            return {name: values[name] for name in self.declaration.context if name in values}
        return self.declaration.context_of("the call's own arguments, self included", *args, **kwargs)


def _first_step(body: AsyncGenerator[Any, Any]) -> Any:
    """The first step of a generator that no loop is to close: the one around it is, and closes this one."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return body.__anext__()
    finally:
        sys.set_asyncgen_hooks(*hooks)


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
        raise FailpointUsageError(f"{what}; got {shown(function)}")


def _own_parameters(function: Any) -> inspect.Signature | None:
    """The signature, where it is sure that a call which does not fit it fails."""
    underlying = underlying_function(function)
    if underlying is None or hasattr(underlying, "__signature__") or hasattr(function, "__signature__"):
        return None
    try:
        return inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # a partial with arguments that its function does not take
        return None


def _context_parameters(name: str, context: Any, function: Any) -> inspect.Signature | None:
    """The signature by which `context=["parameter", …]` finds its values; `None` for any other context."""
    what = f"failpoint {name!r}: context="
    if context is None or isinstance(context, Mapping) or callable(context):
        return None
    if isinstance(context, str) or not isinstance(context, Sequence):
        hint = f"; did you mean [{context!r}]?" if isinstance(context, str) else ""
        raise FailpointUsageError(
            f"{what} is a mapping, a callable that returns one, or a list of parameter names;"
            f" got {shown(context)}{hint}"
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise FailpointUsageError(f"{what} names parameters, but {error}; give a callable") from None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        return signature
    for parameter in cast(Sequence[object], context):
        if parameter not in signature.parameters:
            known = ", ".join(signature.parameters) or "none"
            raise FailpointUsageError(
                f"{what} names {parameter!r}, which is no parameter of {described(function)} (it has: {known})"
                f"{did_you_mean(str(parameter), signature.parameters)}"
            )
    return signature
