"""Write actions as text: the inverse of the grammar, and the wording of actions in messages. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..errors import FailpointUsageError
from . import actions
from .actions import Action, Actions, Term, Then, spelling_of
from .grammar import as_terms
from .messages import safe_repr

if TYPE_CHECKING:
    from decimal import Decimal


def format_actions(actions: Actions) -> str:
    """Write actions as text, to hand them to another process: the inverse of `parse_actions`.

    Takes the same actions as `configure`, and returns a `str` that `parse_actions` reads back. Raises
    `FailpointUsageError` for an action without a text form: a `Call`, a `Return` of a value other than a `str` or
    `None`, or an exception that cannot be made from its name and a message.

    >>> format_actions([Term(Return("42"), probability=0.25), Pause()])
    '25%return(42)->pause'
    """
    return "->".join(_format_term(term) for term in as_terms(actions))


def describe_actions(actions: Actions) -> str:
    """Describe actions for a log or a message: as text or, for an action without a text form, as Python."""
    return "->".join(_spelled_term(term) for term in as_terms(actions))


def action_label(action: Action) -> str:
    """Return the text of an action or, if it has none, a label that is the same in every run."""
    if isinstance(action, Then):
        return "+".join(map(action_label, action.actions))
    try:
        return _format_action(action)
    except FailpointUsageError:
        called = getattr(action, "function", None)
        return f"{type(action).__name__}({getattr(called, '__qualname__', '…')})"


def _format_term(term: Term) -> str:
    percentage = "" if term.probability == 1 else f"{_percentage(term.probability)}%"
    times = "" if term.times is None else f"{term.times}*"
    return f"{percentage}{times}{_format_action(term.action)}"


def _spelled_term(term: Term) -> str:
    try:
        return _format_term(term)
    except FailpointUsageError:
        return safe_repr(term.action if term == Term(term.action) else term)


def _format_action(action: Action) -> str:
    word = type(action).__name__.lower()
    match action:
        case actions.Off() | actions.Yield() | actions.Cancel() | actions.Break():
            return word
        case actions.Pause(limit=duration) | actions.Sleep(duration=duration) | actions.Delay(duration=duration):
            return word if duration is None else f"{word}({_plain(cast(float, duration))})"
        case actions.Exit(status=status):
            return word if status == 1 else f"{word}({status})"
        case actions.Return(value=text) | actions.Panic(message=text) | actions.Print(message=text):
            if text is None:
                return word
            if isinstance(text, str):
                return f"{word}({_format_text(text)})"
        case Then():
            return "+".join(map(_format_action, action.actions))
        case actions.Raise():
            spelling = spelling_of(action)
            if spelling is not None:
                return _format_raise(*spelling)
        case _:
            pass
    raise FailpointUsageError(f"{safe_repr(action)} has no text: it can be configured from Python only")


def _format_raise(name: str, message: str | None) -> str:
    if not name:
        return "raise"
    if message is None:
        return f"raise({name})"
    whole = f"{name}: {message}"
    return f"raise({_format_text(whole) if message == message.strip() and message else _quote(whole)})"


def _percentage(probability: float) -> str:
    from decimal import Decimal  # `import_for_visits` has imported it

    sign, digits, exponent = Decimal(repr(probability)).as_tuple()
    # The exponent is shifted by hand, because arithmetic rounds by the program's decimal context.
    return _decimal(Decimal((sign, digits, int(exponent) + 2)))


def _plain(number: float) -> str:
    if number == int(number):
        return str(int(number))
    from decimal import Decimal  # `import_for_visits` has imported it

    return _decimal(Decimal(repr(number)))


def _decimal(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _format_text(text: str) -> str:
    """Return the text as an argument: verbatim if that reads back the same, otherwise quoted."""
    text = str.__str__(text)  # the value of a str enum, not its name
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
    plain = text and text == text.strip() and text.isprintable() and not text.startswith('"')
    return text if plain and depth == 0 else _quote(text)


def _quote(text: str) -> str:
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
