"""One run of pytest whose tests use failpoints: the configuration for all tests, and the verdict on each test."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NoReturn, cast

import pytest

from _failpoints_pytest.codes import note_code
from _failpoints_pytest.cut_short import CutShort
from _failpoints_pytest.options import Options
from _failpoints_pytest.workers import Workers, is_worker, send_output

from .._core import environment
from .._core.actions import Action
from .._core.configuration import Configuration
from .._core.grammar import Entry, parse_entries
from .._core.hooks import observers
from .._core.known_sites import Location
from .._core.store import PROCESS_STORE
from ..errors import FailpointError
from .children import follow_children, was_hit
from .examples import accepted_under_given, follow_hypothesis, running
from .expectations import Expectations
from .explorations import Explorations
from .fixture import Failpoints
from .markers import read_markers, use_fixture
from .messages import NEVER_HIT, NOT_RESUMED, Advice

if TYPE_CHECKING:
    from .processes import Processes

EXPECTATIONS = pytest.StashKey[Expectations]()
"""Where a test that uses the fixture keeps its expectations."""

_ADVICE = Advice(
    """\
Check the name, the actions, the matchers and the place of the decorator. If this is intentional, pass
expect_hit=False, or set failpoints_strict = false in the ini file for all tests.""",
    "failpoints_processes = true in the ini file",
)
_VERDICT = pytest.StashKey[str]()


class _Unexercised(pytest.fail.Exception):  # type: ignore[name-defined, misc] # mypy sees no class there
    """The failure of a test that passed without exercising its failpoints."""

    __module__ = "builtins"  # as for the failures of pytest itself, so that a report has the same words
    __qualname__ = "Failed"

    def __str__(self) -> str:
        return "\n".join((self.msg or "", *getattr(self, "__notes__", ())))  # Hypothesis adds the example as a note


class Run:
    """The part of the plugin that needs failpoints. `_failpoints_pytest` loads it, and calls it for each test.

    Raises `pytest.UsageError` if an option is invalid.
    """

    def __init__(self, config: pytest.Config, options: Options, workers: Workers, cut_short: CutShort) -> None:
        self._options = options
        self._workers = workers
        self._entries = _entries(options.configured)
        self._restore = PROCESS_STORE.save()
        self._processes: Processes | None = None
        # Each worker of pytest-xdist has a fleet of its own. The process that starts them has none.
        runs_tests = is_worker(config) or cast(Any, config.option).__dict__.get("dist", "no") == "no"
        if options.processes and runs_tests and environment.ENABLED and not config.getoption("collectonly"):
            from .processes import Processes  # imported here because it imports the rooms of the fleet

            self._processes = Processes()
        self._configured: dict[int, Configuration] = {}  # by the number of the entry
        self._hit = set[str]()
        self._configure()
        follow_hypothesis()
        self._never_hit: dict[str, str] = {}
        if self._entries:
            observers.append(self._observe)
            follow_children()
        # A run that explores the tests themselves has a summary of its own.
        explorations = Explorations(config, cut_short if options.explore is None else None)
        config.pluginmanager.register(explorations, "failpoints-explorations")
        if options.counts_visits:
            from .session_report import SessionReport  # imported here because most runs need no report

            report = SessionReport(config, options, workers, self._processes)
            if not config.getoption("collectonly"):  # there is nothing to report if no test runs
                config.pluginmanager.register(report, "failpoints-report")

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
            for number, entry in enumerate(self._entries)
            if number not in self._configured or own.issuperset(PROCESS_STORE.current(entry.name))
        ]
        for number, (name, terms, context) in again:
            limit = self._options.pause_limit
            configuration = PROCESS_STORE.prepare(name, terms, context, pause_limit=limit, for_run=True)
            self._configured[number] = PROCESS_STORE.install(configuration)

    def expectations(self, item: pytest.Item) -> Expectations:
        """Return the expectations of a test. They are made when they are first needed."""
        if EXPECTATIONS not in item.stash:
            item.stash[EXPECTATIONS] = Expectations(
                _fail,
                _ADVICE,
                self._options.timeout,
                self._options.pause_limit,
                strict=self._options.strict,
                for_all_tests=self._configured.values(),
            )
        return item.stash[EXPECTATIONS]

    def failpoints_of(self, item: pytest.Item) -> Iterator[Failpoints]:
        """Yield the fixture of a test, and remove afterwards what it configured."""
        follow_children()
        expectations = self.expectations(item)
        restore = PROCESS_STORE.save()
        try:
            file, line, function = item.location
            for entry in read_markers(item):
                expectations.set(*entry, Location(file, (line or 0) + 1, f"marker of {function}"))
            yield Failpoints(expectations)
        finally:
            expectations.close()
            restore()

    def problem_of_markers(self, items: Iterable[pytest.Item]) -> str | None:
        """Return what is wrong with the first invalid marker of the tests; `None` if all are valid."""
        for item in items:
            try:
                read_markers(item)
            except FailpointError as error:
                return f"{item.nodeid}: @pytest.mark.failpoints: {error}"
        return None

    def begin(self, item: pytest.Item, seed_name: str) -> None:
        """Start a test with its own random draws, and with unused configuration of the run."""
        item.stash[_VERDICT] = ""
        if EXPECTATIONS in item.stash:  # left by an earlier attempt, if a plugin reruns tests
            del item.stash[EXPECTATIONS]
        PROCESS_STORE.seed(f"{self._options.seed}:{seed_name}")
        self._configure()
        if item.get_closest_marker("failpoints") is not None:
            use_fixture(item)

    def call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Surround the call of a test, and judge it."""
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
            except _Unexercised as verdict:  # of an example
                item.stash[_VERDICT] = str(verdict)
                raise
            self.judge(item)
        return result

    def judge(self, item: pytest.Item) -> None:
        """Fail a test that passed without exercising the failpoints that it set."""
        __tracebackhide__ = True
        expectations = item.stash.get(EXPECTATIONS, None)
        # A unittest test case keeps its exceptions in _excinfo.
        if expectations is not None and not getattr(item, "_excinfo", None):
            try:
                expectations.judge()
            except _Unexercised as verdict:
                item.stash[_VERDICT] = str(verdict)
                raise

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
            section = expectations.section(self._options.seed)
            if section:
                report.sections.append(("failpoints", section))
            note_code(report, _code_of(verdict, call.excinfo and call.excinfo.value))
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Find what was configured for the whole run and never hit. A worker sends it."""
        self._note_hits_in_children()
        names = dict.fromkeys(entry.name for entry in self._entries)
        never_hit = {name: _where_declared(name) for name in names if name not in self._hit}
        if is_worker(session.config):
            send_output(session.config, never_hit=never_hit)
        elif session.testscollected and not session.config.getoption("collectonly"):
            self._never_hit = never_hit

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        """List what was configured for the whole run and hit in no process."""
        if self._workers.missing or exitstatus == pytest.ExitCode.USAGE_ERROR:
            return  # not known
        parts = [output["never_hit"] for output in self._workers.outputs if "never_hit" in output] or [self._never_hit]
        for name, where in parts[0].items():
            if all(name in never_hit for never_hit in parts):
                terminalreporter.write_line(
                    f"failpoint {name!r}, configured for the whole run, was never hit; declared: {where}", yellow=True
                )

    def pytest_unconfigure(self) -> None:
        """Restore what was configured before the run."""
        if self._entries:
            observers.remove(self._observe)
        self._restore()
        if self._processes is not None:
            self._processes.end()


def _entries(option: str) -> tuple[Entry, ...]:
    """Return what `FAILPOINTS` and `--failpoints` configure, in this order. The option takes precedence."""
    if option and not environment.ENABLED:
        raise pytest.UsageError("--failpoints: this process was started with FAILPOINTS_ENABLED=0; unset it")
    from_environment = environment.CONFIGURATION if environment.ENABLED else ""
    try:
        return (*parse_entries(from_environment, "FAILPOINTS"), *parse_entries(option, "--failpoints"))
    except FailpointError as error:
        raise pytest.UsageError(str(error)) from None


def _code_of(verdict: str, error: BaseException | None) -> str:
    """Return the code of what failed a test, or an empty string if that is not an error of this package."""
    if NOT_RESUMED in verdict:
        return "FP007"
    if NEVER_HIT in verdict:
        return "FP011"
    return getattr(error, "code", "") if type(error).__module__.startswith("failpoints.") else ""


def _fail(message: str) -> NoReturn:
    raise _Unexercised(message, pytrace=False)


def _where_declared(name: str) -> str:
    from .._core.declared import where_declared  # imported here because only messages need it

    return where_declared(name)
