"""A `raise(Name)` that the known sites cannot raise is refused when it is configured."""

from __future__ import annotations

from typing import Any

import pytest

from failpoints import (
    FailpointUsageError,
    configure,
    configure_all,
    configured,
    failpoint,
    failpoint_scope,
    instrument,
    parse_actions,
    statuses,
)
from failpoints.pytest_plugin import Failpoints


class ReadTimeout(Exception):
    """An exception of the program."""


@failpoint("declares", raises=(ReadTimeout,))
def declares() -> None:
    pass


@failpoint("declares.nothing")
async def declares_nothing() -> None:
    pass


@failpoint("partly")
def partly() -> None:
    pass


@failpoint("partly", raises=(ReadTimeout,))
def partly_too() -> None:
    pass


@failpoint("also.inline")
def also_inline() -> None:
    failpoint("also.inline", raises=(ReadTimeout,)).hit()


def inline() -> None:
    failpoint("inline.only").hit()


REFUSED = [
    (
        "declares.nothing",
        "raise(ReadTimeout)",
        "(raises=nothing): declare it there, or pass Raise(…); did you mean 'TimeoutError'?",
    ),
    (
        "declares.nothing:after",
        "raise(ReadTimeout: slow)",
        "(raises=nothing): declare it there, or pass Raise(…); did you mean 'TimeoutError'?",
    ),
    (
        "declares",
        "raise(ReadTimeuot)",
        "(raises=ReadTimeout): declare it there, or pass Raise(…); did you mean 'ReadTimeout'?",
    ),
    (
        "declares",
        "25%sleep(1)+raise(ReadTimeuot)->off",
        "(raises=ReadTimeout): declare it there, or pass Raise(…); did you mean 'ReadTimeout'?",
    ),
    ("partly", "raise(Unheard)", "(raises=ReadTimeout): declare it there, or pass Raise(…)"),
]


@pytest.mark.parametrize(("name", "actions", "end"), REFUSED)
def test_refused(name: str, actions: str, end: str, failpoints: Failpoints) -> None:
    """It is refused by whatever configures, with the nearest name, and nothing is changed."""

    def in_a_block() -> None:
        with configured(name, actions):
            pass

    for configuring in (
        lambda: configure(name, actions),
        lambda: configure_all([("other", "off"), (name, actions)]),
        in_a_block,
        lambda: failpoints.set(name, actions),
    ):
        with pytest.raises(FailpointUsageError) as caught:
            configuring()
        assert str(caught.value).startswith(f"failpoint {name!r} cannot raise ")
        assert str(caught.value).endswith(end)
        assert statuses() == []


@pytest.mark.parametrize(
    ("name", "actions"),
    [
        ("declares", "raise(ReadTimeout)"),
        ("declares:after", "raise(test_raisable.ReadTimeout)"),
        ("declares", "raise(OSError)"),
        ("declares.nothing", "raise"),
        ("declares.nothing", "raise(InjectedFault)"),
        ("partly", "raise(ReadTimeout)"),
        ("also.inline", "raise(ReadTimeout)"),  # it may be the inline site's, which was not visited yet
        ("inline.only", "raise(ReadTimeout)"),
        ("unknown", "raise(ReadTimeout)"),
    ],
)
def test_not_refused(name: str, actions: str) -> None:
    """It is not refused if a site declares it, or if there may be a site that does."""
    actions = actions.replace("test_raisable", __name__)
    with configured(name, actions):
        assert statuses()[0].actions == parse_actions(actions)


def test_an_inline_site_that_was_visited() -> None:
    """What an inline site or a scope declares can be something else at the next visit."""

    def visit(**options: Any) -> None:
        with failpoint_scope("changing", **options):
            pass

    with configured("changing", "off"):
        visit()
    with configured("changing", "raise(ReadTimeout)"), pytest.raises(ReadTimeout):
        visit(raises=(ReadTimeout,))


def test_an_instrumented_function() -> None:
    """An instrumented function is known, with what `instrument` was given."""
    undo = instrument.instrument("colorsys:rgb_to_hsv", "colours", raises=(ReadTimeout,))
    try:
        configure("colours", "raise(ReadTimeout)")
        with pytest.raises(FailpointUsageError, match="cannot raise Unheard"):
            configure("colours", "raise(Unheard)")
    finally:
        undo()
    configure("colours", "raise(Unheard)")
