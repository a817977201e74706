"""What every test has: both backends, and a process-wide registry that is empty before and after it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

import failpoints

BACKENDS: list[Any] = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("trio", {}), id="trio"),
]
if sys.platform != "win32":  # uvloop has no Windows
    BACKENDS.insert(1, pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"))


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """The event loop of an async test."""
    return request.param


@pytest.fixture(autouse=True)
def nothing_configured() -> Iterator[None]:
    """No test finds or leaves anything configured in the process."""
    assert failpoints.statuses() == []
    yield
    failpoints.reset()
    failpoints.seed(None)
