"""Measure the speed of exploration in runs per second, or with `--memory` the memory that it keeps.

    python tests/benchmarks/exploration.py [--memory]

The rates depend on the machine. So each is also shown as a ratio to the rate at which the library runs an empty
function, and a program of three tasks, measured in turn.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import anyio
import trio

from failpoints import failpoint
from failpoints.explore import Progress, Run, explore

ROUNDS = 15
RUNS = 100_000


async def nothing(*run: Run) -> None:
    pass


async def withdrawals(run: Run) -> None:
    """Run three tasks with two visits each: 90 orders."""
    balance = 100

    async def withdraw() -> None:
        nonlocal balance
        await failpoint("balance.read")
        left = balance
        await failpoint("balance.write")
        balance = left - 1

    async with run.injecting(), anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(withdraw)


async def locked_withdrawals(run: Run) -> None:
    """Three tasks with a visit before a lock, and two visits inside it: 72 orders."""
    balance = 100
    lock = anyio.Lock()

    async def withdraw() -> None:
        nonlocal balance
        await failpoint("balance.come")
        async with lock:
            await failpoint("balance.read")
            left = balance
            await failpoint("balance.write")
            balance = left - 1

    async with run.injecting(), anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(withdraw)
    assert balance == 97


async def four_tasks(run: Run) -> None:
    """Run four tasks with three visits each: 369,600 orders."""

    async def visit() -> None:
        for _ in range(3):
            await failpoint("turn")

    async with run.injecting(), anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(visit)


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


async def checkpoints(run: Run) -> None:
    """Run the three tasks with a checkpoint in the place of each visit."""
    async with run.injecting(), anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(two_checkpoints)


async def three_tasks() -> None:
    """Run the same without an exploration."""
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(two_checkpoints)


async def two_checkpoints() -> None:
    await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.checkpoint()


async def four_locked(run: Run) -> None:
    """Run four tasks with a visit before a lock and one inside, which declares what it writes: 24 runs."""
    lock = anyio.Lock()

    async def write() -> None:
        await failpoint("balance.come")
        async with lock:
            await failpoint("balance.write", writes=("balance",))

    async with run.injecting(), anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(write)


def rates(backend: Any) -> Iterator[tuple[str, float, float, float]]:
    """Generate rates by name: in runs per second, and as ratios to the rates of the library alone.

    The first ratio is to a run of nothing, the second one to a run of the three tasks. All are medians of rounds in
    which everything is measured in turn.
    """

    def alone(function: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], int]:
        def call() -> int:
            for _ in range(100):
                asyncio.run(function()) if backend == "asyncio" else trio.run(function)
            return 100

        return call

    def explored(scenario: Any, runs: int, **options: Any) -> Callable[[], int]:
        given: dict[str, Any] = {"interleavings": True, **options}

        def call() -> int:
            exploration = explore(scenario, backend=backend, max_runs=runs, **given)
            assert exploration.runs + exploration.cut_short == runs
            return runs

        return call

    calls = {
        f"{backend}.run of nothing": alone(nothing),
        f"{backend}.run of 3 tasks, 2 checkpoints each": alone(three_tasks),
        "3 tasks, 2 visits: 90 orders": explored(withdrawals, 90),
        "the same, reduction=None": explored(withdrawals, 90, reduction=None),
        "the same behind a lock: 72 orders": explored(locked_withdrawals, 72),
        '3 tasks, 2 checkpoints, "awaits": 90 orders': explored(checkpoints, 90, interleavings="awaits"),
        '4 locked tasks, "declared": the whole proof': explored(four_locked, 24, reduction="declared"),
    }
    rounds: list[list[float]] = []
    for _ in range(ROUNDS):
        rounds.append([])
        for call in calls.values():
            start = time.perf_counter()
            runs = call()
            rounds[-1].append(runs / (time.perf_counter() - start))
    for index, name in enumerate(calls):
        yield (
            name,
            statistics.median(each[index] for each in rounds),
            statistics.median(each[index] / each[0] for each in rounds),
            statistics.median(each[index] / each[1] for each in rounds),
        )


def trivial() -> float:
    """Return the time of one exploration of an empty scenario, as a ratio to that of `anyio.run`."""

    def many(call: Callable[[], Any]) -> float:
        return seconds(lambda: [call() for _ in range(100)])

    return statistics.median(many(lambda: explore(nothing)) / many(lambda: anyio.run(nothing)) for _ in range(ROUNDS))


def memory(backend: Any) -> list[tuple[int, float]]:
    """Return the memory that is kept after certain numbers of runs, in KiB."""
    kept: list[tuple[int, float]] = []

    def look(progress: Progress) -> None:
        if progress.runs in (1_000, RUNS // 4, RUNS // 2, RUNS):
            gc.collect()
            kept.append((progress.runs, tracemalloc.get_traced_memory()[0] / 1024))

    tracemalloc.start()
    explore(four_tasks, backend=backend, interleavings=True, max_runs=RUNS, on_run=look)
    tracemalloc.stop()
    return kept


def main() -> None:
    print(f"Python {sys.version.split()[0]}\n")
    if "--memory" in sys.argv:
        for backend in ("asyncio", "trio"):
            for runs, kibibytes in memory(backend):
                print(f"{backend:<8} {runs:>8,} runs {kibibytes:>10.1f} KiB")
        return
    for backend in ("asyncio", "trio"):
        print(f"{'':<45} {'runs/s':>8} {'of nothing':>12} {'of 3 tasks':>12}")
        for what, rate, *ratios in rates(backend):
            print(f"{what:<45} {rate:>8,.0f} {ratios[0]:>12.2f} {ratios[1]:>12.2f}")
        print()
    print(f"{'explore of nothing, against anyio.run':<45} {trivial():>8.2f} at most 1.5")


if __name__ == "__main__":
    main()
