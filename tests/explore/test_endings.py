"""Runs that do not end, and what a run leaves behind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any

import anyio
import anyio.abc
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from failpoints import failpoint
from failpoints.explore import ExplorationFailed, Run, explore


def test_a_loop_that_spins(backend: Any) -> None:
    """A run that never rests is a failure after `timeout` real seconds."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            while True:
                await anyio.lowlevel.checkpoint()

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, timeout=0.3)
    assert failed.value.failure.kind == "hang"
    assert "the run did not end within its 0.3 s" in str(failed.value)


def test_a_loop_that_sleeps_forever(backend: Any) -> None:
    """A run that never ends, in which only virtual time passes, is a failure too. Its line is shown."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            while True:  # noqa: ASYNC110 - the hang that is to be found
                await anyio.sleep(1)

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, timeout=0.3)
    assert failed.value.failure.kind == "hang"
    assert ": await anyio.sleep(1)" in str(failed.value)


def test_sync_code_that_never_ends(backend: Any) -> None:
    """Sync code that does not return is interrupted, and its line is shown."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            number = 0
            while True:
                number += 1

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, timeout=0.3)
    assert failed.value.failure.kind == "hang"
    assert "number += 1" in str(failed.value) or "while True" in str(failed.value)


def test_a_thread_that_does_not_end(backend: Any) -> None:
    """A run that waits for a thread that does not return is ended at its time limit."""
    release = threading.Event()

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await anyio.to_thread.run_sync(release.wait)

    try:
        with pytest.raises(ExplorationFailed) as failed:
            explore(scenario, backend=backend, timeout=0.3)
    finally:
        release.set()
    assert failed.value.failure.kind == "hang"
    assert "other threads might still answer" in str(failed.value)


def test_a_task_that_polls(backend: Any) -> None:
    """A task that polls until a held task has gone on does not hang."""

    async def scenario(run: Run) -> None:
        done: list[str] = []

        async def poll() -> None:
            while not done:
                await anyio.lowlevel.checkpoint()

        async def visit(name: str) -> None:
            await failpoint(name)
            done.append(name)

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(poll)
            group.start_soon(visit, "a")
            group.start_soon(visit, "b")

    assert explore(scenario, backend=backend, interleavings=True).runs == 2


def test_a_long_run_does_not_look_like_polling(backend: Any) -> None:
    """No task is released before the others rest, however many steps these take."""

    async def scenario(run: Run) -> None:
        async def visit(count: int) -> None:
            for _ in range(600):
                await anyio.lowlevel.checkpoint()
            for number in range(count):
                await failpoint("visit", context={"number": number})
                for _ in range(600):
                    await anyio.lowlevel.checkpoint()

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(visit, 2)
            group.start_soon(visit, 2)

    assert explore(scenario, backend=backend, interleavings=True).runs == 6


def test_a_task_that_is_left_behind() -> None:
    """A task that outlives the scenario is a failure, and is ended."""
    ended: list[str] = []

    async def scenario(run: Run) -> None:
        async def background() -> None:
            try:
                await anyio.sleep(3600)
            finally:
                ended.append("ended")

        async with run.injecting():
            run.task = asyncio.create_task(background())  # type: ignore[attr-defined]
            await failpoint("visit")

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario)
    assert failed.value.failure.kind == "leak"
    assert "tasks were still running when the scenario had ended" in str(failed.value)
    assert "background  waits in sleep, at " in str(failed.value)
    assert ended


def test_a_task_that_is_about_to_end() -> None:
    """A task that ends without waiting for anything may outlive the scenario."""

    async def scenario(run: Run) -> None:
        async def background() -> None:
            for _ in range(3):
                await asyncio.sleep(0)

        async with run.injecting():
            run.task = asyncio.create_task(background())  # type: ignore[attr-defined]

    assert explore(scenario).runs == 1


def test_a_task_that_spins_is_left_behind() -> None:
    """A task that is left behind, and never rests, is a failure."""

    async def spin() -> None:
        while True:  # noqa: ASYNC110 - what is to be found
            await asyncio.sleep(0)

    async def scenario(run: Run) -> None:
        async with run.injecting():
            run.task = asyncio.create_task(spin())  # type: ignore[attr-defined]
            await failpoint("visit")

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, timeout=1)
    assert failed.value.failure.kind == "leak"


def test_a_task_that_swallows_its_cancellation() -> None:
    """A run ends even if a task swallows its cancellation, with an async generator left unfinished."""

    async def rows() -> Any:
        yield 1
        await anyio.sleep_forever()

    async def scenario(run: Run) -> None:
        async def stubborn() -> None:
            while True:
                try:
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    pass

        generator = rows()
        await generator.__anext__()
        async with run.injecting():
            await asyncio.create_task(stubborn())

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, timeout=0.3)
    assert failed.value.failure.kind == "hang"


DEAF = """
import anyio, gc, sys, threading, warnings
from failpoints.explore import ExplorationFailed, explore

async def main_task(run):
    while True:
        try:
            await anyio.sleep(1000)
        except BaseException:
            pass

async def child(run):
    async def deaf():
        while True:
            try:
                await anyio.Event().wait()
            except BaseException:
                pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deaf)
        async with run.injecting():
            await anyio.sleep(0)
        tasks.cancel_scope.cancel()

sys.unraisablehook = lambda unraisable: print("left behind:", unraisable.exc_value, unraisable.object)
before = threading.enumerate()
for scenario in (main_task, child):
    try:
        explore(scenario, backend=sys.argv[1], timeout=0.2)
    except ExplorationFailed as failed:
        print(scenario.__name__, failed.failure.kind)
    gc.collect()

async def innocent(run):
    async with run.injecting():
        await anyio.sleep(0)

assert explore(innocent, backend=sys.argv[1]).runs == 1
print([thread.name for thread in threading.enumerate() if thread not in before])
"""


@pytest.mark.slow
def test_tasks_that_swallow_everything(backend: Any) -> None:
    """A run ends in time though a task swallows every exception. Nothing is left that a later test could notice.

    The process ends, too, in which Python destroys what is left.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DEAF, backend], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["main_task hang", "child hang", "['failpoints.explore watchdog']"]


def test_an_error_that_is_never_retrieved() -> None:
    """A task that fails without being awaited is a failure."""

    async def scenario(run: Run) -> None:
        async def background() -> None:
            await failpoint("background", raises=(OSError,))

        async with run.injecting():
            task = asyncio.create_task(background())
            await asyncio.wait([task])

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario)
    assert failed.value.failure.kind == "unhandled"
    assert "task background failed, and its error was never retrieved: OSError" in str(failed.value)
    assert isinstance(failed.value.__cause__, OSError)


def test_exception_handlers() -> None:
    """An error in a callback goes to the handler that the scenario has set. Without one, it is a failure."""
    reported: list[str] = []

    def fail() -> None:
        raise OSError("not caught")

    async def scenario(run: Run) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(str(context["exception"])))
        async with run.injecting():
            loop.call_soon(fail)
            await anyio.sleep(1)

    async def careless(run: Run) -> None:
        async with run.injecting():
            asyncio.get_running_loop().call_soon(fail)
            await anyio.sleep(1)

    assert explore(scenario).runs == 1
    assert reported == ["not caught"]
    with pytest.raises(ExplorationFailed, match="OSError: not caught") as failed:
        explore(careless)
    assert failed.value.failure.kind == "unhandled"


def test_async_generators_are_closed() -> None:
    """An async generator that was left unfinished is closed at the end of its run."""
    closed: list[str] = []

    async def rows() -> Any:
        try:
            yield 1
            yield 2
        finally:
            await anyio.lowlevel.checkpoint()
            closed.append("closed")

    async def scenario(run: Run) -> None:
        async with run.injecting():
            generator = rows()
            await generator.__anext__()
            run.generator = generator  # type: ignore[attr-defined]
            await failpoint("visit")

    explore(scenario)
    assert closed == ["closed", "closed"]


@pytest.mark.parametrize("interleavings", [False, True, "awaits"])
def test_errors_that_gather_retrieves_at_the_end(interleavings: Any) -> None:
    """`gather` retrieves the error of a task that fails last, although the scenario has gone on after the first one."""

    async def fail() -> None:
        await failpoint("fail")
        raise LookupError

    async def scenario(run: Run) -> None:
        async with run.injecting():
            with pytest.raises(LookupError):
                await asyncio.gather(fail(), fail())

    assert explore(scenario, interleavings=interleavings, max_faults=0).exhaustive
