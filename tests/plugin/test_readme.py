"""The README's tests, run by pytest as in a user's project."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_three_usual_tests_run_on_both_backends(run_tests: Callable[..., pytest.RunResult]) -> None:
    """The README's first program and its tests with pytest pass as one file, beside every plugin that is installed."""
    first, _, rest = README.partition("## Tests with pytest")
    section = rest.partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", first + section, flags=re.DOTALL)
    result = run_tests("\n\n".join(blocks), plugins=None)
    result.assert_outcomes(passed=9)


def test_the_test_case_runs_under_unittest(tmp_path: Path) -> None:
    """The README's first program and its test case run with `python -m unittest`."""
    first, _, _ = README.partition("## Tests with pytest")
    section = README.partition("## Tests with unittest")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", first + section, flags=re.DOTALL)
    (tmp_path / "test_pay.py").write_text("\n\n".join(blocks), encoding="utf-8")
    command = [sys.executable, "-m", "unittest", "test_pay"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert re.search(r"^Ran 1 test .*\n\nOK$", done.stderr, re.MULTILINE), done.stderr
