"""Whether the shop's orders and the payment service's charges agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from .gateway import Charge
from .shop import Order


@dataclass(frozen=True)
class Books:
    """What there is to see after the last order."""

    orders: list[Order]
    charges: list[Charge]
    failures: dict[str, Exception]  # what the customer was told

    @property
    def paid(self) -> int:
        """How many orders are paid."""
        return sum(order.paid for order in self.orders)

    @property
    def charged(self) -> int:
        """What was taken from the customers, in cents."""
        return sum(charge.amount for charge in self.charges)

    @property
    def owed(self) -> int:
        """What the customers owe, in cents: the paid orders, for nobody owes for a failed one."""
        return sum(order.amount for order in self.orders if order.paid)

    @property
    def verdict(self) -> str:
        """Return `correct`, or the worst thing that happened to an order."""
        charges = Counter(charge.order for charge in self.charges)
        most = max(charges.values(), default=0)
        if most > 1:
            return "charged twice" if most == 2 else f"charged {most} times"
        if any(charges[order.number] and not order.paid for order in self.orders):
            return "charged, but not paid"
        if any(order.paid and not charges[order.number] for order in self.orders):
            return "paid, but not charged"
        if any(order.paid and order.customer in self.failures for order in self.orders):
            return "paid, but said to have failed"
        return "correct"
