"""A lock that survives a fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable


class ForkSafeLock:
    """A re-entrant lock that is free in a forked child, whichever thread of the parent held it: `with safe.lock:`.

    A child gets a new lock, so take it from here each time. It is a plain `RLock`, and not hidden behind methods of
    this class, so that no exception from a signal handler can come between acquiring it and entering the block.

    With `held_while_forking` a fork waits for the lock, so that the child never sees a change half done.
    `after_fork` is called in the child.
    """

    __slots__ = ("_after_fork", "lock")

    def __init__(self, *, held_while_forking: bool = False, after_fork: Callable[[], object] = lambda: None) -> None:
        self.lock = threading.RLock()
        self._after_fork = after_fork
        if not hasattr(os, "register_at_fork"):  # Windows has no fork
            return
        if held_while_forking:
            os.register_at_fork(before=lambda: self.lock.acquire(), after_in_parent=lambda: self.lock.release())
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.lock = threading.RLock()
        self._after_fork()
