"""Runs a scenario once, with everything fresh: the event loop, the registry, the seeds."""

from __future__ import annotations

import gc
import inspect
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, Protocol, TypeAlias

from .._core.functions import callable_name
from .._core.hooks import exploring
from .._core.messages import safe_repr
from .._core.own_calls import hands_over
from .._core.registry import Registry
from ..errors import FailpointUsageError
from .execution import Execution
from .loops.blocked import remembering_owners
from .plan.faults import Alternatives
from .plan.guide import Guide
from .plan.places import Labels
from .problem import Problem
from .run import Run
from .timeline import Timeline
from .watchdog import Stuck, Watched

Scenario: TypeAlias = Callable[[Run], Awaitable[object]]


_COLLECT = 100  # runs, after which garbage is looked for where other threads never let it be
_lock = threading.Lock()
_collecting_before = True
_running = 0
_runs = 0


@contextmanager
def _without_collecting() -> Generator[None]:
    """No garbage is collected in a run: when that happens, and what it finishes then, is not the same in every run."""
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
                gc.enable()  # and what is due is collected before the next run
            is_due = bool(_running) and not _runs % _COLLECT
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


class Outcome:
    """What one run did, and what was wrong with it."""

    __slots__ = ("execution", "problem", "timeline")

    def __init__(self, execution: Execution, problem: Problem | None, timeline: Timeline | None) -> None:
        self.execution = execution
        self.problem = problem
        self.timeline = timeline


class Runner:
    """Everything that the runs of one exploration have in common."""

    def __init__(
        self, scenario: Scenario, backend: str, alternatives: Alternatives, timeout: float, *, is_virtual: bool
    ) -> None:
        self.scenario = scenario
        self.name = callable_name(scenario)
        self.alternatives = alternatives
        self.labels = Labels()
        self.timeout = timeout
        self._is_virtual = is_virtual
        self._backend, self.in_order = _backend(backend)
        self.watched: Watched  # by whom this thread's runs are ended that do not return to their loop

    def run(self, guide: Guide, *, holding: bool, faults: bool, recording: bool = False) -> Outcome:
        """Run the scenario once, as the guide says."""
        timeline = Timeline(self.name.rpartition(".")[2]) if recording else None
        given = self.watched, guide, self.alternatives, self.labels
        execution = Execution(*given, holding=holding, faults=faults, recorder=timeline)
        remembering: AbstractContextManager[None] = remembering_owners() if recording else nullcontext()
        with remembering, _without_collecting():
            problem = copy_context().run(self._run, execution)
        return Outcome(execution, problem, timeline)

    def _run(self, execution: Execution) -> Problem | None:
        exploring.set(execution)
        random.seed(0)
        run = Run(execution)
        with Registry() as registry:
            registry.seed(0)
            main = self._coroutine(run)
            deadline = time.monotonic() + self.timeout
            problem: Problem | None = None
            stood: str | None = None
            self.watched.begin(deadline)
            try:
                problem = self._backend(execution, main, deadline, is_virtual=self._is_virtual)
            finally:
                while True:
                    try:
                        stood = self.watched.end()
                        break
                    except Stuck:  # thrown a moment too late
                        pass
        if stood is not None:
            problem = Problem("hang", "", notes=(f"its sync code did not return; it stood at {stood}",))
        if problem is not None and problem.kind == "hang":
            problem = replace(problem, sentence=f"the run did not end within its {self.timeout:g} s")
        return problem

    def _coroutine(self, run: Run) -> Coroutine[Any, Any, Any]:
        coroutine: Any = _called(self.scenario, run)
        if not inspect.iscoroutine(coroutine):
            raise FailpointUsageError(
                f"a scenario is an async function of one run; {self.name} returned {safe_repr(coroutine)}"
            )
        return coroutine


@hands_over
def _called(scenario: Scenario, run: Run) -> object:
    return scenario(run)


def _backend(name: str) -> tuple[_Backend, Callable[[], AbstractContextManager[None]]]:
    if name == "asyncio":
        from .loops import asyncio_loop, asyncio_order

        return asyncio_loop.run, asyncio_order.in_order
    if find_spec("trio") is None:
        raise FailpointUsageError("backend='trio' needs trio, which is not installed: pip install trio")
    from .loops import trio_clock, trio_order

    return trio_clock.run, trio_order.in_order
