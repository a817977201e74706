"""Parts of messages: “did you mean …?”, and values of any kind."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest
from itertools import islice

from ..errors import FailpointUsageError

_MAX_LENGTH = 200  # characters of a value

# Comparing two words is cubic in their length at worst, and a message must not keep the program waiting.
_LONGEST_WORD = 100
_MOST_CANDIDATES = 2_000
_MOST_COMPARED = 20  # letter by letter: those that have the most letters in common with the word
_SIMILAR = 0.6


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate most similar to *word*, ignoring case, or `None` if none is similar.

    Takes some milliseconds at most: very long words are similar to nothing, and only so many candidates are compared.
    """
    import difflib  # imported here because only error messages need it

    if len(word) > _LONGEST_WORD:
        return None
    # Words are not similar if one is more than 7/3 as long as the other, which is quickly known.
    of_similar_length = (each for each in candidates if 3 * len(each) <= 7 * len(word) <= 49 / 3 * len(each))
    by_lower = {candidate.lower(): candidate for candidate in islice(of_similar_length, _MOST_CANDIDATES)}
    matcher = difflib.SequenceMatcher(b=word.lower())

    def at_most(candidate: str) -> float:
        matcher.set_seq1(candidate)
        return matcher.quick_ratio()

    close = difflib.get_close_matches(word.lower(), nlargest(_MOST_COMPARED, by_lower, at_most), 1, _SIMILAR)
    return by_lower[close[0]] if close else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return the end of a message, `"; did you mean 'return'?"`, or nothing if no candidate is similar."""
    found = nearest(word, candidates)
    return f"; did you mean {found!r}?" if found else ""


def safe_repr(value: object) -> str:
    """Return the value's `repr` for a message, as one short line. Never raises."""
    try:
        text = repr(value)
    except Exception:  # an int with more digits than Python converts, or any error of a user's __repr__
        text = "an int too long to show" if isinstance(value, int) else object.__repr__(value)
    if "\n" in text:
        text = " ".join(text.split())
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}…"


def missing_extra(error: ModuleNotFoundError, feature: str, extra: str) -> FailpointUsageError:
    """Return the exception to raise, from *error*, when a package of an extra is not installed."""
    package = (error.name or "a package").partition(".")[0]
    return FailpointUsageError(f"{feature} needs {package}, which is not installed: pip install 'failpoints[{extra}]'")
