"""Actions in plain English: what each term does, which terms can never trigger, and what may surprise. Pure."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, cast

from .._core import actions
from .._core.formatting import format_actions
from .._core.grammar import parse_actions, parse_entries
from .._core.messages import did_you_mean, safe_repr
from .._core.reachability import meant_instead, takes_every_hit
from ..errors import ActionSyntaxError, FailpointNameError
from .text import printable, times

_MAX_TERM_WIDTH = 24  # a term of more characters has its sentence on the next line
_MIN_TEXT_WIDTH = 20  # columns for a sentence; with fewer, lines are not wrapped
_SMALLEST_RATIO = 1e-12  # below this probability, "1 in …" is harder to read than the percentage
_WAITS = "waits until reconfigured, removed, resumed or cancelled"


@dataclass(frozen=True, slots=True)
class ExplainedTerm:
    """A term: its text, a sentence about it, whether it can never trigger, and notes about what may surprise."""

    text: str
    sentence: str
    never: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """All terms, and a sentence about the hits at which none triggers. It is `None` if there are no such hits."""

    terms: tuple[ExplainedTerm, ...]
    rest: str | None

    @property
    def every_term_can_trigger(self) -> bool:
        """True if no term is useless."""
        return not any(term.never for term in self.terms)


def explain(text: str) -> Explanation:
    """Explain actions. Raises `ActionSyntaxError`.

    >>> from failpoints._cli.explanation import explain
    >>> [term.sentence for term in explain("2*off->pause").terms][0]
    "the first 2 times: does nothing, but counts as the hit's action"
    """
    explained: list[ExplainedTerm] = []
    before: list[actions.Term] = []  # the earlier terms that can trigger
    last: tuple[int, actions.Term] | None = None  # the number and the term that no hit gets past
    for number, (piece, term) in enumerate(_split_terms(text), start=1):
        if last is not None:
            last_number, last_term = last
            reason = (
                "ends the process at the first hit that gets this far"
                if isinstance(last_term.action, actions.Exit)
                else "takes every hit that gets this far"
            )
            is_first = number == last_number + 1 and takes_every_hit(last_term)
            meant = meant_instead(_parse(text), last_number - 1) if is_first else ""
            explained.append(_never(piece, f"term {last_number} {reason}{meant}"))
        elif term.probability == 0:
            explained.append(_never(piece, "its chance is 0 %"))
        else:
            sentence = f"{_when(term, before)}: {_effect(term.action)}"
            explained.append(ExplainedTerm(piece, sentence, never=False, notes=tuple(_notes(piece, term))))
            before.append(term)
            if _stops_every_hit(term):
                last = (number, term)
    return Explanation(tuple(explained), _rest(before) if last is None else None)


def _never(piece: str, reason: str) -> ExplainedTerm:
    return ExplainedTerm(piece, f"can never trigger: {reason}", never=True)


def explanation_lines(explanation: Explanation, width: int | None = None) -> Iterator[str]:
    """Yield the lines to print, wrapped to *width* columns if it is given."""
    texts = [printable(term.text) for term in explanation.terms]
    text_width = max((len(text) for text in texts if len(text) <= _MAX_TERM_WIDTH), default=0)
    digits = len(str(len(texts)))
    # All sentences start in this column. That of a longer term goes on the next line.
    margin = " " * (digits + 2 + text_width + 2)
    for number, (text, term) in enumerate(zip(texts, explanation.terms, strict=True), start=1):
        head = f"{number:>{digits}}. {text}"
        if len(text) > text_width:
            yield head
            head = ""
        yield from _wrapped(printable(term.sentence), f"{head:<{len(margin)}}", margin, width)
        for note in term.notes:
            yield from _wrapped(f"note: {printable(note)}", margin, f"{margin}      ", width)
    if explanation.rest is not None:
        yield from _wrapped(explanation.rest, margin, margin, width)


def explanation_document(text: str, explanation: Explanation) -> dict[str, Any]:
    """Return an explanation as `--json` prints it."""
    return {
        "actions": format_actions(parse_actions(text)),
        "terms": [
            {"text": term.text, "says": term.sentence, "never": term.never, "notes": list(term.notes)}
            for term in explanation.terms
        ],
        "rest": explanation.rest,
    }


def _wrapped(text: str, first: str, margin: str, width: int | None) -> list[str]:
    if width is None or width < len(margin) + _MIN_TEXT_WIDTH:
        return [first + text]
    return wrap(text, width, initial_indent=first, subsequent_indent=margin, break_on_hyphens=False)


def _split_terms(text: str) -> Iterator[tuple[str, actions.Term]]:
    """Yield each term with the part of the text that it was parsed from."""
    terms = _parse(text)
    start = 0
    for term in terms[:-1]:
        end = text.index("->", start)
        while not _parses_as(text[start:end], term):  # this arrow is part of an argument
            end = text.index("->", end + 1)
        yield text[start:end].strip(), term
        start = end + len("->")
    yield text[start:].strip(), terms[-1]


def _parse(text: str) -> tuple[actions.Term, ...]:
    """Parse actions. For an entry of `FAILPOINTS`, the error names the part to give instead."""
    try:
        return parse_actions(text)
    except ActionSyntaxError as error:
        try:
            entries = parse_entries(text, "")
        except (ActionSyntaxError, FailpointNameError):
            entries = []
        if not entries:
            raise
        problem = f"expected actions without a name; give only the part after '=': {format_actions(entries[0].terms)}"
        raise ActionSyntaxError(text, error.position, problem) from None


def _parses_as(text: str, term: actions.Term) -> bool:
    try:
        return parse_actions(text) == (term,)
    except ActionSyntaxError:
        return False


# when a term triggers


def _is_certain(term: actions.Term) -> bool:
    return term.probability == 1


def _stops_every_hit(term: actions.Term) -> bool:
    """Return whether no hit gets past this term."""
    return takes_every_hit(term) or (_is_certain(term) and isinstance(term.action, actions.Exit))


def _when(term: actions.Term, before: Sequence[actions.Term]) -> str:
    # A process exits only once, whatever the count.
    most = 1 if term.times is not None and isinstance(term.action, actions.Exit) else term.times
    if not _is_certain(term):
        limit = [] if most is None else [f"at most {times(most)}"]
        return ", ".join([*_after(before), f"with a chance of {_percent(term.probability)}", *limit])
    if not before:
        if most is None:
            return "every time"
        return "the first time" if most == 1 else f"the first {most} times"
    if _all_certain(before):
        return f"then {'every time' if most is None else times(most)}"
    if most is None:
        return "otherwise"
    return "otherwise, once" if most == 1 else f"otherwise, at most {times(most)}"


def _after(before: Sequence[actions.Term]) -> list[str]:
    if not before:
        return []
    return ["then" if _all_certain(before) else "otherwise"]


def _all_certain(terms: Sequence[actions.Term]) -> bool:
    """Return whether the terms follow one another by their counts alone."""
    return all(map(_is_certain, terms))


def _rest(before: Sequence[actions.Term]) -> str:
    when = ", ".join(_after(before)) or "every time"
    return f"{when}: does nothing, and the program continues"


def _percent(probability: float) -> str:
    percentage = format_actions(actions.Term(actions.Off(), probability)).removesuffix("%off")
    if probability >= 0.01 or probability < _SMALLEST_RATIO:
        return f"{percentage} %"
    return f"{percentage} % (1 in {round(1 / probability):,})"


# what an action does


def _effect(action: actions.Action) -> str:
    match action:
        case actions.Off():
            return "does nothing, but counts as the hit's action"
        case actions.Pause(limit=None):
            return _WAITS
        case actions.Pause():
            return f"{_WAITS}, or raises FailpointTimeout after {_milliseconds(cast(float, action.limit))}"
        case actions.Sleep():
            return f"waits {_milliseconds(cast(float, action.duration))}"
        case actions.Return(value=value):
            return f"returns {safe_repr(value)}"
        case actions.Raise(error=str() | None as name, message=message):
            return f"raises {name or 'InjectedFault'}{_with_message(message)}"
        case actions.Panic(message=message):
            return f"raises FailpointPanic{_with_message(message)}"
        case actions.Exit(status=status):
            return f"ends the process at once, with exit status {status}"
        case actions.Print(message=None):
            return "logs at INFO that it was reached"
        case actions.Print(message=message):
            return f"logs {safe_repr(message)} at INFO"
        case actions.Yield():
            return "lets other tasks or threads run once"
        case actions.Delay():
            return f"blocks the thread for {_milliseconds(cast(float, action.duration))}"
        case actions.Cancel():
            return "cancels the task"
        case actions.Break():
            return "calls breakpoint()"
        case actions.Then():
            return ", then ".join(map(_effect, action.actions))
        case _:
            return safe_repr(action)


def _with_message(message: str | None) -> str:
    return "" if message is None else f" with the message {safe_repr(message)}"


def _milliseconds(duration: float) -> str:
    for unit, size in (("min", 60_000), ("s", 1000)):
        if duration >= size:
            return f"{_rounded(duration / size)} {unit}"
    return f"{_rounded(duration)} ms"


def _rounded(number: float) -> str:
    return f"{number:,.3f}".rstrip("0").rstrip(".") if number >= 0.001 else repr(number)


# what may surprise


def _notes(piece: str, term: actions.Term) -> Iterator[str]:
    for action in actions.steps(term.action):
        yield from _notes_on_action(piece, action, term.times)
    if any(map(actions.waits, actions.steps(term.action)[:-1])):
        yield "the rest is left out if a wait ends because the failpoint is reconfigured or removed"


def _notes_on_action(piece: str, action: actions.Action, times: int | None) -> Iterator[str]:
    match action:
        case actions.Sleep() if not re.search(r"[^\W\d]", piece):
            yield f"a bare number is a sleep in milliseconds: {format_actions(action)}"
        case actions.Return(value=str(text)):
            yield (
                f"a decorated function converts {safe_repr(text)} with its convert= or its return annotation,"
                " but an inline failpoint returns it as a string"
            )
        case actions.Raise(error=str(name), message=message):
            yield from _notes_on_exception(name, message)
        case actions.Panic():
            yield "FailpointPanic is a BaseException, so `except Exception` does not catch it"
        case actions.Exit():
            yield "as in a crash, no `finally` block runs and nothing is flushed"
            if times is not None and times > 1:
                yield f"a process can exit only once, although the count is {times}"
        case actions.Delay():
            yield "this blocks the event loop and all its tasks, unlike sleep(…)"
        case actions.Cancel():
            yield "trio cancels the innermost cancel scope around the site; in sync code there is nothing to cancel"
        case actions.Break():
            yield "the debugger needs a terminal"
        case _:
            pass


def _notes_on_exception(name: str, message: str | None) -> Iterator[str]:
    kind = actions.builtin_exception(name)
    if kind is None:
        known = (word for word in dir(builtins) if actions.builtin_exception(word))
        yield f"{name} is not a builtin exception, so the site must declare it in raises={did_you_mean(name, known)}"
        return
    try:
        kind(message or "")
    except Exception:
        yield f"{name} cannot be made from a message alone, so the site raises FailpointUsageError instead"
    if not issubclass(kind, Exception):
        yield f"`except Exception` does not catch {name}"
    if issubclass(kind, (StopIteration, StopAsyncIteration)):
        yield f"Python turns a {name} that leaves a coroutine or generator into a RuntimeError"
