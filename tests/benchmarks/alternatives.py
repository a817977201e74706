"""What one would take instead of a failpoint, and what it costs while it is off."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

from configured import patched
from measure import Row, Side, ratio, repeated


async def plain() -> int:
    return 1


# a flag, and a decorator

FLAG = False
FAULTS: dict[str, Callable[[], Awaitable[None]]] = {}


async def fault() -> None:
    raise OSError


async def with_flag() -> int:
    if FLAG:
        await fault()
    return 1


def faulty(name: str) -> Callable[[Any], Any]:
    """Decorate a function as one would by hand."""

    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            if name in FAULTS:
                await FAULTS[name]()
            return await function(*args, **kwargs)

        return wrapper

    return decorate


@faulty("wrapped")
async def wrapped() -> int:
    return 1


# other packages


def with_buggify() -> Any:
    buggify = importlib.import_module("ordeal.buggify").buggify

    async def function() -> int:
        if buggify():
            raise OSError
        return 1

    return function


def with_nth_call() -> Any:
    return importlib.import_module("fault_injection").raise_at_nth_call(n=5, disable=True)(plain)


@contextmanager
def against_plain(prepare: Callable[[], object]) -> Generator[tuple[Side, Side]]:
    yield repeated("await it()", prepare()), repeated("await it()", plain)


@contextmanager
def patched_against_plain() -> Generator[tuple[Side, Side]]:
    yield patched(200), repeated("await it()", plain, 200)


ROWS: list[Row] = [
    ratio("`if FLAG:` around a call", "the coroutine without it", None, partial(against_plain, lambda: with_flag)),
    ratio(
        "a `functools.wraps` wrapper that looks its name up in a dict",
        "the same undecorated",
        None,
        partial(against_plain, lambda: wrapped),
    ),
    ratio("`if buggify():` of `ordeal`", "the coroutine without it", None, partial(against_plain, with_buggify)),
    ratio(
        "`@raise_at_nth_call(…, disable=True)` of `fault-injection`",
        "the same undecorated",
        None,
        partial(against_plain, with_nth_call),
    ),
    ratio("`mock.patch`, in force", "the function itself", None, patched_against_plain, costly=4),
]
