"""Parts of messages: “did you mean …?”, and values of any kind."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import FailpointUsageError

_MAX_LENGTH = 200  # characters of a value


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate most similar to *word*, ignoring case, or `None` if none is similar."""
    import difflib  # imported here because only error messages need it

    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
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
