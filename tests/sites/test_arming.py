"""Arming: the code of a decorated function is replaced while its failpoint is configured."""

from __future__ import annotations

import bdb
import functools
import gc
import inspect
import json
import math
import pickle
import signal
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import anyio
import pytest

import failpoints
from failpoints import (
    Call,
    FailpointUsageError,
    Hit,
    Registry,
    Return,
    configure,
    configured,
    failpoint,
    failpoint_scope,
    remove,
    reset,
    status,
)
from failpoints._core import arming as _arming
from failpoints._core import switches

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        not _arming.can_arm(lambda: None), reason="no code is exchanged here: every decorated function is a wrapper"
    ),
]


def armed(function: Any) -> bool:
    """Return True if a decorated function has a trampoline's code."""
    return _arming.own_code(function) is not function.__code__


# a plain function while it is not configured


def add(first: int, second: int = 2, *, third: int = 3) -> int:
    """Add three numbers."""
    return first + second + third


def test_off_it_is_the_function_itself() -> None:
    """While it is not configured, a decorated function is a plain function with the original code object."""
    decorated = failpoint("add")(add)
    assert type(decorated) is FunctionType
    for name in ("add", "add:after"):
        assert decorated.__code__ is add.__code__
        with configured(name, "off"):
            assert armed(decorated)
            assert decorated.__code__ is not add.__code__


@pytest.mark.parametrize("actions", ["off", "return(1)", "pause", "raise"])
@pytest.mark.parametrize("name", ["another", "add.inner", "ad", "add:after:after"])
def test_what_is_configured_elsewhere_changes_nothing(name: str, actions: str) -> None:
    """A decorated function is left alone while only other failpoints are configured, in whatever registry."""
    decorated = failpoint("add")(add)
    with configured(name, actions):
        assert decorated.__code__ is add.__code__
        assert failpoint("add")(add).__code__ is add.__code__
    with Registry() as registry:
        registry.configure(name, actions)
        assert decorated.__code__ is add.__code__


def test_stacked_failpoints_are_armed_together() -> None:
    """The outer one of two failpoints on a function takes part while the inner one is configured."""
    stacked = failpoint("outer")(failpoint("inner")(add))
    for name in ("inner", "outer", "inner:after", "outer:after"):
        assert stacked.__code__ is add.__code__
        with configured(name, Return(-1)):
            assert (armed(stacked), stacked(1)) == (True, -1)


def scope_by_constant() -> str:
    """Contain a scope that the code shows."""
    with failpoint_scope("arming.scope"):
        return "end"


KEPT_SCOPE = failpoint_scope("arming.kept")


def scope_kept_elsewhere() -> str:
    """Contain a scope that was made elsewhere."""
    with KEPT_SCOPE:
        return "end"


def scope_by_helper() -> str:
    """Contain a scope that another function makes."""
    with make_scope("arming.", "helper"):
        return "end"


def make_scope(first: str, second: str) -> Any:
    """Make a scope under a name that no code shows."""
    return failpoint_scope(first + second)


async def scope_in_async() -> str:
    """Contain an async scope that the code shows."""
    async with failpoint_scope("arming.async"):
        return "end"


def scope_entered_by_hand() -> str:
    """Enter a scope without a `with` statement."""
    scope = make_scope("arming.", "hand")
    scope.__enter__()
    return "end"


@pytest.mark.parametrize(
    ("function", "scope"),
    [
        (scope_by_constant, "arming.scope"),
        (scope_by_constant, "arming.scope:after"),
        (scope_kept_elsewhere, "arming.kept"),
        (scope_kept_elsewhere, "arming.kept:after"),
        (scope_by_helper, "arming.helper"),
        (scope_by_helper, "arming.helper:after"),
        (scope_in_async, "arming.async"),
        (scope_in_async, "arming.async:after"),
        (scope_entered_by_hand, "arming.hand"),
    ],
)
async def test_a_scope_returns_from_a_function_of_another_name(function: Any, scope: str) -> None:
    """A `return` at a scope leaves the function around it at its first call, though only the scope is configured."""
    decorated = failpoint("arming.around")(function)
    for actions in (Return("left"), Call(lambda hit: Return("left"))):
        with configured(scope, actions):
            result = decorated()
            assert (await result if inspect.isawaitable(result) else result) == "left"
        assert decorated.__code__ is function.__code__


def test_only_a_return_arms_the_function_around_a_scope() -> None:
    """A scope that is configured not to return leaves the function around it alone."""
    decorated = failpoint("arming.around")(scope_by_constant)
    for actions in ("off", "pause", "raise", "sleep(1)", "print"):
        with configured("arming.scope", actions):
            assert decorated.__code__ is scope_by_constant.__code__


def test_a_known_scope_arms_only_the_functions_around_it() -> None:
    """A `return` at a scope whose function is known leaves other functions with a `with` statement alone."""
    assert scope_by_constant() == "end"

    def other() -> str:
        with threading.Lock():
            return "end"

    decorated = failpoint("arming.other")(other)
    with configured("arming.scope", Return("left")):
        assert decorated.__code__ is other.__code__
        assert decorated() == "end"


def test_a_scope_that_was_not_expected_is_learned() -> None:
    """A scope whose name is known from elsewhere cannot return from the first call that enters it, but from others."""
    name = "arming.learned"
    failpoint(name).hit()  # so it is known, and nothing shows that there is a scope of that name, too

    def enters() -> str:
        with make_scope("arming.", "learned"):
            return "end"

    decorated = failpoint("arming.around")(enters)
    with configured(name, Return("left")):
        with pytest.raises(FailpointUsageError, match="it began before the return was configured"):
            decorated()
        assert decorated() == "left"
    with configured(name, Return("left")):
        assert decorated() == "left"


def test_generators_and_coroutines_are_its_own_while_off() -> None:
    """While it is not configured, generators and coroutines of a decorated function run its own code."""

    def generate() -> Iterator[int]:
        yield 1

    async def generate_async() -> AsyncIterator[int]:
        yield 1

    async def compute() -> int:
        return 1

    point = failpoint("own")
    assert point(generate)().gi_code is generate.__code__  # type: ignore[attr-defined]
    assert point(generate_async)().ag_code is generate_async.__code__  # type: ignore[attr-defined]
    coroutine: Any = point(compute)()
    assert coroutine.cr_code is compute.__code__
    coroutine.close()


def test_the_given_function_stays_as_it_is() -> None:
    """A function passed to `failpoint(...)` in a call is not changed, and can still be called directly."""
    code = add.__code__
    one, other = failpoint("one")(add), failpoint("other")(add)
    with configured("one", Return(-1)), configured("other", Return(-2)):
        assert (add(1), one(1), other(1)) == (6, -1, -2)
        assert add.__code__ is code


@pytest.mark.parametrize("in_force", [True, False], ids=["entered", "not entered"])
def test_a_registry_arms_when_it_is_entered(in_force: bool) -> None:
    """The configuration of a registry arms functions only while the registry is entered."""
    decorated = failpoint("add")(add)
    registry = Registry()
    registry.configure("add", Return(-1))
    assert not armed(decorated)
    if in_force:
        with registry:
            assert armed(decorated)
            assert decorated(1) == -1
    assert not armed(decorated)
    assert decorated(1) == 6


def test_decorated_while_something_is_configured() -> None:
    """A function decorated while its failpoint is configured is armed at once."""
    with configured("late", Return(-1)):
        decorated = failpoint("early")(failpoint("late")(add))
        assert armed(decorated)
        assert decorated(1) == -1
        assert status("late").sites == (f"{__file__}:{add.__code__.co_firstlineno}",)
    assert decorated.__code__ is add.__code__
    assert decorated(1) == 6


def test_switched_off_altogether(tmp_path: Path) -> None:
    """With `FAILPOINTS_ENABLED=0` the decorator returns the function unchanged."""
    program = "from failpoints import failpoint\ndef f(): ...\nassert failpoint('x')(f) is f"
    subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=60, cwd=tmp_path, env=environment(FAILPOINTS_ENABLED="0")
    )


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a program that imports this package."""
    import os

    return {**os.environ, "PYTHONPATH": str(Path(failpoints.__file__).parents[1]), **more}


# parameters

SHAPES: list[Callable[..., Any]] = [
    lambda: (),
    lambda a: (a,),
    lambda a, /: (a,),
    lambda a, b=2: (a, b),
    lambda a, /, b, c=3: (a, b, c),
    lambda a=1, /, *, b: (a, b),
    lambda *, a, b=2: (a, b),
    lambda *a: a,
    lambda **a: sorted(a.items()),
    lambda a, /, **b: (a, sorted(b.items())),
    lambda a, b=2, *c, d, e=5, **f: (a, b, c, d, e, sorted(f.items())),
    lambda self, args=1, kwargs=2, *rest, more=3, **p0: (self, args, kwargs, rest, more, sorted(p0.items())),
]
CALLS: list[tuple[tuple[int, ...], dict[str, int]]] = [
    (args, kwargs)
    for args in [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]
    for kwargs in [{}, {"a": 1}, {"b": 7}, {"d": 8}, {"b": 7, "a": 6, "z": 5}, {"self": 1, "more": 4, "p0": 5}]
]


def outcome(function: Callable[..., Any], args: tuple[int, ...], kwargs: dict[str, int]) -> Any:
    """Return the result of a call, or its error message."""
    try:
        return function(*args, **kwargs)
    except TypeError as error:
        return str(error)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: str(inspect.signature(shape)))
def test_every_shape_of_parameters(shape: Callable[..., Any]) -> None:
    """An armed function has the signature of the undecorated one, and raises the same errors."""
    decorated = failpoint("shape")(shape)
    with configured("shape", "off"):
        assert armed(decorated)
        assert inspect.signature(decorated) == inspect.signature(shape)
        assert inspect.getfullargspec(decorated) == inspect.getfullargspec(shape)
        for args, kwargs in CALLS:
            assert outcome(decorated, args, kwargs) == outcome(shape, args, kwargs)


def test_trampolines_are_code_like_any() -> None:
    """A trampoline can be hashed and compared, and has the attributes of the function's own code."""
    decorated = failpoint("add")(add)
    with configured("add", "off"):
        code: CodeType = decorated.__code__
    assert len({code, add.__code__}) == 2
    names = ["name", "qualname", "filename", "firstlineno", "flags", "argcount", "posonlyargcount", "kwonlyargcount"]
    for name in names:
        assert getattr(code, f"co_{name}") == getattr(add.__code__, f"co_{name}")
    assert {line for _, _, line in code.co_lines()} == {code.co_firstlineno}


def test_defaults_changed_later() -> None:
    """Defaults changed after the decoration take effect, armed or not."""
    decorated = failpoint("add")(lambda first=1, *, second=2: (first, second))
    with configured("add", "off"):
        decorated.__defaults__ = (5,)
        decorated.__kwdefaults__ = {"second": 6}
        assert decorated() == (5, 6)
    assert decorated() == (5, 6)


# closures, classes, recursion


def test_closures() -> None:
    """Free variables are shared with the enclosing function, armed or not."""
    count = 0

    @failpoint("count")
    def increment(by: int = 1) -> int:
        nonlocal count
        count += by
        return count

    assert increment() == 1
    with configured("count", "off"):
        count = 10
        assert increment(2) == 12
    assert (increment(), count) == (13, 13)
    assert inspect.getclosurevars(increment).nonlocals == {"count": 13}


def test_super() -> None:
    """`super()` without arguments and `__class__` find the class, armed or not."""

    class Base:
        def method(self) -> str:
            return "base"

        @classmethod
        def of_class(cls) -> str:
            return cls.__name__

    class Derived(Base):
        @failpoint("super")
        def method(self) -> str:
            return f"{__class__.__name__} of {super().method()}"  # type: ignore[name-defined]

        @failpoint("super")
        @classmethod
        def of_class(cls) -> str:
            return f"class {super().of_class()}"

    for _ in range(2):
        assert (Derived().method(), Derived.of_class()) == ("Derived of base", "class Derived")
        configure("super", "off")


@pytest.mark.parametrize("depth", [1, 2, 150])
def test_recursion(depth: int) -> None:
    """Each call of a recursive function is visited, and an armed function can recurse deeply."""

    @failpoint("factorial")
    def factorial(number: int) -> int:
        return 1 if number <= 1 else number * factorial(number - 1)

    assert factorial(depth) == math.factorial(depth)
    with configured("factorial", "off") as handle:
        assert factorial(depth) == math.factorial(depth)
        assert handle.hits == depth


def test_methods_that_python_calls() -> None:
    """Properties, item access and operators, which the interpreter calls itself, are visited."""

    class Box:
        @property
        @failpoint("box")
        def content(self) -> str:
            return "content"

        @failpoint("box")
        def __getitem__(self, key: int) -> int:
            return key

        @failpoint("box")
        def __add__(self, other: int) -> int:
            return other

        @failpoint("box")
        def __getattr__(self, name: str) -> str:
            return name

    def use(box: Box) -> list[Any]:
        return [box.content, box[5], box + 6, box.missing]

    box = Box()
    for _ in range(3):
        for _ in range(100):  # until the interpreter has specialised the calls
            assert use(box) == ["content", 5, 6, "missing"]
        with configured("box", Return(-1)):
            for _ in range(100):
                assert use(box) == [-1] * 4


# calls in flight


def test_armed_and_disarmed_from_inside() -> None:
    """A sync call that configures or resets finishes in its own code. The change affects the next call."""
    log: list[str] = []

    @failpoint("inner")
    def inner() -> str:
        return "inner"

    @failpoint("outer")
    def outer(change: Callable[[], object]) -> str:
        change()
        return inner()

    for _ in range(2):
        assert outer(lambda: configure("inner", Return("visited"))) == "visited"
        assert outer(reset) == "inner"
    configure("outer:after", Call(lambda hit: log.append(hit.name)))
    assert outer(lambda: None) == "inner"
    assert log == ["outer:after"]


def test_disarmed_between_two_decorators() -> None:
    """A call whose outer failpoint removes everything reaches the body directly, and can return early."""
    reached: list[str] = []

    def stop(hit: Hit) -> None:
        reset()

    @failpoint("outer")
    @failpoint("inner")
    def function() -> str:
        reached.append("body")
        configure("scope", Return("left"))
        with failpoint_scope("scope"):
            reached.append("block")
        return "end"

    configure("outer", Call(stop))
    assert function() == "left"
    assert reached == ["body"]


async def test_coroutines_in_flight() -> None:
    """A coroutine that is suspended while the code is replaced finishes in the code that it started with."""
    event = anyio.Event()
    results: list[str] = []

    @failpoint("waiting")
    async def waiting() -> str:
        await event.wait()
        return "body"

    async def note() -> None:
        results.append(await waiting())

    async with anyio.create_task_group() as group:
        group.start_soon(note)  # begins while nothing is configured
        await anyio.wait_all_tasks_blocked()
        configure("waiting:after", Return("replaced"))
        group.start_soon(note)  # begins armed
        await anyio.wait_all_tasks_blocked()
        reset()
        configure("waiting:after", Return("replaced again"))
        event.set()
    assert sorted(results) == ["body", "replaced again"]


def test_generators_in_flight() -> None:
    """A generator that is suspended while the code is replaced finishes in the code that it started with."""

    @failpoint("numbers")
    def numbers() -> Iterator[int]:
        yield from range(4)

    off = numbers()
    assert next(off) == 0
    with configured("numbers:after", "off") as handle:
        armed_one = numbers()
        assert (next(off), next(armed_one)) == (1, 0)
        unstarted = numbers()
        assert list(armed_one) == [1, 2, 3]
        assert handle.hits == 1
    assert (list(off), list(unstarted)) == ([2, 3], [0, 1, 2, 3])


@pytest.mark.parametrize("swaps", [1_000])
def test_threads_that_call_while_another_exchanges(swaps: int) -> None:
    """Calls of every kind in other threads succeed while the code is repeatedly replaced."""

    class Owner:
        offset = 1

        @failpoint("method")
        def method(self, number: int, *, twice: int = 2) -> int:
            return number * twice + self.offset

    offset = 1

    @failpoint("function")
    def function(number: int = 20, /, *rest: int) -> int:
        return 2 * number + offset

    @failpoint("generator")
    def generator() -> Iterator[int]:
        yield 41

    @failpoint("coroutine")
    async def coroutine(number: int) -> int:
        return number

    def awaited(number: int) -> int:
        running = coroutine(number)
        try:
            running.send(None)
        except StopIteration as stop:
            return int(stop.value)
        raise AssertionError("it waited")

    stored = Owner().method
    done = threading.Event()
    errors: list[BaseException] = []
    calls = [0, 0, 0]

    def call(which: int) -> None:
        try:
            while not done.is_set():
                seen = (stored(20), Owner().method(20, twice=2), function(), next(generator()), awaited(41))
                assert seen == (41, 41, 41, 41, 41)
                calls[which] += 1
        except BaseException as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=call, args=(which,)) for which in range(3)]
    try:
        for thread in threads:
            thread.start()
        for number in range(swaps):
            configure(("method", "function", "coroutine", "generator:after")[number % 4], "off")
            reset()
    finally:
        done.set()
        for thread in threads:
            thread.join(60)
        sys.setswitchinterval(interval)
    assert errors == []
    assert all(calls)
    assert not armed(function)


def test_decorated_in_threads_while_another_exchanges() -> None:
    """Functions decorated while another thread arms and disarms end up armed only if they are configured."""
    made: list[Any] = []
    begin = threading.Barrier(3)

    def make() -> None:
        begin.wait(60)
        for _ in range(300):
            made.append(failpoint("made")(lambda: 1))

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    begin.wait(60)
    while any(thread.is_alive() for thread in threads):
        configure("made", "off")
        reset()
    assert len(made) == 600
    assert not any(armed(function) for function in made)
    configure("made", "off")
    assert all(armed(function) for function in made)


@pytest.mark.parametrize("first", ["configure", "remove"])
@pytest.mark.parametrize("moment", range(8))
def test_reconfigured_in_the_middle(first: str, moment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reconfiguration by a signal handler or finalizer during arming takes effect at once, and lasts."""
    functions = [failpoint("middle")(lambda: "body") for _ in range(3)]
    looks = 0
    seen: list[set[str]] = []
    look = _arming._gate

    def interrupted(code: CodeType) -> Any:
        nonlocal looks
        looks += 1
        if looks == moment + 1:
            if first == "configure":
                reset()
            else:
                configure("middle", Return("visited"))
            seen.append({function() for function in functions})
        return look(code)

    if first == "remove":
        configure("middle", Return("visited"))
    monkeypatch.setattr(_arming, "_gate", interrupted)
    if first == "configure":
        configure("middle", Return("visited"))
    else:
        remove("middle")
    monkeypatch.undo()
    handler_was_called = bool(seen)
    expected = "visited" if (first == "configure") is not handler_was_called else "body"
    assert {function() for function in functions} == {expected}
    assert seen in ([], [{expected}])
    assert handler_was_called or moment > 2


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers on this system")
def test_signals_while_exchanging() -> None:
    """A signal handler that configures and removes at any moment leaves every function in the right state."""
    functions = [failpoint("signalled")(lambda: "body") for _ in range(50)]
    came = 0
    wrong: list[object] = []

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came += 1
        with configured("signalled", Return("visited")):
            wrong.extend(function for function in functions if function() != "visited")

    before = signal.signal(signal.SIGALRM, handle)
    try:
        for number in range(200):
            signal.setitimer(signal.ITIMER_REAL, 1e-5 * (number % 40 + 1))
            configure("signalled:after", "off")
            wrong.extend(function for function in functions if not armed(function))
            remove("signalled:after")
            wrong.extend(function for function in functions if armed(function))
            while came == number:  # until the signal has certainly arrived
                signal.getitimer(signal.ITIMER_REAL)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert wrong == []


# code that other tools replace, and copies


def replacement(first: int, second: int = 2, *, third: int = 3, fourth: int = 4) -> str:
    """Stand in for the new body that a reloader installs."""
    return f"new {first} {second} {third} {fourth}"


def test_reloaded_while_off() -> None:
    """A function whose `__code__` is replaced, as by a reloader, runs the new code and is still visited."""
    decorated: Any = failpoint("add", context=["second"])(add)
    decorated.__code__ = replacement.__code__
    decorated.__kwdefaults__ = {"third": 3, "fourth": 5}
    assert decorated(1) == "new 1 2 3 5"
    for _ in range(2):
        with configured("add:after", "off", context={"second": 7}) as handle:
            assert decorated(1, 7, fourth=6) == "new 1 7 3 6"
            assert handle.hits == 1
        assert decorated.__code__ is replacement.__code__


def test_reloaded_while_armed() -> None:
    """Code that replaces a trampoline is left alone, and is visited after the next arming."""
    decorated: Any = failpoint("add")(add)
    with configured("add", Return(-1)):
        assert decorated(1) == -1
        decorated.__code__ = replacement.__code__
        assert decorated(1, fourth=4) == "new 1 2 3 4"
    assert decorated.__code__ is replacement.__code__
    with configured("add", Return(-1)):
        assert decorated(1, fourth=4) == -1


@pytest.mark.filterwarnings("ignore:Assigning a code object of non-matching type")
async def test_reloaded_as_another_kind() -> None:
    """A sync function that is given the code of an async function is visited as an async one."""

    async def new() -> str:
        return "new"

    @failpoint("kind")
    def function() -> Any:
        return "old"

    function.__code__ = new.__code__
    with configured("kind:after", "off") as handle:
        assert inspect.iscoroutinefunction(function)
        assert await function() == "new"
        assert handle.hits == 1


def test_code_taken_from_another_armed_function() -> None:
    """A function that is given another armed function's code behaves like that one, without endless recursion."""
    one: Any = failpoint("one")(lambda: "one")
    other: Any = failpoint("other")(lambda: "other")
    with configured("other", Return("visited")):
        one.__code__ = other.__code__
        assert one() == "visited"
    assert one() == "other"
    with configured("one", Return("visited")), configured("other", Return("wrong")):
        assert one() == "visited"
    assert (one(), other(), armed(one)) == ("other", "other", False)


def copy_of(function: Any, closure: Any) -> Any:
    """Copy a function by hand, as recipes and tools do."""
    return FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, closure)


def test_copies() -> None:
    """A copy made while it is not configured is a plain function. A copy made while armed is always visited."""
    decorated = failpoint("copied")(lambda number=5: number)
    plain = copy_of(decorated, None)
    with configured("copied", Return("visited")):
        visited = copy_of(decorated, decorated.__closure__)
        assert (plain(), visited()) == (5, "visited")
        del decorated
        gc.collect()
        assert visited() == "visited"
    assert (plain(), visited(4)) == (5, 4)


def test_copy_of_the_code_alone() -> None:
    """A copy of an armed function's code is visited, and runs as a plain function once the function is gone."""
    factor = 3

    def make() -> Any:
        @failpoint("copied")
        def multiply(first: int, *rest: int, by: int = 2, **more: int) -> list[int]:
            return [number * by * factor for number in (first, *rest, *more.values())]

        return multiply

    decorated = make()
    with configured("copied", Return(["visited"])):
        alone = copy_of(decorated, tuple(decorated.__closure__))
        alone.__kwdefaults__ = {"by": 2}
        assert alone(1) == ["visited"]
        del decorated
        gc.collect()
        assert alone(1, 2, more=3) == [6, 12, 18]
        factor = 1
        assert alone(1, 2, by=1) == [1, 2]
    assert alone.__closure__[0].cell_contents == 1


# lifetimes


frees_functions = pytest.mark.skipif(
    "free-threading build" in sys.version and sys.version_info < (3, 14),
    reason="this Python frees no function and no class, once a thread has been started",
)


def self_referring() -> tuple[Any, weakref.ref[Any]]:
    """Make a decorated function that refers to itself in every possible way."""

    class Owner:
        @failpoint("cycle", context=lambda self: {"owner": Owner, "method": Owner.method})
        def method(self) -> Any:
            return Owner, __class__  # type: ignore[name-defined]

    return Owner, weakref.ref(Owner.method)


@frees_functions
@pytest.mark.parametrize("when", ["off", "armed", "armed before", "called while armed"])
def test_garbage(when: str) -> None:
    """A decorated function that refers to itself is garbage collected, even while it is armed."""
    if when == "armed":
        configure("cycle", "off")
    owner, reference = self_referring()
    if when != "off":
        configure("cycle", "off")
    if when == "called while armed":
        owner().method()
    if when == "armed before":
        reset()
    del owner
    gc.collect()
    assert reference() is None


def left() -> list[int]:
    """Return how much is kept for functions."""
    return [
        len(switches._switches),
        len(switches._all_holders),
        len(switches._holders),
        *sorted(len(switch.members) for each in list(switches._switches.values()) if (switch := each()) is not None),
    ]


@frees_functions
def test_dropped_functions_leave_nothing() -> None:
    """Functions that are decorated and dropped leave nothing behind, whatever is configured."""
    self_referring(), failpoint("dropped"), scope_by_constant()  # these names stay
    gc.collect()
    before = left()
    for number in range(200):
        self_referring()
        failpoint("dropped")(lambda: number)()  # noqa: B023 - called at once
        failpoint("dropped")(copy_of(scope_by_constant, None))()
        if number % 50 == 0:
            configure("dropped", "off")
            configure("cycle", Return(1))
        elif number % 50 == 25:
            reset()
    gc.collect()
    assert left() == before


def test_ten_thousand() -> None:
    """One `configure` arms all of ten thousand functions of one name, and `remove` disarms them."""
    functions = [failpoint("many")(lambda: 1) for _ in range(10_000)]
    with configured("another", "off"):
        assert not any(armed(function) for function in functions)
    with configured("many", "off"):
        assert all(armed(function) for function in functions)
    assert not any(armed(function) for function in functions)


def test_pickled_while_armed() -> None:
    """An armed function is pickled by name."""
    with configured("module", "off"):
        assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level


@failpoint("module")
def at_module_level(number: int) -> int:
    """Be found by pickle, coverage and a debugger."""
    doubled = 2 * number
    return doubled  # noqa: RET504 - two lines, for tracers and debuggers


# tracers, coverage, debuggers


def lines_of(function: Callable[[], object], install: Callable[[Any], None]) -> list[int]:
    """Return the lines that a trace function sees, counted from the first line of *function*."""
    seen: list[int] = []

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename == __file__ and event == "line" and frame.f_code.co_name == "at_module_level":
            seen.append(frame.f_lineno - at_module_level.__code__.co_firstlineno)
        return trace

    before = sys.gettrace()
    install(trace)
    try:
        function()
    finally:
        install(before)
    return seen


def test_traced() -> None:
    """A trace function sees the lines of the body, preceded by the function's first line if armed."""
    assert lines_of(lambda: at_module_level(1), sys.settrace) == [3, 4]
    with configured("module", "off"):
        assert lines_of(lambda: at_module_level(1), sys.settrace) == [0, 3, 4]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with Python 3.12")
def test_monitored() -> None:
    """`sys.monitoring` sees the body start and return, armed or not, with global and local events."""
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined]
    tool = next(number for number in range(6) if monitoring.get_tool(number) is None)
    body = _arming.own_code(at_module_level)  # type: ignore[arg-type]
    started: list[bool] = []
    monitoring.use_tool_id(tool, "test_monitored")
    try:
        monitoring.register_callback(
            tool, monitoring.events.PY_START, lambda code, offset: started.append(code is body)
        )
        monitoring.set_local_events(tool, body, monitoring.events.PY_START)
        at_module_level(1)
        with configured("module", "off"):
            at_module_level(1)
        at_module_level(1)
        assert started == [True, True, True]
        started.clear()
        monitoring.set_local_events(tool, body, 0)
        monitoring.set_events(tool, monitoring.events.PY_START)
        with configured("module", "off"):
            at_module_level(1)
        assert started.count(True) == 1
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)


PROGRAM = """
from failpoints import configured, failpoint

@failpoint("covered")
def covered(number):
    if number:
        return 1
    return 2

@failpoint("covered")
async def covered_async():
    return 1

def run(function, *arguments):
    try:
        function(*arguments).send(None)
    except (AttributeError, StopIteration):
        pass
"""


@pytest.mark.parametrize("branch", [False, True])
def test_coverage(branch: bool, tmp_path: Path) -> None:
    """Line and branch coverage are those of the undecorated body, armed or not."""

    def missing(label: str, calls: str) -> list[Any]:
        program = tmp_path / f"covered_{label}.py"
        program.write_text(PROGRAM + calls)
        data = tmp_path / f"{label}.data"
        # All in other processes: an analysis in this one would lose what coverage has measured of it.
        run = functools.partial(
            subprocess.run, check=True, timeout=60, env=environment(), cwd=tmp_path, capture_output=True
        )
        measure = [sys.executable, "-m", "coverage", "run", f"--data-file={data}", *(["--branch"] if branch else [])]
        run([*measure, str(program)])
        report = run([sys.executable, "-m", "coverage", "json", f"--data-file={data}", "-o", "-", "-q"])
        measured = json.loads(report.stdout)["files"][program.name]
        last = len(PROGRAM.splitlines())
        return [
            [line for line in measured["missing_lines"] if line <= last],
            sorted(arc for arc in measured["missing_branches"] if max(arc) <= last) if branch else [],
        ]

    calls = "run(covered, 1)\nrun(covered_async)\n"
    off = missing("off", calls)
    armed = missing("armed", "with configured('covered', 'off'):\n    run(covered, 1)\n    run(covered_async)\n")
    assert off[0] == [8]
    assert armed == off


class Debugger(bdb.Bdb):
    """A debugger that records where it stops, and continues."""

    def __init__(self) -> None:
        super().__init__()
        self.stops: list[tuple[str, int]] = []
        self.seen: dict[str, Any] = {}

    def user_line(self, frame: FrameType) -> None:
        """Stop."""
        if frame.f_code.co_filename == __file__:
            self.stops.append((frame.f_code.co_name, frame.f_lineno - at_module_level.__code__.co_firstlineno))
            self.seen = dict(frame.f_locals)
        self.set_continue()


def test_breakpoints() -> None:
    """A breakpoint in the body of an armed function stops there, with the function's own variables."""
    line = at_module_level.__code__.co_firstlineno + 4
    debugger = Debugger()
    before = sys.gettrace()
    try:
        assert debugger.set_break(__file__, line) is None  # type: ignore[func-returns-value]
        with configured("module", "off"):
            debugger.runcall(at_module_level, 5)
    finally:
        debugger.clear_all_breaks()
        sys.settrace(before)
    assert debugger.stops[-1] == ("at_module_level", 4)
    assert debugger.seen == {"number": 5, "doubled": 10}


def test_traceback() -> None:
    """A traceback out of an armed function shows the body, as when nothing is armed."""

    @failpoint("failing")
    def failing() -> None:
        raise LookupError

    with configured("failing", "off"), pytest.raises(LookupError) as caught:
        failing()
    entries = [entry for entry in caught.traceback if entry.path == Path(__file__)]
    first = failing.__code__.co_firstlineno
    assert [(entry.name, entry.lineno + 1) for entry in entries[1:]] == [("failing", first + 2)]


# contexts that depend on how a call was written


def given(context: Callable[..., Any], function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call *function* while it is armed, and return the context of the visit."""
    seen: list[Hit] = []
    with configured("asked", Call(seen.append)):
        failpoint("asked", context=context)(function)(*args, **kwargs)
    return dict(seen[0].context)


@pytest.mark.parametrize(
    ("context", "plain"),
    [
        (lambda shard: {"shard": shard}, True),
        (lambda shard, dry=None: {"shard": shard, "dry": dry}, True),
        (lambda shard, *, colour="none": {"shard": shard, "colour": colour}, True),
        (lambda shard, colour="none": {"shard": shard, "colour": colour}, False),
        (lambda shard, dry, colour: {"shard": shard, "dry": dry, "colour": colour}, True),
        (lambda shard, *rest, **more: {"shard": shard, "rest": rest, "more": more}, False),
        (lambda *args, **kwargs: {"args": args, "kwargs": kwargs}, False),
        (lambda number, **kwargs: {"shard": number}, False),
        (functools.partial(dict, kind="partial"), False),
    ],
)
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((3,), {}), ((3, True), {}), ((3,), {"colour": "red"}), ((3, True, "red"), {}), ((3,), {"dry": True})],
)
def test_context_callables(context: Any, plain: bool, args: Any, kwargs: Any) -> None:
    """A context callable gets the arguments as the caller wrote them, through a wrapper if need be."""

    def function(shard: int, dry: bool = False, colour: str = "none") -> None: ...

    assert (type(failpoint("asked", context=context)(function)) is FunctionType) is plain
    try:
        expected = dict(context(*args, **kwargs))
    except TypeError:
        return  # covered by the next test: arguments that cannot be passed as written may be passed by name
    assert given(context, function, *args, **kwargs) == expected


def test_context_callable_that_wants_more_than_was_written() -> None:
    """A context callable with required parameters gets the defaults too. One that cannot take them is refused."""

    def function(shard: int, dry: bool = False, *rest: int) -> None: ...

    assert given(lambda shard, dry: {"both": (shard, dry)}, function, 3) == {"both": (3, False)}
    assert given(lambda dry=None: {"dry": dry}, lambda dry=True: None) == {"dry": None}
    for args in ((3, True), (3, True, 5)):
        with pytest.raises(FailpointUsageError, match="the call's own arguments, self included"):
            given(lambda shard: {}, function, *args)


def test_context_names_of_a_wrapping_function() -> None:
    """Parameter names from a wrapped signature are found among the arguments that the caller wrote."""

    def inner(shard: int) -> int:
        return shard

    @functools.wraps(inner)
    def outer(number: int, retries: int = 3) -> int:
        return inner(number)

    for given in (outer, failpoint("under")(outer)):
        decorated = failpoint("wrapping", context=["shard"])(given)
        with configured("wrapping", "off", context={"shard": 5}) as handle:
            assert decorated(5) == 5
            assert handle.hits == 1


async def test_wrappers_if_code_cannot_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """On an interpreter whose code cannot be replaced, every decorated function is a wrapper and still fires."""
    monkeypatch.setattr(_arming, "_EXCHANGES", False)

    class Owner:
        @failpoint("wrapped")
        async def method(self, number: int) -> int:
            return number

    stored = Owner().method
    assert type(Owner.method) is not FunctionType
    with configured("wrapped", Return(7)):
        assert (await stored(5), await Owner().method(5)) == (7, 7)
    assert await stored(5) == 5


def test_attributes_are_copied() -> None:
    """A decorated function begins with the attributes of the original, and changes none of them."""

    def function(number: int) -> str:
        return str(number)

    function.tags = ["slow"]  # type: ignore[attr-defined]
    decorated: Any = failpoint("shared")(function)
    decorated.other = 1
    assert decorated.tags is function.tags  # type: ignore[attr-defined]
    assert not hasattr(function, "other")
    assert not hasattr(function, "__wrapped__")
    assert decorated.__annotations__ is function.__annotations__


def test_generic_functions() -> None:
    """A generic function keeps its type parameters."""
    if sys.version_info < (3, 12):
        pytest.skip("generic functions came with Python 3.12")
    namespace: dict[str, Any] = {}
    exec("def first[T](items: list[T]) -> T: return items[0]", namespace)
    decorated = failpoint("generic")(namespace["first"])
    assert decorated.__type_params__ == namespace["first"].__type_params__ != ()
    assert isinstance(decorated, types.FunctionType)
