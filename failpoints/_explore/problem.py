"""The ways in which a run can fail."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BlockedTask:
    """A task that is waiting: the user's line that it is at, and what it waits for.

    Attributes:
        path: The position of the task in the tree of tasks.
        where: The user's line that the task is at, as `file:line`, or "" if it is not in the user's code.
        line: The source text of this line.
        waits_in: The library function that this line called.
        lock: The name that the user's code has for the lock that the task is waiting for, or "".
        holder: The path of the task that holds this lock.
        awaited: The path of the task whose end it is waiting for.
    """

    path: tuple[int, ...]
    where: str
    line: str
    waits_in: str
    lock: str = ""
    holder: tuple[int, ...] | None = None
    awaited: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """The reason why a run failed: its kind, a sentence, the error behind it, notes, and the tasks that are waiting.

    The kinds are `error` (the scenario raised), `unhandled` (a task raised, and its error was never retrieved),
    `deadlock`, `hang` (the run exceeded its time limit) and `leak` (tasks outlived the scenario).
    """

    kind: str
    sentence: str
    error: BaseException | None = None
    notes: tuple[str, ...] = ()
    blocked: tuple[BlockedTask, ...] = ()

    def is_like(self, other: Problem | None) -> bool:
        """Return whether *other* is probably the same failure: the same kind, with the same type of error."""
        return other is not None and self.kind == other.kind and type(self.error) is type(other.error)
