"""Texts for a terminal: nothing in them moves its cursor, and durations are as a person says them. Pure."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""The text on one line, control characters and what else cannot be seen written as escapes: `\x1b`.

    >>> from failpoints._cli.terminal import printable
    >>> print(printable("a\x1b[2Jb"))
    a\x1b[2Jb
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def lasting(seconds: float) -> str:
    """How long something has lasted: `4.2 s`, `3 min 5 s`, `2 h 10 min`; never less than nothing.

    >>> from failpoints._cli.terminal import lasting
    >>> lasting(185.2)
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
