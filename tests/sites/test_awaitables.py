"""A sync function that returns an awaitable is visited where that is awaited, however it is known to return one."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import ExitStack
from typing import Any, Union

import anyio
import pytest

from failpoints import (
    Call,
    FailpointCancelled,
    FailpointUsageError,
    Hit,
    InjectedFault,
    Return,
    configured,
    failpoint,
    failpoint_scope,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


class Base:
    """The work that the functions return."""

    def __init__(self) -> None:
        self.log: list[str] = []

    async def work(self) -> int:
        self.log.append("begun")
        await anyio.lowlevel.checkpoint()
        self.log.append("done")
        return 1

    def undecorated(self) -> Any:
        return self.work()

    def inherited(self) -> Any:
        return self.work()


class Pending:
    """An object to be awaited, which owns a coroutine."""

    def __init__(self, coroutine: Coroutine[Any, Any, int]) -> None:
        self.coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, int]:
        return self.coroutine.__await__()


class Service(Base):
    """Functions that return awaitables, each in its own way."""

    @failpoint("x")
    def passes_on(self) -> Any:
        return self.work()

    @failpoint("x")
    def by_way_of_another(self) -> Any:
        return self.undecorated()

    @failpoint("x")
    def in_a_variable(self) -> Any:
        coroutine = self.work()
        return coroutine  # noqa: RET504

    @failpoint("x")
    def on_each_branch(self) -> Any:
        if self.log is None:
            raise LookupError
        if self.log:
            return self.work()
        else:
            return self.undecorated()

    @failpoint("x")
    def on_one_branch(self) -> Any:
        if self.log:
            return None
        return self.work() if self.log == [] else 0

    @failpoint("x")
    def of_a_nested_function(self) -> Any:
        async def nested() -> int:
            return await self.work()

        return nested()

    @failpoint("x")
    def inherited(self) -> Any:
        return super().inherited()

    @failpoint("x")
    def annotated(self) -> Awaitable[int]:
        return {"work": self.work}["work"]()

    @failpoint("x")
    def annotated_as_a_coroutine(self) -> Coroutine[Any, Any, int]:
        return {"work": self.work}["work"]()

    @failpoint("x")
    def annotated_as_either(self) -> Union[int, Awaitable[int]]:  # noqa: UP007 - as it is written often
        return {"work": self.work}["work"]()

    @failpoint("x")
    def annotated_with_a_class(self) -> Pending:
        return {"pending": Pending}["pending"](self.work())

    @failpoint("x")
    def awaited_by_its_caller(self) -> Any:
        return {"work": self.work}["work"]()

    @failpoint("x")
    def in_an_object(self) -> Any:
        return Pending(self.work())


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """An ordinary decorator."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        return result  # noqa: RET504

    return wrapper


def traced_in_the_dark(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator whose source does not show what it returns."""
    functions = [function]

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return functions[0](*args, **kwargs)

    return wrapper


def under(decorator: Callable[..., Any], service: Service) -> Any:
    @failpoint("x")
    @decorator
    async def decorated() -> int:
        return await service.work()

    return decorated


class Callee:
    """An object that is called like a function."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def __call__(self) -> Any:
        return self.service.work()


METHODS = [name for name, thing in vars(Service).items() if callable(thing)]
SHAPES: dict[str, Callable[[Service], Any]] = {
    **{name: functools.partial(lambda name, service: getattr(service, name), name) for name in METHODS},
    "under a decorator": functools.partial(under, traced),
    "under a decorator that hides what it returns": functools.partial(under, traced_in_the_dark),
    "a lambda": lambda service: failpoint("x")(lambda: service.work()),
    "a partial": lambda service: failpoint("x")(functools.partial(Base.undecorated, service)),
    "an object": lambda service: failpoint("x")(Callee(service)),
}


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture(params=SHAPES)
def ask(request: pytest.FixtureRequest, service: Service) -> Any:
    return SHAPES[request.param](service)


async def test_a_lost_reply(service: Service, ask: Any) -> None:
    """At `name:after` the awaited work is done, and the caller does not learn of it."""
    with configured("x:after", "1*raise") as after:
        with pytest.raises(InjectedFault):
            await ask()
        assert (service.log, after.hits) == (["begun", "done"], 1)
    assert await Service().work() == 1


async def test_a_failure_before(service: Service, ask: Any) -> None:
    """With `raise` at `name` the work never begins, and nothing warns about a coroutine that was never awaited."""
    with configured("x", "raise(OSError)") as before:
        with pytest.raises(OSError, match="'x'"):
            await ask()
        assert (service.log, before.hits, before.triggers) == ([], 1, 1)


async def test_a_made_up_result(service: Service, ask: Any) -> None:
    """`return(v)` at `name` gives `v` where the result is awaited, and the work never begins."""
    with configured("x", Return(42)) as before:
        assert await ask() == 42
        assert (service.log, before.hits) == ([], 1)


async def test_a_replaced_result(service: Service, ask: Any) -> None:
    """`return(v)` at `name:after` replaces what the work has returned."""
    with configured("x:after", Return(42)):
        assert await ask() == 42
        assert service.log == ["begun", "done"]


async def test_a_pause_before(service: Service, ask: Any) -> None:
    """A pause at `name` holds the task that awaits, before the work begins."""

    async def caller() -> None:
        results.append(await ask())

    results: list[int] = []
    async with anyio.create_task_group() as tasks:
        with configured("x", "pause") as before:
            tasks.start_soon(caller)
            await before.wait_paused()
            assert service.log == []
            before.resume()
    assert (results, service.log) == ([1], ["begun", "done"])


async def test_a_pause_after(service: Service, ask: Any) -> None:
    """A pause at `name:after` holds the task that awaits, when the work is done."""

    async def caller() -> None:
        await ask()

    async with anyio.create_task_group() as tasks:
        with configured("x:after", "pause") as after:
            tasks.start_soon(caller)
            await after.wait_paused()
            assert service.log == ["begun", "done"]
            after.resume()


async def test_cancelled_while_paused(service: Service, ask: Any) -> None:
    """A task that is cancelled in a pause at `name` leaves nothing behind: no waiter, and no coroutine that warns."""

    async def caller() -> None:
        await ask()

    with configured("x", "pause") as before:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller)
            await before.wait_paused()
            tasks.cancel_scope.cancel()
        assert (service.log, before.waiting) == ([], ())


async def test_off_and_misses(service: Service, ask: Any) -> None:
    """A visit that does nothing is counted, once for each call, and the work is done as ever."""
    with configured("x", "off") as before, configured("x:after", "pause", context={"a": "b"}) as after:
        assert await ask() == 1
        assert (before.hits, after.misses, service.log) == (1, 1, ["begun", "done"])


async def test_an_error_of_the_work(service: Service) -> None:
    """`name:after` is not visited if the work raises."""

    async def fail() -> int:
        raise LookupError

    ask = failpoint("x")(traced(fail))
    with configured("x:after", "off") as after:
        with pytest.raises(LookupError):
            await ask()
        assert after.hits == 0


async def test_what_an_earlier_call_returned(service: Service) -> None:
    """A function of which nothing else is known is visited as sync, until a call has returned an awaitable."""
    functions = [service.work]

    @failpoint("x")
    def ask() -> Any:
        return functions[0]()

    with configured("x:after", "1*raise"), pytest.raises(InjectedFault):
        await ask()
    assert service.log == ["begun", "done"]
    with configured("x", "return(late)"):
        awaitable = ask()
        assert await awaitable == "late"
    with configured("x", "raise"):
        awaitable = ask()
        with pytest.raises(InjectedFault):
            await awaitable
    assert service.log == ["begun", "done"]


async def test_a_first_call_of_which_nothing_is_known(service: Service) -> None:
    """`raise` at `name` of a function raises at its first call already if that is not awaited at once."""
    functions = [service.work]

    @failpoint("x")
    def ask() -> Any:
        return functions[0]()

    with configured("x", "raise"), pytest.raises(InjectedFault):
        ask()
    assert service.log == []


async def test_is_known_for_each_class(service: Service) -> None:
    """A method that returns awaitables for one class may return values for another, as those of redis-py do."""

    class Commands:
        def execute(self) -> Any:
            raise NotImplementedError

        @failpoint("x")
        def get(self) -> Any:
            return {"execute": self.execute}["execute"]()

    class Sync(Commands):
        def execute(self) -> Any:
            return 1

    class Async(Commands):
        def execute(self) -> Any:
            return service.work()

    with configured("x:after", "off"):
        assert (await Async().get(), Sync().get()) == (1, 1)
    with configured("x", "return(early)") as before:
        assert Sync().get() == "early"
        assert before.hits == 1
        awaitable = Async().get()
        assert before.hits == 1
        assert await awaitable == "early"


async def test_a_plain_value_this_time(service: Service) -> None:
    """If a function returns a value where an awaitable was expected, `name:after` is visited at once.

    `raise` and `return` at `name` come too late then, and are refused.
    """

    @failpoint("x")
    def cached() -> int | Awaitable[int]:
        return 7 if service.log else service.work()

    with configured("x:after", Return(8)):
        assert await cached() == 8  # type: ignore[misc]
        assert cached() == 8
    for actions in "raise", "return(3)", "panic":
        with configured("x", actions), pytest.raises(FailpointUsageError) as error:
            cached()
    assert str(error.value) == (
        "failpoint 'x': 'panic' would pretend that nothing was done, but the call has returned, and its work may have"
        " begun: put the failpoint on a function that it calls, or configure 'x:after'"
    )
    with configured("x", "off") as before:
        assert (cached(), before.hits) == (7, 1)


async def test_a_sync_function_made_of_an_async_one(service: Service) -> None:
    """A function under a decorator that runs the async function, such as `asyncio.run`, stays a sync one."""

    def run(function: Callable[[], Coroutine[Any, Any, int]]) -> Callable[[], int]:
        @functools.wraps(function)
        def wrapper() -> int:
            coroutine = function()
            try:
                while True:
                    coroutine.send(None)
            except StopIteration as stop:
                return int(stop.value)

        return wrapper

    @failpoint("x")
    @run
    async def ask() -> int:
        service.log.append("done")
        return 1

    def call() -> None:
        with configured("x", "return(5)"):
            assert (ask(), service.log) == (5, [])
        with configured("x:after", "off") as after:
            assert (ask(), after.hits) == (1, 1)

    await anyio.to_thread.run_sync(call)


@pytest.mark.parametrize("actions", ["return(42)", "return( 42 )"])
@pytest.mark.parametrize(
    "annotation",
    ["Awaitable[int]", "Coroutine[Any, Any, int]", "int | Awaitable[int]", "Awaitable[int | None]", "int"],
)
async def test_a_text_is_converted(annotation: str, actions: str, service: Service) -> None:
    """A text is converted to what `await` gives, by the annotation."""

    def ask() -> Any:
        return service.work()

    ask.__annotations__ = {"return": annotation}
    decorated = failpoint("x")(ask)
    for name in "x", "x:after":
        with configured(name, actions):
            assert await decorated() == 42


async def test_a_text_that_cannot_be_converted(service: Service) -> None:
    """A text that cannot become what `await` gives is an error that names `convert=`."""

    @failpoint("x")
    def ask() -> Awaitable[Service]:
        return service.work()  # type: ignore[return-value]

    with configured("x", "return(42)"):
        awaitable = ask()
        with pytest.raises(FailpointUsageError, match="annotation Service; pass a convert= to"):
            await awaitable


async def test_an_annotation_that_cannot_be_evaluated(service: Service) -> None:
    """An annotation is looked at, but not evaluated, unless a text is to be converted."""

    def ask() -> Any:
        return {"work": service.work}["work"]()

    ask.__annotations__ = {"return": "Awaitable[MissingClass['not one', 1/0]]"}
    decorated = failpoint("x")(ask)
    with configured("x", Return(3)):
        awaitable = decorated()
        assert await awaitable == 3
    with configured("x", "return(3)"), pytest.raises(FailpointUsageError, match="cannot be resolved"):
        await decorated()


async def test_the_event_that_cancels(service: Service) -> None:
    """`cancel=` takes the event of async code, and ends the wait of the task that awaits."""
    stop = anyio.Event()

    @failpoint("x", cancel=lambda: stop)
    def ask() -> Any:
        return service.work()

    async def caller() -> None:
        with pytest.raises(FailpointCancelled):
            await ask()

    with configured("x", "pause") as before:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller)
            await before.wait_paused()
            stop.set()
    assert service.log == []


async def test_the_context_of_the_call(service: Service) -> None:
    """Matchers see the arguments of the call."""

    @failpoint("x", context=["number"])
    def ask(number: int) -> Any:
        return service.work()

    with configured("x", Return(5), context={"number": 5}):
        assert (await ask(5), await ask(4)) == (5, 1)


async def test_a_scope_before_the_work(service: Service) -> None:
    """A scope in the function itself makes it return early. The value is what `await` gives."""

    @failpoint("x")
    def ask() -> Awaitable[int]:
        with failpoint_scope("scope"):
            service.log.append("in the scope")
        return service.work()

    @failpoint("y")
    def dark() -> Awaitable[int]:
        with failpoint_scope("scope"):
            pass
        return {"work": service.work}["work"]()

    with configured("scope", "return(9)"):
        assert (await ask(), await dark(), service.log) == (9, 9, [])


async def test_stacked(service: Service) -> None:
    """Of two failpoints on such a function, the upper one is the outer."""
    seen: list[str] = []

    @failpoint("outer")
    @failpoint("inner")
    def ask() -> Any:
        return service.work()

    def note(hit: Hit) -> None:
        seen.append(hit.name)

    names = ["outer", "inner", "inner:after", "outer:after"]
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(configured(name, Call(note)))
        assert await ask() == 1
    assert seen == names


async def test_a_call_that_does_not_fit(service: Service) -> None:
    """A call with wrong arguments raises its `TypeError` at once, as without a failpoint."""
    with configured("x", "off") as before:
        with pytest.raises(TypeError, match="argument"):
            service.passes_on(1)  # type: ignore[call-arg]
        assert before.hits == 0


async def test_awaited_when_nothing_is_configured_any_more(service: Service) -> None:
    """What is awaited after the failpoint was removed is not visited."""
    for name in "x", "x:after":
        with configured(name, "raise"):
            awaitables = [service.passes_on(), service.annotated(), service.in_an_object()]
        assert [await awaitable for awaitable in awaitables] == [1, 1, 1]


@pytest.mark.parametrize("actions", ["off", "yield", "sleep(0)"])
@pytest.mark.parametrize("name", ["send", "send:after"])
async def test_harmless_actions_leave_the_call_where_it_is(name: str, actions: str) -> None:
    """A function is called at once, as in the program, if nothing configured at `name` can prevent its work."""
    called: list[int] = []

    async def inner(number: int) -> int:
        return number

    @failpoint("send")
    def send(number: int) -> Any:
        if number < 0:
            raise ValueError(number)
        called.append(number)
        return inner(number)

    with configured(name, actions):
        first, second = send(1), send(2)
        assert called == [1, 2]
        with pytest.raises(ValueError, match="-1"):
            send(-1)
        assert (await second, await first) == (2, 1)


async def test_an_action_that_prevents_the_work_defers_the_call() -> None:
    """A function is called only where it is awaited if an action at `name` may prevent its work."""
    called: list[int] = []

    async def inner(number: int) -> int:
        return number

    @failpoint("send")
    def send(number: int) -> Any:
        called.append(number)
        return inner(number)

    with configured("send", "1*raise(OSError)"):
        first, second = send(1), send(2)
        with pytest.raises(OSError, match="send"):
            await first
        assert await second == 2
    assert called == [2]
