"""`Call`: the result that its function gets, and the wait while its function runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

import anyio
import pytest
from anyio import Event, create_task_group, to_thread

from failpoints import (
    Call,
    Hit,
    Pause,
    Return,
    configure,
    configured,
    failpoint,
    failpoint_scope,
    remove,
    resume,
    status,
)
from failpoints.explore import Run, explore
from failpoints.instrument import instrument

pytestmark = pytest.mark.anyio


@failpoint("ask", context=["number"])
async def ask(number: int) -> int:
    return number


@failpoint("ask", context=["number"])
def ask_sync(number: int) -> int:
    return number


@failpoint("ask")
def numbers(number: int) -> Iterator[int]:
    yield 1
    return number


@failpoint("ask")
async def numbers_async(number: int) -> AsyncIterator[int]:
    yield number


def spoil(hit: Hit) -> Return:
    return Return(hit.result + 1)


# the result


async def test_the_result_of_the_body() -> None:
    """At `:after`, the function of a `Call` gets what the body returned, and can replace it."""
    with configured("ask:after", Call(spoil)):
        assert await ask(41) == 42
        assert ask_sync(41) == 42


async def test_the_result_of_what_is_awaited() -> None:
    """For a sync function that returns an awaitable, the result is what that gave."""

    @failpoint("later")
    def later(number: int) -> Awaitable[int]:
        async def work() -> int:
            return number

        return work()

    with configured("later:after", Call(spoil)):
        assert await later(41) == 42


async def test_an_async_call_gets_the_result() -> None:
    """An async function gets the result, too."""

    async def look(hit: Hit) -> Return:
        await anyio.lowlevel.checkpoint()
        return spoil(hit)

    with configured("ask:after", Call(look)):
        assert await ask(41) == 42


def test_the_value_of_a_generator() -> None:
    """For a generator, the result is the value that it ends with."""

    def delegate() -> Iterator[int]:
        return (yield from numbers(41))  # type: ignore[func-returns-value]

    with configured("ask:after", Call(spoil)):
        iteration = delegate()
        assert next(iteration) == 1
        with pytest.raises(StopIteration) as stop:
            next(iteration)
    assert stop.value.value == 42


async def test_there_is_no_result_elsewhere() -> None:
    """Before a body, at a scope, inline, and for an async generator, the result is `None`."""
    seen: list[Hit] = []
    with configured("ask", Call(seen.append)), configured("ask:after", Call(seen.append)):
        assert [number async for number in numbers_async(1)] == [1]
        with failpoint_scope("ask"):
            pass
        await failpoint("ask")
        with configured("ask:after", "off"):
            ask_sync(1)
    assert [(hit.name, hit.result) for hit in seen] == [
        ("ask", None), ("ask:after", None), ("ask", None), ("ask:after", None), ("ask", None), ("ask", None),
    ]  # fmt: skip


def test_the_result_of_an_early_return() -> None:
    """A scope that returns from the function gives the result that `:after` sees."""
    seen: list[Hit] = []

    @failpoint("save")
    def save() -> str:
        with failpoint_scope("save.commit"):
            return "saved"

    with configured("save.commit", "return(not saved)"), configured("save:after", Call(seen.append)):
        assert save() == "not saved"
    assert seen == [Hit("save:after", {}, "not saved")]


def test_the_result_of_an_instrumented_function() -> None:
    """The function of somebody else's library gives its result, too."""
    import math

    with instrument("math:sqrt", "math.sqrt"), configured("math.sqrt:after", Call(spoil)):
        assert math.sqrt(9) == 4


def test_a_call_that_is_injected_gets_the_result() -> None:
    """A `Call` among the faults of an exploration gets the result."""
    seen: list[object] = []

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await ask(41)

    explore(scenario, faults={"ask:after": [Call(lambda hit: seen.append(hit.result))]})
    assert seen == [41]


# the wait


async def test_each_visitor_has_a_gate() -> None:
    """Two tasks wait in a `Call`, each for an event of its own, and are seen as waiting until it is set."""
    order: list[int] = []
    gates = {1: Event(), 2: Event()}

    async def hold(hit: Hit) -> None:
        await gates[hit.context["number"]].wait()

    async def visit(number: int) -> None:
        order.append(await ask(number))

    with configured("ask", Call(hold)) as held:
        async with create_task_group() as tasks:
            tasks.start_soon(visit, 1)
            tasks.start_soon(visit, 2)
            await held.wait_paused(2, timeout=10)
            assert sorted(waiting.context["number"] for waiting in held.waiting) == [1, 2]
            assert all("visit" in waiting.name for waiting in held.waiting)
            gates[2].set()
            while len(held.waiting) == 2:
                await anyio.lowlevel.checkpoint()
            assert [waiting.context["number"] for waiting in held.waiting] == [1]
            gates[1].set()
        assert held.waiting == ()
    assert order == [2, 1]


def test_a_thread_waits_in_a_call() -> None:
    """A thread that runs the function of a `Call` is seen as waiting until the function returns."""
    gate = threading.Event()
    with configured("ask", Call(lambda hit: gate.wait(10) and None)) as held:
        thread = threading.Thread(target=ask_sync, args=(1,), name="asking")
        thread.start()
        held.wait_paused_sync(timeout=10)
        assert [waiting.name for waiting in held.waiting] == ["asking"]
        gate.set()
        thread.join()
        assert held.waiting == ()


async def test_the_function_of_a_call_is_not_ended() -> None:
    """`resume` lets a `Call` go, but its function runs to its end. So it does if the failpoint is removed."""
    gate = Event()
    ended: list[int] = []

    async def hold(hit: Hit) -> None:
        await gate.wait()

    async def visit() -> None:
        ended.append(await ask(1))

    configure("ask", Call(hold))
    async with create_task_group() as tasks:
        tasks.start_soon(visit)
        while not status("ask").waiting:
            await anyio.lowlevel.checkpoint()
        assert resume("ask") == 1
        remove("ask")
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        assert ended == []
        gate.set()
    assert ended == [1]


async def test_a_call_that_returns_a_pause_waits_once() -> None:
    """After its function, a visit waits as the returned action asks. It is then woken as usual."""

    async def hold(hit: Hit) -> Pause:
        await anyio.lowlevel.checkpoint()
        return Pause()

    with configured("ask", Call(hold)) as held:
        async with create_task_group() as tasks:
            tasks.start_soon(ask, 1)
            while not held.resume():
                await anyio.lowlevel.checkpoint()
        assert held.waiting == ()


def test_a_resume_during_a_call_ends_the_pause_that_it_returns() -> None:
    """A visit that is resumed while the function of a `Call` still runs does not wait afterwards."""
    gate = threading.Event()

    def hold(hit: Hit) -> Pause:
        gate.wait(10)
        return Pause()

    with configured("ask", Call(hold)) as held:
        thread = threading.Thread(target=ask_sync, args=(1,))
        thread.start()
        held.wait_paused_sync(timeout=10)
        assert held.resume() == 1
        gate.set()
        thread.join(10)
        assert not thread.is_alive()
        assert held.waiting == ()


def test_a_call_that_has_ended_is_not_resumed() -> None:
    """After its function, a visit that does not wait is not among those that `resume` wakes."""
    with configured("ask", Call(lambda hit: Return(2))) as held:
        assert ask_sync(1) == 2
        assert held.resume() == 0


def test_a_resume_during_a_call_ends_the_pause_after_it() -> None:
    """A `resume` that comes while a `Call` runs is not lost: it ends the pause that follows in the same visit."""
    with configured("ask", Call(lambda hit: held.resume() and None) + Pause(10_000)) as held:
        assert ask_sync(1) == 1


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()], ids=["error", "interrupt"])
async def test_a_call_that_raises_waits_no_more(error: BaseException) -> None:
    """A function that raises, in a task or in a thread, leaves no waiter behind."""

    async def fail(hit: Hit) -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    def fail_sync(hit: Hit) -> None:
        raise error

    def raised() -> bool:
        try:
            ask_sync(1)
        except type(error):
            return True
        return False

    with configured("ask", Call(fail)) as held:
        with pytest.raises(type(error)):
            await ask(1)
        assert held.waiting == ()
    with configured("ask", Call(fail_sync)) as held:
        assert await to_thread.run_sync(raised)
        assert held.waiting == ()


async def test_a_call_that_is_cancelled_waits_no_more() -> None:
    """A task that is cancelled in a `Call` leaves no waiter behind."""

    async def hold(hit: Hit) -> None:
        await anyio.sleep_forever()

    with configured("ask", Call(hold)) as held:
        async with create_task_group() as tasks:
            tasks.start_soon(ask, 1)
            await held.wait_paused(timeout=10)
            tasks.cancel_scope.cancel()
        assert held.waiting == ()


def test_a_call_on_a_loop_that_is_closed_waits_no_more() -> None:
    """A `Call` whose event loop was closed in the middle does not count as waiting."""

    async def hold(hit: Hit) -> None:
        await asyncio.sleep(3600)

    async def main() -> Any:
        task = asyncio.ensure_future(ask(1))
        await held.wait_paused(timeout=10)
        return task

    with configured("ask", Call(hold)) as held:
        loop = asyncio.new_event_loop()
        task = loop.run_until_complete(main())
        assert len(held.waiting) == 1
        loop.close()
        assert held.waiting == ()
        task._log_destroy_pending = False
        task.get_coro().close()
