"""The code of the error that failed a test, shown below the report of its failpoints."""

from __future__ import annotations

import pytest

_ATTRIBUTE = "failpoints_code"  # of a report, which pytest-xdist carries over from a worker
_WIDE = 80  # columns of a terminal in which the code is shown


def note_code(report: pytest.TestReport, code: str) -> None:
    """Keep a code with a report, unless it is empty. The process that has the terminal shows it."""
    if code:
        setattr(report, _ATTRIBUTE, code)


def code_of(report: pytest.TestReport) -> str | None:
    """Return the code that was kept with a report, if there is one."""
    return getattr(report, _ATTRIBUTE, None)


def show_code(report: pytest.TestReport, config: pytest.Config) -> None:
    """Add a line that leads to the documentation of the error, for a terminal that has place for it."""
    code = code_of(report)
    terminal: pytest.TerminalReporter | None = config.pluginmanager.get_plugin("terminalreporter")
    if code is None or terminal is None or not terminal.isatty or config.get_terminal_writer().fullwidth < _WIDE:
        return
    line = f"[{code}] failpoints explain {code}"
    texts = [text for title, text in report.sections if title == "failpoints"]
    report.sections[:] = [section for section in report.sections if section[0] != "failpoints"]
    report.sections.append(("failpoints", "\n".join([*texts, line])))
