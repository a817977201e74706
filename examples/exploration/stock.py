"""A sale that is taken back: it puts back what it had read before, and another sale with it.

It takes one fault and one order of two tasks.
"""

from __future__ import annotations

import anyio

from failpoints import failpoint
from failpoints.explore import Run


class FirstStock:
    """Remembers how many there were, to put that back."""

    def __init__(self) -> None:
        self.left = 10

    async def sell(self, customer: str, count: int) -> None:
        """Take so many out of the stock, if they can be paid."""
        before = self.left
        self.left -= count
        try:
            await failpoint("stock.pay", context={"customer": customer}, raises=(ConnectionError,))
        except ConnectionError:
            self.left = before
            raise


class SecondStock(FirstStock):
    """Puts back what it had taken."""

    async def sell(self, customer: str, count: int) -> None:
        """Take so many out of the stock, if they can be paid."""
        self.left -= count
        try:
            await failpoint("stock.pay", context={"customer": customer}, raises=(ConnectionError,))
        except ConnectionError:
            self.left += count
            raise


async def sell_twice(run: Run, stock: FirstStock) -> None:
    """What is sold is gone, and nothing else."""
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
    """Sell from the first stock."""
    await sell_twice(run, FirstStock())


async def second(run: Run) -> None:
    """Sell from the second stock."""
    await sell_twice(run, SecondStock())
