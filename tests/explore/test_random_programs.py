"""Random programs that are deterministic are never called nondeterministic, and their failures can be repeated."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import sys
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import anyio
import pytest

from failpoints import failpoint
from failpoints.explore import ExplorationFailed, Failure, Run, explore

pytestmark = pytest.mark.slow

PROGRAMS = 60  # for each backend; thousands were run once


class Step(NamedTuple):
    """What a task does: a kind, a number, and the steps of its children, each a task or a block."""

    kind: str
    number: int
    children: list[list[Step]]


class State:
    """What the tasks of a program share."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.event = anyio.Event()
        self.send, self.receive = anyio.create_memory_object_stream[int](1)


async def visit(name: str) -> None:
    await failpoint(name, raises=(OSError,), context={"id": uuid.uuid4()})


# The kinds of steps


async def branch(step: Step, state: State) -> None:
    drawn = uuid.uuid4().int + secrets.randbelow(2) + os.urandom(1)[0] + int(random.Random().random() * 2)
    if drawn % 2:
        await visit("branch")


async def retry(step: Step, state: State) -> None:
    try:
        await run_steps(step.children[0], state)
    except OSError:
        await visit("retry")


async def timeout(step: Step, state: State) -> None:
    with anyio.move_on_after(step.number / 10):
        await run_steps(step.children[0], state)
        await anyio.sleep(0.15)


async def wait_for_event(step: Step, state: State) -> None:
    with anyio.move_on_after(0.35):
        await state.event.wait()


async def exchange(step: Step, state: State) -> None:
    try:
        state.send.send_nowait(step.number)
    except anyio.WouldBlock:
        await visit(f"received.{state.receive.receive_nowait()}")


async def locked(step: Step, state: State) -> None:
    async with state.lock:
        await visit("locked")
        await anyio.sleep(step.number / 10)


async def group(step: Step, state: State) -> None:
    async with anyio.create_task_group() as tasks:
        for child in step.children:
            tasks.start_soon(run_steps, child, state)


async def cancelled_group(step: Step, state: State) -> None:
    async def work(child: list[Step]) -> None:
        try:
            await run_steps(child, state)
        finally:
            with anyio.CancelScope(shield=True):
                await visit("clean.up")

    async with anyio.create_task_group() as tasks:
        for child in step.children:
            tasks.start_soon(work, child)
        await anyio.sleep(step.number / 20)
        tasks.cancel_scope.cancel()


async def failing_task_group(step: Step, state: State) -> None:
    try:
        async with asyncio.TaskGroup() as tasks:
            for child in step.children:
                tasks.create_task(run_steps(child, state))
            await asyncio.sleep(step.number / 20)
            raise KeyError
    except* KeyError:
        pass


async def as_completed(step: Step, state: State) -> None:
    async with asyncio.TaskGroup():
        for one in asyncio.as_completed([shielded(child, state) for child in step.children]):
            await one
            await visit("completed")


async def wait_for_some(step: Step, state: State) -> None:
    tasks = [asyncio.create_task(shielded(child, state)) for child in step.children]
    try:
        done, pending = await asyncio.wait(tasks, timeout=step.number / 10, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            await visit(f"done.{tasks.index(one)}")
        for one in pending:
            one.cancel()
    finally:
        await end(tasks)


async def look_at_all_tasks(step: Step, state: State) -> None:
    tasks = [asyncio.create_task(shielded(child, state)) for child in step.children]
    try:
        await asyncio.sleep(0)
        for one in asyncio.all_tasks():
            if one in tasks:
                await visit(f"cancel.{tasks.index(one)}")
                one.cancel()
    finally:
        await end(tasks)


async def shielded(steps: list[Step], state: State) -> None:
    """Run the steps of a task whose error is not looked at."""
    try:
        await run_steps(steps, state)
    except (OSError, BaseExceptionGroup):
        pass


async def end(tasks: list[asyncio.Task[None]]) -> None:
    for one in tasks:
        one.cancel()
    with anyio.CancelScope(shield=True):
        await asyncio.gather(*tasks, return_exceptions=True)


KINDS: dict[str, Callable[[Step, State], Awaitable[object]]] = {
    "visit": lambda step, state: visit(f"visit.{step.number}"),
    "sleep": lambda step, state: anyio.sleep(step.number / 10),
    "checkpoint": lambda step, state: anyio.lowlevel.checkpoint(),
    **{each.__name__: each for each in (branch, locked, wait_for_event, exchange)},
}
WITH_ONE_CHILD = {each.__name__: each for each in (retry, timeout)}
WITH_CHILDREN = {each.__name__: each for each in (group, cancelled_group)}
OF_ASYNCIO = {each.__name__: each for each in (failing_task_group, as_completed, wait_for_some, look_at_all_tasks)}
ALL = {**KINDS, **WITH_ONE_CHILD, **WITH_CHILDREN, **OF_ASYNCIO}


async def run_steps(steps: list[Step], state: State) -> None:
    for step in steps:
        await ALL[step.kind](step, state)
        if step.kind == "checkpoint" and step.number:
            state.event.set()


def make_steps(draw: random.Random, depth: int, backend: str) -> list[Step]:
    kinds = [*KINDS, "visit", *(WITH_ONE_CHILD if depth < 3 else ()), *(WITH_CHILDREN if depth < 2 else ())]
    kinds += OF_ASYNCIO if backend == "asyncio" and depth < 2 else ()
    steps: list[Step] = []
    for _ in range(draw.randint(1, 3)):
        kind = draw.choice(kinds)
        number = 1 if kind in WITH_ONE_CHILD else 0 if kind in KINDS else draw.randint(2, 3)
        children = [make_steps(draw, depth + 1, backend) for _ in range(number)]
        steps.append(Step(kind, draw.randint(0, 3), children))
    return steps


# The programs


class OwnTask(asyncio.Task[Any]):
    pass


def own_factory(loop: Any, coro: Any, **options: Any) -> Any:
    return OwnTask(coro, loop=loop, **options)


FACTORIES: list[Any] = [None, own_factory]
if sys.version_info >= (3, 12):
    FACTORIES += [asyncio.eager_task_factory, asyncio.create_eager_task_factory(OwnTask)]

OPTIONS: list[dict[str, Any]] = [
    {},
    {"max_faults": 2},
    {"interleavings": True},
    {"interleavings": True, "max_faults": 1},
    {"interleavings": True, "max_preemptions": 1},
    {"interleavings": True, "reduction": None},
    {"interleavings": True, "sample": 10},
    {"interleavings": "awaits"},
    {"interleavings": "awaits", "max_faults": 1},
    {"interleavings": "awaits", "cancellations": True, "max_faults": 1},
    {"cancellations": True},
]


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_a_random_program(backend: Any, seed: int) -> None:
    """It passes, or fails in a way that its replay repeats. Its visits come in the same order in every run."""
    draw = random.Random(f"{backend} {seed}")
    steps = make_steps(draw, 0, backend)
    factory = draw.choice(FACTORIES)
    options = {**draw.choice(OPTIONS), "backend": backend, "max_runs": 12}
    kept: list[object] = []

    async def program(run: Run) -> None:
        kept.extend([object() for _ in range(len(kept) * 7 % 100 + 1)])  # so that addresses differ
        if backend == "asyncio":
            asyncio.get_running_loop().set_task_factory(factory)
        state = State()
        with state.send, state.receive:
            async with run.injecting(expect=(OSError, anyio.WouldBlock, BaseExceptionGroup)):
                await run_steps(steps, state)

    failure, bounds = outcome_of(program, options)
    assert not any("another order" in bound for bound in bounds)
    if failure is not None:
        assert failure.kind != "nondeterministic", failure
        again, _ = outcome_of(program, {**options, "replay": failure.replay})
        assert again is not None
        assert (again.summary, again.replay) == (failure.summary, failure.replay)


def outcome_of(program: Any, options: dict[str, Any]) -> tuple[Failure | None, tuple[str, ...]]:
    try:
        exploration = explore(program, **options)
    except ExplorationFailed as failed:
        return failed.failure, ()
    return None, exploration.bounds
