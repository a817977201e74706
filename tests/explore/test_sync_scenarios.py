"""Scenarios that are plain functions: faults, time, replay, and the threads that they start."""

from __future__ import annotations

import _thread
import functools
import math
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

from failpoints import FailpointUsageError, failpoint
from failpoints._explore.steering import control
from failpoints._explore.threads import ignored_threads
from failpoints.explore import ExplorationFailed, Run, explore
from tests.explore.races import failure_of, race
from tests.explore.threads_model import Program, Totals, check, ends_of_model, random_program


def locked(count: int, expected: int | None = None) -> Callable[[Run], None]:
    """Return a scenario in which threads count behind a lock, with a visit before it and one inside."""

    def scenario(run: Run) -> None:
        lock, counted = threading.Lock(), [0]

        def work() -> None:
            failpoint("before").hit()
            with lock:
                failpoint("inside", writes=("counted",)).hit()
                counted[0] += 1

        with run.injecting():
            race(*[work] * count)
        assert counted[0] == (count if expected is None else expected)

    return scenario


def counter() -> tuple[list[int], Callable[[], None]]:
    """Return a count, and a function that adds 1 to it, with a failpoint before each access."""
    counted = [0]

    def work() -> None:
        failpoint("read", reads=("counted",)).hit()
        seen = counted[0]
        failpoint("write", writes=("counted",)).hit()
        counted[0] = seen + 1

    return counted, work


def lost_update(run: Run) -> None:
    counted, work = counter()
    with run.injecting():
        race(work, work)
    assert counted[0] == 2


# Faults


def test_every_fault_of_a_plain_function() -> None:
    """The faults of sync visits are injected, those of `:after` too, and one that surfaces is in `run.error`."""
    surfaced: list[object] = []

    @failpoint("bank.move", raises=(OSError, ValueError))
    def move() -> None:
        pass

    def scenario(run: Run) -> None:
        with run.injecting():
            move()
        surfaced.append(type(run.error))

    exploration = explore(scenario)
    assert (exploration.runs, exploration.exhaustive) == (5, True)
    assert surfaced == [type(None), OSError, ValueError, OSError, ValueError]


def test_a_failure_is_minimised_and_replayed() -> None:
    """The message has the replay text, and the replay fails in the same way."""

    def scenario(run: Run) -> None:
        done: list[str] = []
        with run.injecting():
            for name in ("one", "two"):
                failpoint(name).hit()
                done.append(name)
        assert done != ["one"]

    failed = failure_of(scenario)
    assert failed.failure.faults == ("two=raise",)
    again = failure_of(scenario, replay=failed.replay)
    assert again.failure.timeline == failed.failure.timeline


def test_what_is_random_is_the_same_in_every_run() -> None:
    """A scenario and its threads draw the same numbers in every run."""
    drawn: list[tuple[Any, ...]] = []

    def scenario(run: Run) -> None:
        with run.injecting():
            failpoint("visit").hit()
            seen = [random.random()]
            race(lambda: seen.append(random.SystemRandom().random()))
            drawn.append(tuple(seen))

    explore(scenario, faults={"*": ["off"]})
    assert len(set(drawn)) == 1
    assert len(drawn) == 2


def test_time_is_virtual_for_the_threads_of_the_scenario() -> None:
    """`time.sleep` and time-outs take no time, `time.monotonic` and `time.time` know, and other threads do not."""
    asked: queue.SimpleQueue[None] = queue.SimpleQueue()
    told: queue.SimpleQueue[float] = queue.SimpleQueue()

    def tell() -> None:
        asked.get()
        told.put(time.monotonic())

    teller = threading.Thread(target=tell)
    teller.start()

    def scenario(run: Run) -> None:
        before = time.monotonic(), time.time()
        with run.injecting():
            time.sleep(1_000)
            assert not threading.Event().wait(2_000)
            assert not threading.Lock().locked()
            with pytest.raises(queue.Empty):
                queue.Queue[None]().get(timeout=500)
        assert (time.monotonic() - before[0], time.time() - before[1]) == (3_500, pytest.approx(3_500))
        asked.put(None)
        assert told.get(timeout=10) < before[0] + 1_000

    began = time.monotonic()
    assert explore(scenario, max_faults=0).runs == 1
    assert time.monotonic() - began < 100
    teller.join(10)


def test_a_clock_that_is_real() -> None:
    """With `clock="real"`, sleeping takes its time."""

    def scenario(run: Run) -> None:
        with run.injecting():
            time.sleep(0.05)

    began = time.monotonic()
    explore(scenario, max_faults=0, clock="real")
    assert time.monotonic() - began >= 0.05


def test_flask_s_client_works_inside() -> None:
    """A view fails at its visit, and its client gets the answer of the handler."""
    app = pytest.importorskip("flask").Flask(__name__)

    @app.get("/order")  # type: ignore[untyped-decorator]
    def order() -> str:
        try:
            failpoint("stock.take", raises=(OSError,)).hit()
        except OSError:
            return "none left"
        return "ordered"

    answers: list[str] = []

    def scenario(run: Run) -> None:
        with run.injecting():
            answers.append(app.test_client().get("/order").text)

    assert explore(scenario).runs == 2
    assert answers == ["ordered", "none left"]


# Orders


@pytest.mark.parametrize(("threads", "runs"), [(2, 2), (3, 6), (4, 24)])
def test_locked_threads_have_one_run_for_each_order_of_their_requests(threads: int, runs: int) -> None:
    """Nothing else makes a difference, if the sites declare what they touch."""
    exploration = explore(locked(threads), interleavings=True, reduction="declared")
    assert (exploration.runs, exploration.exhaustive) == (runs, True)
    assert str(exploration).startswith(
        f"{runs} runs, every order of {threads} threads and the scenario at visits and primitives: no failure"
    )


@pytest.mark.parametrize("threads", [2, 3])
def test_sleeps_and_time_outs_have_one_run(threads: int) -> None:
    """The jump of the clock is not a race, since no thread could have gone on before."""

    def scenario(run: Run) -> None:
        def work(number: int) -> None:
            time.sleep(1)
            assert not threading.Event().wait(number)
            assert time.monotonic() == began + 1 + number

        with run.injecting():
            began = time.monotonic()
            race(*(functools.partial(work, number) for number in range(1, threads + 1)))

    exploration = explore(scenario, interleavings=True, reduction="declared")
    assert (exploration.runs, exploration.exhaustive) == (1, True)


class LateThread(threading.Thread):
    """A thread that begins to run only when the one that starts it has seen that it is there."""

    def __getattribute__(self, name: str) -> Any:
        if name == "run" and threading.get_ident() == self.ident:
            while threading.get_ident() not in ignored_threads:
                time.sleep(0.001)
        return super().__getattribute__(name)


def test_a_thread_that_begins_late_is_steered() -> None:
    """The thread may run only long after `start` has seen it, on a busy machine or without the GIL."""

    def scenario(run: Run) -> None:
        with run.injecting():
            thread = LateThread(target=failpoint("late").hit)
            thread.start()
            thread.join()
        assert "run" not in vars(thread)

    exploration = explore(scenario, interleavings=True)
    assert (exploration.exhaustive, exploration.hits["late"]) == (True, exploration.runs)


def test_a_lost_update_is_found_in_the_second_run() -> None:
    """Two threads read, and then both write. The message calls them threads, and its replay fails, too."""
    failed = failure_of(lost_update, interleavings=True, reduction="declared")
    assert failed.exploration.runs == 2
    assert "switch away from a thread that could go on" in str(failed)
    assert failure_of(lost_update, replay=failed.replay).failure.timeline == failed.failure.timeline
    assert failure_of(lost_update, interleavings=True).failure.kind == "error"
    assert failure_of(lost_update, interleavings="awaits", reduction="declared").failure.kind == "error"
    assert failure_of(lost_update, interleavings=True, sample=50).failure.kind == "error"


def test_what_went_through_run_shared_is_seen() -> None:
    """The steps of threads meet in what they do to a shared object."""

    def scenario(run: Run) -> None:
        counted = run.shared({"a": 0, "b": 0})

        def work(name: str) -> None:
            seen = counted[name]
            failpoint("write").hit()
            counted[name] = seen + 1

        with run.injecting():
            race(*(functools.partial(work, name) for name in names))
        assert sum(counted.values()) == 2

    names = ("a", "b")
    assert explore(scenario, interleavings=True, reduction="declared").runs == 1
    names = ("a", "a")
    assert failure_of(scenario, interleavings=True, reduction="declared").failure.kind == "error"


def test_orders_and_faults_together() -> None:
    """A fault that ends a thread surfaces, and what it leaves undone is found."""

    def scenario(run: Run) -> None:
        done: list[str] = []

        def work(name: str) -> None:
            failpoint("work").hit()
            done.append(name)

        with run.injecting():
            race(functools.partial(work, "a"), functools.partial(work, "b"))
        assert done != ["b"] or not is_wrong

    is_wrong = False
    assert explore(scenario, interleavings=True, max_faults=1, reduction="declared").exhaustive
    is_wrong = True
    failed = failure_of(scenario, interleavings=True, max_faults=1, reduction="declared")
    assert failed.failure.faults == ("work=raise",)


def test_a_thread_that_fails() -> None:
    """An error that ends a thread, and is no injected one, is a failure that names the thread."""

    def broken() -> None:
        raise LookupError("no such account")

    def scenario(run: Run) -> None:
        with run.injecting():
            race(broken)

    failed = failure_of(scenario, interleavings=True)
    assert (failed.failure.kind, failed.failure.summary) == (
        "unhandled",
        "thread broken failed: LookupError: no such account",
    )


def test_a_deadlock_names_the_locks_their_holders_and_the_cycle() -> None:
    """Two threads take two locks in opposite orders."""

    def scenario(run: Run) -> None:
        left, right = threading.Lock(), threading.RLock()

        def one() -> None:
            with left, right:
                pass

        def other() -> None:
            with right, left:
                pass

        with run.injecting():
            race(one, other)

    failed = failure_of(scenario, interleavings=True)
    message = str(failed)
    assert failed.failure.kind == "deadlock"
    assert "one       waits for the lock right, held by other" in message
    assert "other     waits for the lock left, held by one" in message
    assert "the cycle: one → other → one" in message
    assert failure_of(scenario, replay=failed.replay).failure.kind == "deadlock"


@pytest.mark.parametrize("name", ["Lock", "RLock"])
def test_a_deadlock_while_the_lock_of_a_condition_is_held(name: str) -> None:
    """The threads that wait for the condition are ended, although they cannot get the lock again."""

    def scenario(run: Run) -> None:
        condition = threading.Condition(getattr(threading, name)())

        def wait() -> None:
            with condition:
                condition.wait()

        def hold() -> None:
            with condition:
                threading.Event().wait()

        with run.injecting():
            race(wait, hold)

    assert failure_of(scenario, interleavings=True, timeout=30).failure.kind == "deadlock"


def test_a_deadlock_of_a_thread_with_the_ident_of_an_earlier_one() -> None:
    """It is found at once. The operating system uses the ident of a thread again once that has ended."""

    def scenario(run: Run) -> None:
        with run.injecting():
            for target in (int, int, threading.Event().wait):
                race(target)

    began = time.monotonic()
    assert failure_of(scenario, interleavings=True, timeout=30).failure.kind == "deadlock"
    assert time.monotonic() - began < 30


def test_a_thread_that_waits_for_ever_after_the_scenario() -> None:
    """It is left behind, and the message has the line at which it waits."""

    def scenario(run: Run) -> None:
        event = threading.Event()
        with run.injecting():
            threading.Thread(target=event.wait, name="waiter").start()

    failed = failure_of(scenario, interleavings=True)
    assert failed.failure.kind == "leak"
    assert "waiter" in str(failed)


def test_daemons_and_idle_workers_are_left_behind() -> None:
    """Neither keeps a run from ending."""

    def scenario(run: Run) -> None:
        with run.injecting():
            threading.Thread(target=threading.Event().wait, daemon=True).start()
            future: Future[int] = ThreadPoolExecutor(1).submit(int, "3")
            assert future.result() == 3

    before = threading.active_count()
    assert explore(scenario, interleavings=True, reduction="declared").exhaustive
    assert threading.active_count() <= before + 1  # the watchdog


def test_pools_of_the_standard_library() -> None:
    """`ThreadPoolExecutor` and `ThreadPool` are steered, since they are made of steered primitives."""

    def executor(run: Run) -> None:
        with run.injecting(), ThreadPoolExecutor(2) as pool:
            assert list(pool.map(int, "12")) == [1, 2]

    def pool(run: Run) -> None:
        with run.injecting(), ThreadPool(2) as pool:
            assert pool.map(int, "12") == [1, 2]

    assert explore(executor, interleavings=True, reduction="declared").exhaustive
    assert explore(pool, interleavings=True, sample=3).runs == 3


def in_executor(act: Callable[[list[object], ThreadPoolExecutor], None], **options: Any) -> tuple[set[Any], Any]:
    """Explore what threads do with an executor, and return the lists that they have filled."""
    seen: set[Any] = set()

    def scenario(run: Run) -> None:
        done: list[object] = []
        with run.injecting(), ThreadPoolExecutor(options["workers"], initializer=options.get("initializer")) as pool:
            act(done, pool)
        seen.add(tuple(done))

    return seen, explore(scenario, interleavings=True, reduction=options["reduction"], max_runs=4_000)


@pytest.mark.parametrize(("reduction", "workers", "most"), [("declared", 2, 250), ("sound", 1, 250)])
def test_the_code_of_an_executor_does_not_meet_that_of_the_program(reduction: str, workers: int, most: int) -> None:
    """Two jobs with one visit each take a few hundred runs at most, on all versions of Python."""

    def act(done: list[object], pool: ThreadPoolExecutor) -> None:
        def work(number: int) -> None:
            failpoint("work", writes=("done",)).hit()
            done.append(number)

        for future in [pool.submit(work, 1), pool.submit(work, 2)]:
            future.result()

    seen, exploration = in_executor(act, workers=workers, reduction=reduction)
    assert seen == ({(1, 2), (2, 1)} if workers > 1 else {(1, 2)})
    assert exploration.exhaustive
    assert exploration.runs < most, exploration.runs


def _call_back(done: list[object], pool: ThreadPoolExecutor) -> None:
    future = pool.submit(done.append, "job")
    future.add_done_callback(lambda future: done.append("called"))
    done.append("main")
    future.result()
    done.append("end")


def _take_elements(done: list[object], pool: ThreadPoolExecutor) -> None:
    def elements() -> Iterator[str]:
        for name in "ab":
            done.append(name)
            yield name.upper()

    list(pool.map(done.append, elements()))


def _cancel(done: list[object], pool: ThreadPoolExecutor) -> None:
    future = pool.submit(done.append, "job")
    done.append(future.cancel())


@pytest.mark.parametrize(
    ("act", "ends"),
    [
        (_cancel, {"job False", "False job", "True"}),
        (
            _call_back,
            {
                *("job called main end", "job main called end", "main job called end"),
                *("job main end called", "main job end called"),
            },
        ),
        (_take_elements, {"a A b B", "a b A B"}),
    ],
)
def test_what_an_executor_calls_meets_the_program(act: Any, ends: set[str]) -> None:
    """A job, a callback and the elements that `map` takes: all their orders are found, and no other."""
    seen, exploration = in_executor(act, workers=1, reduction="sound")
    assert {" ".join(map(str, done)) for done in seen} == ends
    assert exploration.exhaustive
    assert exploration.runs < 60


def test_the_initializer_of_an_executor_meets_the_program() -> None:
    """It runs before or after the next step of the thread that has submitted the first job."""
    order: list[str] = []

    def act(done: list[object], pool: ThreadPoolExecutor) -> None:
        order.clear()
        future = pool.submit(int)
        order.append("main")
        future.result()
        done.extend(order)

    seen, _ = in_executor(act, workers=1, reduction="sound", initializer=lambda: order.append("initializer"))
    assert seen == {("main", "initializer"), ("initializer", "main")}


def test_a_race_in_an_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure has one switch, and equal runs are the same, although an executor keeps its threads in a set."""
    monkeypatch.setattr("failpoints._explore.shrinking._MAX_SECONDS", math.inf)

    def scenario(run: Run) -> None:
        counted, work = counter()
        with run.injecting(), ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(work) for _ in range(2)]:
                future.result()
        assert counted[0] == 2 or not is_wrong

    is_wrong = False
    assert explore(scenario, interleavings=True, max_runs=100).bounds == ("stopped at max_runs=100",)
    is_wrong = True
    failed = failure_of(scenario, interleavings=True, reduction="declared")
    assert "with no fault and 1 switch away" in str(failed)


def test_code_that_never_returns_is_interrupted() -> None:
    """A thread in an endless loop ends the run, which names its line."""

    def spin() -> None:
        while True:
            pass

    def scenario(run: Run) -> None:
        with run.injecting():
            race(spin)

    failed = failure_of(scenario, interleavings=True, timeout=0.2)
    assert failed.failure.kind == "hang"
    assert "while True:" in str(failed) or "pass" in str(failed)


def test_a_lock_that_is_not_steered_takes_the_verdict_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that waits for a lock of C code is passed by, and the verdict has this."""
    monkeypatch.setattr(control, "BLOCKED", 0.05)
    raw = _thread.allocate_lock()

    def work() -> None:
        with raw:
            failpoint("inside").hit()

    def scenario(run: Run) -> None:
        with run.injecting():
            race(work, work)

    exploration = explore(scenario, interleavings=True, max_runs=20)
    assert "a thread went on before another one had returned" in str(exploration)


LOCK = threading.Lock()


class Shop:
    """A class with a lock that all its objects share."""

    rlock = threading.RLock()
    unused = threading.Lock

    def __init__(self, lock: Any) -> None:
        self.locks = [lock]

    def sell(self) -> None:
        with self.locks[0]:
            failpoint("sell").hit()


shop = Shop(None)


def test_workers_from_before_the_run_take_the_verdict_away() -> None:
    """Neither a thread that an older executor starts in the run is steered, nor is an older thread."""
    jobs = queue.Queue[threading.Event | None]()

    def work() -> None:
        while (job := jobs.get()) is not None:
            job.set()

    def of_thread(run: Run) -> None:
        with run.injecting():
            done = threading.Event()
            jobs.put(done)
            done.wait()
            failpoint("done").hit()

    worker = threading.Thread(target=work)
    worker.start()
    with ThreadPoolExecutor(1) as pool:

        def of_executor(run: Run) -> None:
            with run.injecting():
                pool.submit(failpoint("job").hit).result()

        try:
            assert "threads were not put in order" in explore(of_thread, interleavings=True).bounds
            assert not explore(of_executor, interleavings=True).exhaustive
        finally:
            jobs.put(None)
            worker.join()


def test_locks_that_were_made_before_the_run_take_the_verdict_away() -> None:
    """The verdict names them: in globals, closures, defaults, classes, objects and lists. It names no lock of a run."""
    condition = threading.Condition()
    by_default = queue.SimpleQueue[int]()

    def of_function(run: Run) -> None:
        with run.injecting(), condition:
            race(lambda: LOCK)

    def of_object(run: Run, *, is_own: bool) -> None:
        used = Shop(threading.Lock()) if is_own else shop
        with run.injecting():
            race(used.sell, used.sell)

    def of_parameters(given: Any, run: Run, first: Any = by_default, *, second: Any = condition) -> None:
        with run.injecting():
            race(lambda: (given, first, second))

    shop.locks = [threading.Lock(), threading.Lock()]  # which have the same name
    one = explore(of_function, interleavings=True, reduction="declared")
    assert one.bounds == ("not steered, since made before the run: LOCK, condition",)
    two = explore(functools.partial(of_object, is_own=False), interleavings=True, reduction="declared")
    assert two.bounds == ("not steered, since made before the run: Shop.rlock, shop.locks",)
    three = explore(functools.partial(of_parameters, LOCK), interleavings=True, reduction="declared")
    assert three.bounds == ("not steered, since made before the run: first, an argument of the scenario, second",)
    assert explore(of_function).exhaustive  # no orders
    assert explore(locked(2), interleavings=True, reduction="declared").exhaustive


@pytest.mark.parametrize(("folder", "is_named"), [("src", True), ("site-packages", False), ("dist-packages", False)])
def test_a_lock_of_an_installed_package_is_not_named(folder: str, is_named: bool, tmp_path: Path) -> None:
    """A package is installed if it is in a folder of one of these names, such as that of the user or of the system."""
    file = tmp_path / folder / "library.py"
    variables: dict[str, Any] = {"__name__": "library", "Lock": threading.Lock}
    exec(compile("LOCK = Lock()\ndef call():\n    with LOCK: pass", file, "exec"), variables)

    def scenario(run: Run) -> None:
        with run.injecting():
            race(call, call)

    call = variables["call"]
    exploration = explore(scenario, interleavings=True, reduction="declared")
    assert exploration.bounds == (("not steered, since made before the run: LOCK",) if is_named else ())


def test_a_pool_that_was_made_before_the_run_takes_the_verdict_away() -> None:
    """The order of its jobs is not tried. The verdict names it, but no pool of a run."""
    of_run: list[object] = []
    with ThreadPoolExecutor(1) as pool, ThreadPool(1) as other:
        wait([pool.submit(int)])

        def scenario(run: Run) -> None:
            with run.injecting():
                wait([pool.submit(int)])
                other.apply(int)
                with ThreadPoolExecutor(1) as own, ThreadPool(1) as own_other:
                    of_run[:] = [own, own_other]

        exploration = explore(scenario, interleavings=True, max_runs=2)
    assert "not steered, since made before the run: other, pool" in exploration.bounds


def test_a_lock_that_another_module_has_imported_is_steered() -> None:
    """It makes no difference how a module has imported `Lock`."""
    module = type(threading)("imported_before")
    exec("from threading import Lock, RLock\nfrom queue import SimpleQueue", vars(module))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "imported_before", module)

        def scenario(run: Run) -> None:
            seen.append(type(module.Lock()).__module__)

        seen: list[str] = []
        explore(scenario)
    assert seen == ["failpoints._explore.steering.locks"]
    assert module.Lock is threading.Lock
    assert type(module.Lock()).__module__ == "_thread"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_on_an_event_loop_of_the_scenario_s_own(backend: str) -> None:
    """Their order is that of their loop, which the verdict has once two of them visit a site."""

    async def visit() -> None:
        await failpoint("visit")

    async def tasks(count: int) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(visit)

    def scenario(run: Run, count: int) -> None:
        with run.injecting():
            for _ in range(2):
                anyio.run(tasks, count, backend=backend)

    assert explore(functools.partial(scenario, count=1), interleavings=True).exhaustive
    assert explore(functools.partial(scenario, count=2)).exhaustive  # no orders
    exploration = explore(functools.partial(scenario, count=2), interleavings=True)
    assert exploration.bounds == ("tasks on an event loop of the scenario's own were not put in order",)


def test_the_lock_of_a_dataclass_is_steered() -> None:
    """Its default factory was taken before the run, in a closure."""

    @dataclass
    class Box:
        lock: Any = field(default_factory=threading.Lock)

    def scenario(run: Run) -> None:
        box = Box()

        def work() -> None:
            with box.lock:
                failpoint("inside").hit()

        with run.injecting():
            race(work, work)

    assert explore(scenario, interleavings=True, reduction="declared").runs == 2
    assert type(Box().lock).__module__ == "_thread"


def test_a_global_may_become_the_sleep_of_time_between_explorations(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found before the first one is not all. Nor is it while `time` is mocked."""
    module: Any = ModuleType("sleeper")
    module.sleep = None
    monkeypatch.setitem(sys.modules, "sleeper", module)

    def scenario(run: Run) -> None:
        if module.sleep is not None:
            module.sleep(3600)

    explore(scenario, interleavings=True)
    module.sleep = time.sleep
    explore(scenario, interleavings=True, timeout=5)
    module.sleep = None
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", module)
        explore(scenario, interleavings=True)
    module.also = module.sleep = time.sleep
    explore(scenario, interleavings=True, timeout=5)
    assert module.sleep is module.also is time.sleep


# What is refused


def test_the_block_of_the_wrong_kind() -> None:
    """A plain function takes `with`, an async function `async with`."""

    async def asynchronous(run: Run) -> None:
        with run.injecting():
            pass

    with pytest.raises(ExplorationFailed, match="an async function takes async with"):
        explore(asynchronous)

    def plain(run: Run) -> None:
        run.injecting().__aenter__().send(None)  # type: ignore[attr-defined]

    with pytest.raises(ExplorationFailed, match="a plain function takes with"):
        explore(plain)


def test_threads_are_not_cancelled() -> None:
    """Cancellations are refused, with the reason."""
    with pytest.raises(FailpointUsageError, match="it is a plain function, whose threads cannot be cancelled"):
        explore(locked(1), cancellations=True)


def test_nothing_is_left_behind() -> None:
    """Names, methods and the clock are what they were before."""
    names = (threading.Lock, threading.RLock, queue.SimpleQueue, time.sleep, time.monotonic, time.time)
    methods = (threading.Condition.wait, threading.Event.set, queue.Queue.put, threading.Thread.start)
    explore(locked(2), interleavings=True, reduction="declared")
    assert names == (threading.Lock, threading.RLock, queue.SimpleQueue, time.sleep, time.monotonic, time.time)
    assert methods == (threading.Condition.wait, threading.Event.set, queue.Queue.put, threading.Thread.start)


# Random programs


def test_no_end_of_a_few_programs_of_threads_is_missed() -> None:
    """Every final state and deadlock of random programs is reached, and no other: compared with a model."""
    totals = Totals()
    failing = [problem for seed in range(25) if (problem := check(random_program(seed), totals, most=150))]
    assert not failing, "\n\n".join(failing)
    assert totals.runs > 100


TIMED: dict[str, Program] = {
    "the event is set for a moment": ((("set", "E"), ("clear", "E"), ("set", "F")), (("wait in time", "E", 1),)),
    "the time of a notified thread is up while its lock is held": (
        (("await in time", "C", 1),),
        (("notify and sleep", "C", 2),),
    ),
    "a lock is asked for before and after": (
        (("with", "L", (("write", "x"),)), ("write", "x")),
        (("take in time", "L", 1, (("write", "x"),)),),
    ),
    "the lock is held until its time is up": (
        (("with", "L", (("sleep", 1),)), ("write", "x")),
        (("take in time", "L", 1, (("write", "x"),)), ("now", "")),
    ),
    "a request that failed is between two others": (
        (("with", "L", (("sleep", 1), ("take in time", "L", 1, ()))), ("write", "x")),
        (("take in time", "L", 1, ()), ("with", "L", (("sleep", 1),)), ("write", "x")),
    ),
    "a thread is asked whether it is alive": ((("now", ""), ("is_alive", "")), (("write", "x"),)),
}


@pytest.mark.parametrize("name", TIMED)
def test_no_end_of_a_wait_with_a_time_out_is_missed(name: str) -> None:
    """The ends are those of a model, whether the time is up or what was awaited came before."""
    assert not check(TIMED[name], Totals())


def test_no_deadlock_is_missed_behind_orders_that_are_cut_short() -> None:
    """A thread waits for a lock in a run that is cut short, and would have come first in another one."""
    first = ("write", "x"), ("write", "y")
    holder = (("with", "L", (("wait", "E"),)),)
    late = ("write", "y"), ("with", "L", (("write", "x"), ("wait", "E")))
    assert not check((first, holder, late), Totals(), most=200)


@pytest.mark.slow  # thousands of runs
def test_no_end_of_many_programs_of_threads_is_missed() -> None:
    """The same, with many programs."""
    totals = Totals()
    failing = [problem for seed in range(1000, 1008) if (problem := check(random_program(seed), totals, most=150))]
    assert not failing, "\n\n".join(failing)


def test_the_model_knows_a_race_and_a_deadlock() -> None:
    """It finds both ends of a race, and the deadlock of two locks in opposite orders."""
    assert len(ends_of_model(((("write", "x"),), (("read", "x"),)))) == 2
    inner = (("with", "M", ()),), (("with", "L", ()),)
    ends = ends_of_model(((("with", "L", inner[0]),), (("with", "M", inner[1]),)))
    assert {end[0] for end in ends} == {"", "deadlock"}
