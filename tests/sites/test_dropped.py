"""A `return` at an inline visit whose outcome is dropped is a usage error, and never at one whose outcome is used."""

from __future__ import annotations

import asyncio
import code
import doctest
import functools
import operator
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anyio import Event, create_task_group
from anyio.lowlevel import checkpoint

import failpoints
from failpoints import (
    Cancelled,
    Continue,
    FailpointUsageError,
    Return,
    configure,
    configured,
    failpoint,
)
from failpoints._core.store import PROCESS_STORE

pytestmark = pytest.mark.anyio

point = failpoint("x")
POINTS = {"x": point}


class Holder:
    def __init__(self) -> None:
        self.point = failpoint("x")

    @property
    def made(self) -> failpoint:
        raise AssertionError("a property ran")


holder = Holder()


async def awaited() -> None:
    await failpoint("x")


async def awaited_variable() -> None:
    await point


async def awaited_local() -> None:
    mine = failpoint("x")
    await mine


async def awaited_attribute() -> None:
    await holder.point


async def awaited_through_the_package() -> None:
    await failpoints.failpoint("x")


async def awaited_with_arguments() -> None:
    await failpoint(
        "x",
        context={"a": 1 if holder else 2},
    )


async def awaited_in_a_branch() -> None:
    if holder:
        await failpoint("x")
    else:
        holder.made


async def awaited_last() -> None:
    holder and await failpoint("x")


async def awaited_in_finally() -> None:
    try:
        Event()
    finally:
        await failpoint("x")


async def awaited_in_a_with() -> None:
    async with create_task_group():
        await failpoint("x")


async def awaited_in_a_closure() -> None:
    mine = failpoint("x")

    async def inner() -> None:
        await mine

    await inner()


def hit() -> None:
    failpoint("x").hit()


def hit_variable() -> None:
    point.hit()


def hit_attribute() -> None:
    holder.point.hit()


def hit_with_arguments() -> None:
    failpoint("x", context={"a": 1 if holder else 2}).hit()


def hit_in_a_loop() -> None:
    for _ in range(1):
        failpoint("x").hit()


DROPPED: list[Callable[[], Any]] = [
    awaited,
    awaited_variable,
    awaited_local,
    awaited_attribute,
    awaited_through_the_package,
    awaited_with_arguments,
    awaited_in_a_branch,
    awaited_last,
    awaited_in_finally,
    awaited_in_a_closure,
    hit,
    hit_variable,
    hit_attribute,
    hit_with_arguments,
    hit_in_a_loop,
]


async def called(function: Callable[[], Any]) -> Any:
    result = function()
    return await result if hasattr(result, "__await__") else result


@pytest.mark.parametrize("actions", ["return(42)", "return"])
@pytest.mark.parametrize("function", DROPPED, ids=lambda function: function.__name__)
async def test_a_return_that_is_dropped_is_a_usage_error(function: Callable[[], Any], actions: str) -> None:
    """`return`, with or without a value, is refused where the visit is a statement of its own. The line is named."""
    with configured("x", actions), pytest.raises(FailpointUsageError) as caught:
        await called(function)
    entry = caught.traceback[-1]
    assert f"failpoint 'x' cannot {actions} at {__file__}:{entry.lineno + 1}, where " in str(caught.value)
    assert "drops the outcome: use it (if outcome := " in str(caught.value)


@pytest.mark.parametrize("function", [awaited_in_a_with], ids=lambda function: function.__name__)
async def test_a_statement_in_a_task_group(function: Callable[[], Any]) -> None:
    """In a task group, the usage error is in the group."""
    with configured("x", "return(42)"), pytest.RaisesGroup(FailpointUsageError):
        await called(function)


@pytest.mark.parametrize("function", DROPPED, ids=lambda function: function.__name__)
@pytest.mark.parametrize("actions", ["off", "print", "yield"])
async def test_other_actions_need_no_outcome(function: Callable[[], Any], actions: str) -> None:
    """A visit that is a statement of its own carries out every other action."""
    with configured("x", actions) as handle:
        await called(function)
    assert handle.triggers == 1


async def after_a_pause() -> None:
    await failpoint("x")


async def test_a_return_after_the_task_was_suspended() -> None:
    """It is refused as well when the visit waited before: a `Call` that waits, and then returns a `Return`."""

    async def waits(hit: object) -> Return:
        await checkpoint()
        return Return(42)

    with configured("x", failpoints.Call(waits)), pytest.raises(FailpointUsageError, match="drops the outcome"):
        await after_a_pause()


async def used() -> object:
    return await failpoint("x")


async def ignored_on_purpose() -> None:
    _ = await failpoint("x")


async def ignored_twice() -> None:
    _, _ = holder, await failpoint("x")


async def ignored_in_a_chain() -> None:
    _ = _unused = await failpoint("x")


async def matched() -> object:
    match await failpoint("x"):
        case Return(value):
            return value
        case Cancelled() | Continue():
            return None


async def matched_by_anything() -> None:
    match await failpoint("x"):
        case _:
            pass


async def tested() -> None:
    if await failpoint("x"):
        pass


async def in_an_expression() -> None:
    await failpoint("x") or holder  # type: ignore[func-returns-value]


async def in_a_list() -> None:
    [await failpoint("x")]


async def asserted() -> None:
    assert await failpoint("x")


async def walrus() -> None:
    (outcome := await failpoint("x"))
    assert outcome


async def returned_in_try() -> object:
    try:
        return await failpoint("x")
    finally:
        Event()


async def awaited_in_lambda() -> object:
    return await (lambda: failpoint("x"))()


async def deferred() -> object:
    return await called(lambda: failpoint("x").hit())


async def bound_method() -> object:
    visit = point.hit
    return visit()


async def partial() -> object:
    return functools.partial(point.hit)()


USED: list[Callable[[], Any]] = [
    used,
    ignored_on_purpose,
    ignored_twice,
    ignored_in_a_chain,
    matched,
    matched_by_anything,
    tested,
    in_an_expression,
    in_a_list,
    asserted,
    walrus,
    returned_in_try,
    awaited_in_lambda,
    deferred,
    bound_method,
    partial,
]


@pytest.mark.parametrize("function", USED, ids=lambda function: function.__name__)
async def test_a_return_that_is_used_is_never_refused(function: Callable[[], Any]) -> None:
    """An outcome that goes anywhere, be it into `_`, is not dropped."""
    with configured("x", "return(42)") as handle:
        await called(function)
    assert handle.triggers == 1


class Compiled:
    """An awaitable as a compiler of Python code makes them: it has no frame, and awaits without one."""

    def __init__(self) -> None:
        self._inner = failpoint("x").__await__()

    def __await__(self) -> Any:
        return map(operator.pos, self._inner)  # written in C


async def test_an_outcome_that_compiled_code_takes_is_let_be() -> None:
    """A statement that awaits something else is not taken for a visit, though no frame is in between."""
    with configured("x", "return(42)") as handle:
        await Compiled()
    assert handle.triggers == 1


def test_the_tools_of_asyncio_take_the_outcome() -> None:
    """`wait_for`, `gather` and a task hand the outcome on, which is not known to be dropped."""

    async def main() -> None:
        await asyncio.wait_for(failpoint("x"), 1)  # type: ignore[arg-type]
        await asyncio.gather(failpoint("x"))  # type: ignore[call-overload]
        await asyncio.ensure_future(failpoint("x"))

    with configured("x", "return(42)") as handle:
        asyncio.run(main())
    assert handle.triggers == 3


def test_a_thread_takes_the_outcome() -> None:
    """A method that a thread calls is not written as a statement."""
    with configured("x", "return(42)") as handle:
        thread = threading.Thread(target=point.hit)
        thread.start()
        thread.join()
    assert handle.triggers == 1


def test_a_value_that_is_shown_is_not_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    """In an interactive session and in a doctest, the value of a statement is shown."""
    with configured("x", "return(42)"):
        console = code.InteractiveConsole({"failpoint": failpoint})
        console.push('failpoint("x").hit()')
        assert capsys.readouterr().out == "Return(value='42')\n"
        test = doctest.DocTestParser().get_doctest(
            ">>> failpoint('x').hit()\nReturn(value='42')\n", {"failpoint": failpoint}, "shown", None, 0
        )
        assert doctest.DocTestRunner().run(test).failed == 0


def test_a_tracer_does_not_change_it() -> None:
    """It is found under a tracer, too, and a used outcome stays used."""

    def trace(frame: Any, event: str, argument: object) -> Any:
        frame.f_locals  # a debugger reads them
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with configured("x", "return(42)"):
            with pytest.raises(FailpointUsageError):
                hit()
            assert point.hit() == Return("42")
    finally:
        sys.settrace(before)


async def test_a_cancelled_wait_need_not_be_looked_at() -> None:
    """A dropped `Cancelled()` is not refused: the wait ended as it was meant to."""
    event = Event()
    event.set()
    with configured("x", "pause") as handle:
        await failpoint("x", cancel=event)
    assert handle.triggers == 1


def test_without_columns_nothing_is_found(tmp_path: Path) -> None:
    """In code that was compiled without columns it cannot be told, and is let be."""
    program = """
        from failpoints import configure, failpoint
        configure("x", "return(42)")
        failpoint("x").hit()
    """
    file = tmp_path / "program.py"
    file.write_text(textwrap.dedent(program))
    for options, status in (((), 1), (("-X", "no_debug_ranges"), 0)):
        done = subprocess.run([sys.executable, *options, file], capture_output=True, timeout=60, check=False)
        assert done.returncode == status


def test_the_handle_counts_a_refused_return() -> None:
    """The visit counts as a hit, and the configuration keeps the error for the reports."""
    configure("x", "return(42)")
    with pytest.raises(FailpointUsageError) as caught:
        hit()
    assert failpoints.status("x").hits == 1
    (current,) = failpoints._core.store.PROCESS_STORE.current("x")
    assert current.error is caught.value


async def test_a_module_that_is_imported_in_the_function() -> None:
    """An outcome that is dropped is found where the module is a local variable, or an attribute."""
    import failpoints as local

    async def awaits() -> None:
        await local.failpoint("x")

    def hits() -> None:
        import failpoints as inner

        inner.failpoint("x").hit()

    with configured("x", "return(42)"):
        with pytest.raises(FailpointUsageError, match="drops the outcome"):
            await awaits()
        with pytest.raises(FailpointUsageError, match="drops the outcome"):
            hits()


async def test_the_configuration_that_decided_has_the_error() -> None:
    """Of several configurations, the one whose outcome is dropped has the error, not a newer one that was hit."""

    async def site(key: str) -> None:
        await failpoint("x", context={"key": key})

    older = PROCESS_STORE.install(PROCESS_STORE.prepare("x", "return(42)", {"key": "b"}))
    newer = PROCESS_STORE.install(PROCESS_STORE.prepare("x", "off", {"key": "a"}))
    await site("a")
    with pytest.raises(FailpointUsageError):
        await site("b")
    assert "return(42)" in str(older.error)
    assert newer.error is None
