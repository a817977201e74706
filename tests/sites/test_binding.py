"""Methods that another decorator binds in its own way stay what they are under a failpoint, off and armed."""

from __future__ import annotations

import contextlib
import copy
import functools
import operator
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import wrapt

import failpoints
from failpoints import Call, Hit, Return, configured, failpoint
from failpoints._sites.wrapper import BoundWrapper
from failpoints.instrument import instrument

pytestmark = pytest.mark.anyio

Log = list[Any]


class BoundByPartial:
    """A decorator with a `__get__` that returns a partial."""

    def __init__(self, function: Callable[..., Any], log: Log) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._log = log

    def __get__(self, instance: Any, owner: type) -> Any:
        self._log.append(("get", instance is not None, owner.__name__))
        return self if instance is None else functools.partial(self._function, instance)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


class BoundAsMethod(BoundByPartial):
    """A decorator with a `__get__` that returns a bound method of itself."""

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else types.MethodType(self, instance)


def traced(function: Any, log: Log) -> Any:
    """Wrap as the integrations of OpenTelemetry do."""

    def trace(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        log.append((getattr(instance, "__name__", repr(instance)), repr(args), kwargs))
        return wrapped(*args, **kwargs)

    return wrapt.FunctionWrapper(function, trace)


def cached(function: Any, log: Log) -> Any:
    """Cache in each instance."""
    cachetools = pytest.importorskip("cachetools", reason="cachedmethod comes with cachetools")
    return cachetools.cachedmethod(operator.attrgetter("cache"))(function)


def dispatched(function: Any, log: Log) -> Any:
    """Choose a function by the type of the argument."""
    return functools.singledispatchmethod(function)


DECORATORS: dict[str, Callable[[Any, Log], Any]] = {
    "wrapt": traced,
    "wrapt, twice": lambda function, log: traced(traced(function, log), log),
    "partial": BoundByPartial,
    "bound method": BoundAsMethod,
    "cachedmethod": cached,
    "lru_cache": lambda function, log: functools.lru_cache(function),
    "partialmethod": lambda function, log: functools.partialmethod(function),
    "singledispatchmethod": dispatched,
}
WITH_CLASS_METHODS = {"wrapt": DECORATORS["wrapt"], "wrapt, twice": DECORATORS["wrapt, twice"]}


def client(decorate: Callable[[Any, Log], Any], mark: Callable[[Any], Any], log: Log) -> type[Any]:
    """Make a class with a decorated and marked method."""

    class Client:
        def __init__(self, number: int = 2) -> None:
            self.number = number
            self.cache: dict[Any, Any] = {}

        def __repr__(self) -> str:
            return "<client>"

        def send(self, what: int) -> int:
            log.append((repr(self), what))
            return what * self.number

        send = mark(decorate(send, log))

    return Client


def nothing(function: Any) -> Any:
    """Mark nothing."""
    return function


@pytest.fixture(params=["off", "elsewhere", "armed"])
def armed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the test with nothing configured, with another failpoint configured, and with this one."""
    names = {"off": None, "elsewhere": "elsewhere", "armed": "send"}
    name = names[request.param]
    with contextlib.nullcontext() if name is None else configured(name, "off"):
        yield


@contextlib.contextmanager
def marked(way: str, decorate: Callable[[Any, Log], Any], log: Log, **options: Any) -> Iterator[type[Any]]:
    """Make the class with a failpoint on its method, decorated or instrumented."""
    if way == "decorated":
        yield client(decorate, failpoint("send", **options), log)
    else:
        made = client(decorate, nothing, log)
        module = types.ModuleType("library_of_clients")
        module.Client = made  # type: ignore[attr-defined]
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, module.__name__, module)
            with instrument(f"{module.__name__}:Client.send", "send", **options):
                yield made


ways = pytest.mark.parametrize("way", ["decorated", "instrumented"])
decorators = pytest.mark.parametrize("decorate", DECORATORS.values(), ids=DECORATORS)


def use(made: type[Any]) -> list[Any]:
    """Call the method in every way."""

    class Derived(made):  # type: ignore[misc]
        def send(self, what: int) -> Any:
            return super().send(what)

    one = made()
    stored = one.send
    calls: list[Callable[[], Any]] = [
        lambda: one.send(3),
        lambda: made.send(one, 4),
        lambda: stored(5),
        lambda: Derived(3).send(6),
        lambda: one.send(),
        lambda: one.send(1, 2),
    ]
    results = []
    for call in calls:
        try:
            results.append(call())
        except (TypeError, IndexError) as error:
            results.append(type(error))
    return results


@pytest.mark.usefixtures("armed")
@ways
@decorators
def test_bound_by_its_own_decorator(decorate: Callable[[Any, Log], Any], way: str) -> None:
    """The decorator under a failpoint is asked for the same, gets the same, and returns the same as without."""
    expected: Log = []
    log: Log = []
    results = use(client(decorate, nothing, expected))
    with marked(way, decorate, log) as made:
        assert use(made) == results
    assert log == expected


@ways
@decorators
def test_its_failpoint_is_visited(decorate: Callable[[Any, Log], Any], way: str) -> None:
    """Every way to call the method visits its failpoints once, also by a bound method that was stored before."""
    with marked(way, decorate, []) as made:
        one = made()
        stored, of_class = one.send, made.send
        calls = [lambda: one.send(1), lambda: stored(2), lambda: of_class(one, 3), lambda: made.send(one, 4)]
        with configured("send", Return(-1)) as before:
            assert [call() for call in calls] == [-1] * 4
            assert before.hits == 4
        with configured("send:after", Return(-2)) as after:
            assert [call() for call in calls] == [-2] * 4
            assert after.hits == 4


@ways
@decorators
def test_its_context(decorate: Callable[[Any, Log], Any], way: str) -> None:
    """A callable `context=` gets the arguments of the undecorated method, the instance included."""
    seen: list[Hit] = []

    def context(self: Any, what: int) -> dict[str, Any]:
        return {"number": self.number, "what": what}

    with marked(way, decorate, [], context=context) as made, configured("send", Call(seen.append)):
        made(7).send(8)
        made.send(made(9), 10)
    assert [hit.context for hit in seen] == [{"number": 7, "what": 8}, {"number": 9, "what": 10}]


@ways
def test_named_context(way: str) -> None:
    """Parameters that `context=` names are found behind a wrapper of wrapt."""
    with marked(way, traced, [], context=["what"]) as made:
        with configured("send", Return(-1), context={"what": 3}) as handle:
            assert [made().send(2), made().send(3), made.send(made(), 3)] == [4, -1, -1]
        assert (handle.hits, handle.misses) == (2, 1)


@pytest.mark.parametrize("decorate", WITH_CLASS_METHODS.values(), ids=WITH_CLASS_METHODS)
@pytest.mark.parametrize("inside", [classmethod, staticmethod])
@pytest.mark.usefixtures("armed")
@ways
def test_class_and_static_methods(decorate: Callable[[Any, Log], Any], inside: Any, way: str) -> None:
    """A class or static method under a decorator that binds itself is bound as without a failpoint."""

    def calls_of(made: type[Any]) -> list[Any]:
        first = ("first",) if inside is staticmethod else ()
        stored = made().send
        return [made.send(*first, 1), made().send(*first, 2), stored(*first, 3)]

    def around(function: Any, log: Log) -> Any:
        def send(cls: Any, what: int) -> Any:
            log.append((cls if isinstance(cls, str) else cls.__name__, what))
            return what

        return decorate(inside(send), log)

    expected: Log = []
    log: Log = []
    results = calls_of(client(around, nothing, expected))
    with marked(way, around, log) as made:
        assert calls_of(made) == results
        with configured("send", Return(-1)):
            assert calls_of(made) == [-1] * 3
    assert log == expected


@pytest.mark.parametrize("inside", [classmethod, staticmethod, lambda function: function])
async def test_async_methods(inside: Any) -> None:
    """An async method under a wrapper of wrapt is an async site."""

    class Client:
        @failpoint("send")
        @wrapt.decorator(lambda wrapped, instance, args, kwargs: wrapped(*args, **kwargs))
        @inside
        async def send(*args: Any) -> int:
            return 1

    for send in (Client().send, Client.send):
        assert await send() == 1
        with configured("send", Return(2)), configured("send:after", Return(3)) as after:
            assert await send() == 2
            assert after.hits == 0
        with configured("send:after", Return(3)):
            assert await send() == 3


@pytest.mark.parametrize("inside", [classmethod, staticmethod, lambda function: function])
async def test_methods_that_return_an_awaitable(inside: Any) -> None:
    """`name:after` of a sync method under a wrapper of wrapt is visited when what it returns has been awaited."""
    log: list[str] = []

    async def work() -> None:
        log.append("begin")
        await anyio.lowlevel.checkpoint()
        log.append("end")

    class Client:
        @failpoint("send")
        @wrapt.decorator(lambda wrapped, instance, args, kwargs: wrapped(*args, **kwargs))
        @inside
        def send(*args: Any) -> Any:
            return work()

    for send in (Client().send, Client.send):
        with configured("send:after", "raise(TimeoutError)"), pytest.raises(TimeoutError):
            await send()
        assert log == ["begin", "end"]
        with configured("send", "raise(TimeoutError)"), pytest.raises(TimeoutError):
            await send()
        assert log == ["begin", "end"]
        log.clear()


@ways
@decorators
def test_bound_methods_are_compared_as_without(decorate: Callable[[Any, Log], Any], way: str) -> None:
    """Bound methods are equal, have the same hash, and are the same object, exactly if they are without a failpoint."""

    def compared(made: type[Any]) -> list[Any]:
        one, other = made(), made()
        return [
            one.send == one.send,
            one.send is one.send,
            one.send != one.send or hash(one.send) == hash(one.send),
            one.send == other.send,
            one.send in {one.send},
            made.send == made.send,
            made.send is made.send,
            getattr(one.send, "__self__", None) is one,
            getattr(one.send, "__name__", None),
            getattr(made.send, "__doc__", None),
        ]

    expected = compared(client(decorate, nothing, []))
    with marked(way, decorate, []) as made:
        assert compared(made) == expected


def test_a_dispatching_method() -> None:
    """Functions can be registered with a `singledispatchmethod` under a failpoint."""

    class Client:
        @failpoint("send")
        @functools.singledispatchmethod
        def send(self, what: object) -> str:
            return "object"

        @send.register
        def _(self, what: int) -> str:
            return "int"

    assert [Client().send("x"), Client().send(1)] == ["object", "int"]
    with configured("send", "return(lost)"):
        assert [Client().send("x"), Client().send(1)] == ["lost", "lost"]


def test_an_alias_in_another_class() -> None:
    """A method that was taken from its class binds in another class, too."""
    log: Log = []
    made = client(traced, failpoint("send"), log)

    class Other:
        number = 5
        send = made.send

    assert Other().send(1) == 5
    with configured("send", Return(-1)):
        assert Other().send(1) == -1
    assert isinstance(Other().send, BoundWrapper)


@pytest.mark.usefixtures("armed")
def test_a_copied_bound_method() -> None:
    """A bound method is copied as it is without a failpoint."""
    made = client(BoundByPartial, failpoint("send"), [])
    one = made()
    duplicate = copy.deepcopy({"instance": one, "callback": one.send})
    duplicate["instance"].number = 10
    assert (duplicate["callback"](1), copy.copy(one.send)(1)) == (10, 2)
    with configured("send", Return(-1)):
        assert duplicate["callback"](1) == -1


@ways
@decorators
def test_no_frame_of_ours(decorate: Callable[[Any, Log], Any], way: str) -> None:
    """The traceback of an injected error has no frame of this package before the site."""
    package = str(Path(failpoints.__file__).parent)
    with marked(way, decorate, []) as made, configured("send", "raise(TimeoutError)"):
        for call in (made().send, functools.partial(made.send, made())):
            with pytest.raises(TimeoutError) as caught:
                call(1)
            assert not [entry for entry in caught.traceback if str(entry.path).startswith(package)]
