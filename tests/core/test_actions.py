"""Actions, terms and outcomes: the arguments that they accept, equality, and results at a site."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest

from failpoints import (
    Break,
    Call,
    Cancel,
    Cancelled,
    Continue,
    Delay,
    Exit,
    FailpointPanic,
    FailpointUsageError,
    Hit,
    InjectedFault,
    Off,
    Outcome,
    Panic,
    Pause,
    Print,
    Raise,
    Return,
    Sleep,
    Term,
    Yield,
    configure,
    configured,
    failpoint,
    format_actions,
    parse_actions,
    statuses,
)
from failpoints._core.actions import in_seconds
from failpoints._core.grammar import as_terms

EVERYTHING = [
    Off(),
    Pause(),
    Pause(30_000),
    Sleep(100),
    Return("x"),
    Return(42),
    Raise(),
    Raise(OSError, "disk full"),
    Raise("shop.PaymentRefused"),
    Panic("msg"),
    Exit(3),
    Print("msg"),
    Yield(),
    Delay(1.5),
    Cancel(),
    Break(),
    Call(print),
    Sleep(100) + Raise(OSError),
    Continue(),
    Cancelled(),
    Hit("backup", {"tenant_id": "t1"}),
    Term(Return("x"), 0.25, 3),
]


class Refused(Exception):
    pass


# Arguments.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sleep(-1), "Sleep takes milliseconds or a timedelta, finite and not negative; got -1"),
        (lambda: Sleep(float("nan")), "Sleep takes milliseconds or a timedelta, finite and not negative; got nan"),
        (lambda: Sleep(float("inf")), "Sleep takes milliseconds or a timedelta, finite and not negative; got inf"),
        (lambda: Pause("30s"), "Pause takes milliseconds or a timedelta, finite and not negative; got '30s'"),
        (lambda: Delay(True), "Delay takes milliseconds or a timedelta, finite and not negative; got True"),
        (lambda: Delay(None), "Delay takes milliseconds or a timedelta, finite and not negative; got None"),
        (lambda: Exit(256), "Exit takes a status from 0 to 255; got 256"),
        (lambda: Exit(-1), "Exit takes a status from 0 to 255; got -1"),
        (lambda: Exit(True), "Exit takes a status from 0 to 255; got True"),
        (lambda: Exit("1"), "Exit takes a status from 0 to 255; got '1'"),
        (lambda: Exit(1.0), "Exit takes a status from 0 to 255; got 1.0"),
        (lambda: Panic(5), "Panic takes a message, a str; got 5"),
        (lambda: Print(b"msg"), "Print takes a message, a str; got b'msg'"),
        (lambda: Call("print"), "Call takes a function of the Hit; got 'print'"),
        (lambda: Call(None), "Call takes a function of the Hit; got None"),
        (lambda: Raise(5), "Raise takes an exception, its class, or the name of one; got 5"),
        (lambda: Raise(int), "Raise takes an exception, its class, or the name of one; got <class 'int'>"),
        (lambda: Raise("OS Error"), "Raise: 'OS Error' is not the name of an exception"),
        (lambda: Raise(""), "Raise: '' is not the name of an exception"),
        (
            lambda: Raise(None, "disk full"),
            "Raise takes a message, a str, only together with a class or a name; got None, 'disk full'",
        ),
        (
            lambda: Raise(OSError("a"), "b"),
            "Raise takes a message, a str, only together with a class or a name; got OSError('a'), 'b'",
        ),
        (
            lambda: Raise(OSError, 5),
            "Raise takes a message, a str, only together with a class or a name; got <class 'OSError'>, 5",
        ),
        (lambda: Term("pause"), "Term takes an action, such as Return(1); got 'pause'"),
        (lambda: Term(Pause), "Term takes an action, such as Return(1); got <class 'failpoints._core.actions.Pause'>"),
        (lambda: Term(Continue()), "Term takes an action, such as Return(1); got Continue()"),
        (lambda: Term(Off(), 25), "Term takes a probability from 0 to 1; got 25"),
        (lambda: Term(Off(), -0.1), "Term takes a probability from 0 to 1; got -0.1"),
        (lambda: Term(Off(), float("nan")), "Term takes a probability from 0 to 1; got nan"),
        (lambda: Term(Off(), True), "Term takes a probability from 0 to 1; got True"),
        (lambda: Term(Off(), "25%"), "Term takes a probability from 0 to 1; got '25%'"),
        (lambda: Term(Off(), times=0), "Term: times must be a whole number from 1 to 1000000000000000000; got 0"),
        (lambda: Term(Off(), times=1.0), "Term: times must be a whole number from 1 to 1000000000000000000; got 1.0"),
        (lambda: Term(Off(), times=True), "Term: times must be a whole number from 1 to 1000000000000000000; got True"),
    ],
)
def test_bad_arguments_are_refused(make: Callable[[], object], message: str) -> None:
    """An argument of a wrong type or out of range raises a usage error with the accepted values."""
    with pytest.raises(FailpointUsageError) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sleep(timedelta(milliseconds=-1)),
        lambda: Pause(timedelta.min),
        lambda: Sleep(10**400),
        lambda: Sleep(10**5000),
        lambda: Exit(10**5000),
        lambda: Term(Off(), 10**5000),
        lambda: Term(Off(), times=-(10**5000)),
    ],
)
def test_huge_and_negative_numbers_are_refused(make: Callable[[], object]) -> None:
    """A number out of range raises a usage error, even if it is too large to be printed."""
    with pytest.raises(FailpointUsageError):
        make()


@pytest.mark.parametrize(
    ("given", "milliseconds"),
    [
        (timedelta(seconds=1.5), 1500),
        (timedelta(microseconds=1), 0.001),
        (timedelta(days=1), 86_400_000),
        (timedelta.max, timedelta.max / timedelta(milliseconds=1)),
        (0, 0),
    ],
)
def test_timedelta(given: Any, milliseconds: float) -> None:
    """A `timedelta` is the same duration as its number of milliseconds."""
    assert (Pause(given), Sleep(given), Delay(given)) == (
        Pause(milliseconds),
        Sleep(milliseconds),
        Delay(milliseconds),
    )
    assert hash(Sleep(given)) == hash(Sleep(milliseconds))
    assert in_seconds(Sleep(given).duration) == in_seconds(Delay(given).duration) == milliseconds / 1000
    assert Sleep(given).duration == Delay(given).duration == Pause(given).limit == milliseconds


def test_defaults() -> None:
    """The default arguments of an action mean the same as its text without arguments."""
    assert Pause().limit is None
    assert Return().value is None
    assert (Raise().error, Raise().message) == (None, None)
    assert Panic().message is Print().message is None
    assert Exit().status == 1
    assert (Term(Off()).probability, Term(Off()).times) == (1.0, None)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (OSError, "; did you mean Raise(OSError)?"),
        (OSError("disk full"), "; did you mean Raise(OSError('disk full'))?"),
        (Pause, "; did you mean Pause(…)?"),
        (100, "; did you mean Sleep(100)?"),
        (1.5, "; did you mean Sleep(1.5)?"),
        (print, "; did you mean Call(print)?"),
        (None, ""),
        (True, ""),
        (-1, ""),
        (Continue(), ""),
        (Continue, ""),
        (b"pause", ""),
        ({"a": "pause"}, ""),
        (timedelta(seconds=1), "; did you mean Sleep(…)?"),
    ],
)
def test_a_wrong_value_gets_a_hint(given: Any, hint: str) -> None:
    """A value that is not an action is refused with a suggestion, if one would be accepted."""
    for configuring in (as_terms, format_actions, lambda actions: configure("backup", actions)):
        with pytest.raises(FailpointUsageError) as caught:
            configuring(given)
        assert str(caught.value) == (
            f"actions must be a text, an action, a Term, or a sequence of actions and Terms; got {given!r}{hint}"
        )
    assert statuses() == []


@pytest.mark.parametrize("given", [[], ()])
def test_an_empty_sequence_is_refused(given: Any) -> None:
    """An empty sequence is refused, and the message mentions `Off()`."""
    with pytest.raises(FailpointUsageError) as caught:
        as_terms(given)
    assert str(caught.value) == "expected at least one action; got an empty sequence (Off() does nothing)"


@pytest.mark.parametrize("item", ["pause", OSError, 100, [Off()]])
def test_a_sequence_contains_actions_and_terms_only(item: Any) -> None:
    """A sequence of actions may contain only actions and terms."""
    with pytest.raises(FailpointUsageError, match="or a sequence of actions and Terms; got "):
        as_terms([Off(), item])


@pytest.mark.parametrize(
    ("given", "terms"),
    [
        ("off->2*pause", (Term(Off()), Term(Pause(), times=2))),
        (Off(), (Term(Off()),)),
        (Term(Off(), 0.5), (Term(Off(), 0.5),)),
        ([Off(), Term(Pause(), times=2)], (Term(Off()), Term(Pause(), times=2))),
        ((Off(),), (Term(Off()),)),
    ],
)
def test_accepted_forms_of_actions(given: Any, terms: tuple[Term, ...]) -> None:
    """Actions are given as a text, an action, a term, or a sequence of actions and terms."""
    assert as_terms(given) == terms


# Equality.


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("raise(OSError)", Raise(OSError)),
        ("raise(OSError)", Raise("OSError")),
        ("raise(OSError: disk full)", Raise(OSError("disk full"))),
        ("raise(OSError: disk full)", Raise(OSError, "disk full")),
        ("raise(OSError: disk full)", Raise("OSError", "disk full")),
        ("raise(InjectedFault)", Raise(InjectedFault)),
        ("raise", Raise()),
    ],
)
def test_a_raise_equals_its_text(text: str, action: Raise) -> None:
    """A `Raise` equals the one parsed from its text, with the same hash."""
    [term] = parse_actions(text)
    assert term.action == action
    assert hash(term.action) == hash(action)
    assert term == Term(action)


def test_equal_raises() -> None:
    """`Raise` actions are equal if they have the same class and message, or the same instance."""
    error = Refused("no")
    assert Raise(error) == Raise(error)
    assert hash(Raise(error)) == hash(Raise(error))
    assert Raise(Refused) == Raise(Refused)
    assert Raise(Refused, "no") == Raise(Refused, "no")


@pytest.mark.parametrize(
    "other",
    [
        Raise(),
        Raise(ValueError),
        Raise(OSError, ""),
        Raise(OSError("disk full")),
        Raise(OSError(2, "disk full")),
        Raise(Refused),
        Raise("Refused"),
        Off(),
        OSError,
        "raise(OSError)",
    ],
)
def test_unequal_raises(other: object) -> None:
    """A `Raise` differs from one with another class or message, and from any other object."""
    assert Raise(OSError) != other
    assert Raise(Refused("no")) != other
    assert Raise(Refused, "no") != other


def test_instances_without_a_text_are_compared_by_identity() -> None:
    """Exceptions that no text can describe are compared by identity."""
    assert Raise(OSError(2, "x")) != Raise(OSError(2, "x"))
    assert Raise(Refused("no")) != Raise(Refused("no"))


def test_equality_by_value() -> None:
    """Other actions are equal if they have the same type and the same values."""
    assert Sleep(100) == Sleep(100.0)
    assert Sleep(100) != Delay(100)
    assert Return("42") != Return(42)
    assert Term(Off()) != Off()
    assert len({*map(repr, EVERYTHING)}) == len(EVERYTHING)
    assert not [(a, b) for a in EVERYTHING for b in EVERYTHING if a is not b and a == b]


# Outcomes.


@pytest.mark.parametrize(
    ("outcome", "truth"),
    [(Continue(), False), (Return(None), True), (Return(0), True), (Return(""), True), (Cancelled(), True)],
)
def test_truth_of_outcomes(outcome: Outcome, truth: bool) -> None:
    """`Continue()` is false. `Return` with any value and `Cancelled()` are true."""
    assert bool(outcome) is truth


def branch_of(outcome: Outcome) -> str:
    match outcome:
        case Return(value):
            return f"return {value!r}"
        case Cancelled():
            return "cancelled"
        case Continue():
            return "continue"


@pytest.mark.parametrize(
    ("outcome", "branch"),
    [
        (Return("42"), "return '42'"),
        (Return(None), "return None"),
        (Cancelled(), "cancelled"),
        (Continue(), "continue"),
    ],
)
def test_match_statement(outcome: Outcome, branch: str) -> None:
    """A match statement distinguishes the three outcomes."""
    assert branch_of(outcome) == branch


def test_outcomes_of_an_inline_site() -> None:
    """An inline site gets the `Return` value unchanged, and `Continue()` for other actions that do not raise."""
    value = object()
    for actions, branch in [
        ("return(42)", "return '42'"),
        (Return(value), f"return {value!r}"),
        ("return", "return None"),
        ("off", "continue"),
        (Call(lambda hit: Return(hit.name)), "return 'backup'"),
        (Call(lambda _: None), "continue"),
        ("yield", "continue"),
        ("delay(0)", "continue"),
        ("print", "continue"),
        ("sleep(0)", "continue"),
    ]:
        with configured("backup", actions):
            assert branch_of(failpoint("backup").hit()) == branch


@pytest.mark.parametrize(
    ("actions", "kind", "message"),
    [
        ("raise", InjectedFault, "injected by failpoint 'backup'"),
        ("raise(OSError)", OSError, "injected by failpoint 'backup'"),
        ("raise(OSError: disk full)", OSError, "disk full"),
        ('raise("OSError: ")', OSError, ""),
        ("raise(Refused)", Refused, "injected by failpoint 'backup'"),
        ("raise(Refused: no)", Refused, "no"),
        (f"raise({__name__}.Refused)", Refused, "injected by failpoint 'backup'"),
        (Raise(Refused), Refused, "injected by failpoint 'backup'"),
        (Raise(Refused, "no"), Refused, "no"),
        (Raise(Refused("no")), Refused, "no"),
        ("panic", FailpointPanic, "injected by failpoint 'backup'"),
        ("panic(msg)", FailpointPanic, "msg"),
        ('panic("")', FailpointPanic, ""),
    ],
)
def test_the_class_and_message_of_raised_exceptions(actions: Any, kind: type[BaseException], message: str) -> None:
    """A site raises the exception with its message, or with one that names the failpoint."""
    with configured("backup", actions), pytest.raises((Exception, FailpointPanic)) as caught:
        failpoint("backup", raises=(Refused,)).hit()
    assert type(caught.value) is kind
    assert str(caught.value) == message


def test_fresh_copies() -> None:
    """Each visit raises a new copy of the instance, without an earlier traceback."""
    error = Refused("no")
    seen: list[BaseException] = []
    with configured("backup", Raise(error)):
        for _ in range(2):
            with pytest.raises(Refused) as caught:
                failpoint("backup").hit()
            seen.append(caught.value)
            assert caught.value.args == ("no",)
    assert len({id(error), *map(id, seen)}) == 3
    assert error.__traceback__ is None


# Immutability, pickling and hashing.


@pytest.mark.parametrize("value", EVERYTHING, ids=repr)
def test_values_are_frozen(value: Any) -> None:
    """Actions, terms, outcomes and hits cannot be changed."""
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, None)
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize("value", EVERYTHING, ids=repr)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_values_can_be_pickled(value: Any, protocol: int) -> None:
    """Actions, terms, outcomes and hits can be pickled."""
    assert pickle.loads(pickle.dumps(value, protocol)) == value
    assert copy.deepcopy(value) == value


def test_values_can_be_hashed() -> None:
    """Terms and actions with hashable values can be members of a set."""
    hashable = [value for value in EVERYTHING if not isinstance(value, Hit)]
    assert {*hashable} == {*copy.copy(hashable)}
    assert len({*hashable}) == len(hashable)


def test_a_call_gets_the_hit() -> None:
    """A `Call` function receives the failpoint's name and the context of the visit."""
    hits: list[Hit] = []
    context = MappingProxyType({"tenant_id": "t1"})
    with configured("backup", Call(hits.append)):
        failpoint("backup", context=context).hit()
    assert hits == [Hit("backup", {"tenant_id": "t1"})]
