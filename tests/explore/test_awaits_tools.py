"""The tools of asyncio, anyio and trio with every wake-up as a switch point: all of their outcomes are found."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from failpoints.explore import Run, explore

Log = Callable[[str], None]
Program = Callable[[Log], Awaitable[object]]


def outcomes(program: Program, backend: Any, **given: Any) -> set[str]:
    """Explore a program to the end, and return the logs of all runs."""
    seen: set[str] = set()

    async def scenario(run: Run) -> None:
        log: list[str] = []
        async with run.injecting():
            await program(log.append)
        seen.add("".join(log))

    exploration = explore(scenario, backend=backend, interleavings="awaits", **given)
    assert exploration.exhaustive
    return seen


async def asyncio_lock(log: Log) -> None:
    lock = asyncio.Lock()

    async def work(name: str) -> None:
        async with lock:
            log(name)
            await asyncio.sleep(0)
            log(name)

    await asyncio.gather(work("a"), work("b"))


async def asyncio_event(log: Log) -> None:
    event = asyncio.Event()

    async def wait(name: str) -> None:
        await event.wait()
        log(name)

    async def set_it() -> None:
        event.set()
        log("s")

    await asyncio.gather(wait("a"), wait("b"), set_it())


async def asyncio_condition(log: Log) -> None:
    condition, ready = asyncio.Condition(), list[int]()

    async def take() -> None:
        async with condition:
            await condition.wait_for(lambda: ready)
            log(f"{ready.pop()}")

    async def give(number: int) -> None:
        async with condition:
            ready.append(number)
            condition.notify()

    await asyncio.gather(take(), give(1), take(), give(2))


async def asyncio_semaphore(log: Log) -> None:
    semaphore = asyncio.Semaphore(2)

    async def work(name: str) -> None:
        async with semaphore:
            log(name)
            await asyncio.sleep(0)

    await asyncio.gather(work("a"), work("b"), work("c"))


async def asyncio_queue(log: Log) -> None:
    queue = asyncio.Queue[str](1)

    async def put(name: str) -> None:
        await queue.put(name)

    async def get() -> None:
        log(await queue.get())

    await asyncio.gather(put("a"), put("b"), get(), get())


async def asyncio_barrier(log: Log) -> None:
    barrier = asyncio.Barrier(2)

    async def arrive(name: str) -> None:
        log(f"{name}{await barrier.wait()}")

    await asyncio.gather(arrive("a"), arrive("b"))


async def asyncio_task_group(log: Log) -> None:
    async def work(name: str) -> None:
        await asyncio.sleep(0)
        log(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(work("a"))
        group.create_task(work("b"))
    log(".")


async def asyncio_timeout(log: Log) -> None:
    async def work(seconds: float, name: str) -> None:
        try:
            async with asyncio.timeout(2):
                await asyncio.sleep(seconds)
                log(name)
        except TimeoutError:
            log("t")

    await asyncio.gather(work(1, "a"), work(3, "b"))


async def asyncio_wait(log: Log) -> None:
    async def work(name: str) -> str:
        await asyncio.sleep(0)
        return name

    tasks = [asyncio.create_task(work(name)) for name in "ab"]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    log("".join(sorted(task.result() for task in done)))
    if pending:
        await asyncio.wait(pending)


async def asyncio_as_completed(log: Log) -> None:
    async def work(name: str) -> str:
        await asyncio.sleep(0)
        return name

    for done in asyncio.as_completed([work("a"), work("b")]):
        log(await done)


async def asyncio_shield(log: Log) -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        log("w")

    inner = asyncio.create_task(work())

    async def wait() -> None:
        try:
            await asyncio.shield(inner)
            log("a")
        except asyncio.CancelledError:
            log("c")

    outer = asyncio.create_task(wait())

    async def cancel() -> None:
        outer.cancel()

    await asyncio.gather(cancel(), outer, inner, return_exceptions=True)


TWICE = {"aabb", "bbaa"}
PAIRS = {"ab", "ba"}


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (asyncio_lock, TWICE),
        (asyncio_event, {"sab", "sba"}),
        (asyncio_condition, {"12", "21"}),
        (asyncio_semaphore, {"abc", "acb", "bac", "bca", "cab", "cba"}),
        (asyncio_queue, PAIRS),
        (asyncio_barrier, {"a1b0", "b1a0"}),
        (asyncio_task_group, {"ab.", "ba."}),
        (asyncio_timeout, {"at"}),
        (asyncio_wait, {"a", "b", "ab"}),
        (asyncio_as_completed, PAIRS),
        (asyncio_shield, {"wa", "cw", "wc", "w"}),
    ],
)
@pytest.mark.parametrize("reduction", [None, "sound", "declared"])
def test_asyncio(program: Program, expected: set[str], reduction: Any) -> None:
    """Every outcome that a tool of asyncio can have is found, and no other."""
    found = outcomes(program, "asyncio", reduction=reduction)
    if reduction == "declared":  # the log is not declared, so only the order of what the tool itself decides is certain
        assert found <= expected
    else:
        assert found == expected


async def one_by_one(door: AbstractAsyncContextManager[Any], log: Log) -> None:
    """Let two tasks through something that admits one at a time."""

    async def work(name: str) -> None:
        async with door:
            log(name)
            await anyio.lowlevel.checkpoint()
            log(name)

    async with anyio.create_task_group() as group:
        group.start_soon(work, "a")
        group.start_soon(work, "b")


async def anyio_lock(log: Log) -> None:
    await one_by_one(anyio.Lock(), log)


async def anyio_stream(log: Log) -> None:
    send, receive = anyio.create_memory_object_stream[str](1)
    with send, receive:
        async with anyio.create_task_group() as group:
            group.start_soon(send.send, "a")
            group.start_soon(send.send, "b")
            log(await receive.receive())
            log(await receive.receive())


async def anyio_condition(log: Log) -> None:
    condition, ready = anyio.Condition(), list[str]()

    async def give(name: str) -> None:
        async with condition:
            ready.append(name)
            condition.notify()

    async with anyio.create_task_group() as group:
        group.start_soon(give, "a")
        await anyio.lowlevel.checkpoint()
        async with condition:
            while not ready:
                log("w")
                await condition.wait()
            log(ready.pop())


async def anyio_limiter(log: Log) -> None:
    await one_by_one(anyio.CapacityLimiter(1), log)


async def anyio_move_on(log: Log) -> None:
    with anyio.move_on_after(1) as scope:
        await anyio.sleep_forever()
    log("t" if scope.cancelled_caught else "a")


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (anyio_lock, TWICE),
        (anyio_stream, PAIRS),
        (anyio_condition, {"a", "wa"}),
        (anyio_limiter, TWICE),
        (anyio_move_on, {"t"}),
    ],
)
def test_anyio(backend: Any, program: Program, expected: set[str]) -> None:
    """Every outcome that a tool of anyio can have is found, and no other, on both backends."""
    assert outcomes(program, backend) == expected


async def trio_channel(log: Log) -> None:
    send, receive = trio.open_memory_channel[str](0)

    async def get() -> None:
        for _ in range(2):
            log(await receive.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send.send, "a")
        nursery.start_soon(send.send, "b")
        nursery.start_soon(get)


async def trio_semaphore(log: Log) -> None:
    await one_by_one(trio.Semaphore(1), log)


async def trio_nursery(log: Log) -> None:
    async def fail(name: str) -> None:
        await trio.lowlevel.checkpoint()
        log(name)
        raise KeyError(name)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, "a")
            nursery.start_soon(fail, "b")
    except* KeyError as group:
        log(str(len(group.exceptions)))


@pytest.mark.parametrize(
    ("program", "expected"),
    [(trio_channel, PAIRS), (trio_semaphore, TWICE), (trio_nursery, {"a1", "b1"})],
)
def test_trio(program: Program, expected: set[str]) -> None:
    """Every outcome that a tool of trio can have is found, and no other."""
    assert outcomes(program, "trio") == expected
