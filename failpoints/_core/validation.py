"""Checks of arguments, with one wording for all functions that take them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from ..errors import FailpointNameError, FailpointUsageError, pointed_at
from .messages import safe_repr

_RESERVED = re.compile(r"[ =;\[\]]")  # a space is the only printable white space


def check_name(name: object) -> str:
    """Return the name if it can be a failpoint's. Raises `FailpointNameError` if not."""
    if not isinstance(name, str):
        raise FailpointNameError(f"a failpoint's name must be a str; got {safe_repr(name)}")
    if not name:
        raise FailpointNameError("a failpoint's name cannot be empty")
    if is_name(name):
        return name
    position = next(at for at, character in enumerate(name) if character in " =;[]" or not character.isprintable())
    raise FailpointNameError(
        f"a failpoint's name must be printable, without white space, '=', ';', '[' or ']'; got {safe_repr(name)}\n"
        f"{pointed_at(name, position)}"
    )


def is_name(text: str) -> bool:
    """Return whether a text can be a failpoint's name."""
    return bool(text) and text.isprintable() and not _RESERVED.search(text)


def entry_parts(entries: Iterable[Any]) -> Iterator[Sequence[Any]]:
    """Yield the entries given to `configure_all`, each `(name, actions)` or `(name, actions, context)`."""
    if isinstance(entries, Mapping) or not isinstance(entries, Iterable):
        got = safe_repr(cast(Any, entries))
        raise FailpointUsageError(f"configure_all takes a sequence of (name, actions) entries; got {got}")
    for entry in entries:
        if not isinstance(entry, (tuple, list)) or not 2 <= len(cast(Sequence[Any], entry)) <= 3:
            got = safe_repr(cast(Any, entry))
            raise FailpointUsageError(
                f"an entry of configure_all must be (name, actions) or (name, actions, context); got {got}"
            )
        yield cast(Sequence[Any], entry)


def check_count(what: str, count: object, least: int = 1, most: int | None = None) -> int:
    """Return the count if it is a whole number in the range. Raises `FailpointUsageError` if not."""
    if isinstance(count, int) and not isinstance(count, bool) and least <= count and (most is None or count <= most):
        return count
    wanted = f"of {least} or more" if most is None else f"from {least} to {most}"
    raise FailpointUsageError(f"{what} must be a whole number {wanted}; got {safe_repr(count)}")


def seconds(timeout: object) -> float | None:
    """Return the timeout, but not more than a thread can wait. Raises `FailpointUsageError` if it is not one."""
    if timeout is None:
        return None
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or not timeout >= 0:
        raise FailpointUsageError(
            "timeout must be a number of seconds (math.inf for no limit), or None for the default;"
            f" got {safe_repr(timeout)}"
        )
    return min(timeout, threading.TIMEOUT_MAX)
