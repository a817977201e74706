"""Places the same orders in both shops, each with new databases, and shows the results side by side."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import anyio
from rich.console import Console

from failpoints import FailpointUsageError, configure_all, configured, statuses

from .. import side_by_side
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
    console, preset = side_by_side.new_console(), side_by_side.preset()
    with ExitStack() as stack:
        if preset:
            console.print(f"Failpoints from FAILPOINTS: {preset}")
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
    side_by_side.show_hints(console, never_hit, HINT)
    return side_by_side.exit_status(first.verdict, second.verdict, is_preset=bool(preset))


def _show(console: Console, shops: dict[str, Books]) -> None:
    rows: dict[str, Callable[[Books], object]] = {
        "orders placed": lambda books: len(books.orders),
        "paid": lambda books: books.paid,
        "failed": lambda books: len(books.failures),
        "charges made": lambda books: len(books.charges),
        "charged in total": lambda books: f"{books.charged / 100:.2f}",
        "owed in total": lambda books: f"{books.owed / 100:.2f}",
        "verdict": lambda books: books.verdict,
    }
    side_by_side.show(console, shops, rows)
    for shop, books in shops.items():
        for customer, error in books.failures.items():
            console.print(f"{shop}: {customer}'s order failed: {type(error).__name__}: {error}")
