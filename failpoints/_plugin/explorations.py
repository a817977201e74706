"""Follows the explorations of a run of pytest: shows a bar while one takes long, and notes if it was cut short."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import Any

import pytest

from _failpoints_pytest.cut_short import CutShort

from .._core.clock import monotonic
from .._core.hooks import Result, spectators

_PATIENCE = 2.0  # seconds without a bar
_INTERVAL = 0.2  # seconds between two changes of the bar
_CELLS = 10


class Explorations:
    """Follows the explorations of a run. Those that are not exhaustive are noted in *cut_short*, if it is given."""

    def __init__(self, config: pytest.Config, cut_short: CutShort | None) -> None:
        self._cut_short = cut_short
        self._test = ""
        self._bar = _Bar(config)
        spectators.append(self)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Take note of the test that runs now."""
        self._test = nodeid

    def advanced(self, done: int, total: int | None, what: str) -> None:
        """Show the bar, if the exploration takes long."""
        self._bar.show(done, total, what)

    def ended(self, result: Result | None, tried: str) -> None:
        """Remove the bar, and take note of a result that is not exhaustive."""
        self._bar.clear()
        if self._cut_short is not None and result is not None and not (result.exhaustive or result.replayed):
            self._cut_short.note(self._test, f"{tried}: {'; '.join(result.bounds)}")

    def pytest_unconfigure(self) -> None:
        """Stop following."""
        spectators.remove(self)


class _Bar:
    """A bar behind what pytest has written of the current test, in a terminal only."""

    def __init__(self, config: pytest.Config) -> None:
        self._plugins = config.pluginmanager
        self._next = 0.0  # when to change it, on the monotonic clock
        self._width = 0

    def show(self, done: int, total: int | None, what: str) -> None:
        now = monotonic()
        if not self._next:
            self._next = now + _PATIENCE
        elif now >= self._next:
            self._next = now + _INTERVAL
            self._write(_text(done, total, what))

    def clear(self) -> None:
        self._next = 0.0
        if self._width:
            self._write("")

    def _write(self, text: str) -> None:
        # Looked up as late as this, since they may be registered after this plugin.
        reporter: Any = self._plugins.get_plugin("terminalreporter")
        capture: Any = self._plugins.get_plugin("capturemanager")
        if reporter is None or not reporter.isatty:
            return
        writer = reporter._tw  # noqa: SLF001 - there is no public way to know the column
        text = text[: max(0, writer.fullwidth - writer.width_of_current_line - 1)]
        back = "\b" * self._width
        with capture.global_and_fixture_disabled() if capture is not None else nullcontext():
            sys.stdout.write(f"{back}{text.ljust(self._width)}{chr(8) * max(0, self._width - len(text))}")
            sys.stdout.flush()
        self._width = len(text)


def _text(done: int, total: int | None, what: str) -> str:
    if total is None:
        return f" {done:,} {what}"
    full = _CELLS * done // max(total, 1)
    return f" [{'#' * full}{'.' * (_CELLS - full)}] {done:,} of {total:,} {what}"
