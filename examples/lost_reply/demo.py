"""Places the same orders in both shops, each with new databases, and shows the results side by side."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import anyio
from rich.console import Console
from rich.table import Table

from failpoints import FailpointUsageError, configure_all, configured, format_actions, statuses

from .books import Books
from .client import gateway_client
from .gateway import Ledger, running_gateway
from .shop import FirstShop, Orders, SecondShop

LOST_REPLY = ("gateway.charge:after", "1*raise(TimeoutError)")
HINT = "FAILPOINTS='gateway.charge=1*raise(ConnectionError)' python -m examples.lost_reply"
SALES = {"Ada": 1250, "Grace": 800, "Barbara": 2400}  # customer: cents


async def sell(shop_class: type[FirstShop], folder: Path) -> Books:
    """Place the orders in one of the shops, and return its books. All databases are in *folder*."""
    await anyio.Path(folder).mkdir()
    orders, ledger = Orders(folder / "orders.sqlite"), Ledger(folder / "charges.sqlite")
    await orders.create()
    await ledger.create()

    failures: dict[str, Exception] = {}
    async with running_gateway(ledger) as url, gateway_client(url) as gateway:
        shop = shop_class(orders, gateway)
        for customer, amount in SALES.items():
            try:
                await shop.place_order(customer, amount)
            except FailpointUsageError:
                raise  # not a failed order: the failpoint is configured incorrectly
            except Exception as error:
                failures[customer] = error
    return Books(await orders.all(), await ledger.charges(), failures)


async def run_demo(folder: Path) -> int:
    """Sell in both shops with the same failpoints, print the results, and return the exit status."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    preset = [f"{status.name}={format_actions(status.actions)}" for status in statuses()]
    with ExitStack() as stack:
        if preset:
            console.print(f"Failpoints from FAILPOINTS: {';'.join(preset)}")
        else:
            stack.enter_context(configured(*LOST_REPLY))
            console.print(f"The reply to the first charge is lost: {'='.join(LOST_REPLY)}")
        first = await sell(FirstShop, folder / "first")
        never_hit = {status.name for status in statuses() if not status.hits}
        # Configure again, which resets the counts (`1*…`), so that the second shop has the same failures.
        configure_all([(status.name, status.actions, status.matchers) for status in statuses()])
        second = await sell(SecondShop, folder / "second")
        never_hit &= {status.name for status in statuses() if not status.hits}

    _show(console, {"first version": first, "with idempotency keys": second})
    for name in sorted(never_hit):
        console.print(f"Failpoint {name} was never hit.")
    console.print(f"Another way to break it: {HINT}")
    as_expected = (first.verdict, second.verdict) == ("charged twice", "correct")
    return 0 if as_expected or preset else 1


def _show(console: Console, shops: dict[str, Books]) -> None:
    table = Table("", *shops)
    table.add_row("orders placed", *(str(len(books.orders)) for books in shops.values()))
    table.add_row("paid", *(str(books.paid) for books in shops.values()))
    table.add_row("failed", *(str(len(books.failures)) for books in shops.values()))
    table.add_row("charges made", *(str(len(books.charges)) for books in shops.values()))
    table.add_row("charged in total", *(f"{books.charged / 100:.2f}" for books in shops.values()))
    table.add_row("owed in total", *(f"{books.owed / 100:.2f}" for books in shops.values()))
    table.add_row("verdict", *(books.verdict for books in shops.values()))
    console.print(table)
    for shop, books in shops.items():
        for customer, error in books.failures.items():
            console.print(f"{shop}: {customer}'s order failed: {type(error).__name__}: {error}")
