"""A pause at a function that does not suspend makes states that the program cannot have, and is said to do so."""

from __future__ import annotations

import itertools
import logging
import sys
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from failpoints import FailpointTimeout, configured, failpoint
from failpoints._explore.loops.await_frames import awaited_frames
from failpoints.instrument import instrument

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_debugger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the tracer of coverage, since nothing is observed under a debugger."""
    monkeypatch.setattr(sys, "gettrace", lambda: None)


async def held(function: Any, name: str, caplog: pytest.LogCaptureFixture) -> tuple[str, str]:
    """Call the function twice, and pause the third call. Return the log line and the diagnosis of a wait."""
    with configured(name, "off"):
        await function()
        await function()
    caplog.clear()
    caplog.set_level(logging.INFO, "failpoints")
    async with anyio.create_task_group() as tasks:
        with configured(name, "pause") as handle:
            tasks.start_soon(function)
            await handle.wait_paused(timeout=10)
            with pytest.raises(FailpointTimeout) as late:
                await handle.wait_paused(2, timeout=0.001)
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("paused")]
    return line, str(late.value)


numbers = itertools.count()  # a site is known by its name, and no test must see the calls of another
SAID = "the function has not suspended in any of the {} calls seen: other tasks run here only because of the pause"


@pytest.mark.parametrize(("suffix", "calls"), [("", 2), (":after", 3)])  # at :after, the paused call has ended, too
async def test_a_function_that_never_suspends(suffix: str, calls: int, caplog: pytest.LogCaptureFixture) -> None:
    """The log line of the pause and the diagnosis of a wait say how many calls were seen without a suspension."""
    name = f"atomic.{next(numbers)}"

    @failpoint(name)
    async def check(waits: bool = False) -> int:
        if waits:
            await checkpoint()
        return 1

    line, message = await held(check, name + suffix, caplog)
    assert line.endswith(f"; {SAID.format(calls)}")
    assert SAID.format(calls) in message


async def test_a_function_without_an_await(caplog: pytest.LogCaptureFixture) -> None:
    """A function that contains no `await` is known to suspend never, at its first call already."""
    said = "the function awaits nothing: other tasks run here only because of the pause"
    name = f"atomic.{next(numbers)}"

    @failpoint(name)
    async def check() -> int:
        return 1

    caplog.set_level(logging.INFO, "failpoints")
    async with anyio.create_task_group() as tasks:
        with configured(name, "pause") as handle:
            tasks.start_soon(check)
            await handle.wait_paused(timeout=10)
            with pytest.raises(FailpointTimeout, match=said):
                await handle.wait_paused(2, timeout=0.001)
    assert [record.getMessage().endswith(f" waits; {said}") for record in caplog.records].count(True) == 1


async def test_a_function_that_suspends(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said of a function of which any call has suspended."""
    name = f"suspending.{next(numbers)}"

    @failpoint(name)
    async def check() -> None:
        await checkpoint()

    line, message = await held(check, name, caplog)
    assert line.endswith(" waits")
    assert "suspended" not in message


async def test_an_unknown_function(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said of an inline visit, and of a function whose calls were not seen."""

    async def check() -> None:
        _ = await failpoint("inline")

    line, message = await held(check, "inline", caplog)
    assert line.endswith(" waits")
    assert "suspended" not in message


async def test_what_is_observed_stays_itself() -> None:
    """Values, errors, cancellation and the frames of a call are the same while it is observed."""
    name = "observed"

    @failpoint(name)
    async def ask(what: str) -> str:
        if what == "error":
            raise KeyError(what)
        if what == "wait":
            await anyio.sleep_forever()
        return what

    with configured(name, "off"):
        assert await ask("value") == "value"
        with pytest.raises(KeyError, match="error"):
            await ask("error")
        with anyio.move_on_after(0.001) as scope:
            await ask("wait")
        assert scope.cancelled_caught


async def test_the_frames_of_an_observed_call_are_found() -> None:
    """An exploration that looks for the line of a suspended task finds it."""

    @failpoint("observed.frames")
    async def ask() -> None:
        await _Suspend()

    with configured("observed.frames", "off"):
        call = ask()
        call.send(None)
        assert "_Suspend.__await__" in [frame.f_code.co_qualname for frame in awaited_frames(call)]
        call.close()


class _Suspend:
    def __await__(self) -> Any:
        yield


async def lookup() -> str:
    import json

    return json.dumps(1)


async def test_calls_in_an_observed_function_are_the_program_s() -> None:
    """A function that is instrumented is visited when an observed function calls it."""
    with instrument("json:dumps", "json.dumps"):
        observed = failpoint("observed.calls")(lookup)
        with configured("observed.calls", "off"), configured("json.dumps", "return(2)"):
            assert await observed() == "2"
