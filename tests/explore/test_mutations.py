"""The bugs that `nox -s mutations` puts into the search, which the random programs have to find."""

from __future__ import annotations

import pytest

from tests.explore.mutations import MUTATIONS, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.bug)
def test_the_text_of_a_bug_is_there(mutation: Mutation) -> None:
    """The text that a bug replaces is in the file, once. If it has changed, change the bug with it."""
    assert mutation.count() == 1
