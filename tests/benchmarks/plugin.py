"""Measure the cost of the pytest plugin in a run that does not use it: 1,000 empty tests, with it and without it.

    python tests/benchmarks/plugin.py

Pairs of processes run with and without the plugin, and the order within a pair alternates. The result is the median of
the ratios of their processor times.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

ROUNDS = 40
TESTS = "\n".join(f"def test_{number}(): pass" for number in range(1_000))


def spent() -> float:
    """Return the processor time of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def seconds(folder: str, *options: str) -> float:
    """Return the processor time of one run of all tests."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, folder]
    before = spent()
    # Otherwise every run would compile all modules.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=120)
    return spent() - before


def ratios(folder: str) -> Iterator[float]:
    """Yield ratios of a run with the plugin to one without it, forever."""
    while True:
        with_it, without = seconds(folder), seconds(folder, "-p", "no:failpoints")
        yield with_it / without
        without, with_it = seconds(folder, "-p", "no:failpoints"), seconds(folder)
        yield with_it / without


def main() -> None:
    """Print the median ratio."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_empty.py").write_text(TESTS)
        seconds(folder), seconds(folder, "-p", "no:failpoints")  # compiles the modules
        measured = sorted(islice(ratios(folder), ROUNDS))
    quarter = len(measured) // 4
    print(f"Python {sys.version.split()[0]}, {ROUNDS} pairs of runs")
    print(
        f"processor time of 1,000 empty tests, ratio with the plugin to without: {statistics.median(measured):.3f}"
        f" (half of the ratios are between {measured[quarter]:.3f} and {measured[-1 - quarter]:.3f}, the limit is 1.05)"
    )


if __name__ == "__main__":
    main()
