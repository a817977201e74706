"""Parse actions from text, format them as text, and reject malformed text."""

from __future__ import annotations

import contextlib
import decimal
import enum
import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from failpoints import (
    Action,
    ActionSyntaxError,
    Break,
    Call,
    Cancel,
    Delay,
    Exit,
    FailpointError,
    FailpointNameError,
    FailpointUsageError,
    InjectedFault,
    Off,
    Panic,
    Pause,
    Print,
    Raise,
    Return,
    Sleep,
    Term,
    Then,
    Yield,
    format_actions,
    parse_actions,
)
from failpoints._core.actions import in_seconds
from failpoints._core.formatting import describe_actions
from failpoints._core.grammar import as_terms, parse_entries


def parse_one(text: str) -> Action:
    [term] = parse_actions(text)
    assert term == Term(term.action)
    return term.action


def read_or_error(read: Callable[[str], Any], text: str) -> tuple[Any, FailpointError | None]:
    try:
        return read(text), None
    except (ActionSyntaxError, FailpointNameError) as error:
        return None, error


# Actions and the text that `format_actions` gives for them.

ACTIONS: list[tuple[str, Action]] = [
    ("off", Off()),
    ("pause", Pause()),
    ("pause(30000)", Pause(30_000)),
    ("pause(0)", Pause(0)),
    ("sleep(100)", Sleep(100)),
    ("sleep(1.5)", Sleep(1.5)),
    ("return", Return()),
    ("return(text)", Return("text")),
    ('return("")', Return("")),
    ("raise", Raise()),
    ("raise(OSError)", Raise(OSError)),
    ("raise(OSError: disk full)", Raise(OSError("disk full"))),
    ("raise(OSError: disk full)", Raise(OSError, "disk full")),
    ("raise(KeyboardInterrupt)", Raise(KeyboardInterrupt)),
    ("raise(InjectedFault)", Raise(InjectedFault)),
    ("raise(shop.PaymentRefused: no money)", Raise("shop.PaymentRefused", "no money")),
    ('raise("OSError: ")', Raise(OSError, "")),
    ('raise("OSError:  two spaces ")', Raise(OSError, " two spaces ")),
    ("panic", Panic()),
    ("panic(msg)", Panic("msg")),
    ('panic("")', Panic("")),
    ("exit", Exit()),
    ("exit(3)", Exit(3)),
    ("exit(0)", Exit(0)),
    ("exit(255)", Exit(255)),
    ("print", Print()),
    ("print(msg)", Print("msg")),
    ("yield", Yield()),
    ("delay(100)", Delay(100)),
    ("cancel", Cancel()),
    ("break", Break()),
    ("sleep(200)+raise(TimeoutError)", Sleep(200) + Raise(TimeoutError)),
    ("pause+print(a+b)+cancel", Pause() + Print("a+b") + Cancel()),
]


@pytest.mark.parametrize(("text", "action"), ACTIONS)
def test_action_has_a_text(text: str, action: Action) -> None:
    """Every action is parsed from its text and formatted as the same text."""
    assert parse_one(text) == action
    assert format_actions(action) == text


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("return()", Return(None)),
        ("return( )", Return(None)),
        ("exit(1)", Exit(1)),
        ("exit(007)", Exit(7)),
        ("raise(OSError:disk full)", Raise(OSError("disk full"))),
        ("raise( OSError :  disk full )", Raise(OSError("disk full"))),
        ("raise(OSError: a: b)", Raise(OSError("a: b"))),
        ('raise("OSError:disk full")', Raise(OSError("disk full"))),
        ('sleep("100")', Sleep(100)),
        ("200+raise", Sleep(200) + Raise()),
        ("1.5 + 2\n+ pause", Sleep(1.5) + Sleep(2) + Pause()),
    ],
)
def test_other_spellings(text: str, action: Action) -> None:
    """Alternative spellings parse to the same action."""
    assert parse_one(text) == action


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("sleep(100)", 100),
        ("sleep(100ms)", 100),
        ("sleep(1.5s)", 1500),
        ("sleep(1.5 s)", 1500),
        ("sleep(2m)", 120_000),
        ("sleep(0.1m)", 6000),
        ("sleep(0.07s)", 70),
        ("sleep(0)", 0),
        ("sleep(0.0)", 0),
        ("sleep(007)", 7),
        ("100", 100),
        ("1.5", 1.5),
        ("0", 0),
    ],
)
def test_durations(text: str, milliseconds: float) -> None:
    """Durations are in milliseconds, or have the unit `ms`, `s` or `m`. A number alone is a sleep."""
    assert parse_one(text) == Sleep(milliseconds)


@pytest.mark.parametrize(("text", "action"), [("pause(30s)", Pause(30_000)), ("delay(1.5s)", Delay(1500))])
def test_units_of_other_durations(text: str, action: Action) -> None:
    """`pause` and `delay` accept the same units as `sleep`."""
    assert parse_one(text) == action


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("25%3*return(x)", Term(Return("x"), 0.25, 3)),
        ("3*25%return(x)", Term(Return("x"), 0.25, 3)),
        ("25%off", Term(Off(), 0.25)),
        ("1*off", Term(Off(), times=1)),
        ("007*off", Term(Off(), times=7)),
        ("0%off", Term(Off(), 0.0)),
        ("100%off", Term(Off(), 1.0)),
        ("100.0%off", Term(Off())),
        ("0.1%off", Term(Off(), 0.001)),
        ("33.3333%off", Term(Off(), 0.333333)),
        ("3*100", Term(Sleep(100), times=3)),
        ("50%2*1.5", Term(Sleep(1.5), 0.5, 2)),
        ("1000000000000000000*off", Term(Off(), times=10**18)),
        ("25%3*sleep(1)+return(x)", Term(Sleep(1) + Return("x"), 0.25, 3)),
        ("2*1+2", Term(Sleep(1) + Sleep(2), times=2)),
    ],
)
def test_modifiers(text: str, term: Term) -> None:
    """A percentage from 0 to 100 and a count of 1 or more come in either order."""
    assert parse_actions(text) == (term,)


def test_terms_in_order() -> None:
    """Terms joined by `->` keep their order."""
    assert parse_actions("2*off->50%return(x)->100->pause") == (
        Term(Off(), times=2),
        Term(Return("x"), 0.5),
        Term(Sleep(100)),
        Term(Pause()),
    )
    assert format_actions([Term(Off(), times=2), Pause()]) == "2*off->pause"


@pytest.mark.parametrize("space", [" ", "  ", "\t", "\n", "\r\n", "\N{NO-BREAK SPACE}", "\N{IDEOGRAPHIC SPACE}"])
def test_white_space_around_tokens(space: str) -> None:
    """White space of any kind around a token is ignored."""
    tokens = ["", "25", "%", "3", "*", "return", "(", "x", ")", "->", "raise", "(", "OSError", ":", "no", ")", "->"]
    tokens += ["print", "(", '"y"', ")", "+", "sleep", "(", "1", "s", ")", "->", "100", "+", "100", ""]
    assert parse_actions(space.join(tokens)) == parse_actions("".join(tokens))


@pytest.mark.parametrize(
    "argument",
    [
        "(balanced)",
        "f(x, g(y))",
        ")(".join("()"),
        "a;b=c",
        "100%",
        "off+off",
        "3*off->return(x)",
        "->",
        'not "quoted" at its beginning',
        r"back\slash",
        "{'key': [1, 2]}",
        "white  space inside",
        "ünï → ☃",
    ],
)
def test_verbatim_argument(argument: str) -> None:
    """An unquoted argument extends to the matching parenthesis, without surrounding white space."""
    assert parse_actions(f"return(  {argument}\t)->off") == (Term(Return(argument)), Term(Off()))


@pytest.mark.parametrize(
    ("quoted", "value"),
    [
        ('""', ""),
        ('"  spaces  "', "  spaces  "),
        ('")"', ")"),
        ('"(("', "(("),
        (r'"say \"hi\""', 'say "hi"'),
        (r'"back\\slash"', r"back\slash"),
        (r'"\n\r\t"', "\n\r\t"),
        (r'"\x41\u2603\U0001F600"', "A☃😀"),
        (r'"\ud800"', "\ud800"),
        ('"a real\nline break"', "a real\nline break"),
        ('"a;b=c->d"', "a;b=c->d"),
    ],
)
def test_quoted_argument(quoted: str, value: str) -> None:
    """A quoted argument is a string with backslash escapes."""
    assert parse_actions(f"return( {quoted} )->off") == (Term(Return(value)), Term(Off()))


# Rejected text.


@pytest.mark.parametrize(
    ("text", "problem", "caret"),
    [
        ("", "expected an action, such as 'pause' or 'return(42)', found the end", 0),
        ("   ", "expected an action, such as 'pause' or 'return(42)', found the end", 3),
        ("pause->", "expected an action, such as 'pause' or 'return(42)', found the end", 7),
        ("->pause", "expected an action, such as 'pause' or 'return(42)', found '-'", 0),
        ("(x)", "expected an action, such as 'pause' or 'return(42)', found '('", 0),
        ("50%", "expected an action, such as 'pause' or 'return(42)', found the end", 3),
        ("-1%off", "expected an action, such as 'pause' or 'return(42)', found '-'", 0),
        (".5%off", "expected an action, such as 'pause' or 'return(42)', found '.'", 0),
        ("٣*off", "expected an action, such as 'pause' or 'return(42)', found '٣'", 0),
        ("retrun(42)", "expected an action, found 'retrun'; did you mean 'return'?", 0),
        ("2*off->Pause", "expected an action, found 'Pause'; did you mean 'pause'?", 7),
        (
            "xyzzy",
            (
                "expected an action, found 'xyzzy': one of off, pause, sleep, return, raise, panic, exit, print, yield,"
                " delay, cancel, break"
            ),
            0,
        ),
        ("101%off", "expected a percentage from 0 to 100, found '101'", 0),
        ("3*100.01%off", "expected a percentage from 0 to 100, found '100.01'", 2),
        ("0*off", "expected a count, a whole number of 1 or more, found '0'", 0),
        ("000*off", "expected a count, a whole number of 1 or more, found '000'", 0),
        ("1.5*off", "expected a count, a whole number of 1 or more, found '1.5'", 0),
        (
            "1000000000000000001*off",
            "expected a count of at most 1000000000000000000, found '1000000000000000001'",
            0,
        ),
        ("10%20%off", "expected one percentage, found a second", 3),
        ("1*10%2*off", "expected one count, found a second", 5),
        ("100ms", "expected '%', '*', '+', '->' or the end after a number; did you mean 'sleep(100ms)'?", 3),
        ("3pause", "expected '%' or '*' between a number and an action, found 'pause'", 1),
        ("pause pause", "expected '+', '->' or the end after the action, found 'pause'", 6),
        ("100 100", "expected '+', '->' or the end after the action, found '100'", 4),
        ("off;off", "expected '+', '->' or the end after the action, found ';'", 3),
        ("return(x))", "expected '+', '->' or the end after the action, found ')'", 9),
        ("raise ReadTimeout", "expected '(' after 'raise'; did you mean 'raise(ReadTimeout)'?", 6),
        ("raise OSError: disk full", "expected '(' after 'raise'; did you mean 'raise(OSError: disk full)'?", 6),
        ("raise OSError('disk full')", "expected '(' after 'raise'; did you mean 'raise(OSError: disk full)'?", 6),
        ("raise OSError()", "expected '(' after 'raise'; did you mean 'raise(OSError)'?", 6),
        ("2*sleep 100", "expected '(' after 'sleep'; did you mean 'sleep(100)'?", 8),
        ("pause 1.5s->off", "expected '(' after 'pause'; did you mean 'pause(1.5s)'?", 6),
        ("delay 10 + raise X", "expected '(' after 'delay'; did you mean 'delay(10)'?", 6),
        ("return x", "expected '(' after 'return'; did you mean 'return(x)'?", 7),
        ("print hello world", "expected '(' after 'print'; did you mean 'print(hello world)'?", 6),
        ("exit 3", "expected '(' after 'exit'; did you mean 'exit(3)'?", 5),
        ("return 3*off", "expected '+', '->' or the end after the action, found '3'", 7),
        ("return pause", "expected '+', '->' or the end after the action, found 'pause'", 7),
        ("off+", "expected an action, such as 'pause' or 'return(42)', found the end", 4),
        ("+off", "expected an action, such as 'pause' or 'return(42)', found '+'", 0),
        ("off+->off", "expected an action, such as 'pause' or 'return(42)', found '-'", 4),
        ("off+2*off", "expected an action after '+'; a percentage or a count belongs to the first of them", 4),
        ("1 + 2%off", "expected an action after '+'; a percentage or a count belongs to the first of them", 4),
        ("return+off", "nothing runs after 'return', so it must be the last of the actions joined by '+'", 0),
        (
            "off + raise(OSError) + off",
            "nothing runs after 'raise', so it must be the last of the actions joined by '+'",
            6,
        ),
        ("2*panic+", "nothing runs after 'panic', so it must be the last of the actions joined by '+'", 2),
        ("exit+cancel", "nothing runs after 'exit', so it must be the last of the actions joined by '+'", 0),
        ("cancel+exit", "nothing runs after 'cancel', so it must be the last of the actions joined by '+'", 0),
        ("off+100ms", "expected '%', '*', '+', '->' or the end after a number; did you mean 'sleep(100ms)'?", 7),
        ("cancel()", "'cancel' takes no argument; write it without parentheses", 7),
        ("return(", "expected ')' to close this parenthesis, found the end", 6),
        ("return((x)", "expected ')' to close this parenthesis, found the end", 6),
        ('return("x)', "expected '\"' to close this string, found the end", 7),
        ('return("x" y)', "expected ')' after the quoted argument, found 'y'", 11),
        ('return("x"', "expected ')' after the quoted argument, found the end", 10),
        (r'return("a\q")', r"expected one of \" \\ \n \r \t \xHH \uHHHH \UHHHHHHHH", 9),
        ('return("a\\', r"expected one of \" \\ \n \r \t \xHH \uHHHH \UHHHHHHHH", 9),
        (r'return("\x4")', r"expected 2 hexadecimal digits of a character after '\x'", 8),
        (r'return("\u+123")', r"expected 4 hexadecimal digits of a character after '\u'", 8),
        (r'return("\U00110000")', r"expected 8 hexadecimal digits of a character after '\U'", 8),
        ("off()", "'off' takes no argument; write it without parentheses", 4),
        ("yield(1)", "'yield' takes no argument; write it without parentheses", 6),
        ("break(1)", "'break' takes no argument; write it without parentheses", 6),
        ("sleep", "'sleep' needs a duration, such as (100) or (1.5s)", 5),
        ("delay", "'delay' needs a duration, such as (100) or (1.5s)", 5),
        ("sleep()", "expected a duration, such as (100) or (1.5s) between the parentheses of 'sleep'", 6),
        ("pause()", "expected a duration, such as (100) or (1.5s) between the parentheses of 'pause'", 6),
        ("panic()", "expected a text between the parentheses of 'panic'", 6),
        ("print()", "expected a text between the parentheses of 'print'", 6),
        ("exit()", "expected an exit status between the parentheses of 'exit'", 5),
        ("raise()", "expected an exception's name between the parentheses of 'raise'", 6),
        ("sleep(abc)", "expected a duration, such as 100 (milliseconds), 1.5s or 2m, found 'abc'", 6),
        ("sleep( 1h)", "expected a duration, such as 100 (milliseconds), 1.5s or 2m, found '1h'", 7),
        ("sleep(-1)", "expected a duration, such as 100 (milliseconds), 1.5s or 2m, found '-1'", 6),
        ("sleep(inf)", "expected a duration, such as 100 (milliseconds), 1.5s or 2m, found 'inf'", 6),
        ("sleep(1S)", "expected a duration, such as 100 (milliseconds), 1.5s or 2m, found '1S'", 6),
        ("sleep(٣)", "expected a duration, such as 100 (milliseconds), 1.5s or 2m, found '٣'", 6),
        ("pause(nan)", "expected a duration, such as 100 (milliseconds), 1.5s or 2m, found 'nan'", 6),
        ("exit(256)", "expected an exit status from 0 to 255, found '256'", 5),
        ("exit(1000)", "expected an exit status from 0 to 255, found '1000'", 5),
        ("exit(-1)", "expected an exit status from 0 to 255, found '-1'", 5),
        ("exit(٣)", "expected an exit status from 0 to 255, found '٣'", 5),
        ('exit("")', "expected an exit status from 0 to 255, found ''", 5),
        ("raise(2)", "expected an exception's name, such as OSError, found '2'", 6),
        ("raise(OSError())", "expected an exception's name, such as OSError, found 'OSError()'", 6),
        ("raise(: x)", "expected an exception's name, such as OSError, found ''", 6),
        ("raise(a..b)", "expected an exception's name, such as OSError, found 'a..b'", 6),
        ("raise(OSError:)", "expected a message after ':'", 14),
    ],
)
def test_rejection(text: str, problem: str, caret: int) -> None:
    """Malformed text raises an `ActionSyntaxError` with the expected input and the position."""
    with pytest.raises(ActionSyntaxError) as caught:
        parse_actions(text)
    error = caught.value
    shown = text.replace("\n", "\N{REPLACEMENT CHARACTER}")
    assert str(error) == f"{problem}\n    {shown}\n    {' ' * caret}^"
    assert (error.text, error.position, error.problem, error.source) == (text, caret, problem, None)


def test_full_text_of_a_rejection() -> None:
    """The caret is under the first wrong character."""
    with pytest.raises(ValueError, match="did you mean") as caught:
        parse_actions("25%3*return(x)->pase")
    assert str(caught.value) == (
        "expected an action, found 'pase'; did you mean 'pause'?\n    25%3*return(x)->pase\n                    ^"
    )


@pytest.mark.parametrize("given", [None, 3, b"pause", Off(), ["pause"]])
def test_text_is_a_str(given: Any) -> None:
    """`parse_actions` accepts only a `str`."""
    with pytest.raises(FailpointUsageError, match="parse_actions takes a text, such as 'return"):
        parse_actions(given)


# Formatting.


@pytest.mark.parametrize(
    "action",
    [
        Call(print),
        Sleep(1) + Call(print),
        Return(42),
        Return(b"x"),
        Return(value=False),
        Return([]),
        Raise(OSError(2, "No such file")),
        Raise(type("OSError", (Exception,), {})),  # in text, this name means the builtin class
        Raise(type("MyError", (Exception,), {})("x")),
        Raise(OSError()),
        Raise(ValueError(5)),
        Raise(ImportError("no module", name="shop")),
    ],
)
def test_no_text(action: Action) -> None:
    """`format_actions` refuses an action that no text can express."""
    with pytest.raises(FailpointUsageError, match=r"has no text: it can be configured from Python only$") as caught:
        format_actions([Off(), action])
    last = action.actions[-1] if isinstance(action, Then) else action
    assert str(caught.value) == f"{last!r} has no text: it can be configured from Python only"


def test_describe_actions_falls_back_to_python() -> None:
    """`describe_actions` shows a term without a text as a Python expression."""
    terms = [Off(), Return(42), Term(Return(42), times=2)]
    assert describe_actions(terms) == "off->Return(value=42)->Term(action=Return(value=42), probability=1.0, times=2)"


class Number(float):
    """A float with a `repr` of its own, like `numpy.float64`."""

    def __repr__(self) -> str:
        return f"Number({float(self)})"


class Count(int, enum.Enum):
    THREE = 3


class Colour(str, enum.Enum):  # noqa: UP042 - a StrEnum is its value in every format
    RED = "red"


@pytest.mark.parametrize(
    ("term", "text"),
    [
        (Term(Sleep(Number(1.5))), "sleep(1.5)"),
        (Term(Off(), Number(0.25)), "25%off"),
        (Term(Sleep(Count.THREE)), "sleep(3)"),
        (Term(Exit(Count.THREE), times=Count.THREE), "3*exit(3)"),
        (Term(Return(Colour.RED)), "return(red)"),
        (Term(Panic(Colour.RED)), "panic(red)"),
        (Term(Sleep(-0.0)), "sleep(0)"),
        (Term(Off(), -0.0), "0%off"),
        (Term(Sleep(timedelta(seconds=1.5))), "sleep(1500)"),
    ],
)
def test_text_of_unusual_values(term: Term, text: str) -> None:
    """Numbers and strings of subclasses are formatted by their values."""
    assert format_actions(term) == text
    assert parse_actions(format_actions(term)) == (term,)


@pytest.mark.parametrize(
    "action", [Sleep(1e22), Sleep(1e23), Sleep(1.7976931348623157e308), Sleep(5e-324), Sleep(10**308), Delay(1e-7)]
)
def test_extreme_durations_survive(action: Action) -> None:
    """The smallest and largest durations survive formatting and parsing."""
    assert parse_one(format_actions(action)) == action


def test_counts_survive() -> None:
    """A count survives formatting and parsing, unless `Term` refuses it."""
    with contextlib.suppress(FailpointUsageError):
        term = Term(Off(), times=10**30)
        assert parse_actions(format_actions(term)) == (term,)


def test_the_decimal_context_has_no_effect() -> None:
    """The decimal context of the program does not affect parsing or formatting."""
    text = "12.345%sleep(1.2345s)"
    term = Term(Sleep(1234.5), 0.12345)
    with decimal.localcontext() as context:
        context.prec = 2
        assert parse_actions(text) == (term,)
        assert parse_actions(format_actions(term)) == (term,)
        context.traps[decimal.Inexact] = True
        assert parse_actions(text) == (term,)


durations = st.one_of(
    st.integers(0, 10**6),
    st.integers(0, 10**308),
    st.floats(0, allow_nan=False, allow_infinity=False),
    st.timedeltas(min_value=timedelta(0)),
)
any_text = st.text(st.characters()) | st.text(st.sampled_from('()"\\ \n;=%*->:aü\ud800\x00\N{NO-BREAK SPACE}'))
messages = st.none() | any_text
exception_names = st.sampled_from(["OSError", "KeyError", "InjectedFault", "Own", "a.b.Own", "Größe", "print"])
raises = st.one_of(
    st.just(Raise()),
    st.builds(Raise, exception_names, messages),
    st.builds(Raise, st.sampled_from([OSError, BaseException, SystemExit, InjectedFault]), messages),
    st.builds(lambda kind, text: Raise(kind(text)), st.sampled_from([OSError, KeyError, KeyboardInterrupt]), any_text),
)
first_actions: st.SearchStrategy[Action] = st.one_of(
    st.sampled_from([Off(), Yield(), Break(), Pause()]),
    st.builds(Pause, durations),
    st.builds(Sleep, durations),
    st.builds(Delay, durations),
    st.builds(Print, messages),
)
last_actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(Return, messages),
    raises,
    st.builds(Panic, messages),
    st.builds(Exit, st.integers(0, 255)),
    st.just(Cancel()),
)
single_actions = first_actions | last_actions
actions: st.SearchStrategy[Action] = single_actions | st.builds(
    lambda first, last: Then((*first, last)), st.lists(first_actions, min_size=1, max_size=3), single_actions
)
terms = st.builds(Term, actions, st.just(1.0) | st.floats(0, 1), st.none() | st.integers(1, 10**18))


@settings(deadline=None)  # the machine may be busy with other tests
@given(actions | terms | st.lists(actions | terms, min_size=1, max_size=4))
@example(Return("\udcff)"))
@example(Term(Sleep(5e-324), 5e-324))
def test_format_and_parse_are_inverse(given: Any) -> None:
    """`parse_actions` inverts `format_actions` for everything that has a text."""
    text = format_actions(given)
    assert parse_actions(text) == as_terms(given)
    assert format_actions(text) == text


pieces = st.one_of(
    st.sampled_from([text.partition("(")[0] for text, _ in ACTIONS]),
    st.sampled_from(["+", "+", "->"]),
    st.sampled_from(
        [*'()[]{}%*;=:.-,0125smh "\\\n\x00\ud800²é', "->", "٣", "\\u", "d83d", "1e3", "OSError", "a.b", "Pause"]
    ),
)
texts = st.text() | st.lists(pieces, max_size=12).map("".join) | st.lists(pieces, max_size=12).map(" ".join)


@settings(deadline=None)  # the machine may be busy with other tests
@given(texts)
def test_any_text_is_parsed_or_rejected(text: str) -> None:
    """Any text parses, and survives formatting, or raises an `ActionSyntaxError`."""
    read, error = read_or_error(parse_actions, text)
    if error is None:
        assert parse_actions(format_actions(read)) == read
    else:
        assert isinstance(error, ActionSyntaxError)
        assert error.text == text
        assert 0 <= error.position <= len(text)
        assert len(str(error).encode().split(b"\n")) == 3


LONG = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "9" * LONG,
        "1" * 4301,
        f"sleep({'9' * LONG})",
        f"sleep({'9' * 308}s)",
        f"sleep({-(-(2**1024 - 2**970) // 60_000)}m)",  # the smallest number that becomes infinite when converted
        f"sleep(1{' ' * LONG}!)",
        f"exit({'0' * LONG}!)",
        f"exit({'9' * LONG})",
        f"{'9' * LONG}%off",
        f"{'9' * LONG}*off",
        "a" * LONG,
        "return(" * (LONG // 7),
        "return(\u201d" + "(" * LONG,
        f'return("{"x" * LONG}',
        "off->" * (LONG // 5),
        "off+" * (LONG // 4),
        f"raise({'a.' * (LONG // 2)})",
        "1*" * (LONG // 2),
        "\ud800" * LONG,
        "\x00" * LONG,
    ],
    ids=lambda text: text[:12].encode("unicode_escape").decode(),
)
def test_long_texts_are_rejected(text: str) -> None:
    """A very long text raises an `ActionSyntaxError` with a short message."""
    with pytest.raises(ActionSyntaxError) as caught:
        parse_actions(text)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("argument", ["1" * 20_000, "0." + "1" * 20_000, "1" + " " * 20_000, "1" + "a" * 20_000])
def test_rejection_is_quick(argument: str) -> None:
    """The time to reject a text does not grow with the square of its length."""
    start = time.process_time()
    with pytest.raises(ActionSyntaxError):
        parse_actions(f"sleep({argument}!)")
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("text", "term"),
    [
        (f"sleep({'0' * LONG}1)", Term(Sleep(1))),
        (f"{'0' * LONG}1", Term(Sleep(1))),
        (f"{'0' * LONG}7*off", Term(Off(), times=7)),
        (f"{'0' * LONG}7%off", Term(Off(), 0.07)),
        (f"0.{'0' * LONG}7%off", Term(Off(), 0.0)),
        (f"sleep(0.{'0' * LONG}7s)", Term(Sleep(0))),
        (f"sleep(1.{'3' * LONG}s)", Term(Sleep(4000 / 3))),
        (f"exit({'0' * LONG}3)", Term(Exit(3))),
        (f"{'off+' * (LONG // 4)}off", Term(Then((Off(),) * (LONG // 4 + 1)))),
        (f"return({'(' * LONG}{')' * LONG})", Term(Return("(" * LONG + ")" * LONG))),
        (f'return("{"x" * LONG}")', Term(Return("x" * LONG))),
    ],
    ids=lambda case: case[:12] if isinstance(case, str) else "",
)
def test_long_texts_are_parsed(text: str, term: Term) -> None:
    """Numbers and arguments may be of any length."""
    [read] = parse_actions(text)
    if isinstance(term.action, Sleep):
        assert isinstance(read.action, Sleep)
        assert math.isclose(in_seconds(read.action.duration), in_seconds(term.action.duration))
    else:
        assert read == term


# Lists of entries, as in FAILPOINTS.


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("", []),
        (" ; ;; ", []),
        ("a=off", [("a", "off")]),
        ("a=return(42);b=sleep(1000);c=exit", [("a", "return(42)"), ("b", "sleep(1000)"), ("c", "exit")]),
        (" a = 2*off -> pause ;\n b = off ; ", [("a", "2*off->pause"), ("b", "off")]),
        ("a=return(x;y=z);b=off", [("a", "return(x;y=z)"), ("b", "off")]),
        ('a=return(";");b=off', [("a", 'return(";")'), ("b", "off")]),
        ("gateway.charge:after=raise(OSError: no)", [("gateway.charge:after", "raise(OSError: no)")]),
        ("a::b=100;ü-%*=off", [("a::b", "100"), ("ü-%*", "off")]),
        ("a=off;a=pause", [("a", "off"), ("a", "pause")]),
        ("2*3=off", [("2*3", "off")]),
    ],
)
def test_entries(text: str, entries: list[tuple[str, str]]) -> None:
    """A list has `name=actions` entries joined by `;`. White space and empty entries are ignored."""
    assert parse_entries(text, "FAILPOINTS") == [(name, parse_actions(actions), None) for name, actions in entries]


@pytest.mark.parametrize(
    ("text", "context"),
    [
        ("tenant_id=test_.*", {"tenant_id": "test_.*"}),
        ("tenant_id=test_.*,shard=3", {"tenant_id": "test_.*", "shard": "3"}),
        (" tenant_id = test_.* ,\n shard = 3 ", {"tenant_id": "test_.*", "shard": "3"}),
        ("x=[a-z]{1,3}", {"x": "[a-z]{1,3}"}),
        ("x=(a,b|[c,]),y=2", {"x": "(a,b|[c,])", "y": "2"}),
        (r"x=\[,y=a\,b,z=\]", {"x": r"\[", "y": r"a\,b", "z": r"\]"}),
        ("x=a;b=c", {"x": "a;b=c"}),
        ("x=", None),
        ('x=""', {"x": ""}),
        ('x="]," , y=" "', {"x": "],", "y": " "}),
        (r'x="say \"hi\" \\d"', {"x": r'say "hi" \d'}),
        ("größe=\N{SNOWMAN}", {"größe": "\N{SNOWMAN}"}),
    ],
)
def test_matchers_of_an_entry(text: str, context: dict[str, str] | None) -> None:
    """An entry may have patterns in brackets. Brackets in a pattern balance, or it is quoted."""
    if context is None:
        with pytest.raises(ActionSyntaxError):
            parse_entries(f"a[{text}]=off", "FAILPOINTS")
        return
    assert parse_entries(f"a[{text}]=off;b=pause", "FAILPOINTS") == [
        ("a", parse_actions("off"), context),
        ("b", parse_actions("pause"), None),
    ]


def quoted(text: str) -> str:
    return format_actions(Return(f'"{text}')).removeprefix('return("\\"').removesuffix('")')


patterns = st.text().filter(lambda text: compiles(text))


def compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError, FutureWarning):  # a warning is an error here
        return False
    return True


@settings(deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z_]+", fullmatch=True), patterns, min_size=1))
def test_quoted_patterns_survive(context: dict[str, str]) -> None:
    """Any pattern can be written in quotes."""
    text = ",".join(f'{key}="{quoted(pattern)}"' for key, pattern in context.items())
    assert parse_entries(f"a[{text}]=off", "FAILPOINTS") == [("a", parse_actions("off"), context)]


@pytest.mark.parametrize(
    ("text", "kind", "problem", "caret"),
    [
        ("a", ActionSyntaxError, "expected name=actions, found no '='", 1),
        ("a=off; b ;c=off", ActionSyntaxError, "expected name=actions, found no '='", 9),
        ("=off", ActionSyntaxError, "expected a failpoint's name before '='", 0),
        ("a=off; =off", ActionSyntaxError, "expected a failpoint's name before '='", 7),
        ("a=", ActionSyntaxError, "expected an action, such as 'pause' or 'return(42)', found the end", 2),
        ("a=return b=off", ActionSyntaxError, "expected '+', '->', ';' or the end after the action, found 'b'", 9),
        ("a=return b;b=off", ActionSyntaxError, "expected '(' after 'return'; did you mean 'return(b)'?", 9),
        ("a=;b=off", ActionSyntaxError, "expected an action, such as 'pause' or 'return(42)', found ';'", 2),
        ("a=off b=off", ActionSyntaxError, "expected '+', '->', ';' or the end after the action, found 'b'", 6),
        ("a=off;b=retrun", ActionSyntaxError, "expected an action, found 'retrun'; did you mean 'return'?", 8),
        ("a=return(x;b=off", ActionSyntaxError, "expected ')' to close this parenthesis, found the end", 8),
        (
            "ok=off; a b=off",
            FailpointNameError,
            "a failpoint's name must be printable, without white space, '=', ';', '[' or ']'; got 'a b'",
            8,
        ),
        (
            "a]=off",
            FailpointNameError,
            "a failpoint's name must be printable, without white space, '=', ';', '[' or ']'; got 'a]'",
            0,
        ),
        ("[x=1]=off", ActionSyntaxError, "expected a failpoint's name before '['", 0),
        (
            "a[]=off",
            ActionSyntaxError,
            "expected a key and its pattern, such as tenant_id=test_.*, found ']'",
            2,
        ),
        ("a[x]=off", ActionSyntaxError, "expected a key and its pattern, such as tenant_id=test_.*, found 'x'", 2),
        ("a[=1]=off", ActionSyntaxError, "expected a key and its pattern, such as tenant_id=test_.*, found '='", 2),
        ("a[x=1,]=off", ActionSyntaxError, "expected a key and its pattern, such as tenant_id=test_.*, found ']'", 6),
        ("a[x=]=off", ActionSyntaxError, "expected a pattern, found ']'; an empty one is written \"\"", 4),
        ("a[x=1,x=2]=off", ActionSyntaxError, "expected each key once, found 'x' again", 6),
        ('a[x="1"2]=off', ActionSyntaxError, "expected ',' or ']' after the pattern, found '2'", 7),
        (
            "b=off;a[x=1",
            ActionSyntaxError,
            "expected ']' after the pattern, found the end; quote a pattern whose brackets do not balance",
            10,
        ),
        ("a[x=1]off", ActionSyntaxError, "expected '=' and actions after the matchers, found 'off'", 6),
        ("a[x=1]", ActionSyntaxError, "expected '=' and actions after the matchers, found the end", 6),
        (
            "b=off;a[x=*]=off",
            FailpointNameError,
            "the pattern for 'x' is not a valid regular expression: '*': nothing to repeat at position 0",
            10,
        ),
    ],
)
def test_rejected_entries(text: str, kind: type[FailpointError], problem: str, caret: int) -> None:
    """A malformed list raises an error with the name of the variable and the position."""
    with pytest.raises(kind) as caught:
        parse_entries(text, "FAILPOINTS")
    assert str(caught.value) == f"FAILPOINTS: {problem}\n    {text}\n    {' ' * caret}^"
    assert isinstance(caught.value, ValueError)


def matchers_text(context: Mapping[str, str] | None) -> str:
    if context is None:
        return ""
    return "[" + ",".join(key + '="' + quoted(pattern) + '"' for key, pattern in context.items()) + "]"


@settings(deadline=None)  # the machine may be busy with other tests
@given(texts)
@example("a[x=1,b=[c]]=off")
def test_any_list_is_parsed_or_rejected(text: str) -> None:
    """Any list parses, or raises a syntax or name error that names the variable."""
    entries, error = read_or_error(lambda text: parse_entries(text, "FAILPOINTS"), text)
    if error is None:
        again = ";".join(f"{name}{matchers_text(context)}={format_actions(terms)}" for name, terms, context in entries)
        assert parse_entries(again, "FAILPOINTS") == entries
    else:
        assert str(error).startswith("FAILPOINTS: ")
