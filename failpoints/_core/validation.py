"""What calls are given, here and from another process: checked, with the same words, in one place."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from ..errors import FailpointUsageError
from .messages import safe_repr


def entry_parts(entries: Iterable[Any]) -> Iterator[Sequence[Any]]:
    """The `(name, actions)` and `(name, actions, context)` that `configure_all` was given, to be checked further."""
    if isinstance(entries, Mapping) or not isinstance(entries, Iterable):
        got = safe_repr(cast(Any, entries))
        raise FailpointUsageError(f"configure_all takes a sequence of (name, actions) entries; got {got}")
    for entry in entries:
        if not isinstance(entry, (tuple, list)) or not 2 <= len(cast(Sequence[Any], entry)) <= 3:
            got = safe_repr(cast(Any, entry))
            raise FailpointUsageError(
                f"an entry of configure_all is (name, actions) or (name, actions, context); got {got}"
            )
        yield cast(Sequence[Any], entry)


def positive(what: str, count: int) -> int:
    """The count, if it is one that can be waited for; raises `FailpointUsageError`."""
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise FailpointUsageError(f"{what} is a whole number of 1 or more; got {safe_repr(count)}")
    return count


def seconds(timeout: object) -> float | None:
    """The timeout, if it is one; the longest that a thread can wait, if it is longer than that."""
    if timeout is None:
        return None
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or not timeout >= 0:
        raise FailpointUsageError(f"timeout is a number of seconds, or None for no limit; got {safe_repr(timeout)}")
    return min(timeout, threading.TIMEOUT_MAX)
