"""Charts of the figures in the documentation.

pip install matplotlib && python -m tests.docs.charts
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, TypeAlias

import anyio

from failpoints import failpoint
from failpoints.explore import Run, explore

DOCS = Path(__file__).parents[2] / "docs"

BLUE, ORANGE, GREY = "#1565c0", "#ef6c00", "#757575"

Figures: TypeAlias = dict[str, dict[str, float]]
"""The figures of each row of a chart, by the name of their series."""


def of_tables(page: str, rows: dict[str, str]) -> Figures:
    """Return figures of the tables of *page*, by version of Python. *rows* maps theirs to the names in the chart."""
    found: Figures = {}
    versions: list[str] = []
    for line in (DOCS / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if cells[:2] == ["what", "compared with"]:
            versions = cells[2:]
        elif cells and cells[0] in rows:
            label = rows[cells[0]]
            found[label] = {version: float(cell) for version, cell in zip(versions, cells[2:], strict=True) if cell}
    return {label: found[label] for label in rows.values()}


def of_reduction() -> Figures:
    """Return how many runs explore tasks that visit twice, where two at a time touch the same account."""

    def scenario(accounts: str) -> Callable[[Run], Coroutine[Any, Any, None]]:
        async def deposit(account: str) -> None:
            site = failpoint("deposit", context={"account": account}, writes=("account:{account}",))
            await site
            await site

        async def deposits(run: Run) -> None:
            async with run.injecting(), anyio.create_task_group() as tasks:
                for account in accounts:
                    tasks.start_soon(deposit, account)

        return deposits

    return {
        f"{tasks} tasks": {
            "every order": math.factorial(2 * tasks) // 2**tasks,
            'reduction="declared"': explore(scenario("AABBCC"[:tasks]), interleavings=True, reduction="declared").runs,
        }
        for tasks in range(2, 7)
    }


def of_tools() -> Figures:
    """Return the runs of the tools in the table of docs/threads.md that have finished two problems."""
    found: Figures = {}
    for line in (DOCS / "threads.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        runs = [re.match(r"([\d,]+) runs, ", cell) for cell in cells]
        if len(cells) == 4 and runs[1] and runs[3]:
            found[cells[0]] = {
                "until the lost update is found": int(runs[3][1].replace(",", "")),
                "every order of 2 locked threads": int(runs[1][1].replace(",", "")),
            }
    return found


@dataclass(frozen=True)
class Chart:
    """A chart of bars. The first *blue* rows have another colour than the rest; two series have a colour each."""

    page: str
    title: str
    axis: str
    figures: Callable[[], Figures]
    blue: int = 0
    logarithmic: bool = False


TIMES = "times the time, on Python 3.11 (light) to 3.15 (dark); the number is the highest"

CHARTS = {
    "cost-off": Chart(
        "costs.md",
        "While nothing is configured: the time of a call, compared with the same code without a failpoint",
        TIMES,
        partial(
            of_tables,
            "costs.md",
            {
                "a decorated async function": "decorated async function",
                "a decorated async method": "decorated async method",
                "an instrumented async function": "instrumented async function",
                "`async with failpoint_scope`": "async with failpoint_scope",
                '`await failpoint("x")`': 'await failpoint("x")',
                '`failpoint("x").hit()`': 'failpoint("x").hit()',
            },
        ),
        blue=4,
    ),
    "cost-alternatives": Chart(
        "costs.md",
        "What one could use instead, compared with the same code without it",
        TIMES,
        partial(
            of_tables,
            "costs.md",
            {
                "a decorated async function": "@failpoint, off",
                "`if FLAG:` around a call": "if FLAG:",
                "a `functools.wraps` wrapper that looks its name up in a dict": "a wrapper with a dict",
                "`@raise_at_nth_call(…, disable=True)` of `fault-injection`": "fault-injection, off",
                "`if buggify():` of `ordeal`": "ordeal, off",
                "`mock.patch`, in force": "mock.patch, in force",
            },
        ),
        blue=1,
        logarithmic=True,
    ),
    "fleet-latency": Chart(
        "fleet.md",
        "From configure() until 8 processes have acknowledged it, on a busy machine",
        "milliseconds, on Python 3.11 (light) to 3.15 (dark); the number is the highest",
        partial(
            of_tables,
            "fleet.md",
            {
                "configured and acknowledged by 8 processes, in ms": "median",
                "configured and acknowledged by 8 processes, p99, in ms": "p99",
            },
        ),
        blue=2,
    ),
    "reduction": Chart(
        "explanation/exhaustive.md",
        "Tasks with two visits each, where two at a time write to the same account",
        "runs",
        of_reduction,
        logarithmic=True,
    ),
    "threads-beside-others": Chart(
        "threads.md",
        "Two threads that count, on their own and behind a lock",
        "runs",
        of_tools,
        logarithmic=True,
    ),
}


def drawn(chart: Chart) -> str:
    """Return the chart as an SVG. Its metadata has the figures."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "failpoints"
    matplotlib.rcParams["font.size"] = 9
    rows = chart.figures()
    series = list(next(iter(rows.values())))
    thickness = 0.75 / len(series)
    picture, axes = pyplot.subplots(figsize=(8, 0.55 * len(rows) + 1))
    for number, name in enumerate(series):
        if len(series) == 2:
            look: dict[str, Any] = {"color": (GREY, BLUE)[number], "label": name}
        else:
            colours = [BLUE if place < chart.blue else ORANGE for place in range(len(rows))]
            look = {"color": colours, "alpha": 0.4 + 0.6 * number / (len(series) - 1)}
        places = [place + (number - (len(series) - 1) / 2) * thickness for place in range(len(rows))]
        values = [row[name] for row in rows.values()]
        axes.barh(places, values, height=thickness * 0.93, **look)
        if len(series) == 2:
            for place, value in zip(places, values, strict=True):
                axes.text(value, place, f" {value:,}", va="center", color=GREY, fontsize=8)
    if len(series) == 2:
        axes.legend(frameon=False, loc="upper right")
    else:
        for place, row in enumerate(rows.values()):
            axes.text(max(row.values()), place, f"  {max(row.values()):g}", va="center", color=GREY)
    if chart.logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(0.8, 2.5 * max(max(row.values()) for row in rows.values()))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if chart.axis == TIMES:
        axes.axvline(1, color=GREY, linewidth=0.8)
    axes.set_yticks(range(len(rows)), labels=list(rows))
    axes.invert_yaxis()
    axes.set_title(chart.title, fontsize=9)
    axes.set_xlabel(chart.axis)
    axes.spines[["top", "right"]].set_visible(False)
    picture.tight_layout()
    text = StringIO()
    picture.savefig(text, format="svg", metadata={"Date": None, "Description": json.dumps(rows)})
    pyplot.close(picture)
    return re.sub(r" +$", "", text.getvalue(), flags=re.MULTILINE)


def main() -> None:
    """Write all charts."""
    for name, chart in CHARTS.items():
        (DOCS / "images" / f"{name}.svg").write_text(drawn(chart), encoding="utf-8")


if __name__ == "__main__":
    main()
