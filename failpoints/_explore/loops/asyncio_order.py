"""Has anyio cancel, in the runs on asyncio, what is inside a scope in the order in which it was entered.

It keeps these in a set, whose order is that of addresses in memory: another one in every run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from anyio._backends._asyncio import CancelScope

from ..._core.own_calls import passes_on

_lock = threading.Lock()
ordering_threads: dict[int, None] = {}
"""The threads that explore on asyncio now; scopes that are made in others stay as they are."""


class _OrderedSet(dict[Any, None]):
    """As much of a set as a cancel scope needs."""

    def add(self, thing: object) -> None:
        self[thing] = None

    def remove(self, thing: object) -> None:
        del self[thing]

    def discard(self, thing: object) -> None:
        self.pop(thing, None)


@contextmanager
def in_order() -> Generator[None]:
    """For the explorations of this thread."""
    scope: Any = CancelScope
    ident = threading.get_ident()
    with _lock:
        if not ordering_threads:
            scope.__init__ = _ordering(scope.__init__)
        ordering_threads[ident] = None
    try:
        yield
    finally:
        with _lock:
            del ordering_threads[ident]
            if not ordering_threads:
                scope.__init__ = scope.__init__.__wrapped__


def _ordering(init: Callable[..., None]) -> Any:
    @passes_on
    def ordering(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        _order(self)

    ordering.__wrapped__ = init  # type: ignore[attr-defined]
    return ordering


def _order(scope: Any) -> None:
    if threading.get_ident() in ordering_threads:
        scope._child_scopes = _OrderedSet()
