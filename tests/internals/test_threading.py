"""Private names of `threading`, `queue` and the thread pools, on which the steering of threads relies."""

from __future__ import annotations

import concurrent.futures.thread
import inspect
import multiprocessing.pool
import queue
import threading
from typing import Any

import pytest

pytestmark = pytest.mark.internals


def test_primitives_have_their_state_under_these_names() -> None:
    """A reentrant lock in Python has a lock inside, and the others have their state in these attributes."""
    module: Any = threading
    reentrant = module._PyRLock()
    with reentrant:
        assert reentrant._block.locked()
    assert type(threading.RLock()) is module._CRLock
    condition: Any = threading.Condition()
    assert list(condition._waiters) == []
    with condition:
        assert condition._is_owned()
        saved = condition._release_save()
        assert not condition._is_owned()
        condition._acquire_restore(saved)
    assert condition._lock is not None
    event: Any = threading.Event()
    event.set()
    assert event._flag is True
    semaphore: Any = threading.Semaphore(3)
    assert semaphore._value == 3
    barrier: Any = threading.Barrier(2)
    assert type(barrier._cond) is threading.Condition
    thread: Any = threading.Thread(target=print)
    assert (thread._target, thread._started.is_set()) == (print, False)


def test_a_notified_waiter_is_released() -> None:
    """`notify` calls `release` of the first waiter, and takes it out of the list."""
    released: list[str] = []

    class Waiter:
        def release(self) -> None:
            released.append("released")

    condition: Any = threading.Condition()
    condition._waiters.append(Waiter())
    with condition:
        condition.notify()
    assert (released, len(condition._waiters)) == (["released"], 0)


def test_queues_have_their_state_under_these_names() -> None:
    """A queue has its size, its lock and the number of its unfinished tasks."""
    filled: Any = queue.Queue[int]()
    filled.put(1)
    assert (filled._qsize(), filled.unfinished_tasks, filled.mutex.locked()) == (1, 1, False)


def test_pools_have_these_functions() -> None:
    """A worker of an executor runs `_worker`, and a thread of a pool waits in `_wait_for_updates`."""
    worker: Any = concurrent.futures.thread._worker
    assert (worker.__module__, worker.__name__) == ("concurrent.futures.thread", "_worker")
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        future: Any = executor.submit(int, "1")
        threads: Any = executor
        assert len(threads._threads) == 1
        assert threads._max_workers == 1
        assert type(threads._work_queue) is queue.SimpleQueue
        assert list(threads._threads)[0]._args[0]() is executor
        assert list(threads._threads)[0]._target is worker
        assert list(threads._threads)[0].name.startswith("ThreadPoolExecutor")
        assert future._condition._lock is not None
        assert future._done_callbacks == []
    with multiprocessing.pool.ThreadPool(1) as of_threads:
        assert type(of_threads._inqueue) is queue.SimpleQueue
    pool: Any = multiprocessing.pool.Pool
    parameters = list(inspect.signature(pool._wait_for_updates).parameters)
    assert parameters == ["sentinels", "change_notifier", "timeout"]


def test_futures_are_sorted_and_collected_by_globals() -> None:
    """`wait` and `as_completed` look up what they need by these names, which the module may define."""
    module: Any = concurrent.futures._base
    assert {"set", "DoneAndNotDoneFutures"} <= set(module.wait.__code__.co_names)
    assert "set" in module.as_completed.__code__.co_names
    assert {"sorted", "id"} <= set(module._AcquireFutures.__init__.__code__.co_names)
    assert not {"set", "sorted"} & vars(module).keys()
