"""The result of an exploration: its verdict in one line, its failures, and the exception that reports them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of an exploration after a run, as `on_run` receives it.

    `runs` is the number of runs so far and `max_runs` their limit. `queued` is the number of further runs known to be
    necessary, each of which may add more. `faults` is the number of faults injected in the last run, and `failed`
    whether it failed.
    """

    runs: int
    max_runs: int
    queued: int
    faults: int
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that failed, reduced to the faults and switches that the failure needs.

    `kind` is `error`, `unhandled`, `deadlock`, `hang`, `leak`, `nondeterministic` or `undeclared`. A process may have
    `died`. `summary` is one sentence. `timeline` has the visits, one per line, and `faults` the injected faults as
    text. Of a crash, `timeline` has the operations on files. `replay` is the text that repeats exactly this run (see
    `explore`). `configuration` does so as a value of `FAILPOINTS`, or is `None` if that cannot express the run.
    """

    kind: str
    summary: str
    timeline: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    replay: str = ""
    configuration: str | None = None


class _Counts(Mapping[str, int]):
    """A mapping that cannot change, and that can be copied and pickled, unlike `types.MappingProxyType`."""

    __slots__ = ("_counts",)

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = dict(counts)

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)

    def __hash__(self) -> int:
        return hash(frozenset(self._counts.items()))

    def __repr__(self) -> str:
        return repr(self._counts)


@dataclass(frozen=True, slots=True)
class Exploration:
    """The result of `explore`; `str()` of it is the verdict, in one line. Cannot be changed.

    Attributes:
        runs: The number of runs.
        exhaustive: Whether everything in the requested scope was tried: all faults up to `max_faults` per run, and
            all orders of tasks with `interleavings`.
        bounds: If it is not exhaustive, what cut it short, as one phrase each.
        failures: The runs that failed, up to `max_failures` different ones.
        hits: The number of visits in all runs, by failpoint name.
        tasks: The largest number of tasks that took turns in one run: those that were held at a visit, or with
            `"awaits"` at a wake-up. The scenario's own is one if it was held, or if it started threads.
        visits: The number of visits at which faults were tried.
        max_faults: The limit of faults per run.
        interleavings: Where the order of tasks was explored: at their `"visits"`, or at all their `"awaits"`. `None` if
            it was not.
        replayed: Whether this was the replay of a single run.
        cut_short: The number of further runs that ended early, since all that could follow had been run.
        are_threads: Whether the tasks are threads, of a scenario that is a plain function.
        threads: The largest number of threads that took turns in one run of an async scenario, beside its tasks.
        audited: The number of further runs in which steps that were said not to meet came in the other order.
    """

    runs: int = 0
    exhaustive: bool = False
    bounds: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    hits: Mapping[str, int] = field(default_factory=dict[str, int])
    tasks: int = 0
    visits: int = 0
    max_faults: int = 0
    interleavings: Literal["visits", "awaits"] | None = None
    replayed: bool = False
    cut_short: int = 0
    audited: int = 0
    are_threads: bool = False
    threads: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "hits", _Counts(self.hits))

    def __str__(self) -> str:
        runs = counted(self.runs, "run")
        if self.failures and not (self.exhaustive or self.bounds):
            return f"{runs}, the last one failed: {self.failures[0].summary}"
        if self.failures:
            failures = counted(len(self.failures), "different failure")
            tried = self._scope() if self.exhaustive else "; ".join(self.bounds)
            return f"{runs}, {tried}: {failures}: {'; '.join(failure.summary for failure in self.failures)}"
        if self.replayed:
            return f"{runs}, replayed{''.join(f': {bound}' for bound in self.bounds)}: no failure"
        if not self.exhaustive:
            return f"{runs}: {'; '.join(self.bounds)}: not exhaustive: no failure found so far"
        return f"{runs}, {self._scope()}: no failure"

    def _scope(self) -> str:
        if not self.hits and not self.tasks and not self.threads:
            return "no failpoint was visited inside run.injecting(), so there was nothing to try"
        threads = self.threads
        at_wakeups = self.interleavings == "awaits" and not self.are_threads
        parts: list[str] = []
        if self.interleavings and self.tasks + threads < 2:
            number = "only one" if self.tasks + threads else "no"
            parts.append(f"{number} {'thread' if self.are_threads or threads else 'task'} to put in order")
        elif self.interleavings and self.are_threads:
            others = counted(self.tasks - 1, "thread")
            parts.append(f"every order of {others} and the scenario at visits and primitives")
        elif self.interleavings:
            tasks = f"{counted(self.tasks, 'task')}{' at every wake-up' if at_wakeups else ''}"
            others = f"{counted(threads, 'thread')} at visits and primitives"
            parts.append(f"every order of {' and '.join([tasks] * bool(self.tasks) + [others] * bool(threads))}")
        if self.max_faults and not self.visits:
            parts.append("no visit at which a fault could be injected")
        elif self.max_faults:
            limit = "one at a time" if self.max_faults == 1 else f"up to {self.max_faults} in one run"
            places = counted(self.visits, "visit or wake-up" if at_wakeups else "visit")
            parts.append(f"every fault at {places}, {limit}")
        if self.audited:
            parts.append(f"audited by {counted(self.audited, 'run')}")
        return ", ".join(parts) if parts else "no faults and no orders"


class ExplorationFailed(AssertionError):
    """A run of an exploration failed. The message has its timeline and the call that repeats exactly this run.

    The original error is its `__cause__`, or a group of these if several runs failed (see `max_failures`).
    `exploration` is the result up to here, which has all failures, `failure` the first of them, and `replay` the text
    to pass to `explore` as `replay=`. If a crash was explored, it is a `CrashExploration`.
    """

    code = "FP023"
    exploration: Any  # an Exploration, or a CrashExploration, which is of the room above

    def __init__(self, message: str, exploration: Any, failure: Failure) -> None:
        super().__init__(message)
        self.exploration = exploration
        self.failure = failure

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.exploration, self.failure)

    @property
    def replay(self) -> str:
        """The text to pass to `explore` as `replay=`, to repeat exactly this run."""
        return self.failure.replay

    def __str__(self) -> str:
        return str(self.args[0])


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural if need be."""
    return f"{count:,} {noun if count == 1 else ' or '.join(f'{word}s' for word in noun.split(' or '))}"
