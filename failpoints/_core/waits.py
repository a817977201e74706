"""Waiting, in a task or a thread, until a failpoint is hit or paused."""

from __future__ import annotations

import math
from typing import Final

from ..errors import FailpointTimeout, FailpointUsageError
from .clock import monotonic
from .limits import limited
from .store import Store
from .validation import seconds
from .wakeups import Ended, TaskWakeup, ThreadWakeup, on_event_loop
from .watches import Watch

DEFAULT_LIMIT: Final = 60.0
"""The limit of a wait that is given none, in seconds: a wait for something that never happens must not hang a test."""


_LOOK: Final = 0.01  # seconds


async def wait(store: Store, watch: Watch, timeout: float | None) -> None:
    """Wait in a task until the watch has ended, for *timeout* seconds at most."""
    __tracebackhide__ = True  # so that pytest shows a timeout at the test's own line
    timeout = seconds(DEFAULT_LIMIT if timeout is None else timeout)
    try:
        with limited(timeout):
            while not store.has_ended(watch, wakeup := TaskWakeup()):
                await wakeup.wait(_interval(store))
            return
        if not store.has_ended(watch):
            raise _timeout(store, watch, timeout)
    finally:
        store.unwatch(watch)


def wait_sync(store: Store, watch: Watch, timeout: float | None) -> None:
    """Wait in a thread without an event loop until the watch has ended, for *timeout* seconds at most."""
    __tracebackhide__ = True
    timeout = seconds(DEFAULT_LIMIT if timeout is None else timeout)
    if on_event_loop():
        raise FailpointUsageError(
            f"waiting for {watch.name!r} here would block the event loop of this thread: use the wait without"
            " _sync, with await",
            code="FP013",
        )
    deadline = monotonic() + (math.inf if timeout is None else timeout)
    try:
        while not store.has_ended(watch, wakeup := ThreadWakeup()):
            interval = _interval(store)
            left = max(deadline - monotonic(), 0)
            ended = wakeup.wait(left if interval is None else min(left, interval))
            if ended is Ended.EXPIRED and monotonic() >= deadline and not store.has_ended(watch):
                raise _timeout(store, watch, timeout)
    finally:
        store.unwatch(watch)


def _interval(store: Store) -> float | None:
    """Return after how many seconds to look again, if the wait is also for other processes, which wake nothing here."""
    return None if store.others is None else _LOOK


def _timeout(store: Store, watch: Watch, timeout: float | None) -> FailpointTimeout:
    # Imported here, because it brings in the scanner of source code, which few programs ever need.
    from .diagnosis import diagnosis

    status = store.status(watch.name) if watch.configuration is None else store.status_of(watch.configuration)
    described = diagnosis(status, elsewhere=store.statuses())
    return FailpointTimeout(f"{watch.shortfall()} within {timeout:g} s\n{described}", status)
