"""A sync function that returns an async generator is visited as an async generator function is."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest

from failpoints import FailpointUsageError, configured, failpoint, status

pytestmark = pytest.mark.anyio


async def two() -> AsyncGenerator[int]:
    yield 1
    yield 2


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function as any decorator of a program does."""

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


@failpoint("items")
@traced
async def wrapped() -> AsyncGenerator[int]:
    yield 1
    yield 2


@failpoint("items")
def delegates() -> AsyncIterator[int]:
    return two()


FUNCTIONS: list[Any] = [wrapped, delegates]


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_it_is_visited_where_it_is_iterated(function: Callable[[], Any]) -> None:
    """`name` is visited at the first step, and `name:after` when the iteration has ended."""
    with configured("items", "off") as before, configured("items:after", "off") as after:
        items = function()
        assert (before.hits, after.hits) == (0, 0)
        assert await anext(items) == 1
        assert (before.hits, after.hits) == (1, 0)
        assert [item async for item in items] == [2]
        assert (before.hits, after.hits) == (1, 1)


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_it_can_fail_at_either_end(function: Callable[[], Any]) -> None:
    """`raise` at `name` comes before the first item, and at `name:after` after the last one."""
    with configured("items", "raise(OSError)"), pytest.raises(OSError, match="items"):
        await anext(function())
    seen: list[int] = []
    with configured("items:after", "raise(OSError)"), pytest.raises(OSError, match="items:after"):
        async for item in function():
            seen.append(item)
    assert seen == [1, 2]


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_a_return_ends_the_iteration(function: Callable[[], Any]) -> None:
    """`return` at `name` ends the iteration at once, and any other value than `None` is refused."""
    with configured("items", "return"):
        assert [item async for item in function()] == []
    with configured("items", "return(1)"), pytest.raises(FailpointUsageError, match="can only end"):
        await anext(function())


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_closing_it_early_is_not_its_end(function: Callable[[], Any]) -> None:
    """`name:after` is not visited if the iteration is closed before it has ended."""
    with configured("items:after", "off") as after:
        items = function()
        assert await anext(items) == 1
        await items.aclose()
        assert after.hits == 0


async def test_a_function_that_does_not_show_it() -> None:
    """If nothing shows what a function returns, its first call is visited at the call, and its end where it comes."""

    @failpoint("hidden")
    def hidden(make: Callable[[], Any]) -> Any:
        return make()

    with configured("hidden", "off"), configured("hidden:after", "off"):
        for calls in (1, 2):
            items = hidden(two)
            assert status("hidden:after").hits == calls - 1
            assert [item async for item in items] == [1, 2]
            assert (status("hidden").hits, status("hidden:after").hits) == (calls, calls)
