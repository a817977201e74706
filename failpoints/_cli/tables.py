"""Statuses as tables: one for a person at a terminal, and plain columns for everything else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .._core.formatting import describe_actions
from .._core.status import FailpointStatus, Waiting
from .terminal import lasting, printable

NOTHING = "no failpoint is configured"

_HEADINGS: tuple[str, ...] = ("failpoint", "actions", "matchers", "hits", "misses", "triggers", "waiting")
_NUMBERS = {"hits", "misses", "triggers"}
_STYLES = {"failpoint": "cyan", "waiting": "yellow"}
_GAP = 2  # columns between two cells


class _Row(NamedTuple):
    """A status as texts that may go to a terminal; the fields are those of `_HEADINGS`."""

    name: str
    actions: str
    matchers: str
    hits: str
    misses: str
    triggers: str
    waiting: str


def terminal() -> Console | None:
    """The console for tables that move and shine; `None` where the output is plain text."""
    if not sys.stdout.isatty():  # whatever FORCE_COLOR says to rich
        return None
    console = Console(highlight=False)
    return None if console.is_dumb_terminal else console


def plain_lines(statuses: Sequence[FailpointStatus], now: datetime) -> Iterator[str]:
    """The lines of a table without colour, as wide as it needs to be; an empty cell is `-`."""
    cells: list[Sequence[str]] = [_HEADINGS]
    cells += [[cell or "-" for cell in _row(status, now)] for status in statuses]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        yield "  ".join(map(_padded, _HEADINGS, line, widths)).rstrip()


def _padded(heading: str, cell: str, width: int) -> str:
    space = " " * (width - cell_len(cell))
    return space + cell if heading in _NUMBERS else cell + space


def table(statuses: Sequence[FailpointStatus], now: datetime, width: int) -> Table:
    """The table for a terminal of so many columns; matchers and misses are in it where there are matchers.

    Where not everything of a failpoint fits beside its name, what is no number stands in one column, line by line.
    """
    rows = [_row(status, now) for status in statuses]
    left_out = set[str]() if any(row.matchers for row in rows) else {"matchers", "misses"}
    headings = [heading for heading in _HEADINGS if heading not in left_out]
    cells = [dict(zip(_HEADINGS, row, strict=True)) for row in rows]
    widths = {heading: max(map(cell_len, (heading, *(row[heading] for row in cells)))) for heading in headings}
    if sum(widths.values()) + _GAP * (len(headings) - 1) <= width:
        return _beside(cells, headings)
    return _below(cells, [heading for heading in headings if heading in _NUMBERS], width)


def _beside(rows: Sequence[dict[str, str]], headings: Sequence[str]) -> Table:
    shown = _empty_table()
    for heading in headings:
        shown.add_column(heading, justify="right" if heading in _NUMBERS else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*(_styled(heading, row[heading]) for heading in headings))
    return shown


def _below(rows: Sequence[dict[str, str]], numbers: Sequence[str], width: int) -> Table:
    shown = _empty_table()
    shown.add_column("failpoint", overflow="fold", max_width=max(width * 2 // 5, 8))
    for heading in numbers:
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("actions", overflow="fold")
    for row in rows:
        where = f"where {row['matchers']}" if row["matchers"] else ""
        lines = [("actions", row["actions"]), ("matchers", where), ("waiting", row["waiting"])]
        shown.add_row(
            _styled("failpoint", row["failpoint"]),
            *(_styled(heading, row[heading]) for heading in numbers),
            Text("\n").join(_styled(heading, line) for heading, line in lines if line),
        )
    return shown


def _empty_table() -> Table:
    return Table(box=SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")


def _styled(heading: str, cell: str) -> Text:
    if heading in _NUMBERS:
        return Text(cell, "dim" if cell == "0" else "")
    return Text(cell, _STYLES.get(heading, ""))


def _row(status: FailpointStatus, now: datetime) -> _Row:
    return _Row(
        printable(status.name),
        printable(describe_actions(status.actions)) if status.actions else "",
        ", ".join(printable(f"{key}={value}") for key, value in (status.matchers or {}).items()),
        str(status.hits),
        str(status.misses),
        str(status.triggers),
        _who(status.waiting, now),
    )


def _who(waiting: Iterable[Waiting], now: datetime) -> str:
    """`Task-3 for 4.2 s`, or `3 tasks, the first for 4.2 s`."""
    tasks = sorted(waiting, key=lambda each: each.since)
    if not tasks:
        return ""
    lasted = lasting((now - tasks[0].since).total_seconds())
    who = printable(tasks[0].name) if len(tasks) == 1 else f"{len(tasks)} tasks, the first"
    return f"{who} for {lasted}"


@contextmanager
def live(console: Console) -> Generator[Callable[[Sequence[FailpointStatus], str | None], None]]:
    """A table that stays in its place: call what this gives to show another state of it, or why there is none."""
    display = Live(console=console, auto_refresh=False)

    def show(statuses: Sequence[FailpointStatus], trouble: str | None) -> None:
        display.update(_state(statuses, trouble, console.width))
        display.start()  # not before there is something to show; once it runs, this does nothing
        display.refresh()

    try:
        yield show
    finally:
        display.stop()


def _state(statuses: Sequence[FailpointStatus], trouble: str | None, width: int) -> Table | Text:
    if trouble is not None:
        return Text("\n".join(map(printable, trouble.split("\n"))), "red")
    return table(statuses, datetime.now(UTC), width) if statuses else Text(NOTHING, "dim")
