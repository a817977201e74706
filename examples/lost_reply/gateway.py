"""The payment service, a real HTTP server with its own database."""

from __future__ import annotations

import socket
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from failpoints import failpoint

from .database import Database

SCHEMA = """
    CREATE TABLE charges (
        id INTEGER PRIMARY KEY, order_number INTEGER NOT NULL, amount INTEGER NOT NULL, key TEXT UNIQUE
    )
"""  # several charges can have no key, because NULLs are not equal in SQL


@dataclass(frozen=True)
class Charge:
    """A payment for an order, in cents."""

    id: int
    order: int
    amount: int


class Ledger:
    """The charges in the payment service's database."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA)

    async def create(self) -> None:
        """Create the tables."""
        await self._database.create()

    @failpoint("gateway.record", context=["order", "key"], raises=(sqlite3.OperationalError,))
    async def record(self, order: int, amount: int, key: str | None) -> int:
        """Make a charge and return its id. If *key* was used before, return the id of that charge."""
        # The update changes nothing, but RETURNING only returns rows that were written.
        insert = """
            INSERT INTO charges (order_number, amount, key) VALUES (?, ?, ?)
            ON CONFLICT (key) DO UPDATE SET key = excluded.key RETURNING id
        """

        def work(connection: sqlite3.Connection) -> int:
            [(charge,)] = connection.execute(insert, (order, amount, key))
            return int(charge)

        return await self._database.run(work)

    async def charges(self) -> list[Charge]:
        """Return all charges, oldest first."""
        query = "SELECT id, order_number, amount FROM charges ORDER BY id"
        rows = await self._database.run(lambda connection: connection.execute(query).fetchall())
        return [Charge(*row) for row in rows]


def gateway_app(ledger: Ledger) -> Starlette:
    """Return the payment service as an ASGI application. `POST /charges` makes a charge."""

    async def post_charge(request: Request) -> Response:
        body = await request.json()
        if body["amount"] <= 0:
            return PlainTextResponse("the amount must be more than 0", status_code=422)
        try:
            charge = await ledger.record(body["order"], body["amount"], request.headers.get("Idempotency-Key"))
        except Exception as error:
            return PlainTextResponse(f"{type(error).__name__}: {error}", status_code=503)
        return JSONResponse({"charge": charge})

    return Starlette(routes=[Route("/charges", post_charge, methods=["POST"])])


@asynccontextmanager
async def running_gateway(ledger: Ledger) -> AsyncIterator[str]:
    """Run the payment service on its own thread and event loop for a block, which gets its URL."""
    # Listen before the server starts, so that no client is too early. Port 0 takes any free port.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        # A request that still waits at a failpoint when the block ends is cancelled after one second.
        config = uvicorn.Config(
            gateway_app(ledger), lifespan="off", log_config=None, log_level="critical", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name="gateway", daemon=True)
        thread.start()
        try:
            yield url
        finally:
            server.should_exit = True
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(thread.join)
