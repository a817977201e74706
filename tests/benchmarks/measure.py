"""The harness: time two sides in turn, in many short rounds.

A ratio is the median of the ratios of neighbouring rounds, so a machine that is slow for a while slows both sides. A
round makes 5,000 calls in a loop, in one running coroutine. The loop takes some 8 ns of each call. (To drive each call
with `send`, and catch its `StopIteration`, takes 150 ns, more than most of the calls, and hides half of a difference.)
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

Side: TypeAlias = Callable[[], float]
"""Makes one round, and returns the seconds that it took."""

Sides: TypeAlias = Callable[[], AbstractContextManager[tuple[Side, Side]]]
"""Prepares the two sides of a ratio, which are timed inside its block."""

CALLS = 5_000


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Args:
        what: What is measured.
        against: What it is compared with. Empty for a figure that is not a ratio.
        limit: The highest figure that is wanted, if there is one.
        measure: Returns a figure for each round, given the number of rounds. A costly row makes fewer.
        unit: The unit of the figures. Empty for ratios.
        slow: Whether the row takes minutes, and is measured only on request.
    """

    what: str
    against: str
    limit: float | None
    measure: Callable[[int], Sequence[float]]
    unit: str = ""
    slow: bool = False


def ratio(what: str, against: str, limit: float | None, sides: Sides, *, costly: int = 1, slow: bool = False) -> Row:
    """Return a row with the ratios of two sides. It makes one round for *costly* rounds of other rows."""

    def measure(rounds: int) -> list[float]:
        with sides() as (ours, theirs):
            return ratios(ours, theirs, max(1, rounds // costly))

    return Row(what, against, limit, measure, slow=slow)


def ratios(ours: Side, theirs: Side, rounds: int) -> list[float]:
    """Return the ratios of neighbouring rounds. The sides take turns in being first."""
    found: list[float] = []
    ours(), theirs()
    with no_garbage_collection():
        for number in range(rounds):
            if number % 2:
                one, other = ours(), theirs()
            else:
                other, one = theirs(), ours()
            found.append(one / other)
    return found


def repeated(statement: str, it: object, calls: int = CALLS) -> Side:
    """Return a side that carries out a statement about *it*, such as `await it()`, once in each turn of a loop.

    Each side has its own code, because CPython specializes the code of a call for the function that it calls.
    """
    define = "async def" if statement.startswith("await ") else "def"
    namespace: dict[str, Any] = {}
    exec(f"{define} repeat(it, turns):\n    for _ in turns:\n        {statement}", namespace)
    repeat, turns = namespace["repeat"], range(calls)

    def side() -> float:
        start = time.thread_time()
        run(repeat(it, turns))
        return time.thread_time() - start

    return side


def run(coroutine: Coroutine[Any, Any, Any] | None) -> None:
    """Run a coroutine that never waits, without an event loop. `None` comes from a sync function, which has run."""
    if coroutine is not None:
        try:
            coroutine.send(None)
        except StopIteration:
            return
        raise AssertionError("the coroutine waits")


@contextmanager
def no_garbage_collection() -> Generator[None]:
    """Collect garbage now, and then not until the end of the block."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
