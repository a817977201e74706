"""`explore` tries the action `cancel` as a fault."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from failpoints import FailpointUsageError, Raise, failpoint
from failpoints.explore import ExplorationFailed, Run, explore

BACKENDS = ["asyncio", "trio"]


class Pool:
    """Loses its only connection if a user is cancelled between taking it and the `try`."""

    def __init__(self, *, fixed: bool = False) -> None:
        self.free = ["connection"]
        self.fixed = fixed

    @failpoint("pool.reset")
    async def reset(self) -> None:
        await anyio.lowlevel.checkpoint()

    @failpoint("pool.execute")
    async def execute(self) -> None:
        await anyio.lowlevel.checkpoint()

    async def query(self) -> None:
        connection = self.free.pop()
        if not self.fixed:
            await self.reset()
        try:
            if self.fixed:
                await self.reset()
            await self.execute()
        finally:
            self.free.append(connection)


async def query(run: Run, pool: Pool) -> None:
    async with run.injecting():
        await pool.query()
    for _ in range(3):
        await anyio.lowlevel.checkpoint()  # the task of the scenario itself is not cancelled any more
    assert pool.free == ["connection"], "the connection is gone"


async def query_in_a_task(run: Run, pool: Pool) -> None:
    async with run.injecting(), anyio.create_task_group() as group:
        group.start_soon(pool.query)
        group.start_soon(anyio.sleep, 0)
    assert pool.free == ["connection"], "the connection is gone"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("act", [query, query_in_a_task])
@pytest.mark.parametrize("actions", ["cancel", "sleep(1s)+cancel"])
def test_the_lost_connection_is_found(backend: Any, act: Callable[..., Any], actions: str) -> None:
    """The connection that a cancelled user loses is found, and the timeline shows the cancellation."""

    async def scenario(run: Run) -> None:
        await act(run, Pool())

    with pytest.raises(ExplorationFailed, match="the connection is gone") as caught:
        explore(scenario, backend=backend, faults={"pool.*": [actions]})
    assert "pool.reset" in str(caught.value)
    written = actions.replace("1s", "1000")
    assert f"<- {written} injected" in str(caught.value)
    assert f"FAILPOINTS='pool.reset=1*{written}'" in str(caught.value)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("act", [query, query_in_a_task])
def test_the_fixed_pool_holds(backend: Any, act: Callable[..., Any]) -> None:
    """A pool that gives its connection back is cancelled at each of four places, and passes."""
    errors: list[BaseException | None] = []

    async def scenario(run: Run) -> None:
        await act(run, Pool(fixed=True))
        errors.append(run.error)

    exploration = explore(scenario, backend=backend, faults={"*": ["cancel"]})
    assert (exploration.runs, exploration.exhaustive) == (5, True)
    if act is query:
        assert errors[0] is None
        assert {type(error) for error in errors[1:]} <= {asyncio.CancelledError, trio.Cancelled}


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_error_is_not_taken_with_it(backend: Any) -> None:
    """An error of the program's own that happens while it is cancelled is a failure."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            try:
                await failpoint("pool.reset")
            finally:
                await anyio.lowlevel.checkpoint() if run.faults == () else None
                if run.faults:
                    raise ValueError("a bug in the clean-up")

    with pytest.raises(ExplorationFailed, match="a bug in the clean-up"):
        explore(scenario, backend=backend, faults={"*": ["cancel"]})


def test_a_group_on_trio() -> None:
    """What trio leaves of a group, once the cancellations are taken out, is judged as any other error."""

    async def scenario(run: Run) -> None:
        async with run.injecting(expect=ExceptionGroup), trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0)
            try:
                await failpoint("pool.reset")
            except trio.Cancelled as cancelled:
                raise BaseExceptionGroup("both", [cancelled, OSError("unrelated")]) from None

    explore(scenario, backend="trio", faults={"*": ["cancel"]})


@pytest.mark.parametrize("backend", BACKENDS)
def test_sync_code(backend: Any) -> None:
    """`cancel` at a failpoint in sync code is a usage error."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            failpoint("sync").hit()

    with pytest.raises(FailpointUsageError, match="failpoint 'sync' cannot cancel in the sync"):
        explore(scenario, backend=backend, faults={"*": ["cancel"]})


def test_the_error_of_a_cancellation_is_refused() -> None:
    """Raising `CancelledError` cancels nothing, so `explore` asks for the action."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("pool.reset")

    for error in (asyncio.CancelledError, asyncio.CancelledError("x")):
        with pytest.raises(FailpointUsageError, match=r"cancels nothing; use 'cancel', which cancels the task"):
            explore(scenario, faults={"*": [Raise(error)]})


@pytest.mark.parametrize("actions", ["sleep(1)+exit", "print+exit(3)"])
def test_exit_at_the_end_of_several_is_refused(actions: str) -> None:
    """`exit` would end the exploring process, also as the last of several actions."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("pool.reset")

    with pytest.raises(FailpointUsageError, match="'exit' would end the exploring process"):
        explore(scenario, faults={"*": [actions]})
