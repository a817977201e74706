"""What can be wrong with a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Blocked:
    """A task that waits: its place, the program's own line it stands in, and what it waits for there.

    `waits_in` is the library's function that it called; `lock` what the program calls the lock it wants, `holder`
    the place of the task that has it, `awaited` that of a task whose end it waits for.
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
    """What was wrong with a run: of which kind, in one sentence, the error behind it, and who waits for what.

    The kinds are `error` (the scenario raised), `unhandled` (a task did, and nobody awaited it), `deadlock`,
    `hang` (longer than the limit), and `leak` (tasks outlived the scenario).
    """

    kind: str
    sentence: str
    error: BaseException | None = None
    notes: tuple[str, ...] = ()
    blocked: tuple[Blocked, ...] = ()

    def is_like(self, other: Problem | None) -> bool:
        """Whether it is the same failure, as far as one can tell."""
        return other is not None and self.kind == other.kind and type(self.error) is type(other.error)
