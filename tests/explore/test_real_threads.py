"""Threads of real code: Python's own pools, queues and caches, and a connection pool, each with a known mistake."""

from __future__ import annotations

import functools
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from typing import Any

import pytest

from failpoints import failpoint
from failpoints.explore import Exploration, Run, explore
from tests.explore.races import failure_of, race

Scenario = Callable[[Run], None]


DECLARED: dict[str, Any] = {"interleavings": True, "reduction": "declared"}


def explored(scenario: Scenario, **options: Any) -> Exploration:
    return explore(scenario, **DECLARED, **options)


class Pool:
    """A pool of one connection. The mistake: after its wait, a thread does not look again."""

    def __init__(self, *, is_fixed: bool) -> None:
        self.idle: list[object] = []
        self.made = 0
        self.is_fixed = is_fixed
        self.condition = threading.Condition()

    def _is_available(self) -> bool:
        return bool(self.idle) or self.made == 0

    def acquire(self) -> object:
        with self.condition:
            if self.is_fixed:
                self.condition.wait_for(self._is_available)
            elif not self._is_available():
                self.condition.wait()
            if self.idle:
                return self.idle.pop()
            self.made += 1
            return object()

    def release(self, connection: object) -> None:
        with self.condition:
            self.idle.append(connection)
            self.condition.notify()


def connections(threads: int, *, is_fixed: bool) -> Scenario:
    def scenario(run: Run) -> None:
        pool = Pool(is_fixed=is_fixed)

        def work() -> None:
            connection = pool.acquire()
            failpoint("use", reads=()).hit()
            pool.release(connection)

        with run.injecting():
            race(*[work] * threads)
        assert pool.made == 1

    return scenario


def test_a_pool_that_does_not_look_again_after_a_wait() -> None:
    """A third thread takes the connection between the notification and the end of the wait: two threads cannot."""
    assert explored(connections(2, is_fixed=False)).exhaustive
    assert failure_of(connections(3, is_fixed=False), **DECLARED).failure.kind == "error"
    exploration = explored(connections(3, is_fixed=True))
    assert (exploration.runs, exploration.exhaustive) == (42, True)


def test_a_queue_that_is_empty_after_all() -> None:
    """`if not q.empty(): q.get()` waits for ever once two threads do so. With `get_nowait`, each order passes."""

    def consumers(*, is_fixed: bool) -> Scenario:
        def scenario(run: Run) -> None:
            jobs: queue.Queue[int] = queue.Queue()
            jobs.put(1)
            done: list[int] = []

            def work() -> None:
                if is_fixed:
                    try:
                        done.append(jobs.get_nowait())
                    except queue.Empty:
                        pass
                elif not jobs.empty():
                    done.append(jobs.get())

            with run.injecting():
                race(work, work)
            assert done == [1]

        return scenario

    failed = failure_of(consumers(is_fixed=False), **DECLARED)
    assert failed.failure.kind == "deadlock"
    assert "jobs.get()" in str(failed)
    exploration = explored(consumers(is_fixed=True))
    assert (exploration.runs, exploration.exhaustive) == (2, True)


def test_a_bounded_queue_between_two_producers_and_a_consumer() -> None:
    """Each order of the items arrives, each producer's own in its order, and `join` returns."""
    arrived: set[tuple[str, ...]] = set()

    def scenario(run: Run) -> None:
        items: queue.Queue[str] = queue.Queue(1)
        got: list[str] = []

        def produce(name: str) -> None:
            items.put(f"{name}1")
            items.put(f"{name}2")

        def consume() -> None:
            for _ in range(4):
                got.append(items.get())
                items.task_done()

        with run.injecting():
            race(lambda: produce("a"), lambda: produce("b"), consume)
            items.join()
        arrived.add(tuple(got))

    assert explored(scenario).exhaustive
    assert len(arrived) == 6
    assert all(each.index("a1") < each.index("a2") and each.index("b1") < each.index("b2") for each in arrived)


def test_a_job_that_waits_for_another_one_of_its_executor() -> None:
    """With one worker it never gets its result, as the documentation of Python warns. With two it always does."""

    def jobs(workers: int) -> Scenario:
        def scenario(run: Run) -> None:
            with run.injecting(), ThreadPoolExecutor(workers) as executor:

                def outer() -> int:
                    inner: Future[int] = executor.submit(lambda: 7)
                    return inner.result()

                assert executor.submit(outer).result() == 7

        return scenario

    failed = failure_of(jobs(1), **DECLARED)
    assert failed.failure.kind == "deadlock"
    assert "inner.result()" in str(failed)
    assert explored(jobs(2)).exhaustive


@pytest.mark.parametrize("collect", [list, set], ids=["list", "set"])
def test_futures_that_are_awaited_together(collect: Callable[[list[Future[int]]], Any]) -> None:
    """Each run finds the same order in the sets of `wait` and `as_completed`, although they have that of addresses."""

    def ends() -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = []

        def job(number: int) -> int:
            failpoint("job", reads=()).hit()
            return number

        def scenario(run: Run) -> None:
            with run.injecting(), ThreadPoolExecutor(2) as executor:
                futures = collect([executor.submit(job, number) for number in range(3)])
                first = wait(futures, return_when=FIRST_COMPLETED)
                numbers = [each.result() for each in as_completed(futures)]
                numbers += [each.result() for each in first.done] + [each.result() for each in wait(futures).done]
                found.append(tuple(numbers))

        explore(scenario, interleavings=True, sample=30)
        return found

    once = ends()
    assert once == ends()
    assert len(set(once)) > 1
    assert all(sorted(each[:3]) == [0, 1, 2] == list(each[-3:]) for each in once)


def test_the_jobs_of_an_executor_run_in_each_order() -> None:
    """Two workers take them in turn. A future that is cancelled in time has not run."""
    ends: set[tuple[bool, tuple[int, ...]]] = set()

    def scenario(run: Run) -> None:
        done: list[int] = []

        def work(number: int) -> None:
            failpoint("job", writes=("done",)).hit()
            done.append(number)

        with run.injecting(), ThreadPoolExecutor(1) as executor:
            executor.submit(work, 1)
            is_cancelled = executor.submit(work, 2).cancel()
        ends.add((is_cancelled, tuple(done)))

    assert explored(scenario).exhaustive
    assert ends == {(True, (1,)), (False, (1, 2))}


def computed(make: Callable[[], Callable[[], object]], counts: set[int]) -> Scenario:
    """Return a scenario in which two threads ask for a value that is computed when it is first asked for."""

    def scenario(run: Run) -> None:
        calls.clear()
        get = make()

        def work() -> None:
            failpoint("look-up", reads=("value",)).hit()
            get()

        with run.injecting():
            race(work, work)
        counts.add(len(calls))

    return scenario


calls: list[object] = []


def compute(*key: object) -> object:
    failpoint("compute", writes=("value",)).hit()
    calls.append(key)
    return key


def cached_property() -> Callable[[], object]:
    class Owner:
        value = functools.cached_property(compute)

    Owner.value.__set_name__(Owner, "value")
    owner = Owner()
    return lambda: owner.value


def test_cached_property_computes_twice_since_python_3_12() -> None:
    """It had a lock until 3.11."""
    counts: set[int] = set()
    assert explored(computed(cached_property, counts)).exhaustive
    assert counts == ({1} if sys.version_info < (3, 12) else {1, 2})


def test_functools_cache_computes_twice() -> None:
    """It keeps its own state right, and calls the function again while another thread does."""
    counts: set[int] = set()
    assert explored(computed(lambda: functools.cache(compute), counts)).exhaustive
    assert counts == {1, 2}
