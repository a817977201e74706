"""What the tests of the plugin have: a pytest of their own, in a process of its own, to run tests in."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from textwrap import dedent

import pytest


@pytest.fixture
def run_tests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """To run tests in a pytest that knows nothing of this one, and loads the plugin as it does for a user."""
    for name in list(os.environ):
        # CI and BUILD_NUMBER: with them pytest shortens nothing.
        if name.startswith(("FAILPOINTS", "PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_XDIST", "CI", "BUILD_NUMBER")):
            monkeypatch.delenv(name)
    # Else each run compiles all plugins anew, which takes longer than the tests.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)

    def run(
        source: str,
        *arguments: str,
        ini: str = "",
        files: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> pytest.RunResult:
        """Run `source`, as test_inner.py, with lines of the [pytest] section, more files, and variables."""
        written = {"test_inner.py": source, "pytest.ini": f"[pytest]\n{dedent(ini)}", **(files or {})}
        for name, text in written.items():
            (pytester.path / name).write_text(dedent(text), encoding="utf-8")
        with monkeypatch.context() as patch:
            for name, value in (environment or {}).items():
                patch.setenv(name, value)
            return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=60)

    return run
