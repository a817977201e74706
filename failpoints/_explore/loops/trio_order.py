"""Has trio run each batch of tasks, in the runs of an exploration, in the order in which they were started.

It draws that order from a generator of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import trio._core._run as trio_run

_lock = threading.Lock()


class _Order:
    """What trio draws from: nothing in the threads that explore, its own generator in the others."""

    def __init__(self, random: Any, *, is_sorted: bool) -> None:
        self.random_before = random
        self.is_sorted_before = is_sorted
        self.threads: dict[int, None] = {}

    def shuffle(self, batch: list[Any]) -> None:
        if threading.get_ident() in self.threads:
            batch.reverse()  # trio takes the last one first
        else:
            self.random_before.shuffle(batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.random_before, name)


@contextmanager
def in_order() -> Generator[None]:
    """For the explorations of this thread."""
    module: Any = trio_run
    ident = threading.get_ident()
    with _lock:
        if not isinstance(module._r, _Order):
            module._r = _Order(module._r, is_sorted=module._ALLOW_DETERMINISTIC_SCHEDULING)
            module._ALLOW_DETERMINISTIC_SCHEDULING = True  # sorts each batch before it is shuffled
        order: _Order = module._r
        order.threads[ident] = None
    try:
        yield
    finally:
        with _lock:
            del order.threads[ident]
            if not order.threads:
                module._r = order.random_before
                module._ALLOW_DETERMINISTIC_SCHEDULING = order.is_sorted_before
