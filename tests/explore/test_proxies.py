"""What `run.shared` returns, and how it behaves beside the object itself."""

from __future__ import annotations

import collections
import copy
import dataclasses
import json
import operator
import threading
from collections.abc import Generator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from failpoints._explore.plan.accesses import Accesses, meet
from tests.explore.bank import Account, Bank, Colour, Slots, Watched


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_proxy_is_equal_to_its_object_and_of_its_class(watched: Watched) -> None:
    """A proxy is an instance of the class of its object, equal to it, and found in sets and dictionaries for it."""
    account = Account(1)
    shared = watched.share(account)
    assert isinstance(shared, Account)
    assert shared == account
    assert account == shared
    assert hash(shared) == hash(account)
    assert {account: 1}[shared] == 1
    assert shared in [account]
    assert isinstance(shared.log, list)
    assert callable(shared)
    assert not callable(watched.share(Slots()))
    assert repr(shared) == repr(account)
    assert isinstance(shared.twin(), Account)
    assert set(dir(account)) == set(dir(shared))


def test_one_object_has_one_proxy(watched: Watched) -> None:
    """An object has one proxy, whichever way it is reached, and however often it is shared."""
    bank = Bank()
    shared = watched.share(bank)
    assert shared.accounts is shared.ledger is watched.share(bank.ledger) is watched.share(shared.accounts)
    assert shared.accounts["a"] is shared.account_a is watched.share(bank.accounts["a"])
    assert shared.pair[0] is shared.log
    assert watched.share(shared) is shared


def test_proxies_are_not_stored(watched: Watched) -> None:
    """What is stored through a proxy is the object itself."""
    bank = Bank()
    shared = watched.share(bank)
    shared.other = shared.accounts
    shared.log.append(shared.log[1])
    shared.accounts["c"] = shared.accounts["a"]
    shared.groups["new"].append(shared.slots)
    assert bank.other is bank.accounts  # type: ignore[attr-defined]
    assert bank.log[-1] is bank.log[1]
    assert bank.accounts["c"] is bank.accounts["a"]
    assert bank.groups["new"][0] is bank.slots


@dataclasses.dataclass
class Point:
    x: int
    places: list[int]


def test_dataclasses(watched: Watched) -> None:
    """A data class can be compared, matched, replaced and converted."""
    shared = watched.share(Point(1, [2]))
    assert shared == Point(1, [2])
    assert repr(shared) == "Point(x=1, places=[2])"
    assert dataclasses.asdict(shared) == {"x": 1, "places": [2]}
    assert dataclasses.replace(shared, x=3) == Point(3, [2])
    match shared:
        case Point(x=1, places=[place]):
            assert place == 2
        case _:
            pytest.fail("does not match")
    match watched.share({"key": [1]}):
        case {"key": [1]}:
            pass
        case _:
            pytest.fail("does not match")


def test_containers_in_expressions(watched: Watched) -> None:
    """A shared container can be used where its kind can be, and copies of it are not shared."""
    items, keys, numbers = watched.share([2, 1]), watched.share({"a": 1}), watched.share({1, 2})
    tail = [0]
    assert [*items, 0] == items + tail == [2, 1, 0]
    assert tail + items == [0, 2, 1]
    assert sorted(items) == [1, 2]
    assert list(reversed(items)) == [1, 2]
    assert {**keys, "b": 2} == keys | {"b": 2} == {"a": 1, "b": 2}
    assert {"b": 2} | keys == dict([("b", 2), *keys.items()])
    assert numbers | {3} == {3} | numbers == {1, 2, 3}
    assert numbers.isdisjoint({4})
    assert numbers >= {1}
    copied = copy.copy(items)
    copied.append(3)
    assert items == [2, 1]
    assert json.dumps(copy.deepcopy(keys)) == '{"a": 1}'
    with pytest.raises(TypeError):
        hash(items)
    with pytest.raises(TypeError, match="unsupported operand"):
        numbers |= [1]


def test_what_is_found_as_it_is(watched: Watched) -> None:
    """Locks, functions, classes, exceptions, members of an enumeration and sentinels are not proxied."""
    bank = Bank()
    values = [bank.lock, len, Account, ValueError(), Colour.RED, MISSING, threading.Lock(), "text", 1.5, None]
    bank.log = values
    assert all(one is other for one, other in zip(watched.share(bank).log, values, strict=True))


class Sentinel:
    pass


MISSING = Sentinel()


def test_a_bound_method_in_an_attribute(watched: Watched) -> None:
    """A bound method that is kept in an attribute is bound to the proxy of its object."""
    bank = Bank()
    bank.total = bank.accounts["a"].deposit
    shared = watched.share(bank)
    assert watched.meet(lambda: shared.total(3), lambda: shared.accounts["a"].balance)


def test_named_tuples(watched: Watched) -> None:
    """What is in a tuple is shared, and the tuple stays one of its class."""
    pair = collections.namedtuple("pair", "left right")  # noqa: PYI024
    bank = Bank()
    bank.pair = pair([1], frozenset({2}))
    shared = watched.share(bank)
    assert type(shared.pair) is pair
    assert shared.pair == ([1], {2})
    assert watched.meet(lambda: shared.pair.left.append(2), lambda: shared.pair[0][-1])


def test_a_descriptor_and_a_class_attribute(watched: Watched) -> None:
    """Assignments of a method to its class reach the class."""

    class Counted:
        count = 0

        def increase(self) -> int:
            type(self).count += 1
            return self.count

    assert watched.share(Counted()).increase() == 1
    assert Counted.count == 1


def test_a_class_with_its_own_setattr(watched: Watched) -> None:
    """A class that sets its attributes itself does so, and that counts as writing all that is shared."""

    class Upper:
        text = ""

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value.upper())

    shared, other = watched.share(Upper()), watched.share([1])
    assert watched.meet(lambda: setattr(shared, "text", "a"), lambda: other[0])
    assert shared.text == "A"


class Model(type):
    """Stands for the metaclass of a library, whose objects may be more than their attributes."""


def test_a_class_with_a_metaclass_of_its_own(watched: Watched) -> None:
    """Its methods get the object itself, and count as writing all that is shared."""

    class Row(metaclass=Model):
        def __init__(self) -> None:
            self.cells = [1]

        def add(self) -> Row:
            assert type(self) is Row
            self.cells.append(2)
            return self

    row = Row()
    shared, other = watched.share(row), watched.share([1])
    assert shared.add() is shared
    assert watched.meet(shared.add, lambda: shared.cells[-1])
    assert watched.meet(shared.add, lambda: other[0])
    assert not watched.meet(lambda: shared.cells[0], lambda: shared.cells)


def test_a_method_that_makes_an_object_without_its_constructor(watched: Watched) -> None:
    """`cls.__new__(cls)` in a method makes an object of the class."""

    class Value:
        number = 1

        def copied(self) -> Value:
            cls = type(self)
            made = cls.__new__(cls)
            made.number = self.number + 1
            return made

    made = watched.share(Value()).copied()
    assert type(made) is Value
    assert made.number == 2


def test_an_iteration_over_several_steps(watched: Watched) -> None:
    """Each step of an iteration reads the container again."""
    shared = watched.share([1, 2, 3])
    iterator = iter(shared)
    next(iterator)
    assert watched.meet(lambda: next(iterator), lambda: shared.append(4))


def test_a_copy_shares_what_is_in_it(watched: Watched) -> None:
    """What a shallow copy consists of is still shared."""
    shared = watched.share(Bank())
    for copied in (copy.copy(shared), copy.copy(shared.__dict__) | {}):
        accounts = copied["accounts"] if isinstance(copied, dict) else copied.accounts
        assert watched.meet(lambda: accounts["a"].deposit(1), lambda: shared.accounts["a"].balance)  # noqa: B023


class Stepped:
    """Awaits a coroutine, and keeps what each step of it touches."""

    def __init__(self, coroutine: Any, watched: Watched) -> None:
        self.coroutine = coroutine
        self.watched = watched
        self.steps: list[Accesses] = []

    def __await__(self) -> Generator[Any, Any, None]:
        steps, sent = self.coroutine.__await__(), None
        while True:
            self.watched.touched.clear()
            try:
                yielded = steps.send(sent)
            except StopIteration:
                return
            finally:
                self.steps.append(dict(self.watched.touched))
            sent = yield yielded


@pytest.mark.parametrize("method", ["names.add_later", "account_a.deposit_later"])
def test_an_async_method(backend: Any, watched: Watched, method: str) -> None:
    """What an async method does is noted in the step that does it, also if its `self` cannot be the proxy."""
    shared = watched.share(Bank())
    called = operator.attrgetter(method)(shared)

    async def main() -> list[Accesses]:
        stepped = Stepped(called(1), watched)
        await stepped
        return stepped.steps

    steps = anyio.run(main, backend=backend)
    assert len(steps) > 1
    assert meet(steps[-1], watched.touched_by(lambda: (list(shared.names), shared.account_a.balance)))
