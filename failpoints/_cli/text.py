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
