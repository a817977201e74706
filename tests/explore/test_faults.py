"""Every fault at every visit, fewest first; what surfaces, what is absorbed, and what is a bug."""

from __future__ import annotations

import contextlib
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
    """With n visits of f alternatives each, up to k faults in a run take the sum of C(n, i) f^i runs."""
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
    """A decorated function and a scope fail in each way that they say, before the body and after it."""
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
    """Sync visits are made to fail too, on the loop and in worker threads."""
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
    """An async generator fails at its first step and at its exhaustion."""

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
    """A visit that only a fault makes happen is made to fail, in a run with two faults."""

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
                case "from what is from it":
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


@pytest.mark.parametrize("what", ["itself", "from it", "from what is from it", "a group", "expected"])
def test_a_fault_surfaces(backend: Any, what: str) -> None:
    """The injected error, one raised from it, a group of such and an expected type are kept in `run.error`."""
    expect = TooMuch if what == "expected" else ()
    assert explore(lambda run: surfacing(run, what, expect), backend=backend).runs == 2


@pytest.mark.parametrize("what", ["handled badly", "a mixed group", "expected", "panic"])
def test_a_bug_is_no_surfaced_fault(backend: Any, what: str) -> None:
    """An error in an `except` block, a group with another error and a type nobody expects are failures."""
    with pytest.raises(ExplorationFailed) as failed:
        explore(lambda run: surfacing(run, what, ()), backend=backend)
    assert failed.value.failure.kind == "error"
    assert failed.value.__cause__ is not None


def test_expected_only_with_a_fault(backend: Any) -> None:
    """An `expect` type in a run without a fault is a failure."""

    async def scenario(run: Run) -> None:
        async with run.injecting(expect=ValueError):
            raise ValueError("always")

    with pytest.raises(ExplorationFailed, match="in its first run, which has no faults: fix this first"):
        explore(scenario, backend=backend)


def test_a_fault_is_absorbed(backend: Any) -> None:
    """A run whose fault the program handles ends without `run.error`."""
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
    """Nothing is injected outside `run.injecting()`, and what is configured there acts as ever."""

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
    """`faults=` replaces what sites say: by name before pattern, in the order given, `[]` for none."""
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


def test_a_pause_is_for_ever(backend: Any) -> None:
    """An injected pause that nothing ends is a deadlock, and one that a timeout ends is none."""

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
    """A loop that retries as long as it fails is cut short after so many faults, and the verdict says so."""

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
    """`max_runs` ends an exploration, which is then not exhaustive, unless nothing was left."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            for number in range(5):
                await failpoint("write", context={"number": number})

    exploration = explore(scenario, backend=backend, max_runs=5)
    assert (exploration.runs, exploration.exhaustive) == (5, False)
    assert str(exploration) == "5 runs: stopped at max_runs=5: not exhaustive: no failure found so far"
    assert explore(scenario, backend=backend, max_runs=6).exhaustive


def test_what_is_configured_goes_on_working(backend: Any) -> None:
    """A scenario configures its own registry, which each run has anew."""
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
def test_faults_that_cannot_be(faults: Any, message: str) -> None:
    """What is given as `faults=` and cannot be tried is refused, a name that nothing bears too."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("write")

    with pytest.raises(failpoints.FailpointError, match=message):
        explore(scenario, faults=faults)


def test_injecting_once() -> None:
    """A run has one part that is explored."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            pass
        async with run.injecting():
            pass

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario)
    assert isinstance(failed.value.__cause__, FailpointUsageError)


def test_expect_is_checked() -> None:
    """What is no exception type cannot be expected."""

    async def scenario(run: Run) -> None:
        run.injecting(expect="OSError")  # type: ignore[arg-type]

    with pytest.raises(
        ExplorationFailed, match="expect= must be an exception type, or a tuple of exception types; got 'OSError'"
    ):
        explore(scenario)


# what cannot be injected, and what is configured besides


@pytest.mark.parametrize(
    ("raises", "faults", "says"),
    [
        ((UnicodeDecodeError,), None, r"raise\(UnicodeDecodeError\) cannot be injected at 'x': .* or leave it out"),
        ((), {"x": [Call(lambda hit: object())]}, "cannot be injected at 'x': .*may return an action or None"),
    ],
)
def test_a_fault_that_cannot_be_made_is_an_error(backend: Any, raises: Any, faults: Any, says: str) -> None:
    """What a site cannot do is no fault that the program stood, also where the program takes every exception."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            with contextlib.suppress(Exception):
                await failpoint("x", raises=raises)

    with pytest.raises(FailpointUsageError, match=says):
        explore(scenario, backend=backend, faults=faults)


def test_a_call_that_takes_no_hit_is_refused() -> None:
    """A `Call` that cannot be called with the hit is refused before the first run."""

    async def scenario(run: Run) -> None:
        raise AssertionError

    with pytest.raises(FailpointUsageError, match="is called with the hit"):
        explore(scenario, faults={"x": [Call(lambda: None)]})  # type: ignore[arg-type, misc]


def test_a_return_that_nothing_would_catch_is_an_error(backend: Any) -> None:
    """A scope that cannot return from the function around it is told, whatever the program makes of that."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            with contextlib.suppress(Exception):
                async with failpoint_scope("x"):
                    pass

    with pytest.raises(FailpointUsageError, match="nothing would catch that"):
        explore(scenario, backend=backend, faults={"x": ["return(1)"]})


def test_a_group_raised_from_the_fault_has_surfaced(backend: Any) -> None:
    """A group of other errors that was raised `from` the injected one is what the program made of it."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            try:
                await failpoint("x", raises=(OSError,))
            except OSError as error:
                raise ExceptionGroup("told", [ValueError()]) from error

    assert explore(scenario, backend=backend).runs == 2


def test_nothing_may_be_configured_around_it() -> None:
    """What is configured around an exploration would act in its runs: it is refused, but for what only counts."""

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


def test_a_pattern_is_not_blamed_where_runs_were_left_out() -> None:
    """Whether a pattern meets anything is not known once `max_runs` has ended the search."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            try:
                await failpoint("write")
            except InjectedFault:
                await failpoint("rollback")

    assert not explore(scenario, faults={"rollback": ["raise"], "write": ["raise"]}, max_runs=1).exhaustive
