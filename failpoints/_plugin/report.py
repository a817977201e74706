"""What a run of tests did at the failpoints that its modules declare: counted, merged, as a table and as JSON."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import pytest

from .._core.actions import Action
from .._core.configuration import Configuration
from .._core.declared import declared_sites
from .._core.grammar import kind_of_action
from .._core.known_sites import Site
from .._core.visit import observers

_WIDEST = 60  # characters of a cell


class SitePlace(TypedDict):
    """One site: `file` (below the root folder with `/`, else absolute), `line`, and the `function` it is in.

    Where the line is 0, the file is the path of an instrumented function whose source is not known.
    """

    file: str
    line: int
    function: str


class Row(TypedDict):
    """One failpoint: how often it was hit, missed and triggered, how often each action ran, and where it is."""

    name: str
    hits: int
    misses: int
    triggers: int
    actions: dict[str, int]
    sites: list[SitePlace]


class Document(TypedDict):
    """The JSON of a run: the seed, the totals, and a row for each failpoint, the never-hit ones first."""

    version: int
    seed: int
    incomplete: NotRequired[str]
    totals: dict[str, int]
    failpoints: list[Row]


class Tally:
    """Counts visits for as long as it observes them, whatever is reconfigured meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hits = Counter[str]()
        self._misses = Counter[str]()
        self._actions: dict[str, Counter[str]] = {}

    def __call__(self, configuration: Configuration, action: Action | None, matched: bool) -> None:
        """Count one visit."""
        name = configuration.name
        ran = None if action is None else kind_of_action(action)
        with self._lock:
            (self._hits if matched else self._misses)[name] += 1
            if ran is not None:
                self._actions.setdefault(name, Counter())[ran] += 1

    def names(self) -> set[str]:
        """Every name that was visited while it was configured."""
        with self._lock:
            return {*self._hits, *self._misses}

    def row(self, name: str, sites: Iterable[SitePlace]) -> Row:
        """What was counted of one failpoint."""
        with self._lock:
            actions = self._actions.get(name, Counter())
            return Row(
                name=name,
                hits=self._hits[name],
                misses=self._misses[name],
                triggers=actions.total(),
                actions=dict(sorted(actions.items())),
                sites=list(sites),
            )


def rows(tally: Tally, declared: Mapping[str, Sequence[Site]], root: Path) -> list[Row]:
    """A row for every failpoint that is declared, and for every other one that was visited."""
    return [
        tally.row(name, sorted((_place(site, root) for site in declared.get(name, ())), key=_by_place))
        for name in sorted({*declared, *tally.names()})
    ]


def _place(site: Site, root: Path) -> SitePlace:
    file = Path(site.file)
    inside = file.is_relative_to(root)
    return SitePlace(
        file=file.relative_to(root).as_posix() if inside else os.fspath(file), line=site.line, function=site.function
    )


def _by_place(place: SitePlace) -> tuple[str, int]:
    return place["file"], place["line"]


def merged(parts: Iterable[list[Row]]) -> list[Row]:
    """The rows of several processes as those of one, the never-hit ones first, each part in the order of names."""
    by_name: dict[str, Row] = {}
    for row in (row for part in parts for row in part):
        known = by_name.get(row["name"])
        by_name[row["name"]] = row if known is None else _sum(known, row)
    return sorted(by_name.values(), key=lambda row: (row["hits"] > 0, row["name"]))


def _sum(one: Row, other: Row) -> Row:
    places = {_by_place(place): place for place in (*one["sites"], *other["sites"])}
    actions = Counter(one["actions"]) + Counter(other["actions"])
    return Row(
        name=one["name"],
        hits=one["hits"] + other["hits"],
        misses=one["misses"] + other["misses"],
        triggers=one["triggers"] + other["triggers"],
        actions=dict(sorted(actions.items())),
        sites=[place for _, place in sorted(places.items())],
    )


def totals(report: Sequence[Row]) -> dict[str, int]:
    """The sums over all rows."""
    hit = sum(row["hits"] > 0 for row in report)
    return {
        "failpoints": len(report),
        "hit": hit,
        "never_hit": len(report) - hit,
        "hits": sum(row["hits"] for row in report),
        "misses": sum(row["misses"] for row in report),
        "triggers": sum(row["triggers"] for row in report),
    }


def as_document(report: list[Row], seed: int, incomplete: str | None) -> Document:
    """What is written as JSON."""
    document = Document(version=1, seed=seed, totals=totals(report), failpoints=report)
    if incomplete is not None:
        document["incomplete"] = incomplete
    return document


def as_table(report: Sequence[Row]) -> Iterator[tuple[str, bool]]:
    """The lines of a table, and whether each is about a failpoint that was never hit."""
    if not report:
        yield "no failpoint is declared in the modules imported", False
        return
    cells = [("failpoint", "hits", "misses", "triggered", "declared at")]
    cells += [(row["name"], str(row["hits"]), str(row["misses"]), _triggered(row), _places(row)) for row in report]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for index, (name, hits, misses, triggered, places) in enumerate(cells):
        line = f"{name:<{widths[0]}}  {hits:>{widths[1]}}  {misses:>{widths[2]}}  {triggered:<{widths[3]}}  {places}"
        yield line.rstrip(), index > 0 and report[index - 1]["hits"] == 0
    sums: Any = totals(report)
    yield (
        (
            f"{sums['hit']} of {sums['failpoints']} failpoints hit, {sums['never_hit']} never:"
            f" hits {sums['hits']}, misses {sums['misses']}, triggers {sums['triggers']}"
        ),
        False,
    )


def _triggered(row: Row) -> str:
    if not row["hits"]:
        return "never hit"
    said = ", ".join(f"{count} {action}" for action, count in row["actions"].items()) or "nothing"
    return said if len(said) <= _WIDEST else f"{said[:_WIDEST]}…"


def _places(row: Row) -> str:
    places = (f"{place['file']}:{place['line']}" if place["line"] else place["file"] for place in row["sites"])
    return ", ".join(places) or "a name made at run time"


class SessionReport:
    """What `--failpoints-report` and `--failpoints-report-json` show, in one process or several."""

    def __init__(self, config: pytest.Config, seed: int, file: str | None, *, is_worker: bool) -> None:
        self._config = config
        self._seed = seed
        self._is_worker = is_worker
        self._tally = Tally()
        self._parts: list[list[Row]] = []
        self._failure: str | None = None
        self._silent = 0  # workers that were started and have not reported
        self._shown = bool(config.getoption("failpoints_report"))
        self._file = None if file is None or is_worker else Path(file).absolute()
        if self._file is not None:
            _check_writable(self._file)

    def pytest_sessionstart(self) -> None:
        """Begin to count."""
        observers.append(self._tally)

    def pytest_unconfigure(self) -> None:
        """Count no more."""
        if self._tally in observers:
            observers.remove(self._tally)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: object) -> None:
        """Expect the rows of a worker of pytest-xdist."""
        self._silent += 1

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take the rows of a worker of pytest-xdist, if it lived to tell them."""
        part = getattr(node, "workeroutput", {}).get("failpoints")
        if part is not None:
            self._silent -= 1
            self._parts.append(part)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Send the rows of a worker, or write the file."""
        part = rows(self._tally, declared_sites(), self._config.rootpath)
        if self._is_worker:
            cast(Any, self._config).workeroutput["failpoints"] = part
            return
        self._parts.append(part)
        if self._file is None or exitstatus == pytest.ExitCode.USAGE_ERROR:
            return
        document = as_document(merged(self._parts), self._seed, self._incomplete())
        try:
            # Encoded before the file is opened, and in ASCII: a path need not be UTF-8.
            self._file.write_bytes(json.dumps(document, indent=2).encode("ascii") + b"\n")
        except OSError as error:
            self._failure = f"--failpoints-report-json: cannot write {self._file}: {error.strerror}"
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.INTERNAL_ERROR

    def _incomplete(self) -> str | None:
        workers = "1 worker" if self._silent == 1 else f"{self._silent} workers"
        return f"{workers} ended without a report" if self._silent else None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the table."""
        if self._failure is not None:
            terminalreporter.write_line(self._failure, red=True)
        if not self._shown:
            return
        terminalreporter.section("failpoints")
        for line, never_hit in as_table(merged(self._parts)):
            terminalreporter.write_line(line, yellow=never_hit)
        incomplete = self._incomplete()
        if incomplete is not None:
            terminalreporter.write_line(f"incomplete: {incomplete}", red=True)


def _check_writable(file: Path) -> None:
    existed = file.exists()
    try:
        with file.open("a"):
            pass
        if not existed:
            file.unlink()
    except OSError as error:
        raise pytest.UsageError(f"--failpoints-report-json: cannot write {file}: {error.strerror}") from None
