"""Runs a test of `unittest.IsolatedAsyncioTestCase` on an event loop that is running already."""

from __future__ import annotations

import inspect
import unittest
from collections.abc import Callable
from typing import Any


async def run_case(case: unittest.IsolatedAsyncioTestCase, test: Callable[[], Any]) -> None:
    """Set the case up, run the test, and tear the case down, in the order that unittest documents."""
    __tracebackhide__ = True
    try:
        case.setUp()
        await case.asyncSetUp()
        try:
            await test()
        finally:
            await case.asyncTearDown()
            case.tearDown()
    finally:
        await _clean_up(case)


async def _clean_up(case: unittest.IsolatedAsyncioTestCase) -> None:
    """Call what `addCleanup` and `addAsyncCleanup` have registered. Raise the last error."""
    errors: list[BaseException] = []
    of_unittest: Any = case
    cleanups: list[tuple[Callable[..., Any], Any, Any]] = of_unittest._cleanups
    while cleanups:
        function, args, kwargs = cleanups.pop()
        try:
            called: Any = function(*args, **kwargs)
            if inspect.isawaitable(called):
                await called
        except BaseException as error:
            errors.append(error)
    if errors:
        raise errors[-1]
