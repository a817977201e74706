"""Tracebacks show the site and the program's frames, and none of this package."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from anyio import Event, create_task_group

from failpoints import (
    Call,
    FailpointCancelled,
    FailpointPanic,
    FailpointTimeout,
    FailpointUsageError,
    Raise,
    configured,
    failpoint,
    failpoint_scope,
)
from failpoints.instrument import instrument

pytestmark = pytest.mark.anyio


def lines(error: BaseException) -> list[str]:
    """The source lines of a traceback, without the first: that is the test's own."""
    return [frame.line or "" for frame in traceback.extract_tb(error.__traceback__)[1:]]


@failpoint("gone")
def plain(wrong: bool = False) -> int:
    if wrong:
        raise KeyError("plain")
    return 1


@failpoint("gone")
async def coroutine(wrong: bool = False) -> int:
    if wrong:
        raise KeyError("coroutine")
    return 1


@failpoint("gone")
def generator(wrong: bool = False) -> Iterator[int]:
    if wrong:
        raise KeyError("generator")
    yield 1


@failpoint("gone")
async def async_generator(wrong: bool = False) -> AsyncIterator[int]:
    if wrong:
        raise KeyError("async_generator")
    yield 1


@failpoint("gone", context=lambda wrong=False: {"wrong": wrong})
def wrapped(wrong: bool = False) -> int:
    if wrong:
        raise KeyError("wrapped")
    return 1


@failpoint("gone")
@failpoint("unused")
def twice(wrong: bool = False) -> int:
    if wrong:
        raise KeyError("twice")
    return 1


@failpoint("gone")
@lru_cache
def cached(wrong: bool = False) -> int:
    if wrong:
        raise KeyError("cached")
    return 1


def scope(wrong: bool = False) -> None:
    with failpoint_scope("gone"):
        if wrong:
            raise KeyError("scope")


async def async_scope(wrong: bool = False) -> None:
    async with failpoint_scope("gone"):
        if wrong:
            raise KeyError("async_scope")


def inline() -> None:
    failpoint("gone").hit()


async def async_inline() -> None:
    await failpoint("gone")


async def drain(wrong: bool = False) -> None:
    async for _ in async_generator(wrong):
        pass


AT_FUNCTION = ['@failpoint("gone")']
SYNC: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "plain": (plain, AT_FUNCTION),
    "generator": (lambda wrong=False: list(generator(wrong)), AT_FUNCTION),
    "wrapped": (wrapped, ['@failpoint("gone", context=lambda wrong=False: {"wrong": wrong})']),
    "twice": (twice, AT_FUNCTION),
    "cached": (cached, AT_FUNCTION),
    "scope": (scope, ['with failpoint_scope("gone"):']),
    "inline": (inline, ['failpoint("gone").hit()']),
}
ASYNC: dict[str, tuple[Callable[..., Awaitable[Any]], list[str]]] = {
    "coroutine": (coroutine, AT_FUNCTION),
    "async_generator": (drain, ["async for _ in async_generator(wrong):", *AT_FUNCTION]),
    "async_scope": (async_scope, ['async with failpoint_scope("gone"):']),
    "async_inline": (async_inline, ['await failpoint("gone")']),
}


def without_lambda(found: list[str]) -> list[str]:
    return [line for line in found if "lambda wrong=False: list" not in line]


@pytest.mark.parametrize("kind", SYNC)
def test_an_injected_error_ends_at_the_site_in_sync_code(kind: str) -> None:
    """The traceback of an injected error has the caller's line and the site, in sync code."""
    call, site = SYNC[kind]
    with configured("gone", "raise(OSError)"), pytest.raises(OSError, match="injected by failpoint") as caught:
        call()
    assert without_lambda(lines(caught.value)) == site


@pytest.mark.parametrize("kind", ASYNC)
async def test_an_injected_error_ends_at_the_site(kind: str) -> None:
    """The traceback of an injected error has the caller's line and the site, in async code."""
    call, site = ASYNC[kind]
    with configured("gone", "raise(OSError)"), pytest.raises(OSError, match="injected by failpoint") as caught:
        await call()
    assert lines(caught.value) == site


@pytest.mark.parametrize("kind", [kind for kind in SYNC if kind != "inline"])
def test_an_error_of_the_body_shows_only_the_body_in_sync_code(kind: str) -> None:
    """An error of the program's own has no frame of ours between the caller and the body, in sync code."""
    call, _ = SYNC[kind]
    with configured("gone", "off"), pytest.raises(KeyError) as caught:
        call(wrong=True)
    assert without_lambda(lines(caught.value)) == [f'raise KeyError("{kind}")']


@pytest.mark.parametrize("kind", [kind for kind in ASYNC if kind != "async_inline"])
async def test_an_error_of_the_body_shows_only_the_body(kind: str) -> None:
    """An error of the program's own has no frame of ours between the caller and the body, in async code."""
    call, _ = ASYNC[kind]
    with configured("gone", "off"), pytest.raises(KeyError) as caught:
        await call(wrong=True)
    assert [line for line in lines(caught.value) if "async for" not in line] == [f'raise KeyError("{kind}")']


@pytest.mark.parametrize("kind", [kind for kind in SYNC if kind != "inline"])
def test_an_error_after_the_body_ends_at_the_site_too(kind: str) -> None:
    """The traceback of an error that is injected at `:after` ends at the same place."""
    call, site = SYNC[kind]
    with configured("gone:after", "raise(OSError)"), pytest.raises(OSError, match="gone:after") as caught:
        call()
    assert without_lambda(lines(caught.value)) == site


def broken_action(hit: object) -> None:
    raise ValueError("from the test")


def broken_predicate(value: object) -> bool:
    raise ValueError("from the test")


@pytest.mark.parametrize(
    ("actions", "kind", "more"),
    [
        ("panic", FailpointPanic, []),
        ("pause(1)", FailpointTimeout, []),
        ("raise(UnicodeDecodeError)", FailpointUsageError, []),
        ("return(text)", FailpointUsageError, []),
        (Call(broken_action), ValueError, ['raise ValueError("from the test")']),
        (Call(lambda hit: Raise(OSError)), OSError, []),
    ],
    ids=["panic", "pause", "usage", "convert", "call", "call_raise"],
)
async def test_every_error_of_a_site_ends_there(actions: Any, kind: type[BaseException], more: list[str]) -> None:
    """Panics, timeouts, usage errors and the errors of a `Call` show the site, and then the test's own frames."""
    with configured("gone", actions):
        with pytest.raises(kind) as caught:
            await coroutine()
        assert lines(caught.value) == [*AT_FUNCTION, *more]
        with pytest.raises(FailpointUsageError if "pause" in str(actions) else kind) as caught:
            plain()
        assert lines(caught.value) == [*AT_FUNCTION, *more]


async def test_a_predicate_that_raises_shows_itself_below_the_site() -> None:
    """The error of a predicate shows the site, and then the predicate."""
    with (
        configured("gone", "off", context={"wrong": broken_predicate}),
        pytest.raises(ValueError, match="from the test") as caught,
    ):
        wrapped()
    assert lines(caught.value)[1:] == ['raise ValueError("from the test")']


async def test_a_cancel_event_that_is_set_ends_at_the_site() -> None:
    """`FailpointCancelled` shows the site."""
    event = Event()
    event.set()

    @failpoint("cancelled", cancel=event)
    async def cancelled() -> None: ...

    with configured("cancelled", "pause"), pytest.raises(FailpointCancelled) as caught:
        await cancelled()
    assert lines(caught.value) == ['@failpoint("cancelled", cancel=event)']


def test_an_instrumented_function_is_shown_where_it_is_defined() -> None:
    """The site of an instrumented function is its first line."""
    import json

    with (
        instrument("json:loads", "json.loads"),
        configured("json.loads", "raise(OSError)"),
        pytest.raises(OSError, match=r"json\.loads") as caught,
    ):
        json.loads("{}")
    assert [line.partition("(")[0] for line in lines(caught.value)] == ["def loads"]


def test_an_instrumented_c_function_is_shown_where_it_is_called() -> None:
    """A function without source has no line: the traceback ends at the caller's."""
    import math

    with instrument("math:sqrt", "math.sqrt"), configured("math.sqrt", "raise(OSError)"):
        with pytest.raises(OSError, match=r"math\.sqrt") as caught:
            math.sqrt(4)
        assert lines(caught.value) == []
    with instrument("math:sqrt", "math.sqrt"), configured("math.sqrt", "off"):
        with pytest.raises(ValueError, match="math domain|nonnegative") as wrong:
            math.sqrt(-4)
        assert lines(wrong.value) == []


def test_a_call_that_does_not_fit_looks_like_one_of_the_function() -> None:
    """The `TypeError` of a call with wrong arguments ends at the caller's line."""
    with configured("gone", "off"), pytest.raises(TypeError) as caught:
        wrapped(1, 2)  # type: ignore[call-arg]
    assert lines(caught.value) == []


def test_the_causes_show_no_frames_of_ours_either() -> None:
    """What led to an error is shown without our frames, and the program's own causes are shown whole."""
    with configured("gone", Raise(UnicodeDecodeError)), pytest.raises(FailpointUsageError) as caught:
        try:
            raise KeyError("before")
        except KeyError:
            plain()
    causes: list[BaseException] = []
    cause: BaseException | None = caught.value
    while (cause := cause.__cause__ or cause.__context__) is not None:
        causes.append(cause)
    assert [type(cause) for cause in causes] == [TypeError, KeyError]
    files = [frame.filename for cause in causes for frame in traceback.extract_tb(cause.__traceback__)]
    assert files == [__file__]


def test_an_error_thrown_into_a_generator_shows_only_the_generator() -> None:
    """An error that a `with` block throws into a decorated generator passes it without a frame of ours."""

    @contextmanager
    @failpoint("gone")
    def transaction() -> Iterator[None]:
        yield

    def failing() -> None:
        with transaction():
            raise KeyError("in the block")

    def files(error: BaseException) -> list[str]:
        return [frame.filename for frame in traceback.extract_tb(error.__traceback__)]

    with pytest.raises(KeyError) as off:
        failing()
    with configured("gone", "off"), pytest.raises(KeyError) as armed:
        failing()
    assert files(armed.value) == files(off.value)


async def test_an_error_thrown_into_an_async_generator_shows_only_the_generator() -> None:
    """An error that an `async with` block throws into a decorated generator passes it without a frame of ours."""

    @asynccontextmanager
    @failpoint("gone")
    async def transaction() -> AsyncIterator[None]:
        yield

    with configured("gone", "off"), pytest.raises(KeyError) as caught:
        async with transaction():
            raise KeyError("in the block")
    files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert not [file for file in files if "failpoints/_" in file]


async def test_the_errors_of_a_task_group_show_no_frames_of_ours() -> None:
    """Each error in a group shows the task's own frames and the site."""
    with configured("gone", "raise(OSError)"), pytest.raises(BaseExceptionGroup) as caught:
        async with create_task_group() as tasks:
            tasks.start_soon(coroutine)
            tasks.start_soon(async_inline)
    for leaf in caught.value.exceptions:
        own = [frame for frame in traceback.extract_tb(leaf.__traceback__) if frame.filename == __file__]
        assert own[-1].line in ('@failpoint("gone")', 'await failpoint("gone")')
        assert not [frame for frame in traceback.extract_tb(leaf.__traceback__) if "failpoints/_" in frame.filename]


async def test_the_rest_of_a_group_shows_no_frames_of_ours() -> None:
    """When a scope returns out of a task group whose other task failed, the rest is shown without our frames."""

    async def fails() -> None:
        raise KeyError("the other task")

    @failpoint("outer")
    async def outer() -> None:
        async with create_task_group() as tasks:
            tasks.start_soon(fails)
            async with failpoint_scope("inner"):
                pass

    with configured("inner", "return"), pytest.raises(BaseExceptionGroup) as caught:
        await outer()
    files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert not [file for file in files if "failpoints/_" in file]


def test_a_frozen_exception_passes() -> None:
    """An exception class that refuses to have attributes set passes an armed function."""

    @dataclass(frozen=True)
    class Frozen(Exception):
        number: int

    @failpoint("gone")
    def raising() -> None:
        raise Frozen(1)

    with configured("gone", "off"), pytest.raises(Frozen) as caught:
        raising()
    assert lines(caught.value) == ["raise Frozen(1)"]


PROGRAM = """
import asyncio
from failpoints import configure, failpoint

@failpoint("charge")
def charge():
    return 1

@failpoint("ask")
async def ask():
    return charge()

configure("charge", "raise(TimeoutError)")
"""


def printed(
    tmp_path: Path, *arguments: str, program: str = f"{PROGRAM}asyncio.run(ask())", debug: str | None = None
) -> str:
    file = tmp_path / "shop.py"
    file.write_text(program)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FAILPOINTS")}
    if debug is not None:
        environment["FAILPOINTS_DEBUG"] = debug
    environment["COLUMNS"] = "200"
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.getcwd(), environment.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *arguments, str(file)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_python_prints_the_site_and_the_frames_of_the_program(tmp_path: Path) -> None:
    """What Python prints for an uncaught error ends at the site, and names no file of this package."""
    shown = printed(tmp_path)
    assert "failpoints/_" not in shown
    assert [line.strip() for line in shown.splitlines() if "^" not in line][-5:] == [
        f'File "{tmp_path}/shop.py", line 11, in ask',
        "return charge()",
        f'File "{tmp_path}/shop.py", line 5, in charge',
        '@failpoint("charge")',
        "TimeoutError: injected by failpoint 'charge'",
    ]


def test_pytest_prints_the_site(tmp_path: Path) -> None:
    """What pytest prints for a test that fails ends at the site, and names no file of this package."""
    program = f"{PROGRAM}def test_it():\n    charge()"
    shown = printed(tmp_path, "-m", "pytest", "-p", "no:cacheprovider", "--showlocals", program=program)
    assert "failpoints/_" not in shown
    assert "shop.py:5: TimeoutError" in shown
    assert '> @failpoint("charge")' in shown or '>   @failpoint("charge")' in shown


def test_rich_prints_the_site(tmp_path: Path) -> None:
    """What rich prints, with all local variables, ends at the site, and names no file of this package."""
    program = f"import rich.traceback\nrich.traceback.install(show_locals=True, width=200){PROGRAM}charge()"
    shown = printed(tmp_path, program=program)
    assert "failpoints/_" not in shown
    assert "shop.py:6 in charge" in shown
    assert "TimeoutError: injected by failpoint 'charge'" in shown


def test_our_frames_are_shown_for_debugging(tmp_path: Path) -> None:
    """With `FAILPOINTS_DEBUG=1` the frames of this package are shown."""
    shown = printed(tmp_path, debug="1")
    assert "failpoints/_core/perform.py" in shown
    assert "failpoints/_sites/decorated.py" in shown


def test_the_variable_is_a_switch(tmp_path: Path) -> None:
    """A value of `FAILPOINTS_DEBUG` that is neither on nor off stops the import, with what was expected."""
    assert "FAILPOINTS_DEBUG is 'perhaps': expected 1" in printed(tmp_path, debug="perhaps")
