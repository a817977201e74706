"""Schedules of faults that Hypothesis draws and shrinks."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import find, given, settings

from failpoints import ActionSyntaxError, Call, FailpointNameError, FailpointUsageError, Registry, failpoint
from failpoints.strategies import schedules

FAULTS = {
    "shop.reserve": ["raise(OSError)", "sleep(0)"],
    "shop.charge": ["raise(TimeoutError)"],
    "shop.mail": ["raise"],
}
STEPS = list(FAULTS)
quick = settings(database=None, derandomize=True, deadline=None)


def steps_done(schedule: list[Any], rounds: int = 1) -> list[str]:
    """Return the steps that a program with retries carries out, under a schedule."""
    done: list[str] = []
    with Registry() as registry:
        registry.configure_all(schedule)
        for _ in range(rounds):
            for step in STEPS:
                try:
                    failpoint(step, context={"shard": 1}).hit()
                except Exception:
                    continue
                done.append(step)
    return done


def test_shrinking_ends_at_the_one_needed_fault() -> None:
    """A failing schedule shrinks to the one fault that the failure needs, at the first visit."""
    needed = find(schedules(FAULTS), lambda schedule: "shop.charge" not in steps_done(schedule), settings=quick)
    assert needed == [("shop.charge", "1*raise(TimeoutError)")]


def test_shrinking_keeps_what_is_needed() -> None:
    """If a failure needs two faults, and one of them at a later visit, just these are left."""

    def fails(schedule: list[Any]) -> bool:
        done = steps_done(schedule, rounds=3)
        return done.count("shop.mail") < 3 and done[0] == "shop.reserve" and done.count("shop.reserve") < 3

    needed = find(schedules(FAULTS, max_faults=5), fails, settings=quick)
    assert sorted(needed) == [("shop.mail", "1*raise"), ("shop.reserve", "1*off->1*raise(OSError)")]


def test_the_simplest_schedule_is_empty() -> None:
    """A failure that needs no fault shrinks to a schedule without one."""
    assert find(schedules(FAULTS), lambda _: True, settings=quick) == []


@quick
@given(
    schedules(
        {"shop.charge": ["raise", "2*raise->sleep(0)", Call(print)], "shop.mail": ["50%raise"]},
        contexts={"shop.charge": [{"shard": 1}, {"shard": 2}]},
        max_faults=4,
        max_skipped=2,
        max_times=2,
    )
)
def test_every_schedule_can_be_configured(schedule: list[Any]) -> None:
    """Each failpoint and context is in a schedule once. Terms with a count or a chance stay as they are."""
    assert len(schedule) <= 4
    places = [(name, str(context)) for name, _, *context in schedule]
    assert len(set(places)) == len(places)
    for name, actions, *context in schedule:
        assert (context in ([{"shard": 1}], [{"shard": 2}])) is (name == "shop.charge")
        last = actions.rpartition("off->")[2] if isinstance(actions, str) else "Call"
        assert last in {"1*raise", "2*raise", "2*raise->sleep(0)", "50%raise", "Call"}
    with Registry() as registry:
        registry.configure_all(schedule)


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "message"),
    [
        ((["shop.charge"],), {}, FailpointUsageError, "a mapping of names to lists of actions"),
        (({},), {}, FailpointUsageError, "a mapping of names to lists of actions"),
        (({"a": "raise"},), {}, FailpointUsageError, "must be a list of actions, the simplest first; got 'raise'"),
        (({"a": []},), {}, FailpointUsageError, "must be a list of actions"),
        (({"a": ["rase"]},), {}, ActionSyntaxError, "did you mean"),
        (({"a b": ["raise"]},), {}, FailpointNameError, "white space"),
        (({"a": ["raise"]},), {"contexts": {"b": [{}]}}, FailpointUsageError, "contexts= names 'b'"),
        (
            ({"a": ["raise"]},),
            {"contexts": ["a"]},
            FailpointUsageError,
            "contexts= must be a mapping of names to lists",
        ),
        (
            ({"a": ["raise"]},),
            {"contexts": {"a": {"k": "v"}}},
            FailpointUsageError,
            "must be a list of matchers, the simplest first; got {'k': 'v'}; did you mean [{'k': 'v'}]?",
        ),
        (({"a": ["raise"]},), {"contexts": {"a": 3}}, FailpointUsageError, "must be a list of matchers"),
        (({"a": ["raise"]},), {"contexts": {"a": []}}, FailpointUsageError, "must be a list of matchers"),
        (({"a": ["raise"]},), {"contexts": {"a": [{"k": "("}]}}, FailpointNameError, "not a valid regular expression"),
        (({"a": ["raise"]},), {"max_faults": 0}, FailpointUsageError, "max_faults must be a whole number of 1 or more"),
    ],
)
def test_wrong_arguments(arguments: Any, options: Any, kind: type[Exception], message: str) -> None:
    """A wrong argument is refused when the strategy is made, not when it is drawn from."""
    with pytest.raises(kind) as refused:
        schedules(*arguments, **options)
    assert message in str(refused.value)


def test_without_hypothesis() -> None:
    """Without Hypothesis, importing the module is one sentence that says what to install."""
    script = "import sys; sys.modules['hypothesis'] = None\nimport failpoints.strategies"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50)
    assert done.stderr.splitlines()[-1] == (
        "failpoints.errors.FailpointUsageError: failpoints.strategies needs hypothesis, which is not installed:"
        " pip install 'failpoints[hypothesis]'"
    )
