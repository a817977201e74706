"""Followers: they learn which failpoints of a store have changed, in whatever way.

Nothing here takes a lock. The caller of each method holds the store's.
"""

from __future__ import annotations

import threading

from .wakeups import Wakeup, owe


class Follower:
    """The names that have changed since they were last taken. Many changes of a name count as one.

    It wakes its task once, and again only after the task has taken the names. So a program that visits a failpoint many
    times is not slowed down by it.
    """

    __slots__ = ("_changed", "_wakeup", "thread")

    def __init__(self) -> None:
        self._changed: dict[str, None] = {}
        self._wakeup: Wakeup | None = None
        self.thread = threading.get_ident()

    def note(self, name: str) -> None:
        """Note that a failpoint has changed, and owe the wakeup."""
        self._changed[name] = None
        if self._wakeup is not None:
            owe(self._wakeup)
            self._wakeup = None

    def take(self, wakeup: Wakeup) -> list[str]:
        """Return the names that have changed since. If there are none, `note` wakes *wakeup*."""
        self._wakeup = wakeup  # first, since a signal handler can note a name between any two lines
        names = list(self._changed)
        for name in names:
            self._changed.pop(name, None)
        if names:
            self._wakeup = None
        return names


class Followers:
    """The followers of one store."""

    def __init__(self) -> None:
        self.present: dict[Follower, None] = {}
        """The followers. Each visit of a configured failpoint asks whether there are any."""

    def add(self, follower: Follower) -> None:
        """Keep the follower informed of changes."""
        self.present[follower] = None

    def discard(self, follower: Follower) -> None:
        """Forget the follower. Does nothing if it is not known."""
        self.present.pop(follower, None)

    def note(self, name: str) -> None:
        """Note that a failpoint has changed."""
        for follower in list(self.present):
            follower.note(name)

    def forget_other_threads(self) -> None:
        """Forget, after a fork, the followers of threads that this process does not have."""
        for follower in list(self.present):
            if follower.thread != threading.get_ident():
                self.discard(follower)
