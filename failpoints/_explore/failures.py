"""The failures of one exploration, told apart by their errors, and the one exception that reports all of them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from .problem import Problem
from .result import Exploration, ExplorationFailed
from .user_frames import raised_at


class Failures:
    """Collects up to *limit* different failures of a scenario with this *name*."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._errors: list[ExplorationFailed] = []
        self._known: set[Hashable] = set()

    def __bool__(self) -> bool:
        return bool(self._errors)

    @property
    def is_full(self) -> bool:
        """Whether there are as many as were asked for, or no more can be found."""
        return len(self._errors) >= self._limit or self.is_nondeterministic

    @property
    def is_nondeterministic(self) -> bool:
        """Whether the scenario behaves differently in equal runs."""
        return bool(self._errors) and self._errors[-1].failure.kind == "nondeterministic"

    def is_new(self, key: Hashable) -> bool:
        """Return whether no failure has this key yet, and take note of it."""
        is_new = key not in self._known
        self._known.add(key)
        return is_new

    def add(self, error: ExplorationFailed) -> None:
        """Add a failure. The error has its message, and its original error as its cause."""
        self._errors.append(error)

    def error(self, exploration: Exploration) -> ExplorationFailed:
        """Return the exception to raise at the end of an exploration."""
        first = self._errors[0]
        exploration = replace(exploration, failures=tuple(error.failure for error in self._errors))
        if len(self._errors) == 1:
            first.exploration = exploration
            return first
        parts = [f"{self._name} failed in {len(self._errors)} different ways, in {exploration.runs:,} runs:"]
        parts += [f"{number}. {error}" for number, error in enumerate(self._errors, 1)]
        combined = ExplorationFailed("\n\n".join(parts), exploration, first.failure)
        causes = [error.__cause__ for error in self._errors if error.__cause__ is not None]
        combined.__cause__ = BaseExceptionGroup("the errors of the runs", causes) if causes else None
        return combined


def failure_key(problem: Problem) -> Hashable:
    """Return what tells a failure from others: the type of its error, and the program's line."""
    error = problem.error
    if error is not None:
        return problem.kind, type(error), raised_at(error)
    return problem.kind, frozenset(blocked.where for blocked in problem.blocked)
