"""A connection pool that loses a connection if its user is cancelled between two awaits. It has no failpoints."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel

from failpoints.explore import Run


class Connection:
    """A connection, which takes a round trip to be checked and another one for each query."""

    async def ping(self) -> None:
        """Check that the other side answers."""
        await anyio.lowlevel.checkpoint()

    async def execute(self, query: str) -> None:
        """Run a query."""
        await anyio.lowlevel.checkpoint()


class FirstPool:
    """A pool that checks a connection before it hands it out."""

    def __init__(self, size: int) -> None:
        self.free = deque(Connection() for _ in range(size))
        self.slots = anyio.Semaphore(size)

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """Take a connection out of the pool for the block."""
        async with self.slots:
            connection = self.free.popleft()
            await connection.ping()
            try:
                yield connection
            finally:
                self.free.append(connection)


class SecondPool(FirstPool):
    """A pool that returns the connection also if its check is cancelled."""

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """Take a connection out of the pool for the block."""
        async with self.slots:
            connection = self.free.popleft()
            try:
                await connection.ping()
                yield connection
            finally:
                self.free.append(connection)


async def use_twice(run: Run, pool: FirstPool) -> None:
    """Run two queries at once, and check that the pool has its connection again."""

    async def query(text: str) -> None:
        async with pool.connection() as connection:
            await connection.execute(text)

    async with run.injecting(), anyio.create_task_group() as tasks:
        tasks.start_soon(query, "SELECT 1", name="Ada")
        tasks.start_soon(query, "SELECT 2", name="Grace")
    assert len(pool.free) == 1, "a connection is lost"


async def first(run: Run) -> None:
    """Use the pool with the bug."""
    await use_twice(run, FirstPool(1))


async def second(run: Run) -> None:
    """Use the fixed pool."""
    await use_twice(run, SecondPool(1))
