"""Which threads may still wake a task: exact, even if the operating system is slow to run a thread."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from failpoints._core.wakeups import call_soon
from failpoints._explore.loops import rest
from failpoints._explore.loops.rest import SLICE, _Patience
from failpoints._explore.loops.wait_sources import WaitSource
from failpoints._explore.threads import busy_threads, working_threads
from failpoints.explore import Run, explore


@contextmanager
def thread_at(target: Callable[[], object], code: Any) -> Iterator[threading.Thread]:
    """Start a thread, and wait until its innermost frame is that of a function."""
    thread = threading.Thread(target=target)
    thread.start()
    while sys._current_frames()[thread.ident or 0].f_code is not code:
        time.sleep(0.001)
    yield thread
    thread.join(10)


def test_a_thread_that_waits_for_a_notification() -> None:
    """A thread in `Condition.wait` works from the moment in which it is notified, before it has run again."""
    condition: Any = threading.Condition()

    def wait() -> None:
        with condition:
            condition.wait()

    with thread_at(wait, threading.Condition.wait.__code__) as thread:
        while not condition._waiters:
            time.sleep(0.001)
        assert thread not in working_threads()
        with condition:
            condition.notify()
            assert thread in working_threads()


def test_a_thread_inside_threading_that_does_not_wait() -> None:
    """A thread is not idle just because it is running a function of `threading`, as every thread does at its start."""
    event: Any = threading.Event()
    with event._cond, thread_at(event.set, threading.Condition.__enter__.__code__) as thread:
        assert thread in working_threads()
        event._cond.release()  # the thread can go on
        thread.join(10)
        event._cond.acquire()


def test_a_timer() -> None:
    """The thread of a `Timer` works, although it waits."""
    timer = threading.Timer(60, int)
    timer.start()
    try:
        assert timer in working_threads()
    finally:
        timer.cancel()
        timer.join(10)


def test_a_thread_that_gets_from_a_queue() -> None:
    """A thread in `SimpleQueue.get` works from the moment in which it gets an item, before it has run again."""
    requests: queue.SimpleQueue[int] = queue.SimpleQueue()
    end = threading.Lock()

    def get() -> None:
        requests.get()
        end.acquire()

    with end, thread_at(get, get.__code__) as thread:
        while thread in working_threads():  # until it is in `get`
            time.sleep(0.001)
        requests.put(1)
        assert thread in working_threads()
        end.release()
        thread.join(10)


def test_a_thread_that_gets_from_a_dictionary() -> None:
    """A thread at a line with `.get(` works if that is not a queue."""
    names: dict[str, str] = {}
    begin = threading.Lock()

    class Key(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return hash(begin.acquire() and begin.release())

    hash_code = Key.__hash__.__code__
    with begin:
        manager = thread_at(lambda: names.get(Key("x")), hash_code)
        thread = manager.__enter__()
        assert thread in working_threads()
    manager.__exit__(None, None, None)


def test_the_worker_of_a_pool() -> None:
    """The worker of a pool is busy from the moment in which it gets a call, before it has run again."""
    end = threading.Lock()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        (worker,) = pool._threads
        while worker in busy_threads():
            time.sleep(0.001)
        with end:
            pool.submit(end.acquire)
            assert worker in busy_threads()


def test_a_thread_with_the_ident_of_an_earlier_one() -> None:
    """A thread that was started during a run is new, even if it has the ident of a thread from before the run."""
    end = threading.Lock()

    def wait() -> None:
        with end:
            pass

    for _ in range(1_000):
        with end:
            earlier = threading.Thread(target=wait)
            earlier.start()
            patience = _Patience(set())
        earlier.join(10)
        with end:
            thread = threading.Thread(target=wait)
            thread.start()
            seconds = patience.seconds([WaitSource.SIGNALED], has_looked=True, is_before_timer=True)
        thread.join(10)
        assert seconds == SLICE
        if thread.ident == earlier.ident:
            return
    pytest.skip("the operating system did not use an ident again")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_answer_that_comes_while_threads_are_looked_at(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that answers and ends while the run looks at the threads leaves no deadlock behind."""
    looked = threading.Event()
    threads: list[threading.Thread] = []

    def look() -> list[threading.Thread]:
        looked.set()
        for thread in threads:
            thread.join(10)
        return []

    monkeypatch.setattr(rest, "busy_threads", look)

    async def scenario(run: Run) -> None:
        looked.clear()
        answered = anyio.Event()
        loop = anyio.lowlevel.current_token().native_token

        def answer() -> None:
            looked.wait(10)
            call_soon(loop, answered.set)

        threads[:] = [threading.Thread(target=answer)]
        threads[0].start()
        async with run.injecting():
            await answered.wait()

    assert explore(scenario, backend=backend).runs == 1
