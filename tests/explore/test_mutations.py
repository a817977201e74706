"""Bugs that are put into the search are found by the random programs, so that a real one would be found, too."""

from __future__ import annotations

import pytest

from tests.explore.mutations import MUTATIONS, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.bug)
def test_the_text_of_a_bug_is_there(mutation: Mutation) -> None:
    """The text that a bug replaces is in the file, once. If it has changed, change the bug with it."""
    assert mutation.count() == 1


@pytest.mark.slow  # each runs up to a thousand programs in a process of its own
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.bug)
def test_a_bug_is_found(mutation: Mutation) -> None:
    """A random program ends in a state in which it should not, or misses one."""
    assert "ends missed" in mutation.find()
