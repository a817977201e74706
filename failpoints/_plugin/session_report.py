"""The hooks of `--failpoints-report`, `--failpoints-report-json` and `--failpoints-fail-under`."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from _failpoints_pytest.annotations import annotation, are_wanted
from _failpoints_pytest.options import Options
from _failpoints_pytest.workers import Workers, is_worker, send_output

from .._core.declared import declared_sites
from .._core.hooks import observers
from .children import follow_children, started
from .processes import Processes
from .report import (
    Row,
    Tally,
    declared_and_never_hit,
    merge,
    rows_of_process,
    shortfall,
    table_lines,
    to_document,
)


class SessionReport:
    """Counts the visits of a run, and reports them at its end. A worker of pytest-xdist sends its counts.

    Raises `pytest.UsageError` if the file cannot be written.
    """

    def __init__(self, config: pytest.Config, options: Options, workers: Workers, processes: Processes | None) -> None:
        self._config = config
        self._seed = options.seed
        self._workers = workers
        self._tally = Tally()
        self._own_rows: list[Row] = []
        self._own_processes = 0
        self._fleet = processes
        self._own_members: int | None = 0 if options.processes else None
        self._failure: str | None = None
        self._show_table = options.report
        self._fail_under = options.fail_under
        self._shortfall: str | None = None
        self._unjudged: str | None = None  # why it is not known which failpoints the tests do not hit
        file = options.report_json
        self._file = None if file is None or is_worker(config) else Path(file).absolute()
        if self._file is not None:
            _check_writable(self._file)
        if self._fleet is not None:
            self._fleet.count_visits()

    def pytest_sessionstart(self) -> None:
        """Start counting."""
        observers.append(self._tally)
        follow_children()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Count the processes that a test starts. pytest and its plugins start some as well, between the tests."""
        before = started()
        try:
            return (yield)
        finally:
            self._own_processes += sum(started().since(before))

    def pytest_unconfigure(self) -> None:
        """Stop counting."""
        if self._tally in observers:
            observers.remove(self._tally)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Judge the percentage and write the file, or send the rows of a worker."""
        self._own_rows = self._rows_of_processes()
        if is_worker(self._config):
            send_output(self._config, rows=self._own_rows, processes=self._own_processes, members=self._own_members)
            return
        if exitstatus == pytest.ExitCode.USAGE_ERROR:
            return
        ended_early = session.shouldfail or session.shouldstop or exitstatus == pytest.ExitCode.INTERRUPTED
        self._unjudged = "the run ended early" if ended_early else self._incomplete()
        if self._fail_under is not None:
            self._shortfall = shortfall(self._rows(), self._fail_under, self._unjudged)
            if self._shortfall is not None and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self._file is None:
            return
        document = to_document(self._rows(), self._seed, self._incomplete(), self._processes(), self._members())
        try:
            # Encoded before the file is opened. In ASCII, because a path need not be valid UTF-8.
            self._file.write_bytes(json.dumps(document, indent=2).encode("ascii") + b"\n")
        except OSError as error:
            self._failure = f"--failpoints-report-json: cannot write {self._file}: {error.strerror}"
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.INTERNAL_ERROR

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the table."""
        if self._failure is not None:
            terminalreporter.write_line(self._failure, red=True)
        if self._show_table:
            self._write_table(terminalreporter)
        if self._shortfall is not None:
            terminalreporter.write_line(self._shortfall, red=True)
        if are_wanted(self._config) and self._unjudged is None:
            for line in self._annotations():
                terminalreporter.write_line(line)

    def _annotations(self) -> Iterator[str]:
        names: dict[tuple[str, int], list[str]] = {}
        for row in declared_and_never_hit(self._rows()):
            for site in row["sites"]:
                names.setdefault((site["file"], site["line"]), []).append(row["name"])
        for (file, line), never_hit in names.items():
            message = f"no test hit {' or '.join(map(repr, never_hit))} while it was configured"
            yield annotation("warning", self._config.rootpath / file, line, "failpoint never hit", message)

    def _write_table(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("failpoints")
        for line, never_hit in table_lines(self._rows(), self._config.get_terminal_writer().fullwidth):
            terminalreporter.write_line(line, yellow=never_hit)
        processes = self._processes()
        if processes:
            counted = f"{processes} {'process was' if processes == 1 else 'processes were'} started by the tests"
            members = self._members()
            if members is None:
                terminalreporter.write_line(f"{counted}: visits in other processes are not counted here")
            else:
                terminalreporter.write_line(f"{counted}: visits are counted in {members} that imported failpoints")
        incomplete = self._incomplete()
        if incomplete is not None:
            terminalreporter.write_line(f"incomplete: {incomplete}", red=True)

    def _rows_of_processes(self) -> list[Row]:
        """Return the rows of this process and of those that it has started, if they are members of its fleet."""
        if self._fleet is None:
            return rows_of_process(self._tally, declared_sites(), self._config.rootpath)
        visits = self._fleet.visits()
        self._own_members = len(visits.members)
        self._tally.add(visits.counts)
        return rows_of_process(self._tally, declared_sites(visits.files, visits.sites), self._config.rootpath)

    def _rows(self) -> list[Row]:
        return merge([*(output["rows"] for output in self._workers.outputs), self._own_rows])

    def _processes(self) -> int:
        """Return how many processes the tests started, in all workers."""
        outputs = self._workers.outputs
        return sum(output["processes"] for output in outputs) if outputs else self._own_processes

    def _members(self) -> int | None:
        """Return how many processes have counted their visits, in all workers; `None` without the setting."""
        members = [output["members"] for output in self._workers.outputs] or [self._own_members]
        return None if None in members else sum(members)

    def _incomplete(self) -> str | None:
        missing = self._workers.missing
        return f"{missing} {'worker' if missing == 1 else 'workers'} ended without a report" if missing else None


def _check_writable(file: Path) -> None:
    existed = file.exists()
    try:
        with file.open("a"):
            pass
        if not existed:
            file.unlink()
    except OSError as error:
        raise pytest.UsageError(f"--failpoints-report-json: cannot write {file}: {error.strerror}") from None
