"""Annotations of GitHub Actions: lines of the output that GitHub shows at a line of the source."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

import pytest

from .codes import code_of
from .workers import is_worker

_TITLES = {"FP011": "failpoint never hit", "FP023": "a run of an exploration fails"}


def are_wanted(config: pytest.Config) -> bool:
    """Return whether this process writes to the log of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true" and not is_worker(config)


def annotation(kind: Literal["error", "warning"], file: Path, line: int, title: str, message: str) -> str:
    """Return the line for a place in the source. GitHub finds it by its path in the repository."""
    properties = [f"title={_escaped(title, ':,')}"]
    repository = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd())
    if file.is_relative_to(repository):  # an installed package is not in the repository
        path = file.relative_to(repository).as_posix()
        properties = [f"file={_escaped(path, ':,')}", *([f"line={line}"] if line else []), *properties]
    return f"::{kind} {','.join(properties)}::{_escaped(message)}"


def _escaped(text: str, more: str = "") -> str:
    """Escape what ends a message, or with *more* a property. The percent sign is first, since it escapes the others."""
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text


class FailureAnnotations:
    """Annotates the tests that fail because a failpoint was never hit, or because of an exploration."""

    def __init__(self, config: pytest.Config) -> None:
        self._root = config.rootpath
        self._lines: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the annotation of a failed test."""
        title = _TITLES.get(code_of(report) or "")
        if title is not None and report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = report.longreprtext if crash is None else re.sub(r"\A[\w.]+: ", "", crash.message)
            file, line, _ = report.location
            self._lines.append(
                annotation("error", self._root / file, (line or 0) + 1, title, f"{report.nodeid}\n{message}")
            )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write them, each in a line of its own."""
        for line in self._lines:
            terminalreporter.write_line(line)
