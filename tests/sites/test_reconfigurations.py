"""Reconfiguring beside calls, for a long time: `reconfigurations.py`, which takes the number of changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import failpoints

PROGRAM = Path(__file__).with_name("reconfigurations.py")


@pytest.mark.slow
def test_reconfigured_beside_calling_threads() -> None:
    """Whatever is called in four threads while a fifth reconfigures, each result is that of some configuration."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "5000"],
        check=False,
        timeout=300,
        cwd=Path(failpoints.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
