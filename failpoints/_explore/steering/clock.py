"""The time of a run, for its own threads: `time.sleep` takes no time, and `time.monotonic` and `time.time` know."""

from __future__ import annotations

import time
from collections.abc import Callable
from sys import _getframe  # pyright: ignore[reportPrivateUsage]  # imported by name, since sys._getframe can be replaced
from typing import Any, Final

from .control import steering_beside_loop

# Modules that wait for sockets, pipes and processes, in real time.
_REAL: Final = (
    *("anyio", "asyncio", "trio", "selectors", "multiprocessing", "subprocess", "socket", "ssl", "http", "urllib"),
    *("urllib3", "psycopg", "redis"),
)


def replacements() -> dict[Any, Any]:
    """Return the functions of `time` that are replaced, and what takes the place of each."""
    return {
        time.sleep: _sleeping(time.sleep),
        time.monotonic: _telling(time.monotonic),
        time.time: _telling(time.time),
    }


def _sleeping(original: Callable[[float], None]) -> Any:
    def sleep(seconds: float, /) -> None:
        found = steering_beside_loop()
        if found is None or not seconds >= 0:
            original(seconds)
        else:
            found.sleep(seconds)

    return sleep


def _telling(original: Callable[[], float]) -> Any:
    beginning = original()  # the same for all runs

    def clock() -> float:
        found = steering_beside_loop()
        if found is None or not found.is_virtual:
            return original()
        if _getframe(1).f_globals.get("__name__", "").partition(".")[0] in _REAL:
            return original()
        return beginning + found.now

    return clock
