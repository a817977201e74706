"""The example of crashes: a store that loses data in four ways, and its fixed version."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples.crashes.__main__ import LOSING, explore_store
from examples.crashes.stores import Durable, Overwriting
from failpoints.explore import ExplorationFailed

ROOT = Path(__file__).parents[2]
EXPECTED = {
    "Overwriting": "JSONDecodeError: Expecting value",
    "Renaming": "JSONDecodeError: ",
    "Syncing": "AssertionError: 1 was acknowledged, and the store has 0",
    "Appending": "ValueError: ",
}


@pytest.mark.parametrize("store_class", LOSING, ids=lambda each: each.__name__)
def test_each_way_to_lose_data(store_class: type[Overwriting]) -> None:
    """Each version breaks on some folder, in the way that its docstring describes."""
    with pytest.raises(ExplorationFailed) as failed:
        explore_store(store_class)
    assert failed.value.failure.summary.startswith(EXPECTED[store_class.__name__])


@pytest.mark.parametrize("depth", [1, 2])
def test_the_fixed_version(depth: int) -> None:
    """The fixed version survives every crash, and a crash during its recovery."""
    exploration = explore_store(Durable, depth)
    assert exploration.exhaustive
    assert exploration.states > 10


def test_the_demo() -> None:
    """The demo shows a failure of each version that loses data, and the verdict on the fixed one."""
    ran = subprocess.run(
        [sys.executable, "-m", "examples.crashes"],
        cwd=ROOT, capture_output=True, encoding="utf-8", env={"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}, timeout=60,
        check=True,
    )  # fmt: skip
    assert ran.stderr == ""
    assert ran.stdout.count("the power fails") == len(LOSING)
    assert ran.stdout.endswith(": no failure\n")
