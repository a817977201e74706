"""A sync function that returns an awaitable is explored as an async function is, with its lost reply."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import anyio
import pytest

from failpoints import failpoint
from failpoints.explore import ExplorationFailed, Run, explore
from failpoints.instrument import instrument


class Counter:
    """What a client talks to. Each way to add does it once, when the result is awaited."""

    number = 0

    async def send(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.number += 1

    def plain(self) -> Awaitable[None]:
        return self.send()

    @failpoint("add", raises=(ConnectionError,))
    async def coroutine_function(self) -> None:
        await self.send()

    @failpoint("add", raises=(ConnectionError,))
    def coroutine(self) -> Awaitable[None]:
        return self.send()

    @failpoint("add", raises=(ConnectionError,))
    def awaitable(self) -> Awaitable[None]:
        return Command(self)

    @failpoint("add", raises=(ConnectionError,))
    def task(self) -> Awaitable[None]:
        return asyncio.ensure_future(self.send())


class Command:
    """An awaitable that is neither a coroutine nor a future."""

    def __init__(self, counter: Counter) -> None:
        self.counter = counter

    def __await__(self) -> Generator[Any, Any, None]:
        return self.counter.send().__await__()


@pytest.fixture(params=["coroutine_function", "coroutine", "awaitable", "plain"])
def way(request: pytest.FixtureRequest) -> Any:
    """Each way to add."""
    if request.param != "plain":
        yield request.param
        return
    with instrument(f"{__name__}:Counter.plain", "add", raises=(ConnectionError,)):
        yield "plain"


def test_a_lost_reply(way: str, backend: Any) -> None:
    """A retry after a lost reply adds twice, which is found."""

    async def scenario(run: Run) -> None:
        counter = Counter()
        call: Callable[[], Awaitable[None]] = getattr(counter, way)
        async with run.injecting():
            try:
                await call()
            except ConnectionError:
                await call()
        assert counter.number == 1, f"counted {counter.number} times"

    with pytest.raises(ExplorationFailed, match="counted 2 times") as failed:
        explore(scenario, backend=backend)
    assert failed.value.failure.faults == ("add:after=raise(ConnectionError)",)
    assert failed.value.exploration.runs == 3


def test_every_fault(way: str, backend: Any) -> None:
    """The faults before and after the work are tried, at the visits of several tasks."""
    counts: list[int] = []

    async def scenario(run: Run) -> None:
        counter = Counter()

        async def add() -> None:
            try:
                await getattr(counter, way)()
            except ConnectionError:
                pass

        async with run.injecting(), anyio.create_task_group() as tasks:
            tasks.start_soon(add)
            tasks.start_soon(add)
        counts.append(counter.number)

    verdict = "5 runs, every fault at 4 visits, one at a time: no failure"
    assert str(explore(scenario, backend=backend)) == verdict
    assert sorted(counts) == [1, 1, 2, 2, 2]


def test_every_order(way: str, backend: Any) -> None:
    """The orders of two tasks are those of an async function."""
    logs: set[str] = set()

    async def scenario(run: Run) -> None:
        counter = Counter()
        log: list[str] = []

        async def add(who: str) -> None:
            await getattr(counter, way)()
            log.append(who)

        async with run.injecting(), anyio.create_task_group() as tasks:
            tasks.start_soon(add, "a")
            tasks.start_soon(add, "b")
        logs.add("".join(log))

    exploration = explore(scenario, backend=backend, interleavings=True, max_faults=0)
    assert exploration.exhaustive
    assert exploration.runs == 6
    assert logs == {"ab", "ba"}


def test_the_lost_reply_of_a_task() -> None:
    """A task may have begun its work when it is returned, so only its reply can be lost."""

    async def scenario(run: Run) -> None:
        counter = Counter()
        async with run.injecting():
            try:
                await counter.task()
            except ConnectionError:
                await counter.task()
        assert counter.number == 1

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario)
    assert failed.value.failure.faults == ("add:after=raise(ConnectionError)",)
    assert failed.value.exploration.runs == 2
