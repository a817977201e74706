"""The hooks of `--failpoints-explore` and `--failpoints-replay`.

A test first runs as always, by its own plugin. If it passes, it runs again in other orders of its tasks. It fails only
if it fails in one of these, fails again when that order is repeated, and still passes in its usual order. Anything else
is a test that cannot be explored, which is reported and never fails the test.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Generator
from functools import partial
from time import perf_counter
from typing import Any, cast

import pytest

from _failpoints_pytest.options import Options
from _failpoints_pytest.workers import Workers, is_worker, send_output

from .._core.messages import safe_repr
from .._explore.plan.replay import Script
from ..errors import FailpointError, FailpointUsageError
from ..explore import Exploration, ExplorationFailed, Progress, explore
from .async_test import AsyncTest, Left
from .process_end import exit_despite
from .pytest_item import has_failed
from .repetition import Repetition
from .verdict import Kind, Verdict, summary_lines

_FACTOR = 20  # a run may take so much longer than the test took by its own plugin
_LEAST_TIMEOUT = 5.0  # seconds
_MOST_SECONDS = 20.0  # for the orders of one test

_PLAIN = pytest.StashKey[Callable[[], object]]()
"""How a test runs by its own plugin, even if this is not its first try."""


class SuiteExplorer:
    """Explores the async tests of a run of pytest. Raises `pytest.UsageError` if the text of a replay is not one."""

    def __init__(self, options: Options, workers: Workers) -> None:
        self._orders = options.explore or 1
        self._replay = None if options.replay is None else _checked(options.replay)
        self._workers = workers
        self._verdicts: dict[str, Verdict] = {}  # by test: a plugin may run one again
        self._repetition: Repetition | None = None
        self._threads_before = frozenset(threading.enumerate())

    # Hooks

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Check that a replay is given one test."""
        if self._replay is None or is_worker(session.config):
            return
        tests = sum(AsyncTest.of(item) is not None for item in session.items)
        if tests != 1:
            raise pytest.UsageError(
                f"--failpoints-replay repeats one test: give pytest its id; {tests} async tests are selected"
            )

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Make a test that can be explored run again once it has passed."""
        test = AsyncTest.of(item)
        if test is not None:
            again = self._repeat if self._replay is not None else self._explore
            plain = test.item.stash.setdefault(_PLAIN, test.item.runtest)
            test.item.runtest = partial(again, test, plain)  # type: ignore[method-assign]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Set up a fixture on the event loop of the explorer."""
        if self._repetition is None:
            return (yield)
        return (yield from self._repetition.fixture_setup(fixturedef, request))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Send the verdicts of a worker, and see to it that the process ends."""
        exit_despite(self._threads_before, lambda: int(session.exitstatus))
        if is_worker(session.config):
            send_output(session.config, verdicts=[tuple(verdict) for verdict in self._verdicts.values()])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Report what was explored, and what was not."""
        outputs = [output["verdicts"] for output in self._workers.outputs if "verdicts" in output]
        verdicts = [Verdict(*verdict) for output in outputs for verdict in output] or self._verdicts.values()
        lines = list(summary_lines(verdicts, with_names=terminalreporter.verbosity > 0))
        if lines or self._workers.missing:
            terminalreporter.section("failpoints explore")
        for line in lines:
            terminalreporter.write_line(line)
        if self._workers.missing:
            terminalreporter.write_line("incomplete: a worker ended without a report", red=True)

    # One test

    def _explore(self, test: AsyncTest, plain: Callable[[], object]) -> None:
        """Run a test as always, and then in other orders."""
        __tracebackhide__ = True
        item = test.item
        began = perf_counter()
        backend = test.backend()
        plain()
        if has_failed(item):
            return
        cancel_timer: Any = getattr(item.config.hook, "pytest_timeout_cancel_timer", None)
        if cancel_timer is not None:
            cancel_timer(item=item)  # of pytest-timeout: its limit is for one run
        if isinstance(backend, Left):
            self._judge(item, "left", reason=backend.reason)
            return
        timeout = max(_LEAST_TIMEOUT, _FACTOR * (perf_counter() - began))
        self._repetition = repetition = Repetition(test, backend)
        failed: ExplorationFailed | None = None
        error = repetition.tear_down()
        try:
            if error is None:
                explored = partial(explore, cast(Any, repetition), backend=cast(Any, backend), timeout=timeout)
                failed = self._try_orders(item, repetition, explored)
        finally:
            self._finish(repetition)
        if error is not None:
            item.addfinalizer(partial(_raise, error))  # it belongs to the tear-down of the test
        if failed is not None:
            raise _error_of(item, failed)

    def _try_orders(
        self, item: pytest.Item, repetition: Repetition, explored: Callable[..., Exploration]
    ) -> ExplorationFailed | None:
        """Explore a test. Return its failure, if that is one of the program."""
        judge = partial(self._judge, item)
        try:
            usual = _result_of(explored, max_faults=0)
            if isinstance(usual, ExplorationFailed):
                judge("left", reason=f"cannot be repeated on the explorer's event loop: {_summary(usual)}")
                return None
            in_orders = partial(explored, interleavings="awaits", on_run=_Budget())
            failed = _result_of(in_orders, sample=1)
            if isinstance(failed, Exploration) and failed.tasks > 1:
                failed = _result_of(in_orders, sample=self._orders)
            if isinstance(failed, Exploration):
                judge("passed", failed.runs, _cut_short(failed))
                return None
            excuse = _excuse(failed, repetition)
            if excuse is not None:
                judge(*excuse)
                return None
            usual = _result_of(explored, max_faults=0)
            if isinstance(usual, ExplorationFailed):
                judge("left", reason=f"passes only once: {_summary(usual)}")
                return None
            # This is the last run, so pytest shows its output and its log.
            again = _result_of(explored, replay=failed.replay)
        except _OutOfTime as out:
            judge("passed", out.runs, f"took {_MOST_SECONDS:g} s, so that fewer orders were tried than were asked for")
            return None
        except FailpointError as error:
            judge("left", reason=f"cannot be explored: {error}")
            return None
        if isinstance(again, Exploration):
            judge("nondeterministic", reason=f"failed in one run only: {_summary(failed)}")
            return None
        judge("failed", failed.exploration.runs)
        failed.__cause__ = again.__cause__
        return failed

    def _repeat(self, test: AsyncTest, plain: Callable[[], object]) -> None:
        """Run a test in the order of a replay instead of its own."""
        __tracebackhide__ = True
        item = test.item
        backend = test.backend()
        if isinstance(backend, Left):
            raise pytest.UsageError(f"--failpoints-replay: {item.nodeid} {backend.reason}")
        self._repetition = repetition = Repetition(test, backend)
        repetition.tear_down()
        try:
            exploration = explore(cast(Any, repetition), backend=cast(Any, backend), replay=self._replay)
        except ExplorationFailed as failed:
            self._judge(item, "failed", 1)
            raise _error_of(item, failed) from None
        finally:
            self._finish(repetition)
        self._judge(item, "replayed", 1, str(exploration))

    def _finish(self, repetition: Repetition) -> None:
        try:
            repetition.tear_down_interrupted()
        except RuntimeError:
            pass  # the thread goes on
        finally:
            self._repetition = None

    def _judge(self, item: pytest.Item, kind: Kind, orders: int = 0, reason: str = "") -> None:
        self._verdicts[item.nodeid] = Verdict(item.nodeid, kind, orders, reason)


def _checked(replay: str) -> str:
    try:
        if replay:  # a run without turns and faults has an empty one, but this option is for a run with turns
            Script.parse(replay)
            return replay
    except FailpointUsageError:
        pass
    raise pytest.UsageError(
        "--failpoints-replay takes the text that --failpoints-explore printed for a test that failed, such as"
        f" 'w1.1 #bb29'; got {safe_repr(replay)}"
    )


def _raise(error: BaseException) -> None:
    raise error


class _OutOfTime(BaseException):
    """Ends the exploration of a test after *runs* orders."""

    def __init__(self, runs: int) -> None:
        super().__init__(runs)
        self.runs = runs


class _Budget:
    """Limits the time for the orders of one test. `explore` calls it after each run."""

    def __init__(self) -> None:
        self._end = perf_counter() + _MOST_SECONDS

    def __call__(self, progress: Progress) -> None:
        if perf_counter() > self._end:
            raise _OutOfTime(progress.runs)


def _result_of(explored: Callable[..., Exploration], **options: Any) -> Exploration | ExplorationFailed:
    try:
        return explored(**options)
    except ExplorationFailed as failed:
        return failed


def _excuse(failed: ExplorationFailed, repetition: Repetition) -> tuple[Kind, int, str] | None:
    """Return the verdict on a test whose failure is not one of the program."""
    error = failed.__cause__
    if repetition.is_stuck:
        return "left", 0, "does not end in another order, and its fixtures cannot be torn down then"
    if failed.failure.kind == "nondeterministic":
        return "nondeterministic", 0, f"behaves differently in equal runs: {_summary(failed)}"
    if failed.failure.kind == "hang":  # not a deadlock: it waits for a thread or a socket, or would end later
        return "left", 0, f"takes too long in another order: {_summary(failed)}"
    if repetition.left_its_order:
        return "left", 0, f"does not keep to an order: {repetition.left_its_order}"
    if isinstance(error, RuntimeError) and (
        "different event loop" in str(error) or "Event loop is closed" in str(error)
    ):
        return "left", 0, f"keeps an object from one event loop to the next: {_summary(failed)}"
    return None


def _cut_short(exploration: Exploration) -> str:
    """Return why fewer orders were possible than those that were sampled."""
    return "; ".join(bound for bound in exploration.bounds if not bound.startswith("orders sampled"))


def _summary(failed: ExplorationFailed) -> str:
    return failed.failure.summary.rpartition("is nondeterministic: ")[2]


def _error_of(item: pytest.Item, failed: ExplorationFailed) -> BaseException:
    """Return the error that the test fails with: its own, with the order as a note, if it has raised one."""
    description, _, _ = str(failed).partition("\nrepeat this run:")
    note = f"{description}\nrepeat this order:  pytest {shlex.quote(item.nodeid)} --failpoints-replay={failed.replay!r}"
    error = failed.__cause__
    if not isinstance(error, Exception | pytest.fail.Exception):  # such as a deadlock, or SystemExit
        return pytest.fail.Exception(note, pytrace=False)
    error.add_note(note)
    return error
