"""What a failpoint costs, off and on: ratios, each measured side by side in one run.

    python tests/benchmarks/off_and_on.py

Both sides of a ratio are timed in turn, many short rounds of each; the figure is the median of the ratios of
neighbouring rounds, so that a machine which is slow for a while is slow for both.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio

import failpoints
from failpoints import failpoint, failpoint_scope

ROUNDS = 60
CALLS = 5_000


def drive(function: Callable[[], Coroutine[Any, Any, Any]], calls: int = CALLS) -> float:
    """Seconds for so many calls of a coroutine function that never waits, without an event loop."""
    start = time.perf_counter()
    for _ in range(calls):
        try:
            function().send(None)
        except StopIteration:
            pass
    return time.perf_counter() - start


def ratio(measure_ours: Callable[[], float], measure_theirs: Callable[[], float], rounds: int = ROUNDS) -> float:
    """The median ratio of neighbouring rounds."""
    measure_ours(), measure_theirs()
    gc.collect()
    gc.disable()
    try:
        return statistics.median(measure_ours() / measure_theirs() for _ in range(rounds))
    finally:
        gc.enable()


# nothing configured


async def plain() -> int:
    return 1


@failpoint("decorated")
async def decorated() -> int:
    return 1


async def inline() -> int:
    await failpoint("inline")
    return 1


POINT = failpoint("kept")


async def kept() -> int:
    await POINT
    return 1


class EmptyManager:
    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *exception: object) -> None:
        pass


async def in_empty_manager() -> int:
    async with EmptyManager():
        return 1


async def in_scope() -> int:
    async with failpoint_scope("scope"):
        return 1


class Thing:
    async def plain(self) -> int:
        return 1

    @failpoint("method")
    async def decorated(self) -> int:
        return 1


THING = Thing()


# something configured


def configured_as(name: str, actions: str, function: Callable[[], Coroutine[Any, Any, Any]]) -> Callable[[], float]:
    """Time the function while that alone is configured."""

    def measure() -> float:
        with failpoints.configured(name, actions):
            return drive(function, 1_000)

    return measure


async def return_when_hit() -> Any:
    return await failpoint("measured.hit")


def hit_among(count: int) -> Callable[[], float]:
    """Time hits of one configured failpoint among so many."""
    others = [(f"other.{number}", "off") for number in range(count - 1)]

    def measure() -> float:
        failpoints.configure_all([("measured.hit", "return(1)"), *others])
        try:
            return drive(return_when_hit, 2_000)
        finally:
            failpoints.reset()

    return measure


WAITERS = 10_000


def woken_by(prepare: Callable[[], tuple[Callable[[], Awaitable[Any]], Callable[[], Any]]]) -> Callable[[], float]:
    """Time from the waking of so many waiting tasks until the last one has ended."""

    async def main() -> float:
        wait, wake = prepare()
        async with anyio.create_task_group() as group:
            for _ in range(WAITERS):
                group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            start = time.perf_counter()
            wake()
        return time.perf_counter() - start

    return lambda: anyio.run(main, backend=BACKEND)


def whole(prepare: Callable[[], tuple[Callable[[], Awaitable[Any]], Callable[[], Any]]]) -> Callable[[], float]:
    """Time all of it: starting the tasks, their coming to wait, the waking, and their end."""

    def measure() -> float:
        start = time.perf_counter()
        woken_by(prepare)()
        return time.perf_counter() - start

    return measure


BACKEND = "asyncio"


def with_event() -> tuple[Callable[[], Awaitable[Any]], Callable[[], Any]]:
    event = anyio.Event()
    return event.wait, event.set


async def visit_paused() -> None:
    await failpoint("paused")


def with_failpoint() -> tuple[Callable[[], Awaitable[Any]], Callable[[], Any]]:
    failpoints.configure("paused", "pause")
    return visit_paused, lambda: failpoints.configure("paused", "off")


def rows() -> list[tuple[str, str, float | None, float]]:
    """Each row: what, against what, the most it may be, and what it is."""
    global BACKEND
    table: list[tuple[str, str, float | None, float]] = [
        (
            "decorated async function, off",
            "undecorated",
            2.0,
            ratio(lambda: drive(decorated), lambda: drive(plain)),
        ),
        (
            "decorated method, off",
            "undecorated",
            None,
            ratio(lambda: drive(lambda: THING.decorated()), lambda: drive(lambda: THING.plain())),
        ),
        (
            'await failpoint("x") inline, off',
            "without it",
            3.5,
            ratio(lambda: drive(inline), lambda: drive(plain)),
        ),
        ("await point, kept, off", "without it", None, ratio(lambda: drive(kept), lambda: drive(plain))),
        (
            "async with failpoint_scope, off",
            "an empty class",
            1.5,
            ratio(lambda: drive(in_scope), lambda: drive(in_empty_manager)),
        ),
        (
            "decorated function configured 'off'",
            "another configured",
            2.0,
            ratio(configured_as("decorated", "off", decorated), configured_as("another", "off", decorated)),
        ),
        ("a hit among 10,000 configured", "among 1", 1.2, ratio(hit_among(10_000), hit_among(1), rounds=15)),
    ]
    for BACKEND in ("asyncio", "trio"):
        for what, measured in (("woken", woken_by), ("started and woken", whole)):
            figure = ratio(measured(with_failpoint), measured(with_event), rounds=5)
            table.append((f"10,000 paused tasks {what}, {BACKEND}", "anyio.Event", 3.0, figure))
            failpoints.reset()
    return table


def main() -> None:
    print(f"Python {sys.version.split()[0]}\n")
    print(f"{'what':<45} {'against':<20} {'at most':>7} {'measured':>9}")
    for what, against, at_most, figure in rows():
        print(f"{what:<45} {against:<20} {at_most or '':>7} {figure:>9.2f}")


if __name__ == "__main__":
    main()
