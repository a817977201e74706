"""Which operations of the primitives meet: orders that differ only in others are run once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from failpoints import failpoint
from failpoints.explore import Run, explore
from tests.explore.brute_force import ends_of
from tests.explore.programs.interpreter import Op, Program
from tests.explore.programs.libraries import LIBRARIES

VISIT = ("visit",)


def runs_of(library: str, *tasks: tuple[Op, ...]) -> int:
    """Return the number of runs that a program needs, if each of its tasks first makes a visit."""
    program = Program(tuple((VISIT, *ops) for ops in tasks), library)
    every, reduced = ends_of(program, None), ends_of(program, "declared")
    assert every.ends.keys() == reduced.ends.keys()
    return reduced.runs


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("one", "other", "meets"),
    [
        pytest.param([("acquire", "L")], [("acquire", "L")], True, id="requests of a lock"),
        pytest.param([("acquire", "L")], [("acquire", "M")], False, id="requests of two locks"),
        pytest.param([("acquire", "L")], [("locked", "L")], True, id="a lock and a look at it"),
        pytest.param([("locked", "L")], [("locked", "L")], False, id="two looks at a lock"),
        pytest.param([("set", "E")], [("wait", "E")], False, id="a set and a wait"),
        pytest.param([("set", "E")], [("is_set", "E")], True, id="a set and a look at an event"),
        pytest.param([("is_set", "E")], [("is_set", "E")], False, id="two looks at an event"),
        pytest.param([("set", "E")], [("set", "E")], True, id="two sets, of which the first one wakes"),
        pytest.param([("put", "Q", 1)], [("get", "Q")], False, id="a put and a get"),
        pytest.param([("put", "Q", 1)], [("put", "Q", 2)], True, id="two puts"),
        pytest.param([("put", "B", 1)], [("get", "B")], False, id="a put and a get, of a bounded queue"),
        pytest.param([("put", "Q", 1)], [("get_nowait", "Q")], True, id="a put, and a get that does not wait"),
        pytest.param([("put", "Q", 1)], [("put_nowait", "Q", 2)], True, id="a put, and one that does not wait"),
        pytest.param([("put", "Q", 1)], [("size", "Q")], True, id="a put and a look at the size"),
        pytest.param([("acquire", "S")], [("acquire", "S")], True, id="a semaphore"),
        pytest.param([("condition", "wait")], [("condition", "notify")], True, id="a condition"),
        pytest.param([("group", (), ())], [("group", (), ())], False, id="two groups of tasks"),
        pytest.param([VISIT], [("cancel", 0)], True, id="a task and its cancellation"),
        pytest.param([], [], False, id="the ends of two tasks"),
    ],
)
def test_which_operations_meet(library: str, one: Any, other: Any, meets: bool) -> None:
    """Two operations that do not meet are run in one order, and end as in all orders."""
    assert (runs_of(library, tuple(one), tuple(other)) > 1) == meets


def test_a_wait_meets_a_clear() -> None:
    """Whether an event is set when a task begins to wait may depend on who clears it."""
    assert runs_of("asyncio", (("set", "E"), VISIT, ("clear", "E")), (("wait", "E"),)) > 1


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_wait_goes_on_because_of_the_first_set(library: str) -> None:
    """An event that is set again is not what a wait goes on for, so both orders of what follows are run."""
    setter = (("set", "E"), VISIT, ("write", "x", 1), ("set", "E"))
    assert runs_of(library, setter, (("wait", "E"), VISIT, ("wait", "E"), ("read", "x"))) > 1


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_requests_of_a_lock_alone_are_in_order(library: str) -> None:
    """Three tasks that request a lock need 3! runs, four need 4!, whenever it is released."""
    task = (("acquire", "L"), VISIT, ("release",), ("read", "x"))
    assert runs_of(library, task, task, task) == 6
    program = Program(((VISIT, *task),) * 4, library)
    assert ends_of(program, "declared").runs == 24


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_error_that_ends_a_task_meets_the_ends_of_others(library: str) -> None:
    """A group cancels the other tasks when one fails, so it makes a difference which of them have ended."""
    assert runs_of(library, (("group", (VISIT,), (VISIT, ("raise",))),), ()) > 1


def test_a_primitive_made_before_the_run(backend: Any) -> None:
    """A primitive that was made outside the run is the same one in all runs."""
    event = anyio.Event()  # which finds its event loop when it is used

    async def scenario(run: Run) -> None:
        async def work() -> None:
            await failpoint("work")
            event.is_set()

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(work)
            group.start_soon(work)

    assert explore(scenario, backend=backend, interleavings=True, reduction="declared").runs == 1


def test_nothing_is_wrapped_afterwards() -> None:
    """The primitives have their own methods again when an exploration has ended, and are wrapped only for it."""
    before = {kind: dict(kind.__dict__) for kind in (asyncio.Lock, asyncio.Event, asyncio.Queue, asyncio.TaskGroup)}
    seen: list[bool] = []

    async def scenario(run: Run) -> None:
        seen.append(asyncio.Lock.__dict__["acquire"] is before[asyncio.Lock]["acquire"])
        async with run.injecting():
            await failpoint("visit")

    explore(scenario, interleavings=True, reduction="declared")
    explore(scenario, interleavings=True, reduction=None)
    assert seen == [False, True]
    for kind, members in before.items():
        assert {name: kind.__dict__[name] for name in members} == members
        assert kind.__dict__.keys() == members.keys()


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_end_of_a_task_meets_the_cancellation_of_what_is_around_it(library: str) -> None:
    """Whether a task of a group ends or is cancelled may depend on when the task around the group is cancelled."""
    assert runs_of(library, (("group", (VISIT,), (VISIT, ("cancel", 0))),), ()) > 2


@dataclass(frozen=True)
class Refused(Exception):
    """An error to which nothing can be assigned, not even its traceback."""


@pytest.mark.parametrize("awaited", ["task", "gather", "future", "group"])
@pytest.mark.parametrize("interleavings", ["visits", "awaits"])
def test_the_error_of_a_frozen_dataclass_passes(awaited: str, interleavings: Any) -> None:
    """What a task waits for may raise an error that refuses a new traceback. It arrives as it is."""
    caught: list[BaseException] = []

    async def fail(future: asyncio.Future[None] | None = None) -> None:
        await failpoint("fail")
        if future is None:
            raise Refused
        future.set_exception(Refused())

    async def wait() -> None:
        if awaited == "task":
            await asyncio.create_task(fail())
        elif awaited == "gather":
            await asyncio.gather(fail())
        elif awaited == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
        else:
            future = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(fail(future))
            try:
                await future
            finally:
                await task

    async def scenario(run: Run) -> None:
        async with run.injecting():
            try:
                await wait()
            except (Refused, ExceptionGroup) as error:
                caught.append(error)

    assert explore(scenario, interleavings=interleavings, reduction="declared").exhaustive
    assert caught
