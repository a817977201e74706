"""Fixtures for the tests of crashes."""

from __future__ import annotations

import pytest

from failpoints.explore import explore_crashes


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a call as long as it takes on a busy machine. The tests that need a limit pass one."""
    monkeypatch.setitem(explore_crashes.__kwdefaults__, "timeout", 60.0)
