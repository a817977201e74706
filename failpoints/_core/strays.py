"""Strays: the visits that a registry does not reach, because their thread does not belong to it.

Nothing here takes a lock. The caller of each method holds the store's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .clock import now
from .status import Stray

_MOST_THREADS = 100  # of one failpoint: a server may start a thread for each request


class Strays:
    """The strays of one registry."""

    def __init__(self) -> None:
        self._strays: dict[str, dict[str, Stray]] = {}  # by failpoint, then by the name of the thread

    def add(self, name: str, thread: str, context: Mapping[str, Any]) -> None:
        """Count a visit in a thread."""
        strays = self._strays.setdefault(name, {})
        known = strays.get(thread)
        if known is not None:
            strays[thread] = replace(known, count=known.count + 1)
        elif len(strays) < _MOST_THREADS:
            strays[thread] = Stray(thread, context, 1, now())

    def of(self, name: str) -> tuple[Stray, ...]:
        """Return the strays of a failpoint, one for each thread, in the order of their first visits."""
        return tuple(self._strays.get(name, {}).values())

    def forget(self, name: str) -> None:
        """Forget the strays of a failpoint."""
        self._strays.pop(name, None)


def describe_stray(stray: Stray) -> str:
    """Describe the visits of one thread, for a message."""
    visits = "1 visit" if stray.count == 1 else f"{stray.count} visits"
    return f"{visits} in the thread {stray.thread!r}, which the registry does not reach"


BOUND = "start the thread with registry.bound(function), which runs inside the registry"
