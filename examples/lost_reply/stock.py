"""A shop that sells what it has in stock. The two stocks differ in one method: `take`."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio

from failpoints import failpoint

from .client import GatewayClient
from .database import Database
from .shop import Order, Orders, SecondShop

SCHEMA = "CREATE TABLE stock (left INTEGER NOT NULL)"  # one row, for this shop sells one thing


class SoldOut(Exception):
    """Nothing is left."""


class FirstStock:
    """Looks whether one is left, and then takes it. What if somebody else took it in between?"""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA)

    async def create(self, left: int) -> None:
        """Create the table, with so many in stock."""
        await self._database.create()
        insert = "INSERT INTO stock (left) VALUES (?)"
        await self._database.run(lambda connection: connection.execute(insert, (left,)))

    async def left(self) -> int:
        """Return how many are left."""

        def work(connection: sqlite3.Connection) -> int:
            [(left,)] = connection.execute("SELECT left FROM stock")
            return int(left)

        return await self._database.run(work)

    async def reserve(self, customer: str) -> None:
        """Take one for a customer, unless it is sold out."""
        if await self.left() < 1:
            raise SoldOut
        await failpoint("stock.reserve", context={"customer": customer})
        await self.take()

    async def take(self) -> None:
        """Take one: `reserve` has seen that one is left."""
        update = "UPDATE stock SET left = left - 1"
        await self._database.run(lambda connection: connection.execute(update))

    async def release(self) -> None:
        """Put one back."""
        update = "UPDATE stock SET left = left + 1"
        await self._database.run(lambda connection: connection.execute(update))


class SecondStock(FirstStock):
    """The same, put right: it looks and takes in one step, and what `reserve` saw before is but a hint."""

    async def take(self) -> None:
        """Take one, unless it is sold out by now."""
        update = "UPDATE stock SET left = left - 1 WHERE left > 0"
        taken = await self._database.run(lambda connection: connection.execute(update).rowcount)
        if not taken:
            raise SoldOut


class StockedShop(SecondShop):
    """Reserves an item before it asks for the money."""

    def __init__(self, orders: Orders, gateway: GatewayClient, stock: FirstStock) -> None:
        super().__init__(orders, gateway)
        self._stock = stock

    async def _charge(self, order: Order) -> str:
        await self._stock.reserve(order.customer)
        try:
            return await super()._charge(order)
        except BaseException:
            # Whoever is not known to have paid gets nothing, and who is cancelled must give it back, too.
            with anyio.CancelScope(shield=True):
                await self._stock.release()
            raise
