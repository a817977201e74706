"""Combinations of instrumented and decorated functions."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import AsyncIterator, Iterator
from types import FunctionType, ModuleType
from typing import Any

import pytest

from failpoints import Return, configured, failpoint, failpoint_scope, status
from failpoints._core.arming import own_code
from failpoints.instrument import instrument

pytestmark = pytest.mark.anyio


@failpoint("outer")
@failpoint("inner", context=["value"])
def sync(value: int) -> str:
    with failpoint_scope("leave"):
        return json.dumps(value)


@failpoint("outer")
@failpoint("inner", context=lambda value: {"value": value})
async def later(value: int) -> str:
    async with failpoint_scope("leave"):
        return json.dumps(value)


@failpoint("outer")
@failpoint("inner")
def each(value: int) -> Iterator[str]:
    with failpoint_scope("leave"):
        yield json.dumps(value)


@failpoint("outer")
@failpoint("inner")
async def each_later(value: int) -> AsyncIterator[str]:
    async with failpoint_scope("leave"):
        yield json.dumps(value)


KINDS = ["sync", "later", "each", "each_later"]


async def called(kind: str, functions: Any = None) -> Any:
    """Call the function and return its result, or the list of items if it is a generator."""
    result = getattr(functions or sys.modules[__name__], kind)(1)
    if inspect.isawaitable(result):
        return await result
    if inspect.isasyncgen(result):
        return [value async for value in result]
    return list(result) if inspect.isgenerator(result) else result


@pytest.fixture
def library() -> Iterator[Any]:
    """Make a module with an undecorated function of each kind."""
    module = ModuleType("library_of_this_test")
    for kind in KINDS:
        function = globals()[kind]
        plain = FunctionType(own_code(function), globals(), kind, None, function.__closure__ or None)
        plain.__annotations__ = dict(function.__annotations__)
        plain.__module__ = module.__name__
        setattr(module, kind, plain)
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_from_a_decorated_body_visit(kind: str) -> None:
    """Calls from the body of a decorated function count as the program's calls, at any depth of decoration."""
    with instrument("json:dumps", "json.dumps"), configured("json.dumps", Return("fault")) as dumps:
        assert await called(kind) in ("fault", ["fault"])
        with configured("outer", "off"), configured("inner", "off"):
            assert await called(kind) in ("fault", ["fault"])
        assert dumps.hits == 2


def test_calls_from_a_predicate_do_not_visit() -> None:
    """Calls from a predicate do not visit failpoints, even through a decorated function."""
    asked: list[str] = []

    def predicate(value: object) -> bool:
        asked.append(sync(2))
        return True

    with instrument("json:dumps", "json.dumps"), configured("json.dumps", Return("fault")) as dumps:
        with configured("ask", "off", context={"key": predicate}):
            failpoint("ask", context={"key": "value"}).hit()
        assert asked == ["2"]
        assert dumps.hits == 0


@pytest.mark.parametrize("kind", ["sync", "later"])
async def test_a_scope_leaves_an_instrumented_function(library: Any, kind: str) -> None:
    """A scope in an instrumented function makes that function return, as in a decorated one."""
    with instrument(f"library_of_this_test:{kind}", "whole"), configured("leave", Return("left")):
        assert await called(kind, library) == "left"
        with configured("whole", "off") as whole:
            assert await called(kind, library) == "left"
        assert whole.hits == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_decorated_function_is_instrumented(kind: str) -> None:
    """A decorated function can be instrumented. Both failpoints are visited, and undo restores the same object."""
    before = globals()[kind]
    with configured("outer", "off") as outer, configured("inner", "off"):
        with instrument(f"{__name__}:{kind}", "whole"), configured("whole", "off") as whole:
            assert globals()[kind] is not before
            assert await called(kind) in ("1", ["1"])
            assert (whole.hits, outer.hits) == (1, 1)
            assert set(status("whole").sites) < set(status("inner").sites)
        assert globals()[kind] is before
        assert await called(kind) in ("1", ["1"])
        assert (whole.hits, outer.hits) == (1, 2)


@pytest.mark.parametrize("kind", ["sync", "later"])
async def test_a_scope_leaves_a_decorated_one_that_is_instrumented(kind: str) -> None:
    """The innermost of three decorators makes the function return, and the others see a completed call."""
    with instrument(f"{__name__}:{kind}", "whole"), configured("leave", Return("left")):
        with configured("whole:after", "off") as whole, configured("outer:after", "off") as outer:
            assert await called(kind) == "left"
        assert (whole.hits, outer.hits) == (1, 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_instrumented_function_is_decorated(library: Any, kind: str) -> None:
    """An instrumented function can be decorated. Both are visited, and undo leaves the decorated one working."""
    with instrument(f"library_of_this_test:{kind}", "whole"):
        function = failpoint("around")(getattr(library, kind))
        setattr(library, kind, function)
        with configured("whole", "off") as whole, configured("around", "off") as around:
            assert await called(kind, library) in ("1", ["1"])
    with configured("whole", "off"), configured("around", "off") as again:
        assert await called(kind, library) in ("1", ["1"])
    assert (whole.hits, around.hits, again.hits) == (1, 1, 1)
