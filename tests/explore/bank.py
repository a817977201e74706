"""A bank with something of everything, and what is touched when it is shared."""

from __future__ import annotations

import asyncio
import collections
import enum
import functools
import itertools
import types
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread

from failpoints import failpoint
from failpoints._explore.plan.accesses import Accesses, add_access, meet
from failpoints._explore.sharing.space import SharedObjects


class Watched:
    """Shares objects, and keeps what is touched."""

    def __init__(self) -> None:
        self.touched: Accesses = {}
        self.space = SharedObjects(lambda resource, mode: add_access(self.touched, resource, mode))
        self._numbers = itertools.count()

    def share(self, value: Any) -> Any:
        return self.space.share(value, ("shared", next(self._numbers)))

    def touched_by(self, act: Callable[[], object]) -> Accesses:
        self.touched.clear()
        try:
            act()
        except (LookupError, ValueError, AttributeError, TypeError):
            pass
        return dict(self.touched)

    def meet(self, one: Callable[[], object], other: Callable[[], object]) -> bool:
        return meet(self.touched_by(one), self.touched_by(other))


class Slots:
    __slots__ = ("left", "right")

    def __init__(self) -> None:
        self.left = self.right = 0


class Names(list[Any]):
    """Inherits from a class that is written in C."""

    def add_twice(self, name: str) -> None:
        self.append(name)
        self.append(name)

    async def add_later(self, name: str) -> int:
        await anyio.lowlevel.checkpoint()
        self.append(name)
        return len(self)


class Colour(enum.Enum):
    RED = 1


class Account:
    bonus = 0

    def __init__(self, balance: int) -> None:
        self.balance = balance
        self.log: list[Any] = []

    @property
    def is_empty(self) -> bool:
        return self.balance == 0

    @is_empty.setter
    def is_empty(self, value: bool) -> None:
        self.balance = 0 if value else 1

    @functools.cached_property
    def owner(self) -> list[str]:
        return [f"owner {self.balance}"]

    @failpoint("account.deposit")
    def deposit(self, amount: int) -> None:
        self.balance += amount
        self.log.append(amount)

    async def deposit_later(self, amount: int) -> None:
        await anyio.lowlevel.checkpoint()
        self.deposit(amount)

    def __len__(self) -> int:
        return len(self.log)

    def __contains__(self, amount: int) -> bool:
        return amount in self.log

    def __getitem__(self, index: int) -> Any:
        return self.log[index]

    def __iadd__(self, amount: int) -> Account:
        self.balance += amount
        return self

    def __call__(self) -> int:
        return self.balance

    def twin(self) -> Account:
        return type(self)(self.balance)


class Bank:
    """Something of everything. `ledger` is `accounts` under another name."""

    def __init__(self) -> None:
        self.total = 0
        self.accounts: dict[Any, Any] = {"a": Account(1), "b": Account(2), 3: {"x": 1}, Colour.RED: [1]}
        self.ledger = self.accounts
        self.members = {1, 2, "c"}
        self.queue: collections.deque[Any] = collections.deque([1, 2, 3])
        self.log: list[Any] = [3, [1], 2]
        self.slots = Slots()
        self.pair = (self.log, [0])
        self.counts = collections.Counter("aab")
        self.names = Names(["Ada"])
        self.groups: Any = collections.defaultdict(list, g=[1])
        self.space = types.SimpleNamespace(value=1)
        self.lock = asyncio.Lock()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("account_"):
            return self.accounts[name.removeprefix("account_")]
        raise AttributeError(name)
