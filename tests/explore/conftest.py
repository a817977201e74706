"""Fixtures and checks for the tests of exploration."""

from __future__ import annotations

import random
from collections.abc import Generator
from typing import Any

import pytest


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> Any:
    """Run the test with each backend of `explore`."""
    return request.param


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
