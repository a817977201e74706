"""The load of `tests/benchmarks/http_load.py`, in small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LOAD = Path(__file__).parents[1] / "benchmarks" / "http_load.py"


def test_eight_clients_configure_while_tasks_wait() -> None:
    """Eight clients that configure at once get right answers only, no task that waits is lost, and nobody complains."""
    command = [sys.executable, str(LOAD), "--requests", "400", "--tasks", "200"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = dict(line.split(":", 1) for line in done.stdout.splitlines()[1:])
    assert lines["configure requests"].strip() == "400"
    assert lines["waits that a task ended"].strip() == "240"
    assert lines["tasks at their end"].strip() == "200"
