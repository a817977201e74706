"""Tools that wrap, recompile, renew or pickle a decorated function."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import failpoints
from failpoints import Return, configured, failpoint
from failpoints._core import arming

needs_exchange = pytest.mark.skipif(
    not arming.can_arm(lambda: None), reason="no code is exchanged here: a decorated function is an object around it"
)
off_and_armed = pytest.mark.parametrize(
    "during", [nullcontext, lambda: configured("elsewhere", "off")], ids=["off", "armed"]
)
During = Callable[[], AbstractContextManager[object]]


# wrapping in place, as ddtrace does


def wrap_in_place(function: Any, calls: list[Any]) -> FunctionType:
    """Move the code of a function to a copy, and give the function code that calls the copy. Return the copy."""
    inner = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    inner.__kwdefaults__ = function.__kwdefaults__

    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return inner(*args, **kwargs)

    namespace = {"call": call}
    exec("def wrapper(*args, **kwargs): return CALL(*args, **kwargs)", namespace)
    code = namespace["wrapper"].__code__  # type: ignore[attr-defined]
    globals_name = f"_wrapped_in_place_{id(inner)}"
    function.__globals__[globals_name] = call
    function.__code__ = code.replace(
        co_names=tuple(globals_name if name == "CALL" else name for name in code.co_names),
        co_name=function.__name__,
    )
    return inner


@needs_exchange
@off_and_armed
@pytest.mark.parametrize("times", [1, 2])
def test_wrapped_in_place(times: int, during: During) -> None:
    """A function whose code was wrapped in place, off or armed, is visited once in each call, and runs its wrapper."""
    calls: list[Any] = []

    @failpoint("wrapped")
    def function(number: int, *, by: int = 2) -> int:
        return number * by

    with during():
        for _ in range(times):
            wrap_in_place(function, calls)
        assert function(1) == 2
    assert function(2) == 4
    for _ in range(2):
        with configured("wrapped", "off") as handle:
            assert function(3, by=3) == 9
            assert handle.hits == 1
        with configured("wrapped", Return(-1)):
            assert function(3) == -1
    assert calls[-times:] == [(3,)] * times


@needs_exchange
@off_and_armed
def test_unwrapped_in_place(during: During) -> None:
    """A function that got its code back from a tool, which took it while armed, is visited as before."""

    @failpoint("wrapped")
    def function(number: int) -> int:
        return 2 * number

    with configured("elsewhere", "off"):
        inner = wrap_in_place(function, [])
    with during():
        assert function(1) == 2
        function.__code__ = inner.__code__
    assert function(1) == 2
    with configured("wrapped", Return(-1)) as handle:
        assert function(1) == -1
        assert handle.hits == 1
    assert function(1) == 2


# compiling again, as typeguard does


@off_and_armed
def test_checked_by_typeguard(during: During) -> None:
    """`@typechecked` over a decorated function, or on its class, leaves the failpoint, and says that it does."""
    typeguard = pytest.importorskip("typeguard")
    with during(), pytest.warns(typeguard.InstrumentationWarning, match="only supports instrumenting functions wrap"):

        @typeguard.typechecked
        @failpoint("checked")
        def function(number: int) -> int:
            return number

    with during():

        @typeguard.typechecked
        class Owner:
            @failpoint("checked")
            def method(self, number: int) -> int:
                return number

            @failpoint("checked")
            @classmethod
            def class_method(cls, number: int) -> int:
                return number

    for call in (function, Owner().method, Owner.class_method):
        assert call(1) == 1
        with configured("checked", Return(-1)) as handle:
            assert call(1) == -1
            assert handle.hits == 1


# renewing parts, as IPython's autoreload does


def renew(function: Any, new: Any) -> None:
    """Give a function the parts of a new one: the closure too, which Python does not allow, and IPython does."""
    for name in ("__defaults__", "__kwdefaults__", "__doc__", "__dict__"):
        setattr(function, name, getattr(new, name))
    cells = tuple(new.__closure__ or ()) or None
    given = new if function.__closure__ is None else function
    if given.__closure__ is not None:
        place = next(number for number in range(1, 50) if words_of(given)[number] == id(given.__closure__))
        words_of(function)[place] = 0 if cells is None else id(cells)
        if cells is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(cells))  # the function gives this reference back when it ends
    function.__code__ = new.__code__


def words_of(thing: object) -> Any:
    """Return the memory of an object."""
    return ctypes.cast(id(thing), ctypes.POINTER(ctypes.c_void_p))


def undecorated(number: int) -> str:
    """Double it."""
    return f"new {number}"


def decorated_anew(factor: int | None = None) -> Any:
    """Decorate a function that IPython takes the parts from, with a closure or without."""
    if factor is None:

        @failpoint("renewed", context=["amount"])
        def without(amount: int) -> str:
            return f"newer {amount}"

        return without

    @failpoint("renewed", context=["amount"])
    def within(amount: int) -> str:
        return f"newer {amount * factor // factor}"

    return within


@needs_exchange
@off_and_armed
@pytest.mark.parametrize("factor", [None, 3], ids=["without a closure", "with a closure"])
def test_renewed(factor: int | None, during: During, caplog: pytest.LogCaptureFixture) -> None:
    """A function that got the parts of a new decorated one runs the new body, and is visited as that one."""

    @failpoint("renewed", context=["number"])
    def function(number: int) -> str:
        return f"old {number}"

    with during():
        for _ in range(2):
            renew(function, undecorated)  # as IPython does first, without the decorator
            renew(function, decorated_anew(factor))
            assert function(1) == "newer 1"
    for _ in range(2):
        with configured("renewed", Return("visited"), context={"amount": 2}):
            assert [function(1), function(2)] == ["newer 1", "visited"]
    assert function(2) == "newer 2"
    assert caplog.records == []


@needs_exchange
def test_renewed_with_its_attributes_left(caplog: pytest.LogCaptureFixture) -> None:
    """A function that has only lost its closure and got other code is still visited."""

    @failpoint("renewed", context=["number"])
    def function(number: int) -> str:
        return f"old {number}"

    attributes = function.__dict__
    renew(function, undecorated)
    function.__dict__ = attributes
    for _ in range(2):
        with configured("renewed", Return("visited"), context={"number": 2}):
            assert [function(1), function(2)] == ["new 1", "visited"]
    assert function(2) == "new 2"
    assert caplog.records == []


@needs_exchange
def test_taken_apart(caplog: pytest.LogCaptureFixture) -> None:
    """A function that a tool has taken apart is named in a warning, once, and does not disturb any other."""

    @failpoint("apart")
    def function(number: int) -> str:
        return f"old {number}"

    @failpoint("tools.whole")
    def other() -> str:
        return "body"

    renew(function, undecorated)
    for _ in range(2):
        with configured("tools.whole", Return("visited")), configured("apart", "off"):
            assert (function(1), other()) == ("new 1", "visited")
    assert (function(1), other()) == ("new 1", "body")
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert record.getMessage() == (
        f"{__name__}.test_taken_apart.<locals>.function has lost its failpoint, because its code cannot be exchanged:"
        " its closure and its attributes were replaced. If another tool has replaced parts of the function, reload its"
        " module"
    )


# pickling by value, as cloudpickle does


def decorated_functions() -> dict[str, Any]:
    """Return functions of all kinds, which have free variables and use globals."""
    factor = 3

    @failpoint("by.value")
    def plain(number: int, *rest: int, by: int = 2) -> Any:
        return functools.reduce(lambda first, second: first + second, [number, *rest]) * by * factor

    @failpoint("by.value")
    def generator(number: int) -> Iterator[int]:
        yield number * factor

    @failpoint("by.value")
    def recursive(number: int) -> int:
        return 0 if not number else factor + recursive(number - 1)

    return {"plain": plain, "generator": generator, "recursive": recursive}


def results_of(functions: dict[str, Any]) -> list[Any]:
    """Call these functions."""
    return [functions["plain"](1, 2, by=3), list(functions["generator"](4)), functions["recursive"](2)]


@off_and_armed
def test_pickled_by_value(during: During) -> None:
    """A function that is pickled by value arrives as a plain function, off and armed."""
    cloudpickle = pytest.importorskip("cloudpickle")
    with during():
        pickled = cloudpickle.dumps(decorated_functions())
        arrived = cloudpickle.loads(pickled)
        assert results_of(arrived) == [27, [12], 6]
    assert results_of(arrived) == [27, [12], 6]
    pickled_again = cloudpickle.dumps(arrived)
    assert results_of(cloudpickle.loads(pickled_again)) == [27, [12], 6]


@off_and_armed
def test_pickled_by_value_to_another_process(during: During, tmp_path: Path) -> None:
    """Another process gets the plain function, too, with the globals that it uses."""
    cloudpickle = pytest.importorskip("cloudpickle")
    with during():
        (tmp_path / "pickled").write_bytes(cloudpickle.dumps(decorated_functions()))
    program = (
        "import cloudpickle\n"
        "functions = cloudpickle.load(open('pickled', 'rb'))\n"
        "print(functions['plain'](1, 2, by=3), list(functions['generator'](4)), functions['recursive'](2))"
    )
    path = {**os.environ, "PYTHONPATH": str(Path(failpoints.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("27 [12] 6\n", "")
