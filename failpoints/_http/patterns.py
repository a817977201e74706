"""Patterns of matchers that come over HTTP, which are matched in linear time: one that is not could stop the program.

Python's `re` holds the interpreter's lock during a match, and may take exponential time. So the pattern is parsed by
the parser of `re`. If it is so simple that `re` matches it in linear time, `re` does. Any other is translated for RE2,
with the characters that `re` has in each set, so that it matches the same texts. What RE2 cannot match, or matches in
another way, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from importlib import import_module
from itertools import accumulate
from typing import Any, cast

from .._core.context import CompiledPattern
from .._core.messages import safe_repr
from ..errors import FailpointNameError
from .budget import Budget

_parser: Any = import_module("re._parser")  # docs/internals.md lists this private name
_re2: Any = None
with suppress(ImportError):
    _re2 = import_module("re2")
    if not hasattr(_re2, "Options"):  # another project's module of that name
        _re2 = None

MAX_PATTERN = 10_000  # characters

_SIMPLE = 1_000  # characters of a pattern that `re` may match: a match takes this times the length of the value at most
_LAST = 0x10FFFF  # which stands for lone surrogates too, since RE2 takes UTF-8
_SURROGATES = (0xD800, 0xDFFF)

# Units of the budget.
_CHARACTER_COST = 5  # to parse
_NESTED_PER_UNIT = 5  # characters: the parser looks at each of them once for each group around it
_SET_COST = 20  # to compile
_LARGE_SET_COST = 1_500  # for more than Latin-1, or without case
_INSTRUCTION_COST = 2  # of RE2
_TOO_LARGE_COST = 200_000

_Tree = Sequence[tuple[Any, Any]]
_Ranges = list[tuple[int, int]]
_Match = Callable[[str], object]


class _Refused(Exception):
    """A part of a pattern that is not matched in linear time, or not in the same way."""


class Compiler:
    """Compiles the patterns of one request, as its *budget* allows.

    With *allow_any*, `re` matches what cannot be matched in linear time. Without, it is refused.
    """

    def __init__(self, budget: Budget, *, allow_any: bool) -> None:
        self._budget = budget
        self._allow_any = allow_any

    def matchers(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the matchers with their patterns compiled. Raises `FailpointNameError` for one that is refused."""
        return {
            key: CompiledPattern(matcher, _compiled(key, matcher, self._budget, allow_any=self._allow_any))
            if isinstance(matcher, str)
            else matcher
            for key, matcher in given.items()
        }


def _compiled(key: str, pattern: str, budget: Budget, *, allow_any: bool) -> _Match:
    """Return a function that matches a whole text, as `re.compile(pattern).fullmatch` does, and in linear time."""
    if len(pattern) > MAX_PATTERN:
        raise FailpointNameError(
            f"the pattern for {safe_repr(key)} must have at most {MAX_PATTERN} characters; got {len(pattern)}",
            code="FP003",
        )
    budget.spend(_CHARACTER_COST * len(pattern) + _deepest_nesting(pattern) * len(pattern) // _NESTED_PER_UNIT)
    try:
        tree = _parser.parse(pattern)
        budget.spend(_set_costs(tree, tree.state.flags))
        if len(pattern) <= _SIMPLE and _repeats(tree) <= 1:
            return re.compile(pattern).fullmatch
        return _linear(tree, budget)
    except _Refused as refusal:
        if allow_any:
            return re.compile(pattern).fullmatch
        raise FailpointNameError(
            f"the pattern for {safe_repr(key)} is not accepted from outside, because {refusal}: simplify"
            f" {safe_repr(pattern)}, or let the control plane accept any pattern"
            " (FAILPOINTS_HTTP_ALLOW=any-pattern, or admin_app(allow_any_pattern=True))",
            code="FP003",
        ) from None
    except RecursionError:
        raise FailpointNameError(f"the pattern for {safe_repr(key)} is nested too deeply") from None
    except (re.error, ValueError, OverflowError, Warning) as error:  # a warning if the program makes them errors
        raise FailpointNameError(
            f"the pattern for {safe_repr(key)} is not a valid regular expression: {safe_repr(pattern)}: {error}",
            code="FP003",
        ) from None


def _deepest_nesting(pattern: str) -> int:
    """Return how many groups are around any character at most."""
    return max(accumulate((each == "(") - (each == ")") for each in pattern), default=0)


# patterns that `re` matches in linear time

_CHARACTERS = {"LITERAL", "NOT_LITERAL", "ANY", "IN"}
_REPEATS = {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}
_MANY = 2  # or more


def _repeats(tree: _Tree, *, last: bool = True) -> int:
    """Return how many single characters are repeated a variable number of times on the way through a pattern.

    With one of them, and no other choice but a last one between alternatives, a match tries each length once. *last* is
    whether nothing follows.
    """
    found = 0
    for position, (op, argument) in enumerate(tree):
        ends = last and position == len(tree) - 1
        if op.name in _REPEATS:
            least, most, repeated = argument
            if len(repeated) != 1 or repeated[0][0].name not in _CHARACTERS:
                return _MANY
            found += least != most
        elif op.name == "SUBPATTERN":
            found += _repeats(argument[-1], last=ends)
        elif op.name == "BRANCH" and ends:
            found += max(map(_repeats, argument[1]))
        elif op.name not in _CHARACTERS and op.name != "AT":
            return _MANY
    return found


def _set_costs(tree: _Tree, flags: int) -> int:
    """Return what it costs to compile the sets of a pattern."""
    cost = 0
    for op, argument in tree:
        if op.name == "IN":
            cost += _LARGE_SET_COST if flags & re.IGNORECASE or any(map(_is_large, argument)) else _SET_COST
        for inner in _inner(op.name, argument):
            cost += _set_costs(inner, flags | (argument[1] if op.name == "SUBPATTERN" else 0))
    return cost


def _is_large(item: tuple[Any, Any]) -> bool:
    kind, value = item
    return kind.name == "CATEGORY" or (kind.name == "RANGE" and cast(int, value[1]) > 0xFF)


def _inner(op: str, argument: Any) -> Sequence[_Tree]:
    match op:
        case "BRANCH":
            return cast(Sequence[_Tree], argument[1])
        case "SUBPATTERN" | "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            return [argument[-1]]
        case "ATOMIC_GROUP":
            return [argument]
        case "ASSERT" | "ASSERT_NOT":
            return [argument[1]]
        case "GROUPREF_EXISTS":
            return [each for each in argument[1:] if each is not None]
        case _:
            return []


# patterns that RE2 matches


def _linear(tree: Any, budget: Budget) -> _Match:
    if _re2 is None:
        raise _Refused("matching it in linear time takes google-re2, which is not installed (pip install google-re2)")
    translated = _sequence(tree, tree.state.flags, last=True)
    budget.spend(len(translated) // 10)
    options = _re2.Options()
    options.log_errors = False
    options.never_capture = True
    try:
        compiled = _re2.compile(translated.encode(), options)
    except _re2.error:  # a count of more than 1,000, or a program of more than 8 MiB
        budget.spend(_TOO_LARGE_COST)
        raise _Refused("it repeats too much") from None
    budget.spend(_INSTRUCTION_COST * compiled.programsize)
    return partial(_matches, compiled.fullmatch)


def _matches(fullmatch: Callable[[bytes], object], text: str) -> object:
    try:
        encoded = text.encode()
    except UnicodeEncodeError:  # no pattern tells lone surrogates from this character
        encoded = re.sub("[\ud800-\udfff]", chr(_LAST), text).encode()
    return fullmatch(encoded)


def _sequence(tree: _Tree, flags: int, *, last: bool) -> str:
    """Translate a pattern. *last* is whether nothing follows it."""
    return "".join(
        _item(op.name, argument, flags, last=last and position == len(tree) - 1)
        for position, (op, argument) in enumerate(tree)
    )


def _item(op: str, argument: Any, flags: int, *, last: bool) -> str:
    match op:
        case "LITERAL" | "NOT_LITERAL":
            return _set(_ranges_of("LITERAL", argument, flags), negated=op == "NOT_LITERAL")
        case "ANY":
            return "(?s:.)" if flags & re.DOTALL else r"[^\n]"
        case "IN":
            negated = argument[0][0].name == "NEGATE"
            ranges = [one for kind, value in argument for one in _ranges_of(kind.name, value, flags)]
            return _set(ranges, negated=negated)
        case "BRANCH":
            return f"(?:{'|'.join(_sequence(each, flags, last=last) for each in argument[1])})"
        case "SUBPATTERN":
            _, added, removed, inner = argument
            if added & (re.ASCII | re.UNICODE):
                flags &= ~(re.ASCII | re.UNICODE)
            return f"(?:{_sequence(inner, (flags | added) & ~removed, last=last)})"
        case "MAX_REPEAT" | "MIN_REPEAT":  # which differ only in what they try first
            least, most, inner = argument
            bounds = f"{least}," if most is _parser.MAXREPEAT else f"{least},{most}"
            return f"(?:{_sequence(inner, flags, last=False)}){{{bounds}}}"
        case "AT":
            return _place(argument.name, flags, last=last)
        case _:
            raise _Refused(f"{_UNSUPPORTED.get(op, 'a part of it')} is not matched in linear time")


_UNSUPPORTED = {
    "ASSERT": "a look-around such as (?=…)",
    "ASSERT_NOT": "a look-around such as (?!…)",
    "FAILURE": "a look-around such as (?!…)",
    "ATOMIC_GROUP": "an atomic group (?>…)",
    "POSSESSIVE_REPEAT": "a possessive repetition such as *+",
    "GROUPREF": "a reference to a group",
    "GROUPREF_EXISTS": "a reference to a group",
}


def _place(place: str, flags: int, *, last: bool) -> str:
    match place:
        case "AT_BEGINNING":
            return "(?m:^)" if flags & re.MULTILINE else r"\A"
        case "AT_BEGINNING_STRING":
            return r"\A"
        case "AT_END" if flags & re.MULTILINE:
            return "(?m:$)"
        case "AT_END" if not last:
            raise _Refused(r"$ before the end, which also stands before a final newline, means something else in RE2")
        case "AT_END" | "AT_END_STRING":
            return r"\z"
        case "AT_BOUNDARY" if flags & re.ASCII:
            return r"\b"
        case _:
            raise _Refused(r"\b (without (?a)) and \B mean something else in RE2")


# sets of characters


def _set(ranges: _Ranges, *, negated: bool) -> str:
    ranges = _merged(ranges)
    if negated:
        ranges = _complement(ranges)
    stand_in = _contains(ranges, _LAST, _LAST)
    if _contains(ranges, *_SURROGATES) != stand_in or _contains(_complement(ranges), *_SURROGATES) == stand_in:
        raise _Refused("it tells surrogates, or U+10FFFF, from other characters")
    if len(ranges) == 2 and chr(ranges[0][1]).swapcase() == chr(ranges[1][0]):
        # RE2 takes [Ss] for (?i:s), and then [Ss]|é matches U+017F too. No text that it is given has a surrogate.
        ranges.append((_SURROGATES[0], _SURROGATES[0]))
    if not ranges:
        return rf"[^\x00-\x{{{_LAST:X}}}]"
    return f"[{''.join(map(_range, ranges))}]" if len(ranges) > 1 or ranges[0][0] != ranges[0][1] else _range(ranges[0])


def _range(one: tuple[int, int]) -> str:
    start, end = one
    return rf"\x{{{start:X}}}" if start == end else rf"\x{{{start:X}}}-\x{{{end:X}}}"


def _ranges_of(kind: str, value: Any, flags: int) -> _Ranges:
    match kind:
        case "LITERAL" | "RANGE":
            one = (value, value) if kind == "LITERAL" else value
            return _ignoring_case(*one, ascii_only=bool(flags & re.ASCII)) if flags & re.IGNORECASE else [one]
        case "CATEGORY":
            name: str = value.name.removeprefix("CATEGORY_")
            ranges = _category(name.removeprefix("NOT_"), bool(flags & re.ASCII))
            return _complement(ranges) if name.startswith("NOT_") else ranges
        case _:  # NEGATE, which stands first
            return []


_CLASSES = {"DIGIT": r"\d+", "SPACE": r"\s+", "WORD": r"\w+"}


@lru_cache
def _category(name: str, ascii_only: bool) -> _Ranges:
    """Return the characters of a class: those in which this version of `re` finds it."""
    characters = "".join(map(chr, range(128 if ascii_only else _LAST + 1)))
    flags = re.ASCII if ascii_only else re.UNICODE
    return [(found.start(), found.end() - 1) for found in re.finditer(_CLASSES[name], characters, flags)]


# What else than the other case of an ASCII letter is equal to it for `re`, if case is ignored.
_MANY_CHARACTERS = 1_000
_MORE_CASES = {"i": "\u0130\u0131", "s": "\u017f", "k": "\u212a"}


def _ignoring_case(start: int, end: int, *, ascii_only: bool) -> _Ranges:
    folded = [(start, end)]
    for character in map(chr, range(start, min(end, 0x7F) + 1)):
        if character.isalpha():
            more = character.swapcase() + ("" if ascii_only else _MORE_CASES.get(character.lower(), ""))
            folded += [(ord(each), ord(each)) for each in more]
    others = range(max(start, 0x80), end + 1)
    if not ascii_only and (len(others) > _MANY_CHARACTERS or any(map(_is_cased, others))):
        raise _Refused("it ignores the case of other letters than those of ASCII, which must be written as in [äÄ]")
    return folded


def _is_cased(code: int) -> bool:
    character = chr(code)
    return not character.lower() == character == character.upper()


def _merged(ranges: _Ranges) -> _Ranges:
    merged: _Ranges = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _complement(ranges: _Ranges) -> _Ranges:
    """Return the characters that are not in the ranges, which are sorted."""
    starts = [0, *(end + 1 for _, end in ranges)]
    ends = [*(start - 1 for start, _ in ranges), _LAST]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if start <= end]


def _contains(ranges: _Ranges, start: int, end: int) -> bool:
    """Return whether one of the ranges contains all of these characters."""
    return any(one <= start and end <= other for one, other in ranges)
