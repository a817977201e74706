"""The cost of the import and of the pytest plugin, as the processor time of processes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from measure import Row, Side, ratio

import failpoints

EMPTY_TESTS = "\n".join(f"def test_{number}(): pass" for number in range(1_000))


def processor_time(*arguments: str, folder: str) -> float:
    """Run Python in an empty folder, with the failpoints of this process, and return its processor time."""
    # With PYTHONDONTWRITEBYTECODE every process would compile all modules.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONDONTWRITEBYTECODE" and not name.startswith("FAILPOINTS")
    }
    environment["PYTHONPATH"] = str(Path(failpoints.__file__).parents[1])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, *arguments]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@contextmanager
def imported() -> Generator[tuple[Side, Side]]:
    with tempfile.TemporaryDirectory() as folder:

        def importing(modules: str) -> float:
            started = processor_time("-c", "pass", folder=folder)
            return processor_time("-c", f"import {modules}", folder=folder) - started

        yield partial(importing, "failpoints"), partial(importing, "anyio, wrapt")


@contextmanager
def tested() -> Generator[tuple[Side, Side]]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_empty.py").write_text(EMPTY_TESTS, encoding="utf-8")
        pytest = partial(processor_time, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=folder)
        yield pytest, partial(pytest, "-p", "no:failpoints")


ROWS: list[Row] = [
    ratio("`import failpoints`", "`import anyio, wrapt`", 1.3, imported, costly=2),
    ratio("1,000 empty tests with the pytest plugin", "`-p no:failpoints`", 1.02, tested, costly=2, slow=True),
]
