"""The cost of failpoints that are configured."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeAlias
from unittest import mock

import anyio
from measure import Row, Side, no_garbage_collection, ratio, repeated

import failpoints
from failpoints import Registry, failpoint


async def plain() -> int:
    return 1


@failpoint("configured")
async def decorated() -> int:
    return 1


async def inline() -> Any:
    return await failpoint("configured.inline")


def hit() -> Any:
    return failpoint("configured.inline").hit()


# a decorated function


@contextmanager
def configured_off() -> Generator[tuple[Side, Side]]:
    with failpoints.configured("configured", "off"):
        yield repeated("await it()", decorated, 1_000), repeated("await it()", plain, 1_000)


def patched(calls: int) -> Side:
    """Return a side that calls a function while `unittest.mock` replaces it. Each round has a mock of its own."""
    module = SimpleNamespace(call=plain)
    side = repeated("await it.call()", module, calls)

    def in_force() -> float:
        with mock.patch.object(module, "call", return_value=1):
            return side()

    return in_force


@contextmanager
def configured_to_return() -> Generator[tuple[Side, Side]]:
    with failpoints.configured("configured", failpoints.Return(1)):
        yield repeated("await it.call()", SimpleNamespace(call=decorated), 1_000), patched(1_000)


# one failpoint among many


def hit_among(count: int) -> Side:
    """Return a side that hits one failpoint while *count* failpoints are configured."""
    others = [(f"other.{number}", "off") for number in range(count - 1)]
    hits = repeated("await it()", inline, 2_000)

    def side() -> float:
        failpoints.configure_all([("configured.inline", "return(1)"), *others])
        try:
            return hits()
        finally:
            failpoints.reset()

    return side


@contextmanager
def among_many() -> Generator[tuple[Side, Side]]:
    yield hit_among(10_000), hit_among(1)


# many waiters

Wait: TypeAlias = Callable[[], Coroutine[Any, Any, Any]]
Wake: TypeAlias = Callable[[], object]


def woken_by(backend: str, prepare: Callable[[], tuple[Wait, Wake]]) -> Side:
    """Return a side that takes from the waking of 10,000 waiting tasks until the last one has ended."""

    async def main() -> float:
        wait, wake = prepare()
        async with anyio.create_task_group() as group:
            for _ in range(10_000):
                group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            start = time.thread_time()
            wake()
        return time.thread_time() - start

    return lambda: anyio.run(main, backend=backend)


def with_event() -> tuple[Wait, Wake]:
    event = anyio.Event()
    return event.wait, event.set


def with_failpoint() -> tuple[Wait, Wake]:
    failpoints.configure("configured.inline", "pause")
    return inline, partial(failpoints.configure, "configured.inline", "off")


@contextmanager
def woken(backend: str) -> Generator[tuple[Side, Side]]:
    try:
        yield woken_by(backend, with_failpoint), woken_by(backend, with_event)
    finally:
        failpoints.reset()


# configured, but not here


@contextmanager
def in_another_task(name: str) -> Generator[None]:
    """Configure a failpoint in a registry that is in force in another task only."""
    registry, task = Registry(), contextvars.copy_context()
    task.run(registry.__enter__)
    try:
        task.run(registry.configure, name, "return(1)")
        yield
    finally:
        task.run(registry.__exit__, None, None, None)


def out_of_reach(what: str, name: str, statement: str, function: object) -> Row:
    """Return a row of the microseconds of a visit that finds its name configured, but not for its task."""

    def measure(rounds: int) -> list[float]:
        with in_another_task(name), no_garbage_collection():
            side = repeated(statement, function)
            side()
            return [side() / 5_000 * 1e6 for _ in range(rounds)]

    return Row(f"{what}, configured in another task's `Registry`", "", 1.5, measure, "µs")


ROWS: list[Row] = [
    ratio("a decorated function configured `off`", "the same undecorated", 30, configured_off),
    ratio("a decorated function configured to return a value", "`mock.patch` of it", 0.5, configured_to_return),
    ratio("a hit of one configured failpoint among 10,000", "among 1", 1.2, among_many, costly=4),
    *(
        ratio(
            f"10,000 paused tasks woken by one `configure`, on {backend}",
            "10,000 woken by an `anyio.Event`",
            3.0,
            partial(woken, backend),
            costly=12,
        )
        for backend in ("asyncio", "trio")
    ),
    out_of_reach('`await failpoint("x")`', "configured.inline", "await it()", inline),
    out_of_reach('`failpoint("x").hit()`', "configured.inline", "it()", hit),
    out_of_reach("a decorated function", "configured", "await it()", decorated),
]
