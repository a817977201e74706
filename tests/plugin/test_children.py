"""Tests that start processes."""

from __future__ import annotations

import json
import os
import re

import pytest

from failpoints import configure, reset
from failpoints._core.grammar import parse_entries
from failpoints._core.store import PROCESS_STORE
from failpoints._plugin.children import environment_text
from tests.plugin.inner_files import RunTests
from tests.plugin.terminal import failures

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")

HEAD = """\
import multiprocessing
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor

import pytest

from work import idle, work


def in_fork(function):
    "Call a function in a forked process, and return its exit status."
    child = os.fork()
    if not child:
        function()
        os._exit(77)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def pool(method):
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method))


"""
WORK = """\
    import multiprocessing
    from failpoints import failpoint

    @failpoint("work")
    def work(number) -> int:
        return number

    def idle(number):
        return number
"""

FORKED = (
    HEAD
    + """\
# Processes may be forked beside threads of pytest-xdist.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def test_pool(failpoints):
    handle = failpoints.set("work", "return(99)")
    with pool("fork") as executor:
        assert executor.submit(work, 4).result(60) == 99
    assert handle.hits == 0


def test_killed(failpoints):
    failpoints.set("work", "exit(9)")
    assert in_fork(lambda: work(1)) == 9


def test_grandchild(failpoints):
    failpoints.set("work", "exit(9)")
    assert in_fork(lambda: os._exit(in_fork(lambda: work(1)))) == 9


def test_thread(failpoints):
    failpoints.set("work", "exit(9)")
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(in_fork(lambda: work(1))))
    thread.start()
    thread.join(60)
    assert statuses == [9]


def test_many(failpoints):
    for number in range(20):
        failpoints.set(f"idle-{number}", "off", expect_hit=False)
        failpoints.set("work", "exit(9)")
        assert in_fork(lambda: work(1)) == 9


@pytest.mark.failpoints({"work": "return(99)"})
def test_marker():
    with pool("fork") as executor:
        assert executor.submit(work, 4).result(60) == 99


def test_first_user_of_a_pool(failpoints):
    failpoints.set("work", "return(99)")
    POOL.append(pool("fork"))
    assert POOL[0].submit(work, 4).result(60) == 99


def test_second_user_of_a_pool(failpoints):
    failpoints.set("work", "return(98)")
    assert POOL[0].submit(work, 4).result(60) == 99


def test_last_user_of_a_pool():
    POOL[0].shutdown()

POOL = []


def test_idle(failpoints):
    failpoints.set("work", "off")
    assert in_fork(lambda: idle(1)) == 77


def test_configured_later(failpoints):
    with pool("fork") as executor:
        assert executor.submit(work, 4).result(60) == 4
        failpoints.set("work", "off")
        assert executor.submit(work, 4).result(60) == 4


def test_in_the_child_only(failpoints):
    failpoints.set("work", "off")

    def child():
        failpoints.set("work", "exit(9)")
        work(1)

    assert in_fork(child) == 9
"""
)


@needs_fork
@pytest.mark.parametrize("arguments", [(), ("-n", "1")], ids=["one process", "xdist"])
def test_a_hit_in_a_forked_process_counts(run_tests: RunTests, arguments: tuple[str, ...]) -> None:
    """A test passes if a process that was forked during it hit the failpoint, also if the hit ended that process."""
    result = run_tests(FORKED, "-v", "-pno:randomly", *arguments, files={"work.py": WORK})
    failed = {"test_second_user_of_a_pool", "test_idle", "test_configured_later", "test_in_the_child_only"}
    result.assert_outcomes(passed=8, failed=4)
    shown = failures(result)
    assert set(shown) == failed
    for name in failed - {"test_second_user_of_a_pool"}:
        assert "  processes:  1 forked by the test, with what was configured then; it was never hit" in shown[name].text
    assert (
        "  processes:  1 running since before the test, without what the test configured\n"
        "              to have the same there and count the hits, set failpoints_processes = true in the ini file\n"
        "              or put FAILPOINTS='work=return(98)' into its environment\n"
        "              what FAILPOINTS configures counts from zero in each process, also in one that replaces another\n"
    ) in shown["test_second_user_of_a_pool"].text


OTHERS = (
    HEAD
    + """\
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_pool(failpoints, method):
    failpoints.set("work", "25%3*return(99)->raise(OSError: a 'b')")
    with pool(method) as executor:
        assert executor.submit(work, 4).result(60) == 4


def test_programs(failpoints):
    failpoints.set("work", print)
    failpoints.set("other", "off", context={"a": lambda value: True}, expect_hit=False)
    failpoints.set("third", "off", expect_hit=False)
    failpoints.set("third", "pause", expect_hit=False)
    python = [sys.executable, "-c", ""]
    subprocess.run(python, check=True)
    subprocess.run(python, check=True, close_fds=False)
    os.system("exit 0")


def test_posix(failpoints):
    failpoints.set("work", "off")
    os.waitpid(os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {}), 0)
    os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", ""])
    subprocess.run([sys.executable, "-c", ""], preexec_fn=lambda: None)


def test_environment(failpoints, monkeypatch):
    failpoints.set("work", "return(99)", expect_hit=False)
    monkeypatch.setenv("FAILPOINTS", "work=return(99)")
    with pool("spawn") as executor:
        assert executor.submit(work, 4).result(60) == 99


def test_none(failpoints):
    failpoints.set("work", "off")


def test_failing(failpoints):
    failpoints.set("work:after", "1*exit(9)")
    subprocess.run([sys.executable, "-c", ""], check=True)
    assert not "done"


def test_failing_after_a_hit(failpoints):
    failpoints.set("work", "off")
    subprocess.run([sys.executable, "-c", ""], check=True)
    work(1)
    assert not "done"
""".replace('"work", print)', '"work", __import__("failpoints").Call(print))')
)


@needs_fork
def test_other_processes_do_not_have_what_the_test_configured(run_tests: RunTests) -> None:
    """The message has how many were started, and the text for their environment."""
    result = run_tests(OTHERS, "-v", files={"work.py": WORK})
    result.assert_outcomes(passed=1, failed=7)
    shown = failures(result)
    started = "  processes:  {} started by the test, with only what FAILPOINTS configures; hits are not counted\n"
    paste = (
        "              to have the same there and count the hits, set failpoints_processes = true in the ini file\n"
        "              or put FAILPOINTS={!r} into its environment\n"
        "              what FAILPOINTS configures counts from zero in each process, also in one that replaces another\n"
    )
    for method in ("spawn", "forkserver"):
        text = "work=25%3*return(99)->raise(OSError: a 'b')"
        assert started.format(1) + paste.format(text) in shown[f"test_pool[{method}]"].text
    assert (
        started.format(3) + paste.format("third=pause") + "              there is no text for 'work', 'other'\n"
    ) in shown["test_programs"].text
    assert started.format(3) + paste.format("work=off") in shown["test_posix"].text
    assert "processes" not in shown["test_none"].text
    failing = result.stdout.str().partition("\nwork:after\n")[2].partition("____")[0]
    assert started.format(1) + paste.format("work:after=1*exit(9)") + "  declared: " in failing
    assert failing.index("processes:") < failing.index("':after' is visited after the body")
    after_a_hit = result.stdout.str().rpartition("- failpoints -")[2]
    assert "hits 1, misses 0" in after_a_hit
    assert "processes:" not in after_a_hit


@needs_fork
def test_the_configuration_of_the_run_is_hit_in_a_forked_process(run_tests: RunTests) -> None:
    """The summary does not list a failpoint of `--failpoints` that a forked process hit."""
    source = (
        HEAD
        + """\
def test_it():
    assert in_fork(lambda: work(1)) == 9


def test_another():
    pass
"""
    )
    result = run_tests(source, "--failpoints", "work=exit(9);idle=off", files={"work.py": WORK})
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["failpoint 'idle', configured for the whole run, was never hit*"])
    result.stdout.no_fnmatch_line("failpoint 'work', configured for the whole run*")


@needs_fork
@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_the_report_counts_the_processes(
    run_tests: RunTests, pytester: pytest.Pytester, arguments: tuple[str, ...]
) -> None:
    """The report has how many processes the tests started, whose visits it does not have."""
    source = (
        HEAD
        + """\
def test_it():
    assert in_fork(lambda: work(1)) == 77
    subprocess.run([sys.executable, "-c", ""], check=True)
"""
    )
    result = run_tests(
        source, "--failpoints-report", "--failpoints-report-json=report.json", *arguments, files={"work.py": WORK}
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["2 processes were started by the tests: visits in other processes are not counted*"])
    assert json.loads((pytester.path / "report.json").read_text(encoding="utf-8"))["processes"] == 2


TEXTS = {
    "a word": ({"tenant_id": "test_.*"}, "x[tenant_id=test_.*]=off", {"tenant_id": "test_.*"}),
    "brackets": ({"a": r'[,"]\d'}, r'x[a="[,\"]\\d"]=off', {"a": r'[,"]\d'}),
    "an empty pattern": ({"a": ""}, 'x[a=""]=off', {"a": ""}),
    "a compiled pattern": ({"a": re.compile("b c")}, 'x[a="b c"]=off', {"a": "b c"}),
    "numbers": ({"shard": 3, "load": 1.5}, r'x[shard=3,load="1\\.5"]=off', {"shard": "3", "load": r"1\.5"}),
}


@pytest.mark.parametrize(("context", "text", "read"), TEXTS.values(), ids=TEXTS)
def test_matchers_have_a_text(context: dict[str, object], text: str, read: dict[str, str]) -> None:
    """The text for the environment has the matchers, and is read back as the same."""
    configure("x", "off", context=context)
    assert environment_text(PROCESS_STORE.configurations()) == (text, [])
    reset()
    (entry,) = parse_entries(text, "FAILPOINTS")
    assert entry.context == read


@pytest.mark.parametrize("matcher", [len, re.compile("x", re.IGNORECASE), None, b"x"], ids=repr)
def test_some_matchers_have_no_text(matcher: object) -> None:
    """What has a predicate, or a value that differs from its text, is not in the text for the environment."""
    configure("x", "off", context={"a": matcher})
    configure("y", "off")
    assert environment_text(PROCESS_STORE.configurations()) == ("y=off", ["x"])
    reset()
