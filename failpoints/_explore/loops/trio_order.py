"""Makes trio run each batch of tasks in the order in which they were started.

Otherwise trio shuffles each batch with a random generator of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final

import trio._core._run as trio_run

batch_hooks: Final[dict[int, Callable[[list[Any]], None]]] = {}
"""Called with each batch of tasks that are about to run, by the thread of their run. May take tasks out of it."""

_lock = threading.Lock()


class _Order:
    """Replaces trio's random generator: keeps the order in threads that explore, and shuffles in the others."""

    def __init__(self, random: Any, *, is_sorted: bool) -> None:
        self.random_before = random
        self.is_sorted_before = is_sorted
        self.threads: dict[int, None] = {}

    def shuffle(self, batch: list[Any]) -> None:
        if threading.get_ident() in self.threads:
            batch.reverse()  # trio takes the last one first
            hold = batch_hooks.get(threading.get_ident())
            if hold is not None:
                hold(batch)
        else:
            self.random_before.shuffle(batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.random_before, name)


@contextmanager
def deterministic_order() -> Generator[None]:
    """Fix the order of the tasks in each batch, for the explorations of the current thread."""
    module: Any = trio_run
    thread = threading.get_ident()
    with _lock:
        if not isinstance(module._r, _Order):
            module._r = _Order(module._r, is_sorted=module._ALLOW_DETERMINISTIC_SCHEDULING)
            module._ALLOW_DETERMINISTIC_SCHEDULING = True  # trio sorts each batch before it is shuffled
        order: _Order = module._r
        order.threads[thread] = None
    try:
        yield
    finally:
        with _lock:
            del order.threads[thread]
            if not order.threads:
                module._r = order.random_before
                module._ALLOW_DETERMINISTIC_SCHEDULING = order.is_sorted_before
