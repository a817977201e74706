"""A lock that survives a fork."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

_new_lock: Callable[[], threading.RLock] = threading.RLock

if not TYPE_CHECKING and sys.version_info[:2] == (3, 14):
    # CPython 3.14 lets a signal handler run after `__enter__` of a C type has acquired a lock, and before the `with`
    # block begins. Its exception would leave the lock held. No handler runs after a function written in Python.
    class _Lock(type(threading.RLock())):
        """A re-entrant lock that is free if an exception comes out of acquiring it."""

        def __enter__(self) -> Any:
            acquired: list[bool] = []
            try:
                acquired.extend(map(self.acquire, (True,)))  # in one call, so that the list has what was done
            except BaseException:
                if acquired:
                    self.release()
                raise

    _new_lock = _Lock


class ForkSafeLock:
    """A re-entrant lock that is free in a forked child, whichever thread of the parent held it: `with safe.lock:`.

    A child gets a new lock, so take it from here each time. It is not hidden behind methods of this class, so that no
    exception from a signal handler can come between acquiring it and entering the block, or before it is released.

    With `held_while_forking` a fork waits for the lock, so that the child never sees a change half done.
    `after_fork` is called in the child.
    """

    __slots__ = ("after_fork", "lock")

    def __init__(self, *, held_while_forking: bool = False) -> None:
        self.lock = _new_lock()
        self.after_fork: Callable[[], object] = lambda: None
        if not hasattr(os, "register_at_fork"):  # Windows has no fork
            return
        if held_while_forking:
            os.register_at_fork(before=lambda: self.lock.acquire(), after_in_parent=lambda: self.lock.release())
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.lock = _new_lock()
        self.after_fork()


guard: Final = ForkSafeLock(held_while_forking=True)
"""The lock of all registries. No user code runs while it is held: no predicate, no `str()`, no log handler."""
