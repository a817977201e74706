"""What a visited sync function returns in place of an awaitable behaves like the original."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import inspect
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from types import CoroutineType
from typing import Any

import anyio
import pytest
import trio

from failpoints import FailpointUsageError, InjectedFault, Return, configured, failpoint
from failpoints.explore import explore

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@pytest.fixture
def log() -> list[str]:
    return []


Log = list[str]
Function = Callable[..., Any]


async def work(log: Log) -> int:
    """Do something that takes a while."""
    log.append("begun")
    await anyio.lowlevel.checkpoint()
    log.append("done")
    return 1


# coroutines


@failpoint("x")
def written_to_return_a_coroutine(log: Log) -> Any:
    """Is called when it is awaited."""
    return work(log)


@failpoint("x")
def returns_a_coroutine(log: Log) -> Awaitable[int]:
    """Is called at once."""
    return {"work": work}["work"](log)


@pytest.fixture(params=[written_to_return_a_coroutine, returns_a_coroutine], ids=["called late", "called at once"])
def ask(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_it_is_a_coroutine(ask: Function, log: Log) -> None:
    """A coroutine is replaced by a coroutine."""
    with configured("x", "off"):
        coroutine = ask(log)
        assert isinstance(coroutine, CoroutineType)
        assert inspect.isawaitable(coroutine)
        assert await coroutine == 1
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await coroutine


@pytest.mark.parametrize(
    "wait",
    [
        asyncio.create_task,
        asyncio.ensure_future,
        asyncio.shield,
        lambda coroutine: asyncio.wait_for(coroutine, 10),
        asyncio.gather,
    ],
)
@ON_ASYNCIO
async def test_asyncio_takes_it(wait: Function, ask: Function, log: Log) -> None:
    """What asyncio does with a coroutine it does with this one, and its task is the one that is visited."""
    for name, seen in ("x", []), ("x:after", ["begun", "done"]):
        log.clear()
        with configured(name, "raise"), pytest.raises(InjectedFault):
            await wait(ask(log))
        assert log == seen


def test_trio_takes_it(ask: Function, log: Log) -> None:
    """A nursery of trio starts the function."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, log)

    with configured("x:after", "off") as after:
        trio.run(main)
        assert (log, after.hits) == (["begun", "done"], 1)


async def test_anyio_takes_it(ask: Function, log: Log) -> None:
    """A task group of anyio starts the function."""
    with configured("x", "off") as before:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, log)
        assert (log, before.hits) == (["begun", "done"], 1)


async def test_a_coroutine_that_is_never_awaited(ask: Function, log: Log) -> None:
    """Python warns about it as it does without a failpoint: once, by its name."""
    with configured("x", "off"), pytest.warns(RuntimeWarning) as caught:
        ask(log)  # is collected at once
    assert [str(one.message) for one in caught] in (
        ["coroutine 'work' was never awaited"],
        ["coroutine 'written_to_return_a_coroutine' was never awaited"],
    )
    assert log == []


async def test_a_coroutine_that_is_closed(ask: Function, log: Log) -> None:
    """A coroutine that its caller closes is gone without a warning."""
    with configured("x", "off"):
        ask(log).close()
        gc.collect()
    assert log == []


def called(log: Log) -> Any:
    log.append("called")
    return work(log)


async def test_what_a_function_does_before_it_returns(log: Log) -> None:
    """A function that is written to return a coroutine is not called, either, with `raise` and `return` at `name`."""
    ask = failpoint("x")(called)
    for actions in "raise", "return":
        with configured("x", actions):
            try:
                await ask(log)
            except InjectedFault:
                pass
    assert log == []
    with configured("x:after", "off"):
        await ask(log)
    assert log == ["called", "begun", "done"]


# objects


class Request(Coroutine[Any, Any, Any]):
    """What an HTTP client returns: a coroutine that can be entered, too."""

    __slots__ = ("coroutine", "log")

    def __init__(self, log: Log) -> None:
        self.coroutine = work(log)
        self.log = log

    def send(self, value: Any) -> Any:
        return self.coroutine.send(value)

    def throw(self, *exception: Any) -> Any:
        return self.coroutine.throw(*exception)

    def close(self) -> None:
        self.coroutine.close()

    def __await__(self) -> Generator[Any, Any, int]:
        return self.coroutine.__await__()

    async def __aenter__(self) -> str:
        return f"entered {await self.coroutine}"

    async def __aexit__(self, *exception: object) -> None:
        self.log.append("exited" if exception[0] is None else f"exited with {type(exception[1]).__name__}")


class Acquisition:
    """What a pool of connections returns: it is awaited or entered."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def __await__(self) -> Generator[Any, Any, int]:
        return work(self.log).__await__()

    __aenter__ = Request.__aenter__
    __aexit__ = Request.__aexit__

    @property
    def coroutine(self) -> Any:
        """The work, for `__aenter__`."""
        return work(self.log)


@asynccontextmanager
async def _transaction(log: Log) -> AsyncIterator[str]:
    try:
        yield f"entered {await work(log)}"
    except BaseException as error:
        log.append(f"exited with {type(error).__name__}")
        raise
    else:
        log.append("exited")


@failpoint("x")
def request(log: Log) -> Request:
    """Return an object that is like a coroutine."""
    return Request(log)


@failpoint("x")
def acquire(log: Log) -> Any:
    """Return an object to await or to enter."""
    return Acquisition(log)


@failpoint("x")
def acquire_in_the_dark(log: Log) -> Any:
    """Return such an object, which nothing but the caller shows."""
    return {"acquire": Acquisition}["acquire"](log)


transaction = failpoint("x")(_transaction)

CAN_BE_AWAITED = [request, acquire, acquire_in_the_dark]
CAN_BE_ENTERED = [request, acquire, acquire_in_the_dark, transaction]


@pytest.mark.parametrize("function", CAN_BE_AWAITED)
async def test_an_object_that_is_awaited(function: Function, log: Log) -> None:
    """An object with `__await__` is visited like a coroutine."""
    with configured("x:after", "raise"):
        with pytest.raises(InjectedFault):
            await function(log)
        assert log == ["begun", "done"]
    log.clear()
    with configured("x", "raise"):
        with pytest.raises(InjectedFault):
            await function(log)
        assert log == []
    with configured("x", Return(7)):
        assert await function(log) == 7
        assert log == []
    gc.collect()


@pytest.mark.parametrize("function", CAN_BE_ENTERED)
async def test_a_context_manager(function: Function, log: Log) -> None:
    """A context manager is visited before it is entered, and once it is."""
    with configured("x", "off") as before, configured("x:after", "off") as after:
        async with function(log) as entered:
            assert (before.hits, after.hits, log) == (1, 1, ["begun", "done"])
        assert (entered, log) == ("entered 1", ["begun", "done", "exited"])
        assert (before.hits, after.hits) == (1, 1)


@pytest.mark.parametrize("function", CAN_BE_ENTERED)
async def test_a_context_manager_that_is_not_entered(function: Function, log: Log) -> None:
    """With `raise` at `name` the context manager is not entered, with `return(v)` it gives `v`."""
    with configured("x", "raise(OSError)"), pytest.raises(OSError, match="'x'"):
        async with function(log):
            raise AssertionError
    with configured("x", Return(b"made up")):
        async with function(log) as entered:
            assert entered == b"made up"
        with pytest.raises(LookupError):
            async with function(log):
                raise LookupError
    gc.collect()
    assert log == []


@pytest.mark.parametrize("function", CAN_BE_ENTERED)
async def test_a_context_manager_whose_reply_is_lost(function: Function, log: Log) -> None:
    """With `raise` at `name:after` the context manager was entered. It is exited, since its caller cannot do that."""
    with configured("x:after", "raise(OSError)"), pytest.raises(OSError, match="x:after"):
        async with function(log):
            raise AssertionError
    assert log == ["begun", "done", "exited with OSError"]


@pytest.mark.parametrize("function", CAN_BE_ENTERED)
async def test_another_thing_is_entered(function: Function, log: Log) -> None:
    """With `return(v)` at `name:after` the caller gets `v`, and the context manager is exited as ever."""
    with configured("x:after", Return(b"made up")), pytest.raises(LookupError):
        async with function(log) as entered:
            assert entered == b"made up"
            raise LookupError
    assert log == ["begun", "done", "exited with LookupError"]


@pytest.mark.parametrize("function", CAN_BE_ENTERED)
async def test_cancelled_on_entering(function: Function, log: Log) -> None:
    """A task that is cancelled in a pause at `name:after` exits the context manager."""

    async def enter() -> None:
        async with function(log):
            raise AssertionError

    with configured("x:after", "pause") as after:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(enter)
            await after.wait_paused()
            tasks.cancel_scope.cancel()
    assert log[:2] == ["begun", "done"]
    assert log[2:] in (["exited with CancelledError"], ["exited with Cancelled"])


@pytest.mark.parametrize("function", CAN_BE_ENTERED)
async def test_it_looks_like_the_original(function: Function, log: Log) -> None:
    """It has the class and the attributes of the original, and no special method that the original lacks."""
    plain = function(log)
    with configured("x", "off"):
        stand_in = function(log)
    for abstract in collections.abc.Awaitable, collections.abc.Coroutine, collections.abc.AsyncIterable:
        assert isinstance(stand_in, abstract) is isinstance(plain, abstract)
    assert isinstance(stand_in, type(plain))
    assert hasattr(type(stand_in), "__await__") is hasattr(type(plain), "__await__")
    assert callable(stand_in) is callable(plain)
    assert set(dir(plain)) <= set(dir(stand_in))
    if function is not transaction:
        assert stand_in.log is log
    if function is acquire:
        stand_in.extra = 1
        assert vars(stand_in)["extra"] == stand_in.extra == 1
    for one in plain, stand_in:
        getattr(one, "close", lambda: None)()


async def test_a_decorator_made_of_a_context_manager(log: Log) -> None:
    """The result of a function under `@asynccontextmanager` still decorates functions."""
    with configured("x", "off"):

        @transaction(log)  # type: ignore[untyped-decorator]
        async def inside() -> None:
            log.append("inside")

        await inside()
    assert log == ["begun", "done", "inside", "exited"]


async def test_used_twice(log: Log) -> None:
    """Only the first use is visited. The second one does what the original does then."""
    with configured("x", "off") as before:
        acquisition = acquire(log)
        assert (await acquisition, await acquisition, before.hits) == (1, 1, 1)
        sent = request(log)
        assert await sent == 1
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await sent
    with configured("x", Return(5)):
        acquisition = acquire(log)
        assert (await acquisition, await acquisition) == (5, 5)
        async with acquisition as entered:
            assert entered == 5
    assert log == ["begun", "done"] * 3


@pytest.mark.parametrize("wait", [asyncio.create_task, asyncio.ensure_future, asyncio.gather])
@ON_ASYNCIO
async def test_a_task_for_what_is_like_a_coroutine(wait: Function, log: Log) -> None:
    """A task that resumes such an object is visited, and can be cancelled."""
    with configured("x", Return(9)):
        assert await wait(request(log)) in (9, [9])
        assert log == []
    with configured("x:after", "raise"):
        with pytest.raises(InjectedFault):
            await wait(request(log))
        assert log == ["begun", "done"]
    log.clear()
    with configured("x", "pause") as before:
        task = asyncio.ensure_future(wait(request(log)))
        await before.wait_paused()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert log == []


async def test_an_object_that_is_never_used(log: Log) -> None:
    """The coroutine inside warns, and nothing else does."""
    with configured("x", "off"), pytest.warns(RuntimeWarning) as caught:
        request(log)
    assert [str(one.message) for one in caught] == ["coroutine 'work' was never awaited"]


class Rows:
    """What a query returns: it is awaited, or iterated."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def __await__(self) -> Generator[Any, Any, int]:
        return work(self.log).__await__()

    async def __aiter__(self) -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
            self.log.append("exhausted")
        finally:
            self.log.append("closed")


@failpoint("x")
def query(log: Log) -> Rows:
    """Return something to await or to iterate."""
    return Rows(log)


async def test_an_iteration(log: Log) -> None:
    """An iteration is visited as that of an async generator: at its first step, and at its end."""
    with configured("x", "off") as before, configured("x:after", "1*raise") as after:
        with pytest.raises(InjectedFault):
            async for _ in query(log):
                assert (before.hits, after.hits) == (1, 0)
        assert log == ["exhausted", "closed"]
        assert await query(log) == 1
        rows = query(log)
        assert [row async for row in rows] == [row async for row in rows] == [1, 2]
        assert (before.hits, after.hits) == (3, 3)
    with configured("x", "return"):
        assert [row async for row in query(log)] == []
    with configured("x", "return(1)"), pytest.raises(FailpointUsageError, match="can only end"):
        async for _ in query(log):
            pass


class Pipeline:
    """An object whose methods return it, which is awaited in the end."""

    def __init__(self, log: Log) -> None:
        self.log = log

    @failpoint("x")
    def add(self) -> Pipeline:
        self.log.append("added")
        return self

    def __await__(self) -> Generator[Any, Any, int]:
        return work(self.log).__await__()


async def test_a_method_that_returns_its_object(log: Log) -> None:
    """Such a method has done its part when it returns, and is visited as a sync one."""
    pipeline = Pipeline(log)
    with configured("x:after", "off") as after:
        assert pipeline.add().add() is pipeline
        assert after.hits == 2
    with configured("x", "raise"), pytest.raises(InjectedFault):
        pipeline.add()
    assert log == ["added", "added"]


# work that has begun


@failpoint("x")
def start(log: Log) -> Awaitable[int]:
    """Start a task."""
    return asyncio.create_task(work(log))


@failpoint("x")
def promise(log: Log) -> asyncio.Future[int]:
    """Return a future that something else will fulfil."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: future.done() or (log.extend(["begun", "done"]), future.set_result(1)))
    return future


class Handle:
    """An object around a task."""

    def __init__(self, log: Log) -> None:
        self.task = asyncio.create_task(work(log))

    def __await__(self) -> Generator[Any, Any, int]:
        return self.task.__await__()


@failpoint("x")
def handle(log: Log) -> Handle:
    """Start a task and return an object around it."""
    return Handle(log)


BEGUN = [(start, "work"), (handle, "work"), (promise, "the async function that does the work")]


@pytest.mark.parametrize(("function", "instead"), BEGUN)
@pytest.mark.parametrize("actions", ["raise", "return(1)", "panic"])
@ON_ASYNCIO
async def test_work_that_has_begun(actions: str, function: Function, instead: str, log: Log) -> None:
    """`raise` and `return` at `name` are refused, since the work may be done already."""
    with configured("x", actions) as before:
        awaitable = function(log)
        with pytest.raises(FailpointUsageError) as error:
            await awaitable
        assert before.hits == 1
    assert str(error.value) == (
        f"failpoint 'x': '{actions}' would pretend that nothing was done, but the call has returned, and its work may"
        f" have begun: put the failpoint on {instead}, or configure 'x:after'"
    )
    assert await awaitable == 1
    assert log == ["begun", "done"]


@pytest.mark.parametrize("function", [one for one, _ in BEGUN])
@ON_ASYNCIO
async def test_work_that_has_begun_after(function: Function, log: Log) -> None:
    """`name:after`, and waits at `name`, do as ever."""
    with configured("x:after", "raise"), pytest.raises(InjectedFault):
        await function(log)
    assert log == ["begun", "done"]
    with configured("x", "pause") as before:
        waiting = asyncio.ensure_future(function(log))
        await before.wait_paused()
        before.resume()
        assert await waiting == 1


@ON_ASYNCIO
async def test_a_future_is_one_still(log: Log) -> None:
    """A task that is returned has the class and the methods of a task."""
    with configured("x", "off"):
        task: Any = start(log)
        assert isinstance(task, asyncio.Task)
        assert not task.done()
        called: list[object] = []
        task.add_done_callback(called.append)
        assert await task == 1
        assert task.done()
        assert task.result() == 1
        assert called == [task]
        other: Any = start(log)
        other.cancel()
        with pytest.raises(asyncio.CancelledError):
            await other


@pytest.mark.parametrize("function", [start, promise])
@pytest.mark.parametrize("wait", [asyncio.gather, asyncio.shield, lambda future: asyncio.wait_for(future, 10)])
@ON_ASYNCIO
async def test_waiting_for_a_future(wait: Function, function: Function, log: Log) -> None:
    """What waits for a future by way of asyncio visits it, too."""
    with configured("x:after", Return(5)) as after:
        assert await wait(function(log)) in (5, [5])
        assert (after.hits, log) == (1, ["begun", "done"])


def test_exploring_work_that_has_begun() -> None:
    """`explore` tries the lost reply of such work, and nothing that could not be carried out."""

    async def scenario(run: Any) -> None:
        log: Log = []
        async with run.injecting():
            try:
                await start(log)
            except InjectedFault:
                assert log == ["begun", "done"]

    result = explore(scenario, backend="asyncio")
    assert set(result.hits) == {"x:after"}


def test_exploring(ask: Function) -> None:
    """`explore` tries a failure before the work, and a lost reply after it."""
    seen: set[tuple[str, ...]] = set()

    async def scenario(run: Any) -> None:
        log: Log = []
        async with run.injecting():
            try:
                await ask(log)
            except InjectedFault:
                seen.add(tuple(log))

    with warnings.catch_warnings(action="error"):
        explore(scenario)
    assert seen == {(), ("begun", "done")}
