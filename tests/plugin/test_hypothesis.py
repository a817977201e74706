"""The fixture under Hypothesis: each example is a test of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from failpoints._core.store import PROCESS_STORE
from failpoints._plugin.expectations import Expectations
from tests.plugin.inner_files import RunTests
from tests.plugin.terminal import failures, outcomes

HYPOTHESIS = ("anyio", "hypothesispytest")

HEAD = """\
import pytest
from hypothesis import HealthCheck, assume, example, given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

import failpoints as package
from failpoints import failpoint

settings.register_profile("here", settings(database=None, deadline=None, derandomize=True))
settings.load_profile("here")
numbers = given(number=st.integers(0, 1000))


@failpoint("parse")
def parse(number) -> int:
    return number


@failpoint("fetch")
async def fetch(number) -> int:
    return number


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


"""

PASSING = (
    HEAD
    + """\
@numbers
def test_no_health_check_fails(failpoints, number):
    handle = failpoints.set("parse", "print")
    assert parse(number) == number
    assert handle.hits == 1


@numbers
def test_an_example_does_not_see_what_another_one_set(failpoints, number):
    assert failpoints.statuses() == []
    failpoints.set("parse", "print")
    parse(number)


@numbers
@pytest.mark.failpoints({"parse": "2*off->return(-1)"})
def test_each_example_has_the_marker_afresh(failpoints, number):
    handle = failpoints.handle("parse")
    assert (handle.hits, handle.triggers) == (0, 0)
    assert [parse(number), parse(number), parse(number)] == [number, number, -1]
    failpoints.remove("parse")


@pytest.fixture
def charged(failpoints):
    return failpoints.set("parse", "1*return(-1)")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@numbers
def test_each_example_has_what_a_fixture_set(charged, number):
    assert charged.hits == 0
    assert [parse(number), parse(number)] == [-1, number]
    assert charged.hits == 2


@numbers
def test_each_example_draws_the_same(failpoints, number):
    failpoints.set("parse", "50%return(-1)")
    drawn = [parse(number) < 0 for _ in range(20)]
    draws.append(drawn)
    assert drawn == draws[0]
    assert {True, False} == set(drawn)

draws = []


@numbers
@pytest.mark.anyio
async def test_async_code(failpoints, number):
    assert failpoints.statuses() == []
    handle = failpoints.set("fetch", "1*return(-1)")
    assert [await fetch(number), await fetch(number)] == [-1, number]
    assert handle.hits == 2


@numbers
def test_an_example_that_is_rejected_is_not_judged(failpoints, number):
    failpoints.set("parse", "off")
    assume(number % 2 == 0)
    parse(number)


@given(number=st.integers(), generator=st.random_module())
def test_a_seed_drawn_within_an_example_does_not_end_it(failpoints, number, generator):
    assert failpoints.set("parse", "off").hits == 0
    parse(number)


@given(data=st.data())
def test_a_seed_drawn_later_does_not_end_the_example(failpoints, data):
    failpoints.set("parse", "off")
    data.draw(st.random_module())
    parse(1)


@numbers
@example(number=7)
def test_an_explicit_example(failpoints, number):
    failpoints.set("parse", "off")
    parse(number)


def test_a_property_within_a_test(failpoints):
    handle = failpoints.set("parse", "1*return(-1)")
    examples = []

    @numbers
    def prop(number):
        examples.append(number)
        assert handle.hits == 0
        assert [status.name for status in failpoints.statuses()] == ["parse"]
        assert parse(number) == -1
        failpoints.set("inner", "off")
        failpoint("inner").hit()

    parse(1)
    prop()
    assert handle.hits == 1 + len(examples)
    assert [status.name for status in failpoints.statuses()] == ["parse"]
    assert parse(2) == 2  # the draw was used up before the property


@settings(suppress_health_check=[HealthCheck.nested_given], max_examples=3)
@numbers
def test_a_property_within_a_property(failpoints, number):
    outer = failpoints.set("parse", "off")
    parse(number)

    @settings(max_examples=3)
    @numbers
    def prop(number):
        assert outer.hits == 0
        failpoints.set("inner", "off")
        failpoint("inner").hit()

    prop()
    assert outer.hits == 1
    assert [status.name for status in failpoints.statuses()] == ["parse"]


def test_a_state_machine(failpoints):
    class Machine(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            assert failpoints.statuses() == []
            failpoints.set("parse", "1*return(-1)")
            assert parse(1) == -1

        @rule(number=st.integers(0, 9))
        def parse(self, number):
            assert parse(number) == number

    run_state_machine_as_test(Machine, settings=settings(max_examples=5))


class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        assert parse(1) == -1

    @rule(number=st.integers(0, 9))
    def parse(self, number):
        assert parse(number) == number

TestMachine = pytest.mark.failpoints({"parse": "1*return(-1)"})(Machine.TestCase)


@numbers
def test_what_stays_configured_without_the_fixture(number):
    package.configure("stays", "off")


def test_it_stays():
    assert package.status("stays").actions
    package.reset()
"""
)


def test_each_example_is_a_test_of_its_own(run_tests: RunTests) -> None:
    """The fixture needs no suppressed health check. Configuration, counts and draws begin again with each example."""
    result = run_tests(PASSING, "-v", plugins=HYPOTHESIS)
    result.assert_outcomes(passed=17)


FAILING = (
    HEAD
    + """\
@numbers
def test_never_hit(failpoints, number):
    failpoints.set("parse", "print")
    if number < 500:
        parse(number)


@numbers
@pytest.mark.failpoints({"parse": "off"})
def test_a_marker_that_is_never_hit(number):
    if number < 500:
        parse(number)


@numbers
@pytest.mark.anyio
async def test_async_code(failpoints, number):
    failpoints.set("fetch", "off")
    if number < 500:
        await fetch(number)


def test_within_a_test(failpoints):
    @numbers
    def prop(number):
        failpoints.set("parse", "off")
        if number < 500:
            parse(number)

    prop()


def test_state_machine(failpoints):
    class Machine(RuleBasedStateMachine):
        @rule(number=st.integers(0, 1000))
        def parse(self, number):
            failpoints.set("parse", "print")
            if number < 500:
                parse(number)

    run_state_machine_as_test(Machine, settings=settings(max_examples=50))


@pytest.mark.xfail(reason="another reason")
@numbers
def test_expected_to_fail(failpoints, number):
    failpoints.set("parse", "off")


@numbers
def test_wrong(failpoints, number):
    failpoints.set("parse", "print")
    parse(number)
    assert number < 500


@numbers
def test_another_fixture(tmp_path, failpoints, number):
    pass


@pytest.fixture
def failpoints_of_the_user(failpoints):
    return failpoints


@numbers
def test_a_fixture_around_it(failpoints_of_the_user, number):
    pass
"""
)


def test_an_example_that_passed_without_a_hit_fails(run_tests: RunTests) -> None:
    """Hypothesis shrinks and reports the example, and the report has what that example configured, once."""
    result = run_tests(FAILING, "-v", plugins=HYPOTHESIS)
    result.assert_outcomes(failed=10)
    shown = failures(result)
    for name in ("test_never_hit", "test_async_code[asyncio]", "test_async_code[trio]", "test_within_a_test"):
        assert shown[name].text.count("was set and never hit") == 1, name
        assert re.search(r"\n(Failing test case|Falsifying example): \w+\(", shown[name].text), name
        assert shown[name].text.count("hits 0, misses 0") == 1, name
    assert "was set and never hit" in shown["test_a_marker_that_is_never_hit"].text
    assert "was set and never hit" in shown["test_expected_to_fail"].text
    assert "state.parse(number=500)" in shown["test_state_machine"].text
    assert "assert 500 < 500" in shown["test_wrong"].text
    section = shown["test_wrong"].section
    assert section is not None
    assert section.count("configured: print") == 1
    assert section.count("hits 1, misses 0, triggers 1") == 1
    assert "function-scoped fixture 'tmp_path'" in shown["test_another_fixture"].text
    assert "function-scoped fixture 'failpoints_of_the_user'" in shown["test_a_fixture_around_it"].text


def test_a_chance_for_the_whole_run_is_the_same_in_each_example(run_tests: RunTests) -> None:
    """Draws of `--failpoints` begin again with each example, so that a failure is not flaky. Tests need no fixture."""
    source = (
        HEAD
        + """\
@numbers
def test_chances(number):
    assert [parse(number) < 0 for _ in range(9)].count(True) < 4 or number < 300
"""
    )
    result = run_tests(source, "--failpoints", "parse=50%return(-1)", "--failpoints-seed=3", plugins=HYPOTHESIS)
    assert "Flaky" not in result.stdout.str()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["number = 300"])


@pytest.mark.parametrize(
    ("plugins", "ini"),
    [(("asyncio", "hypothesispytest"), "asyncio_mode = auto"), (("trio", "hypothesispytest"), "trio_mode = true")],
)
def test_other_async_runners(run_tests: RunTests, plugins: tuple[str, ...], ini: str) -> None:
    """Examples are tests of their own under pytest-asyncio and pytest-trio too."""
    source = (
        HEAD
        + """\
@numbers
async def test_passing(failpoints, number):
    assert failpoints.statuses() == []
    handle = failpoints.set("fetch", "1*return(-1)")
    assert [await fetch(number), await fetch(number)] == [-1, number]


@numbers
async def test_failing(failpoints, number):
    failpoints.set("fetch", "off")
    if number < 500:
        await fetch(number)
"""
    )
    result = run_tests(source, "-v", ini=ini, plugins=plugins)
    assert outcomes(result) == {"test_passing": "PASSED", "test_failing": "FAILED"}
    assert failures(result)["test_failing"].text.count("was set and never hit") == 1


BACKENDS = """\
from contextlib import contextmanager
from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider

class Quiet(HypothesisProvider):
    pass

class Own(HypothesisProvider):
    @contextmanager
    def per_test_case_context_manager(self):
        entered.append(self)
        yield

class OfOwn(Own):
    @contextmanager
    def per_test_case_context_manager(self):
        with super().per_test_case_context_manager():
            yield

entered = []
for backend in (Quiet, Own, OfOwn):
    AVAILABLE_PROVIDERS[backend.__name__] = f"{__name__}.{backend.__name__}"
"""


@pytest.mark.parametrize("early", [False, True], ids=["imported by the test", "imported before the plugin"])
def test_other_backends(run_tests: RunTests, early: bool) -> None:
    """Examples of another backend are tests of their own too, also if it has a context manager of its own."""
    source = (
        HEAD
        + """\
import backends

@pytest.mark.parametrize("backend", ["Quiet", "Own", "OfOwn"])
def test_it(failpoints, backend):
    backends.entered.clear()

    @settings(backend=backend, suppress_health_check=list(HealthCheck))
    @numbers
    def prop(number):
        assert failpoints.statuses() == []
        failpoints.set("parse", "off")
        if number < 500:
            parse(number)

    with pytest.raises(pytest.fail.Exception, match="was set and never hit"):
        prop()
    assert bool(backends.entered) == (backend != "Quiet")
"""
    )
    arguments = ("-p", "backends") if early else ()
    environment = {"PYTHONPATH": "."}
    result = run_tests(source, *arguments, files={"backends.py": BACKENDS}, environment=environment, plugins=HYPOTHESIS)
    result.assert_outcomes(passed=3)


def test_an_example_costs_the_same_however_many_were_before() -> None:
    """The thousandth example calls as many functions as the tenth one."""

    def fail(message: str) -> Any:
        raise AssertionError(message)

    expectations = Expectations(fail, "")
    base = expectations.set("base", "off", None, False, "here")

    def example() -> None:
        with expectations.example(includes_set_up=True):
            expectations.set("inner", "off", None, False, "there")

    def calls() -> int:
        count = 0

        def profile(*_: object) -> None:
            nonlocal count
            count += 1

        sys.setprofile(profile)
        try:
            example()
        finally:
            sys.setprofile(None)
        return count

    restore = PROCESS_STORE.save()
    for _ in range(10):
        example()
    early = min(calls() for _ in range(5))
    for _ in range(1_000):
        example()
    assert min(calls() for _ in range(5)) <= early + 20  # a collection of garbage may come in between
    assert base.hits == 0
    base.remove()
    restore()


def test_hypothesis_is_not_imported() -> None:
    """The plugin does not import Hypothesis."""
    script = (
        "import sys, failpoints.pytest_plugin\nfrom failpoints._plugin import examples\nexamples.follow_hypothesis()\n"
    )
    script += "print('hypothesis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.stderr) == ("False\n", "")
