"""What demos print that run two versions of a program with the same failpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from failpoints import format_actions, statuses

T = TypeVar("T")


def new_console() -> Console:
    """Return a console that prints lines as they are, and tables."""
    return Console(highlight=False, markup=False, soft_wrap=True)


def preset() -> str:
    """Return what FAILPOINTS has configured, as it is written there, or ""."""
    return ";".join(f"{status.name}={format_actions(status.actions)}" for status in statuses())


def show(console: Console, versions: Mapping[str, T], rows: Mapping[str, Callable[[T], object]]) -> None:
    """Print a table with a column for each version. *rows* has the title of each row, and what returns its cells."""
    table = Table("", *versions)
    for title, cell in rows.items():
        table.add_row(title, *(str(cell(version)) for version in versions.values()))
    console.print(table)


def show_hints(console: Console, never_hit: Iterable[str], hint: str) -> None:
    """Print which failpoints neither version has hit, and another configuration to try."""
    for name in sorted(never_hit):
        console.print(f"Failpoint {name} was never hit.")
    console.print(f"Another way to break it: {hint}")


def exit_status(first: str, second: str, *, is_preset: bool) -> int:
    """Return 1 if the verdicts on the versions are not those of the demo, unless FAILPOINTS has changed it."""
    return 0 if (first, second) == ("charged twice", "correct") or is_preset else 1
