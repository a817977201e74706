"""Compares the shop's orders with the payment service's charges."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from .gateway import Charge
from .shop import Order


@dataclass(frozen=True)
class Books:
    """The orders and charges after the last order."""

    orders: list[Order]
    charges: list[Charge]
    failures: dict[str, Exception]  # by customer

    @property
    def paid(self) -> int:
        """The number of paid orders."""
        return sum(order.paid for order in self.orders)

    @property
    def charged(self) -> int:
        """The sum of all charges, in cents."""
        return sum(charge.amount for charge in self.charges)

    @property
    def owed(self) -> int:
        """The sum of all paid orders, in cents. Failed orders cost nothing."""
        return sum(order.amount for order in self.orders if order.paid)

    @property
    def verdict(self) -> str:
        """`correct`, or the worst thing that happened to an order."""
        charges = Counter(charge.order for charge in self.charges)
        most = max(charges.values(), default=0)
        if most > 1:
            return "charged twice" if most == 2 else f"charged {most} times"
        if any(charges[order.number] and not order.paid for order in self.orders):
            return "charged, but not paid"
        if any(order.paid and not charges[order.number] for order in self.orders):
            return "paid, but not charged"
        if any(order.paid and order.customer in self.failures for order in self.orders):
            return "paid, but reported as failed"
        return "correct"
