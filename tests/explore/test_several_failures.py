"""`max_failures`: several different failures in one exploration."""

from __future__ import annotations

import pickle
from typing import Any

import anyio
import pytest

from failpoints import failpoint
from failpoints.explore import ExplorationFailed, Progress, Run, explore


async def two_bugs(run: Run) -> None:
    """Fail in two ways: an error in the handler of the second fault, and one of two assertions after the third."""
    async with run.injecting():
        await failpoint("one")
        try:
            await failpoint("two", raises=(OSError, TimeoutError))
        except OSError:
            raise ValueError("cannot undo") from None
        await failpoint("three")
    if run.faults and run.faults[0].visit.name == "three":
        assert run.error is None, "three is lost"


def failed(*arguments: Any, **given: Any) -> ExplorationFailed:
    with pytest.raises(ExplorationFailed) as failed:
        explore(*arguments, **given)
    return failed.value


def test_all_failures(backend: Any) -> None:
    """The search goes on after a failure, and raises all of them at its end. An error is told by its type and line."""
    error = failed(two_bugs, backend=backend, max_failures=10)
    exploration = error.exploration
    assert [failure.summary for failure in exploration.failures] == [
        "ValueError: cannot undo",
        "AssertionError: three is lost",
    ]
    assert [failure.faults for failure in exploration.failures] == [("two=raise(OSError)",), ("three=raise",)]
    assert exploration.runs == 5  # one without a fault, and each of the four faults
    assert exploration.exhaustive
    assert str(exploration) == (
        "5 runs, every fault at 3 visits, one at a time: 2 different failures: ValueError: cannot undo;"
        " AssertionError: three is lost"
    )
    assert error.failure == exploration.failures[0]
    message = str(error)
    assert message.startswith("two_bugs failed in 2 different ways, in 5 runs:\n\n1. two_bugs failed in run 3, with 1")
    assert "\n\n2. two_bugs failed in run 5, with 1 fault:" in message
    assert message.count("repeat this run:") == 2
    for failure in exploration.failures:
        again = failed(two_bugs, backend=backend, replay=failure.replay)
        assert again.failure.summary == failure.summary


def test_the_causes_of_several_failures(backend: Any) -> None:
    """The cause of several failures is the group of their errors. All can be pickled."""
    error = failed(two_bugs, backend=backend, max_failures=10)
    assert isinstance(error.__cause__, BaseExceptionGroup)
    assert [type(each) for each in error.__cause__.exceptions] == [ValueError, AssertionError]
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.exploration == error.exploration


@pytest.mark.parametrize(("limit", "bounds"), [(1, ()), (2, ("stopped at max_failures=2",))])
def test_the_limit(backend: Any, limit: int, bounds: tuple[str, ...]) -> None:
    """The search ends with the last failure that was asked for, which is the first one unless more were asked for."""
    exploration = failed(two_bugs, backend=backend, max_failures=limit).exploration
    assert len(exploration.failures) == limit
    assert exploration.bounds == bounds
    assert not exploration.exhaustive


def test_only_one_failure(backend: Any) -> None:
    """If the search finds a single failure, its error is raised as it is, with the verdict on the whole search."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("one")
            await failpoint("two")
        assert run.error is None, "lost"

    error = failed(scenario, backend=backend, max_failures=3)
    assert str(error).startswith("scenario failed in run 2, with 1 fault:")
    assert isinstance(error.__cause__, AssertionError)
    assert str(error.exploration) == (
        "3 runs, every fault at 2 visits, one at a time: 1 different failure: AssertionError: lost"
    )


def test_deadlocks_are_told_by_their_lines(backend: Any) -> None:
    """Deadlocks differ if the tasks are at other lines. Orders are explored to their end."""

    async def scenario(run: Run) -> None:
        one, two = anyio.Lock(), anyio.Lock()
        first: list[str] = []

        async def deposit() -> None:
            async with one:
                await failpoint("deposit")
                async with two:
                    first.append("deposit")

        async def withdraw() -> None:
            async with two:
                await failpoint("withdraw")
                async with one:
                    first.append("withdraw")

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(deposit)
            await failpoint("between")
            group.start_soon(withdraw)
        assert first[0] == "deposit", "withdrawn first"

    exploration = failed(scenario, backend=backend, interleavings=True, max_failures=5, timeout=20).exploration
    assert [failure.kind for failure in exploration.failures] == ["deadlock"]
    assert exploration.exhaustive


def test_a_scenario_that_is_nondeterministic(backend: Any) -> None:
    """A run that does not follow its plan ends the search. What was found before is raised with it."""
    progress: list[Progress] = []

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("one")
            await failpoint(f"after.{sum(each.failed for each in progress)}")
        assert not run.faults or run.faults[0].visit.name != "one", "lost"

    error = failed(scenario, backend=backend, max_failures=5, on_run=progress.append)
    assert [failure.kind for failure in error.exploration.failures] == ["error", "nondeterministic"]
    assert "2. scenario is nondeterministic: run 3 did not follow its plan" in str(error)
    assert not error.exploration.exhaustive
