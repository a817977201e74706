"""What `--failpoints-explore` takes for granted about the plugins that run async tests."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio.plugin
import pytest_trio.plugin

pytestmark = pytest.mark.internals


def test_pytest_asyncio_marks_its_tests_and_fixtures() -> None:
    """A test is a `PytestAsyncioFunction`, a fixture has a mark, and the fixtures for loops have these names."""
    plugin: Any = pytest_asyncio.plugin
    assert issubclass(plugin.PytestAsyncioFunction, pytest.Function)
    assert plugin._asyncio_loop_factory.__name__ == "_asyncio_loop_factory"
    assert {f"_{scope}_scoped_runner" for scope in ("function", "module", "session")} <= set(vars(plugin))

    def function() -> None:
        pass

    pytest_asyncio.fixture(function)
    assert function._force_asyncio_fixture  # type: ignore[attr-defined]


def test_pytest_trio_marks_its_fixtures() -> None:
    """A fixture that needs trio has a mark, and the value of `nursery` is replaced by a nursery."""
    plugin: Any = pytest_trio.plugin

    def function() -> None:
        pass

    plugin.trio_fixture(function)
    assert function._force_trio_fixture  # type: ignore[attr-defined]
    assert plugin.NURSERY_FIXTURE_PLACEHOLDER.__name__ == "NURSERY_FIXTURE_PLACEHOLDER"
