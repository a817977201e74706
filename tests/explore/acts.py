"""What tests do with a shared bank, by name: things that meet, and things that do not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from failpoints._explore.sharing.snapshot import snapshot
from tests.explore.bank import Account, Bank, Colour

Act = Callable[[Any], Any]


def _assign(owner: Any, name: str, value: Any) -> None:
    setattr(owner, name, value)


def _add(owner: Any, name: str, value: Any) -> None:
    owner = getattr(owner, name)
    owner += value


def _increment(owner: Any, name: str) -> None:
    setattr(owner, name, getattr(owner, name) + 1)


KEYS = ("a", "b", 3, Colour.RED, "new", "later")

ACTS: dict[str, Act] = {
    "total": lambda bank: bank.total,
    "set total": lambda bank: _assign(bank, "total", 5),
    "add to total": lambda bank: _increment(bank, "total"),
    "del total": lambda bank: delattr(bank, "total"),
    "new attribute": lambda bank: _assign(bank, "fresh", [1]),
    "append to new": lambda bank: bank.fresh.append(2),
    "has new": lambda bank: hasattr(bank, "fresh"),
    "vars": lambda bank: sorted(vars(bank)),
    "set in vars": lambda bank: vars(bank).update(total=8),
    **{f"accounts[{key}]": lambda bank, key=key: snapshot(bank.accounts[key]) for key in KEYS},  # type: ignore[misc]
    **{f"get {key}": lambda bank, key=key: bank.ledger.get(key) is None for key in KEYS},  # type: ignore[misc]
    **{f"{key} in": lambda bank, key=key: key in bank.accounts for key in KEYS},  # type: ignore[misc]
    **{f"set {key}": lambda bank, key=key: bank.accounts.update({key: Account(7)}) for key in KEYS},  # type: ignore[misc]
    **{f"pop {key}": lambda bank, key=key: repr(type(bank.accounts.pop(key, 0))) for key in KEYS},  # type: ignore[misc]
    **{f"del {key}": lambda bank, key=key: bank.ledger.__delitem__(key) for key in KEYS},  # type: ignore[misc]
    "setdefault": lambda bank: bank.accounts.setdefault("new", []).append(4),
    "popitem": lambda bank: str(bank.accounts.popitem()[0]),
    "clear accounts": lambda bank: bank.accounts.clear(),
    "keys": lambda bank: [str(key) for key in bank.accounts],
    "len accounts": lambda bank: len(bank.accounts),
    "balances": lambda bank: [each.balance for each in bank.accounts.values() if isinstance(each, Account)],
    "items": lambda bank: [(str(key), snapshot(value)) for key, value in bank.ledger.items()],
    "other accounts": lambda bank: _assign(bank, "accounts", {"a": Account(9)}),
    "or accounts": lambda bank: sorted(map(str, bank.accounts | {"z": 1})),
    "ior groups": lambda bank: _add(bank, "groups", {"h": [2]}),
    "copy accounts": lambda bank: list(map(str, bank.accounts.copy())),
    "deep copy": lambda bank: snapshot(copy.deepcopy(bank.accounts)),
    "deposit a": lambda bank: bank.accounts["a"].deposit(5),
    "deposit b": lambda bank: bank.ledger["b"].deposit(5),
    "deposit by attribute": lambda bank: bank.account_a.deposit(1),
    "balance a": lambda bank: bank.ledger["a"].balance,
    "set balance a": lambda bank: _assign(bank.accounts["a"], "balance", 9),
    "is a empty": lambda bank: bank.accounts["a"].is_empty,
    "empty a": lambda bank: _assign(bank.accounts["a"], "is_empty", True),
    "owner of a": lambda bank: bank.accounts["a"].owner[0],
    "len a": lambda bank: len(bank.accounts["a"]),
    "a is true": lambda bank: bool(bank.accounts["a"]),
    "in a": lambda bank: 5 in bank.accounts["a"],
    "a[0]": lambda bank: bank.accounts["a"][0],
    "a()": lambda bank: bank.accounts["a"](),
    "a += 1": lambda bank: operator_iadd(bank.accounts, "a"),
    "twin of a": lambda bank: bank.accounts["a"].twin().balance,
    "bonus of a": lambda bank: bank.accounts["a"].bonus,
    "set bonus of a": lambda bank: _assign(bank.accounts["a"], "bonus", 4),
    "copy a": lambda bank: copy.copy(bank.accounts["a"]).log.append(8),
    "nested x": lambda bank: bank.accounts[3]["x"],
    "set nested x": lambda bank: bank.ledger[3].__setitem__("x", 2),
    "set nested y": lambda bank: bank.ledger[3].__setitem__("y", 2),
    "members": lambda bank: sorted(map(str, bank.members)),
    "1 in members": lambda bank: 1 in bank.members,
    "add 1": lambda bank: bank.members.add(1),
    "add 7": lambda bank: bank.members.add(7),
    "add 8": lambda bank: bank.members.update([8]),
    "discard 1": lambda bank: bank.members.discard(1),
    "remove c": lambda bank: bank.members.remove("c"),
    "members &= 1": lambda bank: _add_and(bank),
    "members - 1": lambda bank: sorted(map(str, bank.members - {1})),
    "members <": lambda bank: bank.members < {1, 2, "c", 9},
    "clear members": lambda bank: bank.members.clear(),
    "log[0]": lambda bank: bank.log[0],
    "log[1]": lambda bank: list(bank.log[1]),
    "log[3]": lambda bank: bank.log[3],
    "log[-1]": lambda bank: snapshot(bank.log[-1]),
    "log[1:]": lambda bank: snapshot(bank.log[1:]),
    "set log[0]": lambda bank: bank.log.__setitem__(0, 8),
    "set log[2]": lambda bank: bank.log.__setitem__(2, 9),
    "set log[-1]": lambda bank: bank.log.__setitem__(-1, 1),
    "set log[:1]": lambda bank: bank.log.__setitem__(slice(None, 1), [7, 6]),
    "del log[0]": lambda bank: bank.log.__delitem__(0),
    "append": lambda bank: bank.log.append(1),
    "append other": lambda bank: bank.log.append(2),
    "extend": lambda bank: bank.log.extend([4, 5]),
    "insert": lambda bank: bank.log.insert(0, 0),
    "pop log": lambda bank: snapshot(bank.log.pop()),
    "remove 3": lambda bank: bank.log.remove(3),
    "index of 2": lambda bank: bank.log.index(2),
    "2 in log": lambda bank: 2 in bank.log,
    "reverse": lambda bank: bank.log.reverse(),
    "sort": lambda bank: bank.log.sort(key=str),
    "len log": lambda bank: len(bank.log),
    "log == ": lambda bank: bank.log == [3, [1], 2],
    "log + ": lambda bank: snapshot(bank.log.__add__([1])),
    "log += ": lambda bank: _add(bank, "log", [6]),
    "inner list": lambda bank: bank.log[1].append(5),
    "inner by pair": lambda bank: bank.pair[0].append(6),
    "second of pair": lambda bank: bank.pair[1].append(6),
    "read second of pair": lambda bank: list(bank.pair[1]),
    "queue[0]": lambda bank: bank.queue[0],
    "queue append": lambda bank: bank.queue.append(4),
    "popleft": lambda bank: bank.queue.popleft(),
    "appendleft": lambda bank: bank.queue.appendleft(0),
    "rotate": lambda bank: bank.queue.rotate(1),
    "queue": lambda bank: list(bank.queue),
    "left": lambda bank: _increment(bank.slots, "left"),
    "right": lambda bank: _increment(bank.slots, "right"),
    "read left": lambda bank: bank.slots.left,
    "count a": lambda bank: bank.counts["a"],
    "count up": lambda bank: bank.counts.update("a"),
    "most common": lambda bank: bank.counts.most_common(1),
    "names": lambda bank: list(bank.names),
    "add name": lambda bank: bank.names.append("Grace"),
    "add twice": lambda bank: bank.names.add_twice("Alan"),
    "group": lambda bank: bank.groups["new"].append(1),
    "get group": lambda bank: bank.groups.get("new"),
    "space": lambda bank: bank.space.value,
    "set space": lambda bank: _increment(bank.space, "value"),
    "show space": lambda bank: repr(bank.space),
    "lock": lambda bank: bank.lock.locked(),
}


def operator_iadd(accounts: Any, key: str) -> None:
    accounts[key] += 1


def _add_and(bank: Any) -> None:
    bank.members &= {1, 7}


def result_of(name: str, shared: Any) -> str:
    """Carry out an act, and describe its result or its error."""
    try:
        return repr(ACTS[name](shared))
    except (LookupError, ValueError, AttributeError, TypeError) as error:
        return repr(error)


def state_of(bank: Bank) -> str:
    """Describe a bank, with the order of its containers."""
    return f"{snapshot(bank)} {[*map(str, vars(bank).get('accounts', ()))]} {vars(bank).get('log')}"
