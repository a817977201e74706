"""Makes anyio, on asyncio, cancel nested scopes in the order in which they were entered.

anyio keeps these scopes in a set. Its order depends on memory addresses, so it differs from run to run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from anyio._backends._asyncio import CancelScope

from ..._core.reentrancy import transparent

_lock = threading.Lock()
_exploring_threads: dict[int, None] = {}  # scopes made in other threads stay as they are


class _OrderedSet(dict[Any, None]):
    """The part of a set's interface that a cancel scope uses, in order of insertion."""

    def add(self, thing: object) -> None:
        self[thing] = None

    def remove(self, thing: object) -> None:
        del self[thing]

    def discard(self, thing: object) -> None:
        self.pop(thing, None)


@contextmanager
def deterministic_order() -> Generator[None]:
    """Fix the order in which scopes are cancelled, for the explorations of the current thread."""
    scope: Any = CancelScope
    thread = threading.get_ident()
    with _lock:
        if not _exploring_threads:
            scope.__init__ = _ordering(scope.__init__)
        _exploring_threads[thread] = None
    try:
        yield
    finally:
        with _lock:
            del _exploring_threads[thread]
            if not _exploring_threads:
                scope.__init__ = scope.__init__.__wrapped__


def _ordering(init: Callable[..., None]) -> Any:
    @transparent
    def ordering(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        _order(self)

    ordering.__wrapped__ = init  # type: ignore[attr-defined]
    return ordering


def _order(scope: Any) -> None:
    if threading.get_ident() in _exploring_threads:
        scope._child_scopes = _OrderedSet()
