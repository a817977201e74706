"""`run.shared`: which steps meet, so that their order matters."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from failpoints._explore.plan.accesses import Accesses, meet
from tests.explore.acts import ACTS, result_of, state_of
from tests.explore.bank import Bank, Watched


def in_order(names: tuple[str, ...]) -> tuple[dict[str, str], str, list[Accesses]]:
    """Carry out acts on a shared bank. Return the result of each, the state at the end, and what each touches."""
    watched, bank = Watched(), Bank()
    shared = watched.share(bank)
    results: dict[str, str] = {}
    touched: list[Accesses] = []
    for name in names:
        touched.append(watched.touched_by(lambda: results.update({name: result_of(name, shared)})))  # noqa: B023
    return results, state_of(bank), touched


acts = st.sampled_from(sorted(ACTS))


@settings(max_examples=300, deadline=None)
@given(st.lists(acts, max_size=2, unique=True), acts, acts)
@example([], "count up", "total")
def test_acts_that_do_not_meet_can_be_exchanged(before: list[str], one: str, other: str) -> None:
    """If two acts on shared objects do not meet, they have the same results and leave the same state in both orders."""
    results, state, touched = in_order((*dict.fromkeys((*before, one, other)),))
    if one == other or one in before or other in before or meet(*touched[-2:]):
        return
    swapped_results, swapped_state, swapped = in_order((*before, other, one))
    assert results == swapped_results
    assert state == swapped_state
    assert touched[-2:] == swapped[:-3:-1], "names of resources depend on the order"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("deposit a", "deposit b"),
        ("set a", "set b"),
        ("accounts[a]", "nested x"),
        ("set total", "set a"),
        ("left", "right"),
        ("add 1", "1 in members"),
        ("discard 1", "remove c"),
        ("set log[0]", "set log[2]"),
        ("log[0]", "append"),
        ("inner list", "second of pair"),
        ("keys", "balances"),
        ("nested x", "set nested y"),
        ("has new", "set total"),
        ("queue[0]", "log[0]"),
        ("2 in log", "len log"),
    ],
)
def test_acts_that_do_not_meet(one: str, other: str) -> None:
    """Different attributes and items do not meet, and neither do two that only read."""
    assert not meet(*in_order((one, other))[2])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("total", "add to total"),
        ("deposit a", "balance a"),
        ("deposit a", "deposit by attribute"),
        ("set a", "len accounts"),
        ("append", "append other"),
        ("append", "inner by pair"),
        ("add 7", "add 8"),
        ("deposit a", "deep copy"),
        ("count up", "count a"),
        ("count up", "total"),
        ("set total", "vars"),
        ("set in vars", "total"),
        ("owner of a", "set balance a"),
        ("group", "get group"),
        ("new attribute", "has new"),
    ],
)
def test_acts_that_meet(one: str, other: str) -> None:
    """What one writes and the other reads meets, whichever way it is reached, and what is not known meets all."""
    assert meet(*in_order((one, other))[2])
