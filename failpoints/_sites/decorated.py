"""A decorated function: the visits around its calls, whatever kind of function it is."""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from types import CodeType, FrameType, FunctionType
from typing import Any, TypeAlias

from .._core import environment, known_sites
from .._core.actions import Cancelled, Outcome, Return
from .._core.arming import armed_copy, can_arm, keywords_of, own_code
from .._core.context import Context
from .._core.functions import (
    Kind,
    callable_name,
    is_method_object,
    kind_of,
    makes_methods,
    signature_of,
    underlying_function,
)
from .._core.messages import safe_repr
from .._core.perform import CONTINUE
from .._core.reentrancy import transparent
from .._core.site import Site
from .._core.suspensions import observed
from .._core.tracebacks import OwnFramesHidden, hide_own_frames, own_frames_hidden
from .._core.visit import may_prevent, recording_usage_errors, visit, visit_sync
from ..errors import FailpointCancelled, FailpointUsageError
from .awaitable import Visits, Work, awaited, gives, named
from .call_context import CallContext
from .convert import returned_value
from .disguise import Disguise, Expected
from .early_return import DecoratedCall, decorated_code, sync_call

_GetContext: TypeAlias = Callable[[], Context]


def decorated(function: Any, site: Site) -> Any:
    """Return the function with its two failpoints, or the function itself while failpoints are not enabled.

    Raises `FailpointUsageError` for a value that is not a function.
    """
    if is_method_object(function):
        inner = decorated(function.__func__, site)
        return function if inner is function.__func__ else type(function)(inner)
    _check_function(site.name, function)
    visits = Decorated(function, site)
    if not environment.ENABLED:
        return function
    if can_arm(function) and visits.call_context.needs_only_values():
        return armed_copy(function, site.name, visits)
    from .decorated_wrapper import DecoratedWrapper  # imported here because few functions need it, or wrapt

    return DecoratedWrapper(function, visits)


class Decorated:
    """The visits around the calls of one function, whichever way the calls come here."""

    def __init__(self, function: Any, site: Site) -> None:
        self.site = site
        self.call_context = CallContext(function, site)
        self._function = function
        self._name = site.name
        self._after = f"{site.name}:after"
        self._qualname = callable_name(function)
        self._kind = kind_of(function)
        self._disguise = Disguise()
        underlying = underlying_function(function)
        self._code: CodeType | None = own_code(underlying) if underlying is not None else None
        if self._code is not None:
            decorated_code.add(self._code)
        written = underlying or underlying_function(inspect.unwrap(function))  # an lru_cache is a C object
        site.code = self.source_code = own_code(written) if written is not None else None
        self._frames = OwnFramesHidden(self.source_code, None if written is None else written.__globals__)
        if self.source_code is not None:
            for name in (self._name, self._after):
                known_sites.register_function(name, self._qualname, self.source_code, site.raises)

    def replace_function(self, function: FunctionType) -> None:
        """Run another function from now on: a reloader, for example, replaced the code of this one."""
        self._function = function
        self._code = function.__code__
        self._kind = kind_of(function)
        self._disguise = Disguise()  # what earlier calls returned may not be true of this one
        self.call_context.replace_function(function)
        decorated_code.add(self._code)

    # calls

    @transparent
    def call(self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function with the arguments as the caller wrote them, for a wrapt wrapper.

        A function that has bound itself is called as *wrapped*, with what it is bound to as *instance*.
        """
        with own_frames_hidden:
            if wrapped is not self._function:
                return self._bound(wrapped, instance).call(wrapped, instance, args, kwargs)
            if not self._fits(args, kwargs):
                return self._function(*args, **kwargs)  # raises its own TypeError, before any visit
            return self._prepare(args, kwargs, self.call_context.of_call)()

    def _bound(self, function: Any, receiver: Any) -> Decorated:
        """Return the visits around calls of *function*, which this function became when it was bound."""
        bound = copy.copy(self)
        bound.__dict__.pop("_parameters", None)
        bound.__dict__.update(_function=function, _kind=kind_of(function))
        bound.call_context = self.call_context.bound_to(receiver)
        return bound

    def prepare_call(
        self, args: tuple[Any, ...], keyword_only: tuple[Any, ...], more: Mapping[str, Any]
    ) -> Callable[[], Any]:
        """Return a function that makes the call, given a value for each parameter."""
        assert self._code is not None
        kwargs = keywords_of(self._code, keyword_only, more)
        return self._prepare(args, kwargs, self.call_context.of_values)

    def _fits(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Return whether the function takes these arguments, as far as that is known."""
        if self._parameters is None:
            return True
        try:
            self._parameters.bind(*args, **kwargs)
        except TypeError:
            return False
        return True

    @functools.cached_property
    def _parameters(self) -> inspect.Signature | None:
        """The function's signature, if a call that does not fit it is sure to fail."""
        function = self._function
        underlying = underlying_function(function)
        if underlying is None or hasattr(underlying, "__signature__") or hasattr(function, "__signature__"):
            return None
        try:
            return signature_of(function, follow_wrapped=False)
        except (TypeError, ValueError):  # a partial with arguments that its function does not take
            return None

    def _prepare(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], context: Callable[..., Context]
    ) -> Callable[[], Any]:
        begin = self._run_sync if self._kind is Kind.SYNC else self._start
        return functools.partial(begin, args, kwargs, functools.partial(context, args, kwargs))

    def _start(self, args: tuple[Any, ...], kwargs: dict[str, Any], context: _GetContext) -> Any:
        """Make the coroutine or generator of a call."""
        if self._kind is Kind.ASYNC_GENERATOR:
            body = functools.partial(self._function, *args, **kwargs)
            return named(self._run_async_generator(body, context), self._function)
        run = self._run_async if self._kind is Kind.ASYNC else self._run_generator
        return named(run(args, kwargs, context), self._function)

    @transparent
    def _run_sync(self, args: tuple[Any, ...], kwargs: dict[str, Any], context: _GetContext) -> Any:
        with self._frames:
            expected = self._disguise.expected(self._function, args, kwargs)
            visits = Visits(self.site, context, self._value, self._end_iteration, self._frames)
            if expected is Expected.COROUTINE and may_prevent(self._name):
                work = Work(functools.partial(self._call_to_await, args, kwargs))
                return named(awaited(work, visits), self._function)
            if expected is Expected.PLAIN:
                outcome = visit_sync(self._name, self.site, context, self._qualname)
                if outcome:
                    return self._value(self._name, outcome)
                visits.skips_name = True
            result, given = self._call(args, kwargs)
            if given and expected is not Expected.PLAIN:
                result = gives(result)
            if self._disguise.is_awaitable(result, args):
                if inspect.isasyncgen(result):
                    iterated = self._run_async_generator(lambda: result, context, visits_name=not visits.skips_name)
                    return named(iterated, result)
                from .stand_in import stand_in  # `import_for_visits` has imported it

                return stand_in(result, visits, args)
            if expected is not Expected.PLAIN:  # it was none, this time
                too_late = self.site.of_begun_work("a function that it calls")
                outcome = visit_sync(self._name, too_late, context, self._qualname)
                if outcome:
                    return self._value(self._name, outcome)
            outcome = visit_sync(self._after, self.site, context, self._qualname, result)
            return self._value(self._after, outcome) if outcome else result

    @transparent
    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, bool]:
        """Call the sync function, and return its result, and whether a scope inside has given that."""
        call = sync_call(self._code)
        try:
            return self._function(*args, **kwargs), False
        except BaseException as error:
            early = call.early_return_in(error)
            if early is None:
                raise
            return self._value(*early), True
        finally:
            call.end()

    @transparent
    def _call_to_await(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result, given = self._call(args, kwargs)
        return gives(result) if given else result

    @transparent
    async def _run_async(self, args: tuple[Any, ...], kwargs: dict[str, Any], context: _GetContext) -> Any:
        with self._frames:
            outcome = await visit(self._name, self.site, context)
            if outcome:
                return self._value(self._name, outcome)
            body = self._function(*args, **kwargs)
            call = DecoratedCall(_frame_of(body))
            try:
                result = await observed(self._name, body)
            except BaseException as error:
                early = call.early_return_in(error)
                if early is None:
                    raise
                result = self._value(*early)
            finally:
                call.end()
            outcome = await visit(self._after, self.site, context, result)
            return self._value(self._after, outcome) if outcome else result

    @transparent
    def _run_generator(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], context: _GetContext
    ) -> Generator[Any, Any, Any]:
        with self._frames:
            outcome = visit_sync(self._name, self.site, context, self._qualname)
            if outcome:
                return self._value(self._name, outcome)
            body: Generator[Any, Any, Any] = self._function(*args, **kwargs)
            call = DecoratedCall(_frame_of(body))
            step = body.__next__
            result: Any = None
            closed = False
            try:
                # Not `yield from`, which turns a GeneratorExit that is thrown in into a close().
                while True:
                    value = step()
                    try:
                        sent = yield value
                    except GeneratorExit as error:
                        closed = True
                        hide_own_frames(error)
                        step = functools.partial(body.throw, error)
                    except BaseException as error:
                        hide_own_frames(error)
                        step = functools.partial(body.throw, error)
                    else:
                        step = functools.partial(body.send, sent)
            except StopIteration as stop:
                result = stop.value
            except BaseException as error:
                early = call.early_return_in(error)
                if early is None:
                    raise
                result = self._value(*early)
            finally:
                call.end()
                del step  # it may hold an exception, whose traceback holds this frame
            if closed:
                return result
            outcome = visit_sync(self._after, self.site, context, self._qualname, result)
            return self._value(self._after, outcome) if outcome else result

    @transparent
    async def _run_async_generator(
        self, begin: Callable[[], AsyncGenerator[Any, Any]], context: _GetContext, *, visits_name: bool = True
    ) -> AsyncGenerator[Any, Any]:
        with self._frames:
            outcome = await visit(self._name, self.site, context) if visits_name else CONTINUE
            if outcome:
                self._end_iteration(self._name, outcome)
                return
            body = begin()
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
                        hide_own_frames(error)
                        step = body.athrow(error)
                    except BaseException as error:
                        hide_own_frames(error)
                        step = body.athrow(error)
                    else:
                        step = body.asend(sent)
            except StopAsyncIteration:
                pass
            except BaseException as error:
                early = call.early_return_in(error)
                if early is None:
                    raise
                self._end_iteration(*early)
            finally:
                call.end()
                del step
            if closed:
                return
            outcome = await visit(self._after, self.site, context)
            if outcome:
                self._end_iteration(self._after, outcome)

    # outcomes

    def _value(self, name: str, outcome: Outcome) -> Any:
        """Return the value of an outcome, or raise `FailpointCancelled`."""
        if isinstance(outcome, Cancelled):
            raise FailpointCancelled(name)
        assert isinstance(outcome, Return)
        with recording_usage_errors(name):
            return returned_value(name, outcome, self._function, self.site.convert)

    def _end_iteration(self, name: str, outcome: Outcome) -> None:
        """Let an async generator end, which cannot return a value, or raise `FailpointCancelled`."""
        if isinstance(outcome, Cancelled):
            raise FailpointCancelled(name)
        if isinstance(outcome, Return) and outcome.value is not None:
            with recording_usage_errors(name):
                raise FailpointUsageError(
                    f"failpoint {name!r} cannot return {outcome.value!r} from the async generator"
                    f" {self._qualname}, which can only end: configure 'return' without a value"
                )


def _frame_of(body: Any) -> FrameType | None:
    """Return the frame of a coroutine or generator; `None` for other awaitables, such as Cython's."""
    names = ("cr_frame", "gi_frame", "ag_frame")
    return next((getattr(body, name) for name in names if hasattr(body, name)), None)


def _first_step(body: AsyncGenerator[Any, Any]) -> Any:
    """Begin an async generator without the hooks of the loop: the generator around it closes it."""
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
    if not callable(function) and not makes_methods(function):
        raise FailpointUsageError(f"{what}; got {safe_repr(function)}")
