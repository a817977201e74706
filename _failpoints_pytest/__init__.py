"""The part of the pytest plugin that every run loads, wherever `failpoints` is installed.

It does not import `failpoints`, because that takes longer than everything else that the plugin does in a run whose
tests do not use it. It imports `failpoints` together with the rest of the plugin (`failpoints/_plugin/`) as soon as

- a test uses the fixture or the marker,
- an option or an environment variable configures something or asks for a report, or
- anything else has imported `failpoints`.

It is a package of its own, because importing a module of `failpoints` imports `failpoints` first.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from .annotations import FailureAnnotations, are_wanted
from .codes import show_code
from .cut_short import CutShort
from .options import add_options, read_options
from .workers import Workers, is_worker, send_output

if TYPE_CHECKING:
    from failpoints._plugin.fixture import Failpoints
    from failpoints._plugin.run import Run


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options and the ini settings."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the hooks of this run. Raise `pytest.UsageError` if an option is invalid."""
    config.addinivalue_line(
        "markers",
        "failpoints(mapping, *, context=None, expect_hit=True): configure failpoints for the test and its fixtures,"
        ' as in failpoints({"gateway.charge": "raise(TimeoutError)"})',
    )
    hooks = config.stash[_HOOKS] = Hooks(config)
    options = hooks.options
    config.pluginmanager.register(hooks.workers, "failpoints-workers")
    config.pluginmanager.register(hooks.cut_short, "failpoints-cut-short")
    config.pluginmanager.register(hooks, "failpoints-hooks")
    if are_wanted(config):
        config.pluginmanager.register(FailureAnnotations(config), "failpoints-annotations")
    if options.configured or options.counts_visits or "failpoints" in sys.modules:
        hooks.load()
    else:
        _without_failpoints.append(hooks)
    if options.explore is not None or options.replay is not None:
        from failpoints._suites.plugin import SuiteExplorer

        config.pluginmanager.register(SuiteExplorer(options, hooks.workers), "failpoints-explore")


@pytest.fixture
def failpoints(request: pytest.FixtureRequest) -> Iterator[Failpoints]:
    """Configure failpoints for one test, as in `failpoints.set("name", "actions")`, and remove them afterwards."""
    yield from request.config.stash[_HOOKS].load().failpoints_of(request.node)


def failpoints_was_imported() -> None:
    """Load the rest of the plugin in every run that has not needed it so far. `failpoints` calls it."""
    while _without_failpoints:
        _without_failpoints.pop().load()


class Hooks:
    """The hooks of a run that do not need `failpoints`, and those which load the rest once a test needs it."""

    def __init__(self, config: pytest.Config) -> None:
        self.options = read_options(config)
        self.workers = Workers()
        self.cut_short = CutShort(self.workers)
        self._config = config
        self._run: Run | None = None
        self._latest: pytest.Item | None = None  # the test that was set up last

    def load(self) -> Run:
        """Return the rest of the plugin, and load it if this is the first time."""
        if self._run is None:
            if self in _without_failpoints:
                _without_failpoints.remove(self)  # so that the import below does not come back here
            from failpoints._plugin.run import Run

            self._run = Run(self._config, self.options, self.workers, self.cut_short)
            self._config.pluginmanager.register(self._run, "failpoints-run")
            if self._latest is not None:
                self._run.begin(self._latest, _seed_name(self._latest))
        return self._run

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
        """Load the rest if a test needs it, and check the markers."""
        for item in items:
            item.stash[_SEED_NAME] = item.nodeid  # before pytest-xdist adds the test's group to it
        yield  # other plugins add markers here
        users = [item for item in items if _uses_failpoints(item)]
        problem = self.load().problem_of_markers(users) if users else None
        if problem is None:
            return
        if not is_worker(config):
            raise pytest.UsageError(problem)
        # A worker cannot end the run. It runs no test, and the process that started it ends the run.
        send_output(config, usage_error=problem)
        items.clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Start each test with its own random draws, and with unused configuration of the run."""
        self._latest = item
        if self._run is not None:
            self._run.begin(item, _seed_name(item))
        elif _uses_failpoints(item):
            self.load()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Fail a test that passed without exercising the failpoints that it set."""
        __tracebackhide__ = True
        if self._run is not None:
            return (yield from self._run.call(item))
        result = yield
        if self._run is not None:  # the test has asked for the fixture
            self._run.judge(item)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Lead from an error of failpoints to its documentation."""
        show_code(report, self._config)

    def pytest_unconfigure(self) -> None:
        """Forget this run."""
        if self in _without_failpoints:
            _without_failpoints.remove(self)


_HOOKS = pytest.StashKey[Hooks]()
_SEED_NAME = pytest.StashKey[str]()
_without_failpoints: list[Hooks] = []  # of the runs that have not needed it so far: there is more than one in pytester


def _seed_name(item: pytest.Item) -> str:
    return item.stash.get(_SEED_NAME, item.nodeid)


def _uses_failpoints(item: pytest.Item) -> bool:
    """Return whether a test has the fixture or the marker, or could ask for the fixture in an example of Hypothesis."""
    fixtures = getattr(item, "fixturenames", ())
    return (
        "failpoints" in fixtures
        or item.get_closest_marker("failpoints") is not None
        or ("request" in fixtures and getattr(getattr(item, "obj", None), "is_hypothesis_test", False))
    )


if any(name.startswith("FAILPOINTS") for name in os.environ):
    importlib.import_module("failpoints")  # not an import for its effect alone, which Python 3.15 may leave out
