"""Elapsed time in messages and tables."""

from __future__ import annotations

from datetime import datetime

from .clock import now
from .status import Waiting


def duration(seconds: float) -> str:
    """Return a duration in at most two units, such as `4.2 s`, `3 min 5 s` or `2 h 10 min`. A negative one is `0.0 s`.

    >>> from failpoints._core.elapsed import duration
    >>> duration(185.2)
    '3 min 5 s'
    """
    if seconds < 59.95:
        return f"{max(seconds, 0):.1f} s"
    minutes, whole_seconds = divmod(int(seconds), 60)
    if seconds < 3600:
        return f"{max(minutes, 1)} min {whole_seconds if minutes else 0} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def waited(waiting: Waiting, at: datetime | None = None) -> str:
    """Return how long a task or thread has waited, such as `4.2 s`."""
    return duration(((at or now()) - waiting.since).total_seconds())
