"""Lets the process end although an interrupted run of a test has left threads that wait for ever."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Collection

from .._explore.threads import busy_threads

_GRACE = 1.0  # seconds for the other threads to end


def exit_despite(known: Collection[threading.Thread], status: Callable[[], int]) -> None:
    """End the process at its exit, if threads that are not *known* would keep it from ending.

    A test whose run was interrupted cannot end the threads that it has started. Python waits for them at its exit.
    """

    def end() -> None:
        others = [thread for thread in busy_threads() if not thread.daemon and thread not in known]
        for thread in others:
            thread.join(_GRACE / len(others))
        waiting = [thread.name for thread in others if thread.is_alive()]
        if waiting:
            sys.stderr.write(f"failpoints: left behind by a test that did not end: {', '.join(waiting)}\n")
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status())

    threading._register_atexit(end)  # type: ignore[attr-defined]
