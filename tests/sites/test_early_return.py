"""`return(v)` at a scope returns `v` from the directly enclosing decorated function."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import sys
import threading
import types
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from types import TracebackType
from typing import Any, TypeAlias

import anyio
import pytest
import trio
from anyio import to_thread

from failpoints import (
    Call,
    FailpointUsageError,
    Return,
    configure,
    configured,
    failpoint,
    failpoint_scope,
    reset,
)
from failpoints._sites.early_return import DecoratedCall

pytestmark = pytest.mark.anyio

Function: TypeAlias = Callable[[int], Any]


class Leaver:
    """Callables of every kind with a scope in their bodies, and a log of what happened."""

    def __init__(self) -> None:
        self.log: list[str] = []

    @failpoint("leaver.async")
    async def in_async(self, number: int) -> int:
        async with failpoint_scope("leave", context={"number": number}):
            self.log.append("block")
        self.log.append("rest")
        return number

    @failpoint("leaver.mixed")
    async def sync_scope_in_async(self, number: int) -> int:
        with failpoint_scope("leave", context={"number": number}):
            self.log.append("block")
        self.log.append("rest")
        return number

    @failpoint("leaver.sync")
    def in_sync(self, number: int) -> int:
        with failpoint_scope("leave", context={"number": number}):
            self.log.append("block")
        self.log.append("rest")
        return number

    @failpoint("leaver.class")
    @classmethod
    async def in_class_method(cls, number: int) -> int:
        async with failpoint_scope("leave", context={"number": number}):
            pass
        return number

    @staticmethod
    @failpoint("leaver.static")
    def in_static_method(number: int) -> int:
        with failpoint_scope("leave", context={"number": number}):
            pass
        return number

    @failpoint("leaver.call")
    async def __call__(self, number: int) -> int:
        async with failpoint_scope("leave", context={"number": number}):
            pass
        return number

    @failpoint("leaver.stacked.outer")
    @failpoint("leaver.stacked.inner")
    async def in_stacked(self, number: int) -> int:
        async with failpoint_scope("leave", context={"number": number}):
            pass
        return number

    @failpoint("leaver.stacked.outer")
    @failpoint("leaver.stacked.inner")
    def in_stacked_sync(self, number: int) -> int:
        with failpoint_scope("leave", context={"number": number}):
            pass
        return number


class AsyncCallable:
    """A callable object."""

    async def __call__(self, number: int) -> int:
        async with failpoint_scope("leave", context={"number": number}):
            pass
        return number


class SyncCallable:
    """A callable object for sync code."""

    def method(self, number: int) -> int:
        with failpoint_scope("leave", context={"number": number}):
            pass
        return number

    __call__ = method


FUNCTIONS: dict[str, Callable[[], Function]] = {
    "async method": lambda: Leaver().in_async,
    "sync scope in async method": lambda: Leaver().sync_scope_in_async,
    "sync method": lambda: Leaver().in_sync,
    "class method": lambda: Leaver.in_class_method,
    "static method": lambda: Leaver.in_static_method,
    "decorated __call__": Leaver,
    "stacked": lambda: Leaver().in_stacked,
    "stacked sync": lambda: Leaver().in_stacked_sync,
    "async callable": lambda: failpoint("callable")(AsyncCallable()),
    "sync callable": lambda: failpoint("callable")(SyncCallable()),
    "partial": lambda: failpoint("partial")(functools.partial(AsyncCallable.__call__, AsyncCallable())),
    "partial of a bound method": lambda: failpoint("partial")(functools.partial(SyncCallable().method)),
    "partial of a bound async method": lambda: failpoint("partial")(functools.partial(AsyncCallable().__call__)),
}

every_function = pytest.mark.parametrize("make", FUNCTIONS.values(), ids=FUNCTIONS)


async def call(function: Function, number: int = 5) -> Any:
    """Call the function, await the result if it is awaitable, and return it."""
    result = function(number)
    return await result if inspect.isawaitable(result) else result


@every_function
async def test_nothing_to_return(make: Callable[[], Function]) -> None:
    """Without a configured `return` the function returns its own result."""
    assert await call(make()) == 5
    with configured("leave", "off"):
        assert await call(make()) == 5


@every_function
@pytest.mark.parametrize("suffix", ["", ":after"])
async def test_leaves_the_function(make: Callable[[], Function], suffix: str) -> None:
    """`return(v)` at a scope returns `v` from the enclosing function, converted to its annotation."""
    for actions, expected in (("return(42)", 42), (Return(-1), -1), (Return([1]), [1]), ("return", None)):
        with configured(f"leave{suffix}", actions):
            assert await call(make()) == expected


@pytest.mark.parametrize("method", ["in_async", "sync_scope_in_async", "in_sync"])
async def test_rest_of_the_function_is_skipped(method: str) -> None:
    """`return` before the block skips the block and the rest of the function. After it, only the rest."""
    leaver = Leaver()
    with configured("leave", "return"):
        await call(getattr(leaver, method))
    assert leaver.log == []
    with configured("leave:after", "return"):
        await call(getattr(leaver, method))
    assert leaver.log == ["block"]


@pytest.mark.parametrize("method", ["in_async", "in_sync"])
async def test_under_any_name(method: str) -> None:
    """The scope returns whether or not the function's own failpoint is configured, and visits `name:after`."""
    leaver = Leaver()
    name = f"leaver.{method.removeprefix('in_')}"
    configure("leave", Return(1))
    with configured(name, "off") as before, configured(f"{name}:after", "off") as after:
        assert await call(getattr(leaver, method)) == 1
        assert (before.hits, after.hits) == (1, 1)
    with configured(f"{name}:after", "return(2)"):
        assert await call(getattr(leaver, method)) == 2


async def test_stacked() -> None:
    """With stacked decorators the value is the function's result, and each `name:after` is visited."""
    log: list[str] = []
    configure("leave", Return(1))
    for name in ("leaver.stacked.outer", "leaver.stacked.inner"):
        for suffix in ("", ":after"):
            configure(name + suffix, Call(lambda hit: log.append(hit.name.removeprefix("leaver.stacked."))))
    assert await Leaver().in_stacked(5) == 1
    assert log == ["outer", "inner", "inner:after", "outer:after"]


async def test_stacked_annotation() -> None:
    """A string at the outer of two stacked failpoints is also converted to the function's annotation."""
    for name in ("outer", "inner", "inner:after", "outer:after"):
        with configured(f"leaver.stacked.{name}", "return(42)"):
            assert await Leaver().in_stacked(5) == Leaver().in_stacked_sync(5) == 42


async def test_convert() -> None:
    """The enclosing function's `convert` makes the value, and its failure is a usage error of the scope."""

    @failpoint("function", convert=lambda text: text.split())
    async def function() -> list[str]:
        async with failpoint_scope("leave"):
            return []

    @failpoint("annotated")
    def annotated() -> int:
        with failpoint_scope("leave"):
            return 1

    with configured("leave", "return(a b)"):
        assert await function() == ["a", "b"]
        with pytest.raises(FailpointUsageError) as caught:
            annotated()
    assert str(caught.value) == (
        "failpoint 'leave' cannot return the text 'a b' from test_convert.<locals>.annotated: it is not an int;"
        " pass a convert= to @failpoint, or configure Return(value) in Python"
    )
    with configured("leave", Return(("a", "b"))):
        assert await function() == ("a", "b")


# code that an early return passes


class Manager:
    """A sync and async context manager that logs how its block ends."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.log.append(error is not None and not isinstance(error, Exception))

    async def __aenter__(self) -> None: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.log.append(error is not None and not isinstance(error, Exception))


async def test_finally_and_except_on_the_way() -> None:
    """It runs `finally` blocks and passes context managers and `except BaseException`, not `except Exception`."""
    log: list[Any] = []

    @failpoint("function")
    async def function() -> str:
        try:
            with Manager(log):
                async with Manager(log):
                    try:
                        async with failpoint_scope("leave"):
                            log.append("block")
                    except Exception:
                        log.append("except Exception")
        except BaseException as error:
            log.append(str(error))
            raise
        else:
            log.append("else")
        finally:
            await anyio.lowlevel.checkpoint()
            log.append("finally")
        return "end"

    with configured("leave", Return("left")):
        assert await function() == "left"
    assert log == [True, True, "failpoint 'leave' returns 'left' from the function around its scope", "finally"]


def test_swallowed() -> None:
    """If a bare `except:` swallows it, the function continues, and can return at the next scope."""

    @failpoint("function")
    def function() -> str:
        with contextlib.suppress(BaseException), failpoint_scope("leave"):
            return "block"
        with failpoint_scope("leave"):
            return "second block"

    with configured("leave", "1*return(left)->off"):
        assert function() == "second block"
    with configured("leave", "return(left)"):
        assert function() == "left"


def test_in_finally_and_except() -> None:
    """In a `finally` or `except` block it discards the current error, as a `return` does."""

    @failpoint("function")
    def function(number: int) -> str:
        try:
            raise LookupError
        except LookupError:
            with failpoint_scope("in.except"):
                if number == 1:
                    return "except"
            raise
        finally:
            with failpoint_scope("in.finally"):
                pass

    for name in ("in.except", "in.finally"):
        with configured(name, "return(left)"):
            assert [function(0), function(1)] == ["left", "left"]


def test_through_a_loop_and_nested_scopes() -> None:
    """It leaves loops and other scopes, without visits of their `name:after`."""

    @failpoint("function")
    def function() -> int:
        with failpoint_scope("outer"):
            for number in range(5):
                with failpoint_scope("leave", context={"number": number}):
                    pass
        return -1

    with configured("leave", Return(7), context={"number": 2}) as leave, configured("outer:after", "off") as after:
        assert function() == 7
        assert (leave.hits, leave.misses, after.hits) == (1, 2, 0)


async def test_nothing_is_kept_alive() -> None:
    """The locals of the function are released with the call, as after a `return`."""

    class Resource:
        pass

    @failpoint("function")
    async def function() -> None:
        resource = Resource()
        resources.append(weakref.ref(resource))
        async with failpoint_scope("leave"):
            pass

    @failpoint("function")
    def sync_function() -> None:
        resource = Resource()
        resources.append(weakref.ref(resource))
        with failpoint_scope("leave"):
            pass

    resources: list[weakref.ref[Resource]] = []
    gc.disable()
    try:
        with configured("leave", "return"):
            await function()
            sync_function()
        assert [resource() for resource in resources] == [None, None]
    finally:
        gc.enable()


def test_frame_identity_is_unique() -> None:
    """Until a call has ended, no other call can have a frame with the same identity."""

    async def body() -> None: ...

    coroutine = body()
    identity = id(coroutine.cr_frame)
    call = DecoratedCall(coroutine.cr_frame)
    with pytest.raises(StopIteration):
        coroutine.send(None)
    del coroutine
    others = [body() for _ in range(100)]
    assert identity not in [id(other.cr_frame) for other in others]
    call.end()
    for other in others:
        other.close()


# generators


@failpoint("leaver.generator")
def generator() -> Generator[int, None, int]:
    """Yield around a scope."""
    yield 1
    with failpoint_scope("leave"):
        yield 2
    return 3


@failpoint("leaver.generator")
async def async_generator() -> AsyncIterator[int]:
    """Yield around a scope."""
    yield 1
    async with failpoint_scope("leave"):
        yield 2
    yield 3


@pytest.mark.parametrize(("suffix", "items"), [("", [1]), (":after", [1, 2])])
def test_generator(suffix: str, items: list[int]) -> None:
    """In a generator it ends the iteration, with `v` as the value of the `StopIteration`."""
    seen: list[int] = []

    def delegate() -> Iterator[int]:
        seen.append((yield from generator()))

    with configured(f"leave{suffix}", "return(42)"), configured("leaver.generator:after", "off") as after:
        assert list(delegate()) == items
        assert after.hits == 1
    assert seen == [42]


@pytest.mark.parametrize(("suffix", "items"), [("", [1]), (":after", [1, 2])])
async def test_async_generator(suffix: str, items: list[int]) -> None:
    """In an async generator it ends the iteration. A value other than `None` is a usage error."""
    with configured(f"leave{suffix}", "return"), configured("leaver.generator:after", "off") as after:
        assert [item async for item in async_generator()] == items
        assert after.hits == 1
    with configured(f"leave{suffix}", "return(42)"), pytest.raises(FailpointUsageError) as caught:
        assert [item async for item in async_generator()] == items
    assert str(caught.value) == (
        f"failpoint 'leave{suffix}' cannot return '42' from the async generator async_generator, which can only"
        " end: configure 'return' without a value"
    )


# out of task groups

ASYNCIO, UVLOOP, TRIO = (
    ("asyncio", {"use_uvloop": False}),
    ("asyncio", {"use_uvloop": sys.platform != "win32"}),
    ("trio", {}),
)
GROUPS: dict[str, tuple[tuple[str, dict[str, Any]], Callable[[], Any]]] = {
    "anyio on asyncio": (ASYNCIO, anyio.create_task_group),
    "anyio on uvloop": (UVLOOP, anyio.create_task_group),
    "anyio on trio": (TRIO, anyio.create_task_group),
    "asyncio": (ASYNCIO, asyncio.TaskGroup),
    "uvloop": (UVLOOP, asyncio.TaskGroup),
    "trio": (TRIO, trio.open_nursery),
}

every_group = pytest.mark.parametrize(("backend", "open_group"), GROUPS.values(), ids=GROUPS)


def run(backend: tuple[str, dict[str, Any]], main: Callable[[], Awaitable[Any]]) -> Any:
    """Run a function on a backend and return its result."""
    return anyio.run(main, backend=backend[0], backend_options=backend[1])


def start(group: Any, function: Callable[..., Any], *arguments: Any) -> None:
    """Start a child task in a task group of any library."""
    if isinstance(group, asyncio.TaskGroup):
        group.create_task(function(*arguments))
    else:
        group.start_soon(function, *arguments)


async def child(started: anyio.Event, log: list[str], error: Exception | None = None) -> None:
    """Wait forever, log how the wait ended, and optionally fail then."""
    try:
        started.set()
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        log.append("cancelled")
        if error is not None:
            raise error
        raise


def printed(error: BaseException | None) -> Iterator[BaseException]:
    """Yield every exception that a printed traceback shows."""
    if error is None:
        return
    yield error
    yield from printed(error.__cause__ or (None if error.__suppress_context__ else error.__context__))
    for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from printed(part)


def leaves(error: BaseException) -> list[str]:
    """Return the leaf exceptions of a group."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in leaves(part)]
    return [repr(error)]


@every_group
@pytest.mark.parametrize("depth", [1, 3])
def test_out_of_task_groups(backend: Any, open_group: Callable[[], Any], depth: int) -> None:
    """It leaves task groups, even nested ones, with a plain result, and cancels their children."""
    log: list[str] = []

    @failpoint("function")
    async def function() -> int:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(depth):
                group = await stack.enter_async_context(open_group())
                started = anyio.Event()
                start(group, child, started, log)
                await started.wait()
            async with failpoint_scope("leave"):
                log.append("block")
        return 1

    with configured("leave", "return(42)"), configured("function:after", "off") as after:
        assert run(backend, function) == 42
        assert after.hits == 1
    assert log == ["cancelled"] * depth


@every_group
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("children", [1, 2])
def test_when_others_fail_too(backend: Any, open_group: Callable[[], Any], depth: int, children: int) -> None:
    """If other tasks fail at the same time, their errors are raised without a trace of the return."""
    log: list[str] = []

    @failpoint("function")
    async def function() -> int:
        async with contextlib.AsyncExitStack() as stack:
            for level in range(depth):
                group = await stack.enter_async_context(open_group())
                for number in range(children):
                    started = anyio.Event()
                    start(group, child, started, log, LookupError(f"{level}.{number}"))
                    await started.wait()
            async with failpoint_scope("leave"):
                log.append("block")
        return 1

    with configured("leave", "return(42)"), configured("function:after", "off") as after:
        with pytest.raises(ExceptionGroup) as caught:
            run(backend, function)
        assert after.hits == 0
    assert sorted(leaves(caught.value)) == [
        f"LookupError('{level}.{number}')" for level in range(depth) for number in range(children)
    ]
    assert [error for error in printed(caught.value) if type(error).__module__.startswith("failpoints")] == []


async def test_cancelled_from_outside() -> None:
    """If the call is natively cancelled at the same time, it ends with the cancellation or the value."""
    results: list[int] = []

    @failpoint("function")
    async def function() -> int:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            scope.cancel()
            with failpoint_scope("leave"):
                pass
        return 1

    with configured("leave", "return(42)"):
        with anyio.CancelScope() as scope:
            results.append(await function())
            await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught
    assert results in ([], [42])


@every_group
def test_inside_a_statement_group(backend: Any, open_group: Callable[[], Any]) -> None:
    """It leaves nested `async with` statements with a scope around a group and another one inside."""

    @failpoint("function")
    async def function() -> str:
        async with failpoint_scope("outer"), open_group() as group:
            start(group, anyio.sleep_forever)
            async with open_group() as inner:
                start(inner, anyio.sleep_forever)
                with failpoint_scope("leave"):
                    pass
        return "end"

    with configured("leave", "return(left)"), configured("outer:after", "off") as after:
        assert run(backend, function) == "left"
        assert after.hits == 0


@every_group
def test_child_that_returns(backend: Any, open_group: Callable[[], Any]) -> None:
    """In a decorated child task it returns from that child only, and the other tasks continue."""
    results: list[int] = []

    @failpoint("child")
    async def decorated_child(number: int) -> None:
        async def work() -> None:
            results.append(await Leaver().in_async(number))

        await work()

    @failpoint("parent")
    async def parent() -> str:
        async with open_group() as group:
            for number in range(4):
                start(group, decorated_child, number)
        return "end"

    with configured("leave", Return(-1), context={"number": 2}):
        assert run(backend, parent) == "end"
    assert sorted(results) == [-1, 0, 1, 3]


@every_group
def test_error_of_its_own_group(backend: Any, open_group: Callable[[], Any]) -> None:
    """An exception group without an early return propagates unchanged."""
    raised: list[BaseException] = []

    @failpoint("function")
    async def function() -> None:
        try:
            async with open_group():
                raise LookupError("body")
        except BaseException as error:
            raised.append(error)
            raise

    with configured("leave", "return"), pytest.raises(ExceptionGroup) as caught:
        run(backend, function)
    assert caught.value is raised[0]
    assert leaves(caught.value) == ["LookupError('body')"]


# concurrent calls


@pytest.mark.parametrize("method", ["in_async", "sync_scope_in_async", "in_stacked"])
async def test_many_calls_at_once(method: str) -> None:
    """Each of many concurrent calls of one function gets the value of its own scope."""
    results: dict[int, int] = {}
    leaver = Leaver()

    async def caller(number: int) -> None:
        results[number] = await getattr(leaver, method)(number)

    async def decide(hit: Any) -> Return | None:
        arrived.append(hit)
        if len(arrived) == 20:
            everybody.set()
        await everybody.wait()
        return Return(-hit.context["number"]) if hit.context["number"] % 2 else None

    arrived: list[Any] = []
    everybody = anyio.Event()
    if method == "sync_scope_in_async":
        configure("leave", Call(lambda hit: Return(-hit.context["number"]) if hit.context["number"] % 2 else None))
    else:
        configure("leave", Call(decide))
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(caller, number)
    assert results == {number: -number if number % 2 else number for number in range(20)}


async def test_released_in_another_order() -> None:
    """Calls that are paused at their scopes and resumed together each return to their own caller."""

    @failpoint("function")
    async def function(number: int) -> int:
        async with failpoint_scope("gate"), failpoint_scope("leave", context={"number": number}):
            return -1

    results: dict[int, int] = {}

    async def caller(number: int) -> None:
        results[number] = await function(number)

    configure("leave", Call(lambda hit: Return(hit.context["number"])))
    with configured("gate", "pause") as gate:
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(caller, number)
            await gate.wait_paused(10)
            gate.resume()
    assert results == {number: number for number in range(10)}


async def test_recursion() -> None:
    """In a recursive function it returns from the call that contains the scope, and only from that one."""

    @failpoint("function", context=["depth"])
    async def function(depth: int) -> list[int]:
        async with failpoint_scope("leave", context={"depth": depth}):
            deeper = await function(depth + 1) if depth < 5 else []
            return [depth, *deeper]

    @failpoint("function")
    def sync_function(depth: int) -> list[int]:
        with failpoint_scope("leave", context={"depth": depth}):
            deeper = sync_function(depth + 1) if depth < 5 else []
            return [depth, *deeper]

    with configured("leave", Return([99]), context={"depth": 3}):
        assert await function(0) == sync_function(0) == [0, 1, 2, 99]
    with configured("leave:after", Return([99]), context={"depth": 3}):
        assert await function(0) == sync_function(0) == [0, 1, 2, 99]


def test_in_threads() -> None:
    """In every kind of thread, each call gets the value of its own scope."""
    barrier = threading.Barrier(8)
    results: dict[int, list[int]] = {}
    leaver = Leaver()

    def run_thread(number: int) -> None:
        barrier.wait()
        results[number] = [leaver.in_sync(number) for _ in range(50)]

    with configured("leave", Call(lambda hit: Return(-hit.context["number"]))):
        threads = [threading.Thread(target=run_thread, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == {number: [-number] * 50 for number in range(8)}


async def test_in_worker_threads() -> None:
    """In a worker thread a sync function returns early, to the async function that started it."""

    @failpoint("async.function")
    async def function() -> int:
        return await to_thread.run_sync(Leaver().in_sync, 5)

    with configured("leave", "return(42)"):
        assert await function() == 42


def test_calls_in_progress_on_many_loops() -> None:
    """Calls on the event loops of several threads do not affect one another."""
    results: list[int] = []

    async def main() -> None:
        for number in range(50):
            results.append(await Leaver().in_async(number))

    with configured("leave", Call(lambda hit: Return(hit.context["number"]))):
        threads = [threading.Thread(target=anyio.run, args=(main,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == sorted(list(range(50)) * 4)


# where nothing can catch it


async def undecorated() -> None:
    """Hold a scope in a function that is not decorated."""
    async with failpoint_scope("leave"):
        pass


def undecorated_sync() -> None:
    """Hold a scope in a sync function that is not decorated."""
    with failpoint_scope("leave"):
        pass


@failpoint("around")
async def decorated_around() -> None:
    """Call, from a decorated function, an undecorated one that holds the scope."""
    await undecorated()
    undecorated_sync()


@contextlib.contextmanager
def helper() -> Iterator[None]:
    """Hold the scope in a context manager, whose generator is the function around it."""
    with failpoint_scope("leave"):
        yield


@failpoint("around")
def with_helper() -> None:
    """Use a context manager that holds the scope."""
    with helper():
        pass


def refusal(function: Any, why: str) -> str:
    """Return the full text of a usage error."""
    code = inspect.unwrap(function).__code__
    return (
        f"failpoint 'leave' cannot return from {code.co_qualname} ({code.co_filename}:{code.co_firstlineno}),"
        f" because nothing would catch that: {why}"
    )


NOT_DECORATED = "the function directly around the scope is not decorated with @failpoint; decorate it, under any name"
NOT_THROUGH = (
    "this call did not come through the function's @failpoint decorator, or it began before the return was configured;"
    " configure first, then call the decorated function"
)


@pytest.mark.parametrize("use", [undecorated, undecorated_sync, decorated_around, with_helper])
async def test_undecorated(use: Callable[[], Any]) -> None:
    """In an undecorated function it is a usage error, with or without decorated callers."""
    around = {decorated_around: undecorated, with_helper: helper}.get(use, use)
    for actions in ("return", "return(42)"):
        with configured("leave", actions), pytest.raises(FailpointUsageError) as caught:
            result = use()
            if result is not None:
                await result
        assert str(caught.value) == refusal(around, NOT_DECORATED)


def around_its_decorator(function: Any) -> Any:
    """Rebuild the undecorated function from the parts of a decorated one, while nothing is configured."""
    plain = inspect.unwrap(function)
    return types.FunctionType(plain.__code__, plain.__globals__, closure=plain.__closure__ or None)


async def test_reached_around_the_decorator() -> None:
    """In a function called around its decorator it is a usage error, at any depth of decoration."""
    functions = {
        "async": Leaver.in_async,
        "sync": Leaver.in_sync,
        "stacked": Leaver.in_stacked,
        "generator": generator,
    }
    around = [(function, around_its_decorator(function)) for function in functions.values()]
    with configured("leave", "return"):
        for function, undecorated in around:
            with pytest.raises(FailpointUsageError) as caught:
                if function is generator:
                    list(undecorated())
                else:
                    result = undecorated(Leaver(), 5)
                    await result
            assert str(caught.value) == refusal(function, NOT_THROUGH)


async def test_reached_around_it_from_inside() -> None:
    """A decorated call in progress does not catch the return of a nested call around the decorator."""

    async def undecorated(depth: int) -> str:
        if depth == 0:
            return await undecorated(1)
        async with failpoint_scope("leave"):
            return "end"

    def undecorated_sync(depth: int) -> str:
        if depth == 0:
            return undecorated_sync(1)
        with failpoint_scope("leave"):
            return "end"

    function = failpoint("function")(undecorated)
    sync_function = failpoint("function")(undecorated_sync)
    with configured("leave", "return(left)"):
        with pytest.raises(FailpointUsageError) as caught:
            await function(0)
        assert str(caught.value) == refusal(function, NOT_THROUGH)
        with pytest.raises(FailpointUsageError) as caught:
            sync_function(0)
        assert str(caught.value) == refusal(sync_function, NOT_THROUGH)


async def test_began_before_the_return_was_configured() -> None:
    """In a call that began before the `return` was configured it is a usage error. The next call returns."""

    @failpoint("function")
    async def function() -> str:
        configure("leave", "return(left)")
        async with failpoint_scope("leave"):
            return "end"

    @failpoint("function")
    def sync_function() -> str:
        configure("leave", "return(left)")
        with failpoint_scope("leave"):
            return "end"

    with pytest.raises(FailpointUsageError) as caught:
        await function()
    assert str(caught.value) == refusal(function, NOT_THROUGH)
    assert await function() == "left"
    reset()
    with pytest.raises(FailpointUsageError) as caught:
        sync_function()
    assert str(caught.value) == refusal(sync_function, NOT_THROUGH)
    assert sync_function() == "left"


def test_module_level() -> None:
    """At module level it is a usage error."""
    module = compile("with failpoint_scope('leave'):\n    pass\n", "module.py", "exec")
    with configured("leave", "return"), pytest.raises(FailpointUsageError) as caught:
        exec(module, {"failpoint_scope": failpoint_scope})
    assert str(caught.value).startswith("failpoint 'leave' cannot return from <module> (module.py:")
    assert "nothing would catch that" in str(caught.value)


async def test_nothing_happened() -> None:
    """The usage error prevents the block from running, and is caught by `except Exception`."""
    ran: list[str] = []

    async def function() -> None:
        async with failpoint_scope("leave"):
            ran.append("block")

    with configured("leave", "return"), pytest.raises(Exception, match="nothing would catch that"):
        await function()
    assert ran == []


async def test_in_a_child_task() -> None:
    """A scope in a child task does not belong to the function that started the task."""

    @failpoint("function")
    async def function() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(undecorated)

    with configured("leave", "return"), pytest.raises(ExceptionGroup) as caught:
        await function()
    assert leaves(caught.value) == [repr(FailpointUsageError(refusal(undecorated, NOT_DECORATED)))]


async def test_call_that_is_over() -> None:
    """A generator that outlives the decorated call cannot return from it."""

    @failpoint("function")
    def function() -> Iterator[int]:
        def items() -> Iterator[int]:
            yield 1
            with failpoint_scope("leave"):
                yield 2

        return items()

    with configured("leave", "return"):
        items = function()
        assert next(items) == 1
        with pytest.raises(FailpointUsageError, match="nothing would catch that"):
            next(items)
