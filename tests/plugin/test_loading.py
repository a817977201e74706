"""What loading the plugin imports, and runs that do not load it."""

from __future__ import annotations

import subprocess
import sys

from tests.plugin.inner_files import RunTests
from tests.plugin.terminal import (
    outcomes,
)

HEAVY = ("click", "fastapi", "httpx", "requests", "rich", "starlette", "typer", "uvicorn")


def test_imports() -> None:
    """The plugin imports no library for HTTP or the command line."""
    script = f"import sys, failpoints.pytest_plugin\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


TESTS = """\
def test_with_the_fixture(failpoints):
    pass


def test_plain():
    pass
"""


def test_without_the_plugin(run_tests: RunTests) -> None:
    """With `-p no:failpoints` the tests that do not use the fixture still run."""
    result = run_tests(TESTS, "-v", "-p", "no:failpoints")
    assert outcomes(result) == {"test_with_the_fixture": "ERROR", "test_plain": "PASSED"}
    result.stdout.fnmatch_lines("*fixture 'failpoints' not found*")
