"""The examples of exploration: six programs with a bug, and their fixed versions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from examples.exploration.__main__ import PROGRAMS
from failpoints.explore import ExplorationFailed, explore

ROOT = Path(__file__).parents[2]
EXPECTED: dict[str, tuple[str, int, str]] = {
    "settings": ("error", 2, "AssertionError: the file holds ''"),
    "transfer": ("error", 3, "AssertionError: the accounts hold 90"),
    "stock": ("error", 2, "AssertionError: 2 of 10 are sold, and 10 are left"),
    "locks": ("deadlock", 1, "deadlock: every task is waiting"),
    "threads": ("error", 4, "AssertionError: 2 customers have bought the only item"),
    "pool": ("error", 3, "AssertionError: a connection is lost"),
}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(("title", "program", "given"), PROGRAMS, ids=[title for title, _, _ in PROGRAMS])
def test_each_program(title: str, program: Any, given: dict[str, Any], backend: Any) -> None:
    """The first version fails as expected within a few runs. The second version passes every run."""
    kind, runs, summary = EXPECTED[program.__name__.rpartition(".")[2]]
    with pytest.raises(ExplorationFailed) as failed:
        explore(program.first, backend=backend, **given)
    assert failed.value.failure.kind == kind
    assert failed.value.failure.summary.startswith(summary)
    assert failed.value.exploration.runs <= runs
    with pytest.raises(ExplorationFailed):
        explore(program.first, backend=backend, **given, replay=failed.value.replay)
    exploration = explore(program.second, backend=backend, **given)
    assert exploration.exhaustive
    assert exploration.runs > 1


def test_the_demo() -> None:
    """The demo shows the timeline of each program, and the number of runs."""
    ran = subprocess.run(
        [sys.executable, "-m", "examples.exploration"],
        cwd=ROOT, capture_output=True, encoding="utf-8", env={"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}, timeout=60,
        check=True,
    )  # fmt: skip
    assert ran.stderr == ""
    for title, _, _ in PROGRAMS:
        assert f"== {title}" in ran.stdout
    assert ran.stdout.count("repeat this run:") == ran.stdout.count("fixed: ") == len(PROGRAMS)
    assert "<- raise(ConnectionError) injected" in ran.stdout
    assert "the cycle: Ada to Grace → Grace to Ada → Ada to Grace" in ran.stdout
