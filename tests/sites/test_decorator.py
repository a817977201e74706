"""`@failpoint(...)` on functions and methods of every kind."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Generator
from typing import Any

import pytest

from failpoints import (
    Call,
    FailpointError,
    FailpointNameError,
    FailpointUsageError,
    Hit,
    InjectedFault,
    Return,
    configure,
    configured,
    failpoint,
    status,
)

pytestmark = pytest.mark.anyio

Place = Callable[[failpoint, Callable[..., Any]], Callable[[int], Any]]


def owner(member: Any) -> Any:
    """Make a class with one member."""
    return type("Owner", (), {"double": member})


def caller(body: Callable[..., Any]) -> Any:
    """Make a class whose instances are callable."""
    return type("Caller", (), {"__call__": body})


PLACES: dict[str, Place] = {
    "function": lambda point, body: point(body),
    "method": lambda point, body: owner(point(body))().double,
    "class_method_outside": lambda point, body: owner(classmethod(point(body))).double,
    "class_method_inside": lambda point, body: owner(point(classmethod(body))).double,
    "class_method_of_instance": lambda point, body: owner(point(classmethod(body)))().double,
    "static_method_outside": lambda point, body: owner(staticmethod(point(body))).double,
    "static_method_inside": lambda point, body: owner(point(staticmethod(body))).double,
    "static_method_of_instance": lambda point, body: owner(point(staticmethod(body)))().double,
    "callable_object": lambda point, body: point(caller(body)()),
    "partial": lambda point, body: point(functools.partial(body)),
    "partial_of_method": lambda point, body: point(functools.partial(owner(body)().double)),
}

every_place = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
both_colours = pytest.mark.parametrize("in_async", [True, False], ids=["async", "sync"])


class Doubler:
    """A decorated function of one kind, and a log of what happened."""

    def __init__(self, place: Place, *, in_async: bool, fails: bool = False) -> None:
        self.log: list[str] = []
        log = self.log

        def work(number: int) -> int:
            log.append("body")
            if fails:
                raise LookupError(number)
            return 2 * number

        async def async_body(*args: int) -> int:
            return work(args[-1])

        def sync_body(*args: int) -> int:
            return work(args[-1])

        self.in_async = in_async
        self.call = place(failpoint("double"), async_body if in_async else sync_body)

    async def double(self, number: int) -> int:
        """Call the function, await the result if it is awaitable, and return it."""
        result = self.call(number)
        assert inspect.iscoroutine(result) is self.in_async
        return await result if self.in_async else result

    def noting(self) -> Call:
        """Make an action that logs the visit and continues."""
        return Call(lambda hit: self.log.append(hit.name))


@every_place
@both_colours
async def test_nothing_configured(place: Place, in_async: bool) -> None:
    """With nothing configured, a decorated function behaves like the undecorated one."""
    assert await Doubler(place, in_async=in_async).double(4) == 8


@every_place
@both_colours
async def test_before_and_after(place: Place, in_async: bool) -> None:
    """`name` is visited before the body, and `name:after` after the body has completed."""
    doubler = Doubler(place, in_async=in_async)
    with configured("double", doubler.noting()), configured("double:after", doubler.noting()):
        assert await doubler.double(4) == 8
    assert doubler.log == ["double", "body", "double:after"]


@every_place
@both_colours
async def test_return_before(place: Place, in_async: bool) -> None:
    """`return(v)` at `name` skips the body, and `name:after` with it; the annotation converts the text."""
    doubler = Doubler(place, in_async=in_async)
    with configured("double", "return(7)") as before, configured("double:after", "off") as after:
        assert await doubler.double(4) == 7
        assert (before.hits, after.hits) == (1, 0)
    assert doubler.log == []


@every_place
@both_colours
async def test_return_after(place: Place, in_async: bool) -> None:
    """`return(v)` at `name:after` replaces the result of a body that has run."""
    doubler = Doubler(place, in_async=in_async)
    with configured("double:after", "return(7)"):
        assert await doubler.double(4) == 7
    assert doubler.log == ["body"]


@every_place
@both_colours
async def test_raise_before(place: Place, in_async: bool) -> None:
    """`raise` at `name` skips the body."""
    doubler = Doubler(place, in_async=in_async)
    with configured("double", "raise"), pytest.raises(InjectedFault):
        await doubler.double(4)
    assert doubler.log == []


@every_place
@both_colours
async def test_raise_after(place: Place, in_async: bool) -> None:
    """`raise` at `name:after` runs the body, but the caller gets the error."""
    doubler = Doubler(place, in_async=in_async)
    with configured("double:after", "raise(TimeoutError)"), pytest.raises(TimeoutError):
        await doubler.double(4)
    assert doubler.log == ["body"]


@every_place
@both_colours
async def test_body_that_raises(place: Place, in_async: bool) -> None:
    """If the body raises, `name:after` is not visited, and the error propagates unchanged."""
    doubler = Doubler(place, in_async=in_async, fails=True)
    with configured("double:after", "return(7)") as after:
        with pytest.raises(LookupError, match="^4$") as caught:
            await doubler.double(4)
        assert after.hits == 0
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


async def test_coroutine_of_a_generator() -> None:
    """A coroutine function written as a generator can be awaited whatever is configured."""

    @failpoint("old")
    @types.coroutine
    def old() -> Generator[Any, Any, int]:
        yield from ()
        return 1

    assert await old() == 1
    with configured("old", "off"):
        assert await old() == 1


async def test_stacked() -> None:
    """Of two failpoints on one function, the upper one is the outer, and each is visited before and after."""
    log: list[str] = []

    @failpoint("outer")
    @failpoint("inner")
    async def work() -> int:
        log.append("body")
        return 1

    names = ["outer", "inner", "inner:after", "outer:after"]
    for name in names:
        configure(name, Call(lambda hit: log.append(hit.name)))
    assert await work() == 1
    assert log == ["outer", "inner", "body", "inner:after", "outer:after"]
    log.clear()
    configure("inner", Return(2))
    assert await work() == 2
    assert log == ["outer", "outer:after"]


def test_arguments_of_any_name() -> None:
    """A decorated function's parameters may have any names."""

    @failpoint("named", context=["self", "args"])
    def named(self: int, /, wrapped: int, *, instance: int, args: int, kwargs: int, **more: int) -> list[int]:
        return [self, wrapped, instance, args, kwargs, *more.values()]

    with configured("named", "off", context={"self": 1, "args": 4}) as handle:
        assert named(1, wrapped=2, instance=3, args=4, kwargs=5, self=6, name=7) == [1, 2, 3, 4, 5, 6, 7]
        assert handle.hits == 1


# context


class Backup:
    """A class whose methods have failpoints with contexts."""

    def __init__(self, tenant_id: str) -> None:
        self.tenant_id = tenant_id

    @failpoint("mapping", context={"kind": "backup"})
    def mapping(self) -> None:
        """Have a fixed context."""

    @failpoint("callable", context=lambda self, shard, *, dry=False: {"t": self.tenant_id, "shard": shard, "dry": dry})
    def callable(self, shard: int, *, dry: bool = False) -> None:
        """Have a context callable that gets the call's arguments."""

    @failpoint("names", context=["shard", "dry"])
    def names(self, shard: int, *, dry: bool = False) -> None:
        """Have two parameter names as context."""

    @failpoint("tuple", context=("self",))
    def tuple(self) -> None:
        """Have `self` in the context."""

    @failpoint("more", context=["shard", "colour", "more"])
    def more(self, shard: int = 5, **more: str) -> None:
        """Have the extra arguments in the context."""

    @failpoint("of_class", context=["cls", "shard"])
    @classmethod
    def of_class(cls, shard: int) -> None:
        """Have the class in the context."""

    @failpoint("none")
    def none(self) -> None:
        """Have no context."""


BACKUP = Backup("t1")


@pytest.mark.parametrize(
    ("name", "call", "expected"),
    [
        ("mapping", lambda: BACKUP.mapping(), {"kind": "backup"}),
        ("callable", lambda: BACKUP.callable(3), {"t": "t1", "shard": 3, "dry": False}),
        ("callable", lambda: BACKUP.callable(shard=3, dry=True), {"t": "t1", "shard": 3, "dry": True}),
        ("names", lambda: BACKUP.names(3), {"shard": 3, "dry": False}),
        ("names", lambda: Backup.names(BACKUP, dry=True, shard=4), {"shard": 4, "dry": True}),
        ("tuple", lambda: BACKUP.tuple(), {"self": BACKUP}),
        ("more", lambda: BACKUP.more(colour="red"), {"shard": 5, "colour": "red", "more": {"colour": "red"}}),
        ("more", lambda: BACKUP.more(6), {"shard": 6, "more": {}}),
        ("of_class", lambda: Backup.of_class(3), {"cls": Backup, "shard": 3}),
        ("none", lambda: BACKUP.none(), {}),
    ],
)
@pytest.mark.parametrize("suffix", ["", ":after"])
def test_context(name: str, suffix: str, call: Callable[[], None], expected: dict[str, Any]) -> None:
    """A context is a mapping, a callable that gets the call's arguments, or a list of parameter names."""
    seen: list[Hit] = []
    with configured(name + suffix, Call(seen.append)):
        call()
    assert [(hit.name, dict(hit.context)) for hit in seen] == [(name + suffix, expected)]


def test_context_only_when_configured() -> None:
    """A context is evaluated once per visit of a configured failpoint, and never otherwise."""
    calls: list[int] = []

    def context(number: int) -> dict[str, int]:
        calls.append(number)
        return {"number": number}

    @failpoint("costly", context=context)
    def costly(number: int) -> int:
        return number

    costly(1)
    with configured("another", "off"):
        costly(2)
    assert calls == []
    with configured("costly:after", "off"):
        costly(3)
    assert calls == [3]


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (
            lambda number: [number],
            "failpoint 'bad': context= must be a mapping of keys to values, or a callable that returns one; got [1]",
        ),
        (
            lambda: {},  # noqa: PIE807 - the message names it
            "failpoint 'bad': context= is called with the call's own arguments, self included:"
            " <lambda>() takes 0 positional arguments but 1 was given",
        ),
    ],
    ids=["no_mapping", "other_arguments"],
)
def test_context_callable_that_cannot(context: Callable[..., Any], message: str) -> None:
    """A context callable with a wrong result or wrong parameters is a usage error at the visit."""

    @failpoint("bad", context=context)
    def bad(number: int) -> None: ...

    bad(1)
    with configured("bad", "off"), pytest.raises(FailpointUsageError) as caught:
        bad(1)
    assert str(caught.value).replace("test_context_callable_that_cannot.<locals>.", "") == message


# one object, many uses


async def test_kept() -> None:
    """A failpoint stored in a variable can decorate, be awaited and be hit any number of times."""
    point = failpoint("kept")

    @point
    def one() -> int:
        return 1

    @point
    async def two() -> int:
        return 2

    with configured("kept", Return(3)) as handle:
        assert [one(), await two(), one(), await two()] == [3] * 4
        assert [await point, point.hit(), await point, point.hit()] == [Return(3)] * 4
        assert handle.hits == 8


@pytest.mark.parametrize("access", ["double", "of_class", "of_instance"])
def test_bound_before_configuring(access: str) -> None:
    """A bound method stored while nothing was configured fires once its failpoint is configured."""

    class Owner:
        @failpoint("bound")
        def double(self, number: int) -> int:
            return 2 * number

        @failpoint("bound")
        @classmethod
        def of_class(cls, number: int) -> int:
            return 2 * number

        @classmethod
        @failpoint("bound")
        def of_instance(cls, number: int) -> int:
            return 2 * number

    stored = getattr(Owner(), access)
    assert stored(4) == 8
    with configured("bound", Return(7)):
        assert stored(4) == 7
    assert stored(4) == 8


@every_place
@both_colours
def test_wrong_arguments(place: Place, in_async: bool) -> None:
    """Wrong arguments raise the function's own `TypeError` at the call, without a visit."""

    async def async_body(*args: int, key: int) -> int:
        return key

    def sync_body(*args: int, key: int) -> int:
        return key

    body: Callable[..., Any] = async_body if in_async else sync_body
    call = place(failpoint("picky"), body)
    with pytest.raises(TypeError) as expected:
        body(1)
    with configured("picky", "return(1)") as handle:
        with pytest.raises(TypeError) as caught:
            call(1)
        assert handle.hits == 0
    assert str(caught.value) == str(expected.value)


def test_type_error_of_the_body() -> None:
    """A `TypeError` from the body itself does not undo the visit."""

    @failpoint("typed")
    def typed(number: int) -> None:
        raise TypeError(number)

    with configured("typed", "off") as handle:
        with pytest.raises(TypeError, match="^1$"):
            typed(1)
        assert handle.hits == 1


@every_place
def test_sites(place: Place) -> None:
    """A decorated function is a known site of `name` and `name:after`, with file and line, once decorated."""

    def here(*args: int) -> int:
        return args[-1]

    name = f"site.{id(place)}"  # sites are never forgotten, so each place has its own name
    place(failpoint(name), here)
    assert status(name).sites == status(f"{name}:after").sites == (f"{__file__}:{here.__code__.co_firstlineno}",)


def test_over_a_cached_function() -> None:
    """A failpoint over `functools.lru_cache` keeps the function's site, annotation and cache."""

    @failpoint("cached")
    @functools.lru_cache
    def cached(number: int) -> int:
        return 2 * number

    assert status("cached").sites == (f"{__file__}:{inspect.unwrap(cached).__code__.co_firstlineno}",)
    with configured("cached", "1*return(7)"):
        assert [cached(4), cached(4), cached(4)] == [7, 8, 8]
    assert cached.cache_info()[:2] == (1, 1)


# bad uses


class Plain:
    """A class whose decoration is an error."""

    def method(self) -> None:
        """Do nothing."""

    async def coroutine(self) -> None:
        """Do nothing."""


def decorated(thing: Any, **options: Any) -> Any:
    """Decorate *thing*."""
    return failpoint("bad", **options)(thing)


def function(tenant_id: str, shard: int) -> None:
    """Do nothing."""


DECORATES = "@failpoint('bad') decorates a function"


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            lambda: failpoint(function),  # type: ignore[arg-type]
            'failpoint needs a name first: write failpoint("some.name"), above function',
        ),
        (lambda: failpoint(), 'failpoint needs a name first: write failpoint("some.name")'),
        (
            lambda: failpoint(context={}),
            'failpoint needs a name first: write failpoint("some.name")',
        ),
        (
            lambda: failpoint(Plain),  # type: ignore[arg-type]
            'failpoint needs a name first: write failpoint("some.name"), above Plain',
        ),
        (
            lambda: failpoint(staticmethod(function)),  # type: ignore[arg-type]
            'failpoint needs a name first: write failpoint("some.name"), above function',
        ),
        (
            lambda: failpoint(classmethod(function)),  # type: ignore[arg-type]
            'failpoint needs a name first: write failpoint("some.name"), above function',
        ),
        (
            lambda: decorated(Plain),
            f"{DECORATES}, not the class Plain: decorate its methods",
        ),
        (
            lambda: decorated(Plain().method),
            f"{DECORATES}, not the bound method Plain.method: decorate it where the class defines it",
        ),
        (
            lambda: decorated(property(function)),
            f"{DECORATES}, not a property: put it under the property's decorator",
        ),
        (
            lambda: decorated(functools.cached_property(function)),
            f"{DECORATES}, not a property: put it under the property's decorator",
        ),
        (lambda: decorated(42), f"{DECORATES}; got 42"),
        (lambda: decorated(None), f"{DECORATES}; got None"),
        (
            lambda: decorated(function, context=["tenant"]),
            "failpoint 'bad': context= names 'tenant', which is not a parameter of function"
            " (it has: tenant_id, shard); did you mean 'tenant_id'?",
        ),
        (
            lambda: decorated(lambda: None, context=["tenant"]),
            "failpoint 'bad': context= names 'tenant', which is not a parameter of <lambda>.<locals>.<lambda>"
            " (it has: none)",
        ),
        (
            lambda: decorated(function, context="shard"),
            "failpoint 'bad': context= must be a mapping, a callable that returns one, or a list of parameter names;"
            " got 'shard'; did you mean ['shard']?",
        ),
        (
            lambda: decorated(function, context=42),
            "failpoint 'bad': context= must be a mapping, a callable that returns one, or a list of parameter names;"
            " got 42",
        ),
        (
            lambda: decorated(function, raises=[OSError]),
            "failpoint 'bad': raises= must be a tuple of exception types; got [<class 'OSError'>]",
        ),
        (
            lambda: decorated(function, raises=OSError),
            "failpoint 'bad': raises= must be a tuple of exception types; got <class 'OSError'>",
        ),
        (
            lambda: decorated(function, raises=(int,)),
            "failpoint 'bad': raises= must be a tuple of exception types; got (<class 'int'>,)",
        ),
        (
            lambda: decorated(function, cancel=42),
            "failpoint 'bad': cancel= must be an event, or a callable that returns one; got 42",
        ),
        (
            lambda: failpoint("bad:after")(function),
            "failpoint 'bad:after': names ending in ':after' are reserved for decorated functions and scopes;"
            " declare 'bad'",
        ),
    ],
)
def test_bad_use(use: Callable[[], object], message: str) -> None:
    """Decorating an unsuitable object is a usage error that suggests a solution."""
    with pytest.raises(FailpointError) as caught:
        use()
    assert (type(caught.value), str(caught.value)) == (FailpointUsageError, message)


def test_coroutine_is_not_a_function() -> None:
    """Decorating a coroutine instead of a function is a usage error that names the call to leave out."""
    coroutine = Plain().coroutine()
    with pytest.raises(FailpointUsageError) as caught:
        decorated(coroutine)
    coroutine.close()
    assert str(caught.value) == f"{DECORATES}, not a coroutine: leave out the call of Plain.coroutine"


@pytest.mark.parametrize("name", [42, None, "", "two words", "a=b", "a;b", "bell\a"])
def test_bad_name(name: Any) -> None:
    """An invalid name raises `FailpointNameError`, a `ValueError`, at decoration at the latest."""
    with pytest.raises(FailpointNameError) as caught:
        failpoint(name)(function)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).startswith("a failpoint's name ")


def test_decorated_again() -> None:
    """A decorated function or bound method can be decorated again under the same rules."""

    class Owner:
        @failpoint("method")
        def method(self) -> int:
            return 1

    with pytest.raises(FailpointUsageError, match="^@failpoint\\('bad'\\) decorates a function, not the bound method"):
        decorated(Owner().method)
    with configured("bad", Return(2)), configured("method", Return(3)):
        assert decorated(Owner.method)(Owner()) == 2
