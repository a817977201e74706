"""The configurations of one name, and which of them are in force."""

from __future__ import annotations

from typing import NamedTuple

from .configuration import Configuration


class _Entry(NamedTuple):
    """A configuration, and those that it hides until its block is left."""

    configuration: Configuration
    replaced: frozenset[Configuration]


class Stack:
    """The configurations of one name, newest first. A stack never changes: each change makes another one.

    A configuration replaces the one with equal matchers or, if it has none, all of them. If a block made it, it only
    hides them, and they return when the block is left. So leaving a block has the same result as if the block had
    never been entered, in whatever order blocks are left.
    """

    __slots__ = ("_entries", "current", "may_return", "needs_hit")

    def __init__(self, entries: tuple[_Entry, ...] = ()) -> None:
        self._entries = entries
        hidden = frozenset[Configuration]().union(*(entry.replaced for entry in entries))
        self.current = tuple(entry.configuration for entry in entries if entry.configuration not in hidden)
        """The configurations in force, newest first."""
        self.may_return = any(configuration.may_return for configuration in self.current)
        self.needs_hit = any(each.matchers.given or each.may_wait for each in self.current)

    def __bool__(self) -> bool:
        return bool(self.current)

    def configurations(self) -> tuple[Configuration, ...]:
        """Return all configurations, the hidden ones included."""
        return tuple(entry.configuration for entry in self._entries)

    def with_newest(self, newest: Configuration) -> Stack:
        """Return the stack with one more configuration. Compares matchers, which may run the user's code."""
        replaced = frozenset(each for each in self.configurations() if newest.replaces(each))
        if newest.for_block:
            return Stack((_Entry(newest, replaced), *self._entries))
        kept = (entry for entry in self._entries if entry.configuration not in replaced)
        return Stack((_Entry(newest, frozenset()), *kept))

    def without(self, configuration: Configuration) -> Stack:
        """Return the stack without a configuration, so that those which it hid are in force again."""
        return Stack(tuple(entry for entry in self._entries if entry.configuration is not configuration))


NO_CONFIGURATIONS = Stack()
