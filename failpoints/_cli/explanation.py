"""Actions read aloud: what each term does, in plain words, and which can never trigger. Pure."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, cast

from .._core.actions import (
    Action,
    Break,
    Delay,
    Exit,
    Off,
    Panic,
    Pause,
    Print,
    Raise,
    Return,
    Sleep,
    Term,
    Yield,
    named_exception,
    spelling_of,
)
from .._core.formatting import format_actions
from .._core.grammar import parse_actions, parse_entries
from .._core.messages import did_you_mean, safe_repr
from ..errors import ActionSyntaxError, FailpointNameError
from .terminal import printable

_WIDEST = 24  # characters of a term beside which its sentence stands
_LEAST_COUNTED = 1e-12  # the least chance that "1 in …" makes any plainer
_UNTIL = "waits until it is reconfigured, removed, resumed or cancelled"


@dataclass(frozen=True, slots=True)
class Explained:
    """One term: as it was written, what it does, whether it can trigger at all, and what may surprise."""

    text: str
    says: str
    never: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """All terms, and what happens when none of them triggers; `None` if one always does."""

    terms: tuple[Explained, ...]
    rest: str | None

    @property
    def sound(self) -> bool:
        """Whether every term can trigger."""
        return not any(term.never for term in self.terms)


def explain(text: str) -> Explanation:
    """Read actions aloud; raises `ActionSyntaxError`.

    >>> from failpoints._cli.explanation import explain
    >>> [term.says for term in explain("2*off->pause").terms][0]
    'the first 2 times: nothing; the hit is used up'
    """
    explained: list[Explained] = []
    before: list[Term] = []  # those that can trigger
    last: tuple[int, Term] | None = None  # the term after which none can, with its number
    for number, (piece, term) in enumerate(_pieces(text), start=1):
        if last is not None:
            never = f"can never trigger: term {last[0]} {_why_last(last[1])} hit that comes so far"
        elif term.probability == 0:
            never = "can never trigger: its chance is 0 %"
        else:
            says = f"{_when(term, before)}: {_what(term.action)}"
            explained.append(Explained(piece, says, never=False, notes=tuple(_notes(piece, term))))
            before.append(term)
            last = (number, term) if _is_last(term) else None
            continue
        explained.append(Explained(piece, never, never=True))
    return Explanation(tuple(explained), _rest(before) if last is None else None)


def explanation_lines(explanation: Explanation, width: int | None = None) -> Iterator[str]:
    """What a person reads, a line each, folded where `width` says so."""
    texts = [printable(term.text) for term in explanation.terms]
    beside = max((len(text) for text in texts if len(text) <= _WIDEST), default=0)
    digits = len(str(len(texts)))
    # Sentences stand in one column; below a term that is too long for the one before it, a sentence begins a line.
    margin = " " * (digits + 2 + beside + 2)
    for number, (text, term) in enumerate(zip(texts, explanation.terms, strict=True), start=1):
        head = f"{number:>{digits}}. {text}"
        if len(text) > beside:
            yield head
            head = ""
        yield from _folded(printable(term.says), f"{head:<{len(margin)}}", margin, width)
        for note in term.notes:
            yield from _folded(f"note: {printable(note)}", margin, f"{margin}      ", width)
    if explanation.rest is not None:
        yield from _folded(explanation.rest, margin, margin, width)


def explanation_document(text: str, explanation: Explanation) -> dict[str, Any]:
    """What a script reads, as JSON has it."""
    return {
        "actions": format_actions(parse_actions(text)),
        "terms": [
            {"text": term.text, "says": term.says, "never": term.never, "notes": list(term.notes)}
            for term in explanation.terms
        ],
        "rest": explanation.rest,
    }


def _folded(text: str, first: str, margin: str, width: int | None) -> list[str]:
    if width is None or width < len(margin) + 20:
        return [first + text]
    return wrap(text, width, initial_indent=first, subsequent_indent=margin, break_on_hyphens=False)


def _pieces(text: str) -> Iterator[tuple[str, Term]]:
    """Each term, with the part of the text that it was read from."""
    terms = _terms(text)
    start = 0
    for term in terms[:-1]:
        end = text.index("->", start)
        while not _reads_as(text[start:end], term):  # the arrow is one of an argument
            end = text.index("->", end + 1)
        yield text[start:end].strip(), term
        start = end + len("->")
    yield text[start:].strip(), terms[-1]


def _terms(text: str) -> tuple[Term, ...]:
    """The terms; whoever gives an entry of `FAILPOINTS` is told which part of it these are."""
    try:
        return parse_actions(text)
    except ActionSyntaxError as error:
        try:
            entries = parse_entries(text, "")
        except (ActionSyntaxError, FailpointNameError):
            entries = []
        if not entries:
            raise
        problem = f"expected actions alone; give only what stands after '=': {format_actions(entries[0].terms)}"
        raise ActionSyntaxError(text, error.position, problem) from None


def _reads_as(text: str, term: Term) -> bool:
    try:
        return parse_actions(text) == (term,)
    except ActionSyntaxError:
        return False


# when


def _is_certain(term: Term) -> bool:
    return term.probability == 1


def _is_last(term: Term) -> bool:
    """Whether no hit comes past this term."""
    return _is_certain(term) and (term.times is None or isinstance(term.action, Exit))


def _why_last(term: Term) -> str:
    return "ends the process at the first" if isinstance(term.action, Exit) else "takes every"


def _when(term: Term, before: Sequence[Term]) -> str:
    # However often it may happen, no process ends twice.
    times = 1 if term.times is not None and isinstance(term.action, Exit) else term.times
    how_often = [] if times is None else ["once" if times == 1 else f"{times} times"]
    if not _is_certain(term):
        chance = f"with a chance of {_percent(term.probability)}"
        limit = [f"{often} at most" for often in how_often]
        return ", ".join([*_after(before), chance, *limit])
    if not before:
        if times is None:
            return "every time"
        return "the first time" if times == 1 else f"the first {times} times"
    if _only_counts(before):
        return " ".join(["then", *(how_often or ["every time"])])
    return ", ".join(["otherwise", *(f"{often} at most" if often != "once" else often for often in how_often)])


def _after(before: Sequence[Term]) -> list[str]:
    if not before:
        return []
    return ["then" if _only_counts(before) else "otherwise"]


def _only_counts(terms: Sequence[Term]) -> bool:
    """Whether these come one after another, and none of them by chance."""
    return all(map(_is_certain, terms))


def _rest(before: Sequence[Term]) -> str:
    when = ", ".join(_after(before)) or "every time"
    return f"{when}: nothing, and the program goes on"


def _percent(probability: float) -> str:
    percentage = format_actions(Term(Off(), probability)).removesuffix("%off")
    if probability >= 0.01 or probability < _LEAST_COUNTED:
        return f"{percentage} %"
    return f"{percentage} % (1 in {round(1 / probability):,})"


# what


def _what(action: Action) -> str:
    match action:
        case Off():
            return "nothing; the hit is used up"
        case Pause(limit=None):
            return _UNTIL
        case Pause():
            return f"{_UNTIL}; after {_milliseconds(cast(float, action.limit))} raises FailpointTimeout"
        case Sleep():
            return f"waits {_milliseconds(cast(float, action.duration))}"
        case Return(value=value):
            return f"returns {safe_repr(value)}"
        case Raise():
            name, message = spelling_of(action) or ("", None)
            return f"raises {name or 'InjectedFault'}{_with(message)}"
        case Panic(message=message):
            return f"raises FailpointPanic{_with(message)}"
        case Exit(status=status):
            return f"ends the process at once, with exit status {status}"
        case Print(message=None):
            return "logs at INFO that it was reached"
        case Print(message=message):
            return f"logs {safe_repr(message)} at INFO"
        case Yield():
            return "lets other tasks (or threads) run once"
        case Delay():
            return f"blocks the thread for {_milliseconds(cast(float, action.duration))}"
        case Break():
            return "calls breakpoint()"
        case _:
            return safe_repr(action)


def _with(message: str | None) -> str:
    return "" if message is None else f" with the message {safe_repr(message)}"


def _milliseconds(duration: float) -> str:
    for unit, size in (("min", 60_000), ("s", 1000)):
        if duration >= size:
            return f"{_rounded(duration / size)} {unit}"
    return f"{_rounded(duration)} ms"


def _rounded(number: float) -> str:
    return f"{number:,.3f}".rstrip("0").rstrip(".") if number >= 0.001 else repr(number)


# what may surprise


def _notes(piece: str, term: Term) -> Iterator[str]:
    match term.action:
        case Sleep() if not re.search(r"[^\W\d]", piece):
            yield f"a bare number is a sleep in milliseconds: {format_actions(term.action)}"
        case Return(value=str(text)):
            yield (
                f"a decorated function converts {safe_repr(text)} by its convert= or its return annotation;"
                " inline it stays a text"
            )
        case Raise(error=str(name), message=message):
            yield from _notes_on_exception(name, message)
        case Panic():
            yield "it is a BaseException: no `except Exception` catches it"
        case Exit():
            yield "no `finally` runs and nothing is flushed, as in a crash"
            if term.times is not None and term.times > 1:
                yield f"it can happen only once in a process, whatever the count of {term.times} says"
        case Delay():
            yield "it blocks the event loop, too, and all its tasks; sleep(…) does not"
        case Break():
            yield "the debugger that it starts wants a terminal"
        case _:
            pass


def _notes_on_exception(name: str, message: str | None) -> Iterator[str]:
    kind = named_exception(name)
    if kind is None:
        builtin = (word for word in dir(builtins) if named_exception(word))
        yield f"{name} is no builtin exception: the site has to declare it in raises={did_you_mean(name, builtin)}"
        return
    try:
        kind(message or "")
    except Exception:
        yield f"no {name} can be made of a message alone: the site will say so in its place"
    if not issubclass(kind, Exception):
        yield f"no `except Exception` catches {name}"
    if issubclass(kind, (StopIteration, StopAsyncIteration)):
        yield f"Python makes a RuntimeError of a {name} that leaves a coroutine or a generator"
