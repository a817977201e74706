"""What the pytest plugin takes for granted about Hypothesis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture.providers import PrimitiveProvider

pytestmark = pytest.mark.internals


def test_a_provider_enters_a_context_for_each_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example runs inside `per_test_case_context_manager`. What is raised at its end fails the example."""
    original = PrimitiveProvider.per_test_case_context_manager
    entered = 0

    @contextmanager
    def per_test_case_context_manager(provider: PrimitiveProvider) -> Iterator[None]:
        nonlocal entered
        entered += 1
        with original(provider):
            yield
        if seen[-1] > 500:
            raise ValueError(seen[-1])

    monkeypatch.setattr(PrimitiveProvider, "per_test_case_context_manager", per_test_case_context_manager)
    seen: list[int] = []

    @settings(database=None, deadline=None)
    @given(number=st.integers(0, 1000))
    def prop(number: int) -> None:
        seen.append(number)
        assert len(seen) == entered
        assume(number != 7)

    with pytest.raises(ValueError, match="^501"):
        prop()


@given(number=st.integers())
def test_a_property_is_marked_as_one(request: pytest.FixtureRequest, number: int) -> None:
    """The function of a test under `@given` has an attribute for it, also in pytest's item."""
    item: Any = request.node
    assert item.obj.is_hypothesis_test
