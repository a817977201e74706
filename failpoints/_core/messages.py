"""Parts of messages: “did you mean …?”, and values of any kind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from heapq import nlargest
from itertools import islice
from typing import Any, Final, cast

from ..errors import FailpointUsageError

_MAX_LENGTH = 200  # characters of a value
_BRACKETS: Final[dict[type, tuple[str, str]]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    dict: ("{", "}"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}
_PLAIN: Final = {*_BRACKETS, str, bytes, bytearray, int, float, complex, bool, type(None), type(...)}

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")

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


def plain_repr(value: object) -> str | None:
    """Return what `safe_repr` returns, or `None` for a value whose `repr` is not that of Python's own types.

    Runs no code of the user, and takes microseconds.
    """
    try:
        return _shown(value, only_plain=True)
    except _NotPlain:
        return None


def safe_repr(value: object) -> str:
    """Return the value's `repr` for a message, as one short line. Raises nothing but `KeyboardInterrupt`.

    Of a large text or container, only as much is read as the line shows.
    """
    return _shown(value, only_plain=False)


class _NotPlain(Exception):
    pass


def _shown(value: object, *, only_plain: bool) -> str:
    parts: list[str] = []
    try:
        _write(value, parts, _MAX_LENGTH + 1, (), only_plain)
    except RecursionError:  # called where few frames are left
        parts = [object.__repr__(value)]
    text = "".join(parts)
    if "\n" in text:
        text = " ".join(text.split())
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}…"


def _write(value: Any, parts: list[str], left: int, around: tuple[int, ...], only_plain: bool) -> int:
    """Add the `repr` of a value to the parts, until no characters are *left*. Return how many are left then."""
    kind = type(cast(object, value))
    if kind in (str, bytes, bytearray) and len(value) > left:
        value = value[:left]
    elif kind in _BRACKETS and value:
        return _write_container(value, parts, left, around, only_plain)
    elif only_plain and kind not in _PLAIN:
        raise _NotPlain
    try:
        text = repr(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # an int with more digits than Python converts, or any error of a user's __repr__
        text = "an int too long to show" if isinstance(value, int) else object.__repr__(value)
    parts.append(text)
    return left - len(text)


def _write_container(value: Any, parts: list[str], left: int, around: tuple[int, ...], only_plain: bool) -> int:
    kind = type(cast(object, value))
    opening, closing = _BRACKETS[kind]
    if id(value) in around:
        parts.append(f"{opening}...{closing}")
        return left - 5
    around = (*around, id(value))
    parts.append(opening)
    left -= len(opening)
    for number, element in enumerate(_elements(value)):
        if left <= 0:
            return left
        if number:
            parts.append(", ")
            left -= 2
        if kind is dict:
            left = _write(element[0], parts, left, around, only_plain)
            parts.append(": ")
            element, left = element[1], left - 2
        left = _write(element, parts, left, around, only_plain)
    parts.append(",)" if kind is tuple and len(value) == 1 else closing)
    return left - len(closing)


def _elements(value: Any) -> Iterator[Any]:
    try:
        yield from value.items() if type(cast(object, value)) is dict else value
    except RuntimeError:  # another thread changes it
        pass


def without_addresses(text: str) -> str:
    """Return a text without the memory addresses in it, which differ from run to run."""
    return _ADDRESS.sub("", text) if " at 0x" in text else text


def missing_extra(error: ModuleNotFoundError, feature: str, extra: str) -> FailpointUsageError:
    """Return the exception to raise, from *error*, when a package of an extra is not installed."""
    package = (error.name or "a package").partition(".")[0]
    sentence = f"{feature} needs {package}, which is not installed: pip install 'failpoints[{extra}]'"
    return FailpointUsageError(sentence, code="FP018")
