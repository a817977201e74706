"""The report of a run: its visits counted, merged over several processes, and shown as a table or as JSON."""

from __future__ import annotations

import math
import os
import textwrap
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NotRequired, TypedDict

from .._core.actions import Action
from .._core.configuration import Configuration
from .._core.formatting import action_label
from .._core.known_sites import Location

_MAX_WIDTH = 60  # of the column of actions, in characters
_MIN_WIDTH = 12  # of a column whose texts are folded


class ReportedSite(TypedDict):
    """A site. *file* is relative to pytest's root folder, with `/`, or absolute if it lies elsewhere.

    An instrumented function without source has its import path in *file*, and 0 in *line*.
    """

    file: str
    line: int
    function: str


class Row(TypedDict):
    """A failpoint: its counts, how often each action ran, and its sites."""

    name: str
    hits: int
    misses: int
    triggers: int
    actions: dict[str, int]
    sites: list[ReportedSite]


class Document(TypedDict):
    """The JSON of a run.

    *incomplete* is the reason why rows are missing, if there is one. *processes* is the number of processes that the
    tests started, if there were any. *members* is the number of processes whose visits are counted beside those of the
    tests' own process, if the setting *failpoints_processes* is on.
    """

    version: int
    seed: int
    incomplete: NotRequired[str]
    processes: NotRequired[int]
    members: NotRequired[int]
    totals: dict[str, int]
    failpoints: list[Row]


class Tally:
    """Counts the visits of configured failpoints. Counts go on when a failpoint is reconfigured."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hits = Counter[str]()
        self._misses = Counter[str]()
        self._actions: dict[str, Counter[str]] = {}

    def __call__(self, configuration: Configuration, action: Action | None, matched: bool) -> None:
        """Count one visit."""
        name = configuration.name
        ran = None if action is None else action_label(action)
        with self._lock:
            (self._hits if matched else self._misses)[name] += 1
            if ran is not None:
                self._actions.setdefault(name, Counter())[ran] += 1

    def add(self, counts: Mapping[tuple[str, bool, str | None], int]) -> None:
        """Add what other processes have counted: by name, whether the context matched, and the label of the action."""
        with self._lock:
            for (name, matched, ran), count in counts.items():
                (self._hits if matched else self._misses)[name] += count
                if ran is not None:
                    self._actions.setdefault(name, Counter())[ran] += count

    def names(self) -> set[str]:
        """Return every name that was visited while it was configured."""
        with self._lock:
            return {*self._hits, *self._misses}

    def row(self, name: str, sites: Iterable[ReportedSite]) -> Row:
        """Return the counts of one failpoint."""
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


def rows_of_process(tally: Tally, declared: Mapping[str, Sequence[Location]], root: Path) -> list[Row]:
    """Return a row for each failpoint that is declared or was visited."""
    return [
        tally.row(name, sorted((_place(site, root) for site in declared.get(name, ())), key=_by_place))
        for name in sorted({*declared, *tally.names()})
    ]


def _place(site: Location, root: Path) -> ReportedSite:
    file = Path(site.file)
    inside = file.is_relative_to(root)
    return ReportedSite(
        file=file.relative_to(root).as_posix() if inside else os.fspath(file), line=site.line, function=site.function
    )


def _by_place(place: ReportedSite) -> tuple[str, int]:
    return place["file"], place["line"]


def merge(parts: Iterable[list[Row]]) -> list[Row]:
    """Merge the rows of several processes and sort them by name. Those never hit come first."""
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


def totals(rows: Sequence[Row]) -> dict[str, int]:
    """Return the sums over all rows."""
    hit = sum(row["hits"] > 0 for row in rows)
    return {
        "failpoints": len(rows),
        "hit": hit,
        "never_hit": len(rows) - hit,
        "hits": sum(row["hits"] for row in rows),
        "misses": sum(row["misses"] for row in rows),
        "triggers": sum(row["triggers"] for row in rows),
    }


def declared_and_never_hit(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of the failpoints that are declared and were never hit."""
    return [row for row in rows if row["sites"] and not row["hits"]]


def shortfall(rows: Sequence[Row], fail_under: float, incomplete: str | None) -> str | None:
    """Return why less than *fail_under* percent of the declared failpoints were hit, or `None` if enough were."""
    option = f"--failpoints-fail-under={fail_under:g}"
    if incomplete is not None:
        return f"{option} cannot be judged: {incomplete}"
    declared = sum(bool(row["sites"]) for row in rows)
    if not declared:
        return f"{option} cannot be judged: the imported modules declare no failpoint" if fail_under else None
    never_hit = declared_and_never_hit(rows)
    hit = declared - len(never_hit)
    if 100 * hit >= fail_under * declared:
        return None
    percentage = math.floor(1000 * hit / declared) / 10  # not rounded up to the limit
    return "\n".join(
        [
            f"{option}: {hit} of {declared} declared failpoints were hit ({percentage:g} %). Never hit:",
            *(f"  {row['name']}, declared at {_places(row)}" for row in never_hit),
        ]
    )


def to_document(rows: list[Row], seed: int, incomplete: str | None, processes: int, members: int | None) -> Document:
    """Return the content of the JSON file."""
    document = Document(version=1, seed=seed, totals=totals(rows), failpoints=rows)
    if incomplete is not None:
        document["incomplete"] = incomplete
    if processes:
        document["processes"] = processes
    if members is not None:
        document["members"] = members
    return document


def table_lines(rows: Sequence[Row], width: int) -> Iterator[tuple[str, bool]]:
    """Yield the lines of the table, each with whether its failpoint was never hit.

    Texts that would make the table wider than *width* are folded.
    """
    if not rows:
        yield "the imported modules declare no failpoint", False
        return
    cells = [("failpoint", "hits", "misses", "triggered", "declared at")]
    cells += [(row["name"], str(row["hits"]), str(row["misses"]), _triggered(row), _places(row)) for row in rows]
    name_width, hits_width, misses_width, triggered_width, places_width = _widths(cells, width)
    for index, (name, hits, misses, triggered, places) in enumerate(cells):
        folded = zip_longest(
            _folded(name, name_width),
            [f"{hits:>{hits_width}}  {misses:>{misses_width}}"],
            _folded(triggered, triggered_width),
            _folded(places, places_width),
            fillvalue="",
        )
        for name_part, counts, triggered_part, places_part in folded:
            line = (
                f"{name_part:<{name_width}}  {counts:<{hits_width + misses_width + 2}}"
                f"  {triggered_part:<{triggered_width}}  {places_part}"
            )
            yield line.rstrip(), index > 0 and rows[index - 1]["hits"] == 0
    sums = totals(rows)
    yield (
        (
            f"{sums['hit']} of {sums['failpoints']} failpoints hit, {sums['never_hit']} never hit:"
            f" hits {sums['hits']}, misses {sums['misses']}, triggers {sums['triggers']}"
        ),
        False,
    )


def _widths(cells: Sequence[tuple[str, ...]], available: int) -> list[int]:
    """Return the widths of the columns. The widest ones share what the others leave."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    excess = sum(widths) + 2 * (len(widths) - 1) - available
    while excess > 0 and max(widths) > _MIN_WIDTH:
        widest = widths.index(max(widths))
        widths[widest] -= 1
        excess -= 1
    return widths


def _folded(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)


def _triggered(row: Row) -> str:
    if not row["hits"]:
        return "never hit"
    text = ", ".join(f"{count} {action}" for action, count in row["actions"].items()) or "nothing"
    return text if len(text) <= _MAX_WIDTH else f"{text[:_MAX_WIDTH]}…"


def _places(row: Row) -> str:
    places = (f"{place['file']}:{place['line']}" if place["line"] else place["file"] for place in row["sites"])
    return ", ".join(places) or "a name made at run time"
