"""Instrumented library functions: calls made by the program are visits, calls made by the exploration are not."""

from __future__ import annotations

import asyncio
import inspect
import json
import random
import sys
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack
from typing import Any

import anyio
import anyio.to_thread
import pytest

from failpoints import configured, failpoint
from failpoints.explore import ExplorationFailed, Run, explore
from failpoints.instrument import instrument


@pytest.fixture
def dumps() -> Iterator[None]:
    """`json.dumps` is a failpoint, which raises a `RecursionError`."""
    with instrument("json:dumps", "dumps", context=["obj"], raises=(RecursionError,)):
        yield


@failpoint("decorated", raises=(OSError,))
def decorated(text: str) -> str:
    return json.dumps(text)


@pytest.mark.usefixtures("dumps")
def test_calls_are_visited_and_made_to_fail(backend: Any) -> None:
    """Calls in the scenario, in its tasks, after a sleep and in a thread are visits, and each is made to fail."""
    seen: list[tuple[str, bool]] = []

    def call(where: str) -> None:
        try:
            json.dumps(where)
        except RecursionError:
            seen.append((where, True))
        else:
            seen.append((where, False))

    async def child() -> None:
        call("child")
        await anyio.sleep(1)
        call("child, later")

    async def scenario(run: Run) -> None:
        async with run.injecting():
            call("scenario")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(child)
            await anyio.to_thread.run_sync(call, "thread")

    exploration = explore(scenario, backend=backend)
    places = ["scenario", "child", "child, later", "thread"]
    assert exploration.runs == 1 + 2 * len(places)  # before and after
    assert exploration.hits["dumps"] == exploration.runs * len(places)
    for place in places:
        assert seen.count((place, True)) == 2


@pytest.mark.usefixtures("dumps")
def test_in_the_body_of_a_decorated_function(backend: Any) -> None:
    """A call in the body of a decorated function is a call of the program."""
    faults: list[str] = []

    async def scenario(run: Run) -> None:
        async with run.injecting():
            try:
                decorated("text")
            except (OSError, RecursionError) as fault:
                faults.append(type(fault).__name__)

    explore(scenario, backend=backend)
    assert sorted(faults) == ["OSError", "OSError", "RecursionError", "RecursionError"]


def test_async_methods_and_their_orders(backend: Any) -> None:
    """Tasks take turns at an instrumented async method: both orders are found."""
    orders: set[str] = set()

    async def scenario(run: Run) -> None:
        order: list[str] = []

        async def take(who: str) -> None:
            async with lock:
                order.append(who)

        lock = anyio.Lock()
        async with run.injecting(), anyio.create_task_group() as tasks:
            tasks.start_soon(take, "a")
            tasks.start_soon(take, "b")
        orders.add("".join(order))

    with instrument("anyio:Lock.__aenter__", "acquire"):
        exploration = explore(scenario, backend=backend, interleavings=True)
    assert exploration.exhaustive
    assert orders == {"ab", "ba"}


@pytest.mark.usefixtures("dumps")
def test_a_failure_is_replayed(backend: Any) -> None:
    """A failure at an instrumented call is reported, and its replay fails too."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            json.dumps("text")

    async def guarded(run: Run) -> None:
        async with run.injecting():
            try:
                json.dumps("text")
            except RecursionError:
                raise AssertionError("not guarded") from None

    explore(scenario, backend=backend)
    with pytest.raises(ExplorationFailed, match="dumps") as failed:
        explore(guarded, backend=backend)
    with pytest.raises(ExplorationFailed, match="not guarded"):
        explore(guarded, backend=backend, replay=failed.value.replay)


def test_locks_of_asyncio_in_a_replay() -> None:
    """A recorded run observes the locks of asyncio, and makes the same visits as any other run."""
    lock: asyncio.Lock

    async def scenario(run: Run) -> None:
        nonlocal lock
        lock = asyncio.Lock()
        async with run.injecting():
            try:
                async with lock:
                    pass
            except RuntimeError:
                raise AssertionError("not guarded") from None

    with instrument("asyncio:Lock.acquire", "acquire", raises=(RuntimeError,)):
        with pytest.raises(ExplorationFailed, match="acquire") as failed:
            explore(scenario)
        with pytest.raises(ExplorationFailed, match="not guarded"):
            explore(scenario, replay=failed.value.replay)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
@pytest.mark.usefixtures("dumps")
def test_eager_tasks() -> None:
    """The first step of an eager task runs inside the call that creates the task, and makes visits."""

    async def child() -> None:
        json.dumps("child")

    async def scenario(run: Run) -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        async with run.injecting():
            await asyncio.create_task(child())

    exploration = explore(scenario, max_faults=0)
    assert exploration.hits["dumps"] == 1


@pytest.mark.usefixtures("dumps")
def test_a_plain_function_that_returns_a_coroutine(backend: Any) -> None:
    """A scenario may be a function that returns a coroutine. Its own calls are calls of the program."""

    async def act(run: Run) -> None:
        async with run.injecting():
            try:
                await failpoint("act", raises=(OSError,))
            except OSError:
                raise AssertionError("not guarded") from None

    def scenario(run: Run) -> Awaitable[None]:
        json.dumps("first")
        return act(run)

    with configured("dumps", "off") as handle, pytest.raises(ExplorationFailed, match="not guarded"):
        explore(scenario, backend=backend)
    assert handle.hits


def test_calls_of_the_exploration_itself(backend: Any) -> None:
    """A call that the exploration makes for its own purposes is not a visit."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("act")

    with ExitStack() as stack:
        for path in ("random:seed", "random:setstate", "inspect:iscoroutine"):
            stack.enter_context(instrument(path, path.replace(":", ".")))
        handles = [stack.enter_context(configured(site, "off")) for site in ("random.seed", "inspect.iscoroutine")]
        exploration = explore(scenario, backend=backend)
        random.seed(0)
        inspect.iscoroutine(0)
    assert [handle.hits for handle in handles] == [1, 1]  # the test's own
    assert {*exploration.hits} == {"act"}
