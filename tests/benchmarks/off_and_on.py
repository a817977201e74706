"""Measure the cost of a failpoint, off and on, as ratios.

    python tests/benchmarks/off_and_on.py

The alternatives are measured beside it: a flag, a decorator with a dict, `unittest.mock.patch`, and, if they are
installed, `ordeal` and `fault-injection`.

Both sides of a ratio are timed in turn, in many short rounds. The result is the median of the ratios of neighbouring
rounds, so that a machine which is slow for a while slows both sides.
"""

from __future__ import annotations

import functools
import gc
import importlib
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from unittest import mock

import anyio

import failpoints
from failpoints import failpoint, failpoint_scope

ROUNDS = 60
CALLS = 5_000


def drive(function: Callable[[], Coroutine[Any, Any, Any]], calls: int = CALLS) -> float:
    """Return the processor seconds of *calls* calls of a coroutine function that never waits, without an event loop."""
    start = time.thread_time()
    for _ in range(calls):
        try:
            function().send(None)
        except StopIteration:
            pass
    return time.thread_time() - start


def ratio(measure_ours: Callable[[], float], measure_theirs: Callable[[], float], rounds: int = ROUNDS) -> float:
    """Return the median ratio of neighbouring rounds."""
    measure_ours(), measure_theirs()
    gc.collect()
    gc.disable()
    try:
        return statistics.median(measure_ours() / measure_theirs() for _ in range(rounds))
    finally:
        gc.enable()


# nothing configured


async def plain() -> int:
    return 1


@failpoint("decorated")
async def decorated() -> int:
    return 1


async def inline() -> int:
    await failpoint("inline")
    return 1


POINT = failpoint("kept")


async def kept() -> int:
    await POINT
    return 1


class EmptyManager:
    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *exception: object) -> None:
        pass


async def in_empty_manager() -> int:
    async with EmptyManager():
        return 1


async def in_scope() -> int:
    async with failpoint_scope("scope"):
        return 1


class Thing:
    async def plain(self) -> int:
        return 1

    @failpoint("method")
    async def decorated(self) -> int:
        return 1


THING = Thing()


def drive_plain() -> float:
    return drive(plain)


def drive_decorated() -> float:
    return drive(decorated)


def drive_plain_method() -> float:
    """Like `drive`, but look up and call a method in the loop."""
    start = time.thread_time()
    for _ in range(CALLS):
        try:
            THING.plain().send(None)
        except StopIteration:
            pass
    return time.thread_time() - start


def drive_decorated_method() -> float:
    start = time.thread_time()
    for _ in range(CALLS):
        try:
            THING.decorated().send(None)
        except StopIteration:
            pass
    return time.thread_time() - start


# the alternatives, off

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


def with_buggify(ordeal_buggify: Any) -> Callable[[], Coroutine[Any, Any, int]]:
    buggify = ordeal_buggify.buggify

    async def function() -> int:
        if buggify():
            raise OSError
        return 1

    return function


def with_nth_call(fault_injection: Any) -> Callable[[], Coroutine[Any, Any, int]]:
    function: Callable[[], Coroutine[Any, Any, int]] = fault_injection.raise_at_nth_call(n=5, disable=True)(plain)
    return function


FOREIGN = {
    "ordeal.buggify": ("if buggify(): in a function, off", with_buggify),
    "fault_injection": ("@raise_at_nth_call(…, disable=True)", with_nth_call),
}


def alternatives() -> list[tuple[str, str, float | None, float | None]]:
    """Return the rows of the alternatives, with `None` for packages that are not installed."""
    table: list[tuple[str, str, float | None, float | None]] = [
        ("if FLAG: around a call, off", "without it", None, ratio(lambda: drive(with_flag), lambda: drive(plain))),
        ("functools.wraps with a dict, off", "undecorated", None, ratio(lambda: drive(wrapped), lambda: drive(plain))),
    ]
    for module, (what, prepare) in FOREIGN.items():
        try:
            function = prepare(importlib.import_module(module))
        except ImportError:
            table.append((what, "not installed", None, None))
        else:
            figure = ratio(functools.partial(drive, function), lambda: drive(plain))
            table.append((what, module.partition(".")[0], None, figure))
    return table


async def patched() -> int:
    return 1


def drive_patched() -> float:
    with mock.patch(f"{__name__}.patched", return_value=1):
        return drive(patched, 200)


# something configured


def configured_as(
    name: str, actions: failpoints.Actions, function: Callable[[], Coroutine[Any, Any, Any]]
) -> Callable[[], float]:
    """Time the function while only this failpoint is configured."""

    def measure() -> float:
        with failpoints.configured(name, actions):
            return drive(function, 1_000)

    return measure


async def return_when_hit() -> Any:
    return await failpoint("measured.hit")


def hit_among(count: int) -> Callable[[], float]:
    """Time hits of one failpoint while *count* failpoints are configured."""
    others = [(f"other.{number}", "off") for number in range(count - 1)]

    def measure() -> float:
        failpoints.configure_all([("measured.hit", "return(1)"), *others])
        try:
            return drive(return_when_hit, 2_000)
        finally:
            failpoints.reset()

    return measure


WAITERS = 10_000


def woken_by(prepare: Callable[[], tuple[Callable[[], Awaitable[Any]], Callable[[], Any]]]) -> Callable[[], float]:
    """Time from waking all waiting tasks until the last one has ended."""

    async def main() -> float:
        wait, wake = prepare()
        async with anyio.create_task_group() as group:
            for _ in range(WAITERS):
                group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            start = time.perf_counter()
            wake()
        return time.perf_counter() - start

    return lambda: anyio.run(main, backend=BACKEND)


def started_and_woken_by(
    prepare: Callable[[], tuple[Callable[[], Awaitable[Any]], Callable[[], Any]]],
) -> Callable[[], float]:
    """Time everything: starting the tasks, their waiting, the waking, and their end."""

    def measure() -> float:
        start = time.perf_counter()
        woken_by(prepare)()
        return time.perf_counter() - start

    return measure


BACKEND = "asyncio"


def with_event() -> tuple[Callable[[], Awaitable[Any]], Callable[[], Any]]:
    event = anyio.Event()
    return event.wait, event.set


async def visit_paused() -> None:
    await failpoint("paused")


def with_failpoint() -> tuple[Callable[[], Awaitable[Any]], Callable[[], Any]]:
    failpoints.configure("paused", "pause")
    return visit_paused, lambda: failpoints.configure("paused", "off")


def code_exchange() -> list[tuple[str, float]]:
    """Return the microseconds per function of operations on 10,000 decorated functions."""
    count = 10_000

    def measured(action: Callable[[], object]) -> float:
        start = time.perf_counter()
        action()
        return (time.perf_counter() - start) / count * 1e6

    def function() -> int:
        return 1

    functions: list[Any] = []
    return [
        ("decorate", measured(lambda: functions.extend(failpoint("many")(function) for _ in range(count)))),
        ("configure the first failpoint, once", measured(lambda: failpoints.configure("any", "off"))),
        ("remove the last failpoint", measured(lambda: failpoints.remove("any"))),
        ("configure the first failpoint, again", measured(lambda: failpoints.configure("any", "off"))),
        ("remove the last failpoint, again", measured(failpoints.reset)),
    ]


def rows() -> list[tuple[str, str, float | None, float | None]]:
    """Return the rows: what is measured, what it is compared with, the limit, and the ratio."""
    global BACKEND
    table: list[tuple[str, str, float | None, float | None]] = [
        (
            "decorated async function, off",
            "undecorated",
            1.10,
            ratio(drive_decorated, drive_plain),
        ),
        (
            "decorated method, off",
            "undecorated",
            1.10,
            ratio(drive_decorated_method, drive_plain_method),
        ),
        (
            'await failpoint("x") inline, off',
            "without it",
            3.0,
            ratio(lambda: drive(inline), lambda: drive(plain)),
        ),
        ("await point, kept, off", "without it", 2.2, ratio(lambda: drive(kept), lambda: drive(plain))),
        (
            "async with failpoint_scope, off",
            "an empty class",
            1.4,
            ratio(lambda: drive(in_scope), lambda: drive(in_empty_manager)),
        ),
        *alternatives(),
        (
            "decorated function configured 'off'",
            "another configured",
            2.0,
            ratio(configured_as("decorated", "off", decorated), configured_as("another", "off", decorated)),
        ),
        (
            "decorated function, another configured",
            "undecorated",
            None,
            ratio(configured_as("another", "off", decorated), lambda: drive(plain, 1_000)),
        ),
        (
            "decorated function configured to return",
            "undecorated",
            None,
            ratio(configured_as("decorated", failpoints.Return(1), decorated), lambda: drive(plain, 1_000)),
        ),
        ("unittest.mock.patch, in force", "undecorated", None, ratio(drive_patched, lambda: drive(plain, 200), 15)),
        ("a hit among 10,000 configured", "among 1", 1.2, ratio(hit_among(10_000), hit_among(1), rounds=15)),
    ]
    for BACKEND in ("asyncio", "trio"):
        for what, measured in (("woken", woken_by), ("started and woken", started_and_woken_by)):
            figure = ratio(measured(with_failpoint), measured(with_event), rounds=5)
            table.append((f"10,000 paused tasks {what}, {BACKEND}", "anyio.Event", 3.0, figure))
            failpoints.reset()
    for what, mark in (("function", drive_decorated), ("method", drive_decorated_method)):
        theirs = drive_plain if what == "function" else drive_plain_method
        table.append((f"decorated {what}, off again", "undecorated", None, ratio(mark, theirs)))
    return table


def main() -> None:
    print(f"Python {sys.version.split()[0]}\n")
    print(f"{'what':<45} {'compared with':<20} {'limit':>7} {'ratio':>9}")
    for what, compared_with, limit, figure in rows():
        print(f"{what:<45} {compared_with:<20} {limit or '':>7} {'' if figure is None else format(figure, '.2f'):>9}")
    print("\nmicroseconds per function, for 10,000 decorated functions")
    for what, figure in code_exchange():
        print(f"{what:<45} {figure:>38.2f}")


if __name__ == "__main__":
    main()
