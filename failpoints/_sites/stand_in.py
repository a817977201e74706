"""What the caller of a sync function gets in place of the awaitable that it has returned: the same, with visits.

`name` is visited where the caller awaits it or enters it with `async with`, `name:after` when the awaited work is done
or the context manager is entered. With `raise` and `return(v)` at `name` the work never begins: a coroutine is closed,
and `async with` gives `v` and has nothing to exit. Where the work may have begun already, as in a task, these two are
refused.

A coroutine is replaced by a coroutine, and everything else by a proxy, which has the class and the attributes of the
original. Only the first use is visited. Later ones behave as those of the original.

If `name:after` raises after a context manager was entered, the manager is exited with that error, since its caller
cannot do so any more.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator, Mapping
from typing import Any, cast

import wrapt

from .._core.functions import callable_name
from .._core.reentrancy import transparent
from .._core.region import region_of_call
from .._core.tracebacks import own_frames_hidden
from .awaitable import Visits, Work, awaited, gives, named


def stand_in(thing: Any, visits: Visits, arguments: tuple[Any, ...]) -> Any:
    """Return what to hand to the caller in place of the awaitable that a call with these arguments has returned."""
    begun = _begun(thing)
    if inspect.iscoroutine(thing) or inspect.isgenerator(thing):
        work = Work(functools.partial(_itself, thing), None if begun else thing.close)
        return named(awaited(work, visits, begun), thing)
    return _class_for(_class_of(thing))(thing, visits, begun, arguments)


def _itself(thing: Any) -> Any:
    return thing


def _class_of(thing: object) -> Any:
    return type(thing)


# what can be known about an awaitable


def _begun(thing: Any) -> str | None:
    """Return what to put a failpoint on instead, if the work of this awaitable may have begun."""
    if inspect.iscoroutine(thing):
        return None if _is_unstarted(thing) else callable_name(thing)
    for one in (thing, *_attributes(thing)):
        if _is_future(one) and hasattr(one, "get_coro"):  # a task
            return callable_name(one.get_coro())
    return "the async function that does the work" if _is_future(thing) else None


def _is_unstarted(thing: Any) -> bool:
    return inspect.iscoroutine(thing) and inspect.getcoroutinestate(thing) == inspect.CORO_CREATED


def _is_future(thing: object) -> bool:
    return hasattr(type(thing), "_asyncio_future_blocking")


def _attributes(thing: Any) -> Iterator[Any]:
    """Yield the values of an object's own attributes, without running any code of it."""
    try:
        yield from object.__getattribute__(thing, "__dict__").values()
    except AttributeError:
        pass
    for base in _class_of(thing).__mro__:
        for slot in cast(Mapping[str, Any], vars(base)).values():
            if inspect.ismemberdescriptor(slot):
                try:
                    yield slot.__get__(thing)
                except AttributeError:
                    pass


def _discard(thing: Any, arguments: tuple[Any, ...]) -> None:
    """Close the unstarted coroutines of an awaitable that will not be awaited."""
    for one in (thing, *_attributes(thing)):
        if _is_unstarted(one) and all(one is not argument for argument in arguments):
            one.close()


# proxies


class _StandIn(wrapt.BaseObjectProxy[Any]):
    """An awaitable, or an async context manager, whose first use is visited."""

    # Not a future for asyncio, which would otherwise ask the one inside for its result, in gather() for example.
    _asyncio_future_blocking = None

    def __init__(self, thing: Any, visits: Visits, begun: str | None, arguments: tuple[Any, ...]) -> None:
        super().__init__(thing)
        self._self_visits = visits
        self._self_begun = begun
        self._self_arguments = arguments
        self._self_work: Work | None = None  # of the first use

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__wrapped__.__reduce_ex__(protocol)

    @transparent
    def _self_use(self, begin: Callable[[], Awaitable[Any]]) -> Coroutine[Any, Any, Any]:
        """Return the coroutine of a use. The first one is visited."""
        work = self._self_work
        if work is None:
            discard = functools.partial(_discard, self.__wrapped__, self._self_arguments)
            self._self_work = work = Work(begin, discard)
            coroutine = awaited(work, self._self_visits, self._self_begun)
            return cast(Coroutine[Any, Any, Any], named(coroutine, type(self.__wrapped__)))
        return gives(work.given.value) if work.given is not None else _passed_on(begin)


@transparent
async def _passed_on(begin: Callable[[], Awaitable[Any]]) -> Any:
    with own_frames_hidden:
        return await begin()


class _Awaited(_StandIn):  # await thing
    @transparent
    def __await__(self) -> Generator[Any, Any, Any]:
        return self._self_use(functools.partial(_itself, self.__wrapped__)).__await__()


class _Resumed(_StandIn):  # create_task(thing), of an object that is like a coroutine
    _self_coroutine: Coroutine[Any, Any, Any] | None = None

    @transparent
    def _self_begin(self) -> Coroutine[Any, Any, Any]:
        if self._self_work is not None:
            return self._self_coroutine or self.__wrapped__
        self._self_coroutine = coroutine = self._self_use(functools.partial(_itself, self.__wrapped__))
        return coroutine

    @transparent
    def __await__(self) -> Generator[Any, Any, Any]:
        return (self.__wrapped__ if self._self_work is not None else self._self_begin()).__await__()

    __iter__ = __await__

    @transparent
    def send(self, value: Any) -> Any:
        with own_frames_hidden:
            return self._self_begin().send(value)

    @transparent
    def throw(self, *exception: Any) -> Any:
        with own_frames_hidden:
            return self._self_begin().throw(*exception)

    @transparent
    def close(self) -> None:
        (self._self_coroutine or self.__wrapped__).close()


class _Entered(_StandIn):  # async with thing
    @transparent
    async def __aenter__(self) -> Any:
        with own_frames_hidden:
            is_first = self._self_work is None
            entering = self._self_use(self._self_enter)
            try:
                return await entering
            except BaseException as error:
                if is_first and self._self_work is not None and self._self_work.is_done:
                    await self.__wrapped__.__aexit__(type(error), error, error.__traceback__)
                raise

    @transparent
    def _self_enter(self) -> Any:
        return self.__wrapped__.__aenter__()

    @transparent
    async def __aexit__(self, *exception: object) -> Any:
        with own_frames_hidden:
            if self._self_work is not None and self._self_work.given is not None:
                return None
            return await self.__wrapped__.__aexit__(*exception)


class _Iterated(_StandIn):  # async for item in thing
    @transparent
    def __aiter__(self) -> Any:
        if self._self_work is not None:
            return self.__wrapped__.__aiter__()
        self._self_work = Work(functools.partial(_itself, self.__wrapped__))
        return self._self_iterate()

    @transparent
    async def _self_iterate(self) -> AsyncGenerator[Any, Any]:
        with own_frames_hidden, region_of_call(self._self_visits.site) as region:
            if not await self._self_visits.begin_iteration(self._self_begun, region):
                return
            items = self.__wrapped__.__aiter__()
            try:
                async for item in items:
                    region.suspend()
                    try:
                        yield item
                    finally:
                        region.resume()
            finally:
                if hasattr(items, "aclose"):
                    await items.aclose()
            await self._self_visits.end_iteration()


@functools.lru_cache(maxsize=256)
def _class_for(kind: Any) -> type[_StandIn]:
    """Make the class of the stand-ins for objects of a class: with the special methods that this class has."""
    # hasattr() would find those of the metaclass, too.
    names = {name for base in kind.__mro__ for name in cast(Mapping[str, Any], vars(base))}
    resumed = _is_subclass(kind, Coroutine)
    wanted = {
        _Resumed: resumed,
        _Awaited: "__await__" in names and not resumed,
        _Entered: "__aenter__" in names,
        _Iterated: "__aiter__" in names,
    }
    methods: dict[str, Any] = {
        name: _forwarding(name) for name in ("__call__", "__next__", "__anext__") if name in names
    }
    if "__iter__" in names and not resumed:
        is_awaiting = kind.__iter__ is getattr(kind, "__await__", None)  # `yield from future`
        methods["__iter__"] = _Awaited.__await__ if is_awaiting else _forwarding("__iter__")
    bases = tuple(base for base, is_wanted in wanted.items() if is_wanted)
    return cast(type[_StandIn], type(kind.__name__, bases, methods))


def _is_subclass(kind: Any, base: type) -> bool:
    return issubclass(kind, base)


def _forwarding(name: str) -> Callable[..., Any]:
    @transparent
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        with own_frames_hidden:
            return getattr(self.__wrapped__, name)(*args, **kwargs)

    return forward
