"""The fixture restores the configuration after each test, however the test ends."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest

from tests.plugin.inner_files import VISITS, VISITS_IMPORTS, RunTests

# A conftest.py that records whether each test left the configuration and the random draws as it found them.
RECORDER = """
import json
import pathlib

import pytest
from failpoints import configured, failpoint, format_actions, statuses
from background import Background

AS_BEFORE = {}


def state():
    with configured("draws", "50%return"):
        draws = [bool(failpoint("draws").hit()) for _ in range(64)]
    return {status.name: format_actions(status.actions) for status in statuses()}, draws


def pytest_runtest_setup(item):
    item.before = state()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    result = yield
    AS_BEFORE[item.name] = state() == item.before
    return result


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    went_on = [str(thread.finish()) for thread in Background.started]
    record = {"as before": AS_BEFORE, "in the end": state()[0], "went on": went_on}
    pathlib.Path(__file__).with_name("record.json").write_text(json.dumps(record))
"""

CHANGE = """
def change(failpoints):
    failpoints.set("x", "off", expect_hit=False)
    failpoints.set("replaced", "return", expect_hit=False)
    failpoints.set("a.replaced", "return", expect_hit=False)
    failpoints.remove("removed")
    failpoints.remove("a.removed")
    configure("configured", "pause")
    configure("reconfigured", "pause")
    configure("a.reconfigured", "pause")
    failpoints.seed(1)
    return failpoints
"""

OPTION = "replaced=sleep(1);removed=off;reconfigured=print;untouched=exit"
ENVIRONMENT = "a.replaced=sleep(1);a.removed=off;a.reconfigured=print;a.untouched=exit"
BEFORE = dict(entry.split("=") for entry in f"{OPTION};{ENVIRONMENT}".split(";"))

ENDINGS = """
@pytest.fixture
def changed(failpoints):
    return change(failpoints)


@pytest.fixture
def fails_in_setup(changed):
    raise OSError


@pytest.fixture
def fails_in_teardown(changed):
    yield
    raise OSError


@pytest.fixture
def is_set_up_before_and_fails_in_teardown():
    yield
    raise OSError


def test_passes(changed):
    pass


def test_resets(changed):
    changed.reset()
    reset()


def test_fails(changed):
    raise AssertionError


def test_is_never_hit(changed):
    changed.set("y", "off")


def test_raises_system_exit(changed):
    raise SystemExit


def test_panics(changed):
    changed.set("x", "panic")
    visit_sync()


def test_skips(changed):
    pytest.skip()


def test_xfails(changed):
    pytest.xfail()


@pytest.mark.xfail
def test_is_expected_to_fail(changed):
    raise AssertionError


def test_with_a_fixture_that_fails_in_setup(fails_in_setup):
    pass


def test_with_a_fixture_that_fails_in_teardown(fails_in_teardown):
    pass


def test_with_an_earlier_fixture_that_fails_in_teardown(is_set_up_before_and_fails_in_teardown, changed):
    pass


@pytest.mark.failpoints({"x": "off", "replaced": "return"})
def test_marked_and_fails():
    raise AssertionError


@pytest.mark.failpoints({"x": "off", "replaced": "return"})
def test_marked_with_a_fixture_that_fails_in_setup(fails_in_setup):
    pass


@pytest.mark.anyio
async def test_fails_in_a_task_group(changed):
    changed.set("x", "pause")
    async with anyio.create_task_group() as tg:
        tg.start_soon(visit)
        await changed.handle("x").wait_paused()
        raise AssertionError


@pytest.mark.usefixtures("changed")
class TestCase(unittest.TestCase):
    def test_case_fails(self):
        self.fail()

    def test_case_skips(self):
        self.skipTest("no reason")

    def tearDown(self):
        configure("y", "off")
"""


def test_restored_however_a_test_ends(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    """After each test, however it ends, exactly what FAILPOINTS and --failpoints configured is configured again."""
    result = run_tests(
        VISITS_IMPORTS + CHANGE + ENDINGS,
        f"--failpoints={OPTION}",
        files={"visits.py": VISITS, "conftest.py": RECORDER},
        environment={"FAILPOINTS": ENVIRONMENT},
    )
    result.assert_outcomes(passed=4, failed=8, errors=4, skipped=2, xfailed=2)
    record = json.loads((pytester.path / "record.json").read_text())
    assert [name for name, as_before in record["as before"].items() if not as_before] == []
    assert len(record["as before"]) == 18
    assert record["in the end"] == BEFORE


INTERRUPTIONS = {
    "KeyboardInterrupt": ("raise KeyboardInterrupt", 2),
    "pytest.exit": ("pytest.exit('enough', returncode=3)", 3),
}


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_interrupted_run(run_tests: RunTests, pytester: pytest.Pytester, interruption: str) -> None:
    """The configuration is restored and a paused thread is woken, even if the run is interrupted during the test."""
    statement, status = INTERRUPTIONS[interruption]
    test = f"""
        def test_interrupted(failpoints):
            held = change(failpoints).set("x", "pause")
            Background(visit_sync)
            held.wait_paused_sync()
            {statement}


        def test_never_run():
            pass
    """
    result = run_tests(
        VISITS_IMPORTS + CHANGE + dedent(test),
        f"--failpoints={OPTION}",
        files={"visits.py": VISITS, "conftest.py": RECORDER},
        environment={"FAILPOINTS": ENVIRONMENT},
    )
    assert result.ret == status
    record = json.loads((pytester.path / "record.json").read_text())
    assert record == {"as before": {}, "in the end": BEFORE, "went on": ["Continue()"]}


LEFT_PAUSED = """
LEFT = {}


@pytest.fixture(params=["pause", "pause(60m)", "sleep(60m)"])
def held(failpoints, request):
    return failpoints.set("x", request.param)


@pytest.fixture(autouse=True)
def all_that_were_left_went_on():
    assert {name: thread.finish() for name, thread in LEFT.items()} == dict.fromkeys(LEFT, Continue())
    LEFT.clear()


def leave():
    LEFT["thread"] = Background(visit_sync)
    LEFT["asyncio"] = Background(lambda: anyio.run(visit, backend="asyncio"))
    LEFT["trio"] = Background(lambda: anyio.run(visit, backend="trio"))


def test_passes(held):
    leave()
    held.wait_paused_sync(3)


def test_fails(held):
    leave()
    held.wait_paused_sync(3)
    raise AssertionError


@pytest.mark.anyio
async def test_in_async(held):
    leave()
    await held.wait_paused(3)


def test_configured_otherwise(failpoints):
    configure("x", "pause")
    leave()
    failpoints.handle("x").wait_paused_sync(3)


@pytest.mark.failpoints({"x": "pause"})
def test_marked(failpoints):
    leave()
    failpoints.handle("x").wait_paused_sync(3)


def test_at_what_the_run_configured(failpoints):
    LEFT["by the run"] = Background(lambda: visit_sync("by.the.run"))
    failpoints.handle("by.the.run").wait_paused_sync()


def test_nothing_else():
    pass
"""


def test_threads_and_tasks_that_still_wait_are_woken(run_tests: RunTests) -> None:
    """The end of a test wakes the threads, and the tasks on loops in other threads, that are paused or asleep."""
    result = run_tests(VISITS_IMPORTS + LEFT_PAUSED, "--failpoints=by.the.run=pause", files={"visits.py": VISITS})
    result.assert_outcomes(passed=3 + 6 + 1 + 1 + 1 + 1, failed=3)


WIDER = """
from failpoints._core.store import PROCESS_STORE

VISITS = []


def visit_kept():
    VISITS.append(visit_sync("kept", k="v"))
    return VISITS[-1]


@pytest.fixture(scope="module")
def kept():
    with configured("kept", "1*off->return(7)", context={"k": "v"}) as handle:
        assert visit_kept() == Continue()
        visit_sync("kept", k="other")
        yield handle


@pytest.fixture(autouse=True)
def nothing_has_changed(kept, request):
    yield
    if request.node.get_closest_marker("failpoints") is not None:
        return  # its configuration is removed later
    assert (kept.hits, kept.misses, kept.triggers) == (len(VISITS), 1, len(VISITS))
    assert (status("kept").configurations, kept.status.matchers) == ((kept.status,), {"k": "v"})
    assert visit_kept() == Return("7"), "its first action, off, is used up"


def test_untouched(failpoints, kept):
    failpoints.set("another", "off", expect_hit=False)
    assert (visit_kept(), kept.hits) == (Return("7"), len(VISITS))


def test_untouched_without_the_fixture(kept):
    assert (visit_kept(), kept.hits) == (Return("7"), len(VISITS))


def test_replaced_in_a_block(failpoints):
    with failpoints.paused("kept") as paused:
        thread = Background(lambda: visit_sync("kept"))
        paused.wait_paused_sync()
    assert (thread.finish(), visit_kept()) == (Continue(), Return("7"))


TOUCHES = {
    "set": lambda failpoints: failpoints.set("kept", "return(8)", expect_hit=False),
    "set again": lambda failpoints: [failpoints.set("kept", "off", expect_hit=False) for _ in range(2)],
    "removed": lambda failpoints: failpoints.remove("kept"),
    "removed and set": lambda failpoints: (failpoints.remove("kept"), failpoints.set("kept", "off", expect_hit=False)),
    "removed by a handle": lambda failpoints: failpoints.handle("kept").remove(),
    "reset": lambda failpoints: failpoints.reset(),
    "configured by the module": lambda failpoints: configure("kept", "return(8)"),
    "all configured by the module": lambda failpoints: configure_all([("kept", "return(8)"), ("another", "off")]),
    "removed by the module": lambda failpoints: remove("kept"),
    "reset by the module": lambda failpoints: reset(),
}


@pytest.mark.parametrize("touch", TOUCHES)
def test_touched(failpoints, touch):
    TOUCHES[touch](failpoints)
    assert visit_sync("kept", k="v") != Return("7")


@pytest.mark.failpoints({"kept": "return(8)"})
def test_touched_by_a_marker(kept):
    assert (visit_sync("kept"), status("kept").hits, kept.hits) == (Return("8"), 1, len(VISITS))


def test_touched_and_failing(failpoints):
    failpoints.reset()
    raise AssertionError


@pytest.fixture(scope="module")
def waited_for():
    with configured("waited-for", "off") as handle:
        yield handle


@pytest.fixture(scope="module")
def waiting(waited_for):
    return Background(lambda: waited_for.wait_hit_sync(2))


def test_starts_while_a_thread_waits(waiting, failpoints):
    failpoints.set("another", "off", expect_hit=False)
    visit_sync("waited-for")


def test_ends_a_wait_that_outlasted_a_test(waiting, failpoints):
    assert waiting.is_alive()
    visit_sync("waited-for")
    assert waiting.finish() is None


def test_replaces_what_a_thread_waits_for(waited_for, failpoints):
    failpoints.set("waited-for", "off", expect_hit=False)
    waited_for.thread = Background(lambda: wait_until_hit_sync("waited-for"))
    while not PROCESS_STORE._watches._watches.under("waited-for"):
        pass


def test_the_wait_ends_after_the_restore(waited_for):
    assert waited_for.hits == 2
    assert waited_for.thread.finish() is None


@pytest.fixture(scope="module")
def holding():
    with configured("held", "pause") as handle:
        yield handle


def test_ends_while_a_thread_is_paused(holding, failpoints):
    holding.thread = Background(lambda: visit_sync("held"))
    holding.wait_paused_sync(timeout=20)


def test_the_paused_thread_went_on(holding):
    assert holding.thread.finish() == Continue()


def test_replaces_the_pause(holding, failpoints):
    failpoints.set("held", "off", expect_hit=False)


def test_the_next_thread_is_paused(holding):
    thread = Background(lambda: visit_sync("held"))
    holding.wait_paused_sync(timeout=20)
    assert (holding.resume(), thread.finish()) == (1, Continue())
"""


def test_configuration_of_a_wider_fixture_is_restored(run_tests: RunTests) -> None:
    """What a fixture of a wider scope configured is restored after each test, with its counts and its handle."""
    result = run_tests(VISITS_IMPORTS + WIDER, files={"visits.py": VISITS})
    result.assert_outcomes(passed=3 + 10 + 1 + 2 + 2 + 4, failed=1)


CONSECUTIVE = """
def test_first(failpoints):
    failpoints.set("x", "return(7)")
    configure("y", "return(8)")
    assert (visit_sync("x"), visit_sync("y")) == (Return("7"), Return("8"))


def test_second(failpoints):
    assert (failpoints.statuses(), visit_sync("x"), visit_sync("y")) == ([], Continue(), Continue())
    assert failpoints.set("x", "off").hits == 0
    visit_sync("x")


def test_third_without_the_fixture():
    assert (statuses(), visit_sync("x")) == ([], Continue())
"""


def test_the_next_test_sees_nothing(run_tests: RunTests) -> None:
    """A test is not affected by what an earlier test set or configured, and its counts start at zero."""
    run_tests(VISITS_IMPORTS + CONSECUTIVE, files={"visits.py": VISITS}).assert_outcomes(passed=3)


def test_disabled_failpoints(run_tests: RunTests) -> None:
    """With FAILPOINTS_ENABLED=0, `set` and the marker raise an error with advice, and other tests run."""
    tests = """
        ADVICE = "cannot configure 'x': this process was started with FAILPOINTS_ENABLED=0; unset it"


        @pytest.mark.parametrize("set", [
            lambda failpoints: failpoints.set("x", "off"),
            lambda failpoints: failpoints.paused("x").__enter__(),
        ])
        def test_raises(failpoints, set):
            with pytest.raises(FailpointUsageError) as caught:
                set(failpoints)
            assert str(caught.value) == ADVICE


        def test_that_sets_nothing(failpoints):
            failpoints.reset()
            assert (failpoints.statuses(), visit_sync()) == ([], Continue())


        @pytest.mark.failpoints({"x": "off"})
        def test_marked():
            pass
    """
    result = run_tests(
        VISITS_IMPORTS + dedent(tests),
        files={"visits.py": VISITS},
        environment={"FAILPOINTS_ENABLED": "0", "FAILPOINTS": "x=off"},
    )
    result.assert_outcomes(passed=3, errors=1)
    advice = "cannot configure 'x': this process was started with FAILPOINTS_ENABLED=0; unset it"
    result.stdout.fnmatch_lines([f"*FailpointUsageError: {advice}"])
