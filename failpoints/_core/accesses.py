"""What a site declares that it touches: the texts of `reads=` and `writes=`, filled in from the context of a visit.

Only explorations need it: steps of two tasks that touch nothing in common need not be tried in both orders.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from string import Formatter
from typing import Any, Final, Literal, TypeAlias, cast

from ..errors import FailpointUsageError
from .context import Context
from .messages import did_you_mean, safe_repr, without_addresses

Mode: TypeAlias = Literal["r", "w"]

Accesses: TypeAlias = tuple[tuple[str, Mode], ...]
"""Resources by name, each with how it is touched: read or written."""

_NOT_A_KEY: Final = re.compile(r"[.\[]|^\d*$")  # but an attribute, an index, or a position

_MODES: Final[tuple[tuple[str, Mode], ...]] = (("reads=", "r"), ("writes=", "w"))


def problem_with(option: str, texts: Any) -> str | None:
    """Return why the value of `reads=` or `writes=` is invalid, or `None` if it is valid."""
    if not isinstance(texts, tuple):
        hint = ""
        if isinstance(texts, (str, list)) and texts:
            meant = (texts,) if isinstance(texts, str) else tuple(cast(list[object], texts))
            hint = f"; did you mean {safe_repr(meant)}?"
        shown = safe_repr(cast(object, texts))
        return f"{option} must be a tuple of texts, such as ('account:{{account}}',); got {shown}{hint}"
    for text in cast(tuple[object, ...], texts):
        if not isinstance(text, str) or not text:
            return f"{option} must contain only texts that name what is touched; got {safe_repr(text)}"
        try:
            _parsed(text)
        except ValueError as error:
            return f"{option} has {text!r}, which cannot be filled in: {error}"
    return None


def filled_in(reads: Sequence[str], writes: Sequence[str], context: Context) -> Accesses:
    """Return what a visit with this context declares. Raise `FailpointUsageError` if it lacks a key."""
    return tuple(
        (_filled_in(option, text, context), mode)
        for (option, mode), texts in zip(_MODES, (reads, writes), strict=True)
        for text in texts
    )


def _filled_in(option: str, text: str, context: Context) -> str:
    parts: list[str] = []
    for literal, key in _parsed(text):
        parts.append(literal)
        if key is None:
            continue
        if key not in context:
            known = ", ".join(map(str, context)) or "none"
            raise FailpointUsageError(
                f"{option} names {key!r} in {text!r}, which is not a key of the context (it has: {known})"
                f"{did_you_mean(key, map(str, context))}"
            )
        parts.append(_text(option, key, context[key]))
    return "".join(parts)


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> tuple[tuple[str, str | None], ...]:
    """Split a text into pairs of a literal and the key that follows it. Raise `ValueError` for anything but keys."""
    parts: list[tuple[str, str | None]] = []
    for literal, field, form, conversion in Formatter().parse(text):
        if field is not None and (_NOT_A_KEY.search(field) or form or conversion not in (None, "s")):
            key = _NOT_A_KEY.split(field)[0]
            hint = f"; did you mean {{{key}}}?" if key else ""
            raise ValueError(f"braces contain a key of the context, and no attribute, index or format{hint}")
        parts.append((literal, field))
    return tuple(parts)


def _text(option: str, key: str, value: object) -> str:
    if type(value) is str:
        return value
    try:
        return without_addresses(str(value))  # they differ from run to run
    except Exception as error:
        raise FailpointUsageError(
            f"{option} cannot contain {key!r}, since its str() raises {safe_repr(error)}"
        ) from error
