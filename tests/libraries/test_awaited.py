"""Methods of real libraries that are sync functions and return awaitables, against real servers.

Each does something that can be counted afterwards: by the server, or by another connection to it.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest

from failpoints import FailpointCancelled, Return, configured, failpoint
from failpoints.explore import ExplorationFailed, explore
from failpoints.instrument import instrument

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Client(NamedTuple):
    """Something that can be asked: `ask` is visited, `count` returns how often it was done."""

    ask: Callable[[], Awaitable[Any]]
    count: Callable[[], Awaitable[int]]


class Case(NamedTuple):
    """A method of a library, and a client that calls it."""

    path: str
    connect: Callable[[], AbstractAsyncContextManager[Client]]


# redis-py


@asynccontextmanager
async def redis_incrby(port: int) -> AsyncIterator[Client]:
    from redis.asyncio import Redis

    async with Redis(port=port) as redis:
        await redis.delete("n")

        async def count() -> int:
            return int(await redis.get("n") or 0)

        yield Client(lambda: redis.incrby("n"), count)


# aiohttp


@asynccontextmanager
async def aiohttp_post(*, entered: bool) -> AsyncIterator[Client]:
    from aiohttp import ClientSession, web

    orders: list[str] = []

    async def order(request: web.Request) -> web.Response:
        orders.append(request.path)
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/order", order)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/order"
    try:
        async with ClientSession() as session:

            async def ask() -> Any:
                if not entered:
                    return await session.post(url)
                async with session.post(url) as response:
                    return response

            async def count() -> int:
                return len(orders)

            yield Client(ask, count)
    finally:
        await runner.cleanup()


# aiosqlite


@asynccontextmanager
async def aiosqlite_connect(folder: Path, *, entered: bool) -> AsyncIterator[Client]:
    import aiosqlite

    opened: list[Any] = []

    class Connection(sqlite3.Connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            opened.append(self)
            super().__init__(*args, **kwargs)

    async def ask() -> Any:
        connection = aiosqlite.connect(folder / "db", factory=Connection)
        if not entered:
            try:
                return await connection
            finally:
                await connection.close()
        async with connection as database:
            return database

    async def count() -> int:
        return len(opened)

    yield Client(ask, count)


@asynccontextmanager
async def aiosqlite_execute(folder: Path, *, entered: bool) -> AsyncIterator[Client]:
    import aiosqlite

    async with aiosqlite.connect(folder / "db", isolation_level=None) as database:
        await database.executescript("DROP TABLE IF EXISTS t; CREATE TABLE t (n)")

        async def ask() -> Any:
            if not entered:
                return await database.execute("INSERT INTO t VALUES (1)")
            async with database.execute("INSERT INTO t VALUES (1)") as cursor:
                return cursor

        async def count() -> int:
            with closing(sqlite3.connect(folder / "db")) as other:
                return int(other.execute("SELECT count(*) FROM t").fetchone()[0])

        yield Client(ask, count)


# asyncpg


@asynccontextmanager
async def asyncpg_commit(dsn: str) -> AsyncIterator[Client]:
    import asyncpg

    async with asyncpg.create_pool(dsn, min_size=2, max_size=2) as pool:
        await pool.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (n int)")

        async def ask() -> Any:
            async with pool.acquire() as connection:
                transaction = connection.transaction()
                await transaction.start()
                await connection.execute("INSERT INTO t VALUES (1)")
                try:
                    return await transaction.commit()
                finally:
                    if connection.is_in_transaction():  # the commit did not happen
                        await transaction.rollback()

        async def count() -> int:
            return int(await pool.fetchval("SELECT count(*) FROM t"))

        yield Client(ask, count)


@asynccontextmanager
async def asyncpg_execute(dsn: str) -> AsyncIterator[Client]:
    import asyncpg

    async with asyncpg.create_pool(dsn, min_size=2, max_size=2) as pool:
        async with pool.acquire() as connection:
            await connection.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (n int)")

        async def ask() -> Any:
            async with pool.acquire() as connection:
                return await connection.execute("INSERT INTO t VALUES (1)")

        async def count() -> int:
            return int(await pool.fetchval("SELECT count(*) FROM t"))

        yield Client(ask, count)


# SQLAlchemy


@asynccontextmanager
async def sqlalchemy_begin(folder: Path) -> AsyncIterator[Client]:
    from sqlalchemy import event
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(f"sqlite+aiosqlite:///{folder / 'db'}")
    begun: list[Any] = []
    event.listen(engine.sync_engine, "begin", begun.append)

    async def ask() -> Any:
        async with engine.begin() as connection:
            return connection

    async def count() -> int:
        return len(begun)

    try:
        yield Client(ask, count)
    finally:
        await engine.dispose()


# httpx


@asynccontextmanager
async def httpx_stream() -> AsyncIterator[Client]:
    import httpx

    orders: list[httpx.Request] = []

    def order(request: httpx.Request) -> httpx.Response:
        orders.append(request)
        return httpx.Response(201)

    async with httpx.AsyncClient(transport=httpx.MockTransport(order)) as client:

        async def ask() -> Any:
            async with client.stream("POST", "http://shop/order") as response:
                return response

        async def count() -> int:
            return len(orders)

        yield Client(ask, count)


# a function of one's own


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


charged: list[str] = []


@traced
async def charge(order: str) -> str:
    await asyncio.sleep(0)
    charged.append(order)
    return order


@asynccontextmanager
async def own_function() -> AsyncIterator[Client]:
    async def count() -> int:
        return len(charged)

    charged.clear()
    yield Client(lambda: charge("order-1"), count)


IN_A_FOLDER: dict[str, Any] = {"folder": "tmp_path", "entered": False}

# the module that has to be installed, the path, the client, and the values or fixtures that it takes
CASES: dict[str, tuple[str, str, Callable[..., Any], dict[str, Any]]] = {
    "redis": ("redis", "redis.asyncio:Redis.incrby", redis_incrby, {"port": "redis_port"}),
    "aiohttp": ("aiohttp", "aiohttp:ClientSession.post", aiohttp_post, {"entered": False}),
    "aiosqlite connect": ("aiosqlite", "aiosqlite:connect", aiosqlite_connect, IN_A_FOLDER),
    "aiosqlite": ("aiosqlite", "aiosqlite:Connection.execute", aiosqlite_execute, IN_A_FOLDER),
    "asyncpg commit": ("asyncpg", "asyncpg.transaction:Transaction.commit", asyncpg_commit, {"dsn": "postgres_dsn"}),
    "asyncpg pool": ("asyncpg", "asyncpg.pool:PoolConnectionProxy.execute", asyncpg_execute, {"dsn": "postgres_dsn"}),
    "sqlalchemy": ("sqlalchemy", "sqlalchemy.ext.asyncio:AsyncEngine.begin", sqlalchemy_begin, {"folder": "tmp_path"}),
    "httpx": ("httpx", "httpx:AsyncClient.stream", httpx_stream, {}),
    "own function": ("asyncio", f"{__name__}:charge", own_function, {}),
}
for name in "aiohttp", "aiosqlite connect", "aiosqlite":
    module, path, connect, options = CASES[name]
    CASES[f"{name}, entered"] = module, path, connect, {**options, "entered": True}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    module, path, connect, options = CASES[request.param]
    pytest.importorskip(module)
    values = {
        name: request.getfixturevalue(given) if isinstance(given, str) else given for name, given in options.items()
    }
    return Case(path, functools.partial(connect, **values))


@asynccontextmanager
async def visited(case: Case, **options: Any) -> AsyncIterator[Client]:
    async with case.connect() as client:
        with instrument(case.path, "x", raises=(ConnectionError,), **options):
            yield client


async def test_a_failure_before(case: Case) -> None:
    """With `raise` at `name` nothing has happened, and the next call does it."""
    async with visited(case) as client:
        with configured("x", "1*raise(ConnectionError)") as before:
            with pytest.raises(ConnectionError, match="'x'"):
                await client.ask()
            assert await client.count() == 0
            await client.ask()
            assert (await client.count(), before.hits) == (1, 2)


async def test_a_lost_reply(case: Case) -> None:
    """With `raise` at `name:after` it has happened, and the caller does not learn of it."""
    async with visited(case) as client:
        with configured("x:after", "1*raise(ConnectionError)") as after:
            with pytest.raises(ConnectionError, match="x:after"):
                await client.ask()
            assert (await client.count(), after.hits) == (1, 1)
            await client.ask()
            assert (await client.count(), after.hits) == (2, 2)


async def test_a_made_up_result(case: Case) -> None:
    """With `return(v)` at `name` the caller gets `v`, by `await` or by `async with`, and nothing has happened."""
    value = object()
    async with visited(case) as client:
        with configured("x", Return(value)):
            assert await client.ask() is value
        assert await client.count() == 0


async def test_a_replaced_result(case: Case) -> None:
    """With `return(v)` at `name:after` it has happened, and the caller gets `v`."""
    value = object()
    async with visited(case) as client:
        with configured("x:after", Return(value)):
            assert await client.ask() is value
        assert await client.count() == 1


@pytest.mark.parametrize(("name", "done"), [("x", 0), ("x:after", 1)])
async def test_a_pause(case: Case, name: str, done: int) -> None:
    """A pause at `name` holds the task before anything has happened, at `name:after` when it has."""
    async with visited(case) as client:
        with configured(name, "pause") as point:
            task = asyncio.ensure_future(client.ask())
            await point.wait_paused()
            assert await client.count() == done
            point.resume()
        await task
        assert await client.count() == 1


@pytest.mark.parametrize(("name", "done"), [("x", 0), ("x:after", 1)])
async def test_a_cancelled_task(case: Case, name: str, done: int) -> None:
    """`cancel` cancels the task that awaits, before anything has happened or when it has."""
    async with visited(case) as client:
        with configured(name, "1*cancel"):
            task = asyncio.ensure_future(client.ask())
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await client.count() == done


async def test_the_event_that_cancels(case: Case) -> None:
    """The event of `cancel=` ends a pause, and nothing has happened."""
    stop = anyio.Event()
    async with visited(case, cancel=stop) as client:
        with configured("x", "pause") as before:
            task = asyncio.ensure_future(client.ask())
            await before.wait_paused()
            stop.set()
            with pytest.raises(FailpointCancelled):
                await task
        assert await client.count() == 0


def test_explore_finds_the_lost_reply(case: Case) -> None:
    """A retry after a lost reply does it twice, and `explore` finds that."""

    async def scenario(run: Any) -> None:
        async with visited(case) as client:
            async with run.injecting():
                for _ in range(2):
                    try:
                        await client.ask()
                        break
                    except ConnectionError:
                        pass
            assert await client.count() == 1, "done twice"

    with pytest.raises(ExplorationFailed, match="done twice") as failure:
        explore(scenario, backend="asyncio")
    assert "x:after" in str(failure.value)


async def test_a_text(redis_port: int) -> None:
    """The text of a `return` becomes what the method's annotation says that awaiting it gives."""
    pytest.importorskip("redis")
    async with redis_incrby(redis_port) as client:
        with instrument("redis.asyncio:Redis.incrby", "x"), configured("x", "return(42)"):
            assert await client.ask() == 42


async def test_a_pipeline(redis_port: int) -> None:
    """A command that is added to a pipeline has been added when the method returns, so it is visited as a sync one."""
    redis = pytest.importorskip("redis.asyncio")
    async with redis.Redis(port=redis_port) as client:
        await client.delete("n")
        with instrument("redis.asyncio:Redis.incrby", "x"), configured("x:after", "off") as after:
            async with client.pipeline() as pipeline:
                assert pipeline.incrby("n").incrby("n") is pipeline
                assert after.hits == 2
                assert await pipeline.execute() == [1, 2]


async def test_a_method_behind_a_pool(postgres_dsn: str) -> None:
    """A pooled connection of asyncpg calls the method of the connection's class, which can be instrumented, too."""
    asyncpg = pytest.importorskip("asyncpg")
    async with asyncpg.create_pool(postgres_dsn, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        with instrument("asyncpg:Connection.execute", "x"), configured("x", "1*return(made up)"):
            assert await connection.execute("SELECT 1") == "made up"


@failpoint("y")
def plain() -> int:
    """Return a value."""
    return 1


async def test_a_plain_function_on_a_loop() -> None:
    """A function that returns a plain value is visited around its call, on an event loop as elsewhere."""
    with configured("y", Return(2)):
        assert plain() == 2
