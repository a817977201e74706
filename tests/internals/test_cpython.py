"""What this package takes for granted about CPython, beyond the documented language."""

from __future__ import annotations

import _thread
import concurrent.futures
import ctypes
import dataclasses
import dis
import gc
import importlib
import inspect
import random
import re
import secrets
import subprocess
import sys
import threading
import time
import traceback
import types
import unittest
import uuid
from collections.abc import AsyncGenerator
from importlib.machinery import ModuleSpec
from pathlib import Path
from textwrap import dedent
from types import FrameType, FunctionType
from typing import Any

import pytest

from failpoints._core import making
from failpoints._core.switches import may_contain_scope
from failpoints._sites.awaiting import awaits_result

pytestmark = pytest.mark.internals


def test_the_code_of_a_function_can_be_exchanged() -> None:
    """A function can be given another code object, with a constant that is any object, and the flags of the first."""
    answer = object()

    async def function(first: int, *, second: int) -> int:
        return first + second

    template = compile("lambda p0, *, k0: 'constant'", "template", "eval").co_consts[0]
    own = function.__code__
    function.__code__ = template.replace(
        co_name=own.co_name,
        co_varnames=own.co_varnames,
        co_flags=own.co_flags,
        co_consts=tuple(answer if constant == "constant" else constant for constant in template.co_consts),
    )
    assert function(1, second=2) is answer  # type: ignore[comparison-overlap]
    assert inspect.iscoroutinefunction(function)
    assert list(inspect.signature(function).parameters) == ["first", "second"]
    function.__code__ = own
    function(1, second=2).close()


def test_a_line_table_can_have_no_columns() -> None:
    """In `co_linetable`, the entry 13 says that up to eight instructions are on the same line, in no column."""

    def fail() -> None:
        raise ValueError("here")

    code = fail.__code__
    instructions = len(code.co_code) // 2
    lengths = [min(8, instructions - start) for start in range(0, instructions, 8)]
    table = b"".join(bytes([0x80 | 13 << 3 | length - 1, 0]) for length in lengths)
    replaced = code.replace(co_linetable=table)
    line = code.co_firstlineno
    assert set(replaced.co_positions()) == {(line, line, None, None)}
    fail.__code__ = replaced
    with pytest.raises(ValueError, match="here") as caught:
        fail()
    assert traceback.extract_tb(caught.value.__traceback__)[-1].lineno == line


@pytest.mark.skipif(sys.version_info < (3, 13), reason="calls of any function are specialized")
@pytest.mark.skipif("free-threading build" in sys.version, reason="no function is made that way")
def test_a_function_is_specialized_if_an_instruction_made_it() -> None:
    """The instruction takes code from the stack, and others give the function its parts: 1, 2 and 8 mean which."""

    def own(first: int, second: int = 2, *, third: int = 3) -> tuple[int, ...]:
        return first, second, third, free

    def is_specialized(function: Any) -> bool:
        def caller() -> Any:
            return function(1, 2)

        for _ in range(100):
            caller()
        names = {instruction.opname for instruction in dis.get_instructions(caller, adaptive=True)}
        return any(name.startswith("CALL_PY") for name in names)

    free = 4
    parts = own.__code__, own.__globals__, own.__defaults__, own.__kwdefaults__, own.__closure__ or ()
    own_parts = parts[0], *parts[2:]
    references = [sys.getrefcount(part) for part in own_parts]
    made = making.function_of(*parts)
    assert (made(1), made(1, 5, third=6)) == ((1, 2, 3, 4), (1, 5, 6, 4))
    assert (made.__code__, made.__globals__, made.__defaults__, made.__kwdefaults__, made.__closure__) == parts
    assert making.function_of((lambda: 1).__code__, {}, None, None, ())() == 1
    with pytest.raises(ValueError, match="closure"):
        making.function_of(own.__code__, {}, None, None, ())
    made_by_type = FunctionType(own.__code__, own.__globals__, "own", own.__defaults__, own.__closure__)
    made_by_type.__kwdefaults__ = own.__kwdefaults__
    assert [is_specialized(each) for each in (own, made, made_by_type)] == [True, True, False]
    del made, made_by_type
    assert [sys.getrefcount(part) for part in own_parts] == references


def test_the_frames_of_callers_and_of_threads_can_be_read() -> None:
    """`sys._getframe` returns the caller's frame, `sys._current_frames` that of each thread."""
    assert sys._getframe(0).f_code.co_name == "test_the_frames_of_callers_and_of_threads_can_be_read"
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    try:
        frame: FrameType | None = sys._current_frames()[thread.ident or 0]
        modules = set()
        while frame is not None:
            modules.add(frame.f_globals["__name__"])
            frame = frame.f_back
        assert modules == {"threading"}
    finally:
        event.set()
        thread.join()


def test_the_threads_can_be_counted() -> None:
    """`_thread._count` counts the threads that `threading` has started and that have not ended."""
    before = _thread._count()
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    assert _thread._count() == before + 1
    event.set()
    thread.join()


def is_without_work(thread: threading.Thread) -> bool:
    variables = sys._current_frames()[thread.ident or 0].f_locals
    return variables["work_queue"].empty() and "work_item" not in variables


@pytest.mark.parametrize("wait", ["join", "result", "idle"])
def test_waiting_threads_are_recognized_by_their_frames(wait: str) -> None:
    """A thread that waits for another one, or for work, stands in one of these functions."""
    release = threading.Event()
    helper = threading.Thread(target=release.wait)
    helper.start()
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        future = executor.submit(release.wait if wait == "result" else int)
        if wait == "idle":
            future.result()
            (thread,) = executor._threads
        else:
            thread = threading.Thread(target=helper.join if wait == "join" else future.result)
            thread.start()
        expected = {
            "join": {("threading", "join"), ("threading", "_wait_for_tstate_lock")},
            "result": {("concurrent.futures._base", "result")},
            "idle": {("concurrent.futures.thread", "_worker")},
        }[wait]
        try:
            while True:
                frame: FrameType | None = sys._current_frames()[thread.ident or 0]
                places = set()
                while frame is not None:
                    places.add((frame.f_globals["__name__"], frame.f_code.co_name))
                    frame = frame.f_back
                if places & expected and (wait != "idle" or is_without_work(thread)):
                    break
                time.sleep(0.001)
        finally:
            release.set()
    thread.join()
    helper.join()


def test_a_notified_thread_is_not_among_the_waiters() -> None:
    """`Condition.wait` keeps a `waiter` in a variable and in `_waiters`, from which `notify` removes it at once."""
    condition: Any = threading.Condition()

    def wait() -> None:
        with condition:
            condition.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    while not condition._waiters:
        time.sleep(0.001)
    with condition:
        frame = sys._current_frames()[thread.ident or 0]
        assert frame.f_code is threading.Condition.wait.__code__
        assert frame.f_locals["self"] is condition
        assert [*condition._waiters] == [frame.f_locals["waiter"]]
        condition.notify()
        assert not condition._waiters
        assert sys._current_frames()[thread.ident or 0].f_code is threading.Condition.wait.__code__
    thread.join()


def test_an_exception_can_be_thrown_into_a_thread() -> None:
    """`PyThreadState_SetAsyncExc` raises in another thread, at its next instruction."""

    class Thrown(BaseException):
        pass

    caught: list[str] = []
    begun = threading.Event()

    def run() -> None:
        try:
            begun.set()
            while True:
                pass
        except Thrown:
            caught.append("thrown")

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Thrown)) == 1
    thread.join()
    assert caught == ["thrown"]


def test_a_spec_knows_that_its_module_is_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spec is `_initializing` during the import, and a subclass sees that it is reset at the end."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "being_imported.py").write_text("import sys\nsys.stdout.seen(__spec__)\n")
    seen: list[Any] = []

    class Spec(ModuleSpec):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "_initializing":
                seen.append(value)
            super().__setattr__(name, value)

    class Stdout:
        def seen(self, spec: Any) -> None:
            seen.append(spec._initializing)
            spec.__class__ = Spec

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Stdout())
        importlib.import_module("being_imported")
    monkeypatch.delitem(sys.modules, "being_imported")
    assert seen == [True, False]


def test_the_collector_knows_what_an_awaitable_awaits() -> None:
    """The garbage collector finds the generator of `asend()`, and the coroutine of `__await__()`."""

    async def generate() -> AsyncGenerator[int]:
        yield 1

    async def run() -> None:
        pass

    generator, coroutine = generate(), run()
    step, wrapper = generator.asend(None), coroutine.__await__()
    assert generator in gc.get_referents(step)
    assert coroutine in gc.get_referents(wrapper)
    step.close()
    wrapper.close()  # type: ignore[attr-defined]
    coroutine.close()


def test_a_pattern_can_be_parsed() -> None:
    """`re._parser` parses a pattern to a sequence of operations with names and arguments, and knows its flags."""
    parser: Any = importlib.import_module("re._parser")
    tree = parser.parse("(?i)a(?a:[^b-d\\w])*?(?:e|ff)$")
    assert tree.state.flags == re.IGNORECASE | re.UNICODE
    literal, repeat, branch, end = tree
    assert (literal[0].name, literal[1]) == ("LITERAL", ord("a"))
    assert repeat[0].name == "MIN_REPEAT"
    least, most, [group] = repeat[1]
    assert (least, most is parser.MAXREPEAT) == (0, True)
    assert group[0].name == "SUBPATTERN"
    number, added, removed, [characters] = group[1]
    assert (number, added, removed) == (None, re.ASCII, 0)
    assert characters[0].name == "IN"
    negated, span, category = characters[1]
    assert (negated[0].name, span[0].name, span[1]) == ("NEGATE", "RANGE", (ord("b"), ord("d")))
    assert (category[0].name, category[1].name) == ("CATEGORY", "CATEGORY_WORD")
    assert branch[0].name == "BRANCH"
    assert [len(each) for each in branch[1][1]] == [1, 2]
    assert (end[0].name, end[1].name) == ("AT", "AT_END")


def test_a_test_case_knows_its_outcome_between_its_parts() -> None:
    """A `unittest` test has an `_outcome`. In `doCleanups` that is right, in a cleanup it is always a success."""
    seen: dict[str, list[bool]] = {}

    class Test(unittest.TestCase):
        def note(self) -> None:
            outcome: Any = self._outcome  # type: ignore[attr-defined]
            seen.setdefault(self._testMethodName, []).extend([outcome.success, outcome.expectedFailure is None])

        def setUp(self) -> None:
            self.addCleanup(self.note)

        def doCleanups(self) -> None:  # noqa: N802
            self.note()
            super().doCleanups()

        def test_passing(self) -> None: ...

        def test_failing(self) -> None:
            self.fail("on purpose")

        @unittest.expectedFailure
        def test_expected(self) -> None:
            self.fail("on purpose")

    unittest.defaultTestLoader.loadTestsFromTestCase(Test).run(unittest.TestResult())
    assert seen == {
        "test_passing": [True, True, True, True],
        "test_failing": [False, True, True, True],
        "test_expected": [True, False, True, False],
    }


def test_the_code_of_a_function_shows_a_with_statement() -> None:
    """A function with `with` or `async with` is recognized by its instructions."""

    def plain(thing: Any) -> list[Any]:
        return [each.name for each in thing if each]

    async def awaiting(thing: Any) -> None:
        async for each in thing:
            await each

    def entering(thing: Any) -> None:
        with thing:
            pass

    async def entering_async(thing: Any) -> None:
        async with thing:
            pass

    functions: list[Any] = [plain, awaiting, entering, entering_async]
    assert [may_contain_scope(function.__code__) for function in functions] == [False, False, True, True]


@pytest.mark.anyio
async def test_the_instruction_after_a_call_shows_an_await() -> None:
    """`await f()` and `async with f()` are told from other calls by what follows the call."""

    class Thing:
        def __init__(self, awaited: bool) -> None:
            self.awaited = awaited

        def __await__(self) -> Any:
            yield from ()
            return self.awaited

        async def __aenter__(self) -> bool:
            return self.awaited

        async def __aexit__(self, *exception: object) -> None:
            pass

        def __enter__(self) -> bool:
            return self.awaited

        def __exit__(self, *exception: object) -> None:
            pass

    def make(*arguments: object, **more: object) -> Thing:
        return Thing(awaits_result(sys._getframe(1)))

    assert await make() is True
    assert await make(1, two=2) is True
    assert await make(*[1], two=2) is True
    async with make() as awaited:
        assert awaited is True
    kept = make()
    assert await kept is False
    with make() as awaited:
        assert awaited is False
    assert [make().awaited, make(make()).awaited] == [False, False]


def test_a_dataclass_keeps_its_parameters() -> None:
    """A frozen dataclass may inherit from a dataclass whose parameters say that it is frozen, and from no other."""

    @dataclasses.dataclass
    class Base:
        pass

    parameters: Any = getattr(Base, "__dataclass_params__")  # noqa: B009
    assert parameters.frozen is False
    with pytest.raises(TypeError, match="cannot inherit frozen dataclass from a non-frozen one"):
        dataclasses.dataclass(frozen=True)(type("Frozen", (Base,), {}))
    parameters.frozen = True
    dataclasses.dataclass(frozen=True)(type("Frozen", (Base,), {}))


def test_random_bytes_come_from_these_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """`SystemRandom` looks its source up in the module `random`, and a generator without a seed calls `seed`."""

    def five(size: int) -> bytes:
        return b"\5" * size

    class Seeded(random.Random):
        def seed(self, *args: Any) -> None:
            given.append(args)

    given: list[Any] = []
    monkeypatch.setattr(random, "_urandom", five)
    assert secrets.token_bytes(3) == b"\5\5\5"
    assert secrets.randbits(8) == 5
    assert random.SystemRandom().random() < 0.1
    Seeded()
    assert given == [(None,)]


def test_uuids_with_a_time_come_from_these_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """They call `time.time_ns`, then compare with the latest. The system's function is called for `uuid1()` only."""
    functions = [lambda: uuid.uuid1(1, 2)]
    latest = ["_last_timestamp"]
    if sys.version_info >= (3, 14):
        functions += [lambda: uuid.uuid6(1, 2), uuid.uuid7]
        latest += ["_last_timestamp_v6", "_last_timestamp_v7"]
    assert [name for name in vars(uuid) if name.startswith("_last_timestamp")] == latest

    def time_ns() -> int:
        callers.append(sys._getframe(1).f_globals)
        for name in latest:
            monkeypatch.setattr(uuid, name, None)
        return 10**18

    callers: list[Any] = []
    for name in latest:
        monkeypatch.setattr(uuid, name, 10**30)
    monkeypatch.setattr(time, "time_ns", time_ns)
    assert [make().time for make in functions[:2]] == [10**16 + 0x01B21DD213814000] * len(functions[:2])
    assert [make().time for make in functions[2:]] == [10**12] * len(functions[2:])
    assert callers == [vars(uuid)] * len(functions)

    def generate() -> tuple[bytes, None]:
        return uuid.UUID(int=7).bytes, None

    monkeypatch.setattr(uuid, "_generate_time_safe", generate)
    assert uuid.uuid1() == uuid.UUID(int=7)
    assert uuid.uuid1(1, 2) != uuid.UUID(int=7)
    assert uuid.getnode() == vars(uuid)["_node"]


def test_a_class_that_a_program_has_made_has_a_flag() -> None:
    """The flag of heap types distinguishes a class with slots from those of Python itself."""

    class Slots:
        __slots__ = ("value",)

    assert Slots.__flags__ & 1 << 9
    assert not slice.__flags__ & 1 << 9
    assert isinstance(vars(slice)["start"], types.MemberDescriptorType)


def test_a_function_can_be_called_before_threads_are_joined() -> None:
    """A function that `_register_atexit` registers is called at the exit, before Python waits for other threads."""
    script = """
        import concurrent.futures.thread, os, threading

        threading.Thread(target=threading.Event().wait).start()
        concurrent.futures.ThreadPoolExecutor().submit(threading.Event().wait)
        threading._register_atexit(os._exit, 3)
    """
    done = subprocess.run([sys.executable, "-c", dedent(script)], timeout=50)
    assert done.returncode == 3
