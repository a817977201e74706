"""The fixture `run_tests`, which runs inner tests in a pytest process of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import entry_points
from textwrap import dedent

import pytest

from tests.plugin.inner_files import BACKGROUND

INSTALLED = frozenset(entry_point.name for entry_point in entry_points(group="pytest11"))


@pytest.fixture
def run_tests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Run inner tests in a new pytest process, which loads the plugin by its entry point, as it does for users."""
    for name in list(os.environ):
        # CI and BUILD_NUMBER: pytest shortens nothing if they are set.
        if name.startswith(("FAILPOINTS", "PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_XDIST", "CI", "BUILD_NUMBER")):
            monkeypatch.delenv(name)
    # Otherwise each run compiles all its imports again, which takes longer than the tests.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)

    def run(
        source: str,
        *arguments: str,
        ini: str = "",
        files: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        plugins: Collection[str] | None = ("anyio",),
    ) -> pytest.RunResult:
        """Run *source* as test_inner.py and return the result.

        Args:
            source: The text of the test file.
            arguments: Arguments of pytest; `-n` also loads pytest-xdist.
            ini: Lines of the section [pytest] of pytest.ini.
            files: More files, by name.
            environment: Environment variables of the run.
            plugins: The other installed plugins to load, or None for all of them. Importing those that a run does not
                use takes longer than the run.
        """
        written = {
            "background.py": BACKGROUND,
            "pytest.ini": f"[pytest]\n{dedent(ini)}",
            "test_inner.py": source,
            **(files or {}),
        }
        for name, text in written.items():
            (pytester.path / name).write_text(dedent(text), encoding="utf-8")
        loaded = INSTALLED if plugins is None else {"failpoints", *plugins}
        if "-n" in arguments:
            loaded |= {"xdist", "xdist.looponfail"}
        blocked = [f"-pno:{name}" for name in sorted(INSTALLED - loaded)]
        with monkeypatch.context() as patch:
            for name, value in (environment or {}).items():
                patch.setenv(name, value)
            return pytester.runpytest_subprocess("-pno:cacheprovider", *blocked, *arguments, timeout=300)

    return run
