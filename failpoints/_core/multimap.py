"""A multimap that stays consistent if a signal handler changes it halfway through an operation."""

from __future__ import annotations

from collections.abc import Collection
from typing import Generic, TypeVar

T = TypeVar("T")


class Multimap(Generic[T]):
    """Several items for each name, in the order in which they were added. A name without items is not kept.

    If a signal handler or a finalizer adds or discards items in the middle of a call, on the thread that holds the
    lock, no item is lost: each method checks its own result.
    """

    def __init__(self) -> None:
        self._items: dict[str, dict[T, None]] = {}
        self.names: Collection[str] = self._items.keys()
        """The names that have items, always as they are now."""

    def add(self, name: str, item: T) -> None:
        """Add an item under a name."""
        while item not in self._items.get(name, {}):
            self._items.setdefault(name, {})[item] = None

    def discard(self, name: str, item: T) -> None:
        """Remove an item. Does nothing if it is not there."""
        items = self._items.get(name, {})
        items.pop(item, None)
        if not items:
            for late in self._items.pop(name, {}):
                self.add(name, late)

    def under(self, name: str) -> list[T]:
        """Return the items of a name."""
        return list(self._items.get(name, ()))

    def all(self) -> list[tuple[str, T]]:
        """Return every item with its name."""
        return [(name, item) for name in list(self._items) for item in self.under(name)]
