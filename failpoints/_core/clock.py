"""The real time, for limits and messages, while a test has replaced the functions of `time` and `datetime`."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import Any, Final

_freezegun: Final[Any] = sys.modules.get("freezegun.api")  # which may have replaced them already


class _Real:
    """The real functions. freezegun looks for them among the attributes of modules, not of classes."""

    monotonic: staticmethod[[], float] = staticmethod(getattr(_freezegun, "real_monotonic", time.monotonic))
    datetime: type[datetime] = getattr(_freezegun, "real_datetime", datetime)


def monotonic() -> float:
    """Return the seconds on the real monotonic clock."""
    return _Real.monotonic()


def now() -> datetime:
    """Return the real date and time, in UTC."""
    return _Real.datetime.now(UTC)


def is_replaced() -> bool:
    """Return whether `time.monotonic` is another clock now. That of an event loop may then stand still."""
    return time.monotonic is not _Real.monotonic
