"""The small demos print what they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> list[str]:
    """Run Python with these arguments, as a reader would with nothing configured: the lines it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("arguments", [("-m", "examples.context_demo"), (str(Path("examples", "context_demo.py")),)])
def test_context_demo(arguments: tuple[str, ...]) -> None:
    """The context demo returns early for the matching tenant only, and counts one hit and one miss."""
    assert run(*arguments) == [
        "backup('test_1') -> 'skipped'",
        "backup('production_1') -> 'production_1 is backed up'",
        "hits: 1 (the context matched), misses: 1 (it did not)",
        "removed: backup('test_1') -> 'test_1 is backed up'",
    ]


@pytest.mark.parametrize(
    "arguments",
    [("-m", "examples.dynamic_reconfiguration"), (str(Path("examples", "dynamic_reconfiguration.py")),)],
)
def test_dynamic_reconfiguration(arguments: tuple[str, ...]) -> None:
    """The waiting task goes on when its failpoint is reconfigured, and the next visit returns early."""
    assert run(*arguments) == [
        "main: the first visit waits, now the failpoint becomes return(42)",
        "first visit: the failpoint said Continue(), so the file is copied",
        "second visit: the failpoint said Return('42'), so it ends early",
    ]
