"""Reading the frames and the code of armed functions, as debuggers, profilers and error reporters do.

The readers run in a process of their own: what goes wrong here ends the process.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PROGRAM = '''
import asyncio, dis, faulthandler, gc, inspect, io, sys, traceback
import wrapt  # which CPython 3.11 and 3.12 cannot import under a trace function that reads f_locals
from failpoints import configured, failpoint, failpoint_scope

with configured("anything", "off"):  # imports what the first configure of a process does, for the same reason
    pass


def make():
    factor, total = 3, 0  # free variables of the functions below

    @failpoint("charge")
    def plain(n):
        if n < 0:
            raise TimeoutError(factor)
        return n * factor

    @failpoint("charge")
    def counting(n):
        nonlocal total
        total += n
        if n < 0:
            raise TimeoutError(total)
        return total

    @failpoint("charge")
    def with_cells(n, *rest, key=1, **more):
        doubled = n * 2

        def inner():
            return n + doubled + factor + key + len(rest) + len(more)

        if n < 0:
            raise TimeoutError(inner())
        return inner()

    @failpoint("charge")
    def deleting(n):
        m, k = n, factor
        del m, n
        if k < 0:
            raise TimeoutError(k)
        return k

    @failpoint("charge")
    async def coroutine(n):
        if n < 0:
            raise TimeoutError(factor)
        return n * factor

    @failpoint("charge")
    def generator(n):
        if n < 0:
            raise TimeoutError(factor)
        yield n * factor

    @failpoint("charge")
    async def async_generator(n):
        if n < 0:
            raise TimeoutError(factor)
        yield n * factor

    class Base:
        def charge(self, n):
            if n < 0:
                raise TimeoutError(n)
            return n

    class Shop(Base):
        @failpoint("charge")
        def charge(self, n):
            return super().charge(n) * factor

    async def drain(n):
        return [item async for item in async_generator(n)]

    return {
        "plain": (plain, plain),
        "counting": (counting, counting),
        "with_cells": (with_cells, with_cells),
        "deleting": (deleting, deleting),
        "coroutine": (coroutine, lambda n: asyncio.run(coroutine(n))),
        "generator": (generator, lambda n: list(generator(n))),
        "async_generator": (async_generator, lambda n: asyncio.run(drain(n))),
        "method": (Shop.charge, Shop().charge),
    }


def frames(error):
    for frame, _ in traceback.walk_tb(error.__traceback__):
        while frame is not None:
            yield frame
            frame = frame.f_back


def read_errors(read):
    """Read the error that each armed function injects, and the one that it raises itself."""
    for actions, number in (("raise(TimeoutError)", 2), ("off", -1)):
        with configured("charge", actions):
            for name, (function, call) in make().items():
                if name == "deleting" and number < 0:
                    continue
                try:
                    call(number)
                except TimeoutError as error:
                    read(error)
                else:
                    raise AssertionError(f"{name} raised nothing")


def read_functions(read):
    """Read each armed function, before and after a call."""
    with configured("charge", "off"):
        for name, (function, call) in make().items():
            read(function)
            call(2)
            read(function)


def f_locals():
    read_errors(lambda error: [dict(frame.f_locals) for frame in frames(error)])


def captured_locals():
    def read(error):
        "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    read_errors(read)


def print_tb():
    read_errors(lambda error: traceback.print_exception(error, file=io.StringIO()))


def dump_traceback():
    def read(error):
        with open("/dev/null", "w") as nothing:
            faulthandler.dump_traceback(nothing)
    read_errors(read)


def frame_objects():
    def read(error):
        for frame in frames(error):
            frame.f_lineno, frame.f_lasti, list(frame.f_code.co_positions()), list(frame.f_code.co_lines())
            gc.get_referrers(frame), gc.get_referents(frame)
            inspect.getframeinfo(frame)
    read_errors(read)


def cleared_frames():
    read_errors(lambda error: traceback.clear_frames(error.__traceback__))


def trace():
    def tracer(frame, event, argument):
        dict(frame.f_locals)
        return tracer
    sys.settrace(tracer)
    try:
        read_errors(lambda error: None)
        read_functions(lambda function: None)
    finally:
        sys.settrace(None)


def profile():
    sys.setprofile(lambda frame, event, argument: dict(frame.f_locals))
    try:
        read_errors(lambda error: None)
        read_functions(lambda function: None)
    finally:
        sys.setprofile(None)


def profilers():
    import cProfile, tracemalloc
    tracemalloc.start(5)
    profiler = cProfile.Profile()
    profiler.enable()
    try:
        read_errors(lambda error: tracemalloc.take_snapshot())
        read_functions(lambda function: None)
    finally:
        profiler.disable()
        tracemalloc.stop()
    assert profiler.getstats()


def monitoring():
    seen = []
    monitor = sys.monitoring
    monitor.use_tool_id(3, "test")
    events = monitor.events
    for event in (events.PY_START, events.PY_RETURN, events.LINE, events.INSTRUCTION, events.RAISE, events.PY_UNWIND):
        monitor.register_callback(3, event, lambda code, *more: seen.append(sys._getframe(1).f_locals.copy()))
    monitor.set_events(3, events.PY_START | events.PY_RETURN | events.LINE | events.INSTRUCTION | events.RAISE
                       | events.PY_UNWIND)
    try:
        read_errors(lambda error: None)
        read_functions(lambda function: None)
    finally:
        monitor.set_events(3, 0)
        monitor.free_tool_id(3)
    assert seen


def closures():
    def read(function):
        inspect.getclosurevars(function)
        assert len(function.__code__.co_freevars) == len(function.__closure__ or ())
        [cell.cell_contents for cell in function.__closure__ or ()]
        assert inspect.signature(function)
    read_functions(read)


def disassembly():
    def read(function):
        dis.dis(function, file=io.StringIO())
        dis.code_info(function)
        dis.stack_effect(dis.opmap["NOP"])
        function.__code__.replace(co_name="renamed")
        hash(function.__code__), function.__code__ == function.__code__, repr(function.__code__)
        if hasattr(__import__("copy"), "replace"):
            __import__("copy").replace(function.__code__, co_name="renamed")
    read_functions(read)


def referrers():
    def read(function):
        gc.get_referrers(function.__code__)
        gc.get_referents(function), gc.get_referents(function.__code__)
        gc.collect()
    read_functions(read)


def replaced_code():
    """Run a copy of the code of each armed function, as tools that change code do."""
    from types import FunctionType
    def read(function):
        code = function.__code__
        for changed in (code.replace(co_name="renamed"), code.replace(co_consts=(*code.co_consts, "more"))):
            copy = FunctionType(changed, function.__globals__, function.__name__, None, function.__closure__)
            copy.__kwdefaults__ = function.__kwdefaults__
            result = copy(2)
            for frame in (getattr(result, "cr_frame", None), getattr(result, "gi_frame", None)):
                dict(frame.f_locals if frame else {})
            getattr(result, "close", lambda: None)()
    with configured("charge", "return(1)"):
        for name, (function, call) in make().items():
            if name not in ("method", "async_generator"):
                read(function)


def paused_frames():
    """Read the frame of a coroutine and of a generator that wait inside an armed function."""
    with configured("charge", "off"):
        functions = make()
        generator = functions["generator"][0](2)
        next(generator)
        dict(generator.gi_frame.f_locals)
        coroutine = functions["coroutine"][0](2)
        dict(coroutine.cr_frame.f_locals)
        coroutine.close()
        generator.close()


globals()[sys.argv[1]]()
print("read")
'''
READERS = [
    "f_locals",
    "captured_locals",
    "print_tb",
    "dump_traceback",
    "frame_objects",
    "cleared_frames",
    "trace",
    "profile",
    "profilers",
    *(["monitoring"] if sys.version_info >= (3, 12) else []),
    "closures",
    "disassembly",
    "referrers",
    "replaced_code",
    "paused_frames",
]


@pytest.mark.parametrize("reader", READERS)
def test_armed_functions_can_be_read(reader: str) -> None:
    """Reading the frames and code of armed functions neither crashes the process nor raises."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(PROGRAM), reader],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "read\n"), done.stderr
