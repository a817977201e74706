"""The shop that charges twice, and the shop that does not."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from examples.lost_reply.books import Books
from examples.lost_reply.client import GatewayClient, PaymentRefused, gateway_client
from examples.lost_reply.gateway import Charge, Ledger, running_gateway
from examples.lost_reply.shop import FirstShop, Order, Orders, SecondShop
from failpoints import configure, configured

pytestmark = pytest.mark.anyio

both_shops = pytest.mark.parametrize("shop_class", [FirstShop, SecondShop])


@dataclass
class World:
    """An open shop and its databases."""

    shop: FirstShop
    gateway: GatewayClient
    orders: Orders
    ledger: Ledger

    async def books(self) -> Books:
        """Return the contents of both databases."""
        return Books(await self.orders.all(), await self.ledger.charges(), {})


@asynccontextmanager
async def open_shop(shop_class: type[FirstShop], folder: Path, service: tuple[str, Ledger]) -> AsyncIterator[World]:
    """Open a shop on a new database."""
    url, ledger = service
    orders = Orders(folder / "orders.sqlite")
    await orders.create()
    # A limit, so that a wait that never ends fails the test.
    with anyio.fail_after(30):
        async with gateway_client(url) as gateway:
            yield World(shop_class(orders, gateway), gateway, orders, ledger)


@both_shops
async def test_without_failpoints(shop_class: type[FirstShop], tmp_path: Path, service: tuple[str, Ledger]) -> None:
    """Without failpoints both shops charge once for each order."""
    async with open_shop(shop_class, tmp_path, service) as world:
        assert await world.shop.place_order("Ada", 1250) == 1
        assert await world.shop.place_order("Grace", 800) == 2
        books = await world.books()
    assert books.orders == [Order(1, "Ada", 1250, charge="1"), Order(2, "Grace", 800, charge="2")]
    assert books.charges == [Charge(1, order=1, amount=1250), Charge(2, order=2, amount=800)]
    assert (books.charged, books.owed, books.verdict) == (2050, 2050, "correct")


@pytest.mark.parametrize(
    ("shop_class", "charged", "verdict"),
    [(FirstShop, 2500, "charged twice"), (SecondShop, 1250, "correct")],
)
async def test_lost_reply(
    shop_class: type[FirstShop], charged: int, verdict: str, tmp_path: Path, service: tuple[str, Ledger]
) -> None:
    """If a reply is lost, the first shop charges twice, and the second shop once."""
    async with open_shop(shop_class, tmp_path, service) as world:
        with configured("gateway.charge:after", "1*raise(TimeoutError)") as reply:
            await world.shop.place_order("Ada", 1250)
            assert reply.triggers == 1
        books = await world.books()
    assert books.paid == 1
    assert (books.charged, books.owed, books.verdict) == (charged, 1250, verdict)


@pytest.mark.parametrize(("shop_class", "verdict"), [(FirstShop, "charged twice"), (SecondShop, "correct")])
async def test_service_fails_after_its_write(
    shop_class: type[FirstShop], verdict: str, tmp_path: Path, service: tuple[str, Ledger]
) -> None:
    """A payment service that fails after storing the charge has the same effect as a lost reply."""
    async with open_shop(shop_class, tmp_path, service) as world:
        with configured("gateway.record:after", "1*raise(OperationalError: disk full)") as record:
            await world.shop.place_order("Ada", 1250)
            assert record.triggers == 1
        assert (await world.books()).verdict == verdict


async def test_reason_of_a_failing_service(tmp_path: Path, service: tuple[str, Ledger]) -> None:
    """The shop's error contains the reason why the payment service failed."""
    async with open_shop(SecondShop, tmp_path, service) as world:
        with configured("gateway.record", "raise(OperationalError: disk full)") as record:
            with pytest.raises(ConnectionError, match="the gateway failed: OperationalError: disk full"):
                await world.shop.place_order("Ada", 1250)
            assert record.triggers == 3


@both_shops
async def test_lost_request(shop_class: type[FirstShop], tmp_path: Path, service: tuple[str, Ledger]) -> None:
    """If only the request is lost, a retry is correct in both shops."""
    async with open_shop(shop_class, tmp_path, service) as world:
        with configured("gateway.charge", "1*raise(ConnectionError)") as request:
            await world.shop.place_order("Ada", 1250)
            assert (request.hits, request.triggers) == (2, 1)
        books = await world.books()
    assert (books.paid, len(books.charges), books.verdict) == (1, 1, "correct")


@both_shops
async def test_gateway_down(shop_class: type[FirstShop], tmp_path: Path, service: tuple[str, Ledger]) -> None:
    """If the payment service cannot be reached, the order fails after three attempts and costs nothing."""
    async with open_shop(shop_class, tmp_path, service) as world:
        with configured("gateway.charge", "raise(ConnectionError)") as request:
            with pytest.raises(ConnectionError):
                await world.shop.place_order("Ada", 1250)
            assert request.triggers == 3
        books = await world.books()
    assert (len(books.orders), books.paid, books.charges) == (1, 0, [])
    assert (books.owed, books.verdict) == (0, "correct")


async def test_no_retry(tmp_path: Path, service: tuple[str, Ledger]) -> None:
    """With a `return` at `shop.retry` the shop gives up: the money is taken, but the order is not paid."""
    async with open_shop(SecondShop, tmp_path, service) as world:
        with (
            configured("gateway.charge:after", "raise(TimeoutError)"),
            configured("shop.retry", "return") as retry,
        ):
            with pytest.raises(TimeoutError):
                await world.shop.place_order("Ada", 1250)
            assert retry.hits == 1
        assert (await world.books()).verdict == "charged, but not paid"


@both_shops
async def test_between_charge_and_payment(
    shop_class: type[FirstShop], tmp_path: Path, service: tuple[str, Ledger]
) -> None:
    """While the reply is under way, the money is taken, but the order is not paid yet."""
    async with open_shop(shop_class, tmp_path, service) as world, anyio.create_task_group() as tasks:
        with configured("gateway.charge:after", "pause") as reply:
            tasks.start_soon(world.shop.place_order, "Ada", 1250)
            await reply.wait_paused()
            between = await world.books()
            assert between.orders == [Order(1, "Ada", 1250)]
            assert between.charges == [Charge(1, order=1, amount=1250)]
            assert between.verdict == "charged, but not paid"
            assert reply.resume() == 1
    assert (await world.books()).verdict == "correct"


async def test_reconfigured_while_an_order_waits(tmp_path: Path, service: tuple[str, Ledger]) -> None:
    """Reconfiguring a failpoint wakes the order that is paused there, and applies to the next order."""
    async with open_shop(SecondShop, tmp_path, service) as world:
        with configured("gateway.charge", "pause") as request:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(world.shop.place_order, "Ada", 1250)
                await request.wait_paused()
                configure("gateway.charge", "raise(PaymentRefused)")
            with pytest.raises(PaymentRefused):
                await world.shop.place_order("Grace", 800)
        books = await world.books()
    assert [order.paid for order in books.orders] == [True, False]
    assert books.verdict == "correct"


async def test_one_order_of_several(tmp_path: Path, service: tuple[str, Ledger]) -> None:
    """A matcher on the order's number affects only that order."""
    async with open_shop(SecondShop, tmp_path, service) as world:
        with configured("gateway.charge", "raise(PaymentRefused)", context={"order": 2}) as request:
            await world.shop.place_order("Ada", 1250)
            with pytest.raises(PaymentRefused):
                await world.shop.place_order("Grace", 800)
            await world.shop.place_order("Barbara", 2400)
            assert (request.hits, request.misses) == (1, 2)
        books = await world.books()
    assert [order.paid for order in books.orders] == [True, False, True]
    assert books.verdict == "correct"


async def test_commit_fails(tmp_path: Path, service: tuple[str, Ledger]) -> None:
    """If the shop's own write fails, the money is taken, but the order is not paid. A key does not help."""
    async with open_shop(SecondShop, tmp_path, service) as world:
        with configured("orders.commit", "raise(OperationalError: database is locked)") as commit:
            with pytest.raises(sqlite3.OperationalError, match="database is locked"):
                await world.shop.place_order("Ada", 1250)
            assert commit.triggers == 1
        assert (await world.books()).verdict == "charged, but not paid"


async def test_commit_returns(tmp_path: Path, service: tuple[str, Ledger]) -> None:
    """A `return` at the scope returns its value from `place_order`, without the write."""
    async with open_shop(SecondShop, tmp_path, service) as world:
        with configured("orders.commit", "return(7)"):
            assert await world.shop.place_order("Ada", 1250) == 7
        assert (await world.books()).verdict == "charged, but not paid"


async def test_invented_charge(tmp_path: Path, service: tuple[str, Ledger]) -> None:
    """A `return` instead of the request results in an order that is paid but was never charged."""
    async with open_shop(SecondShop, tmp_path, service) as world:
        with configured("gateway.charge", "return(invented)"):
            await world.shop.place_order("Ada", 1250)
        books = await world.books()
    assert books.orders == [Order(1, "Ada", 1250, charge="invented")]
    assert books.verdict == "paid, but not charged"


async def test_same_key(tmp_path: Path, service: tuple[str, Ledger]) -> None:
    """The payment service charges once per key, and every time without a key."""
    async with open_shop(FirstShop, tmp_path, service) as world:
        assert await world.gateway.charge(1, 1250, "k") == await world.gateway.charge(1, 1250, "k")
        assert await world.gateway.charge(2, 800, None) != await world.gateway.charge(2, 800, None)
        assert [charge.order for charge in await world.ledger.charges()] == [1, 2, 2]


async def test_refusal(tmp_path: Path, service: tuple[str, Ledger]) -> None:
    """The payment service refuses an amount that is not positive."""
    async with open_shop(FirstShop, tmp_path, service) as world:
        with pytest.raises(PaymentRefused, match="more than 0"):
            await world.shop.place_order("Ada", 0)
        assert (await world.books()).charges == []


async def test_a_stopped_service(tmp_path: Path) -> None:
    """The payment service stops at the end of its block. After that a charge raises `ConnectionError`."""
    ledger = Ledger(tmp_path / "charges.sqlite")
    await ledger.create()
    async with running_gateway(ledger) as url:
        pass
    async with gateway_client(url) as gateway:
        with pytest.raises(ConnectionError):
            await gateway.charge(1, 1250, None)


async def test_stopping_with_a_paused_request(tmp_path: Path) -> None:
    """Stopping the payment service cancels a request that is paused at a failpoint."""
    ledger = Ledger(tmp_path / "charges.sqlite")
    await ledger.create()
    with anyio.fail_after(30), configured("gateway.record", "pause") as record:
        async with running_gateway(ledger) as url, gateway_client(url) as gateway, anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.charge, 1, 1250, None)
            await record.wait_paused()
            tasks.cancel_scope.cancel()
        assert record.status.waiting == ()
    assert await ledger.charges() == []


async def test_silent_gateway(tmp_path: Path) -> None:
    """A payment service that is too slow raises `TimeoutError`, without an injected exception."""
    ledger = Ledger(tmp_path / "charges.sqlite")
    await ledger.create()
    async with running_gateway(ledger) as url, gateway_client(url, timeout=0.1) as impatient:
        with configured("gateway.record", "pause"), pytest.raises(TimeoutError):
            await impatient.charge(1, 1250, None)


def test_verdicts() -> None:
    """The verdict is the worst thing that happened to an order."""
    paid, unpaid = Order(1, "Ada", 5, charge="1"), Order(1, "Ada", 5)
    charge = Charge(1, order=1, amount=5)
    assert Books([], [], {}).verdict == "correct"
    assert Books([paid], [charge], {}).verdict == "correct"
    assert Books([unpaid], [], {"Ada": TimeoutError()}).verdict == "correct"
    assert Books([paid], [charge] * 2, {}).verdict == "charged twice"
    assert Books([unpaid], [charge] * 3, {}).verdict == "charged 3 times"
    assert Books([unpaid], [charge], {}).verdict == "charged, but not paid"
    assert Books([paid], [], {}).verdict == "paid, but not charged"
    assert Books([paid], [charge], {"Ada": TimeoutError()}).verdict == "paid, but reported as failed"
