"""A decorated function: the visits around its calls, whatever kind of function it is."""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from types import CodeType, FrameType, FunctionType
from typing import Any

from .._core import environment, known_sites
from .._core.actions import OUTCOMES, Cancelled, Outcome, Return
from .._core.arming import armed_copy, can_arm, keywords_of, own_code
from .._core.context import Context, GetContext, no_context
from .._core.entered import note_stray
from .._core.functions import (
    Kind,
    callable_name,
    is_method_object,
    kind_of,
    makes_methods,
    signature_of,
    underlying_function,
)
from .._core.late_imports import late_modules
from .._core.messages import safe_repr
from .._core.perform import CONTINUE
from .._core.reentrancy import transparent
from .._core.region import Region, region_of_call
from .._core.site import Site
from .._core.suspensions import observed
from .._core.switches import may_contain_scope, switch_of
from .._core.tracebacks import OwnFramesHidden, hide_own_frames, own_frames_hidden
from .._core.visit import begin_visit, concerns, may_prevent, recording_usage_errors, visit, visit_sync
from ..errors import FailpointCancelled, FailpointUsageError
from .awaitable import Visits, Work, awaited, gives, named
from .call_context import CallContext
from .convert import returned_value
from .disguise import Disguise, Expected
from .early_return import DecoratedCall, decorated_code, sync_call

late_modules.append(f"{__package__}.stand_in")  # it imports wrapt


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
        self._name = site.name
        self._after = f"{site.name}:after"
        self._qualname = callable_name(function)
        self._switch = switch_of(site.name)
        self._has_region = bool(site.reads or site.writes)
        self._use(function)
        underlying = underlying_function(function)
        self._code: CodeType | None = own_code(underlying) if underlying is not None else None
        if self._code is not None:
            decorated_code.add(self._code)
        written = underlying or underlying_function(inspect.unwrap(function))  # an lru_cache is a C object
        site.code = self.source_code = own_code(written) if written is not None else None
        self._frames = OwnFramesHidden(self.source_code, None if written is None else written.__globals__)
        self._may_contain_scope = self._code is None or may_contain_scope(self._code)
        if self.source_code is not None:
            for name in (self._name, self._after):
                known_sites.register_function(name, self._qualname, self.source_code, site.raises)

    def replace_function(self, function: FunctionType) -> None:
        """Run another function from now on: a reloader, for example, replaced the code of this one."""
        self._use(function)
        self._code = function.__code__
        self._may_contain_scope = may_contain_scope(self._code)
        self.call_context.replace_function(function)
        decorated_code.add(self._code)

    def _use(self, function: Any) -> None:
        self._function = function
        qualname = callable_name(function)
        self._shown = getattr(function, "__name__", qualname), qualname
        self._kind = kind_of(function)
        self._disguise = Disguise()  # what earlier calls of another function returned may not be true of this one

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
            context = self._context(self.call_context.of_call, args, kwargs)
            return (self._run_sync if self._kind is Kind.SYNC else self._start)(args, kwargs, context)

    def _bound(self, function: Any, receiver: Any) -> Decorated:
        """Return the visits around calls of *function*, which this function became when it was bound."""
        bound = copy.copy(self)
        bound.__dict__.pop("_parameters", None)
        bound._use(function)  # noqa: SLF001 - a copy of this object
        bound.call_context = self.call_context.bound_to(receiver)
        return bound

    @property
    def only_start(self) -> bool:
        """Whether a call only makes a coroutine or a generator."""
        return self._kind is not Kind.SYNC

    def prepare_call(
        self, args: tuple[Any, ...], keyword_only: tuple[Any, ...], more: dict[str, Any]
    ) -> Callable[[], Any]:
        """Return a function that makes the call of a sync function, given a value for each parameter."""
        kwargs = self._keywords(keyword_only, more) if keyword_only else more
        return functools.partial(self._run_sync, args, kwargs, self._context(self.call_context.of_values, args, kwargs))

    def start(self, args: tuple[Any, ...], keyword_only: tuple[Any, ...], more: dict[str, Any]) -> Any:
        """Make the coroutine or generator of a call, given a value for each parameter."""
        kwargs = self._keywords(keyword_only, more) if keyword_only else more
        if self.site.context is None:
            return self._start(args, kwargs, no_context)
        return self._start(args, kwargs, functools.partial(self.call_context.of_values, args, kwargs))

    def _keywords(self, keyword_only: tuple[Any, ...], more: dict[str, Any]) -> dict[str, Any]:
        assert self._code is not None
        return keywords_of(self._code, keyword_only, more)

    def _context(self, context: Callable[..., Context], args: tuple[Any, ...], kwargs: dict[str, Any]) -> GetContext:
        return no_context if self.site.context is None else functools.partial(context, args, kwargs)

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

    def _start(self, args: tuple[Any, ...], kwargs: dict[str, Any], context: GetContext) -> Any:
        """Make the coroutine or generator of a call."""
        started: Any
        if self._kind is Kind.ASYNC:
            started = self._run_async(args, kwargs, context)
        elif self._kind is Kind.GENERATOR:
            started = self._run_generator(args, kwargs, context)
        else:
            started = self._run_async_generator(functools.partial(self._function, *args, **kwargs), context)
        started.__name__, started.__qualname__ = self._shown
        return started

    @transparent
    def _run_sync(self, args: tuple[Any, ...], kwargs: dict[str, Any], context: GetContext) -> Any:
        region = Region() if self._has_region else None
        try:
            if concerns(self._name, self._switch) or concerns(self._after, self._switch):
                return self._visited(args, kwargs, context, region)
            if self._name in self._switch:
                note_stray(self._name, context)
            result, given = self._call(args, kwargs)
            is_plain = not given or self._disguise.expected(self._function, args, kwargs) is Expected.PLAIN
            return result if is_plain else gives(result)
        except BaseException as error:
            self._frames.hide(error)
            raise
        finally:
            if region is not None:
                region.leave()

    @transparent
    def _visited(self, args: tuple[Any, ...], kwargs: dict[str, Any], context: GetContext, region: object) -> Any:
        """Make a call of the sync function with its visits."""
        expected = self._disguise.expected(self._function, args, kwargs)
        is_plain = expected is Expected.PLAIN
        if expected is Expected.COROUTINE and may_prevent(self._name):
            work = Work(functools.partial(self._call_to_await, args, kwargs))
            return named(awaited(work, self._visits(context)), self._function)
        if is_plain and self._name in self._switch:
            outcome = visit_sync(self._name, self.site, context, self._qualname, region=region)
            if outcome:
                return self._value(self._name, outcome)
        result, given = self._call(args, kwargs)
        if given and not is_plain:
            result = gives(result)
        if self._disguise.is_awaitable(result, args):
            if inspect.isasyncgen(result):
                return named(self._run_async_generator(lambda: result, context, visits_name=not is_plain), result)
            from .stand_in import stand_in  # `import_for_visits` has imported it

            return stand_in(result, self._visits(context, skips_name=is_plain), args)
        if not is_plain:  # it was none, this time
            too_late = self.site.of_begun_work("a function that it calls")
            outcome = visit_sync(self._name, too_late, context, self._qualname, region=region)
            if outcome:
                return self._value(self._name, outcome)
        if self._after not in self._switch:
            return result
        outcome = visit_sync(self._after, self.site, context, self._qualname, result)
        return self._value(self._after, outcome) if outcome else result

    def _visits(self, context: GetContext, *, skips_name: bool = False) -> Visits:
        return Visits(self.site, context, self._value, self._end_iteration, self._frames, skips_name=skips_name)

    @transparent
    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, bool]:
        """Call the sync function, and return its result, and whether a scope inside has given that."""
        if not self._may_contain_scope:
            return self._function(*args, **kwargs), False
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
    async def _run_async(self, args: tuple[Any, ...], kwargs: dict[str, Any], context: GetContext) -> Any:
        region = Region() if self._has_region else None
        try:
            if self._name in self._switch:
                outcome = begin_visit(self._name, self.site, context, region=region)
                if not isinstance(outcome, OUTCOMES):
                    outcome = await outcome
                if outcome:
                    return self._value(self._name, outcome)
            body = self._function(*args, **kwargs)
            if self._may_contain_scope:
                result = await self._until_early_return(body)
            else:
                result = await observed(self._name, body)
            if self._after in self._switch:
                outcome = begin_visit(self._after, self.site, context, result)
                if not isinstance(outcome, OUTCOMES):
                    outcome = await outcome
                if outcome:
                    return self._value(self._after, outcome)
            return result
        except BaseException as error:
            self._frames.hide(error)
            raise
        finally:
            if region is not None:
                region.leave()

    @transparent
    async def _until_early_return(self, body: Any) -> Any:
        """Await the coroutine of a call, and return its result, or what a scope in it returns."""
        call = DecoratedCall(_frame_of(body))
        try:
            return await observed(self._name, body)
        except BaseException as error:
            early = call.early_return_in(error)
            if early is None:
                raise
            return self._value(*early)
        finally:
            call.end()

    @transparent
    def _run_generator(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], context: GetContext
    ) -> Generator[Any, Any, Any]:
        with self._frames, region_of_call(self.site) as region:
            outcome = visit_sync(self._name, self.site, context, self._qualname, region=region)
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
                    region.suspend()
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
                    region.resume()
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
        self, begin: Callable[[], AsyncGenerator[Any, Any]], context: GetContext, *, visits_name: bool = True
    ) -> AsyncGenerator[Any, Any]:
        with self._frames, region_of_call(self.site) as region:
            outcome: Outcome = CONTINUE
            if visits_name:
                outcome = await visit(self._name, self.site, context, region=region)
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
                    region.suspend()
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
                    region.resume()
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
        if not isinstance(outcome.value, str):
            return outcome.value
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
                    f" {self._qualname}, which can only end: configure 'return' without a value",
                    code="FP012",
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
