"""Measure the speed of exploration in runs per second, or with `--memory` the memory that it keeps.

    python tests/benchmarks/exploration.py [--memory]

The rates depend on the machine. So each is also shown as a ratio to the rate at which the library runs an empty
function, measured in turn.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
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


def rates(backend: Any) -> list[tuple[str, float, float]]:
    """Return the median rates by name: in runs per second, and as a ratio to the rate of the library alone."""

    def run_alone() -> None:
        for _ in range(100):
            asyncio.run(nothing()) if backend == "asyncio" else trio.run(nothing)

    def explored(scenario: Any, runs: int) -> Callable[[], None]:
        def call() -> None:
            assert explore(scenario, backend=backend, interleavings=True).runs == runs

        return call

    race, locked = explored(withdrawals, 90), explored(locked_withdrawals, 72)
    figures = [(100 / seconds(run_alone), 90 / seconds(race), 72 / seconds(locked)) for _ in range(ROUNDS)]
    names = [f"{backend}.run alone", "3 tasks, 2 visits: 90 orders", "the same behind a lock: 72 orders"]
    return [
        (name, statistics.median(round_[index] for round_ in figures),
         statistics.median(round_[index] / round_[0] for round_ in figures))
        for index, name in enumerate(names)
    ]  # fmt: skip


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
        for what, rate, ratio in rates(backend):
            print(f"{what:<45} {rate:>8,.0f} runs/s {ratio:>6.2f}")
    print(f"{'explore of nothing, against anyio.run':<45} {'':>15} {trivial():>6.2f} at most 1.5")


if __name__ == "__main__":
    main()
