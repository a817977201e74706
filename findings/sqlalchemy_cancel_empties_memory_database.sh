#!/usr/bin/env bash
# Expected: a query that is cancelled or times out fails alone. The next query on the same engine sees the same data.
# Happens: SQLAlchemy discards the connection if a statement ends with TimeoutError or CancelledError, or with another
#     BaseException that is not an Exception. For ":memory:" with aiosqlite that one connection is the database, so all
#     tables are gone. A ValueError in the same place does no harm.
# Why it matters: tests often use a memory database, and cancelling a query or raising TimeoutError from it is what a
#     failure test does. All later queries fail with "no such table", which looks like a bug in the code under test.
#     Use a file for such tests.
# Source: sqlalchemy/util/concurrency.py, is_exit_exception; sqlalchemy/engine/base.py,
#     Connection._handle_dbapi_exception; sqlalchemy/dialects/sqlite/aiosqlite.py, get_pool_class (StaticPool).
set -euo pipefail
VERSION=2.1.9
EXPECTED="ValueError from a statement, memory database: the row is there
TimeoutError from a statement, memory database: no such table: items
CancelledError from a statement, memory database: no such table: items
a cancelled task, memory database: no such table: items
a cancelled task, database in a file: the row is there"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "sqlalchemy[asyncio]==$VERSION" aiosqlite==0.22.1 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import asyncio

from sqlalchemy import event, exc, text
from sqlalchemy.ext.asyncio import create_async_engine


async def new_database(url):
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE items (id INTEGER)"))
        await connection.execute(text("INSERT INTO items VALUES (1)"))
    return engine


async def report(label, engine):
    try:
        async with engine.connect() as connection:
            rows = (await connection.execute(text("SELECT id FROM items"))).all()
        print(f"{label}: {'the row is there' if rows == [(1,)] else rows}")
    except exc.OperationalError as error:
        print(f"{label}: {error.orig}")
    await engine.dispose()


async def raise_in_a_statement(error):
    engine = await new_database("sqlite+aiosqlite:///:memory:")

    @event.listens_for(engine.sync_engine, "before_cursor_execute", once=True)
    def fail(*details):
        raise error

    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except type(error):
        pass
    await report(f"{type(error).__name__} from a statement, memory database", engine)


async def cancel_a_task(url, label):
    engine = await new_database(url)
    loop = asyncio.get_running_loop()

    async def query():
        this_task = asyncio.current_task()
        async with engine.connect() as connection:
            raw = await connection.get_raw_connection()

            def cancel_me():  # called by SQLite in aiosqlite's thread, so the task is inside its query
                loop.call_soon_threadsafe(this_task.cancel)

            await raw.driver_connection.create_function("cancel_me", 0, cancel_me)
            await connection.execute(text("SELECT cancel_me()"))

    try:
        await asyncio.create_task(query())
    except asyncio.CancelledError:
        pass
    await report(f"a cancelled task, {label}", engine)


for error in (ValueError(), TimeoutError(), asyncio.CancelledError()):
    asyncio.run(raise_in_a_statement(error))
asyncio.run(cancel_a_task("sqlite+aiosqlite:///:memory:", "memory database"))
asyncio.run(cancel_a_task("sqlite+aiosqlite:///items.db", "database in a file"))
PROGRAM
output=$(cd "$work" && venv/bin/python program.py)
echo "sqlalchemy $VERSION, aiosqlite 0.22.1"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: a failed query has another effect on the database"; exit 1; }
