"""Terms that nothing can reach: kept by `configure`, refused by what a test configures."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from failpoints import (
    Call,
    FailpointUsageError,
    Off,
    Return,
    configure,
    configure_all,
    configured,
    failpoint,
    parse_actions,
    remove,
    status,
    statuses,
)
from failpoints.pytest_plugin import Failpoints

UNREACHABLE: list[tuple[Any, str]] = [
    (
        "sleep(200)->raise(TimeoutError)",
        "nothing can reach 'raise(TimeoutError)', because 'sleep(200)' takes every hit; did you mean"
        " 'sleep(200)+raise(TimeoutError)'?",
    ),
    (
        "2*off->100->pause->raise",
        "nothing can reach 'pause', because 'sleep(100)' takes every hit; did you mean"
        " '2*off->sleep(100)+pause+raise'?",
    ),
    (
        "return(1)->pause",
        "nothing can reach 'pause', because 'return(1)' takes every hit; did you mean '1*return(1)->pause'?",
    ),
    ("off->pause", "nothing can reach 'pause', because 'off' takes every hit; did you mean '1*off->pause'?"),
    (
        "pause->25%raise->off",
        "nothing can reach '25%raise', because 'pause' takes every hit; did you mean '1*pause->25%raise->off'?",
    ),
    (
        "pause+raise->off",
        "nothing can reach 'off', because 'pause+raise' takes every hit; did you mean '1*pause+raise->off'?",
    ),
    (
        "100%off->panic",
        "nothing can reach 'panic', because 'off' takes every hit; did you mean '1*off->panic'?",
    ),
    (
        [Return(5), Off()],
        "nothing can reach 'off', because 'Return(value=5)' takes every hit; give it a chance or a count, or join what"
        " belongs to the same visit by '+'",
    ),
    (f"off{'->pause' * 20}", "nothing can reach 'pause', because 'off' takes every hit"),
]


@pytest.mark.parametrize(("actions", "problem"), UNREACHABLE)
def test_configured_refuses_it(actions: Any, problem: str) -> None:
    """`configured` refuses a term that nothing can reach, says what was probably meant, and changes nothing."""
    with pytest.raises(FailpointUsageError) as caught, configured("x", actions):
        pass
    assert str(caught.value) == f"failpoint 'x': {problem}"
    assert statuses() == []


@pytest.mark.parametrize(("actions", "problem"), UNREACHABLE)
def test_configure_logs_it(actions: Any, problem: str, caplog: pytest.LogCaptureFixture) -> None:
    """`configure` keeps such a term, as `fail` does, and logs it at WARNING."""
    for call in (lambda: configure("x", actions), lambda: configure_all([("x", actions)])):
        caplog.clear()
        call()
        assert len(status("x").actions) > 1
        remove("x")
        warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert [record.getMessage() for record in warnings] == [f"configured x: {problem}"]


@pytest.mark.parametrize(
    "actions",
    [
        "pause",
        "2*off->pause",
        "25%off->raise",
        "0%off->raise",
        "1*sleep(1)->1*raise->off",
        "sleep(1)+raise",
        "50%2*off->off",
    ],
)
def test_reachable_terms(actions: str, caplog: pytest.LogCaptureFixture) -> None:
    """After a term with a chance or a count, the next one can be reached."""
    with configured("x", actions):
        assert status("x").actions == parse_actions(actions)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_the_fixture_refuses_it(failpoints: Failpoints) -> None:
    """So does `failpoints.set`, which leaves the earlier configuration in force."""
    failpoints.set("x", "return(1)", expect_hit=False)
    with pytest.raises(FailpointUsageError, match=r"did you mean 'sleep\(1\)\+raise'"):
        failpoints.set("x", "sleep(1)->raise")
    outcome = failpoint("x").hit()
    assert outcome


def test_functions_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    """What follows a `Call` is not reached either: it takes every hit, whatever it returns."""
    configure("x", [Call(print), Off()])
    remove("x")
    assert "nothing can reach 'off', because 'Call(function=<built-in function print>)' takes every hit" in caplog.text
