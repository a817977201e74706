"""Fixtures and checks for the tests of exploration."""

from __future__ import annotations

import random
from collections.abc import Generator
from typing import Any

import pytest

from failpoints._explore.loops import outside_waits


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> Any:
    """Run the test with each backend of `explore`."""
    return request.param


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a thread or a reply as long as it takes on a busy machine. A run that waits in vain does not end."""
    monkeypatch.setattr(outside_waits, "BOUND", 60.0)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Check that a test with the fixture `nothing_left_behind` leaves the state of `random` as it was.

    A fixture cannot check this, since pytest-randomly seeds `random` again between fixtures and test.
    """
    state = random.getstate()
    result = yield
    if "nothing_left_behind" in pyfuncitem.fixturenames:
        assert random.getstate() == state
    return result
