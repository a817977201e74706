"""`--failpoints-explore`: which tests of a suite are explored, with which fixtures, and what happens to the others."""

from __future__ import annotations

from textwrap import dedent
from typing import NamedTuple

import pytest

from tests.plugin.inner_files import RunTests
from tests.plugin.terminal import outcomes

EXPLORE = ("--failpoints-explore=4", "-v")


class Plugin(NamedTuple):
    """A plugin that runs async tests: what to load, the ini file, and how a test file begins."""

    names: tuple[str, ...]
    ini: str
    marker: str
    fixture: str
    sleep: str
    indirect: str = 'request.getfixturevalue("double")'


PLUGINS = {
    "anyio on asyncio": Plugin(("anyio",), "", "pytest.mark.anyio", "pytest.fixture", "asyncio.sleep"),
    "anyio on trio": Plugin(("anyio",), "", "pytest.mark.anyio", "pytest.fixture", "trio.sleep"),
    "pytest-asyncio, strict": Plugin(
        ("asyncio",), "", "pytest.mark.asyncio", "pytest_asyncio.fixture", "asyncio.sleep"
    ),
    "pytest-asyncio, auto": Plugin(
        ("asyncio",), "asyncio_mode = auto", "pytest.mark.usefixtures()", "pytest.fixture", "asyncio.sleep"
    ),
    "pytest-trio": Plugin(("trio",), "", "pytest.mark.trio", "pytest.fixture", "trio.sleep", "double"),
}

FIXTURES = """
    import asyncio
    import pytest
    import pytest_asyncio
    import trio

    sleep = {sleep}
    set_up = []
    torn_down = []

    @pytest.fixture
    def anyio_backend():
        return {sleep!r}.split(".")[0]

    @pytest.fixture(scope="module")
    def of_module():
        set_up.append("module")
        return []

    @pytest.fixture
    def log(of_module):
        return []

    @{fixture}
    async def opened(log):
        await sleep(1)
        log.append("opened")
        yield "value"
        await sleep(1)
        log.append("closed")
        torn_down.append(tuple(log))

    @{fixture}
    async def double(opened):
        await sleep(0)
        return opened * 2

    @pytest.fixture
    def indirect(request, tmp_path{parameter}):
        yield {indirect}
        torn_down.append("sync")

    @{marker}
    class TestThis:
        @pytest.fixture(autouse=True)
        def own(self):
            assert not hasattr(self, "used")
            self.used = True

        async def test_fixtures(self, indirect, log, tmp_path, monkeypatch):
            assert indirect == "valuevalue"
            assert log == ["opened"]
            assert list(tmp_path.iterdir()) == []
            (tmp_path / "file").touch()

    def test_afterwards():
        assert set_up == ["module"]
        assert len(torn_down) >= 3 * 2
        assert torn_down == ["sync", ("opened", "closed")] * (len(torn_down) // 2)
"""


@pytest.mark.parametrize("plugin", PLUGINS.values(), ids=PLUGINS)
def test_fixtures_of_a_test_are_fresh_in_each_run(run_tests: RunTests, plugin: Plugin) -> None:
    """Each run sets up and tears down the fixtures of the test, async ones on its own loop, and an instance."""
    source = dedent(FIXTURES).format(**plugin._asdict(), parameter=", double" if plugin.indirect == "double" else "")
    if "asyncio" not in plugin.names:
        source = source.replace("import pytest_asyncio\n", "")
    result = run_tests(source, *EXPLORE, ini=plugin.ini, plugins=plugin.names)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines("explored 1 async test in * passed in all of them, 0 failed in one")


def test_nurseries_of_pytest_trio(run_tests: RunTests) -> None:
    """The fixture `nursery` is a nursery of the run, which is cancelled when the test ends."""
    source = """
        import pytest, trio

        @pytest.fixture
        async def server(nursery):
            nursery.start_soon(trio.sleep_forever)

        @pytest.mark.trio
        async def test_this(server, nursery):
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep(1)
    """
    result = run_tests(source, *EXPLORE, plugins=["trio"])
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines("explored 1 async test in *")


def test_cases_of_unittest(run_tests: RunTests) -> None:
    """A test of `IsolatedAsyncioTestCase` has its whole case in each run, and errors of unittest stay what they are."""
    source = """
        import asyncio, unittest

        calls = []

        class Test(unittest.IsolatedAsyncioTestCase):
            def setUp(self):
                self.calls = ["setUp"]

            async def asyncSetUp(self):
                await asyncio.sleep(0)
                self.calls.append("asyncSetUp")
                self.addCleanup(self.calls.append, "cleanup")
                self.addAsyncCleanup(self.clean)

            async def clean(self):
                self.calls.append("async cleanup")

            async def asyncTearDown(self):
                self.calls.append("asyncTearDown")

            def tearDown(self):
                calls.append(self.calls)

            async def test_passes(self):
                self.assertEqual(self.calls, ["setUp", "asyncSetUp"])

            async def test_fails(self):
                self.fail("on purpose")

            async def test_skips(self):
                self.skipTest("on purpose")

            @unittest.expectedFailure
            async def test_is_expected_to_fail(self):
                self.fail("on purpose")

        def test_afterwards():
            assert len(calls) >= 3 + 3
            for each in calls:
                assert each == ["setUp", "asyncSetUp", "asyncTearDown", "async cleanup", "cleanup"]
    """
    result = run_tests(source, *EXPLORE, plugins=[])
    result.assert_outcomes(passed=2, failed=1, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines("explored 1 async test in *")


LEFT = """
    import asyncio
    import unittest.mock
    import pytest
    from hypothesis import given
    from hypothesis import strategies as st

    pytestmark = pytest.mark.asyncio
    seen = []

    @pytest.fixture(scope="module")
    async def server():
        yield "server"

    async def test_wide(server):
        assert server == "server"

    async def test_that_runs_once():
        assert not seen
        seen.append(1)

    @given(st.just(1))
    async def test_property(number):
        assert number == 1

    async def test_failpoints(failpoints):
        failpoints.set("x", "off", expect_hit=False)

    async def test_without_a_fixed_number_of_steps():
        seen.append(1)
        for _ in seen:
            await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))

    async def test_with_its_own_clock():
        with unittest.mock.patch.object(asyncio.get_running_loop()._selector, "select"):
            pass

    def test_sync():
        pass
"""


def test_tests_that_cannot_be_explored_are_named(run_tests: RunTests) -> None:
    """A test that cannot be explored passes as without the option, and the summary has its reason."""
    result = run_tests(LEFT, *EXPLORE, ini="asyncio_mode = auto", plugins=["asyncio", "hypothesispytest"])
    result.assert_outcomes(passed=7)
    result.stdout.fnmatch_lines_random(
        [
            "left to its own plugin: *::test_wide: has an async fixture of a wider scope*'server' (module)",
            "left to its own plugin: test_inner.py::test_that_runs_once: cannot be repeated * AssertionError: *",
            "left to its own plugin: test_inner.py::test_property: is repeated by Hypothesis",
            "left to its own plugin: test_inner.py::test_failpoints: configures failpoints itself",
            "left to its own plugin: *::test_with_its_own_clock: cannot be repeated *: AttributeError: *'select'",
        ]
    )


def test_a_test_that_a_plugin_reruns_is_explored_once(run_tests: RunTests) -> None:
    """Each try of a test that a plugin reruns is explored alone. The summary has the verdict on the last one."""
    source = """
        import asyncio, pytest

        runs = []

        @pytest.mark.asyncio
        async def test_one_task():
            runs.append(1)

        def test_runs():
            assert len(runs) == 3 * 3, "three tries, each by the plugin and twice by the explorer"
    """
    reruns = """
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):
            for _ in range(3):
                item._initrequest()
                reports = runtestprotocol(item, nextitem=nextitem, log=False)
            for report in reports:
                item.ihook.pytest_runtest_logreport(report=report)
            return True
    """
    result = run_tests(source, *EXPLORE, plugins=["asyncio"], files={"conftest.py": reruns})
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines("explored 1 async test in 1 order: 1 passed in all of them, 0 failed in one")


def test_tests_that_behave_differently_in_equal_runs(run_tests: RunTests) -> None:
    """A test whose order cannot be repeated is nondeterministic, or passes only once. It does not fail."""
    source = """
        import asyncio, itertools, pytest

        runs = itertools.count()

        async def test_that_fails_in_one_run():
            assert next(runs) != 2

        pytestmark = pytest.mark.asyncio
    """
    result = run_tests(source, *EXPLORE, plugins=["asyncio"])
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines("nondeterministic: test_inner.py::test_that_fails_in_one_run: *")


@pytest.mark.parametrize(
    ("setting", "plugins"),
    [
        ('@pytest.fixture\ndef anyio_backend():\n    return "asyncio", {"use_uvloop": True}', ["anyio"]),
        ("def pytest_asyncio_loop_factories():\n    return {'own': asyncio.SelectorEventLoop}", ["asyncio"]),
    ],
    ids=["anyio", "pytest-asyncio"],
)
def test_loops_of_another_kind(run_tests: RunTests, setting: str, plugins: list[str]) -> None:
    """A test whose suite chooses the event loop is left to its plugin."""
    pytest.importorskip("uvloop")
    source = f"""
        import pytest

        @pytest.mark.{plugins[0]}
        async def test_this():
            pass
    """
    conftest = f"import asyncio, pytest\n\n{setting}\n"
    result = run_tests(source, *EXPLORE, files={"conftest.py": conftest}, plugins=plugins)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines("left to its own plugin: *: chooses its event loop: *")


def test_outcomes_stay_as_they_are(run_tests: RunTests) -> None:
    """Skipped, failing and expected failures, parameters and the order of the tests are as without the option."""
    source = """
        import asyncio
        import pytest

        pytestmark = pytest.mark.asyncio

        @pytest.mark.skip
        async def test_skipped():
            pass

        @pytest.mark.parametrize("number", [2, 1])
        async def test_parameters(number):
            assert number == 1

        @pytest.mark.xfail
        async def test_expected():
            await asyncio.sleep(1)
            raise ValueError

        @pytest.fixture
        async def fails_at_the_end():
            yield
            raise ValueError

        async def test_error(fails_at_the_end):
            pass

        async def test_skips_itself():
            pytest.skip("on purpose")

        def test_sync():
            pass
    """
    arguments = ("-v", "-p", "no:randomly")
    plain = run_tests(source, *arguments, ini="asyncio_mode = auto", plugins=["asyncio"])
    explored = run_tests(source, *arguments, "--failpoints-explore=3", ini="asyncio_mode = auto", plugins=["asyncio"])
    assert list(outcomes(explored).items()) == list(outcomes(plain).items())
    plain.assert_outcomes(passed=3, failed=1, skipped=2, xfailed=1, errors=1)
    explored.assert_outcomes(passed=3, failed=1, skipped=2, xfailed=1, errors=1)


def test_errors_that_no_task_retrieves(run_tests: RunTests) -> None:
    """What the plugin of a test only logs does not fail the test, and what it leaves running is cancelled."""
    source = """
        import asyncio, pytest

        async def fail():
            raise ValueError

        @pytest.mark.asyncio
        async def test_this():
            asyncio.create_task(fail())
            asyncio.create_task(asyncio.sleep(1000))
            asyncio.get_running_loop().call_soon(int, "x")
            await asyncio.sleep(1)
    """
    result = run_tests(source, *EXPLORE, plugins=["asyncio"])
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines("explored 1 async test in * 1 passed in all of them, 0 failed in one")


def test_a_time_limit_for_the_orders_of_a_test(run_tests: RunTests) -> None:
    """A test whose orders take long is explored in fewer of them, and the summary says so."""
    source = """
        import asyncio, pytest
        from failpoints._suites import plugin

        plugin._MOST_SECONDS = 0.0

        @pytest.mark.asyncio
        async def test_this():
            await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
    """
    result = run_tests(source, *EXPLORE, plugins=["asyncio"])
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["explored 1 async test in 1 order*", "not fully explored: *: took * fewer orders*"])


def test_the_limit_of_pytest_timeout_is_for_one_run(run_tests: RunTests) -> None:
    """The timer of pytest-timeout is cancelled before a test runs again."""
    plugin = """
        class Hooks:
            def pytest_timeout_cancel_timer(item):
                pass

        def pytest_addhooks(pluginmanager):
            pluginmanager.add_hookspecs(Hooks)

        def pytest_timeout_cancel_timer(item):
            item.cancelled_after = list(item.module.runs)
    """
    source = """
        import pytest

        runs = []

        @pytest.mark.asyncio
        async def test_this(request):
            runs.append(request.node)
            assert getattr(request.node, "cancelled_after", [request.node]) == runs[:1]
    """
    result = run_tests(source, *EXPLORE, "-p", "timers", files={"timers.py": plugin}, plugins=["asyncio"])
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines("explored 1 async test in * passed in all of them, 0 failed in one")


def test_without_the_option_nothing_is_imported(run_tests: RunTests) -> None:
    """The room of this option is imported by the option alone."""
    source = """
        import sys

        def test_this(failpoints):
            assert "failpoints._suites.plugin" not in sys.modules
    """
    run_tests(source, plugins=[]).assert_outcomes(passed=1)


@pytest.mark.parametrize("number", ["0", "-1", "tests"])
def test_a_number_that_is_none(run_tests: RunTests, number: str) -> None:
    """A path after the option is taken for the number of orders. The message has the remedy."""
    result = run_tests("", "--failpoints-explore", number)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    expected = f"expected a number of orders; got '{number}'*" if number != "-1" else "*"
    result.stderr.fnmatch_lines(f"*{expected}")
