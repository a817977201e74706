"""The seed of a run, and the random draws of its tests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import pytest

from tests.plugin.inner_files import RunTests

DRAWS = """\
import json
import os

import pytest

from failpoints import Registry, failpoint


@pytest.fixture
def draw(failpoints, request):
    def drawn(name, times=40):
        return "".join("x" if failpoint(name).hit() else "." for _ in range(times))

    def draw(*names, configure=failpoints.set):
        for name in names:
            configure(name, "50%return")
        note(**{name: drawn(name) for name in names})

    def note(**draws):
        name = request.node.nodeid.partition("::")[2].partition("@")[0]
        with open(os.environ["DRAWS"], "a") as file:
            print(json.dumps([name, draws]), file=file)

    return draw


@pytest.mark.parametrize("number", [1, 2])
def test_two_parameters(draw, number):
    draw("a")


def test_two(draw):
    draw("a", "b")


def test_seeded(failpoints, draw):
    failpoints.seed(7)
    draw("a", "b")


def test_seeded_in_another_order(failpoints, draw):
    failpoints.seed(7)
    draw("c", "b", "a")


def test_in_a_registry(draw):
    with Registry() as registry:
        draw("a", configure=registry.configure)


def test_in_a_seeded_registry(failpoints, draw):
    failpoints.seed(7)
    with Registry() as registry:
        draw("a", configure=registry.configure)


@pytest.mark.xdist_group("group")
def test_in_a_group(draw):
    draw("a")
"""

ORDER = """\
import os


def pytest_collection_modifyitems(items):
    if "REVERSED" in os.environ:
        items.reverse()
"""


class Drawn(NamedTuple):
    """The seed in the header of a run, and the draws of each test at each failpoint, in the order of the tests."""

    seed: str
    draws: dict[str, dict[str, str]]


Draw: TypeAlias = Callable[..., Drawn]


@pytest.fixture
def draw(run_tests: RunTests, pytester: pytest.Pytester) -> Draw:
    """Run the tests with these arguments and environment variables, and return their draws."""

    def draw(*arguments: str, **environment: str) -> Drawn:
        file = pytester.path / "draws"
        file.unlink(missing_ok=True)
        result = run_tests(
            DRAWS, *arguments, files={"conftest.py": ORDER}, environment={"DRAWS": str(file), **environment}
        )
        assert result.ret == pytest.ExitCode.OK
        (seed,) = re.findall(r"^failpoints: seed (\d+)$", result.stdout.str(), re.MULTILINE)
        return Drawn(seed, dict(map(json.loads, file.read_text().splitlines())))

    return draw


SEED = "--failpoints-seed=1234"


def test_seed(draw: Draw) -> None:
    """A seed repeats the draws of every test: in any order, alone, and in the workers of pytest-xdist."""
    seed, draws = draw(SEED)
    assert (seed, len(draws)) == ("1234", 8)
    reversed_draws = draw(SEED, REVERSED="yes").draws
    assert (reversed_draws, list(reversed_draws)) == (draws, list(reversed(draws)))
    assert draw(SEED, "test_inner.py::test_two").draws == {"test_two": draws["test_two"]}
    assert draw(SEED, "-n", "2", "--dist", "loadgroup") == (seed, draws)


def test_draws_are_independent(draw: Draw) -> None:
    """Each test and each failpoint has different draws, which do not depend on the other failpoints."""
    draws = draw().draws
    tests = ("test_two_parameters[1]", "test_two_parameters[2]", "test_two", "test_in_a_group", "test_in_a_registry")
    of_a = [draws[name]["a"] for name in tests]
    assert len({*of_a, draws["test_two"]["b"]}) == 6
    seeded, more = draws["test_seeded"], draws["test_seeded_in_another_order"]
    assert seeded == {name: more[name] for name in ("a", "b")}
    assert draws["test_in_a_seeded_registry"] == {"a": seeded["a"]}


def test_no_seed_given(draw: Draw) -> None:
    """Without a seed each run has different draws, except tests with their own seed. The header's seed repeats them."""
    one, other = draw(), draw("-n", "2")
    assert one.seed != other.seed
    same = {name for name in one.draws if one.draws[name] == other.draws[name]}
    assert same == {"test_seeded", "test_seeded_in_another_order", "test_in_a_seeded_registry"}
    assert draw(f"--failpoints-seed={other.seed}") == other


def test_failure_names_the_seed(run_tests: RunTests) -> None:
    """The report of a failing test with random draws names the run's seed."""
    source = """\
    def test_fails(failpoints):
        failpoints.set("a", "50%off")
        assert not "done"
    """
    result = run_tests(source)
    (header,) = re.findall(r"^failpoints: seed (\d+)$", result.stdout.str(), re.MULTILINE)
    assert f"The random draws depend on the run's seed: --failpoints-seed={header} repeats them." in result.outlines


@pytest.mark.parametrize(("given", "problem"), [("=many", "invalid int value: 'many'"), ("", "expected one argument")])
def test_seed_that_is_not_a_number(run_tests: RunTests, given: str, problem: str) -> None:
    """A seed that is not an integer is a usage error like that of pytest's own options."""
    result = run_tests("", f"--failpoints-seed{given}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(f"*: error: argument --failpoints-seed: {problem}")
    result.stderr.no_fnmatch_line("*Traceback*")
