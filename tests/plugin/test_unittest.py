"""`failpoints.unittest.FailpointsMixin` under the runners of unittest and pytest."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import unittest
from pathlib import Path
from textwrap import dedent, indent

import pytest

from failpoints import FailpointUsageError
from failpoints.unittest import FailpointsMixin
from tests.plugin.inner_files import SHOP, RunTests
from tests.plugin.terminal import failures, outcomes

HEAD = """\
import math
import threading
import unittest

import failpoints as package
from failpoints.unittest import FailpointsMixin

import shop

"""

# The body of the class, and the result of each of its tests.
CASES = {
    "Plain": (
        """
        def setUp(self):
            assert package.statuses() == []
            self.stock = self.failpoints.set("shop.stock", "off")

        def test_hit(self):
            shop.restock()
            self.assertEqual(self.stock.hits, 4)

        def test_never_hit(self):
            self.failpoints.set("shop.charge", "off")
            shop.restock()

        def test_failing(self):
            self.fail("on purpose")

        def test_broken(self):
            raise ValueError("on purpose")

        def test_subtests(self):
            with self.subTest(1):
                self.fail("on purpose")

        def test_subtests_passing(self):
            with self.subTest(1):
                shop.restock()

        def test_hit_in_a_subtest_only(self):
            with self.subTest(1):
                self.failpoints.set("shop.charge", "off")
            shop.restock()

        def test_skipping(self):
            self.skipTest("a reason")

        @unittest.skip("a reason")
        def test_skipped(self):
            pass

        @unittest.expectedFailure
        def test_expected(self):
            self.fail("on purpose")

        @unittest.expectedFailure
        def test_expected_and_never_hit(self):
            self.failpoints.set("shop.charge", "off")

        def test_cleanup(self):
            self.addCleanup(shop.restock)

        def test_failing_cleanup(self):
            self.addCleanup(self.fail, "on purpose")

        def test_a_limit(self):
            shop.restock()
            with self.assertRaisesRegex(package.FailpointTimeout, "within 0.02 s"):
                self.failpoints.set("shop.charge", "pause", expect_hit=False).wait_paused_sync()

        failpoints_timeout = 0.02
        """,
        {
            "test_hit": "ok",
            "test_never_hit": "failures",
            "test_failing": "failures",
            "test_broken": "errors",
            "test_subtests": "failures",
            "test_subtests_passing": "ok",
            "test_hit_in_a_subtest_only": "failures",
            "test_skipping": "skipped",
            "test_skipped": "skipped",
            "test_expected": "expectedFailures",
            "test_expected_and_never_hit": "failures",
            "test_cleanup": "ok",
            "test_failing_cleanup": "failures",
            "test_a_limit": "ok",
        },
    ),
    "TearDown": (
        """
        def tearDown(self):
            shop.restock()

        def test_hit(self):
            self.failpoints.set("shop.stock", "off")

        def test_never_hit(self):
            self.failpoints.set("shop.charge", "off")
        """,
        {"test_hit": "ok", "test_never_hit": "failures"},
    ),
    "BrokenSetUp": (
        """
        def setUp(self):
            self.failpoints.set("shop.stock", "off")
            raise ValueError("on purpose")

        def test_it(self):
            pass
        """,
        {"test_it": "errors"},
    ),
    "Lax": (
        """
        failpoints_strict = False
        failpoints_pause_limit = 0.02

        def test_it(self):
            self.failpoints.set("shop.stock", "off")

        def test_pause(self):
            self.failpoints.set("shop.stock", "pause")
            with self.assertRaisesRegex(package.FailpointTimeout, "the setting failpoints_pause_limit"):
                shop.restock()
        """,
        {"test_it": "ok", "test_pause": "ok"},
    ),
}

ASYNC = """
async def asyncSetUp(self):
    self.charge = self.failpoints.set("shop.charge", "off")

async def test_hit(self):
    shop.charge("o1")
    self.assertEqual(self.charge.hits, 1)

async def test_never_hit(self):
    pass

async def test_hit_in_a_cleanup(self):
    async def charge():
        shop.charge("o1")
    self.addAsyncCleanup(charge)

async def test_failing(self):
    self.fail("on purpose")

async def test_a_limit(self):
    shop.charge("o1")
    with self.assertRaisesRegex(package.FailpointTimeout, "within 0.02 s"):
        await self.failpoints.set("shop.stock", "pause", expect_hit=False).wait_paused()

failpoints_timeout = 0.02
"""

EXPECTED = {
    **{f"{case}.{test}": outcome for case, (_, tests) in CASES.items() for test, outcome in tests.items()},
    "Async.test_hit": "ok",
    "Async.test_never_hit": "failures",
    "Async.test_hit_in_a_cleanup": "ok",
    "Async.test_failing": "failures",
    "Async.test_a_limit": "ok",
    "Nothing.test_it": "ok",
}

NOTHING = """
def test_it(self):
    assert package.statuses() == []
"""


def source() -> str:
    """Return a module with all the cases."""
    parts = [HEAD]
    bodies = {**{case: body for case, (body, _) in CASES.items()}, "Nothing": NOTHING, "Async": ASYNC}
    for case, body in bodies.items():
        base = "IsolatedAsyncioTestCase" if case == "Async" else "TestCase"
        parts.append(f"class {case}(FailpointsMixin, unittest.{base}):\n{indent(dedent(body), '    ')}")
    return "\n\n".join(parts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the cases and the shop."""
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    (tmp_path / "test_inner.py").write_text(source(), encoding="utf-8")
    return tmp_path


BLOCKED = """\
import json, sys, unittest
sys.modules["pytest"] = sys.modules["_pytest"] = sys.modules["hypothesis"] = None

class Result(unittest.TextTestResult):
    def startTest(self, test):
        super().startTest(test)
        outcomes[name(test)] = "ok"

def name(test):
    return getattr(test, "test_case", test).id().removeprefix("test_inner.")

outcomes = {}
suite = unittest.defaultTestLoader.loadTestsFromName("test_inner")
result = unittest.TextTestRunner(resultclass=Result).run(suite)
for outcome in ("failures", "errors", "skipped", "expectedFailures", "unexpectedSuccesses"):
    for problem in getattr(result, outcome):
        assert outcomes.setdefault(name(problem[0]), "ok") == "ok", f"{name(problem[0])} has two outcomes"
        outcomes[name(problem[0])] = outcome
print(json.dumps(outcomes))
"""


def test_the_runner_of_unittest(folder: Path) -> None:
    """A test that passes without a hit fails. Others keep their outcome. pytest need not be installed."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert json.loads(done.stdout) == EXPECTED
    assert done.stderr.count("AssertionError: failpoint ") == 5
    assert done.stderr.count("failpoint 'shop.charge' was set and never hit") == 5
    assert "failpoints_strict = False in the class for all its tests." in done.stderr
    assert "/failpoints/_plugin/" not in done.stderr


STOCK = """\
shop.stock
  configured: off, at test_inner.py:16 (Plain.setUp)
  counts:     hits 0, misses 0, triggers 0
  declared:   shop.py:23 (restock), shop.py:24 (restock), shop.py:25 (restock) and 1 more"""


def test_pytest(run_tests: RunTests) -> None:
    """Under pytest the outcomes are the same, no test is judged twice, and a report has the usual section."""
    result = run_tests(source(), "-v", files={"shop.py": SHOP}, plugins=())
    of_pytest = {"failures": "FAILED", "errors": "FAILED", "skipped": "SKIPPED", "expectedFailures": "XFAIL"}
    expected = {name.replace(".", "::"): of_pytest.get(outcome, "PASSED") for name, outcome in EXPECTED.items()}
    found = outcomes(result)
    del expected["Plain::test_subtests"], found["Plain::test_subtests"]  # which depends on the version of pytest
    assert found == expected
    shown = failures(result)
    assert shown["Plain.test_failing"].section == STOCK
    assert shown["Plain.test_never_hit"].section == STOCK.replace(
        "hits 0, misses 0, triggers 0", "hits 4, misses 0, triggers 4"
    )
    assert shown["BrokenSetUp.test_it"].section == STOCK.replace(":16 (Plain.", ":89 (BrokenSetUp.")
    assert len(re.findall(r"^E +AssertionError: failpoint ", result.stdout.str(), re.MULTILINE)) == 5


def test_hypothesis(folder: Path) -> None:
    """Each example of a property in a test case is a test of its own."""
    (folder / "test_inner.py").write_text(
        HEAD
        + """\
from hypothesis import given, settings, strategies as st

class Properties(FailpointsMixin, unittest.TestCase):
    def setUp(self):
        self.stock = self.failpoints.set("shop.charge", "1*return(-1)")

    @settings(database=None, derandomize=True, deadline=None)
    @given(order=st.integers(0, 1000))
    def test_passing(self, order):
        assert [status.name for status in package.statuses()] == ["shop.charge"]
        self.failpoints.set("shop.stock", "off")
        shop.restock()
        assert [shop.charge(order), shop.charge(order)] == [-1, 42]

    @settings(database=None, derandomize=True, deadline=None)
    @given(order=st.integers(0, 1000))
    def test_failing(self, order):
        if order < 500:
            shop.charge(order)
""",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-m", "unittest", "test_inner"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "FAILED (failures=1)" in done.stderr
    assert done.stderr.count("was set and never hit") == 1
    assert "order=500" in done.stderr


def test_debug() -> None:
    """`debug` judges a test, too, and lets the exception through."""

    class Test(FailpointsMixin, unittest.TestCase):
        def runTest(self) -> None:  # noqa: N802
            self.failpoints.set("x", "off")

    with pytest.raises(AssertionError, match="^failpoint 'x' was set and never hit"):
        Test().debug()


def test_the_way_to_reach_processes_is_an_attribute() -> None:
    """A failpoint that was not hit by a test which started a process advises to set an attribute of the class."""

    class Test(FailpointsMixin, unittest.TestCase):
        def runTest(self) -> None:  # noqa: N802
            self.failpoints.set("x", "off")
            subprocess.run([sys.executable, "-S", "-c", ""], check=True, timeout=50)

    with pytest.raises(AssertionError) as failure:
        Test().debug()
    advice = "count the hits, set failpoints_processes = True in the class\n"
    assert advice in str(failure.value) or sys.platform == "win32"
    assert "ini file" not in str(failure.value)


def test_an_ended_test_configures_nothing() -> None:
    """After the test `self.failpoints` refuses to configure, as the fixture does."""

    class Test(FailpointsMixin, unittest.TestCase):
        def runTest(self) -> None:  # noqa: N802
            pass

    test = Test()
    assert test.run(unittest.TestResult()) is not None
    with pytest.raises(FailpointUsageError, match="the test that has this fixture has ended"):
        test.failpoints.set("x", "off")


def test_the_order_of_the_bases() -> None:
    """The mixin stands before the test case, or it would never be called."""
    with pytest.raises(
        FailpointUsageError, match=r"Wrong must name FailpointsMixin before its test case: class Wrong\("
    ):
        type("Wrong", (unittest.TestCase, FailpointsMixin), {})


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("timeout", "soon", "a number of seconds greater than 0, or math.inf; got 'soon'"),
        ("timeout", float("nan"), "a number of seconds greater than 0, or math.inf; got nan"),
        ("pause_limit", -1, "a number of seconds greater than 0, or math.inf; got -1"),
        ("pause_limit", True, "a number of seconds greater than 0, or math.inf; got True"),
        ("strict", "no", "True or False; got 'no'"),
        ("processes", None, "True or False; got None"),
    ],
)
def test_a_setting_of_a_wrong_value(attribute: str, value: object, message: str) -> None:
    """A wrong setting of the class is an error of each test, which does not begin, and names class and attribute."""

    class Wrong(FailpointsMixin, unittest.TestCase):
        def runTest(self) -> None:  # noqa: N802
            raise AssertionError("it has begun")

    setattr(Wrong, f"failpoints_{attribute}", value)
    expected = f"Wrong.failpoints_{attribute}: expected {message}"
    result = unittest.TestResult()
    Wrong().run(result)
    assert result.testsRun == 1 and not result.failures
    assert expected in result.errors[0][1]
    with pytest.raises(FailpointUsageError, match=re.escape(expected)):
        Wrong().debug()


class Pickled(FailpointsMixin, unittest.TestCase):
    """A test case that pickles itself while it runs, as Django does for a subtest that fails."""

    __test__ = False

    def runTest(self) -> None:  # noqa: N802
        self.failpoints.set("x", "off", expect_hit=False)
        for key, value in vars(self).items():
            if key not in ("_outcome", "_subtest"):
                try:
                    pickle.dumps(value)
                except (AttributeError, TypeError, pickle.PicklingError):  # but not a RecursionError
                    assert key in ("failpoints", "_failpoints_expectations")


def test_a_test_can_be_pickled() -> None:
    """A test case with the mixin can be pickled, and nothing that it keeps refers to it."""
    result = unittest.TestResult()
    test = Pickled()
    test.run(result)
    assert result.wasSuccessful(), result.errors + result.failures
    assert pickle.loads(pickle.dumps(test)).id() == test.id()
