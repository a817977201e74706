"""Limits of waits in async code, which end in real time even if the clock of the event loop stands still."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

import anyio

from .clock import is_replaced
from .hooks import exploring
from .wakeups import call_soon


@contextmanager
def limited(seconds: float | None) -> Generator[None]:
    """Leave the block after *seconds* on the loop's clock. If that is replaced, real seconds count as well."""
    with anyio.move_on_after(seconds) as scope:
        if seconds is None or not is_replaced() or exploring.get() is not None:  # an exploration has its own clock
            yield
            return
        loop = anyio.lowlevel.current_token().native_token
        is_over = False

        def expire() -> None:
            if not is_over:
                scope.cancel()

        # A thread, since no timer of the loop would come. Its own wait is C code, which is not replaced.
        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), call_soon, (loop, expire))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            is_over = True
            timer.cancel()
