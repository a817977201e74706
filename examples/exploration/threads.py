"""A shop of plain functions that sells its last item twice, since two threads look before either one takes.

The bug needs a particular order of two threads.
"""

from __future__ import annotations

import threading

from failpoints import failpoint
from failpoints.explore import Run


class FirstShop:
    """A shop that looks whether there is an item, and takes it later."""

    def __init__(self) -> None:
        self.left = 1
        self.lock = threading.Lock()

    @failpoint("shop.look", reads=("left",))
    def is_open(self) -> bool:
        """Return whether there is an item left."""
        return self.left > 0

    @failpoint("shop.take", writes=("left",))
    def take(self) -> None:
        """Take an item."""
        with self.lock:
            self.left -= 1

    def sell(self) -> bool:
        """Sell an item, if there is one."""
        if not self.is_open():
            return False
        self.take()
        return True


class SecondShop(FirstShop):
    """A shop that keeps its lock from the look to the taking."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.RLock()  # type: ignore[assignment]  # `take` acquires it again

    def sell(self) -> bool:
        """Sell an item, if there is one."""
        with self.lock:
            return super().sell()


def sell_twice(run: Run, shop: FirstShop) -> None:
    """Serve two customers in two threads, and check that no item was sold twice."""
    sold: list[bool] = []
    customers = [threading.Thread(target=lambda: sold.append(shop.sell()), name=name) for name in ("Ada", "Grace")]
    with run.injecting():
        for customer in customers:
            customer.start()
        for customer in customers:
            customer.join()
    assert shop.left >= 0, f"{sum(sold)} customers have bought the only item"


def first(run: Run) -> None:
    """Sell with the bug."""
    sell_twice(run, FirstShop())


def second(run: Run) -> None:
    """Sell, fixed."""
    sell_twice(run, SecondShop())
