"""What the pytest plugin takes for granted about pytest."""

from __future__ import annotations

import asyncio
import unittest
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.internals


@pytest.fixture(scope="module")
def wide() -> str:
    """Serve as a fixture of a wider scope."""
    return "wide"


def test_the_terminal_can_be_written_to_during_a_test(request: pytest.FixtureRequest) -> None:
    """The writer of the terminal reporter knows its column, and capturing can be suspended for a moment."""
    plugins = request.config.pluginmanager
    reporter: Any = plugins.get_plugin("terminalreporter")
    if reporter is not None:  # a worker of pytest-xdist has none
        assert reporter._tw.fullwidth > 0
        assert reporter._tw.width_of_current_line >= 0
    capture: Any = plugins.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        pass


def test_an_item_knows_its_fixtures(request: pytest.FixtureRequest, wide: str) -> None:
    """An item's `_fixtureinfo` has the scope of each of its fixtures, and its `fixturenames` can be replaced."""
    item: Any = request.node
    definitions = item._fixtureinfo.name2fixturedefs
    assert definitions["wide"][-1].scope == "module"
    assert definitions["nothing_configured"][-1].scope == "function"
    assert {"request", "wide", "nothing_configured"} <= set(item.fixturenames)
    item.fixturenames = [*item.fixturenames]


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("number", [pytest.param(1, marks=pytest.mark.filterwarnings("default"))])
def test_a_parametrized_item_knows_the_marks_of_its_parameters(request: pytest.FixtureRequest, number: int) -> None:
    """The `callspec` of an item has the marks of its `pytest.param`, apart from those of the function."""
    callspec: Any = request.node.callspec
    assert [mark.name for mark in callspec.marks] == ["filterwarnings"]


def test_a_unittest_item_keeps_its_error(pytester: pytest.Pytester) -> None:
    """The error of a `unittest` test case is in `_excinfo`, and is not raised."""
    pytester.makepyfile(
        """
        import unittest

        class Test(unittest.TestCase):
            def test_failing(self):
                self.fail("on purpose")

            def test_passing(self):
                pass
        """
    )
    pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_call(item):
            yield
            print(f"{item.name}: {bool(getattr(item, '_excinfo', None))}")
        """
    )
    others = [f"-pno:{name}" for name in ("asyncio", "cacheprovider", "failpoints", "randomly", "trio")]
    result = pytester.runpytest_inprocess("-s", *others)
    result.stdout.fnmatch_lines(["*test_failing: True*", "*test_passing: False*"])


@pytest.fixture
def narrow() -> str:
    """Serve as a fixture with the scope of a function."""
    return "narrow"


@pytest.fixture
def widened(request: pytest.FixtureRequest, narrow: str) -> Iterator[None]:
    """Change the scope of `narrow` while a test runs."""
    item: Any = request.node
    definition = item._request._get_active_fixturedef("narrow")
    assert definition.func.__name__ == "narrow"
    scope = definition._scope
    definition._scope = type(scope)("class")
    yield
    definition._scope = scope


@pytest.mark.usefixtures("widened")
@given(number=st.integers())
def test_hypothesis_asks_for_the_scope_of_a_fixture(narrow: str, number: int) -> None:
    """Hypothesis accepts the fixture if the scope in its active definition is wider."""
    assert narrow == "narrow"


def test_an_item_can_be_set_up_again(pytester: pytest.Pytester) -> None:
    """An item that has lost its finalizers, its values and its instance is set up afresh, after an interruption too."""
    pytester.makepyfile(
        """
        import pytest

        log = []

        class Interrupted(BaseException):
            pass

        @pytest.fixture
        def inner():
            log.append("inner")
            if len(log) == 3:
                raise Interrupted
            yield
            log.append("torn down")

        class TestThis:
            def test_this(self, request, inner):
                item = request.node
                finalizers = item.session._setupstate.stack[item][0]
                assert finalizers[0] == item.teardown
                while len(finalizers) > 1:
                    finalizers.pop()()
                assert log == ["inner", "torn down"]
                stash = dict(item.stash._storage)
                item._initrequest()
                assert item.funcargs == {}
                item._instance = item._getinstance()
                item.obj = item._instance.test_this
                assert item.instance is not self
                assert "inner" in item._fixtureinfo.argnames
                with pytest.raises(Interrupted):
                    item._request.getfixturevalue("inner")
                definition = item._fixtureinfo.name2fixturedefs["inner"][-1]
                assert definition.cached_result is None
                assert definition._finalizers
                definition._finalizers.clear()
                item._request.getfixturevalue("inner")
                assert log == ["inner", "torn down", "inner", "inner"]
                manager = item.config.pluginmanager
                assert manager.getplugin("capturemanager").read_global_capture() == ("", "")
                manager.getplugin("logging-plugin").caplog_handler.clear()
                manager.getplugin("logging-plugin").report_handler.reset()
        """
    )
    others = [f"-pno:{name}" for name in ("asyncio", "cacheprovider", "failpoints", "randomly", "trio")]
    pytester.runpytest_inprocess(*others).assert_outcomes(passed=1)


def test_a_case_keeps_its_cleanups() -> None:
    """The cleanups of a case, async ones too, are in a list, in the order in which they were added."""
    calls = []

    async def clean(number: int, *, key: int) -> None:
        calls.append((number, key))

    case: Any = unittest.IsolatedAsyncioTestCase("run")
    case.addCleanup(print, 1)
    case.addAsyncCleanup(clean, 2, key=3)
    (_, *_), (function, args, kwargs) = case._cleanups
    asyncio.run(function(*args, **kwargs))
    assert calls == [(2, 3)]
