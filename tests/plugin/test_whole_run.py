"""Failpoints that `--failpoints` and `FAILPOINTS` configure for the whole run."""

from __future__ import annotations

import pytest

from tests.plugin.inner_files import VISITS, VISITS_IMPORTS, RunTests

USED = """
@pytest.mark.parametrize("name", ["by.environment", "by.option"])
class TestUnused:
    def meets_it_unused(self, name):
        with pytest.raises(InjectedFault):
            visit_sync(name)
        assert visit_sync(name) == Continue()

    @pytest.mark.parametrize("time", [1, 2])
    def test_without_the_fixture(self, name, time):
        self.meets_it_unused(name)

    @pytest.mark.parametrize("time", [1, 2])
    def test_with_the_fixture(self, failpoints, name, time):
        assert failpoints.handle(name).hits == 0
        self.meets_it_unused(name)
        assert failpoints.handle(name).hits == 2

    @pytest.mark.parametrize("time", [1, 2])
    def test_replaced(self, failpoints, name, time):
        self.meets_it_unused(name)
        failpoints.set(name, "return(8)")
        assert visit_sync(name) == Return("8")

    @pytest.mark.parametrize("time", [1, 2])
    def test_removed(self, failpoints, name, time):
        self.meets_it_unused(name)
        failpoints.remove(name)
        assert visit_sync(name) == Continue()
"""

REPLACED_BY_A_WIDER_FIXTURE = """
class TestReplaced:
    @pytest.fixture(scope="class", params=["by.environment", "by.option"])
    def replaced(self, request):
        configure(request.param, "3*off->return(9)")
        return request.param

    @pytest.mark.parametrize("time", [1, 2])
    def test_replaced(self, replaced, failpoints, time):
        assert failpoints.handle(replaced).hits == 2 * (time - 1)
        assert [visit_sync(replaced), visit_sync(replaced)] == [Continue(), Return("9") if time == 2 else Continue()]
"""

RESET = """
@pytest.mark.parametrize("time", [1, 2])
def test_reset_without_the_fixture(time):
    with pytest.raises(InjectedFault):
        visit_sync("by.environment")
    with pytest.raises(InjectedFault):
        visit_sync("by.option")
    reset()
"""


@pytest.mark.parametrize(
    ("tests", "passed"),
    [(USED, 16), (RESET, 2), (REPLACED_BY_A_WIDER_FIXTURE, 4)],
    ids=["used", "reset", "replaced for longer"],
)
def test_each_test_starts_with_unused_configuration(run_tests: RunTests, tests: str, passed: int) -> None:
    """FAILPOINTS and --failpoints configure each test again, except what a fixture of a wider scope has replaced."""
    result = run_tests(
        VISITS_IMPORTS + tests,
        "--failpoints=by.option=1*raise",
        files={"visits.py": VISITS},
        environment={"FAILPOINTS": "by.environment=1*raise;by.option=off"},
    )
    result.assert_outcomes(passed=passed)


TESTS = """\
from failpoints import failpoint
import pytest

@pytest.mark.parametrize("number", range(4))
def test_hits(number):
    if number == 3:
        failpoint("hit.once").hit()
    failpoint("missed", context={}).hit()

def never_called():
    failpoint("unreached").hit()

def test_replaces(failpoints):
    failpoints.set("replaced", "off")
    failpoint("replaced").hit()
"""

NEVER_HIT = [
    "failpoint 'hit.onec', configured for the whole run, was never hit; declared: not in any imported module;"
    " did you mean 'hit.once', declared at test_inner.py:7 (test_hits)?",
    "failpoint 'unreached', configured for the whole run, was never hit; declared: test_inner.py:11 (never_called)",
    "failpoint 'replaced', configured for the whole run, was never hit; declared: test_inner.py:15 (test_replaces)",
]


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "two workers"])
def test_never_hit_in_the_whole_run(run_tests: RunTests, workers: tuple[str, ...]) -> None:
    """At the end the run lists what was configured for all tests and hit by none, with where it is declared."""
    result = run_tests(
        TESTS,
        "--failpoints=hit.onec=off;unreached=off;replaced=off",
        *workers,
        environment={"FAILPOINTS": "hit.once=off;missed=off"},
    )
    assert sorted(line for line in result.outlines if "the whole run" in line) == sorted(NEVER_HIT)
    result.assert_outcomes(passed=5)


def test_run_without_tests(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    """A run in which no test ran lists nothing as never hit, and writes no report if it only collects tests."""
    for arguments in (("--collect-only", "--failpoints-report-json=report.json"), ("-k", "no_such_test")):
        result = run_tests(TESTS, "--failpoints=hit.onec=off", *arguments)
        result.stdout.no_fnmatch_line("*the whole run*")
    assert not (pytester.path / "report.json").exists()


MATCHERS = """
from failpoints import Continue, Return, failpoint
import pytest

@pytest.mark.parametrize("time", [1, 2])
def test_matching(failpoints, time):
    assert failpoint("charge", context={"shard": 3}).hit() == Return("42")
    assert failpoint("charge", context={"shard": 4}).hit() == Continue()
    assert failpoints.handle("charge").hits == 1
"""


def test_matchers(run_tests: RunTests) -> None:
    """The entries may have matchers in brackets, in each test again."""
    run_tests(MATCHERS, "--failpoints=charge[shard=3]=return(42)").assert_outcomes(passed=2)
