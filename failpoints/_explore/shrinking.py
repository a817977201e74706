"""Repeats a run that failed, to record it, and reduces it to the switches that the failure needs."""

from __future__ import annotations

from .._core.clock import monotonic
from .plan.scheduler import PlannedScheduler
from .plan.search import Plan, Search
from .problem import Problem
from .runner import Outcome, Runner

# The limits of the search for an order with fewer switches.
_MAX_RUNS = 500
_MAX_SECONDS = 2.0


def shrink(runner: Runner, plan: Plan, problem: Problem) -> Outcome | None:
    """Repeat a run that failed with *problem*, and return it recorded, with as few switches as can be found.

    Returns `None` if it does not fail in the same way again.
    """
    options = runner.options
    scheduler = PlannedScheduler(
        plan,
        runner.labels,
        holds_tasks=options.interleavings,
        max_faults=options.fault_limit,
        max_preemptions=options.max_preemptions,  # the choices of the plan were made under this bound
    )
    outcome = runner.run(scheduler, recording=True)
    if not problem.is_like(outcome.problem):
        return None
    if not options.interleavings or problem.kind == "hang":
        return outcome
    return _with_fewest_switches(runner, outcome, problem) or outcome


def _with_fewest_switches(runner: Runner, outcome: Outcome, problem: Problem) -> Outcome | None:
    """Search for the same failure with the fewest switches away from a task that could go on."""
    faults = {fault.label: fault.alternative for fault in outcome.execution.injected}
    end = monotonic() + _MAX_SECONDS
    runs = 0
    for preemptions in range(outcome.execution.preemptions):
        search = Search(0)
        while (plan := search.next()) is not None:
            if runs >= _MAX_RUNS or monotonic() > end:
                return None
            runs += 1
            scheduler = _continuing_scheduler(runner, plan, preemptions, faults)
            if problem.is_like(runner.run(scheduler).problem):
                scheduler = _continuing_scheduler(runner, plan, preemptions, faults)
                again = runner.run(scheduler, recording=True)
                return again if problem.is_like(again.problem) else None
            search.record(scheduler.trace)
    return None


def _continuing_scheduler(runner: Runner, plan: Plan, preemptions: int, faults: dict[int, int]) -> PlannedScheduler:
    return PlannedScheduler(
        plan, runner.labels, holds_tasks=True, max_preemptions=preemptions, continuing=True, fixed_faults=faults
    )
