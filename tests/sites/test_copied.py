"""Failpoints and scopes that are kept in an object which a program copies, or sends to another process."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from failpoints import Continue, Return, configured, failpoint, failpoint_scope

COPIED: dict[str, Callable[[Any], Any]] = {
    "copied": copy.copy,
    "deep-copied": copy.deepcopy,
    "pickled": lambda thing: pickle.loads(pickle.dumps(thing)),
}


@pytest.mark.parametrize("options", [{}, {"context": {"key": 1}}], ids=["plain", "with options"])
@pytest.mark.parametrize("how", COPIED)
def test_a_copied_failpoint_is_visited(how: str, options: dict[str, Any]) -> None:
    """The copy is visited while its name is configured, whether it was made before that, meanwhile or earlier."""
    kept = {"point": failpoint("copied", **options)}
    before = COPIED[how](kept)["point"]
    with configured("copied", "return(1)"):
        meanwhile = COPIED[how](kept)["point"]
        assert [before.hit(), meanwhile.hit()] == [Return("1"), Return("1")]
    assert [before.hit(), meanwhile.hit()] == [Continue(), Continue()]
    with configured("copied", "return(2)"):
        assert [before.hit(), meanwhile.hit()] == [Return("2"), Return("2")]


@pytest.mark.parametrize("options", [{}, {"context": {"key": 1}}], ids=["plain", "with options"])
@pytest.mark.parametrize("how", COPIED)
def test_a_copied_scope_is_visited(how: str, options: dict[str, Any]) -> None:
    """The copy is visited at its beginning and at its end, and returns from the function that enters it."""
    scope = COPIED[how]({"scope": failpoint_scope("copied.scope", **options)})["scope"]

    @failpoint("enters-a-copy")
    def enters() -> str:
        with scope:
            return "the body's"

    with configured("copied.scope", "return(early)"):
        assert enters() == "early"
    with configured("copied.scope:after", "return(late)"):
        assert enters() == "late"
    assert enters() == "the body's"


def test_a_copy_of_a_failpoint_with_an_invalid_name_refuses_it() -> None:
    """As the failpoint itself does: at its first visit while anything is configured."""
    point = copy.deepcopy(failpoint("not valid"))
    assert point.hit() == Continue()
    with configured("anything", "off"), pytest.raises(ValueError, match="not valid"):
        point.hit()
