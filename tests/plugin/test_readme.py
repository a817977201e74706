"""The README's tests, run by pytest as in a user's project."""

from __future__ import annotations

import re
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
