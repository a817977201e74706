"""The demo of jobs that charge twice when a worker dies, and of those that do not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from examples.worker_crash.__main__ import main
from tests.examples.demos import ROOT, run_python, table

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such fleets")


def run_demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the demo with no variables of the library except these."""
    return run_python("-m", "examples.worker_crash", *arguments, **environment)


@pytest.mark.parametrize("queue", [pytest.param("sqlite"), pytest.param("rq", marks=pytest.mark.slow)])
def test_demo(queue: str) -> None:
    """One of all workers dies after it has charged: the first version charges twice, the second is correct."""
    if queue == "rq":
        pytest.importorskip("rq")
        if shutil.which("redis-server") is None:
            pytest.skip("redis-server is not installed")
    done = run_demo(*(["--rq"] if queue == "rq" else []))
    assert done.returncode == 0, done.stderr
    death = "failpoint 'job.bill:after' ended the process with exit status 9"
    assert [line.startswith(death) for line in done.stderr.splitlines()] == [True, True]  # one in each version
    assert "job.bill:after=1*exit(9)" in done.stdout
    shown = table(done.stdout)
    total, owed = shown.pop("charged in total")
    assert float(total) - float(owed) in {12.5, 8, 24}  # either worker may be the first
    assert shown == {
        "jobs": ["3", "3"],
        "finished": ["3", "3"],
        "attempts": ["4", "4"],
        "charges made": ["4", "3"],
        "owed in total": ["44.50", "44.50"],
        "verdict": ["charged twice", "correct"],
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failpoints", "rows"),
    [
        ("bank.charge:after=2*raise(TimeoutError)", {"attempts": ["5", "5"], "charges made": ["5", "3"]}),
        ("bank.chagre=panic;job.bill=1*exit(9)", {"attempts": ["4", "4"], "charges made": ["3", "3"]}),
    ],
)
def test_demo_with_the_environment(failpoints: str, rows: dict[str, list[str]]) -> None:
    """What FAILPOINTS has is of all workers of a version together, instead of the death."""
    done = run_demo(FAILPOINTS=failpoints)
    assert done.returncode == 0
    assert f"Failpoints from FAILPOINTS, for all workers together: {failpoints}" in done.stdout
    shown = table(done.stdout)
    assert {title: shown[title] for title in rows} == rows
    assert ("Failpoint bank.chagre was never hit." in done.stdout) == ("bank.chagre" in failpoints)


def test_demo_with_an_invalid_environment() -> None:
    """An invalid FAILPOINTS stops the demo with the library's message, which names the variable."""
    done = run_demo(FAILPOINTS="job.bill=rise(OSError)")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("FAILPOINTS: ")
    assert "Traceback" not in done.stderr


def test_demo_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The help lists other ways to lose a worker."""
    monkeypatch.setattr(sys, "argv", ["worker_crash", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert "FAILPOINTS='job.bill=1*exit(9)'" in capsys.readouterr().out


IN_A_TEST = """
import os

import pytest

from examples.worker_crash.bank import Bank
from examples.worker_crash.jobs import Job, carry_out


@pytest.mark.anyio
@pytest.mark.parametrize(("version", "charges"), [("first", 2), ("second", 1)])
async def test_a_worker_that_dies(failpoints, tmp_path, version, charges):
    death = failpoints.set("job.bill:after", "1*exit(9)")
    bank = Bank(tmp_path / "bank.sqlite")
    bank.create()
    finished, attempts = await carry_out(version, tmp_path, [Job(1, 500)], os.environ)
    assert (finished, attempts) == ([1], 2)
    assert (death.hits, death.triggers) == (2, 1)
    assert len(bank.charges()) == charges
"""


@pytest.mark.slow
def test_the_jobs_in_a_test(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `failpoints_processes = true` a test ends one worker, counts in all of them, and sees the second charge."""
    for name in list(os.environ):
        if name.startswith("FAILPOINTS"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini("[pytest]\nfailpoints_processes = true\n")
    pytester.makepyfile(IN_A_TEST)
    plugins = ("-p", "no:asyncio", "-p", "no:trio", "-p", "no:cacheprovider")
    result = pytester.runpytest_subprocess("-k", "asyncio", *plugins, timeout=60)
    result.assert_outcomes(passed=2, deselected=2)
