"""A decorated function: the visits around its calls, whatever kind of function it is."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from types import CodeType, FrameType, MethodType
from typing import Any, Self, TypeAlias, cast

import wrapt

from .._core import environment, known_sites
from .._core.actions import Cancelled, Outcome, Return
from .._core.arming import ARMED, armed_copy, can_arm, copied, own_code
from .._core.context import Context
from .._core.functions import Kind, annotated_as_wrapped, callable_name, kind_of, underlying_function
from .._core.messages import did_you_mean, safe_repr
from .._core.own_calls import passes_on
from .._core.site import Site
from .._core.visit import recording_usage_errors, visit, visit_sync
from ..errors import FailpointCancelled, FailpointUsageError
from .convert import returned_value
from .early_return import DecoratedCall, decorated_code, sync_call

# A method written in C, which wrapt calls at the cost of a test; that it answers with a number is all the same.
_armed = cast(Callable[[], bool], ARMED.__len__)

_GetContext: TypeAlias = Callable[[], Context]

_OWN_ARGUMENTS = "the call's own arguments, self included"


def decorated(function: Any, site: Site) -> Any:
    """The function with its two failpoints; itself while failpoints are not enabled.

    Raises `FailpointUsageError` for what is no function.
    """
    if isinstance(function, (classmethod, staticmethod)):
        method: Any = cast(Any, function)
        inner = decorated(method.__func__, site)
        return method if inner is method.__func__ else type(method)(inner)
    _check_function(site.name, function)
    visits = Decorated(function, site)
    if not environment.ENABLED:
        return function
    return armed_copy(function, visits) if can_arm(function) and visits.knows_calls() else _Wrapper(function, visits)


@annotated_as_wrapped
class _Wrapper(wrapt.FunctionWrapper[..., Any]):
    """What stands in the place of what is no plain function: it itself to whoever looks, or calls while off."""

    def __init__(self, function: Any, visits: Decorated) -> None:
        super().__init__(function, visits.called_as_written, enabled=_armed)
        self._self_given = function, visits.site
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


class Decorated:
    """A decorated function: the visits around its calls."""

    def __init__(self, function: Any, site: Site) -> None:
        self.site = site
        self.name = site.name
        self.after = f"{site.name}:after"
        self.function = function
        self.qualname = callable_name(function)
        self.function_name: str = getattr(function, "__name__", self.qualname)
        underlying = underlying_function(function)
        self.code: CodeType | None = own_code(underlying) if underlying is not None else None
        self.kind = kind_of(function)
        self.context_parameters = _context_parameters(self.name, site.context, function)
        if self.code is not None:
            decorated_code.add(self.code)
        written = underlying or underlying_function(inspect.unwrap(function))  # lru_cache, say, is not where it is
        self.written = own_code(written) if written is not None else None
        if self.written is not None:
            for name in (self.name, self.after):
                known_sites.declare(name, self.qualname, self.written)

    @functools.cached_property
    def parameters(self) -> inspect.Signature | None:
        """The function's own, where it is sure that a call which does not fit them fails."""
        return _own_parameters(self.function)

    # calls

    @passes_on
    def called_as_written(self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call while anything is configured, with the arguments that the caller wrote."""
        if not self.fits(args, kwargs):
            return self.function(*args, **kwargs)  # raises its own TypeError, here and now
        return self.prepared(args, kwargs, self.context)()

    def fits(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the function takes these arguments, as far as that is known."""
        if self.parameters is None:
            return True
        try:
            self.parameters.bind(*args, **kwargs)
        except TypeError:
            return False
        return True

    def ready(self, args: tuple[Any, ...], keyword_only: tuple[Any, ...], more: Mapping[str, Any]) -> Callable[[], Any]:
        """A call while anything is configured, with a value for each parameter: what is to be called for it."""
        assert self.code is not None
        names = self.code.co_varnames[self.code.co_argcount :]
        kwargs = {**dict(zip(names, keyword_only, strict=False)), **more}
        return self.prepared(args, kwargs, self.context_by_name if callable(self.site.context) else self.context)

    def prepared(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], context: Callable[..., Context]
    ) -> Callable[[], Any]:
        begin = self.run_sync if self.kind is Kind.SYNC else self.start
        return functools.partial(begin, args, kwargs, functools.partial(context, args, kwargs))

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any], context: _GetContext) -> Any:
        run = {
            Kind.ASYNC: self.run_async,
            Kind.GENERATOR: self.run_generator,
            Kind.ASYNC_GENERATOR: self.run_async_generator,
        }[self.kind]
        started: Any = run(args, kwargs, context)
        # What stands in a warning, a task's name or a debugger.
        started.__name__, started.__qualname__ = self.function_name, self.qualname
        return started

    @passes_on
    def run_sync(self, args: tuple[Any, ...], kwargs: dict[str, Any], context: _GetContext) -> Any:
        outcome = visit_sync(self.name, self.site, context, self.qualname)
        if outcome:
            return self.value(self.name, outcome)
        call = sync_call(self.code)
        try:
            result = self.function(*args, **kwargs)
        except BaseException as error:
            left = call.asked_by(error)
            if left is None:
                raise
            result = self.value(*left)
        finally:
            call.end()
        outcome = visit_sync(self.after, self.site, context, self.qualname)
        return self.value(self.after, outcome) if outcome else result

    @passes_on
    async def run_async(self, args: tuple[Any, ...], kwargs: dict[str, Any], context: _GetContext) -> Any:
        outcome = await visit(self.name, self.site, context)
        if outcome:
            return self.value(self.name, outcome)
        body = self.function(*args, **kwargs)
        call = DecoratedCall(_frame_of(body))
        try:
            result = await body
        except BaseException as error:
            left = call.asked_by(error)
            if left is None:
                raise
            result = self.value(*left)
        finally:
            call.end()
        outcome = await visit(self.after, self.site, context)
        return self.value(self.after, outcome) if outcome else result

    @passes_on
    def run_generator(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], context: _GetContext
    ) -> Generator[Any, Any, Any]:
        outcome = visit_sync(self.name, self.site, context, self.qualname)
        if outcome:
            return self.value(self.name, outcome)
        body: Generator[Any, Any, Any] = self.function(*args, **kwargs)
        call = DecoratedCall(_frame_of(body))
        step = body.__next__
        result: Any = None
        closed = False
        try:
            # Not `yield from`, which makes a close() of a GeneratorExit that is thrown in.
            while True:
                value = step()
                try:
                    sent = yield value
                except GeneratorExit as error:
                    closed = True
                    step = functools.partial(body.throw, error)
                except BaseException as error:
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
        outcome = visit_sync(self.after, self.site, context, self.qualname)
        return self.value(self.after, outcome) if outcome else result

    @passes_on
    async def run_async_generator(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], context: _GetContext
    ) -> AsyncGenerator[Any, Any]:
        outcome = await visit(self.name, self.site, context)
        if outcome:
            self.end_iteration(self.name, outcome)
            return
        body = self.function(*args, **kwargs)
        call = DecoratedCall(_frame_of(body))
        step = _first_step(body)
        closed = False
        try:
            while True:
                value = await step
                try:
                    sent = yield value
                except GeneratorExit as error:
                    closed = True
                    step = body.athrow(error)
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
            self.end_iteration(*left)
        finally:
            call.end()
            del step
        if closed:
            return
        outcome = await visit(self.after, self.site, context)
        if outcome:
            self.end_iteration(self.after, outcome)

    def value(self, name: str, outcome: Outcome) -> Any:
        """What a call returns whose failpoint said so."""
        if isinstance(outcome, Cancelled):
            raise FailpointCancelled(name)
        assert isinstance(outcome, Return)
        with recording_usage_errors(name):
            return returned_value(name, outcome, self.function, self.site.convert)

    def end_iteration(self, name: str, outcome: Outcome) -> None:
        """An async generator ends, which has no way to return a value."""
        if isinstance(outcome, Cancelled):
            raise FailpointCancelled(name)
        if isinstance(outcome, Return) and outcome.value is not None:
            with recording_usage_errors(name):
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
            return {name: values[name] for name in self.site.context if name in values}
        return self.site.context_of(_OWN_ARGUMENTS, *args, **kwargs)

    def context_by_name(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Context:
        """What a callable says of a call that is known only by its values: some may be defaults that nobody wrote."""
        told = inspect.signature(self.site.context)
        for written in self.spellings(args, kwargs):
            try:
                told.bind(**written)
            except TypeError:
                continue
            return self.site.context_of(_OWN_ARGUMENTS, **written)
        return self.context(args, kwargs)

    def spellings(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        assert self.code is not None
        names = self.code.co_varnames[: self.code.co_argcount]
        if len(args) > len(names):
            return
        values = dict(zip(names, args, strict=True)) | kwargs
        positional: tuple[Any, ...] = self.function.__defaults__ or ()
        defaults = dict(zip(reversed(names), reversed(positional), strict=False)) | (self.function.__kwdefaults__ or {})
        yield {name: value for name, value in values.items() if name not in defaults or value is not defaults[name]}
        yield values

    # what a trampoline needs to know

    def knows_calls(self) -> bool:
        """Whether the values of the parameters say all of a call that `context=` may ask for."""
        context = self.site.context
        if context is None or isinstance(context, Mapping):
            return True
        if any(hasattr(self.function, name) for name in ("__wrapped__", "__signature__")):
            return False
        return not callable(context) or _goes_by_name(context, own_code(self.function))

    def rewrite(self, code: CodeType) -> None:
        """The function was given this code by somebody else: a reloader, say."""
        self.function = copied(self.function, code, self.function.__closure__)
        self.code = code
        self.kind = kind_of(self.function)
        decorated_code.add(code)
        if self.context_parameters is not None:
            self.context_parameters = inspect.signature(self.function)


def _frame_of(body: Any) -> FrameType | None:
    """The frame of a coroutine or generator, if it is one of Python's own."""
    names = ("cr_frame", "gi_frame", "ag_frame")
    return next((getattr(body, name) for name in names if hasattr(body, name)), None)


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
            f"{what}, not the bound method {callable_name(function)}: decorate it where the class defines it"
        )
    if inspect.iscoroutine(function):
        raise FailpointUsageError(f"{what}, not a coroutine: leave out the call of {callable_name(function)}")
    if isinstance(function, (property, functools.cached_property)):
        raise FailpointUsageError(f"{what}, not a property: put it under the property's decorator")
    if not callable(function):
        raise FailpointUsageError(f"{what}; got {safe_repr(function)}")


def _goes_by_name(context: Callable[..., Any], code: CodeType) -> bool:
    """Whether it is all the same to the callable how a call was written: it takes what the function takes first."""
    try:
        parameters = inspect.signature(context).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    keyword_only = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    first = list(names[: min(len(positional), code.co_argcount)])
    return positional == first and keyword_only <= set(names) and len(positional) + len(keyword_only) == len(parameters)


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
            f" got {safe_repr(context)}{hint}"
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
                f"{what} names {parameter!r}, which is no parameter of {callable_name(function)} (it has: {known})"
                f"{did_you_mean(str(parameter), signature.parameters)}"
            )
    return signature
