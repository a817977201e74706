"""A decorated function looks the same as an undecorated twin."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import copy
import dataclasses
import enum
import functools
import gc
import inspect
import pickle
import pydoc
import re
import sys
import types
import typing
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any
from unittest import mock

import pytest

from failpoints import Return, configured, failpoint

pytestmark = pytest.mark.anyio


class Twins:
    """Functions of every kind, marked by a decorator or by one that does nothing."""

    def __init__(self, mark: Callable[[Any], Any]) -> None:
        @mark
        def sync(a: int, /, b: str = "b", *rest: int, c: bool, d: float = 1.5, **more: Any) -> list[int]:
            """Do it."""
            return [a, *rest]

        @mark
        async def coroutine(a: int, b: Twins | None = None) -> int:
            return a

        @mark
        def generator(a: int) -> Iterator[int]:
            """Yield one."""
            yield a

        @mark
        async def async_generator(a: int) -> AsyncIterator[int]:
            yield a

        @mark
        def unannotated(a, *, b=None):  # type: ignore[no-untyped-def]
            return a

        @mark
        @functools.wraps(coroutine)
        def wrapping(*args: Any) -> Any:
            return coroutine(*args)

        class Owner:
            """Methods of every kind."""

            @mark
            def method(self, a: int) -> int:
                """Do it."""
                return a

            @mark
            async def async_method(self, a: int) -> int:
                return a

            @mark
            @classmethod
            def class_inside(cls, a: int) -> int:
                """Do it."""
                return a

            @classmethod
            @mark
            async def class_outside(cls, a: int) -> int:
                return a

            @mark
            @staticmethod
            async def static_inside(a: int) -> int:
                return a

            @staticmethod
            @mark
            def static_outside(a: int) -> int:
                return a

            @mark
            async def __call__(self, a: int) -> int:
                return a

        owner = Owner()
        self.owner = owner
        self.callables: dict[str, Callable[..., Any]] = {
            "function": sync,
            "async function": coroutine,
            "generator": generator,
            "async generator": async_generator,
            "unannotated": unannotated,
            "sync around async": wrapping,
            "lambda": mark(lambda a: a),
            "partial": functools.partial(coroutine, 1),
            "callable object": owner,
            "wrapped": functools.wraps(coroutine)(lambda *args: coroutine(*args)),
            "method": owner.method,
            "method of class": Owner.method,
            "async method": owner.async_method,
            "class method": Owner.class_inside,
            "class method of instance": owner.class_inside,
            "class method outside": Owner.class_outside,
            "static method": Owner.static_inside,
            "static method of instance": owner.static_inside,
            "static method outside": Owner.static_outside,
        }


LOOKS: dict[str, Callable[[Any], Any]] = {
    "name": lambda function: function.__name__,
    "qualname": lambda function: function.__qualname__,
    "module": lambda function: function.__module__,
    "doc": lambda function: (function.__doc__, inspect.getdoc(function)),
    "annotations": lambda function: (function.__annotations__, inspect.get_annotations(function, eval_str=True)),
    "type hints": typing.get_type_hints,
    "signature": lambda function: str(inspect.signature(function)),
    "full argspec": inspect.getfullargspec,
    "defaults": lambda function: (function.__defaults__, function.__kwdefaults__),
    "code": lambda function: function.__code__.co_firstlineno,
    "globals": lambda function: function.__globals__["__name__"],
    "dict": lambda function: set(function.__dict__) - {"__wrapped__"},
    "source": lambda function: (inspect.getsourcelines(function), inspect.getfile(function)),
    "help": lambda function: re.sub(" at 0x[0-9a-f]+", "", pydoc.render_doc(function)),
    "repr": lambda function: re.sub(" at 0x[0-9a-f]+", "", repr(function)),
    "callable": callable,
    "isfunction": inspect.isfunction,
    "ismethod": inspect.ismethod,
    "isroutine": inspect.isroutine,
    "iscoroutinefunction": lambda function: (
        inspect.iscoroutinefunction(function),
        # Deprecated since 3.14, where it is the same as that of inspect.
        sys.version_info < (3, 14) and asyncio.iscoroutinefunction(function),
    ),
    "isgeneratorfunction": inspect.isgeneratorfunction,
    "isasyncgenfunction": inspect.isasyncgenfunction,
    "isabstract": lambda function: getattr(function, "__isabstractmethod__", False),
    "hashable": lambda function: function in {function},
    "truth": bool,
    "instance of FunctionType": lambda function: isinstance(function, types.FunctionType),
}


def seen(look: Callable[[Any], Any], thing: Any) -> Any:
    """Return what *look* returns or the error that it raises."""
    try:
        return look(thing)
    except (AttributeError, TypeError, OSError) as error:
        return type(error)


@pytest.fixture(params=[False, True], ids=["off", "armed"])
def armed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the test with nothing configured, and with something."""
    with configured("another", "off") if request.param else contextlib.nullcontext():
        yield


@pytest.mark.usefixtures("armed")
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_looks_like_its_twin(look: Callable[[Any], Any]) -> None:
    """Introspection of a decorated function, method or generator gives the same as of the undecorated one."""
    twins = Twins(lambda function: function).callables
    functions = Twins(failpoint("itself")).callables
    assert {label: seen(look, function) for label, function in functions.items()} == {
        label: seen(look, twin) for label, twin in twins.items()
    }


@pytest.mark.usefixtures("armed")
def test_partial_looks_like_its_twin() -> None:
    """A decorated `functools.partial` shows the signature and the parts of the partial."""
    twin = functools.partial(asyncio.open_connection, "localhost", limit=1)
    function = failpoint("itself")(twin)
    for look in ("signature", "iscoroutinefunction", "ismethod", "isfunction", "callable"):
        assert seen(LOOKS[look], function) == seen(LOOKS[look], twin)
    assert (function.func, function.args, function.keywords) == (twin.func, twin.args, twin.keywords)


@pytest.mark.usefixtures("armed")
def test_attributes() -> None:
    """A decorated function has the attributes of the function, and any that are set on it later."""

    def function() -> None: ...

    function.tags = ["slow"]  # type: ignore[attr-defined]
    decorated: Any = failpoint("itself")(function)
    decorated.other = 1
    assert (decorated.tags, decorated.other) == (["slow"], 1)
    assert not hasattr(decorated, "no_such_attribute")


@pytest.mark.usefixtures("armed")
def test_attributes_of_a_wrapper() -> None:
    """A decorated wrapper shares its attributes, so that those that its body sets are seen."""

    def counted(function: Callable[[], None]) -> Any:
        @functools.wraps(function)
        def wrapper() -> None:
            wrapper.calls += 1  # type: ignore[attr-defined]

        wrapper.calls = 0  # type: ignore[attr-defined]
        return wrapper

    @failpoint("counted")
    @counted
    def function() -> None: ...

    function()
    function()
    assert function.calls == 2


@pytest.mark.usefixtures("armed")
def test_unwrapped() -> None:
    """`inspect.unwrap` returns the function without its failpoints, as for other decorators."""

    def function(number: int) -> int:
        return 2 * number

    decorated: Any = failpoint("outer")(failpoint("inner")(function))
    unwrapped: Any = inspect.unwrap(decorated)
    assert decorated.__wrapped__ is not decorated
    with configured("outer", Return(7)), configured("inner", Return(8)):
        assert unwrapped(1) == 2
        assert decorated(1) == 7
    assert unwrapped.__code__ is function.__code__


# pickles, copies, references


@failpoint("module.function")
def module_function(number: int) -> int:
    """Double it."""
    return 2 * number


@failpoint("module.partial")
def two(first: int, second: int) -> list[int]:
    """Show both."""
    return [first, second]


partial_of_two = failpoint("module.partial")(functools.partial(two, 1))


class Module:
    """A class that can be pickled."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.callback = module_function

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Module) and other.number == self.number

    __hash__ = None  # type: ignore[assignment]

    @failpoint("module.method")
    def method(self) -> int:
        """Show the number."""
        return self.number

    @failpoint("module.static")
    @staticmethod
    def static() -> None:
        """Do nothing."""

    @failpoint("module.class_method")
    @classmethod
    def class_method(cls) -> None:
        """Do nothing."""


@pytest.mark.usefixtures("armed")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol: int) -> None:
    """A decorated function is pickled by name, and a bound method with its object."""
    for function in (module_function, Module.method, Module.static):
        if protocol < 4 and function is not module_function:
            continue  # names with a dot need protocol 4
        assert pickle.loads(pickle.dumps(function, protocol)) is function
    assert pickle.loads(pickle.dumps(Module(5).method, protocol))() == 5
    assert pickle.loads(pickle.dumps(Module.class_method, max(protocol, 4))) == Module.class_method


@pytest.mark.usefixtures("armed")
def test_pickled_partial() -> None:
    """A decorated `functools.partial`, which has no name, is pickled and copied like a partial."""
    assert pickle.loads(pickle.dumps(partial_of_two))(2) == [1, 2]
    assert copy.copy(partial_of_two)(2) == [1, 2]


def test_local_function_is_not_pickled() -> None:
    """A decorated local function cannot be pickled, like an undecorated one."""
    twin = Twins(lambda function: function).callables["function"]
    with pytest.raises((pickle.PicklingError, AttributeError)) as expected:
        pickle.dumps(twin)
    with pytest.raises(type(expected.value)):
        pickle.dumps(Twins(failpoint("itself")).callables["function"])


@pytest.mark.usefixtures("armed")
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copy(copied: Callable[[Any], Any]) -> None:
    """Copying a decorated function returns that function, even inside a copied container."""
    assert copied(module_function) is module_function
    assert copied([module_function])[0] is module_function
    original = Module(5)
    duplicate = copied(original)
    assert duplicate == original
    assert duplicate.callback is module_function
    assert copied(original.method)() == 5


def test_weak_references() -> None:
    """Decorated functions and bound methods support weak references, and nothing keeps them alive."""
    assert weakref.ref(module_function)() is module_function
    owner = Module(5)
    reference = weakref.WeakMethod(owner.method)
    method = reference()
    assert method is not None
    assert method() == 5
    twins = Twins(failpoint("itself"))
    function = weakref.ref(twins.callables["function"])
    del twins
    gc.collect()
    assert function() is None


# methods


def test_bound_methods_are_equal() -> None:
    """Bound methods of one object are equal and have the same hash. Those of two objects differ."""
    one, other = Twins(failpoint("itself")).owner, Twins(failpoint("itself")).owner
    assert one.method == one.method
    assert hash(one.method) == hash(one.method)
    assert one.method != other.method
    assert one.method.__self__ is one
    assert type(one).method is type(one).method
    assert type(one).class_inside.__self__ is type(one)


@pytest.mark.usefixtures("armed")
def test_override_and_super() -> None:
    """A decorated method can be overridden, and called through `super()` and through the class."""

    class Base:
        @failpoint("base")
        def method(self) -> list[str]:
            return ["base"]

        @failpoint("base.class")
        @classmethod
        def class_method(cls) -> list[str]:
            return [cls.__name__]

    class Derived(Base):
        @failpoint("derived")
        def method(self) -> list[str]:
            return ["derived", *super().method()]

        @classmethod
        @failpoint("derived.class")
        def class_method(cls) -> list[str]:
            return ["derived", *super().class_method()]

    assert Derived().method() == ["derived", "base"]
    assert Base.method(Derived()) == ["base"]
    assert Derived.class_method() == Derived().class_method() == ["derived", "Derived"]
    with configured("base", Return(["failpoint"])), configured("base.class", Return(["failpoint"])):
        assert Derived().method() == Derived.class_method() == ["derived", "failpoint"]


@pytest.mark.parametrize("failpoint_outside", [True, False])
def test_abstract(failpoint_outside: bool) -> None:
    """An abstract method stays abstract, with the failpoint over or under `abstractmethod`."""
    point = failpoint("abstract")

    class Base(abc.ABC):
        def method(self) -> None:
            raise NotImplementedError

        method = point(abc.abstractmethod(method)) if failpoint_outside else abc.abstractmethod(point(method))

    class Derived(Base):
        def method(self) -> None: ...

    assert Base.__abstractmethods__ == {"method"}
    with pytest.raises(TypeError, match="abstract"):
        Base()  # type: ignore[abstract]
    Derived().method()


@pytest.mark.usefixtures("armed")
def test_special_methods() -> None:
    """Special methods can be decorated: Python finds and binds them on the class."""

    class Special:
        @failpoint("special")
        def __new__(cls, *args: int) -> Special:
            return super().__new__(cls)

        @failpoint("special")
        def __init__(self, *items: int) -> None:
            self.items = items

        @failpoint("special")
        def __len__(self) -> int:
            return len(self.items)

        @failpoint("special")
        def __iter__(self) -> Iterator[int]:
            yield from self.items

        @failpoint("special")
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Special) and self.items == other.items

        @failpoint("special")
        def __hash__(self) -> int:
            return hash(self.items)

        @failpoint("special")
        def __enter__(self) -> Special:
            return self

        @failpoint("special")
        def __exit__(self, *exception: object) -> None: ...

    with Special(1, 2) as special:
        assert list(special) == [1, 2]
        assert len(special) == 2
        assert {special: 1}[Special(1, 2)] == 1


@pytest.mark.usefixtures("armed")
def test_implicit_class_methods() -> None:
    """`__init_subclass__` and `__class_getitem__` remain implicit class methods."""

    class Base:
        names: typing.ClassVar[list[str]] = []

        @failpoint("init_subclass")
        def __init_subclass__(cls, **more: str) -> None:
            cls.names.append(cls.__name__)

        @failpoint("class_getitem")
        def __class_getitem__(cls, item: object) -> object:
            return cls, item

    class Derived(Base, key="value"): ...

    assert Base.names == ["Derived"]
    assert Derived[int] == (Derived, int)  # type: ignore[misc]


@pytest.mark.usefixtures("armed")
async def test_awaitable_object() -> None:
    """An `__await__` written as a generator can be decorated."""

    class Result:
        @failpoint("await")
        def __await__(self) -> Generator[Any, Any, int]:
            yield from ()
            return 1

    assert await Result() == 1
    with configured("await:after", Return(2)):
        assert await Result() == 2


# under and over other decorators


def test_under_wraps() -> None:
    """`functools.wraps` copies everything from a decorated function."""

    @functools.wraps(module_function)
    def wrapper(number: int) -> int:
        return module_function(number) + 1

    assert (wrapper.__name__, wrapper.__doc__, wrapper(1)) == ("module_function", "Double it.", 3)
    assert wrapper.__wrapped__ is module_function
    with configured("module.function", "return(7)"):
        assert wrapper(1) == 8


def test_under_lru_cache() -> None:
    """A decorated function can be cached, and an early return is cached after one hit."""
    cached = functools.lru_cache(failpoint("under.cache")(lambda number: 2 * number))
    with configured("under.cache", Return(7)) as handle:
        assert [cached(1), cached(1)] == [7, 7]
        assert handle.hits == 1
    assert [cached(1), cached(2)] == [7, 4]


def test_under_property() -> None:
    """A decorated function can be a property, a cached property and a partial method."""

    class Owner:
        @property
        @failpoint("property")
        def plain(self) -> int:
            return 1

        @functools.cached_property
        @failpoint("property")
        def cached(self) -> int:
            return 1

        @failpoint("property")
        def method(self, number: int) -> int:
            return number

        one = functools.partialmethod(method, 1)

    with configured("property", "return(7)") as handle:
        owner = Owner()
        assert (owner.plain, owner.cached, owner.cached, owner.one()) == (7, 7, 7, 7)
        assert handle.hits == 3
    owner = Owner()
    assert (owner.plain, owner.cached, owner.one()) == (1, 1, 1)


def test_under_single_dispatch() -> None:
    """Decorated functions can be a `functools.singledispatch` function and its parts."""

    @functools.singledispatch
    @failpoint("dispatch")
    def dispatch(thing: object) -> str:
        return "object"

    @dispatch.register
    @failpoint("dispatch.int")
    def _(thing: int) -> str:
        return "int"

    assert (dispatch("x"), dispatch(1)) == ("object", "int")
    with configured("dispatch.int", "return(7)"):
        assert (dispatch("x"), dispatch(1)) == ("object", "7")


class Refused(Exception):
    """The error that a block raises."""


async def enter(manager: Any, error: Exception | None) -> list[str]:
    """Return the events of a `with` or `async with` block that raises *error*, if given."""
    events: list[str] = []
    try:
        if hasattr(manager, "__aenter__"):
            async with manager as entered:
                events.append(entered)
                if error is not None:
                    raise error
        else:
            with manager as entered:
                events.append(entered)
                if error is not None:
                    raise error
    except Exception as raised:
        events.append(f"{raised!r} from {raised.__cause__!r}, {raised is error}")
    return events


def managers(mark: Callable[[Any], Any], log: list[str]) -> list[Callable[[], Any]]:
    """Make context managers from a marked generator and a marked async generator."""

    @contextlib.contextmanager
    @mark
    def manager() -> Iterator[str]:
        try:
            yield "entered"
        except LookupError:
            log.append("suppressed")
        finally:
            log.append("left")

    @contextlib.asynccontextmanager
    @mark
    async def async_manager() -> AsyncIterator[str]:
        try:
            yield "entered"
        except LookupError:
            log.append("suppressed")
        finally:
            log.append("left")

    return [manager, async_manager]


@pytest.mark.usefixtures("armed")
@pytest.mark.parametrize("error", [None, LookupError(), Refused(), StopIteration(), StopAsyncIteration()])
async def test_under_contextmanager(error: Exception | None) -> None:
    """A decorated (async) generator function can be a context manager, whatever the block raises."""
    log: list[str] = []
    twin_log: list[str] = []
    for decorated, twin in zip(
        managers(failpoint("manager"), log), managers(lambda function: function, twin_log), strict=True
    ):
        assert await enter(decorated(), error) == await enter(twin(), error)
    assert log == twin_log


@pytest.mark.parametrize("which", [0, 1], ids=["sync", "async"])
async def test_failpoints_of_a_context_manager(which: int) -> None:
    """A context manager visits `name` at entry, and `name:after` at exit without an error."""
    log: list[str] = []
    manager = managers(failpoint("manager"), log)[which]
    with configured("manager", "1*off->raise(OSError)"), configured("manager:after", "raise(TimeoutError)") as after:
        assert await enter(manager(), None) == [
            "entered",
            "TimeoutError(\"injected by failpoint 'manager:after'\") from None, False",
        ]
        assert log == ["left"]
        assert await enter(manager(), None) == ["OSError(\"injected by failpoint 'manager'\") from None, False"]
        assert log == ["left"]
        assert after.hits == 1


def test_dataclass_fields() -> None:
    """A decorated function can be a dataclass's default, default factory and method."""

    @dataclasses.dataclass(frozen=True)
    class Job:
        callback: Callable[[int], int] = module_function
        numbers: list[int] = dataclasses.field(default_factory=failpoint("job.numbers")(lambda: [1]))

        @failpoint("job.run")
        def run(self) -> list[int]:
            return [self.callback(number) for number in self.numbers]

    assert Job().run() == [2]
    assert Job() == Job()
    assert dataclasses.replace(Job(), numbers=[2]).run() == [4]
    assert dataclasses.asdict(Job(callback=abs))["numbers"] == [1]
    with configured("job.numbers", Return([3])):
        assert Job().run() == [6]


def test_in_an_enum_and_a_protocol() -> None:
    """A decorated function in an enum is a method, not a member, and in a protocol it is one of its methods."""

    class Colour(enum.Enum):
        RED = 1

        @failpoint("enum")
        def shown(self) -> str:
            return self.name

    @typing.runtime_checkable
    class Shown(typing.Protocol):
        @failpoint("protocol")
        def shown(self) -> str: ...

    assert list(Colour) == [Colour.RED]
    assert Colour.RED.shown() == "RED"
    assert isinstance(Colour.RED, Shown)
    assert not isinstance(1, Shown)


def test_autospec() -> None:
    """`unittest.mock` makes the same mock from a decorated function as from its twin."""
    for label in ("function", "async function", "generator"):
        decorated = mock.create_autospec(Twins(failpoint("itself")).callables[label])
        twin = mock.create_autospec(Twins(lambda function: function).callables[label])
        assert type(decorated) is type(twin)
        assert inspect.signature(decorated) == inspect.signature(twin)
        assert inspect.iscoroutinefunction(decorated) == inspect.iscoroutinefunction(twin)
        assert hasattr(decorated, "assert_awaited") == hasattr(twin, "assert_awaited")
