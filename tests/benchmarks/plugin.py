"""What the pytest plugin costs a run that does not use it: 1,000 empty tests, with it and without.

    python tests/benchmarks/plugin.py

Whole processes by their processor time, in turn, and which comes first in turn as well; the figure is the median of
the ratios of neighbouring ones.
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
    """The processor time of all processes that this one has started and waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def seconds(folder: str, *options: str) -> float:
    """What a run of all the tests takes."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, folder]
    before = spent()
    # Else each run compiles anew what is imported.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=120)
    return spent() - before


def ratios(folder: str) -> Iterator[float]:
    """With against without, again and again."""
    while True:
        with_it, without = seconds(folder), seconds(folder, "-p", "no:failpoints")
        yield with_it / without
        without, with_it = seconds(folder, "-p", "no:failpoints"), seconds(folder)
        yield with_it / without


def main() -> None:
    """Print the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_empty.py").write_text(TESTS)
        seconds(folder), seconds(folder, "-p", "no:failpoints")  # the byte code
        measured = sorted(islice(ratios(folder), ROUNDS))
    quarter = len(measured) // 4
    print(f"Python {sys.version.split()[0]}, {ROUNDS} pairs of runs")
    print(
        f"1,000 empty tests with the plugin, against without: {statistics.median(measured):.3f}"
        f" (half of the ratios are between {measured[quarter]:.3f} and {measured[-1 - quarter]:.3f}; at most 1.05)"
    )


if __name__ == "__main__":
    main()
