"""Small programs of which a reduced search once missed an end. All of them end as in every order."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import Any

import pytest

from failpoints import failpoint
from failpoints.explore import Run, explore
from tests.explore.bank import Account
from tests.explore.brute_force import MODES, REDUCTIONS, Totals, check, ends_of
from tests.explore.programs.interpreter import Program
from tests.explore.programs.libraries import LIBRARIES

VISIT = ("visit",)


def problem_of(library: str, mode: str, *tasks: Any, **given: Any) -> str:
    """Return what the reduced searches of a program miss, or ""."""
    totals = Totals()
    problem = check(Program(tasks, library, mode, **given), totals, 1_500)
    assert totals.programs == 1, "it has too many orders"
    return problem


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_group_whose_task_is_cancelled_before_or_after_its_last_child_ends(library: str) -> None:
    """What wakes a task that waits for its group is the end of the last child or a cancellation, whichever is first."""
    assert not problem_of(library, "awaits", (("cancel", 1),), (("group", (), ()),))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param([("set", "E")], [("wait", "E")], id="a set and a wait"),
        pytest.param([("put", "Q", 1)], [("get", "Q")], id="a put and a get"),
        pytest.param(
            [("acquire", "L"), ("checkpoint",), ("release",)],
            [("acquire", "L")],
            id="a release and a request of a lock",
        ),
    ],
)
def test_a_task_that_may_be_cancelled_at_its_wake_up(library: str, one: Any, other: Any) -> None:
    """It matters whether a task waits, if it can be cancelled when it goes on, though it goes on in either case."""
    assert not problem_of(library, "awaits", tuple(one), tuple(other), faults=1, cancellations=True)


def test_a_task_that_has_cancelled_itself() -> None:
    """It is cancelled where it has to wait next, so it matters whether an item is there already."""
    assert not problem_of("asyncio", "awaits", (("cancel", 0), ("get", "Q")), (("put", "Q", 1),))


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_task_that_is_cancelled_before_it_begins_to_wait(library: str) -> None:
    """It is cancelled unless it has to wait and the other task is faster, so it matters whether the lock is free."""
    assert not problem_of(library, "awaits", (("acquire", "L"),), (("cancel", 0), ("acquire", "L")))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("one", [("cancel", 0), ("put_nowait", "B", 1)])
def test_a_sleeping_task_that_is_woken_by_a_turn_that_changes_what_it_does(library: str, one: Any) -> None:
    """What it would have touched counts, although it is cancelled or fails before it has touched that."""
    first = (("read", "x"),) if one[0] == "cancel" else (("put_nowait", "B", 2), ("read", "x"))
    last = (("checkpoint",), ("write", "x", 1))
    assert not problem_of(library, "awaits", first, (("checkpoint",), one), last)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_a_task_that_is_left_behind(mode: Any, reduction: Any) -> None:
    """What a task does that nothing waits for comes before the end of the explored part, or too late."""
    balances: set[int] = set()

    async def scenario(run: Run) -> None:
        account = run.shared(Account(1))

        async def deposit() -> None:
            await failpoint("deposit")
            account.balance = 2

        async with run.injecting():
            task = asyncio.create_task(deposit())
            await failpoint("return", reads=("something else",))
        balances.add(account.balance)
        task.cancel()

    explore(scenario, interleavings=mode, reduction=reduction)
    assert balances == {1, 2}


@pytest.mark.parametrize("library", LIBRARIES)
def test_two_faults_of_which_the_first_one_prevents_the_second(library: str) -> None:
    """A fault is also tried at visits before another one, since in another order they come after it."""
    assert not problem_of(library, "visits", (VISIT,), (VISIT,), faults=2, cancellations=True)


@pytest.mark.parametrize("library", ["anyio", "trio", "anyio-on-trio"])
@pytest.mark.parametrize("mode", MODES)
def test_a_scope_that_is_cancelled_before_or_after_a_task_in_it_is_shielded(library: str, mode: str) -> None:
    """The cancellation of a scope reaches a task that has not entered its shield yet."""
    assert not problem_of(library, mode, (VISIT, ("shield", VISIT, ("write", "x", 1))), (VISIT, ("cancel", -1)))


def test_a_task_of_anyio_that_has_not_begun_when_its_run_ends() -> None:
    """Nothing is left that was never awaited."""
    tasks = ((("acquire", "L"),), (("acquire", "L"),), (("cancel", 1),))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert ends_of(Program(tasks, "anyio", "awaits"), "declared").cut_short
        gc.collect()
    assert not caught
