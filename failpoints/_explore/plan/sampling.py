"""Samples orders if there are too many to try all, with a known chance to find a bug: PCT.

Each task has a random priority, and the task with the highest one goes on. At *d* - 1 random turns, the task that would
go on gets a priority below all others. A bug of depth *d* needs *d* pairs of turns in a certain order. With *n* tasks
and *k* turns, a run finds it with a chance of at least 1 / (n k^(d-1)).

From Burckhardt, Kothari, Musuvathi and Nagarakatte, A Randomized Scheduler with Probabilistic Guarantees of Finding
Bugs (ASPLOS 2010).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from .identity import TaskPath

DEPTHS: Final = (1, 2, 3)
"""The depths of the bugs that are looked for, in turn."""


class SampledOrders:
    """A number of sampled orders.

    The first run shows how many tasks and turns there are, so it looks for bugs of depth 1, which takes neither.
    """

    def __init__(self, count: int, task_of: Callable[[int], TaskPath]) -> None:
        self.is_reduced = False
        self._count = count
        self._task_of = task_of
        self._index = 0
        self._tasks = self._turns = 1  # the most in one run so far
        self._random: Random
        self._priorities: dict[TaskPath, float]
        self._changes: dict[int, int]
        self._turn: int

    @property
    def is_done(self) -> bool:
        return self._index >= self._count

    @property
    def queued(self) -> int:
        return max(self._count - self._index - 1, 0)

    @property
    def planned(self) -> None:
        return None

    def begin(self) -> None:
        self._random = Random(self._index)
        self._priorities = {}
        self._turn = 0
        changes = min(DEPTHS[self._index % len(DEPTHS)] - 1, self._turns)
        turns = self._random.sample(range(self._turns), changes)
        self._changes = {turn: -1 - number for number, turn in enumerate(turns)}

    def choose(self, options: Sequence[int], touched: object) -> int:
        for option in options:
            task = self._task_of(option)
            if task not in self._priorities:
                self._priorities[task] = self._random.random()
        chosen = self._first_of(options)
        change = self._changes.get(self._turn)
        self._turn += 1
        if change is not None:
            self._priorities[self._task_of(chosen)] = change
            chosen = self._first_of(options)
        return chosen

    def _first_of(self, options: Sequence[int]) -> int:
        return max(options, key=lambda option: self._priorities[self._task_of(option)])

    def finish(self, segments: object = ()) -> None:
        self._tasks = max(self._tasks, len(self._priorities))
        self._turns = max(self._turns, self._turn)
        self._index += 1

    def skip(self) -> None:
        self.finish()

    def chances(self) -> list[float]:
        """Return the chance of these runs to find a bug, for each of `DEPTHS`. It is a lower bound."""
        runs = [len(range(number, self._index, len(DEPTHS))) for number in range(len(DEPTHS))]
        each = [1 / (self._tasks * self._turns ** (depth - 1)) for depth in DEPTHS]
        return [1 - (1 - chance) ** count for chance, count in zip(each, runs, strict=True)]
