"""`instrument` on functions of every kind, and its undo."""

from __future__ import annotations

import copy
import enum
import functools
import inspect
import json
import os
import pickle
import random
import sys
import types
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest import mock

import pytest

import failpoints
from failpoints import FailpointNameError, FailpointUsageError, configure, configured, failpoint, status
from failpoints.instrument import Instrumentation, instrument
from failpoints.pytest_plugin import Failpoints

HERE = __name__


def plain(number: int) -> int:
    """Doubled."""
    return 2 * number


async def later(number: int) -> int:
    return 2 * number


def each(number: int) -> Iterator[int]:
    yield from range(number)


async def each_later(number: int) -> AsyncIterator[int]:
    for value in range(number):
        yield value


@functools.lru_cache
def cached(number: int) -> int:
    return 2 * number


partial = functools.partial(plain, 4)
bound = random.Random(1).randint


class Meta(type):
    def __setattr__(cls, name: str, value: object) -> None:
        raise TypeError("classes of this kind cannot be changed")

    def of_the_metaclass(cls) -> str:
        return "meta"


class Base:
    def method(self, number: int) -> int:
        return 2 * number

    @classmethod
    def of_class(cls, number: int) -> tuple[str, int]:
        return cls.__name__, number

    @staticmethod
    def static(number: int) -> int:
        return 2 * number

    async def later(self, number: int) -> int:
        return 2 * number

    @classmethod
    async def of_class_later(cls, number: int) -> str:
        return cls.__name__

    def __call__(self, number: int) -> int:
        return 2 * number

    @property
    def value(self) -> int:
        return 1

    class Inner:  # noqa: D106
        def method(self) -> str:
            return "inner"


class Sub(Base):
    pass


class Slotted(metaclass=Meta):
    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def method(self) -> int:
        return self.number


class Abstract(ABC):
    @abstractmethod
    def method(self) -> int: ...


class Colour(enum.Enum):
    RED = 1

    def shown(self) -> str:
        return self.name.lower()


class Text(str):
    """A Python subclass of a class written in C."""

    __slots__ = ()


base, sub = Base(), Sub()


def of(path: str, name: str = "theirs", **options: Any) -> Instrumentation:
    return instrument(f"{HERE}:{path}", name, **options)


def object_at(path: str) -> Any:
    """Return the object at the path, without binding it."""
    *classes, name = path.split(".")
    owner: Any = sys.modules[HERE]
    for each in classes:
        owner = getattr(owner, each)
    return vars(owner).get(name, "nothing")


# what can be instrumented

SYNC: list[tuple[str, Any, Any]] = [
    ("plain", lambda: plain(4), 8),
    ("cached", lambda: cached(4), 8),
    ("partial", lambda: partial(), 8),
    ("Base.method", lambda: base.method(4), 8),
    ("Base.method", lambda: sub.method(4), 8),
    ("Base.method", lambda: Base.method(base, 4), 8),
    ("Base.of_class", lambda: Base.of_class(4), ("Base", 4)),
    ("Base.of_class", lambda: sub.of_class(4), ("Sub", 4)),
    ("Base.static", lambda: Base.static(4), 8),
    ("Base.static", lambda: sub.static(4), 8),
    ("Base.__call__", lambda: base(4), 8),
    ("Base.Inner.method", lambda: Base.Inner().method(), "inner"),
    ("Sub.method", lambda: sub.method(4), 8),
    ("Sub.of_class", lambda: Sub.of_class(4), ("Sub", 4)),
    ("Sub.static", lambda: sub.static(4), 8),
    ("Sub.__call__", lambda: sub(4), 8),
    ("Slotted.__init__", lambda: Slotted(3).number, 3),
    ("Slotted.method", lambda: Slotted(3).method(), 3),
    ("Meta.of_the_metaclass", lambda: Slotted.of_the_metaclass(), "meta"),
    ("Colour.shown", lambda: Colour.RED.shown(), "red"),
    ("Text.upper", lambda: Text("a").upper(), "A"),
]


@pytest.mark.parametrize(("path", "call", "result"), SYNC)
def test_functions_of_every_kind(path: str, call: Any, result: Any) -> None:
    """It is visited before and after, works as before while nothing is configured, and undo restores the object."""
    before = object_at(path)
    undo = of(path, raises=(KeyError,))
    assert call() == result
    with configured("theirs", "off") as first, configured("theirs:after", "off") as after:
        assert call() == result
        assert (first.hits, after.hits) == (1, 1)
    with configured("theirs", "raise(KeyError)"), pytest.raises(KeyError):
        call()
    with configured("theirs:after", "raise(KeyError)"), pytest.raises(KeyError):
        call()
    undo()
    assert object_at(path) is before
    with configured("theirs", "raise"), configured("theirs:after", "raise"):
        assert call() == result


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "call", "result"),
    [
        ("later", lambda: later(4), 8),
        ("Base.later", lambda: base.later(4), 8),
        ("Sub.later", lambda: sub.later(4), 8),
        ("Base.of_class_later", lambda: sub.of_class_later(4), "Sub"),
        ("Sub.of_class_later", lambda: Sub.of_class_later(4), "Sub"),
    ],
)
async def test_async_functions(path: str, call: Any, result: Any) -> None:
    """An async function is visited before and after, and a failpoint can pause it."""
    before = object_at(path)
    with of(path):
        assert await call() == result
        with configured("theirs", "1*sleep(1)->yield") as site, configured("theirs:after", "return(7)") as after:
            assert await call() == ("7" if isinstance(result, str) else 7)
            assert (site.hits, after.hits) == (1, 1)
    assert object_at(path) is before


def test_generators() -> None:
    """A generator is visited at its first step."""
    with of("each"), configured("theirs", "1*return->off") as site:
        assert list(each(3)) == []
        values = each(3)
        assert site.hits == 1
        assert list(values) == [0, 1, 2]
        assert site.hits == 2


@pytest.mark.anyio
async def test_async_generators() -> None:
    """An async generator is visited at its first step."""
    with of("each_later"), configured("theirs", "1*return->off") as site:
        assert [value async for value in each_later(3)] == []
        assert [value async for value in each_later(3)] == [0, 1, 2]
        assert site.hits == 2


def test_a_bound_method_of_a_module() -> None:
    """A function of a module may be a bound method, such as `random.random`."""
    before = object_at("bound"), random.random
    with of("bound"), instrument("random:random", "random"):
        with configured("theirs", "return(3)"), configured("random", "return(0.5)", context={}):
            assert bound(1, 9) == "3"
            assert random.random() == "0.5"
        assert 1 <= bound(1, 9) <= 9
    assert (object_at("bound"), random.random) == before


@pytest.mark.parametrize("path", ["time:time", "os:getcwd", "math:sqrt", "builtins:sorted", "os.path:exists"])
def test_functions_written_in_c(path: str) -> None:
    """A function of a module may be written in C. Without source, its site has the path as its location."""
    module, _, name = path.partition(":")
    holder = sys.modules[module] if module in sys.modules else __import__(module)
    before = vars(holder)[name]
    with instrument(path, "theirs"):
        if isinstance(before, types.BuiltinFunctionType):
            assert status("theirs").sites == status("theirs:after").sites == (path,)
        with configured("theirs", "raise"), pytest.raises(failpoints.InjectedFault):
            getattr(holder, name)(4)
    assert vars(holder)[name] is before
    assert status("theirs").sites == ()


def test_options() -> None:
    """`instrument` takes the options of `@failpoint`."""
    with (
        of("plain", context=["number"], convert=lambda text: int(text) + 1, raises=(ZeroDivisionError,)),
        configured("theirs", "1*return(5)->raise(ZeroDivisionError)", context={"number": 3}) as site,
    ):
        assert (plain(2), plain(3)) == (4, 6)
        with pytest.raises(ZeroDivisionError):
            plain(3)
        assert (site.hits, site.misses) == (2, 1)


def test_it_stays_itself() -> None:
    """The wrapper has the function's name, signature and kind, and can be copied and pickled by name."""
    signature = inspect.signature(plain)
    with of("plain"), of("later"), of("Base.method"), of("Base.of_class"):
        assert (plain.__name__, plain.__doc__, inspect.signature(plain)) == ("plain", "Doubled.", signature)
        assert inspect.isfunction(plain)
        assert inspect.iscoroutinefunction(later)
        assert inspect.ismethod(base.method)
        assert inspect.ismethod(Base.of_class)
        assert isinstance(vars(Base)["of_class"], classmethod)
        assert copy.deepcopy(plain) is copy.copy(plain) is pickle.loads(pickle.dumps(plain)) is plain
        assert pickle.loads(pickle.dumps(Base.method)) is Base.method
        with pytest.raises(TypeError, match="plain"):
            plain()  # type: ignore[call-arg]
        with configured("theirs", "off"), pytest.raises(TypeError, match="plain"):
            plain()  # type: ignore[call-arg]
    with instrument("json:JSONDecoder.decode", "decode"), instrument("os.path:exists", "exists"):
        assert pickle.loads(pickle.dumps(os.path.exists))(os.curdir)


def test_a_name_that_is_elsewhere_is_pickled_as_the_function() -> None:
    """A function that a module imports from another one is pickled by its name there."""
    function = json.JSONDecoder
    assert function.__module__ == "json.decoder"
    module = types.ModuleType("a_module_with_a_copy")
    vars(module)["plain"] = plain
    sys.modules[module.__name__] = module
    try:
        with instrument("a_module_with_a_copy:plain", "theirs"):
            assert pickle.loads(pickle.dumps(vars(module)["plain"])) is plain
    finally:
        del sys.modules[module.__name__]


def test_bound_methods_that_were_stored(failpoints: Failpoints) -> None:
    """A bound method stored while it was instrumented is visited until undo."""
    with of("Base.method"):
        stored = base.method
        failpoints.set("theirs", "return(0)")
        assert stored(4) == 0
    assert stored(4) == 8


def test_names_taken_before_are_out_of_reach() -> None:
    """A reference taken from the module earlier is the unchanged function."""
    taken = plain
    with of("plain"), configured("theirs", "return(0)"):
        assert (plain(4), taken(4)) == (0, 8)


def test_decorated_and_instrumented() -> None:
    """A function that is decorated in the program can be instrumented, and both failpoints are visited."""
    module = sys.modules[HERE]
    vars(module)["decorated"] = failpoint("own")(plain)
    try:
        with of("decorated"), configured("own", "off") as own, configured("theirs", "off") as site:
            assert vars(module)["decorated"](4) == 8
        assert (own.hits, site.hits) == (1, 1)
    finally:
        del vars(module)["decorated"]


# inherited


def test_an_inherited_method_is_set_on_that_class_only() -> None:
    """`Sub.method` affects only `Sub`, not its base class or other subclasses."""
    with of("Sub.method"), configured("theirs", "return(0)"):
        assert "method" in vars(Sub)
        assert (sub.method(4), base.method(4)) == (0, 8)
    assert "method" not in vars(Sub)


@pytest.mark.parametrize("paths", [("Base.method", "Sub.method"), ("Sub.method", "Base.method")])
@pytest.mark.parametrize("backwards", [False, True])
def test_base_and_subclass(paths: tuple[str, str], backwards: bool) -> None:
    """Base class and subclass have separate failpoints, in any order of instrument and undo."""
    before = object_at("Base.method")
    undo = [of(path, path) for path in paths]
    with configured("Base.method", "off") as of_base, configured("Sub.method", "off") as of_sub:
        assert (base.method(4), sub.method(4)) == (8, 8)
        assert (of_base.hits, of_sub.hits) == (1, 1)
        for each in reversed(undo) if backwards else undo:
            each()
        assert (base.method(4), sub.method(4)) == (8, 8)
        assert (of_base.hits, of_sub.hits) == (1, 1)
    assert object_at("Base.method") is before
    assert "method" not in vars(Sub)


# twice


def test_the_same_path_twice_is_one_failpoint() -> None:
    """A path that is instrumented twice is visited once per call, until the second undo."""
    before = object_at("plain")
    first = of("plain", context=["number"])
    put = object_at("plain")
    second = of("plain", context=["number"])
    assert object_at("plain") is put
    with configured("theirs", "off") as site:
        plain(1)
        assert site.hits == 1
        first()
        first()  # changes nothing
        plain(1)
        assert site.hits == 2
        assert object_at("plain") is put
        second()
        plain(1)
        assert site.hits == 2
    assert object_at("plain") is before


def test_two_paths_to_the_same_place_are_one() -> None:
    """Two paths to the same class, in different modules, are one failpoint."""
    decode = vars(json.JSONDecoder)["decode"]
    with instrument("json:JSONDecoder.decode", "decode"), instrument("json.decoder:JSONDecoder.decode", "decode"):
        with configured("decode", "off") as handle:
            json.loads("1")
        assert handle.hits == 1
    assert vars(json.JSONDecoder)["decode"] is decode


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("other", {}, "and cannot have 'other' as well: use that name, or undo it first"),
        ("theirs", {"raises": (OSError,)}, "with another raises=: pass the same, or undo it first"),
        ("theirs", {"context": ["number"]}, "with another context=: pass the same, or undo it first"),
        ("theirs", {"convert": int}, "with another convert=: pass the same, or undo it first"),
    ],
)
def test_the_same_path_under_another_name(name: str, options: dict[str, Any], problem: str) -> None:
    """One path cannot have two names. The error mentions the first, which remains."""
    with of("plain"):
        put = object_at("plain")
        with pytest.raises(FailpointUsageError, match="already has the failpoint 'theirs', from instrument") as error:
            of("plain", name, **options)
        assert problem in str(error.value)
        assert object_at("plain") is put
    with of("plain", name, **options):
        pass


def test_two_functions_under_one_name() -> None:
    """One name may have several places, each of which is a known site until its undo."""
    with of("plain"), of("later"):
        assert len(status("theirs").sites) == 2
        with instrument("json:dumps", "theirs"):
            assert len(status("theirs").sites) == 3
        assert len(status("theirs").sites) == 2
    assert status("theirs").sites == ()


# undo after other code has wrapped the function


def test_undone_under_a_patch() -> None:
    """A later patch stays in place after undo. Beneath it calls pass through, and the next undo cleans up."""
    before = object_at("plain")
    undo = of("plain")
    with configured("theirs", "off") as site:
        with mock.patch(f"{HERE}.plain", lambda number: -plain_before(number)) as patched, mock.patch.dict({}):
            undo()
            assert object_at("plain") is patched
            assert plain(4) == -8
        assert plain(4) == 8
        assert site.hits == 0
    assert object_at("plain") is not before  # the patch has restored what it replaced
    of("plain")()
    assert object_at("plain") is before


def plain_before(number: int) -> int:
    return 2 * number


def test_undone_after_a_patch() -> None:
    """A patch that begins and ends inside the block does not disturb it."""
    before = object_at("Base.method")
    with of("Base.method"), configured("theirs", "off") as site:
        with mock.patch.object(Base, "method", autospec=True, return_value=1):
            assert base.method(4) == 1
        assert base.method(4) == 8
    assert site.hits == 1
    assert object_at("Base.method") is before


def test_annotations_after_an_autospec() -> None:
    """An instrumented function keeps its annotations after `mock` has inspected another wrapper."""
    with of("Base.method"), mock.patch.object(Base, "method", autospec=True):
        pass
    expected = {"number": "int", "return": "int"}
    with of("plain"):
        for kind in type(plain).__mro__:
            getattr(kind, "__annotations__", None)  # as the autospec does, of whichever wrapper it meets
        assert plain.__annotations__ == failpoint("own")(plain).__annotations__ == expected
        plain.__annotations__ = {}
        assert plain.__annotations__ == {}
        plain.__annotations__ = expected
    assert plain.__annotations__ == expected


def test_instrumented_under_a_foreign_wrapper() -> None:
    """A path with a foreign wrapper over it is still the same failpoint."""
    before = object_at("plain")
    first = of("plain")

    @functools.wraps(plain)
    def wrapper(number: int) -> int:
        return wrapped(number)

    wrapped = plain
    with mock.patch(f"{HERE}.plain", wrapper):
        second = of("plain")
        with configured("theirs", "off") as site:
            plain(4)
        assert site.hits == 1
    first()
    second()
    assert object_at("plain") is before


def test_instrumented_over_another_function() -> None:
    """A function that has replaced the first, as after a reload, becomes the failpoint."""
    module = sys.modules[HERE]
    before = object_at("plain")
    first = of("plain")
    another = lambda number: -number  # noqa: E731
    vars(module)["plain"] = another
    try:
        second = of("plain")
        with configured("theirs", "off") as site:
            assert plain(4) == -4
        assert site.hits == 1
        second()
        first()
        assert object_at("plain") is another
    finally:
        vars(module)["plain"] = before


# errors


ERRORS = [
    (3, "instrument takes a path, such as 'httpx:AsyncClient.send'; got 3"),
    ("", "expected module:function, found no ':'"),
    ("json.dumps", "expected module:function, found no ':'; did you mean 'json:dumps'?"),
    ("json.JSONDecoder.decode", "found no ':'; did you mean 'json:JSONDecoder.decode'?"),
    ("not.imported.Class.method", "found no ':'; did you mean 'not.imported:Class.method'?"),
    ("json:", "expected a function's name after ':', found nothing"),
    (":dumps", "expected a module's name before ':', found nothing"),
    ("json:a:b", "expected a function's name after ':', found 'a:b'"),
    ("json:a b", "expected a function's name after ':', found 'a b'"),
    ("json..x:a", "expected a module's name before ':', found nothing"),
    ("jsn:dumps", "'jsn:dumps': there is no module 'jsn'; did you mean 'json'?"),
    ("json.decodr:x", "there is no module 'json.decodr'; did you mean 'json.decoder'?"),
    ("json:dmps", "'json:dmps': there is no 'dmps' in the module json; did you mean 'json:dumps'?"),
    ("json:JSONDecodr.decode", "there is no 'JSONDecodr' in the module json; did you mean 'json:JSONDecoder.decode'?"),
    ("json:JSONDecoder.decod", "there is no 'decod' in json:JSONDecoder; did you mean 'json:JSONDecoder.decode'?"),
    ("json:raw_decode", "there is no 'raw_decode' in the module json; did you mean 'json:JSONDecoder.raw_decode'?"),
    (
        "json:JSONDecoder",
        "is not a function but a class: instrument one of its methods; did you mean 'json:JSONDecoder.__init__'?",
    ),
    ("json:decoder", "is not a function but a module: instrument one of its functions, 'json.decoder:…'"),
    ("json:__all__", "is not a function but ["),
    ("os:environ", "which cannot be called"),
    (
        "os:environ.get",
        "os:environ is not a class but an instance of _Environ; instrument the function in its class;",
    ),
    (f"{HERE}:Base.value", "is not a function but a property: instrument a function that it calls"),
    (
        f"{HERE}:base",
        f"is not a function but a callable instance of Base; did you mean '{HERE}:Base.__call__'?",
    ),
    (
        f"{HERE}:Slotted.of_the_metaclass",
        f"is not a method of the class but of its metaclass; did you mean '{HERE}:Meta.of_the_metaclass'?",
    ),
    (f"{HERE}:Base.__init__", "is the method of object, which behaves differently once a class has its own"),
    ("datetime:datetime.now", "is a class method written in C, which cannot be wrapped"),
    ("builtins:str.upper", "is a method of a class written in C, which Python does not allow to be changed"),
    ("failpoints:configure", "the functions of this package cannot be instrumented"),
    ("failpoints._core.visit:visit", "the functions of this package cannot be instrumented"),
]


@pytest.mark.parametrize(("path", "problem"), ERRORS, ids=lambda value: str(value)[:40])
def test_a_path_that_is_not_a_function(path: Any, problem: str) -> None:
    """A bad path is an error that shows what was found or suggests the nearest path, and changes nothing."""
    with pytest.raises(FailpointUsageError) as error:
        instrument(path, "theirs")
    assert problem in str(error.value)
    assert "\n" not in str(error.value)
    assert status("theirs").sites == ()


@pytest.mark.parametrize(
    ("name", "options", "error", "problem"),
    [
        ("a b", {}, FailpointNameError, "without white space"),
        (3, {}, FailpointNameError, ""),
        ("a:after", {}, FailpointUsageError, "names ending in ':after' are reserved"),
        ("a", {"raises": OSError}, FailpointUsageError, "raises= must be a tuple of exception types"),
        ("a", {"convert": 3}, FailpointUsageError, "convert= must be a sync function"),
        ("a", {"cancel": 3}, FailpointUsageError, "cancel= must be an event"),
        ("a", {"context": ["nummer"]}, FailpointUsageError, "did you mean 'number'?"),
        ("a", {"context": "number"}, FailpointUsageError, "did you mean ['number']?"),
    ],
)
def test_arguments_that_failpoint_refuses(name: Any, options: Any, error: type[Exception], problem: str) -> None:
    """`instrument` refuses what `@failpoint` refuses, and changes nothing."""
    before = object_at("plain")
    with pytest.raises(error) as raised:
        of("plain", name, **options)
    assert problem in str(raised.value)
    assert object_at("plain") is before
    with of("plain"):
        pass


def test_repr_of_the_undo() -> None:
    """The `repr` of the undo shows what it undoes."""
    with of("plain") as undo:
        assert repr(undo) == f"<instrument('{HERE}:plain', 'theirs')>"


def test_a_call_in_flight_when_it_is_undone() -> None:
    """A call in progress during undo still visits its `:after`."""
    steps: list[str] = []
    undo = of("each")
    configure("theirs:after", failpoints.Call(lambda hit: steps.append(hit.name)))
    values = each(2)
    steps.append(str(next(values)))
    undo()
    steps += map(str, values)
    assert steps == ["0", "1", "theirs:after"]
