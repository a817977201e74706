"""Many failpoints: 10,000 decorated functions, and a million names made up at run time.

    python tests/benchmarks/many.py

prints the memory that the names keep, in KiB. It is a process of its own because the names are kept only once.
"""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from measure import Row, no_garbage_collection, run

import failpoints
from failpoints import failpoint

FUNCTIONS = 10_000
NAMES = 1_000_000


# decorated functions


def milliseconds(action: Callable[[], object]) -> float:
    start = time.thread_time()
    action()
    return (time.thread_time() - start) * 1e3


def beside_decorated(measure: Callable[[], list[float]]) -> list[float]:
    """Measure while 10,000 functions exist, whose failpoints were never configured. They have the names many.0 to ….

    The functions are new: the first `configure` of one may prepare something that later ones need no more. What the
    first one in the process takes longer, with functions or without, is not measured.
    """

    async def function() -> int:
        return 1

    functions: list[Any] = [failpoint(f"many.{number}")(function) for number in range(FUNCTIONS)]
    try:
        with no_garbage_collection():
            failpoints.configure("something.else", "return(1)")
            failpoints.remove("something.else")
            return measure()
    finally:
        failpoints.reset()
        functions.clear()
        gc.collect()


def first(rounds: int) -> list[float]:
    def configure() -> list[float]:
        return [milliseconds(partial(failpoints.configure, "many.0", "return(1)"))]

    return [figure for _ in range(max(1, rounds // 10)) for figure in beside_decorated(configure)]


def later(rounds: int) -> list[float]:
    def configure_again() -> list[float]:
        figures: list[float] = []
        failpoints.configure("many.0", "return(1)")
        for _ in range(rounds):
            failpoints.remove("many.0")
            figures.append(milliseconds(partial(failpoints.configure, "many.0", "return(1)")))
        return figures

    return beside_decorated(configure_again)


def of_no_function(rounds: int) -> list[float]:
    def configure_another() -> list[float]:
        figures: list[float] = []
        for number in range(rounds):
            figures.append(milliseconds(partial(failpoints.configure, f"none.{number}", "return(1)")))
            failpoints.remove(f"none.{number}")
        return figures

    return beside_decorated(configure_another)


# names made up at run time


async def visit(numbers: Iterable[int]) -> None:
    for number in numbers:
        await failpoint(f"user.{number}")


def microseconds_per_name(rounds: int) -> list[float]:
    figures: list[float] = []
    numbers = itertools.count()
    count = NAMES // 60
    with no_garbage_collection():
        for _ in range(rounds):
            start = time.thread_time()
            run(visit(itertools.islice(numbers, count)))
            figures.append((time.thread_time() - start) / count * 1e6)
    return figures


def kibibytes(rounds: int) -> list[float]:
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=600, check=True)
    return [float(done.stdout)]


def main() -> None:
    run(visit(range(1)))
    tracemalloc.start()
    run(visit(range(NAMES)))
    print(tracemalloc.get_traced_memory()[1] / 1024)


ROWS: list[Row] = [
    Row("the first `configure` beside 10,000 decorated functions", "", 0.1, first, "ms"),
    Row("each later `configure` beside them", "", 0.1, later, "ms"),
    Row("a `configure` of a name that no function has", "", 0.1, of_no_function, "ms"),
    Row('`await failpoint(f"user.{n}")`, 10⁶ names made up at run time', "", None, microseconds_per_name, "µs"),
    Row("the memory that these names take", "", 4096, kibibytes, "KiB"),
]

if __name__ == "__main__":
    main()
