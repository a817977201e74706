"""The command `python tests/benchmarks`: it runs, keeps its figures and compares them. No figure is tested."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
PAGES = [FOLDER.parents[1] / "docs" / name for name in ("costs.md", "fleet.md")]


def benchmarks(*arguments: str | Path, timeout: float = 60) -> list[str]:
    """Run the command and return the lines that it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
    command = [sys.executable, str(FOLDER), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def saved(path: Path, *rows: tuple[str, str, str, float | None, float], python: str = "CPython 3.11.7") -> Path:
    """Write a file as `--json` does."""
    keys = ("what", "against", "unit", "limit", "value", "quartiles")
    results = {
        "python": python,
        "failpoints": "0.1.0",
        "date": "2026-11-27T14:00:00Z",
        "rows": [dict(zip(keys, (*row, (row[-1], row[-1])), strict=True)) for row in rows],
    }
    path.write_text(json.dumps(results), encoding="utf-8")
    return path


def labels(markdown: list[str]) -> list[list[str]]:
    """Return the first two cells of each row of the tables, without the lines of dashes."""
    cells = [re.split(r" *\| *", line)[1:3] for line in markdown if line.startswith("|")]
    return [row for row in cells if row != ["---", "---"]]


def test_a_run_prints_its_table_and_writes_its_figures(tmp_path: Path) -> None:
    """The file has the versions, the date, and for each row that was measured its limit, median and quartiles."""
    file = tmp_path / "figures.json"
    lines = benchmarks("--rounds", "3", "--only", "a decorated async function", "--json", file)
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    assert results["python"] == f"{platform.python_implementation()} {platform.python_version()}"
    assert results["failpoints"] == version("failpoints")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", results["date"])
    rows = results["rows"]
    assert [(row["what"], row["against"], row["unit"], row["limit"]) for row in rows] == [
        ("a decorated async function", "the same undecorated", "", 1.05),
        ("a decorated async function, something else configured", "the same undecorated", "", 1.05),
        ("a decorated async function, configured and removed", "the same undecorated", "", 1.05),
    ]
    for row, line in zip(rows, lines[2:], strict=True):
        low, high = row["quartiles"]
        assert 0 < low <= row["value"] <= high
        assert line.startswith(row["what"])


def test_the_table_marks_what_is_over_its_limit(tmp_path: Path) -> None:
    """A figure that is shown as its limit is within it. Without a limit there is no mark."""
    file = saved(
        tmp_path / "figures.json",
        ("fast", "it", "", 1.05, 1.0549),
        ("slow", "it", "", 1.05, 1.0551),
        ("free", "it", "", None, 99.0),
    )
    marks = {line.split()[0]: line.endswith("MISSED") for line in benchmarks(file)[2:]}
    assert marks == {"fast": False, "slow": True, "free": False}


def test_a_comparison_shows_each_row_as_a_ratio_to_the_earlier_build(tmp_path: Path) -> None:
    """Rows that only one of the files has are listed, too, and both builds are named."""
    now = saved(tmp_path / "now.json", ("kept", "it", "", 3.0, 2.0), ("new", "", "ms", None, 1.0))
    then = saved(tmp_path / "then.json", ("kept", "it", "", 3.0, 8.0), ("gone", "it", "", 3.0, 1.0), python="PyPy 3.12")
    lines = [line.split() for line in benchmarks(now, "--against", then)]
    assert [lines[0][1], lines[1][1]] == ["CPython", "PyPy"]
    assert lines[3:] == [
        ["kept", "it", "8.00", "2.00", "0.25"],
        ["new", "ms", "only", "now"],
        ["gone", "it", "only", "earlier"],
    ]


def test_a_run_can_be_compared_with_an_earlier_one(tmp_path: Path) -> None:
    """The same command measures and compares."""
    earlier = saved(tmp_path / "earlier.json", ("`if FLAG:` around a call", "the coroutine without it", "", None, 1.0))
    line = benchmarks("--rounds", "1", "--only", "FLAG", "--against", earlier)[-1]
    assert re.fullmatch(r"`if FLAG:` around a call +the coroutine without it +1\.00 +(\d+\.\d\d) +\1", line)


def test_the_tables_of_the_pages_have_the_rows_of_the_benchmarks() -> None:
    """A row is added to both, removed from both, or renamed in both."""
    parts = [part for page in PAGES for part in page.read_text(encoding="utf-8").split("\n\n")]
    tables = [part for part in parts if part.startswith("| what | compared with |")]
    assert labels("\n".join(tables).splitlines()) == labels(benchmarks("--markdown"))


def test_the_tables_have_a_column_for_each_file(tmp_path: Path) -> None:
    """A row that a file does not have has an empty cell."""
    files = [
        saved(
            tmp_path / f"{minor}.json", (what, "the coroutine without it", "", None, 1.0), python=f"CPython 3.{minor}.9"
        )
        for minor, what in ((11, "`if FLAG:` around a call"), (15, "`if BANNER:` around a call"))
    ]
    lines = benchmarks("--markdown", *files)
    assert "| what | compared with | 3.11 | 3.15 |" in lines
    assert "| `if FLAG:` around a call | the coroutine without it | 1.00 |  |" in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.json"], "argument FILE: missing.json cannot be read: No such file or directory"),
        (["--against", "list.json"], "argument --against: list.json is not a file that --json has written"),
        (["text.json"], "argument FILE: text.json is not a file that --json has written"),
        (["--rounds", "0"], "argument --rounds: expected a whole number of 1 or more; got '0'"),
        (["--only", "zzz"], "no row contains 'zzz': --markdown lists them, and --all adds the slow ones"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], message: str, tmp_path: Path) -> None:
    """It is found before anything is measured."""
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "text.json").write_text("figures")
    command = [sys.executable, str(FOLDER), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, f"python tests/benchmarks: error: {message}")


@pytest.mark.slow
def test_every_row_can_be_measured(tmp_path: Path) -> None:
    """Only rows of packages that are not installed may be missing."""
    file = tmp_path / "figures.json"
    benchmarks("--all", "--rounds", "1", "--json", file, timeout=300)
    measured = {row["what"] for row in json.loads(file.read_text(encoding="utf-8"))["rows"]}
    listed = {what for what, _ in labels(benchmarks("--markdown"))} - {"what"}
    missing = {what for what in listed if what.rpartition(", in ")[0] not in measured and what not in measured}
    assert all("`ordeal`" in what or "`fault-injection`" in what for what in missing), missing
