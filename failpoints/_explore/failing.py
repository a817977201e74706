"""A failing run: run again to see it closely, cut down to what it takes, and told."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import cast

from .._core.messages import safe_repr
from .execution import Execution
from .plan.faults import fault_text
from .plan.guide import Planned, Stray
from .plan.places import Visit
from .plan.replay import Script, checksum
from .plan.search import Plan, Search
from .problem import Problem
from .program_frames import raised_at
from .result import Exploration, ExplorationFailed, Failure
from .runner import Outcome, Runner

_MOST_RUNS = 500  # and
_MOST_SECONDS = 2.0  # to look for a simpler order


def watched_closely(runner: Runner, plan: Plan, problem: Problem, *, holding: bool, max_faults: int) -> Outcome | None:
    """The same run again, recorded, with no switch between tasks that it does not take; `None` if it passes now."""
    guide = Planned(plan, runner.labels, max_faults=max_faults)
    outcome = runner.run(guide, holding=holding, faults=max_faults > 0, recording=True)
    if not problem.is_like(outcome.problem):
        return None
    if not holding or problem.kind == "hang":
        return outcome
    return _with_fewer_switches(runner, outcome, problem) or outcome


def _with_fewer_switches(runner: Runner, outcome: Outcome, problem: Problem) -> Outcome | None:
    """The same failure with the fewest switches away from a task that could go on, if that is found soon."""
    faults = {fault.label: fault.alternative for fault in outcome.execution.injected}
    until = time.monotonic() + _MOST_SECONDS
    runs = 0
    for preemptions in range(outcome.execution.preemptions):
        search = Search(0)
        while (plan := search.next()) is not None:
            if runs >= _MOST_RUNS or time.monotonic() > until:
                return None
            runs += 1
            guide = _simpler(runner, plan, preemptions, faults)
            found = runner.run(guide, holding=True, faults=bool(faults)).problem
            if problem.is_like(found):
                guide = _simpler(runner, plan, preemptions, faults)
                again = runner.run(guide, holding=True, faults=bool(faults), recording=True)
                return again if problem.is_like(again.problem) else None
            search.record(guide.trail)
    return None


def _simpler(runner: Runner, plan: Plan, preemptions: int, faults: dict[int, int]) -> Planned:
    return Planned(plan, runner.labels, max_faults=0, max_preemptions=preemptions, continuing=True, fixed_faults=faults)


def failed(
    runner: Runner, outcome: Outcome, exploration: Exploration, *, holding: bool, arguments: str
) -> ExplorationFailed:
    """What to raise for a run that failed, and was recorded."""
    problem, timeline, execution = outcome.problem, outcome.timeline, outcome.execution
    assert problem is not None
    assert timeline is not None
    replay = str(_script(execution, holding=holding, visits=timeline.visits))
    configuration = timeline.configuration(holding=holding)
    faults = tuple(f"{fault.visit.name}={fault_text(fault.action)}" for fault in execution.injected)
    visits = timeline.lines()
    failure = Failure(problem.kind, _summary(problem), tuple(visits), faults, replay, configuration)
    exploration.failures.append(failure)
    name = runner.name.rpartition(".")[2]
    lines = [f"{name} failed {_how(outcome, exploration, holding=holding)}:", *_said(problem).splitlines(), ""]
    lines += [f"  {line}" for line in visits or ["(no visit inside run.injecting())"]]
    blocked = timeline.blocked_lines(problem)
    if blocked:
        lines += ["", *(f"  {line}" for line in blocked)]
    lines += ["", *problem.notes]
    lines.append(f"run it alone:    explore({name}, {arguments}replay={replay!r})")
    if configuration:
        lines.append(f"or without it:   FAILPOINTS={configuration!r}")
    return ExplorationFailed("\n".join(lines), exploration, failure)


def _script(execution: Execution, *, holding: bool, visits: Iterable[Visit]) -> Script:
    """What a recorded run decided."""
    orders = list(execution.choices)
    while orders and not orders[-1]:
        orders.pop()
    faults = tuple((fault.number, fault.alternative) for fault in execution.injected)
    return Script(tuple(orders) if holding else None, faults, checksum(visits))


def _how(outcome: Outcome, exploration: Exploration, *, holding: bool) -> str:
    execution = outcome.execution
    assert outcome.timeline is not None
    if exploration.replayed:
        where = "in the replay"
    elif exploration.runs == 1 and not holding:
        return "in its first run, which injects nothing: mend that first"
    else:
        where = f"in run {exploration.runs:,}"
    faults = len(execution.injected)
    parts = ["no fault" if not faults else "1 fault" if faults == 1 else f"{faults} faults"]
    if holding and outcome.timeline.tasks > 1:
        switches = execution.preemptions
        parts.append(f"{switches or 'no'} switch{'' if switches == 1 else 'es'} away from a task that could go on")
    return f"{where}, with {' and '.join(parts)}"


def _summary(problem: Problem) -> str:
    if problem.error is None:
        return problem.sentence
    named = _named(problem.error)
    return f"{problem.sentence}: {named}" if problem.sentence else named


def _named(error: BaseException) -> str:
    """The type and the first line of an error; of a group what is in it."""
    kind = type(error).__name__
    if isinstance(error, BaseExceptionGroup):
        inside = cast(BaseExceptionGroup[BaseException], error).exceptions
        more = f" and {len(inside) - 3} more" if len(inside) > 3 else ""
        return f"{kind} of {'; '.join(map(_named, inside[:3]))}{more}"
    lines = str(error).strip().splitlines()
    return f"{kind}: {lines[0]}" if lines else kind


def _said(problem: Problem) -> str:
    if problem.error is None:
        return problem.sentence
    place = raised_at(problem.error)
    return f"{_summary(problem)}{f', at {place}' if place else ''}"


def nondeterministic(
    runner: Runner, exploration: Exploration, stray: Stray | None, problem: Problem | None
) -> ExplorationFailed:
    """What to raise for a run that did not follow its plan."""
    name = runner.name.rpartition(".")[2]
    lines = [f"{name} is nondeterministic: run {exploration.runs:,} did not follow its plan"]
    if stray is not None:
        lines[0] += f", at its decision {stray.position + 1}."
        lines.append(f"  expected, as in an earlier run:  {_visits(runner, stray.expected)}")
        lines.append(f"  came:                            {_visits(runner, stray.found)}")
    elif problem is not None:
        lines[0] += f": it failed, and passed when it was run again.\n  {_said(problem)}"
    lines += [
        "What a run does may depend only on the faults and the order of tasks. Take out of the scenario what differs",
        "from run to run: the clock, random numbers of a generator of its own, an order of a set, files and globals",
        "that an earlier run has changed, ids in the context of a visit.",
    ]
    failure = Failure("nondeterministic", lines[0].splitlines()[0])
    exploration.failures.append(failure)
    return ExplorationFailed("\n".join(lines), exploration, failure)


def _visits(runner: Runner, label: int | None) -> str:
    if label is None:
        return "the run ended before it"
    visits = runner.labels.visits(label)
    shown_visits = [f"{visit.name}{f' {visit.context}' if visit.context else ''}" for visit in visits]
    each = [
        f"{text} (task {'.'.join(map(str, visit.path)) or 'of the scenario'}, visit {visit.occurrence})"
        for text, visit in zip(shown_visits, visits, strict=True)
    ]
    return " or ".join(each) if each else safe_repr(label)
