"""Charts of the figures in docs/costs.md.

pip install matplotlib && python -m tests.docs.charts
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"

BLUE, ORANGE, GREY = "#1565c0", "#ef6c00", "#757575"


@dataclass(frozen=True)
class Chart:
    """Some rows of the tables, and the names that they have in the chart."""

    title: str
    rows: dict[str, str]
    logarithmic: bool = False


CHARTS = {
    "cost-off": Chart(
        "While nothing is configured: the time of a call, compared with the same code without a failpoint",
        {
            "a decorated async function": "decorated async function",
            "a decorated async method": "decorated async method",
            "an instrumented async function": "instrumented async function",
            "`async with failpoint_scope`": "async with failpoint_scope",
            '`await failpoint("x")`': 'await failpoint("x")',
            '`failpoint("x").hit()`': 'failpoint("x").hit()',
        },
    ),
    "cost-alternatives": Chart(
        "What one could use instead, compared with the same code without it",
        {
            "a decorated async function": "@failpoint, off",
            "`if FLAG:` around a call": "if FLAG:",
            "a `functools.wraps` wrapper that looks its name up in a dict": "a wrapper with a dict",
            "`@raise_at_nth_call(…, disable=True)` of `fault-injection`": "fault-injection, off",
            "`if buggify():` of `ordeal`": "ordeal, off",
            "`mock.patch`, in force": "mock.patch, in force",
        },
        logarithmic=True,
    ),
}


def figures(chart: Chart) -> dict[str, dict[str, float]]:
    """Return the figures of a chart's rows, by version of Python, as the tables of the page have them."""
    found: dict[str, dict[str, float]] = {}
    versions: list[str] = []
    for line in (DOCS / "costs.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[:2] == ["what", "compared with"]:
            versions = cells[2:]
        elif cells and cells[0] in chart.rows:
            label = chart.rows[cells[0]]
            found[label] = {version: float(cell) for version, cell in zip(versions, cells[2:], strict=True) if cell}
    return {label: found[label] for label in chart.rows.values()}


def drawn(chart: Chart) -> str:
    """Return the chart as an SVG. Its metadata has the figures."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "failpoints"
    matplotlib.rcParams["font.size"] = 9
    rows = figures(chart)
    versions = list(next(iter(rows.values())))
    picture, axes = pyplot.subplots(figsize=(8, 0.55 * len(rows) + 1))
    for place, values in enumerate(rows.values()):
        for number, version in enumerate(versions):
            shade = 0.4 + 0.6 * number / (len(versions) - 1)
            colour = BLUE if place < (1 if chart.logarithmic else 4) else ORANGE
            at = place + (number - (len(versions) - 1) / 2) * 0.15
            axes.barh(at, values[version], height=0.14, color=colour, alpha=shade)
        axes.text(max(values.values()) * 1.02, place, f" {max(values.values()):g}", va="center", color=GREY)
    axes.axvline(1, color=GREY, linewidth=0.8)
    if chart.logarithmic:
        axes.set_xscale("log")
        axes.set_xticks([1, 2, 5, 10, 50, 100], labels=["1", "2", "5", "10", "50", "100"])
        axes.set_xlim(0.8, 200)
    axes.set_yticks(range(len(rows)), labels=list(rows))
    axes.invert_yaxis()
    axes.set_title(chart.title, fontsize=9, loc="left", x=-0.2)
    axes.set_xlabel(
        f"times the time, on Python {versions[0]} (light) to {versions[-1]} (dark); the number is the highest"
    )
    axes.spines[["top", "right"]].set_visible(False)
    picture.tight_layout()
    text = StringIO()
    picture.savefig(text, format="svg", metadata={"Date": None, "Description": json.dumps(rows)})
    pyplot.close(picture)
    return text.getvalue()


def main() -> None:
    """Write all charts."""
    for name, chart in CHARTS.items():
        (DOCS / "images" / f"{name}.svg").write_text(drawn(chart), encoding="utf-8")


if __name__ == "__main__":
    main()
