"""Two transfers at once, each of which locks the giver's account first: both wait forever."""

from __future__ import annotations

import anyio

from failpoints import failpoint
from failpoints.explore import Run


class Account:
    """A balance, with a lock for changes of it."""

    def __init__(self, owner: str, balance: int) -> None:
        self.owner = owner
        self.balance = balance
        self.lock = anyio.Lock()


async def first_transfer(giver: Account, taker: Account, amount: int) -> None:
    """Lock the giver's account, then the taker's."""
    await failpoint("transfer.begin", context={"giver": giver.owner})
    async with giver.lock:
        await failpoint("transfer.locked", context={"account": giver.owner})
        async with taker.lock:
            giver.balance -= amount
            taker.balance += amount


async def second_transfer(giver: Account, taker: Account, amount: int) -> None:
    """Lock the accounts in the order of their owners, in every transfer."""
    one, other = sorted((giver, taker), key=lambda account: account.owner)
    await failpoint("transfer.begin", context={"giver": giver.owner})
    async with one.lock:
        await failpoint("transfer.locked", context={"account": one.owner})
        async with other.lock:
            giver.balance -= amount
            taker.balance += amount


async def first(run: Run) -> None:
    """Transfer in both directions at once, with the bug."""
    ada, grace = Account("Ada", 100), Account("Grace", 100)
    async with run.injecting(), anyio.create_task_group() as tasks:
        tasks.start_soon(first_transfer, ada, grace, 10, name="Ada to Grace")
        tasks.start_soon(first_transfer, grace, ada, 20, name="Grace to Ada")
    assert (ada.balance, grace.balance) == (110, 90)


async def second(run: Run) -> None:
    """Transfer in both directions at once, fixed."""
    ada, grace = Account("Ada", 100), Account("Grace", 100)
    async with run.injecting(), anyio.create_task_group() as tasks:
        tasks.start_soon(second_transfer, ada, grace, 10, name="Ada to Grace")
        tasks.start_soon(second_transfer, grace, ada, 20, name="Grace to Ada")
    assert (ada.balance, grace.balance) == (110, 90)
