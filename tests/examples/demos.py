"""Runs the demos that compare two versions of a program, and reads the tables that they print."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
OURS = ("FAILPOINTS", "FORCE_COLOR", "TTY_COMPATIBLE")  # variables that change the behaviour or the look of a demo


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with no variables of the library except these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    path = os.pathsep.join([str(ROOT), *sys.path])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=kept | {"PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", "COLUMNS": "120"} | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


def table(output: str) -> dict[str, list[str]]:
    """Return a demo's table: for each row's title, the cells of both versions."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if "│" in line]
    return {title: cells for title, *cells in rows}
