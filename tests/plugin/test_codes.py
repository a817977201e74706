"""The code of an error, in the report of the test that it failed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

SOURCE = """
    import pytest
    import failpoints as package

    def test_typo(failpoints):
        failpoints.set("gateway.chrage", "pause")

    def test_timeout(failpoints):
        failpoints.set("gateway.charge", "pause", expect_hit=False).wait_paused_sync(timeout=0.01)

    def test_syntax():
        package.configure("gateway.charge", "raise TimeoutError")

    def test_of_the_program(failpoints):
        error = ValueError("no")
        error.code = "E1"
        raise error
"""
A_TERMINAL = """
    class Yes:  # in pytest it is a bool that can be called
        def __call__(self):
            return True

    def pytest_sessionstart(session):
        if not hasattr(session.config, "workerinput"):  # a worker has no terminal
            session.config.pluginmanager.get_plugin("terminalreporter").isatty = Yes()
"""


@pytest.mark.parametrize(("columns", "workers"), [(80, 0), (80, 1), (79, 0)])
def test_the_code_is_shown_in_a_wide_terminal(
    run_tests: Callable[..., pytest.RunResult], columns: int, workers: int
) -> None:
    """In a terminal with at least 80 columns, the section on failpoints ends with the code of the error."""
    arguments = ["-n", str(workers)] if workers else []
    result = run_tests(
        SOURCE, *arguments, files={"conftest.py": A_TERMINAL}, environment={"COLUMNS": str(columns), "TERM": "xterm"}
    )
    result.assert_outcomes(failed=4)
    leads = [line for line in result.outlines if "failpoints explain" in line]
    codes = ["FP011", "FP006", "FP001"] if columns == 80 else []
    assert sorted(leads) == sorted(f"[{code}] failpoints explain {code}" for code in codes)


def test_the_code_is_not_shown_elsewhere(run_tests: Callable[..., pytest.RunResult]) -> None:
    """Where the output is not a terminal, reports have no codes."""
    result = run_tests(SOURCE, environment={"COLUMNS": "200"})
    result.assert_outcomes(failed=4)
    assert "failpoints explain" not in result.stdout.str()
