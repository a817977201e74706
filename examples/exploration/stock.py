"""A sale that is undone by restoring an old number, which undoes another sale too.

The bug needs both a fault and a particular order of two tasks.
"""

from __future__ import annotations

import anyio

from failpoints import failpoint
from failpoints.explore import Run


class FirstStock:
    """A stock that undoes a sale by restoring the number that it had before."""

    def __init__(self) -> None:
        self.left = 10

    async def sell(self, customer: str, count: int) -> None:
        """Take *count* items out of the stock, if the payment succeeds."""
        before = self.left
        self.left -= count
        try:
            await failpoint("stock.pay", context={"customer": customer}, raises=(ConnectionError,))
        except ConnectionError:
            self.left = before
            raise


class SecondStock(FirstStock):
    """A stock that undoes a sale by returning the items."""

    async def sell(self, customer: str, count: int) -> None:
        """Take *count* items out of the stock, if the payment succeeds."""
        self.left -= count
        try:
            await failpoint("stock.pay", context={"customer": customer}, raises=(ConnectionError,))
        except ConnectionError:
            self.left += count
            raise


async def sell_twice(run: Run, stock: FirstStock) -> None:
    """Sell to two customers at once, and check that exactly what was sold is missing."""
    sold = 0

    async def customer(name: str, count: int) -> None:
        nonlocal sold
        try:
            await stock.sell(name, count)
        except ConnectionError:
            return
        sold += count

    async with run.injecting(), anyio.create_task_group() as tasks:
        tasks.start_soon(customer, "Ada", 1, name="Ada")
        tasks.start_soon(customer, "Grace", 2, name="Grace")
    assert stock.left == 10 - sold, f"{sold} of 10 are sold, and {stock.left} are left"


async def first(run: Run) -> None:
    """Sell with the bug."""
    await sell_twice(run, FirstStock())


async def second(run: Run) -> None:
    """Sell, fixed."""
    await sell_twice(run, SecondStock())
