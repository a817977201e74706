"""Two customers and one item: the race for it, made to happen, and the stock that stands it."""

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
from examples.lost_reply.gateway import Ledger, running_gateway
from examples.lost_reply.shop import Orders
from examples.lost_reply.stock import FirstStock, SecondStock, SoldOut, StockedShop
from failpoints.pytest_plugin import Failpoints

pytestmark = pytest.mark.anyio

PRICE = 1250

both_stocks = pytest.mark.parametrize("stock_class", [FirstStock, SecondStock])


@dataclass
class World:
    """A shop in business, what stands behind it, and whom it told that nothing is left."""

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
        """The customers who paid, and so get an item: in the order in which they came."""
        return [order.customer for order in await self.orders.all() if order.paid]

    async def books(self) -> Books:
        return Books(await self.orders.all(), await self.ledger.charges(), {})


@asynccontextmanager
async def open_shop(stock_class: type[FirstStock], folder: Path, *, left: int = 1) -> AsyncIterator[World]:
    """Open a shop with so many in stock, and with a payment service that runs as long as the block."""
    orders, ledger = Orders(folder / "orders.sqlite"), Ledger(folder / "charges.sqlite")
    stock = stock_class(folder / "stock.sqlite")
    await orders.create()
    await ledger.create()
    await stock.create(left)
    async with running_gateway(ledger) as url, gateway_client(url) as gateway:
        yield World(StockedShop(orders, gateway, stock), stock, orders, ledger)


@both_stocks
async def test_one_after_the_other(stock_class: type[FirstStock], tmp_path: Path) -> None:
    """With nothing configured, the first customer gets the last item, and the second is told that it is sold out."""
    async with open_shop(stock_class, tmp_path) as world:
        await world.buy("Ada")
        await world.buy("Grace")
        assert await world.paid() == ["Ada"]
        assert world.sold_out == ["Grace"]
        assert await world.stock.left() == 0


async def test_both_get_the_last_item(tmp_path: Path, failpoints: Failpoints) -> None:
    """In the first version, whoever is overtaken between looking and taking gets the item that is gone."""
    async with open_shop(FirstStock, tmp_path) as world:
        async with (
            anyio.create_task_group() as tasks,
            failpoints.paused("stock.reserve", context={"customer": "Ada"}) as reserve,
        ):
            tasks.start_soon(world.buy, "Ada")
            await reserve.wait_paused()  # Ada has seen that one is left,
            await world.buy("Grace")  # Grace sees it too, and takes it,
            reserve.resume()  # and now Ada takes it as well

        assert await world.paid() == ["Ada", "Grace"]
        assert world.sold_out == []
        assert await world.stock.left() == -1
        books = await world.books()
        assert (books.charged, books.verdict) == (2 * PRICE, "correct")  # the money alone does not show it


@pytest.mark.parametrize(("first", "second"), [("Ada", "Grace"), ("Grace", "Ada")])
async def test_only_one_gets_the_last_item(first: str, second: str, tmp_path: Path, failpoints: Failpoints) -> None:
    """In the second version, whoever is overtaken at that very place is told that it is sold out, and pays nothing."""
    async with open_shop(SecondStock, tmp_path) as world:
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
async def test_arriving_while_the_first_one_pays(
    stock_class: type[FirstStock], tmp_path: Path, failpoints: Failpoints
) -> None:
    """Once the item is taken, the second customer is sent away even while the first one has not paid yet."""
    async with open_shop(stock_class, tmp_path) as world:
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
    stock_class: type[FirstStock], paid: int, left: int, tmp_path: Path, failpoints: Failpoints
) -> None:
    """When three have seen that two are left, the first version sells three and the second two."""
    async with open_shop(stock_class, tmp_path, left=2) as world:
        async with anyio.create_task_group() as tasks, failpoints.paused("stock.reserve") as reserve:
            for customer in ("Ada", "Grace", "Barbara"):
                tasks.start_soon(world.buy, customer)
            await reserve.wait_paused(tasks=3)
            reserve.resume()

        assert len(await world.paid()) == paid
        assert len(world.sold_out) == 3 - paid
        assert await world.stock.left() == left


@both_stocks
async def test_refused_payment(stock_class: type[FirstStock], tmp_path: Path, failpoints: Failpoints) -> None:
    """When the first customer's payment is refused, the item goes back, and the next customer gets it."""
    async with open_shop(stock_class, tmp_path) as world:
        charge = failpoints.set("gateway.charge", "1*raise(PaymentRefused)")
        with pytest.raises(PaymentRefused):
            await world.buy("Ada")
        assert await world.stock.left() == 1

        await world.buy("Grace")
        assert charge.triggers == 1
        assert await world.paid() == ["Grace"]
        assert await world.stock.left() == 0


async def test_refused_while_another_one_is_about_to_take(tmp_path: Path, failpoints: Failpoints) -> None:
    """An item that goes back in time is taken by the customer who had seen it before it was gone."""
    async with open_shop(SecondStock, tmp_path) as world:
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


async def test_every_reply_lost(tmp_path: Path, failpoints: Failpoints) -> None:
    """When the shop never learns whether it was paid, the item goes back, and the books show the money to return."""
    async with open_shop(SecondStock, tmp_path) as world:
        failpoints.set("gateway.charge:after", "raise(TimeoutError)")
        with pytest.raises(TimeoutError):
            await world.buy("Ada")
        assert await world.paid() == []
        assert await world.stock.left() == 1
        assert (await world.books()).verdict == "charged, but not paid"


async def test_commit_fails(tmp_path: Path, failpoints: Failpoints) -> None:
    """Once the money is known to be taken the item stays with its customer, even when the shop's own write fails."""
    async with open_shop(SecondStock, tmp_path) as world:
        failpoints.set("orders.commit", "raise(OperationalError: database is locked)")
        with pytest.raises(sqlite3.OperationalError, match="database is locked"):
            await world.buy("Ada")
        await world.buy("Grace")
        assert world.sold_out == ["Grace"]
        assert await world.stock.left() == 0


@both_stocks
async def test_cancelled_before_taking(stock_class: type[FirstStock], tmp_path: Path, failpoints: Failpoints) -> None:
    """A customer who is cancelled between looking and taking takes nothing, and the next one gets the item."""
    async with open_shop(stock_class, tmp_path) as world:
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
async def test_cancelled_while_paying(stock_class: type[FirstStock], tmp_path: Path, failpoints: Failpoints) -> None:
    """A customer who is cancelled with the item in hand gives it back, and the next one gets it."""
    async with open_shop(stock_class, tmp_path) as world:
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
