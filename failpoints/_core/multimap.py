"""Things kept under names, where a signal handler may come in between any two lines."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Multimap(Generic[T]):
    """Several things under each name, in the order they came; a name without things is not kept.

    A signal handler or a finalizer that adds or discards in the middle of a call, on the very thread that holds the
    registry's lock, loses nothing: each method looks again at what it has done.
    """

    def __init__(self) -> None:
        self._things: dict[str, dict[T, None]] = {}

    def add(self, name: str, thing: T) -> None:
        """Keep it under this name."""
        while thing not in self._things.get(name, {}):
            self._things.setdefault(name, {})[thing] = None

    def discard(self, name: str, thing: T) -> None:
        """Keep it no longer; no error if it is not kept."""
        things = self._things.get(name, {})
        things.pop(thing, None)
        if not things:
            for late in self._things.pop(name, {}):
                self.add(name, late)

    def under(self, name: str) -> list[T]:
        """What is kept under this name."""
        return list(self._things.get(name, ()))

    def all(self) -> list[tuple[str, T]]:
        """Everything, with its name."""
        return [(name, thing) for name in list(self._things) for thing in self.under(name)]
