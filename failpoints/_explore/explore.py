"""`explore`: runs a scenario again and again, until there is nothing new left to try."""

from __future__ import annotations

import inspect
import math
import threading
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, NoReturn

from .._core import environment
from .._core.actions import Off
from .._core.entered import in_force
from .._core.functions import signature_of
from .._core.hooks import spectators
from .._core.late_imports import import_for_visits
from .._core.messages import safe_repr
from .._core.store import arm_all_sites
from .._core.wakeups import on_event_loop
from ..errors import FailpointUsageError
from .audit import Audit, Nondeterministic
from .entropy import same_in_every_run
from .evidence import likely_causes
from .execution import Execution
from .failures import Failures, failure_key
from .options import Options
from .plan.faults import GivenFaults, fault_text
from .plan.replay import ReplayScheduler, Script, checksum
from .plan.sampling import SampledOrders
from .plan.scheduler import MAX_FAULTS_AT_A_VISIT, MAX_TURNS_AT_A_VISIT, Divergence
from .plan.search import Plan, Search, Trace
from .problem import Problem
from .report import nondeterministic, orders_differ, run_failed
from .result import Exploration, ExplorationFailed, Progress, counted
from .runner import FoundInClosures, Outcome, Runner, Scenario
from .shrinking import shrink
from .threads import ignored_threads
from .watchdog import watching

_lock = threading.Lock()
_explorations = 0


def explore(
    scenario: Scenario,
    *,
    backend: Literal["asyncio", "trio"] = "asyncio",
    faults: GivenFaults | None = None,
    max_faults: int | None = None,
    cancellations: bool = False,
    interleavings: bool | Literal["visits", "awaits"] = False,
    reduction: Literal["sound", "declared"] | None = "sound",
    audit: float = 0.0,
    max_preemptions: int | None = None,
    sample: int | None = None,
    lines: Sequence[str] = (),
    max_runs: int = 10_000,
    max_failures: int = 1,
    timeout: float = 5.0,
    clock: Literal["virtual", "real"] = "virtual",
    replay: str | None = None,
    on_run: Callable[[Progress], object] | None = None,
) -> Exploration:
    """Test that a program survives every fault, or every order of its tasks, by running a scenario in all these ways.

    *scenario* is an async function that takes a `Run`. It sets things up, does its work inside
    `async with run.injecting():`, and asserts afterwards what must hold in every run. Each run has a fresh event loop,
    a fresh registry, and draws the same random numbers and ids. A plain function has `with run.injecting():`. Its
    threads take the place of tasks, and change at visits and at the operations of `threading` and `queue`.

    The first run has no faults and must pass. Then every visit inside the block is made to fail, in every way that
    its site declares with `raises=` (with `InjectedFault` if it declares none), fewest faults first.

    With *interleavings*, every async visit inside the block also holds its task. Once no task can run, one of
    the held tasks goes on. Every possible order is tried. `"awaits"` does so at every wake-up of a task, in code that
    has no failpoints.

    Orders that differ only in steps that do not meet are equivalent, and are run once. A *step* is what a task does
    between two suspensions. Two steps meet if they touch the same resource, and one of them writes it. Steps touch
    what their site declares with `reads=` and `writes=`, what they do to an object of `run.shared()`, and the locks,
    events, queues and tasks of asyncio, anyio and trio.

    Args:
        scenario: The function to run.
        backend: The event loop of the runs.
        faults: The faults to inject instead: lists of actions, by name of a failpoint or by a pattern with `*`, `?`
            and `[…]`. An empty list means no fault.
        max_faults: The most faults in one run. The default is 1, or 0 with *interleavings*.
        cancellations: Whether to cancel the task, too: at each async visit, and with `"awaits"` at each wake-up. A
            cancellation counts as a fault. On trio, the innermost cancel scope is cancelled.
        interleavings: Whether to try every order of the tasks: at their visits with `True` or `"visits"`, at every
            wake-up with `"awaits"`.
        reduction: Which orders are equivalent. With `"sound"`, a step of which nothing is declared meets every other
            step. With `"declared"`, it meets only those that touch what it was seen to touch. You guarantee that it
            touches nothing else. `None` tries every order.
        audit: The share of the pairs of steps that were said not to meet which are run in the other order as well, at
            least one pair for each two names. It is a failure if the two runs differ in their outcome, in the visits
            or contexts of a task, in what went through `run.shared()`, or in what was given to `run.observe()`.
        max_preemptions: The most switches in one run away from a task that could go on. The default is no limit.
            With a limit, equivalent orders are not left out.
        sample: The number of orders to run, drawn at random, if there are too many to try all. The result has the
            chance that this would have found a bug.
        lines: The names of modules or packages. The threads of a plain function also change between any two lines of
            these, and in the middle of a line such as `x += 1`. There are so many orders that it needs *sample*.
        max_runs: The most runs.
        max_failures: How many different failures to find. With more than 1, the search goes on after a failure, and all
            are raised at its end. Two failures differ if the type of the error, or the program's line, does.
        timeout: The most seconds of real time that one run may take.
        clock: `"virtual"` if waiting for a timer is to take no time, `"real"` if it is to take real time.
        replay: The text from a failure. Repeats only the run that failed.
        on_run: A function to call with a `Progress` after each run, also after one that fails.

    Returns:
        An `Exploration`. `str()` of it is a line that describes what was tried, and what was not.

    Raises:
        ExplorationFailed: A run raised an error or lost one, deadlocked, did not end, or left tasks behind; or the
            scenario behaves differently in equal runs. An `AssertionError`, which has the timeline of the run in its
            message and the original error as its cause.
        FailpointUsageError: An argument is not valid; or `explore` is called inside an event loop, with
            `FAILPOINTS_ENABLED=0`, or while a failpoint is configured to do anything but `off`.

    >>> from failpoints.explore import Run, explore
    >>> async def transfer(run: Run) -> None:
    ...     accounts = {"a": 100, "b": 0}
    ...     async with run.injecting():
    ...         await failpoint("bank.move", raises=(OSError,))
    ...         accounts["a"] -= 10
    ...         accounts["b"] += 10
    ...     assert sum(accounts.values()) == 100
    >>> print(explore(transfer))
    2 runs, every fault at 1 visit, one at a time: no failure

    The search over the order of tasks is stateless model checking as in CHESS (Musuvathi and Qadeer, 2007), which
    also introduced the bound on preemptions. The reduction is that of source sets with sleep sets (Abdulla, Aronis,
    Jonsson and Sagonas, 2017), and the sampling is PCT (Burckhardt, Kothari, Musuvathi and Nagarakatte, 2010).
    """
    __tracebackhide__ = True
    _check_scenario(scenario)
    options = Options(
        backend=backend,
        faults=faults,
        max_faults=max_faults,
        cancellations=cancellations,
        interleavings=interleavings,
        reduction=reduction,
        audit=audit,
        max_preemptions=max_preemptions,
        sample=sample,
        lines=lines,
        max_runs=max_runs,
        max_failures=max_failures,
        timeout=timeout,
        clock=clock,
        replay=replay,
        on_run=on_run,
    )
    _check_surroundings()
    runner = Runner(scenario, options)
    with (
        _armed(),
        same_in_every_run(),
        runner.deterministic_order(),
        runner.noting_primitives(),
        runner.steering_threads(),
        runner.watching_lines(),
        watching() as watched,
    ):
        runner.watched = watched
        exploration: Exploration | None = None
        try:
            while exploration is None:
                try:
                    exploration = _explore(runner) if options.script is None else _replay(runner, options.script)
                except FoundInClosures:  # once, with the first thread
                    runner = runner.again()
            return exploration
        finally:
            for spectator in spectators:
                spectator.ended(exploration, counted(0 if exploration is None else exploration.runs, "run"))


def _explore(runner: Runner) -> Exploration:
    __tracebackhide__ = True
    options = runner.options
    hits: Counter[str] = Counter()
    bounds: set[str] = set()
    faultable: set[int] = set()
    runs = tasks = threads = cut_short = 0

    def exploration(*, exhaustive: bool = False, bounds: tuple[str, ...] = (), visits: int = 0) -> Exploration:
        return Exploration(
            runs=runs,
            exhaustive=exhaustive,
            bounds=bounds,
            hits=hits,
            tasks=tasks,
            threads=threads,
            visits=visits,
            max_faults=options.fault_limit,
            interleavings=options.held_at,
            cut_short=cut_short,
            are_threads=runner.is_sync,
            audited=0 if auditing is None else auditing.runs,
        )

    def report(execution: Execution, *, failed: bool = False) -> None:
        if options.on_run is not None or spectators:
            options.report(Progress(runs, options.max_runs, search.queued, len(execution.injected), failed))

    failures = Failures(runner.short_name, options.max_failures)
    auditing = Audit(runner, options.audit) if options.audit else None
    search = Search(options.fault_limit, runner.new_orders if options.held_at is not None else None)
    sampled: SampledOrders | None = None
    while (plan := search.next()) is not None:
        if isinstance(plan.orders, SampledOrders):
            sampled = sampled or plan.orders
        if runs + cut_short >= options.max_runs:
            bounds.add("max_runs")
            break
        scheduler = runner.scheduler(plan)
        outcome = runner.run(scheduler, recording=bool(options.audit))
        execution, problem = outcome.execution, outcome.problem
        _add_hits(hits, execution)
        tasks, threads = max(tasks, execution.tasks), max(threads, execution.threads)
        if scheduler.is_asleep:
            cut_short += 1
        else:
            runs += 1
        if execution.usage_error is not None:
            _raise_usage_error(execution)
        divergence = scheduler.find_divergence(bounds)
        has_failed = problem is not None and not scheduler.is_asleep
        if divergence is not None or has_failed:
            report(execution, failed=True)
        if divergence is not None:
            failures.add(_nondeterministic(runner, plan, exploration(), divergence, problem))
        elif problem is not None and has_failed:
            if failures.is_new(failure_key(problem)):
                failures.add(_confirmed(runner, plan, exploration(), problem))
        elif auditing is not None and scheduler.is_reduced and not scheduler.is_asleep:
            found = _audit(auditing, outcome, plan, exploration)
            if found is not None and failures.is_new(found.failure.summary):
                failures.add(found)
        if failures.is_full:
            break
        bounds |= scheduler.bounds
        faultable.update(scheduler.trace.labels)
        if plan.orders is not None:
            plan.orders.skip() if scheduler.is_unusable else plan.orders.finish(execution.segments)
        search.record(plan, Trace() if scheduler.is_unusable else scheduler.trace)
        if not has_failed:
            report(execution)
    if failures and (options.max_failures == 1 or failures.is_nondeterministic):
        raise failures.error(exploration())
    if failures.is_full:
        bounds.add("max_failures")
    if not bounds.intersection(("max_runs", "max_failures")):
        runner.alternatives.check_all_matched()
        runner.check_lines()
    described = [*(_describe_bound(bound, options) for bound in sorted(bounds)), *runner.unsteered(threads)]
    if sampled is not None:
        described.insert(0, _describe_sample(sampled, options))
    result = exploration(
        exhaustive=not described,
        bounds=tuple(described),
        visits=len(faultable),
    )
    if failures:
        raise failures.error(result)
    return result


def _confirmed(runner: Runner, plan: Plan, exploration: Exploration, problem: Problem) -> ExplorationFailed:
    """Return the failure of a run, minimised."""
    again = shrink(runner, plan, problem)
    if again is None or again.problem is None:
        return _nondeterministic(runner, plan, exploration, None, problem)
    error = run_failed(runner, again, exploration)
    error.__cause__ = again.problem.error
    return error


def _nondeterministic(
    runner: Runner, plan: Plan, exploration: Exploration, divergence: Divergence | None, problem: Problem | None
) -> ExplorationFailed:
    error = nondeterministic(runner, exploration, divergence, problem, likely_causes(runner, plan))
    error.__cause__ = None if problem is None else problem.error
    return error


def _audit(
    auditing: Audit, outcome: Outcome, plan: Plan, exploration: Callable[[], Exploration]
) -> ExplorationFailed | None:
    runner = auditing.runner
    try:
        found = auditing.examine(outcome, plan)
    except Nondeterministic:
        return _nondeterministic(runner, plan, exploration(), None, None)
    if found is None:
        return None
    error = orders_differ(runner, exploration(), found.visits, found.difference, (found.one, found.other))
    error.__cause__ = None if found.other.problem is None else found.other.problem.error
    return error


def _replay(runner: Runner, script: Script) -> Exploration:
    __tracebackhide__ = True
    scheduler = ReplayScheduler(script)
    outcome = runner.run(scheduler, recording=True)
    execution, timeline = outcome.execution, outcome.timeline
    assert timeline is not None
    if execution.usage_error is not None:
        _raise_usage_error(execution)
    hits: Counter[str] = Counter()
    _add_hits(hits, execution)
    failed = outcome.problem is not None
    runner.options.report(Progress(1, runner.options.max_runs, 0, len(execution.injected), failed))
    exploration = Exploration(
        runs=1,
        hits=hits,
        tasks=timeline.tasks,
        interleavings=scheduler.interleavings,
        replayed=True,
        are_threads=runner.is_sync,
    )
    if outcome.problem is not None:
        raise run_failed(runner, outcome, exploration) from outcome.problem.error
    if scheduler.is_followed and script.checksum in ("", checksum(timeline.visits)):
        return exploration
    return replace(exploration, bounds=("the program does not make the visits that the replay was made from",))


def _raise_usage_error(execution: Execution) -> NoReturn:
    __tracebackhide__ = True
    error, injected = execution.usage_error, execution.refused
    assert error is not None
    if injected is None:  # a site that cannot declare what it declares
        raise error
    raise FailpointUsageError(
        f"{fault_text(injected.action)} cannot be injected at {injected.visit.name!r}: {error};"
        " or leave it out with faults=",
        code=error.code,
    ) from error


def _add_hits(hits: Counter[str], execution: Execution) -> None:
    for name, count in execution.hits():
        hits[name] += count


def _describe_sample(sampled: SampledOrders, options: Options) -> str:
    chances = [f"{math.floor(chance * 1000) / 10:g} %" for chance in sampled.chances()]
    faults = ", with each set of faults" if options.fault_limit else ""
    return (
        f"orders sampled{faults}: a bug that depends on 1, 2 or 3 pairs of turns had a chance of at least"
        f" {chances[0]}, {chances[1]} or {chances[2]} to be found"
    )


def _describe_bound(bound: str, options: Options) -> str:
    return {
        "max_failures": f"stopped at max_failures={options.max_failures}",
        "max_runs": f"stopped at max_runs={options.max_runs}",
        "max_preemptions": f"orders with more than max_preemptions={options.max_preemptions} left out",
        "repeats": f"orders left out after {MAX_TURNS_AT_A_VISIT} turns at the same visit",
        "faults at a visit": f"faults left out after {MAX_FAULTS_AT_A_VISIT} at the same visit",
        "arrival": "visits came in another order from run to run",
        "threads": "a task went on before a thread had answered",
        "sockets": "a task went on before a socket, a pipe or a process had answered",
        "missed files": "a thread that the scenario has started by itself changed files, and no fault reaches it",
        "unordered tasks": "tasks on an event loop of the scenario's own were not put in order",
        "blocked loop": "a task waited for a thread without letting its event loop go on",
        "unordered threads": "threads were not put in order",
        "blocked thread": "a thread went on before another one had returned from something that is not steered",
    }[bound]


@contextmanager
def _armed() -> Generator[None]:
    """Make every site check whether it belongs to a run."""
    global _explorations
    import_for_visits()
    thread = threading.get_ident()
    with _lock:
        _explorations += 1
        arm_all_sites(armed=True)
        ignored_threads[thread] = None
    try:
        yield
    finally:
        with _lock:
            _explorations -= 1
            ignored_threads.pop(thread, None)
            if not _explorations:
                arm_all_sites(armed=False)


def _check_surroundings() -> None:
    if not environment.ENABLED:
        raise FailpointUsageError("explore() has no effect with FAILPOINTS_ENABLED=0: unset it", code="FP017")
    if on_event_loop():
        raise FailpointUsageError(
            "explore() runs event loops of its own, which is not possible inside another one: call it in a plain"
            " function or test, not in an async one",
            code="FP022",
        )
    for configuration in in_force():
        if not all(isinstance(term.action, Off) for term in configuration.terms):
            raise FailpointUsageError(
                f"explore() decides what every visit does: remove the configuration of {configuration.name!r}, pass its"
                " actions as faults=, or configure it inside the scenario ('off', which only counts, may stay)",
                code="FP022",
            )
    if threading.get_ident() in ignored_threads:
        raise FailpointUsageError("explore() cannot be called inside a run of another exploration", code="FP022")


def _check_scenario(scenario: Any) -> None:
    if inspect.iscoroutine(scenario):
        scenario.close()
        raise FailpointUsageError(
            "explore() takes the function itself, since it calls it once per run: leave out the ()"
        )
    if not callable(scenario):
        raise FailpointUsageError(f"explore() takes a function; got {safe_repr(scenario)}")
    try:
        signature_of(scenario).bind(object())
    except TypeError:
        raise FailpointUsageError(
            f"a scenario must take one argument, the run: def {getattr(scenario, '__name__', 'scenario')}(run): …"
        ) from None
    except ValueError:  # a callable without a signature
        pass
