"""Sets that are iterated in the order in which their elements were added, for elements whose hash is their address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any, Self
from weakref import WeakSet

_add, _discard, _remove = set[Any].add, set[Any].discard, set[Any].remove  # faster than with super()


class OrderedSet(set[Any]):
    """A `set` in order of insertion. What its operators and methods return is in order, too.

    Code written in C reads the elements of any set without asking for their order: `set(ordered)` is not in order.
    """

    __slots__ = ("_order",)

    def __init__(self, elements: Iterable[Any] = ()) -> None:
        self._order: dict[Any, None] = {}
        if elements:
            self.update(elements)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._order)

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedSet, (list(self),)

    # What changes one element

    def add(self, element: Any, /) -> None:
        _add(self, element)
        self._order[element] = None

    def discard(self, element: Any, /) -> None:
        _discard(self, element)
        self._order.pop(element, None)

    def remove(self, element: Any, /) -> None:
        _remove(self, element)
        del self._order[element]

    def pop(self) -> Any:
        """Remove and return the first element."""
        if not self._order:
            return super().pop()  # which raises the error
        element = next(iter(self._order))
        self.remove(element)
        return element

    # What changes many

    def clear(self) -> None:
        super().clear()
        self._order.clear()

    def update(self, *others: Iterable[Any]) -> None:
        for other in others:
            for element in list(other) if other is self else other:
                self.add(element)

    def difference_update(self, *others: Iterable[Any]) -> None:
        self._keep(self.difference(*others))

    def intersection_update(self, *others: Iterable[Any]) -> None:
        self._keep(self.intersection(*others))

    def symmetric_difference_update(self, other: Iterable[Any], /) -> None:
        self._keep(self.symmetric_difference(other))

    def __ior__(self, other: AbstractSet[Any], /) -> Self:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        self.update(other)
        return self

    def __isub__(self, other: AbstractSet[Any], /) -> Self:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        self.difference_update(other)
        return self

    def __iand__(self, other: AbstractSet[Any], /) -> Self:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        self.intersection_update(other)
        return self

    def __ixor__(self, other: AbstractSet[Any], /) -> Self:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        self.symmetric_difference_update(other)
        return self

    def _keep(self, elements: OrderedSet) -> None:
        self.clear()
        self.update(elements)

    # What makes a new set

    def copy(self) -> OrderedSet:
        return OrderedSet(self)

    __copy__ = copy

    def union(self, *others: Iterable[Any]) -> OrderedSet:
        made = self.copy()
        made.update(*others)
        return made

    def difference(self, *others: Iterable[Any]) -> OrderedSet:
        left = super().difference(*others)
        return OrderedSet(element for element in self if element in left)

    def intersection(self, *others: Iterable[Any]) -> OrderedSet:
        left = super().intersection(*others)
        return OrderedSet(element for element in self if element in left)

    def symmetric_difference(self, other: Iterable[Any], /) -> OrderedSet:
        elements = OrderedSet(other)
        return self.difference(elements).union(elements.difference(self))

    def __or__(self, other: AbstractSet[Any], /) -> Any:
        return self.union(other) if isinstance(other, AbstractSet) else NotImplemented

    def __ror__(self, other: AbstractSet[Any], /) -> Any:
        return OrderedSet(other).union(self) if isinstance(other, AbstractSet) else NotImplemented

    def __sub__(self, other: AbstractSet[Any], /) -> Any:
        return self.difference(other) if isinstance(other, AbstractSet) else NotImplemented

    def __rsub__(self, other: AbstractSet[Any], /) -> Any:
        return OrderedSet(other).difference(self) if isinstance(other, AbstractSet) else NotImplemented

    def __and__(self, other: AbstractSet[Any], /) -> Any:
        return self.intersection(other) if isinstance(other, AbstractSet) else NotImplemented

    def __rand__(self, other: AbstractSet[Any], /) -> Any:
        return OrderedSet(other).intersection(self) if isinstance(other, AbstractSet) else NotImplemented

    def __xor__(self, other: AbstractSet[Any], /) -> Any:
        return self.symmetric_difference(other) if isinstance(other, AbstractSet) else NotImplemented

    def __rxor__(self, other: AbstractSet[Any], /) -> Any:
        return OrderedSet(other).symmetric_difference(self) if isinstance(other, AbstractSet) else NotImplemented


class OrderedWeakSet(WeakSet[Any]):
    """A `WeakSet` in order of insertion."""

    def __init__(self, elements: Iterable[Any] = ()) -> None:
        super().__init__()
        self.data = OrderedSet()  # the references to the elements
        self.update(elements)
