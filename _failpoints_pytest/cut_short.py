"""The summary of the explorations that were not exhaustive. It is printed where no test has imported `failpoints`, too.

With pytest-xdist, only the workers run tests.
"""

from __future__ import annotations

from collections import Counter

import pytest

from .workers import Workers, is_worker, send_output


class CutShort:
    """Collects, from this process and from the workers, which tests had an exploration that was not exhaustive."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._noted: Counter[tuple[str, str]] = Counter()

    def note(self, test: str, verdict: str) -> None:
        """Take note of a verdict that a test got."""
        self._noted[test, verdict] += 1

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Send what a worker has noted."""
        if is_worker(session.config) and self._noted:
            send_output(session.config, cut_short=[[*key, count] for key, count in self._noted.items()])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print a line for each test and verdict."""
        found = self._noted.copy()
        for output in self._workers.outputs:
            for test, verdict, count in output.get("cut_short", ()):
                found[test, verdict] += count
        if found:
            terminalreporter.section("explorations that were not exhaustive")
        for (test, verdict), count in found.items():
            terminalreporter.write_line(f"{test}: {verdict}{f' ({count} times)' if count > 1 else ''}")
