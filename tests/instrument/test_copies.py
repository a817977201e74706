"""What takes the place of a plain function: a copy of it, which costs what the function costs."""

from __future__ import annotations

import ctypes
import functools
import inspect
import logging
import pickle
import sys
import threading
import traceback
import types
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from types import FunctionType
from typing import Any

import pytest
import wrapt

from failpoints import FailpointTimeout, Registry, Return, configure, configured, failpoint, failpoint_scope, status
from failpoints._core import arming
from failpoints.instrument import Instrumentation, instrument
from failpoints.pytest_plugin import Failpoints

pytestmark = pytest.mark.skipif(
    not arming.can_arm(lambda: None), reason="no code is exchanged here: every instrumented function gets a wrapper"
)

HERE = __name__


def plain(number: int, /, by: int = 2, *more: int, plus: int = 0, **rest: int) -> int:
    """Multiplied."""
    if number < 0:
        raise ValueError(number)
    return number * by + plus + sum(more) + sum(rest.values())


async def later(number: int) -> int:
    return 2 * number


def each(number: int) -> Iterator[int]:
    yield from range(number)


async def each_later(number: int) -> AsyncIterator[int]:
    for value in range(number):
        yield value


def counted() -> int:
    """Count the calls, in an attribute of the function by its own name."""
    attributes = vars(counted)
    attributes["calls"] = attributes.get("calls", 0) + 1
    return int(attributes["calls"])


@functools.wraps(plain)
def around(*args: Any, **kwargs: Any) -> int:
    return plain(*args, **kwargs)


def holder() -> str:
    with failpoint_scope("inside"):
        return "body"


def of_threads() -> int:
    return threading.get_ident()


class Base:
    def method(self, number: int) -> int:
        return 2 * number

    @classmethod
    def of_class(cls, number: int) -> int:
        return 2 * number

    @staticmethod
    def static(number: int) -> int:
        return 2 * number

    def whoami(self) -> str:
        return "base"


class Sub(Base):
    def whoami(self) -> str:
        return f"sub of {super().whoami()} in {__class__.__name__}"  # type: ignore[name-defined]


def of(path: str, name: str = "theirs", **options: Any) -> Instrumentation:
    return instrument(f"{HERE}:{path}", name, **options)


def object_at(path: str) -> Any:
    """Return the function at the path: of a class or static method, the one inside."""
    owner: Any = sys.modules[HERE]
    *classes, name = path.split(".")
    for each in classes:
        owner = getattr(owner, each)
    found = next(vars(kind)[name] for kind in getattr(owner, "__mro__", [owner]) if name in vars(kind))
    return getattr(found, "__func__", found)


PLAIN = ["plain", "later", "each", "each_later", "around", "Base.method", "Base.of_class", "Base.static", "Sub.static"]


@pytest.mark.parametrize("path", PLAIN)
def test_it_runs_the_code_of_the_function(path: str) -> None:
    """What takes its place is a function with the same code, unless its own failpoint is configured."""
    before = object_at(path)
    with of(path):
        put = object_at(path)
        assert put is not before
        assert type(put) is FunctionType
        assert put.__code__ is before.__code__
        with configured("elsewhere", "off"):
            assert put.__code__ is before.__code__
        with configured("theirs", "off"):
            assert put.__code__ is not before.__code__
            assert inspect.getsource(put) == inspect.getsource(before)
        assert put.__code__ is before.__code__
        assert before.__code__ is arming.own_code(before)


@pytest.mark.parametrize("path", PLAIN)
def test_it_does_not_show_that_it_is_another_one(path: str) -> None:
    """It has the attributes of the function, and those that are set on either are set on both."""
    before = object_at(path)
    shown = {name: getattr(before, name) for name in ("__name__", "__doc__", "__annotations__", "__defaults__")}
    wrapped = getattr(before, "__wrapped__", None)
    with of(path):
        put = object_at(path)
        assert {name: getattr(put, name) for name in shown} == shown
        assert getattr(put, "__wrapped__", None) is wrapped
        assert inspect.signature(put) == inspect.signature(before)
        put.mark = "set on the copy"
        assert before.mark == "set on the copy"
        del before.mark
        assert not hasattr(put, "mark")
    assert object_at(path) is before


def test_a_function_that_counts_in_its_own_attribute() -> None:
    """State that a function keeps in its attributes goes on when it is instrumented, and when that is undone."""
    first = counted()
    with of("counted"):
        assert counted() == first + 1
        with configured("theirs", "off"):
            assert counted() == first + 2
    assert counted() == first + 3


def test_every_way_to_pass_arguments() -> None:
    """Arguments arrive as they do without a failpoint, whether the visits are made or not."""
    for name in ("elsewhere", "theirs"):
        with of("plain", context={"constant": 1}), configured(name, "off"):
            assert plain(2) == 4
            assert plain(2, 3, 4, plus=5, other=6) == 21
            assert plain(2, plus=1, number=3) == 8
            with pytest.raises(TypeError, match=r"^plain\(\) missing 1 required positional argument: 'number'$"):
                plain()  # type: ignore[call-arg]


def test_super_and_class() -> None:
    """`super()` and `__class__` work in the copy of a method, and each class has its own failpoint."""
    with of("Sub.whoami"), of("Base.whoami", "of.base"):
        assert Sub().whoami() == "sub of base in Sub"
        with configured("theirs", "off") as ours, configured("of.base", Return("other")) as base:
            assert Sub().whoami() == "sub of other in Sub"
            assert (ours.hits, base.hits) == (1, 1)


# where a name leads


@pytest.mark.parametrize("path", ["Sub.method", "Sub.static"])
def test_an_inherited_method_is_found_by_its_name(path: str) -> None:
    """An inherited method that is instrumented is named after its class, so it is pickled by that name."""
    with of(path):
        put = getattr(Sub, path.partition(".")[2])
        assert put.__qualname__ == path
        assert pickle.loads(pickle.dumps(put)) is put
        stored = pickle.dumps(put)
    assert pickle.loads(stored) is getattr(Base, path.partition(".")[2])


def test_an_inherited_method_of_a_class_without_a_place() -> None:
    """An inherited method of a class that is not found by its name is still pickled as that of the base class."""

    class Local(Base):
        pass

    module: Any = sys.modules[HERE]
    module.alias = Local
    try:
        with of("alias.method"), configured("theirs", Return(-1)):
            assert Local().method(4) == -1
            assert pickle.loads(pickle.dumps(Local.method)) is Base.method
    finally:
        del module.alias


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("plain", {"context": lambda *args, **kwargs: {"count": len(args)}}),
        ("around", {"context": ["number"]}),
        ("Base.method", {"context": lambda *args: {"count": len(args)}}),
    ],
)
def test_a_wrapper_where_the_arguments_are_needed_as_written(path: str, options: Any) -> None:
    """A context that depends on how the arguments were passed still gets them as they were."""
    before = object_at(path)
    with of(path, **options):
        assert type(object_at(path)) is not FunctionType
    assert object_at(path) is before


# other tools


def wrap_in_place(function: Any, log: list[Any]) -> types.CodeType:
    """Give a function code that calls its former code, as ddtrace does. Return the former code."""
    former: types.CodeType = function.__code__
    inner = FunctionType(former, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    name = f"_in_place_{id(inner)}"

    def call(*args: Any) -> Any:
        log.append(args)
        return inner(*args)

    function.__globals__[name] = call
    namespace: dict[str, Any] = {}
    exec(f"def wrapper(*args): return {name}(*args)", namespace)
    function.__code__ = namespace["wrapper"].__code__
    return former


@pytest.mark.parametrize("during", ["elsewhere", "theirs"])
def test_wrapped_in_place(during: str) -> None:
    """If a tool gives the copy other code, off or armed, that is visited, and stays when the original is back."""

    def victim(number: int) -> int:
        return 2 * number

    log: list[Any] = []
    module: Any = sys.modules[HERE]
    module.victim = victim
    try:
        undo = of("victim")
        with configured(during, "off"):
            former = wrap_in_place(module.victim, log)
        assert module.victim(1) == 2
        assert log == [(1,)]
        with configured("theirs", Return(-1)) as handle:
            assert module.victim(2) == -1
            assert handle.hits == 1
        with configured("theirs", "off") as handle:
            assert module.victim(3) == 6
            assert handle.hits == 1
        assert log == [(1,), (3,)]
        undo()
        assert module.victim is victim
        assert victim(4) == 8
        assert log == [(1,), (3,), (4,)]
        with of("victim"):
            module.victim.__code__ = former  # the tool unwraps it again
        assert victim(5) == 10
        assert len(log) == 3
    finally:
        del module.victim


def test_wrapped_in_place_before() -> None:
    """A tool that has wrapped a function in place finds it, to unwrap it, while it is instrumented, too."""

    def victim(number: int) -> int:
        return 2 * number

    former = victim.__code__
    known = weakref.WeakKeyDictionary({victim: former})
    code = (lambda number: None).__code__
    victim.__code__ = code.replace(co_consts=(*code.co_consts, print))  # a tool's code has a function in it
    module: Any = sys.modules[HERE]
    module.victim = victim
    try:
        with of("victim"), configured("theirs", "off") as handle:
            assert module.victim(1) is None
            module.victim.__code__ = known.pop(module.victim)
            assert module.victim(2) == 4
            assert handle.hits == 2
        assert module.victim is victim
        assert victim(3) == 6
    finally:
        del module.victim


def renew(function: Any, new: Any) -> None:
    """Give a function the parts of a new one, as IPython's autoreload does: the closure too, in its memory."""
    words = ctypes.cast(id(function), ctypes.POINTER(ctypes.c_void_p))
    place = next(number for number in range(1, 50) if words[number] == id(function.__closure__))
    cells = new.__closure__
    words[place] = None if cells is None else id(cells)
    if cells is not None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(cells))  # the function gives this reference back when it ends
    function.__code__, function.__dict__ = new.__code__, new.__dict__


@pytest.mark.parametrize("during", ["elsewhere", "theirs"])
@pytest.mark.parametrize("factor", [None, 3], ids=["without a closure", "with a closure"])
def test_renewed(factor: int | None, during: str, caplog: pytest.LogCaptureFixture) -> None:
    """A function that a reloader renews in place, off or armed, is visited, and stays new when that is undone."""

    def victim(number: int) -> int:
        return 2 * number

    def new(number: int) -> int:
        return -number

    def new_with_a_closure(number: int) -> int:
        assert factor is not None
        return -number * factor // factor

    module: Any = sys.modules[HERE]
    module.victim = victim
    try:
        undo = of("victim")
        with configured(during, "off"):
            renew(module.victim, new if factor is None else new_with_a_closure)
        assert module.victim(1) == -1
        for _ in range(2):
            with configured("theirs", Return(7)) as handle:
                assert module.victim(2) == 7
                assert handle.hits == 1
        with of("victim"), configured("theirs", "off") as handle:
            assert module.victim(3) == -3
            assert handle.hits == 1
        undo()
        with configured("theirs", Return(7)):
            assert module.victim(4) == -4
        assert (module.victim is victim) == (factor is None)
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    finally:
        del module.victim


def test_parts_that_a_tool_sets() -> None:
    """Other defaults, and another name, text or annotations of the copy are those of the original after the undo."""

    def victim(number: int = 1, *, by: int = 2) -> int:
        """Old."""
        return number * by

    module: Any = sys.modules[HERE]
    module.victim = victim
    try:
        with of("victim"):
            put = module.victim
            put.__defaults__, put.__kwdefaults__ = (5,), {"by": 3}
            put.__doc__, put.__name__ = "New.", "other"
            put.__annotations__ = {"number": float}
            victim.__qualname__ = "set.on.the.original"
            assert put() == 15
            with configured("theirs", "off"):
                assert put() == 15
        assert victim() == 15
        assert (victim.__doc__, victim.__name__, victim.__qualname__) == ("New.", "other", "set.on.the.original")
        assert victim.__annotations__ == {"number": float}
    finally:
        del module.victim


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated at once")
def test_annotations_that_cannot_be_evaluated() -> None:
    """Instrumenting a function and undoing that does not evaluate its annotations."""
    module: Any = sys.modules[HERE]
    namespace: dict[str, Any] = {"__name__": HERE}
    exec("def victim(value: Undefined) -> int: return value", namespace)
    module.victim = victim = namespace["victim"]
    try:
        with of("victim"):
            assert module.victim is not victim
            assert module.victim(1) == 1
        assert module.victim is victim
    finally:
        del module.victim


def test_changes_that_a_subclass_sees() -> None:
    """Code that a tool gave to the copy of a method is that of an inherited method which is instrumented later."""
    before = Base.method.__code__
    log: list[Any] = []
    try:
        with of("Base.method", "of.base"):
            wrap_in_place(Base.method, log)
            with of("Sub.method"), configured("of.base", Return(-1)) as base, configured("theirs", "off") as ours:
                sub = Sub()
                assert sub.method(4) == 8
                assert (base.hits, ours.hits, log) == (0, 1, [(sub, 4)])
    finally:
        Base.method.__code__ = before


def test_a_decorator_of_the_program_over_the_copy(failpoints: Failpoints) -> None:
    """An instrumented function that is decorated then is still the failpoint of its path, and of no other name."""
    module: Any = sys.modules[HERE]
    before = plain
    undo = of("plain")
    try:
        module.plain = around_it = failpoint("around")(module.plain)
        again = of("plain")
        assert module.plain is around_it
        with configured("theirs", "off") as site:
            assert plain(4) == 8
            assert site.hits == 1
        with pytest.raises(FailpointTimeout) as caught:
            failpoints.set("theirs", "off", expect_hit=False).wait_hit_sync(timeout=0)
        assert "another tool has replaced" not in str(caught.value)
        again()
        undo()
        with configured("theirs", Return(-1)), configured("around", "off") as site:
            assert plain(4) == 8
            assert site.hits == 1
    finally:
        module.plain = before


def test_a_proxy_over_the_copy() -> None:
    """A proxy of another tool, which presents the copy's attributes as its own, is not taken for the copy."""
    module: Any = sys.modules[HERE]
    before = plain
    undo = of("plain")
    proxy = module.plain = wrapt.FunctionWrapper(
        module.plain, lambda wrapped, _, args, kwargs: wrapped(*args, **kwargs)
    )
    try:
        undo()
        assert module.plain is proxy
        assert plain(4) == 8
    finally:
        module.plain = before


# calls that are not visited


def test_the_traceback_of_a_call_that_is_not_visited() -> None:
    """A call that does not visit, since the failpoint is configured elsewhere or undone, shows none of our frames."""
    undo = of("plain")
    taken = plain

    def frames() -> list[str]:
        with pytest.raises(ValueError, match="-1") as caught:
            taken(-1)
        return [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]

    expected = frames()
    assert expected == ["frames", "plain"]
    with Registry() as registry:
        registry.configure("theirs", "raise")
        thread_frames: list[list[str]] = []
        thread = threading.Thread(target=lambda: thread_frames.append(frames()))
        thread.start()
        thread.join(20)
        assert thread_frames == [expected]
    undo()
    with configured("theirs", "raise"):
        assert frames() == expected


def test_a_registry_of_another_thread() -> None:
    """A call in a plain thread that no registry in force reaches is not visited, and noted as a stray."""
    results: list[Any] = []
    with of("of_threads"), Registry() as registry:
        registry.configure("theirs", Return(-1))
        thread = threading.Thread(target=lambda: results.append(of_threads()))
        thread.start()
        thread.join(20)
        assert results == [thread.ident]
        assert of_threads() == -1
        assert len(registry.status("theirs").strays) == 1


def test_what_a_stray_needs_can_be_instrumented() -> None:
    """Functions that failpoints itself calls can be configured in a registry of another thread."""
    paths = ["threading:current_thread", "threading:main_thread", "inspect:unwrap", "inspect:isawaitable"]
    done = []

    def call() -> None:
        threading.current_thread()
        threading.main_thread()
        inspect.unwrap(call)
        inspect.isawaitable(call)
        done.append(True)

    undos = [instrument(path, path.replace(":", ".")) for path in paths]
    try:
        with Registry() as registry:
            for path in paths:
                registry.configure(path.replace(":", "."), "off")
            thread = threading.Thread(target=call)
            thread.start()
            thread.join(20)
            assert done == [True]
            assert registry.status("inspect.unwrap").strays
    finally:
        for undo in undos:
            undo()


def test_a_call_of_our_own_in_a_thread(caplog: pytest.LogCaptureFixture) -> None:
    """A call that failpoints makes itself in a thread which no registry reaches is not a stray."""
    caplog.set_level(logging.INFO, "failpoints")
    calls: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            calls.append(str(of_threads()))

    handler = Handler()
    logging.getLogger("failpoints").addHandler(handler)
    try:
        with of("of_threads"), Registry() as registry:
            registry.configure("theirs", "off")
            thread = threading.Thread(target=lambda: configure("unrelated", "off"))
            thread.start()
            thread.join(20)
            assert calls
            assert registry.status("theirs").strays == ()
    finally:
        logging.getLogger("failpoints").removeHandler(handler)


def test_a_scope_in_a_function_whose_failpoint_is_not_configured() -> None:
    """A scope returns from the instrumented function, for which nothing else is configured."""
    with of("holder"), configured("inside", Return("left")):
        assert holder() == "left"
        with configured("theirs", "off") as handle:
            assert holder() == "left"
            assert handle.hits == 1
    with of("holder"), configured("theirs", "off"):
        assert holder() == "body"


def test_sites_of_the_copy() -> None:
    """The site is the place of the original, for as long as it is instrumented."""
    with of("plain"):
        assert status("theirs").sites == (f"{__file__}:{plain.__code__.co_firstlineno}",)
    assert status("theirs").sites == ()


def use(function: Callable[..., Any]) -> None:
    """Keep the names of the module that only paths mention."""


use(later)
use(each)
