"""The hooks of one run of pytest: its seed, the configuration for all tests, and the verdict on each test."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import nullcontext
from typing import Any, NoReturn

import pytest

from .._core.actions import Action
from .._core.configuration import Configuration
from .._core.hooks import observers
from .._core.store import PROCESS_STORE
from ..errors import FailpointError
from .children import follow_children, was_hit
from .examples import accepted_under_given, follow_hypothesis, running
from .expectations import Expectations
from .markers import read_markers, use_fixture
from .options import Options
from .workers import Workers, is_worker, send_output

EXPECTATIONS = pytest.StashKey[Expectations]()
"""Where a test that uses the fixture keeps its expectations."""

_ADVICE = """\
Check the name, the actions and the matchers. If this is intentional, pass expect_hit=False, or set
failpoints_strict = false in the ini file for all tests."""
_VERDICT = pytest.StashKey[str]()
_SEED_NAME = pytest.StashKey[str]()


class _Unexercised(pytest.fail.Exception):  # type: ignore[name-defined, misc] # mypy sees no class there
    """The failure of a test that passed without exercising its failpoints."""

    __module__ = "builtins"  # as for the failures of pytest itself, so that a report has the same words
    __qualname__ = "Failed"

    def __str__(self) -> str:
        return "\n".join((self.msg or "", *getattr(self, "__notes__", ())))  # Hypothesis adds the example as a note


class Run:
    """The plugin's hooks, except those of the report."""

    def __init__(self, options: Options, workers: Workers) -> None:
        self.options = options
        self._workers = workers
        self._restore = PROCESS_STORE.save()
        self._configured: dict[int, Configuration] = {}  # by the number of the option's entry
        self._hit = set[str]()
        self._configure()
        follow_hypothesis()
        self._never_hit: dict[str, str] = {}
        if options.configured:
            observers.append(self._observe)
            follow_children()

    def _observe(self, configuration: Configuration, action: Action | None, matched: bool) -> None:
        if matched and configuration in self._configured.values():
            self._hit.add(configuration.name)

    def _note_hits_in_children(self) -> None:
        self._hit.update(each.name for each in self._configured.values() if was_hit(each))

    def _configure(self) -> None:
        """Configure the failpoints of the run again, except those that something else has configured since."""
        self._note_hits_in_children()
        own = set(self._configured.values())
        again = [
            (number, entry)
            for number, entry in enumerate(self.options.configured)
            if number not in self._configured or own.issuperset(PROCESS_STORE.current(entry.name))
        ]
        for number, (name, terms, context) in again:
            limit = self.options.pause_limit
            configuration = PROCESS_STORE.prepare(name, terms, context, pause_limit=limit, for_run=True)
            self._configured[number] = PROCESS_STORE.install(configuration)

    def expectations(self, item: pytest.Item) -> Expectations:
        """Return the expectations of a test. They are made when they are first needed."""
        if EXPECTATIONS not in item.stash:
            item.stash[EXPECTATIONS] = Expectations(
                _fail,
                _ADVICE,
                self.options.timeout,
                self.options.pause_limit,
                strict=self.options.strict,
                for_all_tests=self._configured.values(),
            )
        return item.stash[EXPECTATIONS]

    def pytest_report_header(self) -> str:
        """Print the seed."""
        return f"failpoints: seed {self.options.seed}"

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give the seed to a worker of pytest-xdist."""
        node.workerinput["failpoints_seed"] = self.options.seed

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, None, None]:
        """Check the markers."""
        for item in items:
            item.stash[_SEED_NAME] = item.nodeid  # before pytest-xdist adds the test's group to it
        yield  # other plugins add markers here
        for item in items:
            if item.get_closest_marker("failpoints") is None:
                continue
            try:
                read_markers(item)
            except FailpointError as error:
                problem = f"{item.nodeid}: @pytest.mark.failpoints: {error}"
                if not is_worker(config):
                    raise pytest.UsageError(problem) from None
                # A worker cannot end the run. It runs no test, and the process that started it ends the run.
                send_output(config, usage_error=problem)
                items.clear()
                return

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Start each test with its own random draws, and with unused configuration of the run."""
        item.stash[_VERDICT] = ""
        if EXPECTATIONS in item.stash:  # left by an earlier attempt, if a plugin reruns tests
            del item.stash[EXPECTATIONS]
        PROCESS_STORE.seed(f"{self.options.seed}:{item.stash.get(_SEED_NAME, item.nodeid)}")
        self._configure()
        if item.get_closest_marker("failpoints") is not None:
            use_fixture(item)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Fail a test that passed without exercising the failpoints that it set."""
        __tracebackhide__ = True
        if self._configured:
            self.expectations(item)
        is_property = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        with (
            running(lambda: item.stash.get(EXPECTATIONS, None), is_property=is_property),
            accepted_under_given(item) if is_property else nullcontext(),
        ):
            try:
                result = yield
                expectations = item.stash.get(EXPECTATIONS, None)
                # A unittest test case keeps its exceptions in _excinfo.
                if expectations is not None and not getattr(item, "_excinfo", None):
                    expectations.judge()
            except _Unexercised as verdict:
                item.stash[_VERDICT] = str(verdict)
                raise
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add the section on failpoints to the report of a failing test."""
        report = yield
        if report.passed:
            return report
        verdict = item.stash.get(_VERDICT, "")
        if verdict and report.when == "call" and hasattr(report, "wasxfail"):
            # The test was expected to fail, but not for this: a typo in a name is not the known bug.
            del report.wasxfail
            report.outcome, report.longrepr = "failed", verdict
        if report.failed:
            of_mixin = getattr(getattr(item, "instance", None), "_failpoints_expectations", None)
            expectations = of_mixin if isinstance(of_mixin, Expectations) else self.expectations(item)
            section = expectations.section(self.options.seed)
            if section:
                report.sections.append(("failpoints", section))
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Find what was configured for the whole run and never hit. A worker sends it."""
        self._note_hits_in_children()
        names = dict.fromkeys(entry.name for entry in self.options.configured)
        never_hit = {name: _where_declared(name) for name in names if name not in self._hit}
        if is_worker(session.config):
            send_output(session.config, never_hit=never_hit)
        elif session.testscollected and not session.config.getoption("collectonly"):
            self._never_hit = never_hit

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        """List what was configured for the whole run and hit in no process."""
        if self._workers.missing or exitstatus == pytest.ExitCode.USAGE_ERROR:
            return  # not known
        parts = [output["never_hit"] for output in self._workers.outputs] or [self._never_hit]
        for name, where in parts[0].items():
            if all(name in never_hit for never_hit in parts):
                terminalreporter.write_line(
                    f"failpoint {name!r}, configured for the whole run, was never hit; declared: {where}", yellow=True
                )

    def pytest_unconfigure(self) -> None:
        """Restore what was configured before the run."""
        if self.options.configured:
            observers.remove(self._observe)
        self._restore()


def _fail(message: str) -> NoReturn:
    raise _Unexercised(message, pytrace=False)


def _where_declared(name: str) -> str:
    from .._core.declared import where_declared  # imported here because only messages need it

    return where_declared(name)
