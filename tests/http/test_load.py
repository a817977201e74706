"""The load test of `tests/benchmarks/http_load.py`, with less load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOAD = Path(__file__).parents[1] / "benchmarks" / "http_load.py"


@pytest.mark.parametrize(
    ("requests", "tasks", "options"),
    [
        (80, 80, ["--max-growth=1"]),  # too short for the memory to settle
        pytest.param(400, 200, [], marks=pytest.mark.slow),
    ],
    ids=["small", "full"],
)
def test_eight_clients_configure_while_tasks_wait(requests: int, tasks: int, options: list[str]) -> None:
    """Eight clients get only right answers, every waiter is woken, nothing is logged, and memory does not grow."""
    command = [sys.executable, str(LOAD), "--requests", str(requests), "--tasks", str(tasks), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = dict(line.split(":", 1) for line in done.stdout.splitlines()[1:])
    assert lines["configure requests"].strip() == str(requests)
    assert lines["waits ended by a task"].strip() == str(requests * 6 // 10)
    assert lines["tasks finished"].strip() == str(tasks)
