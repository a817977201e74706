"""A transfer of two writes: when the second one fails, the money is gone."""

from __future__ import annotations

from failpoints import failpoint
from failpoints.explore import Run


class FirstBank:
    """Takes from one account, then adds to the other."""

    def __init__(self) -> None:
        self.accounts = {"Ada": 100, "Grace": 0}

    async def transfer(self, giver: str, taker: str, amount: int) -> None:
        """Move money from one account to another."""
        await self.write(giver, self.accounts[giver] - amount)
        await self.write(taker, self.accounts[taker] + amount)

    @failpoint("bank.write", context=["account"], raises=(ConnectionError,))
    async def write(self, account: str, balance: int) -> None:
        """Write one balance, over a connection that can break: before it is written, or after."""
        self.accounts[account] = balance


class SecondBank(FirstBank):
    """Writes both balances or none, and one transfer only once, however often it is sent."""

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
        """Write several balances at once."""
        if transfer not in self.done:
            self.done.add(transfer)
            self.accounts |= balances


async def move_money(run: Run, bank: FirstBank) -> None:
    """Whatever fails, there is as much money as before."""
    async with run.injecting():
        await bank.transfer("Ada", "Grace", 10)
    total = sum(bank.accounts.values())
    assert total == 100, f"the accounts hold {total}"


async def first(run: Run) -> None:
    """Transfer in the first bank."""
    await move_money(run, FirstBank())


async def second(run: Run) -> None:
    """Transfer in the second bank."""
    await move_money(run, SecondBank())
