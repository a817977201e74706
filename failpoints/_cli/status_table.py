"""Statuses as tables: a styled one for a terminal, and plain columns for everything else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .._core.elapsed import waited
from .._core.formatting import describe_actions
from .._core.status import FailpointStatus, Waiting
from .text import printable, shown_sites

NOTHING = "no failpoint is configured"

_HEADINGS: tuple[str, ...] = ("failpoint", "actions", "matchers", "hits", "misses", "triggers", "waiting", "sites")
_NUMBERS = {"hits", "misses", "triggers"}
_STYLES = {"failpoint": "cyan", "waiting": "yellow"}
_GAP = 2  # columns between two cells
_MOST_WAITING = 10  # lines for tasks and threads that wait


class _Row(NamedTuple):
    """A status as cells that are safe to print, in the order of `_HEADINGS`."""

    name: str
    actions: str
    matchers: str
    hits: str
    misses: str
    triggers: str
    waiting: str
    sites: str


def terminal() -> Console | None:
    """Return the console for styled tables, or `None` if stdout is not a terminal that can show them."""
    if not sys.stdout.isatty():  # rich would also believe FORCE_COLOR
        return None
    console = Console(highlight=False)
    return None if console.is_dumb_terminal else console


def plain_lines(statuses: Sequence[FailpointStatus], now: datetime, *, sites: bool = False) -> Iterator[str]:
    """Yield the lines of a table without colour, as wide as its cells need. An empty cell is `-`."""
    columns = len(_HEADINGS) if sites else len(_HEADINGS) - 1
    rows: list[Sequence[str]] = [_HEADINGS[:columns]]
    rows += [[cell or "-" for cell in row[:columns]] for row in _rows(statuses, now)]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(map(_padded, _HEADINGS, row, widths)).rstrip()


def _padded(heading: str, cell: str, width: int) -> str:
    space = " " * (width - cell_len(cell))
    return space + cell if heading in _NUMBERS else cell + space


def table(statuses: Sequence[FailpointStatus], now: datetime, width: int, *, sites: bool = False) -> Table:
    """Return a table for a terminal of *width* columns, with or without the sites.

    Matchers and misses are left out if no failpoint has matchers. If a row does not fit into one line, its actions,
    matchers, waiting tasks and sites are stacked in one column.
    """
    rows = list(_rows(statuses, now))
    left_out = set[str]() if any(row.matchers for row in rows) else {"matchers", "misses"}
    left_out |= set() if sites else {"sites"}
    headings = [heading for heading in _HEADINGS if heading not in left_out]
    cells = [dict(zip(_HEADINGS, row, strict=True)) for row in rows]
    widths = {heading: max(map(cell_len, (heading, *(row[heading] for row in cells)))) for heading in headings}
    if sum(widths.values()) + _GAP * (len(headings) - 1) <= width:
        return _wide_table(cells, headings)
    return _stacked_table(cells, [heading for heading in headings if heading in _NUMBERS], width, sites)


def _wide_table(rows: Sequence[dict[str, str]], headings: Sequence[str]) -> Table:
    result = _empty_table()
    for heading in headings:
        result.add_column(heading, justify="right" if heading in _NUMBERS else "left", no_wrap=True)
    for row in rows:
        result.add_row(*(_styled(heading, row[heading]) for heading in headings))
    return result


def _stacked_table(rows: Sequence[dict[str, str]], numbers: Sequence[str], width: int, sites: bool) -> Table:
    result = _empty_table()
    result.add_column("failpoint", overflow="fold", max_width=max(width * 2 // 5, 8))
    for heading in numbers:
        result.add_column(heading, justify="right", no_wrap=True)
    result.add_column("actions", overflow="fold")
    for row in rows:
        where = f"where {row['matchers']}" if row["matchers"] else ""
        lines = [("actions", row["actions"]), ("matchers", where), ("waiting", row["waiting"])]
        lines += [("sites", f"at {row['sites']}" if row["sites"] else "")] if sites else []
        result.add_row(
            _styled("failpoint", row["failpoint"]),
            *(_styled(heading, row[heading]) for heading in numbers),
            Text("\n").join(_styled(heading, line) for heading, line in lines if line),
        )
    return result


def _empty_table() -> Table:
    return Table(box=SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")


def _styled(heading: str, cell: str) -> Text:
    if heading in _NUMBERS:
        return Text(cell, "dim" if cell == "0" else "")
    return Text(cell, _STYLES.get(heading, ""))


def _rows(statuses: Iterable[FailpointStatus], now: datetime) -> Iterator[_Row]:
    """Yield a row for each configuration of each failpoint, and one for a failpoint that is not configured."""
    for status in statuses:
        for each in status.configurations or (status,):
            yield _row(replace(each, sites=status.sites), now)


def _row(status: FailpointStatus, now: datetime) -> _Row:
    return _Row(
        printable(status.name),
        printable(describe_actions(status.actions)) if status.actions else "",
        ", ".join(printable(f"{key}={value}") for key, value in (status.matchers or {}).items()),
        str(status.hits),
        str(status.misses),
        str(status.triggers),
        _waiting(status.waiting, now),
        printable(shown_sites(status.sites)),
    )


def _waiting(waiting: Iterable[Waiting], now: datetime) -> str:
    """Return `Task-3 for 4.2 s`, or `3 tasks, the first for 4.2 s`."""
    tasks = sorted(waiting, key=lambda each: each.since)
    if not tasks:
        return ""
    subject = printable(tasks[0].name) if len(tasks) == 1 else f"{len(tasks)} tasks, the first"
    return f"{subject} for {waited(tasks[0], now)}"


@contextmanager
def live(console: Console) -> Generator[Callable[[Sequence[FailpointStatus], str | None], None]]:
    """Show a table that is updated in place. The block gets a function that shows statuses, or an error message."""
    display = Live(console=console, auto_refresh=False)

    def show(statuses: Sequence[FailpointStatus], problem: str | None) -> None:
        display.update(_content(statuses, problem, console))
        display.start()  # only now, so that nothing is drawn if the first request fails; later calls do nothing
        display.refresh()

    try:
        yield show
    finally:
        display.stop()


def _content(statuses: Sequence[FailpointStatus], problem: str | None, console: Console) -> RenderableType:
    if problem is not None:
        return Text("\n".join(map(printable, problem.split("\n"))), "red")
    configured = [status for status in statuses if status.actions]
    if not configured:
        return Text("\n".join(declared_lines(statuses, most=max(console.height - 5, 1))), "dim")
    now = datetime.now(UTC)
    waiters = [Text(line, _STYLES["waiting"]) for line in waiting_lines(configured, now)]
    return Group(table(configured, now, console.width), *waiters)


def waiting_lines(statuses: Iterable[FailpointStatus], now: datetime) -> list[str]:
    """Return a line for each task and thread that waits, with its context. Of many, those that have waited longest."""
    waiting = [(each, status.name) for status in statuses for each in status.waiting]
    waiting.sort(key=lambda pair: pair[0].since)
    lines: list[str] = []
    for each, name in waiting[:_MOST_WAITING]:
        context = ", ".join(f"{key}={value!r}" for key, value in each.context.items())
        member: str | None = getattr(each, "member", None)  # of a fleet
        task = each.name if member is None else f"{each.name} in {member}"
        lines.append(printable(f"{task} at {name} for {waited(each, now)}{': ' if context else ''}{context}"))
    more = len(waiting) - len(lines)
    return [*lines, f"and {more} more"] if more else lines


def declared_lines(declared: Sequence[FailpointStatus], *, most: int) -> list[str]:
    """Return what there is to configure while nothing is configured: at most so many names, with their sites."""
    if not declared:
        return [NOTHING]
    width = max(cell_len(printable(status.name)) for status in declared[:most])
    lines = [f"{NOTHING}: failpoints set NAME ACTIONS", f"the program declares {len(declared)}:"]
    for status in declared[:most]:
        name = printable(status.name)
        lines.append(f"  {name}{' ' * (width - cell_len(name))}  {printable(shown_sites(status.sites))}".rstrip())
    more = len(declared) - most
    return [*lines, f"  and {more} more"] if more > 0 else lines
