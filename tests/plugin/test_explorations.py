"""What a run of pytest shows of explorations: those that were not exhaustive, and a bar while one takes long."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from textwrap import dedent
from typing import Any

import pytest

from tests.plugin.inner_files import RunTests

SOURCE = """
    import pytest
    from failpoints import failpoint
    from failpoints.explore import ExplorationFailed, explore, explore_crashes

    async def scenario(run):
        async with run.injecting():
            await failpoint("one")
            await failpoint("two")

    async def failing(run):
        async with run.injecting():
            await failpoint("one")
        assert run.error is None

    def test_limited():
        explore(scenario, max_runs=2)

    @pytest.mark.parametrize("n", [1, 2])
    def test_twice(n):
        for _ in range(n):
            explore(scenario, max_runs=1)

    def test_exhaustive():
        explore(scenario)

    def test_crashes():
        explore_crashes(lambda folder: (folder / "a").touch(), lambda folder, acknowledged: None, timeout=60)

    def test_failing():
        with pytest.raises(ExplorationFailed):
            explore(failing)
"""

LINES = [
    "test_inner.py::test_limited: 2 runs: stopped at max_runs=2",
    "test_inner.py::test_twice[1]: 1 run: stopped at max_runs=1",
    "test_inner.py::test_twice[2]: 1 run: stopped at max_runs=1 (2 times)",
]


def summary_of(result: pytest.RunResult) -> list[str]:
    """Return the lines of the section about explorations."""
    _, _, section = result.stdout.str().partition(" explorations that were not exhaustive ")
    return [line for line in re.split(r"\n=", section)[0].splitlines()[1:] if line]


@pytest.mark.parametrize("arguments", [(), ("-n", "2")])
def test_explorations_that_were_not_exhaustive(run_tests: RunTests, arguments: tuple[str, ...]) -> None:
    """Each test whose exploration was cut short has a line that mentions why, under pytest-xdist too."""
    result = run_tests(SOURCE, *arguments)
    result.assert_outcomes(passed=6)
    assert sorted(summary_of(result)) == LINES


def test_no_section(run_tests: RunTests) -> None:
    """There is no section if every exploration was exhaustive, or failed."""
    result = run_tests(SOURCE, "-k", "exhaustive or failing or crashes")
    result.assert_outcomes(passed=3, deselected=3)
    assert "explorations" not in result.stdout.str()


def test_no_bar_outside_a_terminal(run_tests: RunTests) -> None:
    """There is no bar in the log of a CI system."""
    result = run_tests(SOURCE, files={"conftest.py": IMPATIENT})
    result.assert_outcomes(passed=6)
    assert "runs\b" not in result.stdout.str()
    assert "[#" not in result.stdout.str()


IMPATIENT = """
    import failpoints.explore
    from failpoints._plugin import explorations

    explorations._PATIENCE = explorations._INTERVAL = 0
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals that a test could open")
@pytest.mark.parametrize("capture", ["fd", "no"])
def test_a_bar_in_a_terminal(pytester: pytest.Pytester, capture: str) -> None:
    """In a terminal, a long exploration shows its runs behind the line of the test, and removes that at its end."""
    import pty

    for name, source in (("conftest", IMPATIENT), ("test_inner", SOURCE)):
        (pytester.path / f"{name}.py").write_text(dedent(source), encoding="utf-8")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pytest", "-v", f"--capture={capture}", "-p", "no:randomly"]
    command += ["-k", "exhaustive or crashes"]
    environment: dict[str, Any] = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, cwd=pytester.path, env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        output = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                data = os.read(ours, 65536)
            except OSError:  # how Linux reports the end
                break
            if not data:
                break
            output += data
        os.close(ours)
        assert process.wait(60) == 0
    text = output.decode()
    assert "test_inner.py::test_exhaustive  [######....] 2 of 3 runs" in text
    shown = text[text.index(" [######....] 2 of 3 runs") :].partition("PASSED")[0]
    assert shown.endswith("\b" * len(" [##########] 3 of 3 runs"))
    assert "3 of 3 runs" in shown
    assert "test_inner.py::test_crashes  2 states" in text
    assert f"{' 2 states'}{len(' 2 states') * chr(8)}{' ' * len(' 2 states')}" in text
