"""The two shops, which differ only in the method `idempotency_key`."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from failpoints import failpoint, failpoint_scope

from .client import GatewayClient
from .database import Database

SCHEMA = """
    CREATE TABLE orders (
        number INTEGER PRIMARY KEY, customer TEXT NOT NULL, amount INTEGER NOT NULL, charge TEXT
    )
"""  # an order that has a charge is paid

ATTEMPTS = 3


@dataclass(frozen=True)
class Order:
    """An order, its amount in cents, and the id of the charge that paid for it."""

    number: int
    customer: str
    amount: int
    charge: str | None = None

    @property
    def paid(self) -> bool:
        """True if the shop knows of a charge for it."""
        return self.charge is not None


class Orders:
    """The orders in the shop's database."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA)

    async def create(self) -> None:
        """Create the tables."""
        await self._database.create()

    async def add(self, customer: str, amount: int) -> Order:
        """Add an order that is not paid yet."""
        insert = "INSERT INTO orders (customer, amount) VALUES (?, ?) RETURNING number"

        def work(connection: sqlite3.Connection) -> Order:
            [(number,)] = connection.execute(insert, (customer, amount))
            return Order(number, customer, amount)

        return await self._database.run(work)

    async def set_paid(self, number: int, charge: str) -> None:
        """Record the charge that paid for an order."""
        update = "UPDATE orders SET charge = ? WHERE number = ?"
        await self._database.run(lambda connection: connection.execute(update, (charge, number)))

    async def all(self) -> list[Order]:
        """Return all orders, oldest first."""
        query = "SELECT number, customer, amount, charge FROM orders ORDER BY number"
        rows = await self._database.run(lambda connection: connection.execute(query).fetchall())
        return [Order(*row) for row in rows]


class FirstShop:
    """Asks for the money again if there was no answer. But what if only the answer was lost?"""

    def __init__(self, orders: Orders, gateway: GatewayClient) -> None:
        self._orders = orders
        self._gateway = gateway

    def idempotency_key(self, order: Order) -> str | None:
        """Return the key by which the payment service recognises a repeated request. This version has none."""
        return None

    @failpoint("shop.order", context=["customer"])
    async def place_order(self, customer: str, amount: int) -> int:
        """Take an order, charge for it, and return its number."""
        order = await self._orders.add(customer, amount)
        charge = await self._charge(order)
        # The money has been taken. A crash here is the most expensive one.
        async with failpoint_scope(
            "orders.commit", context={"order": order.number}, raises=(sqlite3.OperationalError,)
        ):
            await self._orders.set_paid(order.number, charge)
        return order.number

    async def _charge(self, order: Order) -> str:
        attempt = 1
        while True:
            try:
                return await self._gateway.charge(order.number, order.amount, self.idempotency_key(order))
            except (TimeoutError, ConnectionError):
                # The shop cannot know whether the money was taken.
                if attempt == ATTEMPTS:
                    raise
                # If the failpoint returns early, give up.
                if await failpoint("shop.retry", context={"order": order.number, "attempt": attempt}):
                    raise
                attempt += 1


class SecondShop(FirstShop):
    """The fixed version: every attempt sends the order's key, and the service charges once per key."""

    def idempotency_key(self, order: Order) -> str:
        """Return the same key at every attempt, even after a crash, because the order is stored."""
        return f"order-{order.number}"
