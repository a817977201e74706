"""The results of a run: the table that is printed, the file that keeps them, and the comparison of two."""

from __future__ import annotations

import json
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Self

from measure import Row


@dataclass(frozen=True)
class Figure:
    """The result of one row: the median of its rounds, and the quartiles."""

    what: str
    against: str
    unit: str
    limit: float | None
    value: float
    quartiles: tuple[float, float]

    @classmethod
    def of(cls, row: Row, rounds: Sequence[float]) -> Self:
        low, value, high = statistics.quantiles(rounds, n=4, method="inclusive") if len(rounds) > 1 else [*rounds] * 3
        return cls(row.what, row.against, row.unit, row.limit, value, (low, high))

    @property
    def key(self) -> tuple[str, str]:
        return self.what, self.against

    @property
    def misses_limit(self) -> bool:
        return self.limit is not None and round(self.value, 2) > self.limit


@dataclass(frozen=True)
class Results:
    """The figures of one build on one Python."""

    python: str
    failpoints: str
    date: str
    rows: list[Figure]

    @classmethod
    def of_this_build(cls, rows: list[Figure]) -> Self:
        python = f"{platform.python_implementation()} {sys.version.split()[0]}"
        return cls(python, version("failpoints"), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", rows)

    @classmethod
    def read(cls, path: Path) -> Self:
        saved = json.loads(path.read_text(encoding="utf-8"))
        rows = [Figure(**{**row, "quartiles": tuple(row["quartiles"])}) for row in saved.pop("rows")]
        return cls(**saved, rows=rows)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def __str__(self) -> str:
        return f"{self.python}, failpoints {self.failpoints}, {self.date}"


def table(results: Results) -> Iterable[str]:
    """Yield the lines of the table: each figure with its limit, and a mark where it is over the limit."""
    yield str(results)
    yield f"{'what':<68} {'against':<34} {'limit':>8} {'median':>9}  half of the rounds"
    for row in results.rows:
        low, high = (shown(quartile) for quartile in row.quartiles)
        mark = "MISSED" if row.misses_limit else ""
        limit = "" if row.limit is None else f"{row.limit:g}"
        figure = shown(row.value)
        yield f"{row.what:<68} {row.against or row.unit:<34} {limit:>8} {figure:>9}  {low} to {high}  {mark}".rstrip()


def comparison(results: Results, earlier: Results) -> Iterable[str]:
    """Yield the lines of a comparison: each figure as a ratio to that of an earlier build."""
    then = {row.key: row for row in earlier.rows}
    now = {row.key: row for row in results.rows}
    yield f"now:     {results}"
    yield f"earlier: {earlier}"
    yield f"{'what':<68} {'against':<34} {'earlier':>9} {'now':>9} {'ratio':>7}"
    for key in (*now, *(key for key in then if key not in now)):
        what, against = key
        if key in then and key in now:
            before, after = then[key].value, now[key].value
            rest = f"{shown(before):>9} {shown(after):>9} {after / before:>7.2f}"
        else:
            rest = "only now" if key in now else "only earlier"
        yield f"{what:<68} {against or (now.get(key) or then[key]).unit:<34} {rest}"


def markdown(groups: Iterable[Sequence[Row]], all_results: Sequence[Results]) -> Iterable[str]:
    """Yield the tables of the documentation: one for each group of rows, with a column for each of the results."""
    pythons = [results.python.split()[-1].rpartition(".")[0] for results in all_results]
    values = [{row.key: shown(row.value) for row in results.rows} for results in all_results]
    for rows in groups:
        yield markdown_row("what", "compared with", *pythons)
        yield "|---" * (2 + len(pythons)) + "|"
        for row in rows:
            figures = (each.get((row.what, row.against), "") for each in values)
            yield markdown_row(f"{row.what}, in {row.unit}" if row.unit else row.what, row.against, *figures)
        yield ""


def markdown_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def shown(value: float) -> str:
    """Return a figure with as many digits as can be told apart."""
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"
