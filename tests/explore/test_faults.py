"""Every fault at every visit: the runs that they take, and whether a fault surfaces, is absorbed, or shows a bug."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from math import comb
from typing import Any

import anyio
import anyio.to_thread
import pytest

import failpoints
from failpoints import (
    Call,
    FailpointPanic,
    FailpointUsageError,
    InjectedFault,
    Pause,
    Raise,
    Registry,
    Return,
    configured,
    failpoint,
    failpoint_scope,
)
from failpoints.explore import ExplorationFailed, Run, explore


class TooMuch(Exception):
    pass


@pytest.mark.parametrize("faults", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("alternatives", [1, 2])
def test_how_many_runs(backend: Any, faults: int, alternatives: int) -> None:
    """With n visits, f alternatives and up to k faults in a run, there are sum(C(n, i) f^i) runs."""
    raises = (OSError, ValueError)[:alternatives]

    async def visits(run: Run) -> None:
        async with run.injecting():
            for number in range(4):
                try:
                    await failpoint("store.write", context={"number": number}, raises=raises)
                except raises:
                    pass

    exploration = explore(visits, backend=backend, max_faults=faults)
    assert exploration.runs == sum(comb(4, i) * alternatives**i for i in range(faults + 1))
    assert exploration.exhaustive
    assert exploration.bounds == ()
    assert exploration.hits == {"store.write": 4 * exploration.runs}


def test_each_alternative_before_and_after(backend: Any) -> None:
    """A decorated function and a scope fail in each way that they declare, before the body and after it."""
    seen: list[tuple[Any, ...]] = []

    @failpoint("store.write", raises=(OSError, TooMuch))
    async def write() -> None:
        seen[-1] += ("written",)

    async def scenario(run: Run) -> None:
        seen.append(())
        async with run.injecting():
            await write()
            async with failpoint_scope("store.commit"):
                seen[-1] += ("committed",)
        seen[-1] += (type(run.error), *(f"{fault.visit.name}" for fault in run.faults))

    exploration = explore(scenario, backend=backend)
    assert seen == [
        ("written", "committed", type(None)),
        (OSError, "store.write"),
        (TooMuch, "store.write"),
        ("written", OSError, "store.write:after"),
        ("written", TooMuch, "store.write:after"),
        ("written", InjectedFault, "store.commit"),
        ("written", "committed", InjectedFault, "store.commit:after"),
    ]
    assert str(exploration) == "7 runs, every fault at 4 visits, one at a time: no failure"


def test_sync_sites_and_threads(backend: Any) -> None:
    """Sync visits are made to fail too, on the event loop and in worker threads."""
    seen: list[list[str]] = []

    @failpoint("parse", raises=(ValueError,))
    def parse() -> None:
        pass

    def in_thread() -> None:
        failpoint("thread", raises=(OSError,)).hit()

    async def scenario(run: Run) -> None:
        seen.append([])
        async with run.injecting():
            parse()
            await anyio.to_thread.run_sync(in_thread)
        seen[-1] = [f"{fault.visit.name} in {fault.visit.path}" for fault in run.faults]

    assert explore(scenario, backend=backend).runs == 4
    assert seen == [[], ["parse in ()"], ["parse:after in ()"], ["thread in (-1,)"]]


def test_a_generator(backend: Any) -> None:
    """An async generator fails at its first step and at its end."""

    @failpoint("rows", raises=(OSError,))
    async def rows() -> Any:
        yield 1
        yield 2

    got: list[list[int]] = []

    async def scenario(run: Run) -> None:
        got.append([])
        async with run.injecting():
            async for row in rows():
                got[-1].append(row)

    explore(scenario, backend=backend)
    assert got == [[1, 2], [], [1, 2]]


def test_the_rollback_fails_too(backend: Any) -> None:
    """A visit that is only made after a fault is made to fail, in a run with two faults."""

    async def scenario(run: Run) -> None:
        rolled_back = False
        async with run.injecting():
            try:
                await failpoint("write")
            except InjectedFault:
                try:
                    await failpoint("roll_back")
                    rolled_back = True
                except InjectedFault as error:
                    raise RuntimeError("torn") from error
        assert rolled_back or not run.faults

    assert explore(scenario, backend=backend, max_faults=1).runs == 2
    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, max_faults=2)
    assert failed.value.failure.faults == ("write=raise", "roll_back=raise")


async def surfacing(run: Run, what: str, expect: Any) -> None:
    async with run.injecting(expect=expect):
        try:
            await failpoint("write", raises=(OSError,))
        except OSError as error:
            match what:
                case "itself":
                    raise
                case "from it":
                    raise TooMuch("wrapped") from error
                case "from an error from it":
                    try:
                        raise TooMuch("wrapped") from error
                    except TooMuch as wrapped:
                        raise RuntimeError("twice") from wrapped
                case "a group":
                    raise ExceptionGroup("several", [error, ExceptionGroup("inner", [error])]) from None
                case "expected":
                    raise TooMuch("of its own") from None
                case "handled badly":
                    raise KeyError("oops")
                case "a mixed group":
                    raise ExceptionGroup("several", [error, KeyError("oops")]) from None
                case "panic":
                    raise FailpointPanic from None
    assert (run.error is not None) == bool(run.faults)


@pytest.mark.parametrize("what", ["itself", "from it", "from an error from it", "a group", "expected"])
def test_a_fault_surfaces(backend: Any, what: str) -> None:
    """The injected error, an error raised from it, a group of these and an expected type end up in `run.error`."""
    expect = TooMuch if what == "expected" else ()
    assert explore(lambda run: surfacing(run, what, expect), backend=backend).runs == 2


@pytest.mark.parametrize("what", ["handled badly", "a mixed group", "expected", "panic"])
def test_an_error_that_is_not_a_fault(backend: Any, what: str) -> None:
    """An error in an `except` block, a group with another error and an unexpected type are failures."""
    with pytest.raises(ExplorationFailed) as failed:
        explore(lambda run: surfacing(run, what, ()), backend=backend)
    assert failed.value.failure.kind == "error"
    assert failed.value.__cause__ is not None


def test_expected_only_with_a_fault(backend: Any) -> None:
    """An error of an expected type is a failure in a run without a fault."""

    async def scenario(run: Run) -> None:
        async with run.injecting(expect=ValueError):
            raise ValueError("always")

    with pytest.raises(ExplorationFailed, match="in its first run, which has no faults: fix this first"):
        explore(scenario, backend=backend)


def test_a_fault_is_absorbed(backend: Any) -> None:
    """If the program handles a fault, `run.error` is `None`."""
    errors: list[Any] = []

    async def scenario(run: Run) -> None:
        async with run.injecting():
            for _ in range(2):
                try:
                    await failpoint("ask", raises=(TimeoutError,))
                    break
                except TimeoutError:
                    pass
        errors.append(run.error)

    assert explore(scenario, backend=backend).runs == 2
    assert errors == [None, None]


def test_only_inside(backend: Any) -> None:
    """Nothing is injected outside `run.injecting()`. A failpoint that is configured there acts as usual."""

    async def scenario(run: Run) -> None:
        await failpoint("arrange")
        async with run.injecting():
            pass
        failpoints.configure("assert", "return(42)")
        outcome = await failpoint("assert")
        assert outcome == Return("42")

    exploration = explore(scenario, backend=backend)
    assert exploration.runs == 1
    assert "nothing to try" in str(exploration)
    failpoints.reset()


def test_own_alternatives(backend: Any) -> None:
    """`faults=` replaces what sites declare. A name comes before a pattern, and `[]` is no fault."""
    got: list[Any] = []

    async def scenario(run: Run) -> None:
        async with run.injecting(expect=(TooMuch, FailpointPanic)):
            got.append("")
            got[-1] = await failpoint("a.one", raises=(OSError,))
            await failpoint("a.two")
            await failpoint("b")
        if run.faults:
            got[-1] = run.error or got[-1]

    exploration = explore(
        scenario,
        backend=backend,
        faults={"a.*": [Raise(TooMuch)], "a.one": ["return(7)", Return(8), "sleep(1m)", "off"], "b": []},
    )
    assert exploration.runs == 1 + 4 + 1
    assert [str(each) for each in got[1:]] == [
        "Return(value='7')", "Return(value=8)", "Continue()", "Continue()", "injected by failpoint 'a.two'",
    ]  # fmt: skip


def test_a_frozen_exception(backend: Any) -> None:
    """An exception class that refuses to have attributes set is injected as it is."""

    @dataclass(frozen=True)
    class Frozen(Exception):
        number: int

    caught: list[Frozen] = []

    async def scenario(run: Run) -> None:
        async with run.injecting():
            try:
                await failpoint("ask", raises=(Frozen,))
            except Frozen as error:
                caught.append(error)

    assert explore(scenario, backend=backend, faults={"ask": [Raise(Frozen(5))]}).runs == 2
    assert caught == [Frozen(5)]


def test_a_pause(backend: Any) -> None:
    """An injected pause is a deadlock, unless a timeout ends it."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            with anyio.move_on_after(3600):
                await failpoint("ask")

    assert explore(scenario, backend=backend, faults={"ask": [Pause()]}).runs == 2

    async def stuck(run: Run) -> None:
        async with run.injecting():
            await failpoint("ask")

    with pytest.raises(ExplorationFailed) as failed:
        explore(stuck, backend=backend, faults={"ask": [Pause()]})
    assert failed.value.failure.kind == "deadlock"


def test_a_retry_that_never_ends_is_cut(backend: Any) -> None:
    """A loop that retries until it succeeds is made to fail 10 times. The verdict names this limit."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            while True:
                try:
                    await failpoint("ask")
                    break
                except InjectedFault:
                    await anyio.sleep(1)

    exploration = explore(scenario, backend=backend, max_faults=1_000)
    assert exploration.runs == 11
    assert not exploration.exhaustive
    assert str(exploration) == (
        "11 runs: faults left out after 10 at the same visit: not exhaustive: no failure found so far"
    )


def test_max_runs(backend: Any) -> None:
    """`max_runs` ends an exploration, which is not exhaustive unless nothing was left to try."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            for number in range(5):
                await failpoint("write", context={"number": number})

    exploration = explore(scenario, backend=backend, max_runs=5)
    assert (exploration.runs, exploration.exhaustive) == (5, False)
    assert str(exploration) == "5 runs: stopped at max_runs=5: not exhaustive: no failure found so far"
    assert explore(scenario, backend=backend, max_runs=6).exhaustive


def test_a_registry_in_a_scenario(backend: Any) -> None:
    """A failpoint that the scenario configures acts in each run, and its counts start at 0."""
    hits: list[int] = []

    async def scenario(run: Run) -> None:
        with failpoints.Registry() as registry:
            handle = registry.configured("ask", "2*return(1)->off")
            with handle as ask:
                async with run.injecting():
                    assert await failpoint("ask")
                    await failpoint("tell")
                hits.append(ask.hits)

    explore(scenario, backend=backend, faults={"ask": []})
    assert hits == [1, 1]


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (
            {"a": "raise"},
            r"faults=\{'a': …\} must be a list of actions, each tried in a run of its own; did you mean \['raise'\]\?",
        ),
        (
            {"a": ["2*raise"]},
            r"takes single actions without a count or a probability,"
            r" since explore\(\) decides when each one is injected; got 2\*raise",
        ),
        ({"a": ["raise->off"]}, "takes single actions"),
        (
            {"a": ["exit"]},
            "'exit' would end the exploring process; use 'panic', which passes through `except Exception`",
        ),
        ({"a": ["retrun"]}, "did you mean 'return'"),
        (["a"], "faults= must be a mapping of names or patterns to lists of actions"),
        ({1: []}, "faults= must have names or patterns as its keys; got 1"),
        (
            {"wirte": ["raise"]},
            r"faults= names 'wirte', but no failpoint of that name was visited inside run.injecting\(\)"
            r" \(visited: write\); did you mean 'write'\?",
        ),
    ],
)
def test_invalid_faults(faults: Any, message: str) -> None:
    """`faults=` must have actions that can be tried, and names that were visited."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("write")

    with pytest.raises(failpoints.FailpointError, match=message):
        explore(scenario, faults=faults)


def test_injecting_once() -> None:
    """`run.injecting()` can be entered once in a run."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            pass
        async with run.injecting():
            pass

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario)
    assert isinstance(failed.value.__cause__, FailpointUsageError)


def test_expect_is_checked() -> None:
    """`expect=` must be an exception type."""

    async def scenario(run: Run) -> None:
        run.injecting(expect="OSError")  # type: ignore[arg-type]

    with pytest.raises(
        ExplorationFailed, match="expect= must be an exception type, or a tuple of exception types; got 'OSError'"
    ):
        explore(scenario)


# Faults that cannot be injected, and failpoints that are configured


@pytest.mark.parametrize(
    ("raises", "faults", "message"),
    [
        ((UnicodeDecodeError,), None, r"raise\(UnicodeDecodeError\) cannot be injected at 'x': .* or leave it out"),
        ((), {"x": [Call(lambda hit: object())]}, "cannot be injected at 'x': .*must return an action or None"),
    ],
)
def test_a_fault_that_cannot_be_carried_out(backend: Any, raises: Any, faults: Any, message: str) -> None:
    """A fault that the site cannot carry out is an error, even if the program swallows every exception."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            with contextlib.suppress(Exception):
                await failpoint("x", raises=raises)

    with pytest.raises(FailpointUsageError, match=message):
        explore(scenario, backend=backend, faults=faults)


def test_a_call_without_a_parameter() -> None:
    """A `Call` of a function that does not take the hit is refused before the first run."""

    async def scenario(run: Run) -> None:
        raise AssertionError

    with pytest.raises(FailpointUsageError, match="is called with the hit"):
        explore(scenario, faults={"x": [Call(lambda: None)]})  # type: ignore[arg-type, misc]


def test_a_scope_that_cannot_return(backend: Any) -> None:
    """A `return` at a scope outside a decorated function is an error, even if the program swallows it."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            with contextlib.suppress(Exception):
                async with failpoint_scope("x"):
                    pass

    with pytest.raises(FailpointUsageError, match="nothing would catch that"):
        explore(scenario, backend=backend, faults={"x": ["return(1)"]})


def test_a_group_raised_from_the_fault(backend: Any) -> None:
    """A group of other errors is a surfaced fault if it was raised `from` the injected error."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            try:
                await failpoint("x", raises=(OSError,))
            except OSError as error:
                raise ExceptionGroup("several", [ValueError()]) from error

    assert explore(scenario, backend=backend).runs == 2


def test_failpoints_configured_around_it() -> None:
    """`explore` raises if a failpoint is configured, unless it only counts."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("x")

    with configured("x", "20%raise"), pytest.raises(FailpointUsageError, match="remove the configuration of 'x'"):
        explore(scenario)
    with Registry() as registry, pytest.raises(FailpointUsageError, match="remove the configuration of 'y'"):
        registry.configure("y", "off->return")
        explore(scenario)
    with configured("x", "off") as handle:
        assert explore(scenario).runs == 2
    assert handle.hits == 1


def test_a_pattern_without_a_visit_in_a_limited_search() -> None:
    """A pattern may match nothing if `max_runs` has ended the search."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            try:
                await failpoint("write")
            except InjectedFault:
                await failpoint("rollback")

    assert not explore(scenario, faults={"rollback": ["raise"], "write": ["raise"]}, max_runs=1).exhaustive
