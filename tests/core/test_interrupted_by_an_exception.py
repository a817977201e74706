"""An exception from a signal handler (Ctrl-C, a timeout) at any line of a call that wakes waiters."""

from __future__ import annotations

import gc
import linecache
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

import failpoints
from failpoints import (
    Continue,
    FailpointUsageError,
    Off,
    Outcome,
    Registry,
    configure,
    configure_all,
    configured,
    failpoint,
    format_actions,
    remove,
    reset,
    resume,
    status,
    statuses,
    wait_until_hit_sync,
)
from failpoints._core import store as _store
from failpoints._core.registry import PROCESS_WIDE, store_of
from failpoints._core.store import PROCESS_STORE
from failpoints._core.switches import ARMED

PACKAGE = str(Path(failpoints.__file__).parent)
LIMIT = 10


class Interrupted(BaseException):
    """What the signal handler raises."""


async def visit() -> Outcome:
    """Visit the failpoint once, in a task."""
    return await failpoint("x")


def hit() -> Outcome:
    """Visit the failpoint once, in a thread."""
    return failpoint("x").hit()


@pytest.fixture(scope="module")
def portals() -> Iterator[list[BlockingPortal]]:
    """Run an event loop of each kind in a thread of its own."""
    with ExitStack() as stack:
        yield [stack.enter_context(start_blocking_portal(backend)) for backend in ("asyncio", "trio")]


def in_thread(function: Callable[[], Any]) -> Future[Any]:
    """Run the function in a new thread."""
    future = Future[Any]()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def interrupted(line: int, call: Callable[[], object]) -> str:
    """Call a function, and raise `Interrupted` before line number *line* of the package that it comes to.

    Returns that line, or nothing if the call came to its end. A line that is run again and again counts twice. The line
    of a `with` does not count, because tracing raises there on leaving the block too, where the interpreter lets no
    signal handler run.
    """
    left = line
    times: Counter[tuple[str, int]] = Counter()
    place = ""

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left, place
        file = frame.f_code.co_filename
        if not file.startswith(PACKAGE):
            return None
        if event == "line" and not linecache.getline(file, frame.f_lineno).lstrip().startswith("with "):
            times[file, frame.f_lineno] += 1
            left -= times[file, frame.f_lineno] <= 2
            if not left:
                place = f"{Path(file).name}:{frame.f_lineno}"
                raise Interrupted
        return trace

    before = sys.gettrace()  # of coverage
    sys.settrace(trace)
    try:
        call()
    except Interrupted:
        pass
    finally:
        sys.settrace(before)
    return place


def lock_is_free() -> bool:
    """Return whether another thread can take the lock of the registries."""

    def take() -> bool:
        with _store._guard.lock:
            return True

    return in_thread(take).result(LIMIT)


NEXT: dict[str, Callable[[], object]] = {
    "configure": lambda: configure("y", "off"),
    "configure_all": lambda: configure_all([("y", "off")]),
    "remove": lambda: remove("y"),
    "resume": lambda: resume("y"),
    "reset": lambda: Registry().reset(),
    "a block": lambda: configured("y", "off").__enter__().remove(),
}


class Waiters:
    """A thread and a task on each kind of loop that are paused at `x`, and a thread that waits for its removal."""

    def __init__(self, registry: Registry, portals: list[BlockingPortal], where: str) -> None:
        self._registry = registry
        self._where = where
        self._visitors = {in_thread(registry.bound(hit))}
        self._visitors |= {portal.start_task_soon(registry.bound(visit)) for portal in portals}
        self._watch = in_thread(lambda: registry.wait_until_hit_sync("x", 99))
        registry.wait_until_paused_sync("x", len(self._visitors), timeout=LIMIT)
        while "x" not in store_of(registry)._watches.names:
            pass

    def check(self, following: str) -> None:
        """Check that the next call wakes those that do not wait any more, and that a reset wakes the others."""
        NEXT[following]()
        assert lock_is_free(), self._where
        self._finish()
        self._registry.reset()
        self._finish()
        assert not self._visitors, self._where
        with pytest.raises(FailpointUsageError):
            self._watch.result(LIMIT)
        remove("y")
        assert ARMED == {}, self._where

    def _finish(self) -> None:
        while len(self._visitors) > len(self._registry.status("x").waiting):
            done, self._visitors = wait(self._visitors, LIMIT, FIRST_COMPLETED)
            assert done, self._where
            assert {visitor.result() for visitor in done} == {Continue()}


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that send signals")
def test_no_signal_leaves_the_lock_held() -> None:
    """The lock is free after a call that the exception of a real signal handler ended, wherever that came."""
    interruptions = 0
    is_armed = False

    def handler(*_: object) -> None:
        if is_armed:
            raise Interrupted

    before = signal.signal(signal.SIGALRM, handler)
    configure("x", "off")
    gc.disable()  # Python ignores an exception in a callback of the garbage collector, and Hypothesis has one
    try:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            try:
                is_armed = True
                signal.setitimer(signal.ITIMER_REAL, 3e-5)
                while True:
                    status("x")
            except Interrupted:
                interruptions += 1
            is_armed = False
            assert not _store._guard.lock._is_owned()  # type: ignore[attr-defined]
    finally:
        is_armed = False
        gc.enable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interruptions > 10


CALLS: dict[str, Callable[[], object]] = {
    "configure": lambda: configure("x", Off()),
    "configure_all": lambda: configure_all([("x", Off(), {"k": 1}), ("y", Off()), ("x", Off())]),
    "remove": lambda: remove("x"),
    "reset": reset,
    "resume": lambda: resume("x"),
    "resume by context": lambda: resume("x", context={"k": "v.*"}, tasks=2),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_interrupted_call_loses_no_waiter(call: str, portals: list[BlockingPortal]) -> None:
    """What a call dismissed before it was interrupted is woken by the next call, and the lock is free."""
    line, place = 0, "the beginning"
    while place:
        line += 1
        configure("x", "pause")
        waiters = Waiters(PROCESS_WIDE, portals, f"{call}, line {line}")
        place = interrupted(line, CALLS[call])
        waiters.check(list(NEXT)[line % len(NEXT)])
        reset()
    assert line > 30


@pytest.mark.parametrize("outer", [False, True], ids=["alone", "in another block"])
def test_an_interrupted_block_loses_no_waiter(outer: bool, portals: list[BlockingPortal]) -> None:
    """What leaving a block dismissed before it was interrupted is woken by the next call, and the block is left."""
    line, place = 0, "the beginning"
    while place:
        line += 1
        if outer:
            configure("x", "return")
        block = configured("x", "pause")
        block.__enter__()
        waiters = Waiters(PROCESS_WIDE, portals, f"line {line}")
        place = interrupted(line, lambda block=block: block.__exit__(None, None, None))
        if line > 2:
            assert [format_actions(each.actions) for each in status("x").configurations] == ["return"] * outer
        waiters.check(list(NEXT)[line % len(NEXT)])
        reset()
    assert line > 30


def test_an_interrupted_registry_loses_no_waiter(portals: list[BlockingPortal]) -> None:
    """What leaving a registry dismissed before it was interrupted is woken by the next call, and it is left."""
    line, place = 0, "the beginning"
    while place:
        line += 1
        registry = Registry()
        registry.__enter__()
        registry.configure("x", "pause")
        waiters = Waiters(registry, portals, f"line {line}")
        place = interrupted(line, lambda registry=registry: registry.__exit__(None, None, None))
        if line > 3:
            assert registry.statuses() == []
            assert failpoint("x").hit() == Continue()
        waiters.check(list(NEXT)[line % len(NEXT)])
        registry.__exit__()
    assert line > 30


def test_an_interrupted_configure_all_changes_all_or_nothing() -> None:
    """If `configure_all` is interrupted, all of its entries are in force, or none."""
    line, place = 0, "the beginning"
    seen: list[int] = []
    while place:
        line += 1
        place = interrupted(line, lambda: configure_all([(name, "off") for name in "abc"]))
        assert len(statuses()) in {0, 3}, f"line {line}, {place}"
        seen.append(len(statuses()))
        resume("x")
        assert len(ARMED) == len(statuses()), f"line {line}, {place}"
        reset()
    assert set(seen) == {0, 3}


def test_an_interrupted_visit_is_not_lost_on_what_waits_for_it() -> None:
    """If a visit is interrupted after it was counted, the next call wakes what waits for a hit."""
    line, place = 0, "the beginning"
    while place:
        line += 1
        configure("x", "off")
        watch = in_thread(lambda: wait_until_hit_sync("x"))
        while "x" not in PROCESS_STORE._watches.names:
            pass
        place = interrupted(line, failpoint("x").hit)
        resume("y")
        assert lock_is_free()
        if status("x").hits:
            watch.result(LIMIT)
        reset()
        assert watch.exception(LIMIT) is None or not status("x").hits
    assert line > 20
