"""Scopes that are made in one function, which contains a `with` statement, and entered in another one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest

from failpoints import configured, failpoint, failpoint_scope

lock = threading.Lock()

with nullcontext():
    pass
of_module = failpoint_scope("kept.module")


def made_in_a_block() -> AbstractContextManager[None]:
    with lock:
        return failpoint_scope("kept.in-a-block")


def made_beside_another() -> AbstractContextManager[None]:
    with failpoint_scope("kept.another"):
        pass
    return failpoint_scope("kept.beside-another")


def made_among_constants() -> AbstractContextManager[None]:
    name = "kept.constant"
    with nullcontext():
        scopes = [failpoint_scope(name)]
    return scopes[0]


SCOPES: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "kept.module": lambda: of_module,
    "kept.in-a-block": made_in_a_block,
    "kept.beside-another": made_beside_another,
    "kept.constant": made_among_constants,
}


@failpoint("kept")
def enters(scope: AbstractContextManager[None]) -> str:
    with scope:
        return "the body's"


@pytest.mark.parametrize("name", SCOPES)
@pytest.mark.parametrize("after", ["", ":after"])
def test_the_first_return_leaves_the_function_that_enters_it(name: str, after: str) -> None:
    """A function that makes a scope and contains a `with` statement is not taken for the one that enters it."""
    scope = SCOPES[name]()
    with configured(f"{name}{after}", "return(early)"):
        assert enters(scope) == "early"
    assert enters(scope) == "the body's"
