"""The two versions of the job, which differ only in the method `idempotency_key`."""

from __future__ import annotations

from pathlib import Path

from failpoints import failpoint

from .bank import Bank


class FirstBilling:
    """Charges whenever the job is carried out. But what if it was carried out before?"""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank

    def idempotency_key(self, order: int) -> str | None:
        """Return the key by which the bank recognises a repeated charge. This version has none."""
        return None

    # `job.bill:after`: the money has been taken, but the queue does not know it. A crash is the most expensive here.
    @failpoint("job.bill", context=["order"])
    def bill(self, order: int, amount: int) -> None:
        """Carry out the job of an order."""
        self._bank.charge(order, amount, self.idempotency_key(order))


class SecondBilling(FirstBilling):
    """The fixed version: every attempt sends the order's key, and the bank charges once per key."""

    def idempotency_key(self, order: int) -> str:
        """Return the same key at every attempt, in whichever process, because the order is in the job."""
        return f"order-{order}"


VERSIONS = {"first": FirstBilling, "second": SecondBilling}


def bill(version: str, folder: str, order: int, amount: int) -> None:
    """Carry out the job of an order in one of the versions, with the bank in *folder*."""
    VERSIONS[version](Bank(Path(folder, "bank.sqlite"))).bill(order, amount)
