"""The pytest plugin: a fixture that sets failpoints and takes them back, and a run that lets no typo pass.

pytest loads it by itself where `failpoints` is installed. It gives

- the fixture `failpoints` (`Failpoints` to type checkers), and `@pytest.mark.failpoints({"name": "actions"})`;
- `--failpoints-seed`, `--failpoints`, `--failpoints-report` and `--failpoints-report-json`;
- in the ini file `failpoints_strict`, `failpoints_timeout` and `failpoints_pause_limit`.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Generator, Iterator
from functools import partial
from typing import Any, cast

import pytest

from ._core import environment
from ._core.actions import Action, Actions
from ._core.configuration import Configuration
from ._core.context import GivenMatchers
from ._core.grammar import parse_entries
from ._core.handle import Configured, Handle
from ._core.known_sites import Site
from ._core.registry import PROCESS_WIDE
from ._core.status import FailpointStatus
from ._core.store import PROCESS_STORE
from ._core.visit import observers
from ._plugin.marks import marked, use_fixture
from ._plugin.strictness import Settings, called_at
from .errors import FailpointError

__all__ = ["Failpoints"]


class Failpoints:
    """To set failpoints in a test: the fixture `failpoints`.

    What it sets holds in the whole process, for every task, thread and event loop; after the test, however that
    ended, it puts back what was there before, and wakes whoever still waits. (What a wider fixture configures that is
    first made in the middle of a test was not there before.) A failpoint that was set and never hit fails a test that
    passed.

    >>> async def test_lost_reply(failpoints: Failpoints) -> None:
    ...     reply = failpoints.set("gateway.charge:after", "raise(TimeoutError)")
    ...     await pay("order-1")
    ...     assert reply.triggers == 1
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __repr__(self) -> str:
        return "<the failpoints of this test>"

    def set(
        self, name: str, actions: Actions, *, context: GivenMatchers | None = None, expect_hit: bool = True
    ) -> Handle:
        """To make a failpoint do something for the rest of the test; returns the handle to watch and steer it by.

        `actions` and `context` are those of `failpoints.configure`. The waits of the handle time out after
        `failpoints_timeout` seconds (10, if the ini file says nothing) unless they are given a `timeout=` in seconds
        (`math.inf` for none), and a pause ends with `FailpointTimeout`, where the paused code is, after
        `failpoints_pause_limit` (30) seconds. With `expect_hit=False` the test may pass without a hit, and whatever
        comes of it.

        Raises what `configure` raises; then nothing has changed.

        >>> upload = failpoints.set("backup.upload", "raise(OSError: disk full)", context={"shard": 3})
        >>> failpoint("backup.upload", context={"shard": 4}).hit()
        Continue()
        >>> failpoint("backup.upload", context={"shard": 3}).hit()
        Traceback (most recent call last):
        OSError: disk full
        >>> upload.hits, upload.misses
        (1, 1)
        """
        __tracebackhide__ = True  # what cannot be set is shown at the test's own line
        return self._settings.set(name, actions, context, expect_hit, called_at(inspect.currentframe()))

    def paused(self, name: str, *, context: GivenMatchers | None = None) -> Configured:
        """To hold whoever comes to a failpoint while a block runs: `set(name, "pause")`, and removed afterwards.

        Serves `with` and `async with`, which are given the handle: `await handle.wait_paused()` goes on once somebody
        is held there, `handle.resume()` lets them go. Leaving removes the failpoint and wakes everyone who waits at
        it. Raises, on entering, what `set` raises.

        >>> async def test_race(failpoints: Failpoints) -> None:
        ...     async with anyio.create_task_group() as tasks, failpoints.paused("cache.fill") as fill:
        ...         tasks.start_soon(reader)
        ...         await fill.wait_paused()  # no sleep, no polling
        ...         await writer()
        """
        where = called_at(inspect.currentframe())
        return Configured(partial(self._settings.set, name, "pause", context, True, where))

    def handle(self, name: str) -> Handle:
        """To watch what a marker, `--failpoints` or `FAILPOINTS` has set.

        Raises `FailpointUsageError` if that name is not configured, and `FailpointNameError` for what cannot be one.

        >>> setting = failpoints.set("backup.parse", "off")
        >>> failpoint("backup.parse").hit()
        Continue()
        >>> failpoints.handle("backup.parse").hits
        1
        """
        __tracebackhide__ = True
        return self._settings.handle(name)

    def remove(self, name: str) -> None:
        """To end what is configured under a name, waking who waits there: `failpoints.remove`."""
        PROCESS_WIDE.remove(name)

    def reset(self) -> None:
        """To end everything that is configured, waking everyone who waits: `failpoints.reset`."""
        PROCESS_WIDE.reset()

    def resume(self, name: str) -> int:
        """To let those go on who wait at a failpoint now; how many: `failpoints.resume`."""
        return PROCESS_WIDE.resume(name)

    def seed(self, n: int | None) -> None:
        """To have chances (`25%…`) come out as this seed says, not as that of the run: `failpoints.seed`."""
        self._settings.seed(n)

    def status(self, name: str) -> FailpointStatus:
        """To see what a failpoint did since it was configured: `failpoints.status`."""
        return PROCESS_WIDE.status(name)

    def statuses(self) -> list[FailpointStatus]:
        """To see everything that is configured: `failpoints.statuses`."""
        return PROCESS_WIDE.statuses()


_RUN = pytest.StashKey["_Run"]()
_SETTINGS = pytest.StashKey[Settings]()
_UNTESTED = pytest.StashKey[str]()
_SEED_NAME = pytest.StashKey[str]()


@pytest.fixture
def failpoints(request: pytest.FixtureRequest) -> Iterator[Failpoints]:
    """Failpoints for one test, and taken back after it: `failpoints.set("name", "actions")`."""
    item: pytest.Item = request.node
    run = request.config.stash[_RUN]
    settings = item.stash[_SETTINGS] = Settings(run.timeout, run.pause_limit)
    put_back = PROCESS_STORE.save()
    try:
        file, line, function = item.location
        for name, mark in marked(item).items():
            settings.set(name, *mark, Site(file, (line or 0) + 1, f"{function}, marked"))
        yield Failpoints(settings)
    finally:
        settings.close()
        put_back()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options and the settings of the ini file."""
    group = parser.getgroup("failpoints")
    group.addoption(
        "--failpoints-seed",
        type=int,
        metavar="N",
        help="the seed of the run's chances (25%%…), as an earlier run printed it; chosen, if not given",
    )
    group.addoption(
        "--failpoints",
        dest="failpoints_configured",
        metavar="TEXT",
        help="what is configured for the whole run: 'name=actions;name=actions'; each test meets it anew",
    )
    group.addoption(
        "--failpoints-report",
        action="store_true",
        help="at the end, show every failpoint that the imported modules declare, the never-hit ones first",
    )
    group.addoption("--failpoints-report-json", metavar="FILE", help="write that report to a file, as JSON")
    parser.addini(
        "failpoints_strict", "fail a test whose failpoint was never hit (true, if not given)", type="bool", default=True
    )
    _add_seconds(parser, "failpoints_timeout", "seconds that a wait for a hit or a pause lasts (10)", 10.0)
    _add_seconds(parser, "failpoints_pause_limit", "seconds after which a pause ends by FailpointTimeout (30)", 30.0)


def _add_seconds(parser: pytest.Parser, name: str, says: str, default: float) -> None:
    try:
        parser.addini(name, says, type="float", default=default)
    except (AssertionError, ValueError):  # before pytest 8.4
        parser.addini(name, says, default=default)


def pytest_configure(config: pytest.Config) -> None:
    """Read what was asked for; raises `pytest.UsageError` for what cannot be."""
    config.addinivalue_line(
        "markers",
        "failpoints(mapping, *, context=None, expect_hit=True): set failpoints for the test and its fixtures,"
        ' as in failpoints({"gateway.charge": "raise(TimeoutError)"})',
    )
    run = _Run(config)
    config.stash[_RUN] = run
    config.pluginmanager.register(run, "failpoints-run")
    file: str | None = config.getoption("failpoints_report_json")
    if file is not None or config.getoption("failpoints_report"):
        from ._plugin.report import SessionReport  # whoever asks for none does not wait for its import

        report = SessionReport(config, run.seed, file, is_worker=_is_worker(config))
        if not config.getoption("collectonly"):  # else there is nothing to report
            config.pluginmanager.register(report, "failpoints-report")


class _Run:
    """One run of pytest: its seed, its settings, and what is configured for all of its tests."""

    def __init__(self, config: pytest.Config) -> None:
        self.strict: bool = _setting(config, "failpoints_strict")
        self.timeout = _seconds(config, "failpoints_timeout")
        self.pause_limit = _seconds(config, "failpoints_pause_limit")
        self.seed = _seed(config)
        self._put_back = PROCESS_STORE.save()
        self._for_all = _configured_for_all(config)
        self._armed: dict[str, Configuration] = {}
        self._arm()
        self._hit = set[str]()
        self._never_hit: list[dict[str, str]] = []  # of each process: the names, and where they are declared
        self._silent = 0  # workers that were started and have not told
        if self._for_all:
            observers.append(self._observe)

    def _observe(self, configuration: Configuration, action: Action | None, matched: bool) -> None:
        if matched and configuration is self._armed.get(configuration.name):
            self._hit.add(configuration.name)

    def _arm(self) -> None:
        """Configure anew what holds for the whole run, except where somebody configured something else since."""
        for name, actions in self._for_all.items():
            current = PROCESS_STORE.current(name)
            if name not in self._armed or current is None or current is self._armed[name]:
                self._armed[name] = PROCESS_STORE.install(name, actions, pause_limit=self.pause_limit)

    def pytest_report_header(self) -> str:
        """Print the seed."""
        return f"failpoints: seed {self.seed}"

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give the seed to a worker of pytest-xdist."""
        node.workerinput["failpoints_seed"] = self.seed

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, None, None]:
        """Check the marks."""
        for item in items:
            item.stash[_SEED_NAME] = item.nodeid  # to which pytest-xdist may add the test's group
        yield  # who adds marks, does it here
        for item in items:
            if item.get_closest_marker("failpoints") is None:
                continue
            try:
                marked(item)
            except FailpointError as error:
                problem = f"{item.nodeid}: @pytest.mark.failpoints: {error}"
                if not _is_worker(config):
                    raise pytest.UsageError(problem) from None
                # A worker cannot end the run: it offers no test, and leaves it to the process that started it.
                cast(Any, config).workeroutput["failpoints_problem"] = problem
                items.clear()
                return

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Begin each test with draws of its own, and with the run's configuration unused."""
        item.stash[_UNTESTED] = ""
        if _SETTINGS in item.stash:  # of an earlier try, when somebody runs a test again
            del item.stash[_SETTINGS]
        PROCESS_STORE.seed(f"{self.seed}:{item.stash.get(_SEED_NAME, item.nodeid)}")
        self._arm()
        if item.get_closest_marker("failpoints") is not None:
            use_fixture(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Fail a test that passed without the failures that it had set up."""
        result = yield
        settings = item.stash.get(_SETTINGS, None)
        if settings is None and not self._armed:
            return result
        failed = getattr(item, "_excinfo", None)  # a test case of unittest keeps it there, and does not raise
        if self.strict and not failed:
            settings = settings or Settings()
            item.stash[_UNTESTED] = settings.untested(self._armed.values())
            if item.stash[_UNTESTED]:
                pytest.fail(item.stash[_UNTESTED], pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Show in a failing test's report what its failpoints did."""
        report = yield
        if report.passed:
            return report
        untested = item.stash.get(_UNTESTED, "")
        if untested and report.when == "call" and hasattr(report, "wasxfail"):
            # Expected to fail, but not so: a typo in a name is no bug that somebody knows of.
            del report.wasxfail
            report.outcome, report.longrepr = "failed", untested
        if report.failed:
            settings = item.stash.get(_SETTINGS, None) or Settings()
            section = settings.section(self.seed)
            if section:
                report.sections.append(("failpoints", section))
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Find out, or tell the process that started this one, which of the run's failpoints were never hit."""
        never_hit = {name: _where(name) for name in self._for_all if name not in self._hit}
        if _is_worker(session.config):
            cast(Any, session.config).workeroutput["failpoints_never_hit"] = never_hit
        elif session.testscollected and not session.config.getoption("collectonly") and not self._never_hit:
            self._never_hit.append(never_hit)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: object) -> None:
        """Expect a worker of pytest-xdist to tell it, too."""
        self._silent += 1

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Hear it from a worker, if it lived to tell it."""
        told: dict[str, Any] = getattr(node, "workeroutput", {})
        if "failpoints_problem" in told:
            raise pytest.UsageError(told["failpoints_problem"])
        never_hit = told.get("failpoints_never_hit")
        if never_hit is not None:
            self._silent -= 1
            self._never_hit.append(never_hit)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which of the run's failpoints were never hit."""
        if self._silent:
            return  # nobody knows
        for name, where in (self._never_hit[0] if self._never_hit else {}).items():
            if all(name in never_hit for never_hit in self._never_hit):
                terminalreporter.write_line(
                    f"failpoint {name!r}, configured for the whole run, was never hit; declared: {where}", yellow=True
                )

    def pytest_unconfigure(self) -> None:
        """Put back what was configured before the run."""
        if self._for_all:
            observers.remove(self._observe)
        self._put_back()


def _where(name: str) -> str:
    from ._core.declared import where_declared  # only ever needed on the way to a message

    return where_declared(name)


def _seed(config: pytest.Config) -> int:
    given: int | None = config.getoption("failpoints_seed")
    if _is_worker(config):
        given = cast(Any, config).workerinput.get("failpoints_seed")
    return random.SystemRandom().randrange(2**32) if given is None else given


def _is_worker(config: pytest.Config) -> bool:
    """Whether this is a worker of pytest-xdist, which reports to another process."""
    return hasattr(config, "workerinput")


def _setting(config: pytest.Config, name: str) -> Any:
    try:
        return config.getini(name)
    except (ValueError, TypeError, pytest.UsageError) as error:
        raise pytest.UsageError(f"{name} in the ini file: {error}") from None


def _seconds(config: pytest.Config, name: str) -> float:
    given = _setting(config, name)
    try:
        seconds = float(given)
    except (TypeError, ValueError):  # before pytest 8.4
        seconds = math.nan
    if not seconds > 0:
        raise pytest.UsageError(f"{name} in the ini file: expected seconds, more than 0 (or inf), got {given}")
    return seconds


def _configured_for_all(config: pytest.Config) -> dict[str, Actions]:
    """What `FAILPOINTS` and `--failpoints` ask for; of both for the same name, the latter."""
    from_environment = environment.CONFIGURATION if environment.ENABLED else ""
    given: str = config.getoption("failpoints_configured") or ""
    if given and not environment.ENABLED:
        raise pytest.UsageError("--failpoints: this process was started with FAILPOINTS_ENABLED=0; unset it")
    try:
        return dict((*parse_entries(from_environment, "FAILPOINTS"), *parse_entries(given, "--failpoints")))
    except FailpointError as error:
        raise pytest.UsageError(str(error)) from None
