"""The pytest plugin. pytest loads it wherever `failpoints` is installed.

It has

- the fixture `failpoints`, whose type is `Failpoints`, and the marker `@pytest.mark.failpoints({"name": "actions"})`,
- the options `--failpoints-seed`, `--failpoints`, `--failpoints-report` and `--failpoints-report-json`,
- the ini settings `failpoints_strict`, `failpoints_timeout` and `failpoints_pause_limit`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ._core.known_sites import Location
from ._core.store import PROCESS_STORE
from ._plugin.children import follow_children
from ._plugin.fixture import Failpoints
from ._plugin.markers import read_markers
from ._plugin.options import add_options, read_options
from ._plugin.run import Run
from ._plugin.workers import Workers

__all__ = ["Failpoints"]

_RUN = pytest.StashKey[Run]()


@pytest.fixture
def failpoints(request: pytest.FixtureRequest) -> Iterator[Failpoints]:
    """Configure failpoints for one test, as in `failpoints.set("name", "actions")`, and remove them afterwards."""
    item: pytest.Item = request.node
    follow_children()
    expectations = request.config.stash[_RUN].expectations(item)
    restore = PROCESS_STORE.save()
    try:
        file, line, function = item.location
        for entry in read_markers(item):
            expectations.set(*entry, Location(file, (line or 0) + 1, f"marker of {function}"))
        yield Failpoints(expectations)
    finally:
        expectations.close()
        restore()


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
    workers = Workers()
    run = config.stash[_RUN] = Run(read_options(config), workers)
    config.pluginmanager.register(workers, "failpoints-workers")
    config.pluginmanager.register(run, "failpoints-run")
    file: str | None = config.getoption("failpoints_report_json")
    if file is not None or config.getoption("failpoints_report"):
        from ._plugin.session_report import SessionReport  # imported here because most runs need no report

        report = SessionReport(config, run.options.seed, file, workers)
        if not config.getoption("collectonly"):  # there is nothing to report if no test runs
            config.pluginmanager.register(report, "failpoints-report")
