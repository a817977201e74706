"""Waiters on asyncio, uvloop and trio loops and in plain threads, woken from any of these without a lost wakeup."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import failpoints
from failpoints import (
    Continue,
    FailpointTimeout,
    FailpointUsageError,
    Outcome,
    configure,
    failpoint,
    format_actions,
    remove,
    reset,
    resume,
    status,
    statuses,
    wait_until_hit,
    wait_until_hit_sync,
    wait_until_paused,
    wait_until_paused_sync,
)
from failpoints._core.store import PROCESS_STORE
from failpoints._core.switches import ARMED
from failpoints._core.wakeups import TaskWakeup, wake
from tests.interrupting import interrupting

ROOT = Path(__file__).parents[2]
LIMIT = 20  # seconds, far more than any wait here takes

LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
if sys.platform == "win32":  # uvloop does not support Windows
    del LOOPS["uvloop"]
PLACES = ["thread", *LOOPS]


class Background:
    """A function that runs in its own thread, with its result or error."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.result: Any = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.result = self.function()
        except BaseException as error:
            self.error = error

    def finish(self, limit: float = LIMIT) -> Any:
        """Join the thread, then return the function's result or raise its error."""
        self.thread.join(limit)
        assert not self.thread.is_alive(), "the thread still waits"
        if self.error is not None:
            raise self.error
        return self.result


def run_on(place: str, function: Callable[[], Any]) -> Any:
    """Run an async function on an event loop of the kind *place*."""
    backend, options = LOOPS[place]
    return anyio.run(function, backend=backend, backend_options=options)


async def visit() -> Outcome:
    """Visit `x` once."""
    return await failpoint("x")


def visit_on(place: str) -> Background:
    """Visit `x` once in a new thread, on an event loop there unless *place* is "thread"."""
    return Background(failpoint("x").hit if place == "thread" else lambda: run_on(place, visit))


def wait_paused(tasks: int = 1) -> None:
    """Wait until *tasks* tasks or threads wait at `x`."""
    wait_until_paused_sync("x", tasks, timeout=LIMIT)


@pytest.fixture
def switching_often() -> Iterator[None]:
    """Make the interpreter switch threads far more often than by default."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


ENDS: dict[str, Callable[[], object]] = {
    "configure": lambda: configure("x", "off"),
    "remove": lambda: remove("x"),
    "reset": reset,
    "resume": lambda: resume("x"),
}


# woken from anywhere


@pytest.mark.parametrize("action", ["pause", "pause(60m)", "sleep(60m)"])
@pytest.mark.parametrize("end", ENDS)
def test_woken_from_the_main_thread(end: str, action: str) -> None:
    """One call in the main thread wakes tasks on every kind of loop and a plain thread."""
    configure("x", action)
    visitors = [visit_on(place) for place in PLACES]
    wait_paused(len(PLACES))
    ENDS[end]()
    assert [visitor.finish() for visitor in visitors] == [Continue()] * len(PLACES)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("waker", LOOPS)
def test_woken_from_another_loop(waker: str, end: str) -> None:
    """A task on any kind of loop wakes tasks on every kind of loop and a plain thread."""
    configure("x", "pause")
    visitors = [visit_on(place) for place in PLACES]

    async def wake_them() -> None:
        with anyio.fail_after(LIMIT):
            await wait_until_paused("x", len(PLACES))
        ENDS[end]()

    Background(lambda: run_on(waker, wake_them)).finish()
    assert [visitor.finish() for visitor in visitors] == [Continue()] * len(PLACES)


@pytest.mark.parametrize("place", LOOPS)
def test_many_on_one_loop_are_woken_from_another_thread(place: str) -> None:
    """`resume` in another thread wakes all waiters of a loop and returns their number."""
    configure("x", "pause")

    async def visit_often() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(visit)

    visitors = Background(lambda: run_on(place, visit_often))
    wait_paused(100)
    assert resume("x") == 100
    visitors.finish()
    assert status("x").waiting == ()


SIGNALLED = """
import os, signal, sys, threading
import anyio
import failpoints
from failpoints import configure, failpoint, remove

configure("x", "pause")
signal.signal(signal.SIGUSR1, lambda *_: remove("x"))

def send():
    failpoints.wait_until_paused_sync("x", timeout=20)
    while not over.wait(0.05):  # a signal just before the loop waits would be seen after the wait only
        os.kill(os.getpid(), signal.SIGUSR1)

over = threading.Event()
sender = threading.Thread(target=send, daemon=True)
sender.start()

async def visit():
    with anyio.fail_after(20):
        return await failpoint("x")

place = sys.argv[1]
if place == "thread":
    print(failpoint("x").hit())
else:
    backend, uvloop = {"asyncio": ("asyncio", False), "uvloop": ("asyncio", True), "trio": ("trio", None)}[place]
    print(anyio.run(visit, backend=backend, backend_options={} if uvloop is None else {"use_uvloop": uvloop}))
over.set()
sender.join(5)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no signals to send")
@pytest.mark.parametrize("place", PLACES)
def test_woken_from_a_signal_handler(place: str) -> None:
    """A signal handler wakes the main thread, whether it waits itself or runs an idle event loop."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, place],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Continue()\n", "")


# signal handlers between any two lines


MOVES: dict[str, Callable[[], object]] = {
    **ENDS,
    "configure the same": lambda: configure("x", "pause"),
    "remove and configure": lambda: (remove("x"), configure("x", "pause")),
}


@pytest.mark.slow  # together: each line of each call
@pytest.mark.parametrize("move", MOVES)
def test_a_visit_interrupted_at_any_line_ends(move: str) -> None:
    """A visit ends even if a signal handler reconfigures the failpoint between any two of its lines."""
    line, interrupted = 0, True
    while interrupted:
        line += 1
        configure("x", "pause")
        visitor = Background(partial(interrupting, line, MOVES[move], failpoint("x").hit))
        for _ in range(2000):
            visitor.thread.join(0.001)
            if not visitor.thread.is_alive() or status("x").waiting:
                break
        woken = resume("x")
        interrupted = visitor.finish(2)
        assert (woken <= 1, status("x").waiting) == (True, ()), f"line {line}"
        with pytest.raises((FailpointTimeout, FailpointUsageError)):  # there is no waiter, or no configuration
            wait_until_paused_sync("x", timeout=0)
        remove("x")
        assert ARMED == {}, f"line {line}"
    assert line > 30


CALLS: dict[str, Callable[[], object]] = {
    "configure": lambda: configure("x", "off"),
    "remove": lambda: remove("x"),
    "reset": reset,
    "resume": lambda: resume("x"),
    "status": lambda: status("x"),
    "statuses": statuses,
}


@pytest.mark.slow  # together: each line of each call
@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_interrupted_at_any_line_works(call: str, move: str) -> None:
    """A call has its usual effect even if a signal handler reconfigures the failpoint between any two of its lines."""
    line, interrupted = 0, True
    while interrupted:
        line += 1
        configure("x", "pause")
        visitor = visit_on("thread")
        wait_paused()
        interrupted = Background(partial(interrupting, line, MOVES[move], CALLS[call])).finish(2)
        assert bool(ARMED) == bool(statuses()), f"line {line}"
        remove("x")
        assert visitor.finish(2) == Continue(), f"line {line}"
        assert (ARMED, statuses()) == ({}, []), f"line {line}"
    assert line > 3


def saved_pause() -> Callable[[], object]:
    """Configure `off` over a pause at `x`, and return the call that restores the pause."""
    configure("x", "pause")
    saved = PROCESS_STORE.save()
    configure("x", "off")
    return saved


@pytest.mark.slow  # together: each line of each call
@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("call", [lambda: partial(configure, "x", "pause"), saved_pause], ids=["configure", "restore"])
def test_a_configuration_interrupted_at_any_line_works(call: Callable[[], Callable[[], object]], move: str) -> None:
    """A configuration works even if a signal handler reconfigures the failpoint while it is made or restored."""
    line, interrupted = 0, True
    while interrupted:
        line += 1
        interrupted = Background(partial(interrupting, line, MOVES[move], call())).finish(2)
        pauses = [format_actions(status.actions) for status in statuses()] == ["pause"]
        visitor = visit_on("thread")
        if pauses:
            wait_paused()
        remove("x")
        assert visitor.finish(2) == Continue(), f"line {line}"
        assert (ARMED, statuses()) == ({}, []), f"line {line}"
    assert line > 30


@pytest.mark.parametrize("move", ["remove", "reset"])
@pytest.mark.parametrize("wait", ["wait_until_hit_sync", "wait_until_paused_sync"])
def test_a_wait_interrupted_at_any_line_by_a_removal_ends(wait: str, move: str) -> None:
    """A wait ends if a signal handler removes the failpoint between any two of its lines."""
    limit, line, in_time = 0.5, 0, True
    while in_time:
        line += 1
        configure("x", "off")
        removed: list[float] = []
        began = time.monotonic()

        def handler(removed: list[float] = removed) -> None:
            MOVES[move]()
            removed.append(time.monotonic())

        caller = Background(
            partial(interrupting, line, handler, partial(getattr(failpoints, wait), "x", timeout=limit))
        )
        caller.thread.join(LIMIT)
        in_time = (
            bool(removed) and removed[0] - began < limit / 2
        )  # otherwise the wait slept first: no lines are left to interrupt
        assert not in_time or isinstance(caller.error, FailpointUsageError), f"line {line}"
    assert line > 10


# closed event loops


@pytest.mark.parametrize("action", ["pause", "pause(60m)", "sleep(60m)"])
@pytest.mark.parametrize(
    "place", [place for place in LOOPS if place != "trio"]
)  # trio.run cancels every task that is left
@pytest.mark.parametrize("end", ENDS)
def test_a_closed_loop_does_not_affect_other_waiters(end: str, place: str, action: str) -> None:
    """Waking other waiters raises no error if a waiter's loop was closed."""
    configure("x", action)
    if place == "uvloop":
        import uvloop

        loop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()

    async def leave_one_waiting() -> Any:
        task = loop.create_task(visit())
        await wait_until_paused("x")
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        return task

    task = loop.run_until_complete(leave_one_waiting())
    loop.close()
    assert status("x").waiting == ()  # the task of the closed loop no longer counts
    with pytest.raises(FailpointTimeout):
        wait_until_paused_sync("x", timeout=0)
    other = visit_on("thread")
    wait_paused()
    ENDS[end]()
    assert other.finish() == Continue()
    assert status("x").waiting == ()
    del task
    gc.collect()


@pytest.mark.parametrize("place", LOOPS)
def test_wake_skips_a_closed_loop(place: str) -> None:
    """`wake` skips a wakeup whose loop has been closed, and sets the others."""

    async def make() -> TaskWakeup:
        return TaskWakeup()

    gone = run_on(place, make)

    async def wait_beside_it() -> None:
        wakeup = TaskWakeup()
        wake([gone, wakeup])
        with anyio.fail_after(LIMIT):
            await wakeup.wait()

    wake([gone])
    run_on("asyncio", wait_beside_it)


# no lost wakeups


@pytest.mark.usefixtures("switching_often")
@pytest.mark.parametrize("place", PLACES)
def test_no_wakeup_is_lost(place: str) -> None:
    """Every visit ends while another thread reconfigures the failpoint as fast as it can."""
    visits = 1000
    actions = ["pause", "1*off->pause", "sleep(60m)", "1*yield+pause->pause", "pause(60m)"]
    ended = threading.Event()

    async def visit_often() -> int:
        for _ in range(visits):
            _ = await failpoint("x")
        return visits

    def hit_often() -> int:
        site = failpoint("x")
        for _ in range(visits):
            site.hit()
        return visits

    def reconfigure() -> None:
        for number in range(1_000_000):
            if ended.is_set():
                break
            match number % 7:
                case 5:
                    remove("x")
                case 6:
                    resume("x")
                case _:
                    configure("x", actions[number % len(actions)])

    reconfiguring = Background(reconfigure)
    visiting = Background(hit_often if place == "thread" else lambda: run_on(place, visit_often))
    try:
        assert visiting.finish(40) == visits
    finally:
        ended.set()
        reconfiguring.finish()
    assert status("x").waiting == ()


@pytest.mark.usefixtures("switching_often")
def test_no_wakeup_is_lost_between_two_loops() -> None:
    """An asyncio loop and a trio loop that keep pausing and resuming one another never hang."""
    turns = 500
    configure("ping", "pause")
    configure("pong", "pause")

    async def play(mine: str, theirs: str, begins: bool) -> int:
        for turn in range(turns):
            if begins or turn:
                await wait_until_paused(theirs)
                assert resume(theirs) == 1
            assert await failpoint(mine) == Continue()
        return turns

    async def ping() -> int:
        return await play("ping", "pong", begins=False)

    async def pong() -> int:
        return await play("pong", "ping", begins=True)

    first, second = Background(lambda: run_on("asyncio", ping)), Background(lambda: run_on("trio", pong))
    assert first.finish() == turns
    wait_pong_is_last = Background(lambda: wait_until_paused_sync("pong", timeout=LIMIT))
    wait_pong_is_last.finish()
    assert resume("pong") == 1
    assert second.finish() == turns


@pytest.mark.usefixtures("switching_often")
@pytest.mark.parametrize("place", PLACES)
def test_a_watcher_sees_every_pause(place: str) -> None:
    """A watcher on another loop or thread sees and resumes every pause, without missing one."""
    configure("x", "pause")
    visits = 300

    def hit_often() -> None:
        for _ in range(visits):
            failpoint("x").hit()

    async def watch() -> None:
        for _ in range(visits):
            await wait_until_paused("x")
            assert resume("x") == 1

    def watch_sync() -> None:
        for _ in range(visits):
            wait_paused()
            assert resume("x") == 1

    visiting = Background(hit_often)
    Background(watch_sync if place == "thread" else lambda: run_on(place, watch)).finish()
    visiting.finish()
    assert status("x").hits == visits


# waiting from anywhere


@pytest.mark.parametrize("visitor", PLACES)
@pytest.mark.parametrize("watcher", LOOPS)
def test_waits_see_visits_on_every_loop_and_thread(watcher: str, visitor: str) -> None:
    """`wait_until_hit` and `wait_until_paused` see visits on every kind of loop and in threads."""
    configure("x", "pause")

    async def watch() -> None:
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                group.start_soon(wait_until_hit, "x")
                group.start_soon(wait_until_paused, "x")
                await anyio.wait_all_tasks_blocked()
                watching.set()

    watching = threading.Event()
    watchers = Background(lambda: run_on(watcher, watch))
    assert watching.wait(LIMIT)
    visiting = visit_on(visitor)
    watchers.finish()
    assert len(status("x").waiting) == 1
    Background(lambda: run_on(watcher, watch)).finish()
    resume("x")
    assert visiting.finish() == Continue()


@pytest.mark.parametrize("place", PLACES)
def test_a_wait_is_ended_from_another_thread(place: str) -> None:
    """Removing a failpoint in one thread ends waits in other threads with a usage error."""
    configure("x", "off")
    watching = threading.Event()

    async def watch() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(expect_removal)
            await anyio.wait_all_tasks_blocked()
            watching.set()

    async def expect_removal() -> None:
        with pytest.raises(FailpointUsageError, match="was removed"):
            await wait_until_hit("x", 1)

    def watch_sync() -> None:
        watching.set()
        with pytest.raises(FailpointUsageError, match="was removed|is not configured"):
            wait_until_hit_sync("x", 1)

    watcher = Background(watch_sync if place == "thread" else lambda: run_on(place, watch))
    assert watching.wait(LIMIT)
    remove("x")
    watcher.finish()
