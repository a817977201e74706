"""The shop that charges twice, the shop that does not, and the demo that shows both."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
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

ROOT = Path(__file__).parents[2]
OURS = ("FAILPOINTS", "FORCE_COLOR", "TTY_COMPATIBLE")  # what would change what the demo does or how it looks

both_shops = pytest.mark.parametrize("shop_class", [FirstShop, SecondShop])


@dataclass
class World:
    """A shop in business, and the databases behind it."""

    shop: FirstShop
    url: str
    gateway: GatewayClient
    orders: Orders
    ledger: Ledger

    async def books(self) -> Books:
        """Everything that both databases hold."""
        return Books(await self.orders.all(), await self.ledger.charges(), {})


@asynccontextmanager
async def open_shop(shop_class: type[FirstShop], folder: Path) -> AsyncIterator[World]:
    """Open a shop on fresh databases, with a payment service that runs as long as the block."""
    orders, ledger = Orders(folder / "orders.sqlite"), Ledger(folder / "charges.sqlite")
    await orders.create()
    await ledger.create()
    # A limit, so that what never comes fails a test and does not hang it.
    with anyio.fail_after(30):
        async with running_gateway(ledger) as url, gateway_client(url) as gateway:
            yield World(shop_class(orders, gateway), url, gateway, orders, ledger)


@both_shops
async def test_without_failpoints(shop_class: type[FirstShop], tmp_path: Path) -> None:
    """With nothing configured, either shop charges once for each order."""
    async with open_shop(shop_class, tmp_path) as world:
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
async def test_lost_reply(shop_class: type[FirstShop], charged: int, verdict: str, tmp_path: Path) -> None:
    """When a reply is lost, the first shop charges twice and the second once."""
    async with open_shop(shop_class, tmp_path) as world:
        with configured("gateway.charge:after", "1*raise(TimeoutError)") as reply:
            await world.shop.place_order("Ada", 1250)
            assert reply.triggers == 1
        books = await world.books()
    assert books.paid == 1
    assert (books.charged, books.owed, books.verdict) == (charged, 1250, verdict)


@pytest.mark.parametrize(("shop_class", "verdict"), [(FirstShop, "charged twice"), (SecondShop, "correct")])
async def test_service_fails_after_its_write(shop_class: type[FirstShop], verdict: str, tmp_path: Path) -> None:
    """When the payment service itself fails once the charge is stored, it is the same as a lost reply."""
    async with open_shop(shop_class, tmp_path) as world:
        with configured("gateway.record:after", "1*raise(OperationalError: disk full)") as record:
            await world.shop.place_order("Ada", 1250)
            assert record.triggers == 1
        assert (await world.books()).verdict == verdict


async def test_reason_of_a_failing_service(tmp_path: Path) -> None:
    """What went wrong in the payment service is told to the shop."""
    async with open_shop(SecondShop, tmp_path) as world:
        with configured("gateway.record", "raise(OperationalError: disk full)") as record:
            with pytest.raises(ConnectionError, match="the gateway failed: OperationalError: disk full"):
                await world.shop.place_order("Ada", 1250)
            assert record.triggers == 3


@both_shops
async def test_lost_request(shop_class: type[FirstShop], tmp_path: Path) -> None:
    """When only the request is lost, trying again is right in both shops."""
    async with open_shop(shop_class, tmp_path) as world:
        with configured("gateway.charge", "1*raise(ConnectionError)") as request:
            await world.shop.place_order("Ada", 1250)
            assert (request.hits, request.triggers) == (2, 1)
        books = await world.books()
    assert (books.paid, len(books.charges), books.verdict) == (1, 1, "correct")


@both_shops
async def test_gateway_down(shop_class: type[FirstShop], tmp_path: Path) -> None:
    """When the payment service cannot be reached, the order fails after three attempts and costs nothing."""
    async with open_shop(shop_class, tmp_path) as world:
        with configured("gateway.charge", "raise(ConnectionError)") as request:
            with pytest.raises(ConnectionError):
                await world.shop.place_order("Ada", 1250)
            assert request.triggers == 3
        books = await world.books()
    assert (len(books.orders), books.paid, books.charges) == (1, 0, [])
    assert (books.owed, books.verdict) == (0, "correct")


async def test_told_to_give_up(tmp_path: Path) -> None:
    """Told by `shop.retry` to return early, a shop gives up: the money is taken, and no order is paid."""
    async with open_shop(SecondShop, tmp_path) as world:
        with (
            configured("gateway.charge:after", "raise(TimeoutError)"),
            configured("shop.retry", "return") as retry,
        ):
            with pytest.raises(TimeoutError):
                await world.shop.place_order("Ada", 1250)
            assert retry.hits == 1
        assert (await world.books()).verdict == "charged, but not paid"


@both_shops
async def test_between_charge_and_payment(shop_class: type[FirstShop], tmp_path: Path) -> None:
    """While the reply is on its way, the money is taken and the order is not paid yet."""
    async with open_shop(shop_class, tmp_path) as world, anyio.create_task_group() as tasks:
        with configured("gateway.charge:after", "pause") as reply:
            tasks.start_soon(world.shop.place_order, "Ada", 1250)
            await reply.wait_paused()
            between = await world.books()
            assert between.orders == [Order(1, "Ada", 1250)]
            assert between.charges == [Charge(1, order=1, amount=1250)]
            assert between.verdict == "charged, but not paid"
            assert reply.resume() == 1
    assert (await world.books()).verdict == "correct"


async def test_reconfigured_while_an_order_waits(tmp_path: Path) -> None:
    """An order that waits at a failpoint goes on when it is reconfigured; the next one is refused."""
    async with open_shop(SecondShop, tmp_path) as world:
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


async def test_one_order_of_several(tmp_path: Path) -> None:
    """A matcher on the order's number breaks that order and no other."""
    async with open_shop(SecondShop, tmp_path) as world:
        with configured("gateway.charge", "raise(PaymentRefused)", context={"order": 2}) as request:
            await world.shop.place_order("Ada", 1250)
            with pytest.raises(PaymentRefused):
                await world.shop.place_order("Grace", 800)
            await world.shop.place_order("Barbara", 2400)
            assert (request.hits, request.misses) == (1, 2)
        books = await world.books()
    assert [order.paid for order in books.orders] == [True, False, True]
    assert books.verdict == "correct"


async def test_commit_fails(tmp_path: Path) -> None:
    """When the shop's own write fails, the money is taken and the order is not paid: no key helps here."""
    async with open_shop(SecondShop, tmp_path) as world:
        with configured("orders.commit", "raise(OperationalError: database is locked)") as commit:
            with pytest.raises(sqlite3.OperationalError, match="database is locked"):
                await world.shop.place_order("Ada", 1250)
            assert commit.triggers == 1
        assert (await world.books()).verdict == "charged, but not paid"


async def test_commit_returns(tmp_path: Path) -> None:
    """A `return` at the scope leaves `place_order` with its value, and without the write."""
    async with open_shop(SecondShop, tmp_path) as world:
        with configured("orders.commit", "return(7)"):
            assert await world.shop.place_order("Ada", 1250) == 7
        assert (await world.books()).verdict == "charged, but not paid"


async def test_invented_charge(tmp_path: Path) -> None:
    """A `return` in place of the request gives an order that is paid and was never charged."""
    async with open_shop(SecondShop, tmp_path) as world:
        with configured("gateway.charge", "return(invented)"):
            await world.shop.place_order("Ada", 1250)
        books = await world.books()
    assert books.orders == [Order(1, "Ada", 1250, charge="invented")]
    assert books.verdict == "paid, but not charged"


async def test_same_key(tmp_path: Path) -> None:
    """The payment service charges once for one key, and each time without a key."""
    async with open_shop(FirstShop, tmp_path) as world:
        assert await world.gateway.charge(1, 1250, "k") == await world.gateway.charge(1, 1250, "k")
        assert await world.gateway.charge(2, 800, None) != await world.gateway.charge(2, 800, None)
        assert [charge.order for charge in await world.ledger.charges()] == [1, 2, 2]


async def test_refusal(tmp_path: Path) -> None:
    """The payment service refuses an amount that is not positive, and nothing is charged."""
    async with open_shop(FirstShop, tmp_path) as world:
        with pytest.raises(PaymentRefused, match="more than 0"):
            await world.shop.place_order("Ada", 0)
        assert (await world.books()).charges == []


async def test_nobody_listens(tmp_path: Path) -> None:
    """A payment service that is gone is a `ConnectionError`: the server stops where its block ends."""
    ledger = Ledger(tmp_path / "charges.sqlite")
    await ledger.create()
    async with running_gateway(ledger) as url:
        pass
    async with gateway_client(url) as gateway:
        with pytest.raises(ConnectionError):
            await gateway.charge(1, 1250, None)


async def test_stopping_while_a_request_waits(tmp_path: Path) -> None:
    """The server stops even while a request waits at a failpoint, and that request is cancelled."""
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
    """A payment service that takes too long is a `TimeoutError`, with no exception injected."""
    async with open_shop(FirstShop, tmp_path) as world, gateway_client(world.url, timeout=0.1) as impatient:
        with configured("gateway.record", "pause"), pytest.raises(TimeoutError):
            await impatient.charge(1, 1250, None)


def test_verdicts() -> None:
    """The verdict names the worst thing that happened to an order."""
    paid, unpaid = Order(1, "Ada", 5, charge="1"), Order(1, "Ada", 5)
    charge = Charge(1, order=1, amount=5)
    assert Books([], [], {}).verdict == "correct"
    assert Books([paid], [charge], {}).verdict == "correct"
    assert Books([unpaid], [], {"Ada": TimeoutError()}).verdict == "correct"
    assert Books([paid], [charge] * 2, {}).verdict == "charged twice"
    assert Books([unpaid], [charge] * 3, {}).verdict == "charged 3 times"
    assert Books([unpaid], [charge], {}).verdict == "charged, but not paid"
    assert Books([paid], [], {}).verdict == "paid, but not charged"
    assert Books([paid], [charge], {"Ada": TimeoutError()}).verdict == "paid, but said to have failed"


def run_demo(*arguments: str, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the demo (or Python code) with just these variables of the library's, within a minute."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    command = ["-c", code] if code else ["-m", "examples.lost_reply"]
    return subprocess.run(
        [sys.executable, *command, *arguments],
        cwd=ROOT,
        env=kept | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "COLUMNS": "120"} | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


def table(output: str) -> dict[str, list[str]]:
    """The demo's table: for each row's title, what it says of the two shops."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if "│" in line]
    return {title: cells for title, *cells in rows}


@pytest.mark.parametrize("arguments", [(), ("--backend", "asyncio"), ("--backend", "trio")])
def test_demo(arguments: tuple[str, ...]) -> None:
    """With nothing set up, the demo loses a reply: the first shop charges twice, the second is correct."""
    done = run_demo(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "gateway.charge:after=1*raise(TimeoutError)" in done.stdout
    assert table(done.stdout) == {
        "orders placed": ["3", "3"],
        "paid": ["3", "3"],
        "failed": ["0", "0"],
        "charges made": ["4", "3"],
        "charged in total": ["57.00", "44.50"],
        "owed in total": ["44.50", "44.50"],
        "verdict": ["charged twice", "correct"],
    }
    assert "Break it otherwise: FAILPOINTS='gateway.charge=1*raise(ConnectionError)'" in done.stdout


def test_demo_obeys_the_environment() -> None:
    """With FAILPOINTS set, the demo does just that to both shops, and says so."""
    done = run_demo(FAILPOINTS="gateway.charge=1*raise(ConnectionError)")
    assert (done.returncode, done.stderr) == (0, "")
    assert "FAILPOINTS is set, so nothing else is configured: gateway.charge=1*raise(ConnectionError)" in done.stdout
    assert table(done.stdout)["charges made"] == ["3", "3"]
    assert table(done.stdout)["verdict"] == ["correct", "correct"]
    assert "never hit" not in done.stdout


def test_demo_counts_anew_for_the_second_shop() -> None:
    """What the first shop used up happens to the second one, too."""
    done = run_demo(FAILPOINTS="gateway.charge=1*return(invented);orders.commit:after=1*off->1*raise(OSError)")
    assert table(done.stdout)["verdict"] == ["paid, but not charged"] * 2
    assert table(done.stdout)["failed"] == ["1", "1"]


def test_demo_with_failed_orders() -> None:
    """An order that fails is a line that says why, without a traceback."""
    done = run_demo(FAILPOINTS="gateway.charge=1*raise(PaymentRefused: no [money] left)")
    assert (done.returncode, done.stderr) == (0, "")
    assert table(done.stdout)["failed"] == ["1", "1"]
    assert table(done.stdout)["paid"] == ["2", "2"]
    assert "first version: the order of Ada failed: PaymentRefused: no [money] left" in done.stdout


def test_demo_with_a_name_that_no_site_bears() -> None:
    """A failpoint that was never hit is named."""
    done = run_demo(FAILPOINTS="gatewya.charge=panic")
    assert done.returncode == 0
    assert "gatewya.charge was never hit." in done.stdout


@pytest.mark.parametrize("text", ["gateway.charge", "gateway.charge=rise(OSError)", "=off"])
def test_demo_with_bad_environment(text: str) -> None:
    """A malformed FAILPOINTS stops the demo with the library's message, which names the variable."""
    done = run_demo(FAILPOINTS=text)
    assert done.returncode == 1
    assert "FAILPOINTS" in done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_demo_asked_for_what_cannot_be_done() -> None:
    """An exception that the site does not know stops the demo with the library's message."""
    done = run_demo(FAILPOINTS="gateway.charge=raise(NoSuchError)")
    assert done.returncode == 1
    assert "NoSuchError" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["httpx", "starlette", "uvicorn", "rich"])
def test_demo_without_a_library(module: str) -> None:
    """Without one of its libraries the demo says how to install them."""
    code = f"""
import runpy, sys
sys.modules[{module!r}] = None  # what makes its import fail
runpy.run_module("examples.lost_reply", run_name="__main__", alter_sys=True)
"""
    done = run_demo(code=code)
    assert done.returncode == 1
    assert done.stderr == f'This example needs {module}: pip install -e ".[examples]"\n'


def test_demo_help() -> None:
    """The help lists other ways to break the shop."""
    done = run_demo("--help")
    assert done.returncode == 0
    assert "FAILPOINTS='gateway.record:after=1*raise(OSError)'" in done.stdout
