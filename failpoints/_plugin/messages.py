"""What the plugin writes about the failpoints of one test: why it failed, and the section of its report."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias

from .._core.configuration import Configuration
from .._core.formatting import describe_actions
from .._core.known_sites import Location
from .._core.messages import safe_repr
from .._core.status import FailpointStatus, Waiting
from .._core.store import PROCESS_STORE
from ..errors import FailpointError, FailpointTimeout
from .children import Started, environment_text, started, still_running, was_hit

NEVER_HIT = "was set and never hit"
"""The problem of a failpoint that a test set, in the message of its failure."""
NOT_RESUMED: Final = "was not resumed"
"""That of a pause which ran into the limit of the setting."""
_RESUME_IT: Final = "Resume it, or give the pause a limit of its own, such as pause(50)."


class Advice(NamedTuple):
    """What messages advise: what to do about a failpoint that was never hit, and how to set `failpoints_processes`."""

    never_hit: str
    processes: str


class Expectation(NamedTuple):
    """A configuration, and whether a test is expected to hit it. *where* is the place that configured it."""

    configuration: Configuration
    expect_hit: bool | None  # None: configured outside the test, which need not hit it
    where: Location | str


_Facts: TypeAlias = list[tuple[str, str]]


class State(NamedTuple):
    """The state of a configuration at one moment.

    *problem* is why it fails a test that passed, or empty. *processes* are facts on other processes, if it was not hit.
    """

    configuration: Configuration
    problem: str
    is_of_the_run: bool
    status: FailpointStatus
    where: Location | str
    error: Exception | None
    ended: str
    waiting_at_end: tuple[Waiting, ...]
    processes: _Facts


def problem_of(expectation: Expectation) -> str:
    """Return why a configuration fails a test that passed, or an empty string."""
    configuration, expect_hit, _ = expectation
    if isinstance(configuration.error, FailpointTimeout) and expect_hit is not False:
        return NOT_RESUMED
    if configuration.error is not None and expect_hit is not False:
        return "could not do what it was configured to do"
    return NEVER_HIT if expect_hit and not was_hit(configuration) else ""


def state_of(expectation: Expectation, processes: _Facts) -> State:
    """Return the present state of a configuration. *processes* are the facts on those that the test started or used."""
    configuration, expect_hit, where = expectation
    ended = ""
    if configuration.ended_by is not None:
        replaced = PROCESS_STORE.current(configuration.name) != ()
        ended = "configured again since" if replaced else "no longer configured"
    return State(
        configuration=configuration,
        problem=problem_of(expectation),
        is_of_the_run=expect_hit is None,
        status=PROCESS_STORE.status_of(configuration),
        where=where,
        error=configuration.error,
        ended=ended,
        waiting_at_end=configuration.waiting_at_end,
        processes=[] if expect_hit is None or was_hit(configuration) else _seen_from(configuration, processes),
    )


_STAYED: Final = "processes", "those that the test started did not have it: it has no text that they could be given"


def _seen_from(configuration: Configuration, processes: _Facts) -> _Facts:
    """Return *processes*, or that they could not have this configuration."""
    stayed = PROCESS_STORE.others is not None and not PROCESS_STORE.others.can_have(configuration)
    return [_STAYED] if processes and stayed else processes


def verdict(unmet: Iterable[State], advice: str) -> str:
    """Explain why a test fails that passed.

    Args:
        unmet: The states of what it did not exercise.
        advice: What to do about it.
    """
    elsewhere = PROCESS_STORE.statuses()
    described: dict[str, list[str]] = {}  # by what to do about it
    for state, earlier in _alike(unmet):
        advised, passed = advice, "without exercising it"
        if state.problem == NOT_RESUMED:
            advised, passed = _RESUME_IT, "although a pause ran into its limit"
        described.setdefault("It is configured for the whole run." if state.is_of_the_run else advised, []).append(
            f"failpoint {state.status.name!r} {state.problem}: the test passed {passed}.\n"
            + _details(state, elsewhere, earlier)
        )
    return "\n\n".join("\n\n".join(texts) + f"\n{advised}" for advised, texts in described.items())


def section(states: Iterable[State]) -> str:
    """Describe what is configured, for the report of a failing test."""
    return "\n".join(f"{state.status.name}\n{_details(state, (), earlier)}" for state, earlier in _alike(states))


def _alike(states: Iterable[State]) -> Iterator[tuple[State, _Facts]]:
    """Yield the last of the states that one line of a test made, with a fact about the earlier ones."""
    groups: dict[tuple[object, ...], list[State]] = {}
    for state in states:
        status = state.status
        call = (status.name, describe_actions(status.actions), safe_repr(dict(status.matchers or {})), state.where)
        groups.setdefault((state.problem, *call), []).append(state)
    for *earlier, last in groups.values():
        hits, misses, triggers = (
            sum(getattr(state.status, count) for state in earlier) for count in ("hits", "misses", "triggers")
        )
        times = f"{len(earlier)} times" if len(earlier) > 1 else "once"
        fact = ("earlier", f"set {times} before at this place: hits {hits}, misses {misses}, triggers {triggers}")
        yield last, [fact] if earlier else []


def facts_on_processes(configured: Iterable[Configuration], before: Started, setting: str) -> _Facts:
    """Describe the processes that a test started or used, and what reached them.

    Args:
        configured: What the test configured.
        before: The processes that had been started when it began.
        setting: How to set `failpoints_processes`.
    """
    new, old = started().since(before), still_running(before)
    texts: list[str] = []
    if PROCESS_STORE.others is not None:
        if sum(new):
            texts.append(f"{sum(new)} started by the test; it was never hit in those that have FAILPOINTS_FLEET")
    else:
        if new.forked:
            texts.append(
                f"{new.forked} forked by the test, with what was configured then; it was never hit there either"
            )
        if new.otherwise:
            texts.append(
                f"{new.otherwise} started by the test, with only what FAILPOINTS configures; hits are not counted"
            )
        if old:
            texts.append(f"{old} running since before the test, without what the test configured")
        if new.otherwise or old:
            texts += _ways_to_reach_processes(configured, setting)
    return list(zip(["processes", *[""] * len(texts)], texts, strict=False))


def _ways_to_reach_processes(configured: Iterable[Configuration], setting: str) -> Iterator[str]:
    text, without_text = environment_text(configured)
    if text:
        environment = f"put FAILPOINTS={text!r} into its environment"
        if sys.platform == "win32":  # which has no fleets in folders
            yield f"to configure the same there, {environment}"
        else:
            yield f"to have the same there and count the hits, set {setting}"
            yield f"or {environment}"
        yield "what FAILPOINTS configures counts from zero in each process, also in one that replaces another"
    if without_text:
        yield f"there is no text for {', '.join(map(repr, without_text))}"


def _details(state: State, elsewhere: Iterable[FailpointStatus], earlier: _Facts) -> str:
    from .._core.declared import describe_location  # imported here because only messages need them
    from .._core.diagnosis import diagnosis

    facts: _Facts = []
    if isinstance(state.error, FailpointError):
        facts.append(("error", str(state.error)))
    elif state.error is not None:
        facts.append(("error", f"{safe_repr(state.error)}, raised by a matcher or the site's context="))
    if state.ended:
        facts.append(("ended", state.ended))
        facts += [("", f"{waiting.name!r} was waiting there until then") for waiting in state.waiting_at_end]
    where = describe_location(state.where) if isinstance(state.where, Location) else state.where
    try:
        return diagnosis(
            state.status, where=where, elsewhere=elsewhere, counted=state.processes, facts=[*facts, *earlier]
        )
    except Exception as error:  # an object of the user's, such as a context key, must not end the run
        return f"  the details cannot be shown: {safe_repr(error)}"
