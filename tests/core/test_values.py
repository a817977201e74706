"""Actions, outcomes and statuses are frozen dataclasses, although they do not look like ones in the source."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import sys
from dataclasses import FrozenInstanceError, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from failpoints import (
    Action,
    Break,
    Call,
    Cancel,
    Cancelled,
    Continue,
    Delay,
    Exit,
    FailpointStatus,
    FailpointUsageError,
    Hit,
    Off,
    Panic,
    Pause,
    Print,
    Raise,
    Return,
    Sleep,
    Stray,
    Term,
    Then,
    Waiting,
    Yield,
)

NOW = datetime(2026, 11, 27, tzinfo=UTC)
VALUES = {
    "Break()": Break(),
    "Call(function=<built-in function print>)": Call(print),
    "Cancel()": Cancel(),
    "Cancelled()": Cancelled(),
    "Continue()": Continue(),
    "Delay(duration=5)": Delay(5),
    "Exit(status=3)": Exit(3),
    "Hit(name='a', context={'k': 1}, result=2)": Hit("a", {"k": 1}, 2),
    "Off()": Off(),
    "Panic(message='no')": Panic("no"),
    "Pause(limit=None)": Pause(),
    "Pause(limit=1500.0)": Pause(timedelta(seconds=1.5)),
    "Print(message=None)": Print(),
    "Raise(error=<class 'OSError'>, message='full')": Raise(OSError, "full"),
    "Return(value=[1])": Return([1]),
    "Sleep(duration=0.5)": Sleep(0.5),
    f"Stray(thread='t', context={{}}, count=1, since={NOW!r})": Stray("t", {}, 1, NOW),
    "Term(action=Off(), probability=0.25, times=3)": Term(Off(), 0.25, 3),
    "Then(actions=(Sleep(duration=1), Off()))": Sleep(1) + Off(),
    f"Waiting(name='w', context={{}}, since={NOW!r})": Waiting("w", {}, NOW),
    "Yield()": Yield(),
}


@pytest.mark.parametrize(("shown", "value"), VALUES.items(), ids=lambda each: type(each).__name__)
def test_values(shown: str, value: Any) -> None:
    """A value is shown with its fields, and is equal to its copies, whichever way they are made."""
    assert repr(value) == shown
    pickled = [pickle.loads(pickle.dumps(value, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    copies = [*pickled, copy.copy(value), copy.deepcopy(value), dataclasses.replace(value), type(value)(**fields)]
    if sys.version_info >= (3, 13):
        copies.append(copy.replace(value))
    assert [each == value and repr(each) == shown for each in copies] == [True] * len(copies)
    assert value != object()
    assert value != next(each for each in VALUES.values() if type(each) is not type(value))
    assert type(value).__match_args__ == tuple(fields)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_values_are_frozen(value: Any) -> None:
    """Nothing can be assigned to a value, and it has no dictionary."""
    for name in ("unknown", *(field.name for field in dataclasses.fields(value))):
        with pytest.raises(FrozenInstanceError, match=f"cannot assign to field '{name}'"):
            setattr(value, name, 1)
        with pytest.raises(FrozenInstanceError, match=f"cannot delete field '{name}'"):
            delattr(value, name)
    assert not hasattr(value, "__dict__")


def test_hashes() -> None:
    """Equal values have equal hashes. One with a field that cannot be hashed cannot be hashed either."""
    assert len({Sleep(1), Sleep(1), Delay(1), Sleep(2), Off(), Off(), Then((Off(), Off())), Off() + Off()}) == 5
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        hash(Return([]))


def test_parts_of_a_value() -> None:
    """`match`, `replace` and `asdict` know the fields of a value, and `replace` validates."""
    match Term(Return("x"), times=2):
        case Term(Return(value), chance, times):
            assert (value, chance, times) == ("x", 1.0, 2)
        case _:
            pytest.fail("no match")
    assert dataclasses.replace(Term(Off()), times=3) == Term(Off(), times=3)
    with pytest.raises(FailpointUsageError, match="times"):
        dataclasses.replace(Term(Off()), times=0)
    assert dataclasses.asdict(Hit("a", {"k": 1})) == {"name": "a", "context": {"k": 1}, "result": None}
    status = FailpointStatus("a", hits=1)
    assert dataclasses.replace(status, hits=2) == FailpointStatus("a", hits=2) != status
    assert pickle.loads(pickle.dumps(status)) == status


def test_a_value_that_contains_itself() -> None:
    """A value that contains itself is shown with dots."""
    values: list[Any] = []
    values.append(Return(values))
    assert repr(values[0]) == "Return(value=[...])"


def test_a_dataclass_of_a_value() -> None:
    """A frozen dataclass can inherit from an action, and is carried out as one."""

    @dataclass(frozen=True)
    class Answer(Return):
        reason: str = ""

    answer: Action = Answer("x", "why")
    assert (answer, repr(answer).partition(".")[0]) == (Answer("x", "why"), "test_a_dataclass_of_a_value")
    assert answer != Answer("x")
