"""`--failpoints-explore`: what a test that fails in another order shows, and how to repeat that order."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.plugin.inner_files import RunTests
from tests.plugin.terminal import outcomes

RACE = """
    import anyio
    import pytest

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def stock():
        return {"left": 1}

    async def buy(stock, name):
        if stock["left"]:
            await anyio.sleep(0)
            stock["left"] -= 1
            print(name, "has bought")

    async def test_race(stock):
        async with anyio.create_task_group() as buyers:
            buyers.start_soon(buy, stock, "Ann")
            for _ in range(5):
                await anyio.sleep(0)
            buyers.start_soon(buy, stock, "Ben")
        assert stock["left"] == 0

    async def test_deadlock():
        left, right = anyio.Lock(), anyio.Lock()

        async def take(first, second):
            async with first:
                await anyio.sleep(0)
                async with second:
                    pass

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take, left, right)
            for _ in range(10):
                await anyio.sleep(0)
            tasks.start_soon(take, right, left)

    async def test_correct():
        await anyio.sleep(1)
"""
REPEAT = re.compile(r"repeat this order:  pytest (\S+) --failpoints-replay='([^']+)'")
EXPLORE = "--failpoints-explore=60"


@pytest.mark.slow
def test_a_failure_and_its_replay(run_tests: RunTests) -> None:
    """A test that fails in an order fails with its own error, a timeline, and a line that repeats the order."""
    result = run_tests(RACE, EXPLORE, "-v")
    failed = {"test_race[asyncio]", "test_race[trio]", "test_deadlock[asyncio]", "test_deadlock[trio]"}
    assert {name for name, outcome in outcomes(result).items() if outcome == "FAILED"} == failed
    result.stdout.fnmatch_lines(
        [
            "E*assert -1 == 0",
            "E*test_race*failed in run *",
            "explored 6 async tests in * orders: 2 passed in all of them, 4 failed in one",
            "FAILED test_inner.py::test_race[[]asyncio[]] - *",
        ]
    )
    result.stdout.fnmatch_lines(["*deadlock: every task is waiting*", "*waits for the lock*"])
    found = REPEAT.findall(result.stdout.str())
    assert {shlex.split(test)[0].partition("::")[2] for test, _ in found} == failed
    for test, replay in found:
        again = run_tests(RACE, shlex.split(test)[0], f"--failpoints-replay={replay}")
        again.assert_outcomes(failed=1)
        assert REPEAT.findall(again.stdout.str()) == [(test, replay)]


def test_output_is_that_of_one_order(run_tests: RunTests) -> None:
    """What a failing test has printed and logged is what it did in the order that fails, once."""
    source = f"""{RACE}
    async def test_output(stock, caplog, capsys):
        import logging

        async with anyio.create_task_group() as buyers:
            for name in ("Cid", "Dan"):
                buyers.start_soon(buy, stock, name)
                for _ in range(5):
                    await anyio.sleep(0)
        logging.getLogger().error("at the end")
        assert caplog.messages == ["at the end"]
        assert len(capsys.readouterr().out.splitlines()) == 1
"""
    result = run_tests(source, EXPLORE, "-k", "asyncio and (race or output)", "-rA")
    result.assert_outcomes(failed=2)
    output = result.stdout.str()
    assert output.count("Ann has bought") == output.count("Ben has bought") == 1
    assert len(re.findall("^ERROR .*at the end$", output, re.MULTILINE)) == 1


@pytest.mark.slow
def test_workers_and_the_last_failed(run_tests: RunTests) -> None:
    """The summary counts the tests of all workers, and `--lf` runs what has failed in another order."""
    cache = ("-pcacheprovider", "-o", "cache_dir=.cache")
    result = run_tests(RACE, EXPLORE, "-n", "2", *cache)
    result.assert_outcomes(passed=2, failed=4)
    result.stdout.fnmatch_lines("explored 6 async tests in * orders: 2 passed in all of them, 4 failed in one")
    result = run_tests(RACE, EXPLORE, "--lf", *cache)
    result.assert_outcomes(failed=4)


def test_a_replay_of_a_test_that_passes_now(run_tests: RunTests) -> None:
    """A test that passes in the order of the replay passes, and the summary has the verdict."""
    result = run_tests(RACE, "-k", "test_correct and asyncio", "--failpoints-replay=o0.1")
    result.assert_outcomes(passed=1, deselected=5)
    result.stdout.fnmatch_lines("replayed: *test_correct*: 1 run, replayed*: no failure")


def test_a_failure_that_is_expected(run_tests: RunTests) -> None:
    """`xfail` holds for another order, too."""
    source = RACE.replace(
        "    async def test_race", "    @pytest.mark.xfail(raises=AssertionError)\n    async def test_race"
    )
    run_tests(source, EXPLORE, "-k", "race").assert_outcomes(xfailed=2, deselected=4)


def test_a_replay_needs_one_test(run_tests: RunTests) -> None:
    """A replay is that of one test."""
    result = run_tests(RACE, "--failpoints-replay=o1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*--failpoints-replay repeats one test: give pytest its id; 6 async tests are selected")


@pytest.mark.parametrize("replay", ["garbage", ""])
def test_a_replay_that_is_none(run_tests: RunTests, replay: str) -> None:
    """A text that is not a replay is a usage error in one sentence, and no test runs."""
    result = run_tests(RACE, "-k", "test_correct and asyncio", f"--failpoints-replay={replay}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == (
        "ERROR: --failpoints-replay takes the text that --failpoints-explore printed for a test that failed, such as"
        f" 'w1.1 #bb29'; got {replay!r}"
    )
    assert not any(result.stderr.lines[1:] + result.stdout.lines)


BLOCKED = """
    import asyncio
    import os
    import threading
    import pytest

    opened = []

    @pytest.fixture
    def answered():
        event = threading.Event()
        event.pipe = os.pipe()
        opened.append(event)
        yield event
        event.wait()

    @pytest.mark.asyncio
    async def test_this(answered):
        entered, left = asyncio.Event(), asyncio.Event()

        async def first():
            entered.set()
            await left.wait()

        async def second():
            if entered.is_set():
                left.set()

        waiting = asyncio.get_running_loop().run_in_executor(None, os.read, answered.pipe[0], 1)
        await asyncio.gather(first(), second())
        answered.set()
        os.write(answered.pipe[1], b"!")
        await waiting

    def test_afterwards():
        assert len(opened) > 2
"""


def test_orders_that_leave_threads_waiting(run_tests: RunTests) -> None:
    """A fixture or a thread that waits for ever after an interrupted order keeps neither tests nor process waiting."""
    conftest = """
        from failpoints._suites import plugin, repetition

        plugin._LEAST_TIMEOUT = 0.5
        repetition._MOST_SECONDS = 0.1
    """
    result = run_tests(BLOCKED, EXPLORE, "-v", files={"conftest.py": conftest}, plugins=["asyncio"])
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines("left to its own plugin: *::test_this: does not end in another order, and its fix*")
    result.stderr.fnmatch_lines("failpoints: left behind by a test that did not end: asyncio_0*")
