"""Parse text to actions: `25%3*sleep(100)+return(x)->pause`. Pure.

The grammar is the `fail` crate's, with decimals in the percentage, units in durations, quoted arguments
the actions `exit`, `raise`, `cancel` and `break`, and actions joined by `+`, which run in the same visit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, cast

from ..errors import ActionSyntaxError, FailpointNameError, FailpointUsageError, pointed_at
from . import actions
from .actions import ENDS_VISIT, MAX_TIMES, Action, Term, hint_for_action, is_exception_name
from .context import Matchers
from .messages import did_you_mean, safe_repr
from .validation import check_name

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_WORD = re.compile(r"[^\W\d]\w*")
_DURATION = re.compile(
    r"([0-9]++)(?:\.([0-9]++))?+\s*+(\w*+)"
)  # possessive, so that a long wrong text is rejected at once
_MILLISECONDS = {"": 1, "ms": 1, "s": 1000, "m": 60_000}

_END_OF_NAME = re.compile(r"[\[=;]")
_END_OF_KEY = re.compile(r"[=,\[\];]")
_IN_PATTERN = re.compile(r"\\.|[][(){},]", re.DOTALL)  # an escaped character counts for nothing

# What may stand after an action's word where its parentheses were forgotten.
_EXCEPTION = re.compile(
    r"""(?P<argument>[^\W\d][\w.]*(?:\ *:[^-+;]*)?)(?:\(["']?(?P<message>[^"'()]*)["']?\))?""", re.VERBOSE
)
_WORDS = re.compile(r"(?P<argument>\w[\w .]*)")
_ELSEWHERE = re.compile(r"\s*[=%*]")  # it belongs to another term or entry
_DIGITS = re.compile(r"(?P<argument>[0-9][0-9.]*[a-z]*)")
_BARE_ARGUMENT = {
    "raise": _EXCEPTION,
    **dict.fromkeys(("return", "print", "panic"), _WORDS),
    **dict.fromkeys(("sleep", "pause", "delay", "exit"), _DIGITS),
}

_ESCAPES = {'"': '"', "\\": "\\", "n": "\n", "r": "\r", "t": "\t"}
_HEX_ESCAPES = {"x": 2, "u": 4, "U": 8}


def parse_actions(text: str) -> tuple[Term, ...]:
    """Parse actions from text, to inspect them or to configure them later.

    Takes a `str` such as `"25%3*return(x)->pause"` and returns its terms in order, at least one. Raises
    `ActionSyntaxError` for every text that cannot be parsed, and `FailpointUsageError` for a value that is not a `str`.

    >>> parse_actions("2*off->return(42)")
    (Term(action=Off(), probability=1.0, times=2), Term(action=Return(value='42'), probability=1.0, times=None))
    """
    if not isinstance(text, str):
        raise FailpointUsageError(f"parse_actions takes a text, such as 'return(42)'; got {safe_repr(text)}")
    return _Parser(text).actions()


def as_terms(actions: object) -> tuple[Term, ...]:
    """Return the terms of the actions given to `configure`. Raises `ActionSyntaxError` or `FailpointUsageError`."""
    if isinstance(actions, str):
        return parse_actions(actions)
    if not isinstance(actions, Sequence) or isinstance(actions, (bytes, bytearray)):
        return (_as_term(actions),)
    if not actions:
        raise FailpointUsageError("expected at least one action; got an empty sequence (Off() does nothing)")
    return tuple(_as_term(item) for item in cast(Sequence[object], actions))


def _as_term(item: Any) -> Term:
    if isinstance(item, Term):
        return item
    if isinstance(item, Action):
        return Term(item)
    hint = "; join the terms of a text by '->'" if isinstance(item, str) else hint_for_action(item)
    raise FailpointUsageError(
        f"actions must be a text, an action, a Term, or a sequence of actions and Terms; got {safe_repr(item)}{hint}"
    )


class Entry(NamedTuple):
    """One `name[key=pattern,…]=actions` of a list such as `FAILPOINTS`. Without brackets the context is `None`."""

    name: str
    terms: tuple[Term, ...]
    context: Mapping[str, str] | None = None


def parse_entries(text: str, source: str) -> list[Entry]:
    """Parse `name=actions;name[key=pattern]=actions`. Spaces and empty entries are skipped.

    Raises `ActionSyntaxError`, and `FailpointNameError` for a bad name or pattern. Their messages name the *source*.
    """
    parser = _Parser(text, source)
    entries: list[Entry] = []
    while parser.skip_to_entry():
        name = parser.name()
        context = parser.matchers()
        entries.append(Entry(name, parser.actions(end=";"), context))
    return entries


class _Parser:
    """A parser of one text. Every method moves it forward."""

    def __init__(self, text: str, source: str | None = None) -> None:
        self.text = text
        self.source = source
        self.at = 0

    def fail(self, problem: str, at: int | None = None) -> NoReturn:
        raise ActionSyntaxError(self.text, self.at if at is None else at, problem, self.source)

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def take(self, token: str) -> bool:
        """Move past the token, and the space before it, if it comes next. Return whether it did."""
        self.space()
        found = self.text.startswith(token, self.at)
        if found:
            self.at += len(token)
        return found

    def match(self, pattern: re.Pattern[str]) -> str | None:
        self.space()
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found.group()

    def found(self) -> str:
        """Return what comes next, for a message."""
        self.space()
        if self.at == len(self.text):
            return "found the end"
        word = _WORD.match(self.text, self.at) or _NUMBER.match(self.text, self.at)
        return f"found {_shortened(word.group() if word else self.text[self.at])}"

    # name=actions;name[key=pattern,key=pattern]=actions

    def skip_to_entry(self) -> bool:
        while self.take(";"):
            pass
        return self.at < len(self.text)

    def name(self) -> str:
        start = self.at
        stop = _END_OF_NAME.search(self.text, start)
        if stop is None or stop.group() == ";":
            self.fail("expected name=actions, found no '='", stop.start() if stop else len(self.text))
        name = self.text[start : stop.start()].strip()
        if not name:
            self.fail(f"expected a failpoint's name before {stop.group()!r}", stop.start())
        self.checked(start, check_name, name)
        self.at = stop.start()
        return name

    def checked(self, start: int, check: Callable[[Any], object], value: object) -> None:
        try:
            check(value)
        except FailpointNameError as error:
            sentence = str(error).partition("\n")[0]
            raise FailpointNameError(
                f"{self.source}: {sentence}\n{pointed_at(self.text, start)}", code=error.code
            ) from None

    def matchers(self) -> dict[str, str] | None:
        """Parse `[key=pattern,key=pattern]`, if it comes next, and the `=` after it."""
        context: dict[str, str] | None = None
        if self.take("["):
            context = {}
            while True:
                self.space()
                start = self.at
                key = self.key()
                if key in context:
                    self.fail(f"expected each key once, found {_shortened(key)} again", start)
                self.space()
                start = self.at
                context[key] = self.quoted() if self.text.startswith('"', start) else self.pattern()
                self.checked(start, Matchers, {key: context[key]})
                if self.take("]"):
                    break
                if not self.take(","):
                    self.fail(f"expected ',' or ']' after the pattern, {self.found()}")
        if not self.take("="):
            self.fail(f"expected '=' and actions after the matchers, {self.found()}")
        return context

    def key(self) -> str:
        start = self.at
        stop = _END_OF_KEY.search(self.text, start)
        key = self.text[start : stop.start()].strip() if stop else ""
        if stop is None or stop.group() != "=" or not key:
            self.fail(f"expected a key and its pattern, such as tenant_id=test_.*, {self.found()}", start)
        self.at = stop.end()
        return key

    def pattern(self) -> str:
        """Parse a pattern without quotes, up to the `,` or `]` that is in no brackets of its own."""
        start = self.at
        depth = 0
        for found in _IN_PATTERN.finditer(self.text, start):
            character = found.group()
            if not depth and character in ",]":
                self.at = found.start()
                pattern = self.text[start : self.at].strip()
                if not pattern:
                    self.fail(f'expected a pattern, found {character!r}; an empty one is written ""', start)
                return pattern
            depth += (character in "([{") - (character in ")]}")
        self.fail("expected ']' after the pattern, found the end; quote a pattern whose brackets do not balance", start)

    # actions

    def actions(self, end: str = "") -> tuple[Term, ...]:
        terms = [self.term()]
        while self.take("->"):
            terms.append(self.term())
        self.space()
        if self.at < len(self.text) and not (end and self.text.startswith(end, self.at)):
            what = f"'+', '->', {end!r} or the end" if end else "'+', '->' or the end"
            self.fail(f"expected {what} after the action, {self.found()}")
        return tuple(terms)

    def term(self) -> Term:
        probability: float | None = None
        times: int | None = None
        while True:
            self.space()
            start = self.at
            number = self.match(_NUMBER)
            if number is None:
                break
            if self.take("%"):
                if probability is not None:
                    self.fail("expected one percentage, found a second", start)
                probability = self.probability(number, start)
            elif self.take("*"):
                if times is not None:
                    self.fail("expected one count, found a second", start)
                times = self.times(number, start)
            else:
                self.at = start
                break
        return Term(self.steps(), _or_always(probability), times)

    def steps(self) -> Action:
        """Parse actions joined by `+`."""
        taken: list[Action] = []
        while True:
            self.space()
            start = self.at
            taken.append(self.step())
            if not self.take("+"):
                return taken[0] if len(taken) == 1 else actions.Then(tuple(taken))
            if isinstance(taken[-1], ENDS_VISIT):
                word = type(taken[-1]).__name__.lower()
                self.fail(f"nothing runs after {word!r}, so it must be the last of the actions joined by '+'", start)

    def step(self) -> Action:
        self.space()
        start = self.at
        number = self.match(_NUMBER)
        return self.action() if number is None else actions.Sleep(self.bare_sleep(number, start))

    def probability(self, number: str, start: int) -> float:
        if float(number) > 100:
            self.fail(f"expected a percentage from 0 to 100, found {_shortened(number)}", start)
        return float(f"{number}e-2")  # rounded only once, so that it reads back the same after formatting

    def times(self, number: str, start: int) -> int:
        digits = number.lstrip("0")
        if "." in number or not digits:
            self.fail(f"expected a count, a whole number of 1 or more, found {_shortened(number)}", start)
        if len(digits) > len(str(MAX_TIMES)) or int(digits) > MAX_TIMES:
            self.fail(f"expected a count of at most {MAX_TIMES}, found {_shortened(number)}", start)
        return int(digits)

    def bare_sleep(self, number: str, start: int) -> float:
        if self.take("%") or self.take("*"):
            self.fail("expected an action after '+'; a percentage or a count belongs to the first of them", start)
        word = _WORD.match(self.text, self.at)
        if word is not None:
            whole = f"{number}{word.group()}"
            if word.group() in _MILLISECONDS:
                self.fail(f"expected '%', '*', '+', '->' or the end after a number; did you mean 'sleep({whole})'?")
            self.fail(f"expected '%' or '*' between a number and an action, {self.found()}")
        return self.duration(number, start)

    def action(self) -> Action:
        self.space()
        start = self.at
        word = self.match(_WORD)
        if word is None:
            self.fail(f"expected an action, such as 'pause' or 'return(42)', {self.found()}", start)
        read = _ACTIONS.get(word)
        if read is None:
            hint = did_you_mean(word, _ACTIONS) or f": one of {', '.join(_ACTIONS)}"
            self.fail(f"expected an action, found {_shortened(word)}{hint}", start)
        self.space()
        if not self.text.startswith("(", self.at):
            self.check_parentheses(word)
        argument = self.argument() if self.text.startswith("(", self.at) else None
        return read(self, word, argument, start)

    def check_parentheses(self, word: str) -> None:
        """Refuse an argument without its parentheses, such as `raise OSError`, with the text that was meant."""
        pattern = _BARE_ARGUMENT.get(word)
        found = pattern.match(self.text, self.at) if pattern else None
        if found is None or found["argument"].split()[0] in _ACTIONS or _ELSEWHERE.match(self.text, found.end()):
            return
        argument, message = found["argument"].strip(), found.groupdict().get("message")
        meant = f"{word}({argument}: {message})" if message else f"{word}({argument})"
        self.fail(f"expected '(' after {word!r}; did you mean {_shortened(meant)}?")

    def argument(self) -> _Argument:
        opening = self.at
        self.at += 1
        self.space()
        start = self.at
        if self.text.startswith('"', start):
            value = self.quoted()
            if not self.take(")"):
                self.fail(f"expected ')' after the quoted argument, {self.found()}")
            return _Argument(value, start, quoted=True)
        depth = 1
        for position in range(start, len(self.text)):
            character = self.text[position]
            depth += (character == "(") - (character == ")")
            if depth == 0:
                self.at = position + 1
                return _Argument(self.text[start:position].strip(), start, quoted=False)
        self.fail("expected ')' to close this parenthesis, found the end", opening)

    def quoted(self) -> str:
        opening = self.at
        self.at += 1
        characters: list[str] = []
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == '"':
                self.at += 1
                return "".join(characters)
            characters.append(self.escape() if character == "\\" else character)
            self.at += 1
        self.fail("expected '\"' to close this string, found the end", opening)

    def escape(self) -> str:
        """Return the character of an escape sequence, and stop at its last character."""
        start = self.at
        self.at += 1
        letter = self.text[self.at : self.at + 1]
        if letter in _HEX_ESCAPES:
            count = _HEX_ESCAPES[letter]
            digits = self.text[self.at + 1 : self.at + 1 + count]
            if re.fullmatch(f"[0-9A-Fa-f]{{{count}}}", digits) and int(digits, 16) <= 0x10FFFF:
                self.at += count
                return chr(int(digits, 16))
            self.fail(f"expected {count} hexadecimal digits of a character after '\\{letter}'", start)
        if letter not in _ESCAPES or not letter:
            self.fail(r"expected one of \" \\ \n \r \t \xHH \uHHHH \UHHHHHHHH", start)
        return _ESCAPES[letter]

    # arguments

    def duration(self, text: str, at: int) -> float:
        found = _DURATION.fullmatch(text)
        if found is None or found.group(3) not in _MILLISECONDS:
            self.fail(f"expected a duration, such as 100 (milliseconds), 1.5s or 2m, found {_shortened(text)}", at)
        whole, decimals, unit = found.groups()
        factor = _MILLISECONDS[unit]
        digits = whole.lstrip("0") or "0"
        try:
            # A number of 310 digits may be too large for a float, and a longer one is. int() may refuse to read it.
            milliseconds = int(digits[:310]) * factor if decimals is None else float(f"{whole}.{decimals}") * factor
            if len(digits) < 310 and math.isfinite(milliseconds):
                return milliseconds
        except OverflowError:
            pass
        self.fail("expected a finite duration", at)


class _Argument(NamedTuple):
    text: str
    at: int
    quoted: bool


def _no_argument(make: Callable[[], Action]) -> _Read:
    def read(parser: _Parser, word: str, argument: _Argument | None, start: int) -> Action:
        if argument is not None:
            parser.fail(f"{word!r} takes no argument; write it without parentheses", argument.at)
        return make()

    return read


def _require(parser: _Parser, word: str, argument: _Argument | None, start: int, what: str) -> _Argument:
    if argument is None:
        parser.fail(f"{word!r} needs {what}", start + len(word))
    if not argument.text and not argument.quoted:
        parser.fail(f"expected {what} between the parentheses of {word!r}", argument.at)
    return argument


def _duration(make: Callable[[float], Action]) -> _Read:
    def read(parser: _Parser, word: str, argument: _Argument | None, start: int) -> Action:
        given = _require(parser, word, argument, start, "a duration, such as (100) or (1.5s)")
        return make(parser.duration(given.text, given.at))

    return read


def _optional_argument(read_given: _Read, absent: Callable[[], Action]) -> _Read:
    def read(parser: _Parser, word: str, argument: _Argument | None, start: int) -> Action:
        return absent() if argument is None else read_given(parser, word, argument, start)

    return read


def _text(make: Callable[[str], Action]) -> _Read:
    def read(parser: _Parser, word: str, argument: _Argument | None, start: int) -> Action:
        return make(_require(parser, word, argument, start, "a text").text)

    return read


def _read_return(parser: _Parser, word: str, argument: _Argument | None, start: int) -> Action:
    if argument is None or (not argument.text and not argument.quoted):
        return actions.Return()
    return actions.Return(argument.text)


def _read_raise(parser: _Parser, word: str, argument: _Argument | None, start: int) -> Action:
    given = _require(parser, word, argument, start, "an exception's name")
    name, colon, message = given.text.partition(":")
    name = name.strip()
    if not is_exception_name(name):
        parser.fail(f"expected an exception's name, such as OSError, found {_shortened(name)}", given.at)
    if not colon:
        return actions.Raise(name)
    # Only a quoted argument can have an empty message, or one with spaces at its ends.
    message = message.removeprefix(" ") if given.quoted else message.strip()
    if not message and not given.quoted:
        parser.fail("expected a message after ':'", given.at + len(given.text))
    return actions.Raise(name, message)


def _read_exit(parser: _Parser, word: str, argument: _Argument | None, start: int) -> Action:
    given = _require(parser, word, argument, start, "an exit status")
    if not re.fullmatch("0*[0-9]{1,3}", given.text, re.ASCII) or int(given.text[-3:]) > 255:
        parser.fail(f"expected an exit status from 0 to 255, found {_shortened(given.text)}", given.at)
    return actions.Exit(int(given.text[-3:]))


_Read = Callable[[_Parser, str, _Argument | None, int], Action]
_ACTIONS: dict[str, _Read] = {
    "off": _no_argument(actions.Off),
    "pause": _optional_argument(_duration(actions.Pause), actions.Pause),
    "sleep": _duration(actions.Sleep),
    "return": _read_return,
    "raise": _optional_argument(_read_raise, actions.Raise),
    "panic": _optional_argument(_text(actions.Panic), actions.Panic),
    "exit": _optional_argument(_read_exit, actions.Exit),
    "print": _optional_argument(_text(actions.Print), actions.Print),
    "yield": _no_argument(actions.Yield),
    "delay": _duration(actions.Delay),
    "cancel": _no_argument(actions.Cancel),
    "break": _no_argument(actions.Break),
}


def _or_always(probability: float | None) -> float:
    return 1.0 if probability is None else probability


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
