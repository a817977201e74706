"""The service: `POST /bookings/{customer}` books the next free seat, `GET /tickets` lists the tickets."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from failpoints import failpoint

DATABASE = Path("bookings.sqlite")  # in the current folder
SEATS = 3

SCHEMA = """
    CREATE TABLE IF NOT EXISTS seats (number INTEGER PRIMARY KEY, customer TEXT);
    CREATE TABLE IF NOT EXISTS tickets (id INTEGER PRIMARY KEY, seat INTEGER NOT NULL, customer TEXT NOT NULL);
    -- Seats that the last process reserved but never confirmed are free again.
    UPDATE seats SET customer = NULL WHERE number NOT IN (SELECT seat FROM tickets);
"""


def transaction(statement: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Run one statement in a transaction, on a new connection: a connection must stay on its thread."""
    with closing(sqlite3.connect(DATABASE)) as connection, connection:
        return connection.execute(statement, parameters).fetchall()


async def execute(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Run one statement without blocking the event loop."""
    return await anyio.to_thread.run_sync(transaction, statement, parameters)


def create() -> None:
    """Create the tables and the seats that do not exist yet."""
    with closing(sqlite3.connect(DATABASE)) as connection, connection:
        connection.executescript(SCHEMA)
        connection.executemany("INSERT OR IGNORE INTO seats (number) VALUES (?)", [(n + 1,) for n in range(SEATS)])


async def free_seat() -> int | None:
    """Return the first seat that is not reserved, or `None`."""
    [(number,)] = await execute("SELECT min(number) FROM seats WHERE customer IS NULL")
    return None if number is None else int(number)


# The seat was free a moment ago, but may not be now. The fix: `AND customer IS NULL`, and check that a row was changed.
@failpoint("bookings.reserve", context=["customer", "seat"])
async def reserve(customer: str, seat: int) -> None:
    """Reserve the seat: the first of two writes."""
    await execute("UPDATE seats SET customer = ? WHERE number = ?", customer, seat)


@failpoint("bookings.confirm", context=["customer", "seat"], raises=(TimeoutError,))
async def confirm(customer: str, seat: int) -> None:
    """Issue the ticket: the second write."""
    await execute("INSERT INTO tickets (seat, customer) VALUES (?, ?)", seat, customer)


async def post_booking(request: Request) -> JSONResponse:
    """Book a seat: 201 with its number, 409 if there is none, 503 if the customer should try again."""
    customer: str = request.path_params["customer"]
    seat = await free_seat()
    if seat is None:
        return JSONResponse({"error": "sold out"}, status_code=409)
    try:
        await reserve(customer, seat)
        await confirm(customer, seat)
    except TimeoutError:
        return JSONResponse({"error": "try again"}, status_code=503)
    return JSONResponse({"seat": seat}, status_code=201)


async def get_tickets(request: Request) -> JSONResponse:
    """List the tickets in the order in which they were issued."""
    tickets = await execute("SELECT seat, customer FROM tickets ORDER BY id")
    return JSONResponse([{"seat": seat, "customer": customer} for seat, customer in tickets])


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Prepare the database before the first request."""
    await anyio.to_thread.run_sync(create)
    yield


app = Starlette(
    routes=[
        Route("/bookings/{customer}", post_booking, methods=["POST"]),
        Route("/tickets", get_tickets),
    ],
    lifespan=lifespan,
)
