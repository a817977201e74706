"""“Did you mean …?”: the nearest of the words that would have been right."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest"]


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `word`, whatever its case; `None` when none is like it."""
    import difflib  # only ever needed on the way to an error

    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """The end of a message: `"; did you mean 'return'?"`, or nothing when no candidate is near."""
    found = nearest(word, candidates)
    return f"; did you mean {found!r}?" if found else ""
