"""The outcomes of tests that set failpoints which are never hit."""

from __future__ import annotations

from tests.plugin.inner_files import SHOP, RunTests
from tests.plugin.terminal import (
    NEVER_HIT,
    failures,
    outcomes,
)

TESTS = """import unittest

import pytest
import shop


@pytest.fixture
def prepared(failpoints):
    return failpoints.set("shop.charge", "return(1)")


@pytest.fixture
def fails_in_setup(failpoints):
    failpoints.set("shop.chagre", "off")
    raise OSError("no disk")


@pytest.fixture
def fails_in_teardown(failpoints):
    yield
    raise OSError("no disk")


def test_passes(failpoints):
    failpoints.set("shop.charge", "return(1)")
    assert shop.charge("o1") == 1


def test_passes_by_fixture(prepared):
    assert shop.charge("o1") == 1


def test_sets_nothing(failpoints):
    pass


def test_expects_no_hit(failpoints):
    failpoints.set("shop.chagre", "off", expect_hit=False)


@pytest.mark.failpoints({"shop.chagre": "off"}, expect_hit=False)
def test_marked_expects_no_hit():
    pass


@pytest.mark.failpoints({"shop.charge": "return(many)"}, expect_hit=False)
def test_marked_expects_no_action():
    with pytest.raises(Exception):
        shop.charge("o1")


@pytest.mark.failpoints({"shop.chagre": "off"})
def test_marked():
    pass


def test_fails(failpoints):
    failpoints.set("shop.chagre", "off")
    assert shop.charge("o1") == 43


def test_fails_in_setup(fails_in_setup):
    pass


def test_fails_in_teardown(fails_in_teardown, prepared):
    shop.charge("o1")


def test_skips(failpoints):
    failpoints.set("shop.chagre", "off")
    pytest.skip("later")


def test_xfails(failpoints):
    failpoints.set("shop.chagre", "off")
    pytest.xfail("known")


@pytest.mark.xfail
def test_fails_as_expected(failpoints):
    failpoints.set("shop.chagre", "off")
    assert shop.charge("o1") == 43


@pytest.mark.xfail
def test_passes_unexpectedly(failpoints):
    failpoints.set("shop.charge", "off")
    shop.charge("o1")


@pytest.mark.xfail(strict=True)
def test_passes_unexpectedly_strict(failpoints):
    failpoints.set("shop.charge", "off")
    shop.charge("o1")


@pytest.mark.xfail
def test_typo(failpoints):
    failpoints.set("shop.chagre", "off")


@pytest.mark.xfail(strict=True)
def test_typo_strict(failpoints):
    failpoints.set("shop.chagre", "off")


@pytest.mark.xfail(raises=OSError)
def test_typo_with_another_error_expected(failpoints):
    failpoints.set("shop.chagre", "off")


@pytest.mark.xfail
def test_failed_action(failpoints):
    failpoints.set("shop.charge", "return(many)")
    with pytest.raises(Exception):
        shop.charge("o1")


class TestCase(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def set_a_typo(self, failpoints):
        failpoints.set("shop.chagre", "off")

    def test_passes(self):
        pass

    def test_fails(self):
        self.fail("enough")

    @unittest.expectedFailure
    def test_fails_as_expected(self):
        self.fail("enough")

    @pytest.mark.xfail
    def test_fails_as_marked(self):
        self.fail("enough")

    @unittest.expectedFailure
    def test_passes_unexpectedly(self):
        pass

    def test_skips(self):
        self.skipTest("later")
"""

OUTCOMES = {
    "test_passes": "PASSED",
    "test_passes_by_fixture": "PASSED",
    "test_sets_nothing": "PASSED",
    "test_expects_no_hit": "PASSED",
    "test_marked_expects_no_hit": "PASSED",
    "test_marked_expects_no_action": "PASSED",
    "test_marked": "FAILED",
    "test_fails": "FAILED",
    "test_fails_in_setup": "ERROR",
    "test_fails_in_teardown": "ERROR",  # after it had passed
    "test_skips": "SKIPPED",
    "test_xfails": "XFAIL",
    "test_fails_as_expected": "XFAIL",
    "test_passes_unexpectedly": "XPASS",
    "test_passes_unexpectedly_strict": "FAILED",
    "test_typo": "FAILED",
    "test_typo_strict": "FAILED",
    "test_typo_with_another_error_expected": "FAILED",
    "test_failed_action": "FAILED",
    "TestCase::test_passes": "FAILED",
    "TestCase::test_fails": "FAILED",
    "TestCase::test_fails_as_expected": "XFAIL",
    "TestCase::test_fails_as_marked": "XFAIL",
    "TestCase::test_passes_unexpectedly": "FAILED",
    "TestCase::test_skips": "SKIPPED",
}

TYPO = NEVER_HIT.format(
    name="shop.chagre",
    details="""  configured: off, at <place>
  counts:     hits 0, misses 0, triggers 0
  declared:   not in any imported module; did you mean 'shop.charge', declared at shop.py:4 (charge)?""",
)


def test_outcomes(run_tests: RunTests) -> None:
    """Only a test that would have passed fails for a failpoint never hit, even if it is marked xfail."""
    result = run_tests(TESTS, "-v", "--tb=short", files={"shop.py": SHOP})
    assert outcomes(result) == OUTCOMES
    text = {name: failure.text for name, failure in failures(result).items()}
    assert "assert 42 == 43" in text["test_fails"]
    assert text["setup of test_fails_in_setup"].splitlines()[-1] == "E   OSError: no disk"
    assert text["teardown of test_fails_in_teardown"].splitlines()[-1] == "E   OSError: no disk"
    assert text["test_passes_unexpectedly_strict"] == "[XPASS(strict)] "
    for name in ("test_typo", "test_typo_strict", "test_typo_with_another_error_expected"):
        number = TESTS[: TESTS.index(f"def {name}(")].count("\n") + 2
        assert text[name] == TYPO.replace("<place>", f"test_inner.py:{number} ({name})")
    number = TESTS[: TESTS.index("def set_a_typo(")].count("\n") + 2
    place = f"test_inner.py:{number} (TestCase.set_a_typo)"
    assert text["TestCase.test_passes"] == TYPO.replace("<place>", place)
    assert text["TestCase.test_fails"].splitlines()[-1] == "E   AssertionError: enough"
    assert text["TestCase.test_passes_unexpectedly"].splitlines()[-1] == "Unexpected success"


def test_not_strict(run_tests: RunTests) -> None:
    """With `failpoints_strict = false` a test passes even if it never hits its failpoints or an action fails."""
    result = run_tests(TESTS, "-v", ini="failpoints_strict = false", files={"shop.py": SHOP})
    assert outcomes(result) == OUTCOMES | {
        "test_marked": "PASSED",
        "test_typo": "XPASS",
        "test_typo_with_another_error_expected": "XPASS",
        "test_failed_action": "XPASS",
        "TestCase::test_passes": "PASSED",
    }


TYPO_AND_PLAIN = """import pytest

def test_typo(request):
    request.getfixturevalue("failpoints").set("shop.chagre", "off")

def test_plain():
    pass
"""


def test_stop_at_failures_and_run_them_again(run_tests: RunTests) -> None:
    """A failpoint never hit is a failure for pytest: `-x` stops at it, and `--lf` runs it again."""
    first = run_tests(TYPO_AND_PLAIN, "-v", "-x", "-p", "cacheprovider")
    again = run_tests(TYPO_AND_PLAIN, "-v", "--lf", "-p", "cacheprovider")
    assert (outcomes(first), outcomes(again)) == ({"test_typo": "FAILED"}, {"test_typo": "FAILED"})


TESTS_WITH_TWO_TRIES = """\
import pytest
import shop

TRIED = []


def is_first(request):
    TRIED.append(request.node.name)
    return TRIED.count(request.node.name) == 1


def test_hits_at_the_second_try(failpoints, request):
    charge = failpoints.set("shop.charge", "1*return(1)->off")
    if not is_first(request):
        assert [shop.charge("o1"), shop.charge("o1"), charge.hits] == [1, 42, 2]


@pytest.mark.failpoints({"shop.charge": "1*return(1)->off"})
def test_marked(failpoints, request):
    if not is_first(request):
        assert [shop.charge("o1"), shop.charge("o1")] == [1, 42]


def test_sets_at_the_first_try(request):
    if is_first(request):
        request.getfixturevalue("failpoints").set("shop.chagre", "off")


def test_failed_action_at_the_first_try(request):
    if is_first(request):
        with pytest.raises(Exception):
            shop.locked()


def test_fails_at_each_try(request):
    if is_first(request):
        request.getfixturevalue("failpoints").set("shop.chagre", "off")
    assert not "done"


def test_tries():
    assert [TRIED.count(name) for name in dict.fromkeys(TRIED)] == [2] * 5
"""

RERUNS = """\
from _pytest.runner import runtestprotocol


def pytest_runtest_protocol(item, nextitem):
    for _ in range(2):
        item._initrequest()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if not any(report.failed for report in reports):
            break
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    return True
"""


def test_rerun_by_a_plugin(run_tests: RunTests) -> None:
    """A test that a plugin reruns passes or fails by what it set and hit in the last run."""
    files = {"shop.py": SHOP, "conftest.py": RERUNS}
    result = run_tests(TESTS_WITH_TWO_TRIES, "--failpoints=shop.lock=raise(TimeotError)", files=files)
    result.assert_outcomes(passed=5, failed=1)
    failed = failures(result)["test_fails_at_each_try"]
    assert (
        failed.section
        == """\
shop.lock
  configured: raise(TimeotError)
  counts:     hits 0, misses 0, triggers 0
  declared:   shop.py:18 (locked)"""
    )
