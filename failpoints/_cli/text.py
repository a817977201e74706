"""Pieces of text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

_MAX_SITES = 3


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


def shown_sites(sites: Sequence[str]) -> str:
    """Return the first sites, and how many more there are.

    >>> from failpoints._cli.text import shown_sites
    >>> shown_sites(["a.py:1", "b.py:2", "c.py:3", "d.py:4"])
    'a.py:1, b.py:2, c.py:3 and 1 more'
    """
    more = len(sites) - _MAX_SITES
    return ", ".join(sites[:_MAX_SITES]) + (f" and {more} more" if more > 0 else "")


def times(count: int) -> str:
    """Return `once`, `2 times` and so on."""
    return "once" if count == 1 else f"{count} times"
