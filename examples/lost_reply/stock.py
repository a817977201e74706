"""A shop with a limited stock. The two stocks differ only in the method `take`."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio

from failpoints import failpoint

from .client import GatewayClient
from .database import Database
from .shop import Order, Orders, SecondShop

SCHEMA = "CREATE TABLE stock (left INTEGER NOT NULL)"  # a single row, because the shop sells a single product


class SoldOut(Exception):
    """Nothing is left."""


class FirstStock:
    """Checks that an item is left, and then takes it. But what if another customer took it in between?"""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA)

    async def create(self, left: int) -> None:
        """Create the table, with *left* items in stock."""
        await self._database.create()
        insert = "INSERT INTO stock (left) VALUES (?)"
        await self._database.run(lambda connection: connection.execute(insert, (left,)))

    async def left(self) -> int:
        """Return the number of items that are left."""

        def work(connection: sqlite3.Connection) -> int:
            [(left,)] = connection.execute("SELECT left FROM stock")
            return int(left)

        return await self._database.run(work)

    async def reserve(self, customer: str) -> None:
        """Take an item for a customer. Raise `SoldOut` if none is left."""
        if await self.left() < 1:
            raise SoldOut
        await failpoint("stock.reserve", context={"customer": customer})
        await self.take()

    async def take(self) -> None:
        """Take an item. `reserve` has seen that one is left."""
        update = "UPDATE stock SET left = left - 1"
        await self._database.run(lambda connection: connection.execute(update))

    async def release(self) -> None:
        """Put an item back."""
        update = "UPDATE stock SET left = left + 1"
        await self._database.run(lambda connection: connection.execute(update))


class SecondStock(FirstStock):
    """The fixed version: checks and takes in one step. The check in `reserve` is only a hint."""

    async def take(self) -> None:
        """Take an item. Raise `SoldOut` if none is left by now."""
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
            # A customer who is not known to have paid gets nothing. A cancelled task must release the item as well.
            with anyio.CancelScope(shield=True):
                await self._stock.release()
            raise
