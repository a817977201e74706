"""The reduced orders of random programs end in exactly the states in which all orders end."""

from __future__ import annotations

import pytest

from tests.explore.brute_force import MODES, REDUCTIONS, Totals, check, shrink
from tests.explore.programs.generator import random_program
from tests.explore.programs.interpreter import Program
from tests.explore.programs.libraries import LIBRARIES

PROGRAMS = 160  # for each library and mode: 1,280 in all, of which 1,000 have few enough orders to be compared
SHARES = 2


def find_missed(library: str, mode: str, first: int, programs: int) -> tuple[Totals, list[str]]:
    """Check programs. Return the figures, and a description of each one that fails."""
    totals, failing = Totals(), list[str]()
    for seed in range(first, first + programs):
        program = random_program(seed, library, mode)
        problem = check(program, totals, most=25)
        if problem:
            failing.append(f"seed {seed}: {program!r}\n{problem}")
    return totals, failing


@pytest.mark.slow  # thousands of runs
@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_no_end_is_missed(library: str, mode: str, share: int) -> None:
    """Every final state, failure and deadlock of every order is reached by a reduced order, of each reduction."""
    programs = PROGRAMS // SHARES
    totals, failing = find_missed(library, mode, share * programs, programs)
    assert not failing, "\n\n".join(failing)
    assert totals.programs > programs * 0.55  # the others have too many orders
    for reduction in REDUCTIONS:
        assert totals.runs[reduction] <= totals.orders
        assert totals.cut_short[reduction] <= totals.runs[reduction] * 0.05


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_no_end_of_a_few_programs_is_missed(library: str, mode: str) -> None:
    """The same, with other programs, as many as can be run each time."""
    _, failing = find_missed(library, mode, 10_000, 5)
    assert not failing, "\n\n".join(failing)


def test_a_program_is_always_the_same() -> None:
    """A seed makes the same program each time, and another one for another library."""
    assert random_program(3, "trio", "awaits") == random_program(3, "trio", "awaits")
    assert random_program(3, "trio", "awaits").tasks != random_program(3, "anyio", "awaits").tasks


def test_a_program_is_shrunk_to_what_fails() -> None:
    """The smallest program that still fails is found, also inside of groups."""
    program = Program(
        ((("visit",), ("group", (("set", "E"), ("read", "x")), (("visit",),))), (("wait", "E"),), (("visit",),))
    )
    small = shrink(program, lambda each: "'read'" in repr(each))
    assert small.tasks == ((("read", "x"),), ())
