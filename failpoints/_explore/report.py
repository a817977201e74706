"""The exceptions that report a failed exploration, and their messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import cast

from .execution import Execution
from .plan.faults import fault_text
from .plan.identity import Visit
from .plan.replay import Script, checksum
from .plan.scheduler import Divergence
from .problem import Problem
from .result import Exploration, ExplorationFailed, Failure
from .runner import Outcome, Runner
from .user_frames import raised_at

_MAX_SHOWN = 3  # errors of a group


def run_failed(runner: Runner, outcome: Outcome, exploration: Exploration) -> ExplorationFailed:
    """Return the exception to raise for a run that failed and was recorded."""
    problem, timeline, execution = outcome.problem, outcome.timeline, outcome.execution
    assert problem is not None
    assert timeline is not None
    has_orders = execution.scheduler.interleavings is not None
    replay = str(_script_of(execution, timeline.visits))
    configuration = timeline.configuration(has_orders=has_orders)
    faults = tuple(f"{fault.visit.name}={fault_text(fault.action)}" for fault in execution.injected)
    visits = timeline.lines()
    failure = Failure(problem.kind, summary(problem), tuple(visits), faults, replay, configuration)
    name = runner.short_name
    lines = [f"{name} failed {_circumstances(outcome, exploration)}:", *_describe(problem).splitlines(), ""]
    lines += [f"  {line}" for line in visits or ["(no visit inside run.injecting())"]]
    blocked = timeline.blocked_lines(problem)
    if blocked:
        lines += ["", *(f"  {line}" for line in blocked)]
    lines += ["", *problem.notes]
    lines.append(f"repeat this run:  {runner.options.replay_call(name, replay)}")
    if configuration:
        lines.append(f"the same faults:  FAILPOINTS={configuration!r}")
    return ExplorationFailed("\n".join(lines), replace(exploration, failures=(failure,)), failure)


def nondeterministic(
    runner: Runner,
    exploration: Exploration,
    divergence: Divergence | None,
    problem: Problem | None,
    causes: Sequence[str],
) -> ExplorationFailed:
    """Return the exception to raise for a run that did not follow its plan, or did not fail again when repeated.

    *causes* describes what was seen of the scenario that may be why.
    """
    lines = [f"{runner.short_name} is nondeterministic: run {exploration.runs:,} did not follow its plan"]
    if divergence is not None:
        lines[0] += f", at its decision {divergence.position + 1}."
        lines.append(f"  expected, as in an earlier run:  {_describe_decision(runner, divergence.expected)}")
        lines.append(f"  found:                           {_describe_decision(runner, divergence.found)}")
    elif problem is not None:
        lines[0] += f": it failed, and passed when it was repeated.\n  {_describe(problem)}"
    lines += ["A run may depend on nothing but its faults and the order of its tasks.", *_describe_causes(causes)]
    failure = Failure("nondeterministic", lines[0].splitlines()[0])
    return ExplorationFailed("\n".join(lines), replace(exploration, failures=(failure,)), failure)


def _describe_causes(causes: Sequence[str]) -> list[str]:
    if causes:
        return ["Likely causes, seen when the run was repeated:", *(f"  - {cause}" for cause in causes)]
    return [
        "Remove from the scenario everything else that differs between runs: the time, random numbers that do not",
        "come from Python, the order of a set, threads, sockets, files and globals that an earlier run has changed.",
    ]


def orders_differ(
    runner: Runner,
    exploration: Exploration,
    visits: Sequence[Visit],
    difference: tuple[str, str],
    runs: tuple[Outcome, Outcome],
) -> ExplorationFailed:
    """Return the exception to raise for two turns that were said not to meet, and whose order makes a difference.

    Both runs were recorded: the first one has the turns as they were explored, in the second one they are exchanged.
    """
    places = [repr(visit.name) if visit.name else _describe_visit(runner, visit) for visit in visits]
    sentence = f"{places[0]} and {places[1]} were said not to meet, but their order makes a difference"
    lines = [f"{runner.short_name}: {sentence}:"]
    timelines: list[tuple[str, ...]] = []
    replay = ""
    for order, differs, outcome in zip(("one order", "the other"), difference, runs, strict=True):
        assert outcome.timeline is not None
        timelines.append(tuple(outcome.timeline.lines()))
        replay = str(_script_of(outcome.execution, outcome.timeline.visits))
        lines += [f"  {f'{order}:':<11} {differs}"]
        call = runner.options.replay_call(runner.short_name, replay)
        timelines[-1] = ("", f"{order}, {call}:", *(f"  {line}" for line in timelines[-1]))
    lines += [*timelines[0], *timelines[1], ""]
    lines += [
        "Declare all that their steps touch with reads= and writes= of their sites, or share it with run.shared().",
        "That includes what they have in common otherwise, such as a global or a file.",
    ]
    failure = Failure("undeclared", sentence, timelines[1][2:], (), replay)
    return ExplorationFailed("\n".join(lines), replace(exploration, failures=(failure,)), failure)


def _script_of(execution: Execution, visits: Iterable[Visit]) -> Script:
    """Return the decisions of a recorded run."""
    turns = list(execution.turns)
    while turns and not turns[-1]:
        turns.pop()
    faults = tuple((fault.number, fault.alternative) for fault in execution.injected)
    interleavings = execution.scheduler.interleavings
    return Script(None if interleavings is None else tuple(turns), faults, checksum(visits), interleavings)


def _circumstances(outcome: Outcome, exploration: Exploration) -> str:
    execution = outcome.execution
    has_orders = execution.scheduler.interleavings is not None
    assert outcome.timeline is not None
    if exploration.replayed:
        where = "in the replay"
    elif exploration.runs == 1 and not has_orders:
        return "in its first run, which has no faults: fix this first"
    else:
        where = f"in run {exploration.runs:,}"
    faults = len(execution.injected)
    parts = ["no fault" if not faults else "1 fault" if faults == 1 else f"{faults} faults"]
    if has_orders and outcome.timeline.tasks > 1:
        switches = execution.preemptions
        noun = "thread" if exploration.are_threads else "task"
        parts.append(f"{switches or 'no'} switch{'' if switches == 1 else 'es'} away from a {noun} that could go on")
    return f"{where}, with {' and '.join(parts)}"


def summary(problem: Problem) -> str:
    """Return the problem of a run in one sentence."""
    if problem.error is None:
        return problem.sentence
    error = _describe_error(problem.error)
    return f"{problem.sentence}: {error}" if problem.sentence else error


def _describe_error(error: BaseException) -> str:
    """Return the type and the first line of an error, or of the errors in a group."""
    kind = type(error).__name__
    if isinstance(error, BaseExceptionGroup):
        inside = cast(BaseExceptionGroup[BaseException], error).exceptions
        more = f" and {len(inside) - _MAX_SHOWN} more" if len(inside) > _MAX_SHOWN else ""
        return f"{kind} of {'; '.join(map(_describe_error, inside[:_MAX_SHOWN]))}{more}"
    lines = str(error).strip().splitlines()
    return f"{kind}: {lines[0]}" if lines else kind


def _describe(problem: Problem) -> str:
    if problem.error is None:
        return problem.sentence
    location = raised_at(problem.error)
    return f"{summary(problem)}{f', at {location}' if location else ''}"


def _describe_decision(runner: Runner, labels: Sequence[int] | None) -> str:
    if labels is None:
        return "the run ended before it"
    return " or ".join(_describe_visit(runner, runner.labels.visit(label)) for label in labels)


def _describe_visit(runner: Runner, visit: Visit) -> str:
    noun, point = ("thread", "point") if runner.is_sync else ("task", "wake-up")
    task = f"{noun} {_dotted(visit.path)}" if visit.path else f"{noun} of the scenario"
    return f"{visit.name} ({task}, visit {visit.occurrence})" if visit.name else f"{point} {visit.occurrence} of {task}"


def _dotted(path: tuple[int, ...]) -> str:
    return ".".join(map(str, path))
