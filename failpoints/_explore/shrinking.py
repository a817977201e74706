"""Repeats a run that failed, to record it, and reduces it to the faults and the switches that the failure needs."""

from __future__ import annotations

from collections.abc import Mapping

from .._core.clock import monotonic
from .plan.orders import EveryOrder
from .plan.scheduler import PlannedScheduler
from .plan.search import Plan
from .problem import Problem
from .runner import Outcome, Runner

# The limits of the search for an order with fewer switches.
_MAX_RUNS = 500
_MAX_SECONDS = 10.0


def shrink(runner: Runner, plan: Plan, problem: Problem) -> Outcome | None:
    """Repeat a run that failed with *problem*, and return it recorded, with as little in it as can be found.

    Returns `None` if it does not fail in the same way again.
    """
    outcome = runner.run(runner.scheduler(plan), recording=True)
    if not problem.is_like(outcome.problem):
        return None
    if runner.options.held_at is None or problem.kind == "hang":
        return outcome
    return _Shrinking(runner, problem).smallest(outcome)


class _Shrinking:
    """Searches for a smaller run with the same problem, within the limits."""

    def __init__(self, runner: Runner, problem: Problem) -> None:
        self._runner = runner
        self._problem = problem
        self._runs = 0
        self._end = monotonic() + _MAX_SECONDS

    def smallest(self, outcome: Outcome) -> Outcome:
        """Return the run without the faults and the switches that the problem does not need."""
        faults = {fault.label: fault.alternative for fault in outcome.execution.injected}
        for label in list(faults):
            fewer = {other: alternative for other, alternative in faults.items() if other != label}
            found = self._with_fewest_switches(fewer, outcome.execution.preemptions + 1)
            if found is not None:
                outcome, faults = found, fewer
        return self._with_fewest_switches(faults, outcome.execution.preemptions) or outcome

    def _with_fewest_switches(self, faults: Mapping[int, int], limit: int) -> Outcome | None:
        """Search for the problem in runs with fewer than *limit* switches away from a task that could go on."""
        for preemptions in range(limit):
            orders = EveryOrder(is_reduced=False)
            while not orders.is_done:
                if self._runs >= _MAX_RUNS or monotonic() > self._end:
                    return None
                self._runs += 1
                plan = Plan(faults, [], orders)
                if self._problem.is_like(self._run(plan, preemptions, recording=False).problem):
                    again = self._run(plan, preemptions, recording=True)
                    return again if self._problem.is_like(again.problem) else None
                orders.finish()
        return None

    def _run(self, plan: Plan, preemptions: int, *, recording: bool) -> Outcome:
        scheduler = PlannedScheduler(
            plan,
            interleavings=self._runner.options.held_at,
            max_faults=len(plan.faults),
            max_preemptions=preemptions,
            continuing=True,
        )
        return self._runner.run(scheduler, recording=recording)
