"""`--failpoints-fail-under`, and the annotations of GitHub Actions."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from _failpoints_pytest.annotations import annotation
from _failpoints_pytest.options import parse_percentage
from failpoints._plugin.report import shortfall
from tests.plugin.inner_files import RunTests

SHOP = """\
from failpoints import failpoint

def charge():
    failpoint("shop.charge").hit()

def refund():
    failpoint("shop.refund").hit()

def ship():
    failpoint("shop.ship").hit()
"""
ONE_OF_THREE = """\
import shop

def test_charge(failpoints):
    failpoints.set("shop.charge", "off")
    shop.charge()
"""
REST = """\
import subprocess, sys
import shop

def test_ship(failpoints):
    failpoints.set("shop.ship", "off")
    shop.ship()

def test_refund_in_another_process(failpoints):
    failpoints.set("shop.refund", "off", expect_hit=False)
    subprocess.run([sys.executable, "-c", "import shop; shop.refund()"], check=True, timeout=50)
"""
FILES = {"shop.py": SHOP}
BELOW = "--failpoints-fail-under=33.4: 1 of 3 declared failpoints were hit (33.3 %). Never hit:"


def test_too_few_were_hit(run_tests: RunTests) -> None:
    """The run fails, and lists what was never hit."""
    result = run_tests(ONE_OF_THREE, "--failpoints-fail-under=33.4", files=FILES)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    start = result.outlines.index(BELOW)
    assert result.outlines[start + 1 : start + 3] == [
        "  shop.refund, declared at shop.py:7",
        "  shop.ship, declared at shop.py:10",
    ]
    assert run_tests(ONE_OF_THREE, "--failpoints-fail-under=33.3", files=FILES).ret == pytest.ExitCode.OK


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fleets in a folder")
def test_hits_of_other_workers_and_processes_count(run_tests: RunTests) -> None:
    """What one worker has not hit, another one may have, or a process that a test has started."""
    result = run_tests(
        ONE_OF_THREE,
        *("-n", "2", "--dist=loadfile", "--failpoints-fail-under=100"),
        files={**FILES, "test_rest.py": REST},
        ini="failpoints_processes = true",
        environment={"PYTHONPATH": f".:{Path(__file__).parents[2]}"},
    )
    result.assert_outcomes(passed=3)
    assert result.ret == pytest.ExitCode.OK
    assert "fail-under" not in result.stdout.str()


CANNOT = {
    "nothing": ("def test_it(): pass", (), "the imported modules declare no failpoint"),
    "stopped": ("import shop\ndef test_it(): assert 0\ndef test_next(): pass", ("-x",), "the run ended early"),
}


@pytest.mark.parametrize("why", CANNOT)
def test_what_cannot_be_judged_fails(run_tests: RunTests, why: str) -> None:
    """If it is not known what the tests hit, or nothing is declared, the run does not pass, and says why."""
    source, arguments, reason = CANNOT[why]
    result = run_tests(source, "--failpoints-fail-under=1", *arguments, files=FILES)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert f"--failpoints-fail-under=1 cannot be judged: {reason}" in result.outlines


def test_the_verdict_without_all_workers() -> None:
    """If a worker has sent no report, the percentage is not known, and a limit of 0 does not pass either."""
    assert shortfall([], 0, "1 worker ended without a report") == (
        "--failpoints-fail-under=0 cannot be judged: 1 worker ended without a report"
    )
    assert shortfall([], 0, None) is None


@pytest.mark.parametrize("given", ["101", "-1", "all", "nan"])
def test_not_a_percentage(given: str) -> None:
    """Anything but a number from 0 to 100 is a usage error."""
    with pytest.raises(argparse.ArgumentTypeError, match=f"expected a percentage from 0 to 100; got '{given}'"):
        parse_percentage(given)


FAILING = """\
import pytest
import shop
from failpoints.explore import explore

def test_charge(failpoints):
    failpoints.set("shop.charge", "off")
    shop.charge()

def test_typo(failpoints):
    failpoints.set("shop.chrage", "off")

def test_explored():
    async def scenario(run):
        async with run.injecting():
            shop.charge()
        assert run.error is None

    explore(scenario)

def test_other_failure():
    raise ValueError
"""


def test_annotations(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    """On GitHub Actions, failures of failpoints are errors at their tests, and what was never hit are warnings."""
    environment = {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(pytester.path.parent)}
    result = run_tests(FAILING, "--failpoints-report", files=FILES, environment=environment)
    result.assert_outcomes(passed=1, failed=3)
    lines = [line for line in result.outlines if line.startswith("::")]
    folder = pytester.path.name
    explored, typo, ship, refund = sorted(lines)
    assert explored.startswith(
        f"::error file={folder}/test_inner.py,line=12,title=a run of an exploration fails::"
        "test_inner.py::test_explored%0Ascenario failed in run 2, with 1 fault:%0A"
    )
    assert typo.startswith(
        f"::error file={folder}/test_inner.py,line=9,title=failpoint never hit::test_inner.py::test_typo%0A"
        "failpoint 'shop.chrage' was set and never hit"
    )
    assert ship == (
        f"::warning file={folder}/shop.py,line=10,title=failpoint never hit::no test hit 'shop.ship' while it was"
        " configured"
    )
    assert refund == ship.replace("ship", "refund").replace("line=10", "line=7")


def test_no_annotations_elsewhere(run_tests: RunTests) -> None:
    """Nothing is annotated where GITHUB_ACTIONS is not set."""
    result = run_tests(FAILING, "--failpoints-report", files=FILES, environment={"GITHUB_ACTIONS": ""})
    assert not [line for line in result.outlines if line.startswith("::")]


def test_escaping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message cannot end its line, and a path or a title cannot end its property."""
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    assert annotation("error", tmp_path / "a,b%.py", 3, "x: y", "50 %\r\n::error::no, this is text") == (
        "::error file=a%2Cb%25.py,line=3,title=x%3A y::50 %25%0D%0A::error::no, this is text"
    )
    assert annotation("warning", Path("/elsewhere/a.py"), 3, "t", "m") == "::warning title=t::m"
