"""Makes trio run each batch of tasks in the order in which they were started.

Otherwise trio shuffles each batch with a random generator of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

import trio._core._run as trio_run

from ..replacement import Replacement

batch_hooks: Final[dict[int, Callable[[list[Any]], None]]] = {}
"""Called with each batch of tasks that are about to run, by the thread of their run. May take tasks out of it."""


class _Order:
    """Replaces trio's random generator: keeps the order in threads that explore, and shuffles in the others."""

    def __init__(self, random: Any, *, is_sorted: bool) -> None:
        self.random_before = random
        self.is_sorted_before = is_sorted

    def shuffle(self, batch: list[Any]) -> None:
        if threading.get_ident() in _ordered.threads:
            batch.reverse()  # trio takes the last one first
            hold = batch_hooks.get(threading.get_ident())
            if hold is not None:
                hold(batch)
        else:
            self.random_before.shuffle(batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.random_before, name)


def _replace() -> None:
    module: Any = trio_run
    module._r = _Order(module._r, is_sorted=module._ALLOW_DETERMINISTIC_SCHEDULING)
    module._ALLOW_DETERMINISTIC_SCHEDULING = True  # trio sorts each batch before it is shuffled


def _restore() -> None:
    module: Any = trio_run
    order: _Order = module._r
    module._r = order.random_before
    module._ALLOW_DETERMINISTIC_SCHEDULING = order.is_sorted_before


_ordered: Final = Replacement(_replace, _restore)


def deterministic_order() -> AbstractContextManager[None]:
    """Fix the order of the tasks in each batch, for the explorations of the current thread."""
    return _ordered.in_this_thread()
