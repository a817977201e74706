"""What came of an exploration: the verdict, in one line, and what is raised when a run failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Progress:
    """What `on_run` is told after each run: how many there were, and the most there may be.

    `queued` is how many more are known by now, which bring others; `faults` how many the last one injected.
    """

    runs: int
    max_runs: int
    queued: int
    faults: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that failed, cut down to what it takes.

    `kind` is `error`, `unhandled`, `deadlock`, `hang`, `leak` or `nondeterministic`; `summary` one sentence;
    `timeline` the visits, one a line; `faults` what was injected; `replay` what runs exactly this again, and
    `configuration` the same for `FAILPOINTS`, where that can express it.
    """

    kind: str
    summary: str
    timeline: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    replay: str = ""
    configuration: str | None = None


@dataclass(slots=True)
class Exploration:
    """What `explore` did, and what that says: `str()` of it is the verdict, in one line.

    `runs` is how many there were; `exhaustive` whether everything in the scope asked for was tried (faults up to
    `max_faults`, orders if `interleavings`); if not, `bounds` says in words what cut it short. `failures` are the
    runs that failed (the first one ends an exploration), `hits` the visits of all runs by name. `tasks` and
    `visits` are the most tasks that took turns in one run, and at how many visits faults were tried.
    """

    runs: int = 0
    exhaustive: bool = False
    bounds: tuple[str, ...] = ()
    failures: list[Failure] = field(default_factory=list[Failure])
    hits: Mapping[str, int] = field(default_factory=dict[str, int])
    tasks: int = 0
    visits: int = 0
    max_faults: int = 0
    interleavings: bool = False
    replayed: bool = False

    def __str__(self) -> str:
        runs = _counted(self.runs, "run")
        if self.failures:
            return f"{runs}, the last one failed: {self.failures[0].summary}"
        if self.replayed:
            return f"{runs}, replayed{''.join(f': {bound}' for bound in self.bounds)}: no failure"
        if not self.exhaustive:
            return f"{runs}: {'; '.join(self.bounds)}: not exhaustive: no failure found so far"
        return f"{runs}, {self._scope()}: no failure"

    def _scope(self) -> str:
        if not self.hits:
            return "no failpoint was visited inside run.injecting(), so that there was nothing to try"
        parts: list[str] = []
        if self.interleavings:
            parts.append(f"every order of {_counted(self.tasks, 'task')}" if self.tasks else "no task to put in order")
        if self.max_faults and not self.visits:
            parts.append("no visit at which a fault could be injected")
        elif self.max_faults:
            most = "one at a time" if self.max_faults == 1 else f"up to {self.max_faults} in one run"
            parts.append(f"every fault at {_counted(self.visits, 'visit')}, {most}")
        return ", ".join(parts) if parts else "no faults and no orders"


class ExplorationFailed(AssertionError):
    """A run failed: the message shows what happened, in which order, and how to run exactly that again.

    The original error is its `__cause__`. `exploration` is what was done until then, `failure` the failing run, and
    `replay` the text to give to `explore` as `replay=`.
    """

    def __init__(self, message: str, exploration: Exploration, failure: Failure) -> None:
        super().__init__(message)
        self.exploration = exploration
        self.failure = failure

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.exploration, self.failure)

    @property
    def replay(self) -> str:
        """What to give to `explore` as `replay=`, to run exactly this again."""
        return self.failure.replay

    def __str__(self) -> str:
        return str(self.args[0])


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
