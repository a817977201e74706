"""A transfer of two writes: if the second one fails, the money is lost."""

from __future__ import annotations

from failpoints import failpoint
from failpoints.explore import Run


class FirstBank:
    """A bank that writes one account, then the other."""

    def __init__(self) -> None:
        self.accounts = {"Ada": 100, "Grace": 0}

    async def transfer(self, giver: str, taker: str, amount: int) -> None:
        """Move money from one account to another."""
        await self.write(giver, self.accounts[giver] - amount)
        await self.write(taker, self.accounts[taker] + amount)

    @failpoint("bank.write", context=["account"], raises=(ConnectionError,))
    async def write(self, account: str, balance: int) -> None:
        """Write a balance over a connection, which may break before it is written or after."""
        self.accounts[account] = balance


class SecondBank(FirstBank):
    """A bank that writes both balances or none, and each transfer once, even if it is sent again."""

    def __init__(self) -> None:
        super().__init__()
        self.done: set[str] = set()

    async def transfer(self, giver: str, taker: str, amount: int) -> None:
        """Move money from one account to another."""
        after = {giver: self.accounts[giver] - amount, taker: self.accounts[taker] + amount}
        for attempt in range(3):
            try:
                return await self.write_all("transfer 1", after)
            except ConnectionError:
                if attempt == 2:
                    raise

    @failpoint("bank.write_all", context=["transfer"], raises=(ConnectionError,))
    async def write_all(self, transfer: str, balances: dict[str, int]) -> None:
        """Write several balances at once, unless the transfer was written already."""
        if transfer not in self.done:
            self.done.add(transfer)
            self.accounts |= balances


async def move_money(run: Run, bank: FirstBank) -> None:
    """Transfer, and check that no money was lost or made."""
    async with run.injecting():
        await bank.transfer("Ada", "Grace", 10)
    total = sum(bank.accounts.values())
    assert total == 100, f"the accounts hold {total}"


async def first(run: Run) -> None:
    """Transfer with the bug."""
    await move_money(run, FirstBank())


async def second(run: Run) -> None:
    """Transfer, fixed."""
    await move_money(run, SecondBank())
