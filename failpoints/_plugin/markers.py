"""The marker `@pytest.mark.failpoints({"name": "actions"})`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import pytest

from .._core.actions import Actions
from .._core.context import GivenMatchers, Matchers
from .._core.messages import did_you_mean, safe_repr
from .._core.reachability import reachable_terms
from .._core.validation import check_name
from ..errors import FailpointUsageError
from .expectations import check_expect_hit


class MarkerEntry(NamedTuple):
    """One configuration of a marker."""

    name: str
    actions: Actions
    context: GivenMatchers | None
    expect_hit: bool


def read_markers(item: pytest.Item) -> list[MarkerEntry]:
    """Return what the markers of a test configure, in the order in which it has to be configured.

    The marker closest to the test comes last. As for `configure`, it replaces what others have for the same name with
    the same matchers and, if it has none, everything that they have for the name. Raise `FailpointError` for an invalid
    marker.
    """
    parametrized = getattr(item, "callspec", None)
    of_parameters = [] if parametrized is None else [mark for mark in parametrized.marks if mark.name == "failpoints"]
    entries: list[MarkerEntry] = []
    for mark in (*reversed(list(item.iter_markers("failpoints"))), *of_parameters):
        for new in _read_marker(*mark.args, **mark.kwargs):
            entries = [entry for entry in entries if not _replaces(new, entry)]
            entries.append(new)
    return entries


def _replaces(new: MarkerEntry, entry: MarkerEntry) -> bool:
    return new.name == entry.name and (not new.context or Matchers(new.context).same_as(Matchers(entry.context)))


def _read_marker(
    *args: Any, context: GivenMatchers | None = None, expect_hit: Any = True, **unknown: Any
) -> Iterator[MarkerEntry]:
    for keyword in unknown:
        suggestion = did_you_mean(keyword, ["context", "expect_hit"])
        raise FailpointUsageError(f"expected context= or expect_hit=, got {keyword}={suggestion}")
    mapping: Any = args[0] if len(args) == 1 else None
    if not isinstance(mapping, Mapping):
        got = ", ".join(map(safe_repr, args)) or "nothing"
        raise FailpointUsageError(f'expected one mapping, such as {{"gateway.charge": "pause"}}; got {got}')
    check_expect_hit(expect_hit)
    Matchers(context)
    entries: Mapping[Any, Any] = cast(Any, mapping)
    for name, actions in entries.items():
        reachable_terms(name, actions)
        yield MarkerEntry(check_name(name), actions, context, expect_hit)


def use_fixture(item: pytest.Item) -> None:
    """Make a test use the fixture `failpoints`.

    It is set up after the fixtures of wider scopes. It precedes the test's own fixtures, which can visit failpoints.
    """
    test: Any = item  # a function, a doctest, or another kind of item that has fixtures
    if not hasattr(test, "fixturenames") or not hasattr(test, "_fixtureinfo"):
        return
    definitions = test._fixtureinfo.name2fixturedefs  # noqa: SLF001 - pytest has no public way to look up a scope
    names = [name for name in test.fixturenames if name != "failpoints"]  # a copy: items share the original list
    wider = [name for name in names if name in definitions and definitions[name][-1].scope != "function"]
    names.insert(len(wider), "failpoints")
    test.fixturenames = names
