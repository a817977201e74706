"""Actions, terms and outcomes: what they take, and how they compare."""

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
    Break(),
    Call(print),
    Continue(),
    Cancelled(),
    Hit("backup", {"tenant_id": "t1"}),
    Term(Return("x"), 0.25, 3),
]


class Refused(Exception):
    pass


# What they take.


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
            "Raise takes a message, a str, only beside a class or a name; got None, 'disk full'",
        ),
        (
            lambda: Raise(OSError("a"), "b"),
            "Raise takes a message, a str, only beside a class or a name; got OSError('a'), 'b'",
        ),
        (
            lambda: Raise(OSError, 5),
            "Raise takes a message, a str, only beside a class or a name; got <class 'OSError'>, 5",
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
def test_refusal(make: Callable[[], object], message: str) -> None:
    """A value of a wrong type or out of its range is a usage error that says what is taken."""
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
def test_refusal_whatever_the_number(make: Callable[[], object]) -> None:
    """A number that is too great, even one too great to be shown, is a usage error too."""
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
    """A duration can be a timedelta in Python, and is then the same as its milliseconds."""
    assert (Pause(given), Sleep(given), Delay(given)) == (
        Pause(milliseconds),
        Sleep(milliseconds),
        Delay(milliseconds),
    )
    assert hash(Sleep(given)) == hash(Sleep(milliseconds))
    assert in_seconds(Sleep(given).duration) == in_seconds(Delay(given).duration) == milliseconds / 1000
    assert Sleep(given).duration == Delay(given).duration == Pause(given).limit == milliseconds


def test_defaults() -> None:
    """Without arguments an action is what its bare text says."""
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
def test_hints(given: Any, hint: str) -> None:
    """What is no actions is refused with the slip that most likely caused it, and nothing that fails too."""
    for configuring in (as_terms, format_actions, lambda actions: configure("backup", actions)):
        with pytest.raises(FailpointUsageError) as caught:
            configuring(given)
        assert str(caught.value) == (
            f"actions are a text, an action, a Term, or a sequence of the last two; got {given!r}{hint}"
        )
    assert statuses() == []


@pytest.mark.parametrize("given", [[], ()])
def test_no_actions_at_all(given: Any) -> None:
    """An empty sequence is refused, with the action that does nothing."""
    with pytest.raises(FailpointUsageError) as caught:
        as_terms(given)
    assert str(caught.value) == "expected at least one action; got an empty sequence (Off() does nothing)"


@pytest.mark.parametrize("item", ["pause", OSError, 100, [Off()]])
def test_items_of_a_sequence(item: Any) -> None:
    """A sequence holds actions and terms, and nothing else that is taken alone."""
    with pytest.raises(FailpointUsageError, match="a sequence of the last two; got "):
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
def test_what_actions_are(given: Any, terms: tuple[Term, ...]) -> None:
    """Actions are a text, one action, one term, or a sequence of them."""
    assert as_terms(given) == terms


# How they compare.


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
def test_raise_equals_its_text(text: str, action: Raise) -> None:
    """A Raise is equal to the one that its text gives, and hashes alike."""
    [term] = parse_actions(text)
    assert term.action == action
    assert hash(term.action) == hash(action)
    assert term == Term(action)


def test_equal_raises() -> None:
    """Without a text, two are equal that raise the same class with the same message, or the same instance."""
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
    """What raises something else, or is no Raise, is not equal."""
    assert Raise(OSError) != other
    assert Raise(Refused("no")) != other
    assert Raise(Refused, "no") != other


def test_instances_without_a_text_are_themselves() -> None:
    """Two exceptions that no text can make are two, however alike."""
    assert Raise(OSError(2, "x")) != Raise(OSError(2, "x"))
    assert Raise(Refused("no")) != Raise(Refused("no"))


def test_equality_by_value() -> None:
    """The other actions are equal by value, and of different kinds never."""
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
    """To go on is false; to return, whatever it is, and to be cancelled are true."""
    assert bool(outcome) is truth


def told(outcome: Outcome) -> str:
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
    """An outcome is told apart by a match statement."""
    assert told(outcome) == branch


def test_what_a_site_is_told() -> None:
    """Inline, Return.value is what was given; the other actions that do not raise let the site go on."""
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
            assert told(failpoint("backup").hit()) == branch


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
def test_what_a_site_raises(actions: Any, kind: type[BaseException], message: str) -> None:
    """An exception has the message it was given, else one that names the failpoint."""
    with configured("backup", actions), pytest.raises((Exception, FailpointPanic)) as caught:
        failpoint("backup", raises=(Refused,)).hit()
    assert type(caught.value) is kind
    assert str(caught.value) == message


def test_fresh_copies() -> None:
    """An instance is raised as a fresh copy each time, without the traceback of the last."""
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


# Plain values.


@pytest.mark.parametrize("value", EVERYTHING, ids=repr)
def test_frozen(value: Any) -> None:
    """None of them can be changed."""
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, None)
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize("value", EVERYTHING, ids=repr)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_picklable(value: Any, protocol: int) -> None:
    """All of them survive being pickled, to be sent to another process."""
    assert pickle.loads(pickle.dumps(value, protocol)) == value
    assert copy.deepcopy(value) == value


def test_hashable() -> None:
    """Terms and actions of hashable values can be kept in sets."""
    hashable = [value for value in EVERYTHING if not isinstance(value, Hit)]
    assert {*hashable} == {*copy.copy(hashable)}
    assert len({*hashable}) == len(hashable)


def test_hit() -> None:
    """A Call is given the failpoint's name and the context of the visit."""
    hits: list[Hit] = []
    context = MappingProxyType({"tenant_id": "t1"})
    with configured("backup", Call(hits.append)):
        failpoint("backup", context=context).hit()
    assert hits == [Hit("backup", {"tenant_id": "t1"})]
