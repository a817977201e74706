"""Two customers race for the last item: the first stock sells it twice, the second one does not."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from examples.lost_reply.books import Books
from examples.lost_reply.client import PaymentRefused, gateway_client
from examples.lost_reply.gateway import Ledger
from examples.lost_reply.shop import Orders
from examples.lost_reply.stock import FirstStock, SecondStock, SoldOut, StockedShop
from failpoints.pytest_plugin import Failpoints

pytestmark = pytest.mark.anyio

PRICE = 1250

both_stocks = pytest.mark.parametrize("stock_class", [FirstStock, SecondStock])


@dataclass
class World:
    """An open shop, its databases, and the customers to whom it could not sell."""

    shop: StockedShop
    stock: FirstStock
    orders: Orders
    ledger: Ledger
    sold_out: list[str] = field(default_factory=list)

    async def buy(self, customer: str) -> None:
        try:
            await self.shop.place_order(customer, PRICE)
        except SoldOut:
            self.sold_out.append(customer)

    async def paid(self) -> list[str]:
        """Return the customers who paid, in the order in which they came."""
        return [order.customer for order in await self.orders.all() if order.paid]

    async def books(self) -> Books:
        return Books(await self.orders.all(), await self.ledger.charges(), {})


@asynccontextmanager
async def open_shop(
    stock_class: type[FirstStock], folder: Path, service: tuple[str, Ledger], *, left: int = 1
) -> AsyncIterator[World]:
    """Open a shop on new databases, with *left* items in stock."""
    url, ledger = service
    orders = Orders(folder / "orders.sqlite")
    stock = stock_class(folder / "stock.sqlite")
    await orders.create()
    await stock.create(left)
    async with gateway_client(url) as gateway:
        yield World(StockedShop(orders, gateway, stock), stock, orders, ledger)


@both_stocks
async def test_one_after_the_other(stock_class: type[FirstStock], tmp_path: Path, service: tuple[str, Ledger]) -> None:
    """Without failpoints the first customer gets the last item, and for the second it is sold out."""
    async with open_shop(stock_class, tmp_path, service) as world:
        await world.buy("Ada")
        await world.buy("Grace")
        assert await world.paid() == ["Ada"]
        assert world.sold_out == ["Grace"]
        assert await world.stock.left() == 0


async def test_both_get_the_last_item(tmp_path: Path, service: tuple[str, Ledger], failpoints: Failpoints) -> None:
    """In the first version a customer who is overtaken between checking and taking gets an item that is gone."""
    async with open_shop(FirstStock, tmp_path, service) as world:
        async with (
            anyio.create_task_group() as tasks,
            failpoints.paused("stock.reserve", context={"customer": "Ada"}) as reserve,
        ):
            tasks.start_soon(world.buy, "Ada")
            await reserve.wait_paused()  # Ada has seen that one is left.
            await world.buy("Grace")  # Grace sees it too, and takes it.
            reserve.resume()  # Now Ada takes it as well.

        assert await world.paid() == ["Ada", "Grace"]
        assert world.sold_out == []
        assert await world.stock.left() == -1
        books = await world.books()
        assert (books.charged, books.verdict) == (2 * PRICE, "correct")  # the books do not show the bug


@pytest.mark.parametrize(("first", "second"), [("Ada", "Grace"), ("Grace", "Ada")])
async def test_only_one_gets_the_last_item(
    first: str, second: str, tmp_path: Path, service: tuple[str, Ledger], failpoints: Failpoints
) -> None:
    """In the second version it is sold out for a customer who is overtaken at that place, and who pays nothing."""
    async with open_shop(SecondStock, tmp_path, service) as world:
        async with (
            anyio.create_task_group() as tasks,
            failpoints.paused("stock.reserve", context={"customer": first}) as reserve,
        ):
            tasks.start_soon(world.buy, first)
            await reserve.wait_paused()
            await world.buy(second)
            reserve.resume()

        assert await world.paid() == [second]
        assert world.sold_out == [first]
        assert await world.stock.left() == 0
        books = await world.books()
        assert (books.charged, books.verdict) == (PRICE, "correct")


@both_stocks
async def test_arriving_during_the_payment(
    stock_class: type[FirstStock], tmp_path: Path, service: tuple[str, Ledger], failpoints: Failpoints
) -> None:
    """Once the item is taken, it is sold out for others, even before the first customer has paid."""
    async with open_shop(stock_class, tmp_path, service) as world:
        async with (
            anyio.create_task_group() as tasks,
            failpoints.paused("gateway.charge", context={"order": 1}) as charge,
        ):
            tasks.start_soon(world.buy, "Ada")
            await charge.wait_paused()
            await world.buy("Grace")
            charge.resume()

        assert await world.paid() == ["Ada"]
        assert world.sold_out == ["Grace"]
        assert await world.stock.left() == 0


@pytest.mark.parametrize(("stock_class", "paid", "left"), [(FirstStock, 3, -1), (SecondStock, 2, 0)])
async def test_three_customers_for_two_items(
    stock_class: type[FirstStock],
    paid: int,
    left: int,
    tmp_path: Path,
    service: tuple[str, Ledger],
    failpoints: Failpoints,
) -> None:
    """If three customers have seen that two items are left, the first version sells three and the second two."""
    async with open_shop(stock_class, tmp_path, service, left=2) as world:
        async with anyio.create_task_group() as tasks, failpoints.paused("stock.reserve") as reserve:
            for customer in ("Ada", "Grace", "Barbara"):
                tasks.start_soon(world.buy, customer)
            await reserve.wait_paused(tasks=3)
            reserve.resume()

        assert len(await world.paid()) == paid
        assert len(world.sold_out) == 3 - paid
        assert await world.stock.left() == left


@both_stocks
async def test_refused_payment(
    stock_class: type[FirstStock], tmp_path: Path, service: tuple[str, Ledger], failpoints: Failpoints
) -> None:
    """If a payment is refused, the item is released, and the next customer gets it."""
    async with open_shop(stock_class, tmp_path, service) as world:
        charge = failpoints.set("gateway.charge", "1*raise(PaymentRefused)")
        with pytest.raises(PaymentRefused):
            await world.buy("Ada")
        assert await world.stock.left() == 1

        await world.buy("Grace")
        assert charge.triggers == 1
        assert await world.paid() == ["Grace"]
        assert await world.stock.left() == 0


async def test_refused_before_another_customer_takes(
    tmp_path: Path, service: tuple[str, Ledger], failpoints: Failpoints
) -> None:
    """A customer who saw the item before it was gone still gets it if it is released in time."""
    async with open_shop(SecondStock, tmp_path, service) as world:
        failpoints.set("gateway.charge", "1*raise(PaymentRefused)")
        async with (
            anyio.create_task_group() as tasks,
            failpoints.paused("stock.reserve", context={"customer": "Ada"}) as reserve,
        ):
            tasks.start_soon(world.buy, "Ada")
            await reserve.wait_paused()
            with pytest.raises(PaymentRefused):
                await world.buy("Grace")
            reserve.resume()

        assert await world.paid() == ["Ada"]
        assert await world.stock.left() == 0


async def test_every_reply_lost(tmp_path: Path, service: tuple[str, Ledger], failpoints: Failpoints) -> None:
    """If every reply is lost, the item is released, and the books show the money to refund."""
    async with open_shop(SecondStock, tmp_path, service) as world:
        failpoints.set("gateway.charge:after", "raise(TimeoutError)")
        with pytest.raises(TimeoutError):
            await world.buy("Ada")
        assert await world.paid() == []
        assert await world.stock.left() == 1
        assert (await world.books()).verdict == "charged, but not paid"


async def test_commit_fails(tmp_path: Path, service: tuple[str, Ledger], failpoints: Failpoints) -> None:
    """If the shop's own write fails after the payment, the customer keeps the item."""
    async with open_shop(SecondStock, tmp_path, service) as world:
        failpoints.set("orders.commit", "raise(OperationalError: database is locked)")
        with pytest.raises(sqlite3.OperationalError, match="database is locked"):
            await world.buy("Ada")
        await world.buy("Grace")
        assert world.sold_out == ["Grace"]
        assert await world.stock.left() == 0


@both_stocks
async def test_cancelled_before_taking(
    stock_class: type[FirstStock], tmp_path: Path, service: tuple[str, Ledger], failpoints: Failpoints
) -> None:
    """A task that is cancelled between checking and taking takes nothing, and the next customer gets the item."""
    async with open_shop(stock_class, tmp_path, service) as world:
        async with anyio.create_task_group() as tasks:
            with failpoints.paused("stock.reserve", context={"customer": "Ada"}) as reserve:
                tasks.start_soon(world.buy, "Ada")
                await reserve.wait_paused()
                tasks.cancel_scope.cancel()
        assert await world.stock.left() == 1

        await world.buy("Grace")
        assert await world.paid() == ["Grace"]
        assert await world.stock.left() == 0


@both_stocks
async def test_cancelled_while_paying(
    stock_class: type[FirstStock], tmp_path: Path, service: tuple[str, Ledger], failpoints: Failpoints
) -> None:
    """A task that is cancelled during the payment releases the item, and the next customer gets it."""
    async with open_shop(stock_class, tmp_path, service) as world:
        async with anyio.create_task_group() as tasks:
            with failpoints.paused("gateway.charge", context={"order": 1}) as charge:
                tasks.start_soon(world.buy, "Ada")
                await charge.wait_paused()
                assert await world.stock.left() == 0
                tasks.cancel_scope.cancel()
        assert await world.stock.left() == 1

        await world.buy("Grace")
        assert await world.paid() == ["Grace"]
        assert (await world.books()).verdict == "correct"
