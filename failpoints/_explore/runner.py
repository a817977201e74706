"""Runs a scenario once, with a fresh event loop, a fresh registry and fresh seeds."""

from __future__ import annotations

import gc
import inspect
import sys
import threading
from collections.abc import Callable, Coroutine, Generator, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any, Protocol, TypeAlias

from .._core.clock import monotonic
from .._core.functions import callable_name
from .._core.hooks import exploring
from .._core.messages import safe_repr
from .._core.reentrancy import runs_user_code
from .._core.registry import Registry
from ..errors import FailpointUsageError
from .entropy import begin_run
from .execution import Execution
from .loops.blocked import recording_lock_owners
from .options import Options
from .plan.faults import Alternatives
from .plan.identity import Labels
from .plan.orders import EveryOrder, Orders
from .plan.sampling import SampledOrders
from .plan.scheduler import PlannedScheduler, Scheduler
from .plan.search import Plan
from .problem import Problem
from .run import Run
from .steering.installing import replace_in_closures, steering_threads
from .steering.lines import Lines
from .steering.monitored import MonitoredLines
from .steering.scenario import NotAFunction
from .steering.scenario import run as run_sync
from .steering.traced import TracedLines
from .steering.unsteered import unsteered_locks
from .steps import Steps
from .timeline import Timeline
from .watchdog import Stuck, WatchedThread

Scenario: TypeAlias = Callable[[Run], object]

_MOST_NAMES = 3  # of locks, in a verdict
_RUNS_BETWEEN_COLLECTIONS = 100  # while other threads explore as well, so that garbage collection is never switched on
_lock = threading.Lock()
_collecting_before = True
_running = 0
_runs = 0


@contextmanager
def _garbage_collection_off() -> Generator[None]:
    """Switch automatic garbage collection off during a run.

    It would come at other points in each run, and so would the finalizers that it calls.
    """
    global _collecting_before, _running, _runs
    with _lock:
        if not _running:
            _collecting_before = gc.isenabled()
            gc.disable()
        _running += 1
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            _runs += 1
            if not _running and _collecting_before:
                gc.enable()  # a collection that is due comes now, before the next run
            is_due = bool(_running) and not _runs % _RUNS_BETWEEN_COLLECTIONS
        if is_due:
            gc.collect()


class _Backend(Protocol):
    def __call__(
        self,
        execution: Execution,
        main: Coroutine[Any, Any, Any],
        deadline: float,
        *,
        is_virtual: bool,
    ) -> Problem | None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run that has ended, with the problem that it had, and its timeline and `run.observed` if it was recorded."""

    execution: Execution
    problem: Problem | None
    timeline: Timeline | None
    observed: tuple[str, ...] = ()


class FoundInClosures(Exception):
    """Is raised if an exploration has to begin again, since some of what its threads use was not replaced yet."""


class Runner:
    """Runs one scenario, again and again: keeps what the runs of an exploration have in common.

    `watched` must be set before the first run. It ends runs whose sync code does not return.
    """

    def __init__(self, scenario: Scenario, options: Options) -> None:
        self.scenario = scenario
        self.name = callable_name(scenario)
        self.options = options
        self.alternatives = Alternatives(options.parsed_faults, cancellations=options.cancellations)
        self.labels = Labels()
        self.is_sync = not _is_async(scenario)
        self.lines = _lines(options.lines) if options.lines else None
        self._slow_waits: set[Hashable] = set()
        self._has_looked_into_closures = False
        self.watched: WatchedThread
        self._backend, self.deterministic_order = _import_backend(options.backend)

    def _meaningless_option(self) -> FailpointUsageError | None:
        """Return the error of an option that has no meaning for threads."""
        if self.options.cancellations:
            return FailpointUsageError(
                f"cancellations= cancels tasks, and {self.name} has none: it is a plain function, whose threads cannot"
                " be cancelled"
            )
        return None

    @contextmanager
    def steering_threads(self) -> Generator[None]:
        """Steer the threads of the runs, if their order is explored."""
        if not self.is_sync and self.options.held_at is None:
            yield
            return
        with steering_threads():
            if self.is_sync:
                self._look_into_closures()
            yield

    def again(self) -> Runner:
        """Return what runs the scenario again, from the first run on."""
        again = Runner(self.scenario, self.options)
        again.watched, again._has_looked_into_closures = self.watched, self._has_looked_into_closures
        return again

    def _look_into_closures(self) -> bool:
        self._has_looked_into_closures = True
        return replace_in_closures()

    def watching_lines(self) -> AbstractContextManager[None]:
        """Watch the modules whose lines are points, if any."""
        return nullcontext() if self.lines is None else self.lines.watching()

    def noting_primitives(self) -> AbstractContextManager[None]:
        """Note in the runs what tasks do to locks, events, queues and so on, if the search needs it."""
        options = self.options
        if options.held_at is None or not options.is_reduced:
            return nullcontext()
        from .loops import primitives

        return primitives.noting_primitives(_import_primitives(options.backend))

    @property
    def short_name(self) -> str:
        """The name of the scenario, without its class or enclosing function."""
        return self.name.rpartition(".")[2]

    def new_orders(self) -> Orders:
        """Return the orders to run of a new set of faults."""
        options = self.options
        if options.sample is not None:
            return SampledOrders(options.sample, lambda label: self.labels.visit(label).path)
        needs_declaration = options.reduction == "sound" and not self.is_sync
        return EveryOrder(is_reduced=options.is_reduced, needs_declaration=needs_declaration)

    def scheduler(self, plan: Plan) -> PlannedScheduler:
        """Return what makes a run follow a plan of the search, within the bounds of the exploration."""
        return PlannedScheduler(
            plan,
            interleavings=self.options.held_at,
            max_faults=self.options.fault_limit,
            max_preemptions=self.options.max_preemptions,
        )

    def run(self, scheduler: Scheduler, *, recording: bool = False) -> Outcome:
        """Run the scenario once, with the decisions of the scheduler.

        Raises:
            FoundInClosures: Only now are all primitives replaced that its threads can use.
        """
        try:
            outcome = self._run_once(scheduler, recording=recording)
        except NotAFunction:
            self.is_sync = False
            outcome = self._run_once(scheduler, recording=recording)
        if outcome.execution.threads and not self._has_looked_into_closures and self._look_into_closures():
            raise FoundInClosures
        return outcome

    def unsteered(self, threads: int) -> Iterator[str]:
        """Generate a phrase on the locks that were made before the runs, if threads were put in order.

        *threads* is the number of these beside tasks.
        """
        are_ordered = (self.is_sync or threads) and self.options.held_at is not None
        unsteered = unsteered_locks(self.scenario) if are_ordered else []
        if unsteered:
            more = ", …" * (len(unsteered) > _MOST_NAMES)
            yield f"not steered, since made before the run: {', '.join(unsteered[:_MOST_NAMES])}{more}"

    def check_lines(self) -> None:
        """Raise `FailpointUsageError` if a module of `lines=` has run no code, since it may be a typo."""
        for module in () if self.lines is None else self.lines.modules.unseen:
            raise FailpointUsageError(f"lines= names {module!r}, but no code of this module ran in a thread of a run")

    def _run_once(self, scheduler: Scheduler, *, recording: bool) -> Outcome:
        timeline = Timeline(self.short_name) if recording else None
        steps = self._steps() if scheduler.is_reduced else None
        execution = Execution(scheduler, self.alternatives, self.labels, self.watched, timeline, steps)
        execution.slow_waits = self._slow_waits
        recording_owners: AbstractContextManager[None] = recording_lock_owners() if recording else nullcontext()
        with recording_owners, _garbage_collection_off():
            run = Run(execution)
            problem = copy_context().run(self._run, execution, run)
        return Outcome(execution, problem, timeline, run.observed if recording and self.options.audit else ())

    def _steps(self) -> Steps:
        options = self.options
        return Steps(
            needs_declaration=options.reduction == "sound",
            runs_woken=options.held_at == "visits" and not self.is_sync,
            are_of_threads=self.is_sync,
        )

    def _run(self, execution: Execution, run: Run) -> Problem | None:
        exploring.set(execution)
        begin_run(execution.root)
        with Registry() as registry:
            registry.seed(0)
            if self.lines is not None and not self.is_sync:
                raise FailpointUsageError(
                    f"lines= makes threads change between lines, and {self.name} is an async function: its tasks change"
                    " only where they await"
                )
            main = None if self.is_sync else self._call_scenario(run)
            deadline = monotonic() + self.options.timeout
            problem: Problem | None = None
            interrupted_at: str | None = None
            self.watched.begin(deadline)
            try:
                if main is None:
                    call = partial(self._call_sync_scenario, run)
                    problem = run_sync(execution, call, deadline, is_virtual=self.options.is_virtual, lines=self.lines)
                    execution.usage_error = execution.usage_error or self._meaningless_option()
                else:
                    problem = self._backend(execution, main, deadline, is_virtual=self.options.is_virtual)
            finally:
                while True:
                    try:
                        interrupted_at = self.watched.end()
                        break
                    except Stuck:  # thrown a moment too late
                        pass
        if interrupted_at is not None:
            where = f": it was interrupted at {interrupted_at}" if interrupted_at else ""
            problem = Problem("hang", "", notes=(f"its sync code did not return{where}",))
        if problem is not None and problem.kind == "hang":
            problem = replace(problem, sentence=f"the run did not end within its {self.options.timeout:g} s")
        return problem

    def _call_sync_scenario(self, run: Run) -> None:
        returned: Any = _call(self.scenario, run)
        if inspect.iscoroutine(returned):
            returned.close()
            raise NotAFunction
        if inspect.isawaitable(returned):
            raise FailpointUsageError(
                f"a scenario must be a function or an async function; {self.name} returned {safe_repr(returned)}"
            )

    def _call_scenario(self, run: Run) -> Coroutine[Any, Any, Any]:
        coroutine: Any = _call(self.scenario, run)
        if not inspect.iscoroutine(coroutine):
            raise FailpointUsageError(
                "a scenario must be an async function that takes the run as its only argument;"
                f" {self.name} returned {safe_repr(coroutine)}"
            )
        return coroutine


def _lines(modules: Sequence[str]) -> Lines:
    return MonitoredLines(modules) if sys.version_info >= (3, 12) else TracedLines(modules)


def _is_async(scenario: Any) -> bool:
    call = getattr(scenario, "__call__", None)  # noqa: B004 - of an object, whose method may be async
    return inspect.iscoroutinefunction(scenario) or inspect.iscoroutinefunction(call)


@runs_user_code
def _call(scenario: Scenario, run: Run) -> object:
    return scenario(run)


def _import_backend(name: str) -> tuple[_Backend, Callable[[], AbstractContextManager[None]]]:
    if name == "asyncio":
        from .loops import asyncio_order, asyncio_run

        return asyncio_run.run, asyncio_order.deterministic_order
    if find_spec("trio") is None:
        raise FailpointUsageError("backend='trio' needs trio, which is not installed: pip install trio", code="FP018")
    from .loops import trio_clock, trio_order

    return trio_clock.run, trio_order.deterministic_order


def _import_primitives(backend: str) -> Callable[[Any], None]:
    if backend == "asyncio":
        from .loops import primitives_asyncio

        return primitives_asyncio.install
    from .loops import primitives_trio

    return primitives_trio.install
