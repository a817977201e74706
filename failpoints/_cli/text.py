"""Pieces of text for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return the text with every character that cannot be printed escaped, such as `\x1b`, so that it is one line.

    >>> from failpoints._cli.text import printable
    >>> print(printable("a\x1b[2Jb"))
    a\x1b[2Jb
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def times(count: int) -> str:
    """Return `once`, `2 times` and so on."""
    return "once" if count == 1 else f"{count} times"


def duration(seconds: float) -> str:
    """Return a duration in at most two units, such as `4.2 s`, `3 min 5 s` or `2 h 10 min`. A negative one is `0.0 s`.

    >>> from failpoints._cli.text import duration
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
