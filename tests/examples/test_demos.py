"""The output of the small demos."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> list[str]:
    """Run Python with these arguments and without failpoint variables, and return the lines that it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("arguments", [("-m", "examples.context_demo"), (str(Path("examples", "context_demo.py")),)])
def test_context_demo(arguments: tuple[str, ...]) -> None:
    """The context demo returns early only for the matching tenant, with one hit and one miss."""
    assert run(*arguments) == [
        "backup('test_1') -> 'skipped'",
        "backup('production_1') -> 'production_1 was backed up'",
        "hits: 1 (the context matched), misses: 1 (it did not)",
        "removed: backup('test_1') -> 'test_1 was backed up'",
    ]


@pytest.mark.parametrize(
    "arguments",
    [("-m", "examples.dynamic_reconfiguration"), (str(Path("examples", "dynamic_reconfiguration.py")),)],
)
def test_dynamic_reconfiguration(arguments: tuple[str, ...]) -> None:
    """The paused task continues when its failpoint is reconfigured, and the next visit returns early."""
    assert run(*arguments) == [
        "main: the first visit is paused, now configuring return(42)",
        "first visit: the outcome is Continue(), so the file is copied",
        "second visit: the outcome is Return('42'), so it returns early",
    ]
