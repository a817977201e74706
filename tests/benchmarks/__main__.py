"""Measure what failpoints cost.

    python tests/benchmarks [--all] [--only TEXT] [--rounds N] [--json FILE] [--against FILE]
    python tests/benchmarks FILE [--against FILE]
    python tests/benchmarks --markdown [FILE...]

The first form measures and prints a table: most figures are ratios of two sides that are timed in turn. The second form
shows what an earlier run has written with --json, the third one prints the tables of docs/costs.md and docs/fleet.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import alternatives
import configured
import fleets
import many
import middlewares
import off
import processes
from measure import Row
from results import Figure, Results, comparison, markdown, table

# Each group is a table of docs/costs.md, and the last one that of docs/fleet.md.
GROUPS: list[list[Row]] = [
    [*off.ROWS, *middlewares.ROWS, *processes.ROWS],
    [*configured.ROWS, *many.ROWS],
    alternatives.ROWS,
    fleets.ROWS,
]


def measured(rows: list[Row], rounds: int) -> list[Figure]:
    """Measure the rows, except those of packages that are not installed."""
    figures: list[Figure] = []
    for row in rows:
        if sys.stderr.isatty():
            print(f"\033[2K{row.what}", end="\r", file=sys.stderr)
        try:
            figures.append(Figure.of(row, row.measure(rounds)))
        except ModuleNotFoundError as error:
            print(f"not measured: {row.what} ({error})", file=sys.stderr)
    return figures


def saved_results(path: str) -> Results:
    """Read the results in a file, for the parser."""
    try:
        return Results.read(Path(path))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError):  # which ill-formed JSON raises
        raise argparse.ArgumentTypeError(f"{path} is not a file that --json has written") from None


def number_of_rounds(text: str) -> int:
    """Read a number of rounds, for the parser."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more; got {text!r}")
    return int(text)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python tests/benchmarks", description="Measure what failpoints cost.")
    parser.add_argument(
        "files", nargs="*", type=saved_results, metavar="FILE", help="show these results, and measure nothing"
    )
    parser.add_argument("--all", action="store_true", help="measure the slow rows too: the pytest plugin")
    parser.add_argument("--only", default="", metavar="TEXT", help="measure only the rows that contain this text")
    parser.add_argument("--rounds", type=number_of_rounds, default=60, metavar="N", help="the rounds of each row (60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to a file")
    parser.add_argument("--against", type=saved_results, metavar="FILE", help="compare with the results in this file")
    parser.add_argument(
        "--markdown", action="store_true", help="print the tables of the documentation, with these results"
    )
    return parser


def main() -> None:
    given = parser().parse_args()
    if given.markdown:
        print(*markdown(GROUPS, given.files), sep="\n")
        return
    all_results: list[Results] = given.files
    if not all_results:
        rows = [row for group in GROUPS for row in group if given.only in row.what and (given.all or not row.slow)]
        if not rows:
            parser().error(f"no row contains {given.only!r}: --markdown lists them, and --all adds the slow ones")
        all_results = [Results.of_this_build(measured(rows, given.rounds))]
        if given.json:
            all_results[0].write(given.json)
    for results in all_results:
        print(*(comparison(results, given.against) if given.against else table(results)), sep="\n")


if __name__ == "__main__":
    main()
