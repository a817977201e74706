"""Exploring tasks that share a server: a lost update is found every time, whatever client library is between."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from failpoints import failpoint
from failpoints.explore import ExplorationFailed, Run, explore


async def two_add_one(run: Run, clients: Any, get: Any, put: Any) -> None:
    """Let two tasks read a number and write the next one. The second looks other things up first."""

    async def add(client: Any, queries: int) -> None:
        number = 0
        for _ in range(queries):
            number = await get(client)
        await failpoint("between")
        await put(client, number + 1)

    one, two = clients
    await put(one, 0)
    async with run.injecting(), anyio.create_task_group() as group:
        group.start_soon(add, one, 1)
        group.start_soon(add, two, 3)
    assert await get(one) == 2, "an update was lost"


@pytest.mark.parametrize("repetition", range(5))
def test_postgres(postgres_dsn: str, repetition: int) -> None:
    """Over two connections of asyncpg."""
    asyncpg: Any = pytest.importorskip("asyncpg")

    def get(connection: Any) -> Any:
        return connection.fetchval("SELECT n FROM numbers")

    def put(connection: Any, number: int) -> Any:
        return connection.execute("UPDATE numbers SET n = $1", number)

    async def scenario(run: Run) -> None:
        one, two = await asyncpg.connect(postgres_dsn), await asyncpg.connect(postgres_dsn)
        await one.execute("DROP TABLE IF EXISTS numbers; CREATE TABLE numbers (n int); INSERT INTO numbers VALUES (0)")
        try:
            await two_add_one(run, (one, two), get, put)
        finally:
            await one.close()
            await two.close()

    with pytest.raises(ExplorationFailed, match="an update was lost"):
        explore(scenario, interleavings=True, timeout=30)


@pytest.mark.parametrize("repetition", range(5))
def test_redis(redis_port: int, repetition: int) -> None:
    """Over two clients of redis-py."""
    redis: Any = pytest.importorskip("redis.asyncio")

    async def get(client: Any) -> int:
        return int(await client.get("n"))

    def put(client: Any, number: int) -> Any:
        return client.set("n", number)

    async def scenario(run: Run) -> None:
        one, two = redis.Redis(port=redis_port), redis.Redis(port=redis_port)
        try:
            await two_add_one(run, (one, two), get, put)
        finally:
            await one.aclose()
            await two.aclose()

    with pytest.raises(ExplorationFailed, match="an update was lost"):
        explore(scenario, interleavings=True, timeout=30)


def test_every_order_over_redis(redis_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search over a pool of connections is exhaustive, and its idle connections cost no time."""
    redis: Any = pytest.importorskip("redis.asyncio")

    async def scenario(run: Run) -> None:
        async with redis.Redis(port=redis_port) as client:
            await client.set("n", 0)

            async def add() -> None:
                await failpoint("begin")
                await client.incr("n")
                await failpoint("end")

            async with run.injecting(), anyio.create_task_group() as group:
                group.start_soon(add)
                group.start_soon(add)
            assert int(await client.get("n")) == 2

    monkeypatch.setattr("failpoints._explore.loops.outside_waits.BOUND", 60.0)
    exploration = explore(scenario, interleavings=True, timeout=30)
    assert exploration.exhaustive
    assert exploration.runs == 6
