"""The tests that the README and docs/testing.md show, run as in a user's project."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def code_in(document: str, *sections: str) -> str:
    """Return the Python of a document: all of it, or what comes before its first section and in *sections*."""
    first, *rest = (ROOT / document).read_text(encoding="utf-8").split("\n## ")
    chosen = [first, *(each for each in rest if not sections or each.partition("\n")[0] in sections)]
    return "\n\n".join(re.findall(r"```python\n(.*?)```", "\n".join(chosen), flags=re.DOTALL))


def test_the_readmes_test_runs_on_both_backends(run_tests: Callable[..., pytest.RunResult]) -> None:
    """The README's program passes as one file of a user's own, with anyio's plugin."""
    run_tests(code_in("README.md"), plugins=None).assert_outcomes(passed=2)


def test_the_usual_tests_run_on_both_backends(run_tests: Callable[..., pytest.RunResult]) -> None:
    """The tests of the page with pytest pass as one file, beside every plugin that is installed."""
    code = code_in("docs/testing.md", "Tests with pytest", "Hypothesis")
    tests = len(re.findall(r"^def test_", code, re.MULTILINE)), len(re.findall(r"^async def test_", code, re.MULTILINE))
    assert min(tests) > 0
    run_tests(code, plugins=None).assert_outcomes(passed=tests[0] + 2 * tests[1])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fleets in folders")
def test_the_worker_is_killed_once(run_tests: Callable[..., pytest.RunResult]) -> None:
    """The recipe for a supervisor that restarts a worker passes with the setting that it names."""
    page = (ROOT / "docs/how-to/crash-a-worker.md").read_text(encoding="utf-8")
    recipe = "".join(re.findall(r"```py(?:thon)?\n(.*?)```", page, flags=re.DOTALL))
    run_tests(recipe, ini="failpoints_processes = true").assert_outcomes(passed=2)


def test_the_test_case_runs_under_unittest(tmp_path: Path) -> None:
    """The program of the page and its test case run with `python -m unittest`."""
    code = code_in("docs/testing.md", "Tests with unittest")
    (tmp_path / "test_pay.py").write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "unittest", "test_pay"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert re.search(r"^Ran 1 test .*\n\nOK$", done.stderr, re.MULTILINE), done.stderr
