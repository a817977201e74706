"""Pieces of messages: “did you mean …?”, and values of any kind."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import FailpointUsageError

_MOST_SHOWN = 200  # characters of a value


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


def safe_repr(value: object) -> str:
    """The value in a message: one short line, and never what makes a program fail."""
    try:
        text = repr(value)
    except Exception:  # an int of more digits than Python writes, or whatever a __repr__ raises
        text = "an int too long to show" if isinstance(value, int) else object.__repr__(value)
    if "\n" in text:
        text = " ".join(text.split())
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def missing_extra(error: ModuleNotFoundError, who: str, extra: str) -> FailpointUsageError:
    """What to raise, from `error`, where a package of an extra is not installed."""
    package = (error.name or "a package").partition(".")[0]
    return FailpointUsageError(f"{who} needs {package}, which is not installed: pip install 'failpoints[{extra}]'")
