"""`explore`: the runs, one after the other, until nothing new is left to try."""

from __future__ import annotations

import inspect
import random
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import compress
from typing import Any, Literal, NoReturn

from .._core import environment
from .._core.actions import Off
from .._core.messages import did_you_mean, safe_repr
from .._core.store import arm, in_force
from .._core.validation import check_count
from .._core.wakeups import on_event_loop
from ..errors import FailpointUsageError
from .execution import Execution
from .failing import failed, nondeterministic, watched_closely
from .plan.faults import Alternatives, GivenFaults, fault_text
from .plan.guide import MOST_FAULTS_AT_A_VISIT, MOST_TURNS_AT_A_VISIT, Planned
from .plan.replay import Script, Scripted, checksum
from .plan.search import Search
from .result import Exploration, Progress
from .runner import Runner, Scenario
from .threads import ignored_threads
from .watchdog import watching

_BACKENDS = ("asyncio", "trio")
_CLOCKS = ("virtual", "real")

_armed_lock = threading.Lock()
_armed_by = 0
_random_state: Any = None
_NO_NAME = "an exploration"  # which no failpoint can be called


def explore(
    scenario: Scenario,
    *,
    backend: Literal["asyncio", "trio"] = "asyncio",
    faults: GivenFaults | None = None,
    max_faults: int | None = None,
    interleavings: bool = False,
    max_preemptions: int | None = None,
    max_runs: int = 10_000,
    timeout: float = 5.0,
    clock: Literal["virtual", "real"] = "virtual",
    replay: str | None = None,
    on_run: Callable[[Progress], object] | None = None,
) -> Exploration:
    """To show that a program stands every fault, or every order of its tasks: runs a scenario until nothing is left.

    `scenario` is an async function of a `Run`. It arranges, acts inside `async with run.injecting():`, and asserts
    what must hold in every run. Each run has a fresh event loop (of `backend`), a fresh registry, and the same seeds.

    - Faults: the first run injects none and must pass; then, fewest first, every visit inside is made to fail in every
      way that its site's `raises=` tells (`InjectedFault` without one), up to `max_faults` in one run: 1 if not given,
      with `interleavings` 0. `faults={"name or glob": [actions, …]}` replaces them where it matches; `[]` is none.
    - `interleavings=True`: every async visit inside holds its task, and once nothing can run one is let go, in every
      possible order; with at most `max_preemptions` switches away from a task that could go on, if that is given.
    - With `clock="virtual"` time is what the program waits for, and costs nothing; `"real"` leaves it.
    - `max_runs` ends it; `timeout` is how many real seconds a run may take.
    - `replay` runs one run again, that of a failure. `on_run` is called with a `Progress` after each run.

    Returns an `Exploration`. Raises `ExplorationFailed`, an `AssertionError`, for the first run that raises, loses an
    error, deadlocks, does not end or leaves tasks behind, with its timeline and the error as the cause; and for a
    scenario that is not the same in every run. Raises `FailpointUsageError` for arguments that cannot be, inside an
    event loop, and with `FAILPOINTS_ENABLED=0`.

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

    The search over the order of tasks is that of stateless model checking, as in CHESS (Musuvathi and Qadeer, 2007),
    whose bound on preemptions `max_preemptions` is.
    """
    __tracebackhide__ = True
    _check_choice("backend", backend, _BACKENDS)
    _check_choice("clock", clock, _CLOCKS)
    _check_scenario(scenario)
    most_faults = _count("max_faults", max_faults, least=0)
    if most_faults is None:
        most_faults = 0 if interleavings else 1
    preemptions = _count("max_preemptions", max_preemptions, least=0)
    if preemptions is not None and not interleavings and replay is None:
        raise FailpointUsageError("max_preemptions= bounds the orders of tasks: give interleavings=True with it")
    if faults is not None and not most_faults and replay is None:
        raise FailpointUsageError("faults= says what to inject, and max_faults is 0: give max_faults=1 with it")
    most_runs = _count("max_runs", max_runs, least=1)
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or not timeout > 0:
        raise FailpointUsageError(f"timeout= is a number of real seconds above 0; got {safe_repr(timeout)}")
    _check_here()
    runner = Runner(scenario, backend, Alternatives(faults), timeout, is_virtual=clock == "virtual")
    script = None if replay is None else Script.parse(replay)
    arguments = _arguments(backend, clock, timeout, faults)
    with _armed(), runner.in_order(), watching() as runner.watched:
        if script is not None:
            return _replayed(runner, script, arguments)
        return _explored(runner, most_faults, interleavings, preemptions, most_runs or 1, on_run, arguments)


def _explored(
    runner: Runner,
    max_faults: int,
    holding: bool,
    max_preemptions: int | None,
    max_runs: int,
    on_run: Callable[[Progress], object] | None,
    arguments: str,
) -> Exploration:
    __tracebackhide__ = True
    hits: dict[str, int] = {}
    exploration = Exploration(max_faults=max_faults, interleavings=holding, hits=hits)
    search = Search(max_faults)
    bounds: set[str] = set()
    faultable: set[int] = set()
    while (plan := search.next()) is not None:
        if exploration.runs >= max_runs:
            bounds.add("max_runs")
            break
        guide = Planned(plan, runner.labels, max_faults=max_faults, max_preemptions=max_preemptions)
        outcome = runner.run(guide, holding=holding, faults=max_faults > 0)
        execution, problem = outcome.execution, outcome.problem
        exploration.runs += 1
        _add(hits, execution)
        exploration.tasks = max(exploration.tasks, execution.tasks)
        if execution.refusal is not None:
            _refuse(execution)
        stray = guide.diverged(orders=holding)
        if stray is not None:
            raise nondeterministic(runner, exploration, stray, problem) from (problem.error if problem else None)
        if problem is not None:
            again = watched_closely(runner, plan, problem, holding=holding, max_faults=max_faults)
            if again is None or again.problem is None:
                raise nondeterministic(runner, exploration, None, problem) from problem.error
            raise failed(runner, again, exploration, holding=holding, arguments=arguments) from again.problem.error
        bounds |= guide.bounds
        if max_faults:
            faultable.update(compress(guide.trail.labels, guide.trail.are_faults))
        if not guide.is_lost:
            search.record(guide.trail)
        if on_run is not None:
            on_run(Progress(exploration.runs, max_runs, search.queued, len(execution.injected)))
    if "max_runs" not in bounds:
        runner.alternatives.check_all_matched()
    exploration.visits = len(faultable)
    exploration.bounds = tuple(_bound_text(bound, max_runs, max_preemptions) for bound in sorted(bounds))
    exploration.exhaustive = not bounds
    return exploration


def _replayed(runner: Runner, script: Script, arguments: str) -> Exploration:
    __tracebackhide__ = True
    hits: dict[str, int] = {}
    exploration = Exploration(runs=1, interleavings=script.orders is not None, replayed=True, hits=hits)
    guide = Scripted(script)
    holding = script.orders is not None
    outcome = runner.run(guide, holding=holding, faults=bool(script.faults), recording=True)
    assert outcome.timeline is not None
    if outcome.execution.refusal is not None:
        _refuse(outcome.execution)
    exploration.tasks = outcome.timeline.tasks
    _add(hits, outcome.execution)
    if outcome.problem is not None:
        raise failed(runner, outcome, exploration, holding=holding, arguments=arguments) from outcome.problem.error
    if not guide.is_followed or (script.checksum and script.checksum != checksum(outcome.timeline.visits)):
        exploration.bounds = ("the program visits other places than when the replay was made",)
    return exploration


def _refuse(execution: Execution) -> NoReturn:
    __tracebackhide__ = True
    injected = execution.injected[-1]
    raise FailpointUsageError(
        f"{fault_text(injected.action)} cannot be injected at {injected.visit.name!r}: {execution.refusal};"
        " or leave it out with faults="
    ) from execution.refusal


def _add(hits: dict[str, int], execution: Execution) -> None:
    for name, count in execution.hits():
        hits[name] = hits.get(name, 0) + count


def _bound_text(bound: str, max_runs: int, max_preemptions: int | None) -> str:
    return {
        "max_runs": f"stopped at max_runs={max_runs}",
        "max_preemptions": f"orders with more than max_preemptions={max_preemptions} left out",
        "repeats": f"orders left out after {MOST_TURNS_AT_A_VISIT} turns at the same visit",
        "faults at a visit": f"faults left out after {MOST_FAULTS_AT_A_VISIT} at the same visit",
        "arrival": "visits came in another order from run to run",
        "threads": "a thread had not answered when a task was let go",
    }[bound]


def _arguments(backend: str, clock: str, timeout: float, faults: GivenFaults | None) -> str:
    """What a replay has to be given besides, as it is written."""
    given = [
        ("backend", repr(backend), "'asyncio'"),
        ("clock", repr(clock), "'virtual'"),
        ("timeout", f"{timeout:g}", "5"),
    ]
    text = "".join(f"{name}={value}, " for name, value, default in given if value != default)
    if faults is None:
        return text
    written = safe_repr(dict(faults))
    return f"{text}faults={'...' if '<' in written or written.endswith('…') else written}, "


@contextmanager
def _armed() -> Generator[None]:
    """Have every site look whether it belongs to a run; keep the state of `random`."""
    global _armed_by, _random_state
    ident = threading.get_ident()
    with _armed_lock:
        if not _armed_by:
            _random_state = random.getstate()
        _armed_by += 1
        arm(_NO_NAME, armed=True)
        ignored_threads[ident] = None
    try:
        yield
    finally:
        with _armed_lock:
            _armed_by -= 1
            ignored_threads.pop(ident, None)
            if not _armed_by:
                arm(_NO_NAME, armed=False)
                random.setstate(_random_state)


def _check_here() -> None:
    if not environment.ENABLED:
        raise FailpointUsageError("explore() can do nothing with FAILPOINTS_ENABLED=0: unset it")
    if on_event_loop():
        raise FailpointUsageError(
            "explore() runs event loops of its own, and cannot do so inside one: call it in a plain test or function,"
            " not in an async one"
        )
    for configuration in in_force():
        if not all(isinstance(term.action, Off) for term in configuration.terms):
            raise FailpointUsageError(
                f"explore() says itself what visits do: remove what is configured for {configuration.name!r}, give its"
                " actions as faults=, or configure it inside the scenario ('off', which only counts, may stay)"
            )
    if threading.get_ident() in ignored_threads:
        raise FailpointUsageError("explore() cannot be called inside a run of another exploration")


def _check_choice(what: str, given: object, choices: tuple[str, ...]) -> None:
    if given not in choices:
        near = did_you_mean(given, choices) if isinstance(given, str) else ""
        raise FailpointUsageError(f"{what}= is {' or '.join(map(repr, choices))}; got {safe_repr(given)}{near}")


def _check_scenario(scenario: Any) -> None:
    if inspect.iscoroutine(scenario):
        scenario.close()
        raise FailpointUsageError(
            "explore() takes the async function itself, to call it once for each run: leave out the ()"
        )
    if not callable(scenario):
        raise FailpointUsageError(f"explore() takes an async function of a run; got {safe_repr(scenario)}")
    try:
        inspect.signature(scenario).bind(object())
    except TypeError:
        raise FailpointUsageError(
            f"a scenario takes one argument, the run: async def {getattr(scenario, '__name__', 'scenario')}(run): …"
        ) from None
    except ValueError:  # one that tells no signature
        pass


def _count(what: str, given: Any, *, least: int) -> int | None:
    return None if given is None else check_count(f"{what}=", given, least)
