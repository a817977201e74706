"""`@pytest.mark.failpoints({"name": "actions"})`: what the marks of a test ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import pytest

from .._core.actions import Actions
from .._core.context import GivenMatchers, Matchers
from .._core.grammar import as_terms, check_name
from .._core.messages import did_you_mean, safe_repr
from ..errors import FailpointUsageError
from .strictness import check_expect_hit


class Marked(NamedTuple):
    """What a marker asks for one name."""

    actions: Actions
    context: GivenMatchers | None
    expect_hit: bool


def marked(item: pytest.Item) -> dict[str, Marked]:
    """What the markers of a test ask for: of two that name the same failpoint, the one closer to the test."""
    parametrized = getattr(item, "callspec", None)
    closest = [] if parametrized is None else [mark for mark in parametrized.marks if mark.name == "failpoints"]
    found: dict[str, Marked] = {}
    for mark in (*reversed(list(item.iter_markers("failpoints"))), *closest):
        found.update(_read_mark(*mark.args, **mark.kwargs))
    return found


def _read_mark(
    *args: Any, context: GivenMatchers | None = None, expect_hit: Any = True, **unknown: Any
) -> Iterator[tuple[str, Marked]]:
    """Read one marker; raises `FailpointError` for what `set` would refuse."""
    for keyword in unknown:
        raise FailpointUsageError(
            f"it takes context= and expect_hit=, not {keyword}={did_you_mean(keyword, ['context', 'expect_hit'])}"
        )
    mapping: Any = args[0] if len(args) == 1 else None
    if not isinstance(mapping, Mapping):
        got = ", ".join(map(safe_repr, args)) or "nothing"
        raise FailpointUsageError(f'it takes one mapping, such as {{"gateway.charge": "pause"}}; got {got}')
    check_expect_hit(expect_hit)
    Matchers(context)
    entries: Mapping[Any, Any] = cast(Any, mapping)
    for name, actions in entries.items():
        as_terms(actions)
        yield check_name(name), Marked(actions, context, expect_hit)


def use_fixture(item: pytest.Item) -> None:
    """Have a test use the fixture: after those of wider scopes, and before its own, which may come to failpoints."""
    given: Any = item  # a function, a doctest, or whatever else has fixtures
    if not hasattr(given, "fixturenames") or not hasattr(given, "_fixtureinfo"):
        return
    definitions = given._fixtureinfo.name2fixturedefs  # noqa: SLF001 - there is no public way to ask for a scope
    names = [name for name in given.fixturenames if name != "failpoints"]  # a list of its own: others share the given
    wider = [name for name in names if name in definitions and definitions[name][-1].scope != "function"]
    names.insert(len(wider), "failpoints")
    given.fixturenames = names
