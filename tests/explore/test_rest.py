"""When a run is at rest, and what is pending then: deadlocks, timers, threads, processes and sockets."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio

from failpoints import failpoint
from failpoints.explore import ExplorationFailed, Run, explore

WAIT = 0.15  # seconds, of a thread or a process: long beside a run, short beside the time limit of one


def lock_of(backend: str, library: str) -> Any:
    own: Any = asyncio.Lock if backend == "asyncio" else trio.Lock
    return anyio.Lock() if library == "anyio" else own()


# deadlocks


@pytest.mark.parametrize("library", ["anyio", "own"])
def test_two_locks_in_opposite_order(backend: Any, library: str) -> None:
    """A deadlock is found at once, and shown: which task waits for which lock, who holds it, and the cycle."""

    async def move(run: Run) -> None:
        savings, current = lock_of(backend, library), lock_of(backend, library)

        async def deposit() -> None:
            async with savings:
                await failpoint("deposit")
                async with current:
                    pass

        async def withdraw() -> None:
            async with current:
                await failpoint("withdraw")
                async with savings:
                    pass

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(deposit)
            group.start_soon(withdraw)

    start = time.monotonic()
    with pytest.raises(ExplorationFailed) as failed:
        explore(move, backend=backend, interleavings=True, timeout=20)
    assert time.monotonic() - start < 15
    assert failed.value.failure.kind == "deadlock"
    message = str(failed.value)
    assert "deposit   waits for the lock current, held by withdraw, at " in message
    assert "withdraw  waits for the lock savings, held by deposit, at " in message
    assert "the cycle: deposit → withdraw → deposit" in message


def test_three_locks_of_an_object(backend: Any) -> None:
    """The cycle may have more than two tasks, and a lock may be an attribute."""

    class Table:
        def __init__(self) -> None:
            self.forks = [anyio.Lock() for _ in range(3)]
            self.left, self.middle, self.right = self.forks

        async def ada(self) -> None:
            async with self.left:
                await failpoint("take")
                async with self.middle:
                    pass

        async def bob(self) -> None:
            async with self.middle:
                await failpoint("take")
                async with self.right:
                    pass

        async def eve(self) -> None:
            async with self.right:
                await failpoint("take")
                async with self.left:
                    pass

    async def dine(run: Run) -> None:
        table = Table()
        async with run.injecting(), anyio.create_task_group() as group:
            for eat in (table.ada, table.bob, table.eve):
                group.start_soon(eat)

    with pytest.raises(ExplorationFailed) as failed:
        explore(dine, backend=backend, interleavings=True)
    message = str(failed.value)
    assert "ada   waits for the lock self.middle, held by bob" in message
    assert "the cycle: ada → bob → eve → ada" in message


def test_a_lock_taken_twice(backend: Any) -> None:
    """A task that waits for the end of one that waits for its lock is shown so."""

    async def scenario(run: Run) -> None:
        lock = anyio.Lock()

        async def child() -> None:
            async with lock:
                pass

        async with run.injecting(), lock:
            await failpoint("holding")
            async with anyio.create_task_group() as group:
                group.start_soon(child)

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend)
    message = str(failed.value)
    assert "child     waits for the lock lock, held by scenario, at " in message
    assert "scenario  waits in TaskGroup.__aexit__, at " in message


def test_an_event_that_nobody_sets(backend: Any) -> None:
    """A task that waits for what never comes is a deadlock, too, with the line it stands in."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("ask")
            await anyio.Event().wait()

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend)
    assert failed.value.failure.kind == "deadlock"
    assert "waits in Event" in str(failed.value)
    assert ": await anyio.Event().wait()" in str(failed.value)


def test_a_deadlock_that_takes_a_fault(backend: Any) -> None:
    """A lock that an error path does not release is found."""

    async def scenario(run: Run) -> None:
        lock = anyio.Lock()

        async def careless() -> None:
            await lock.acquire()
            await failpoint("work", raises=(OSError,))
            lock.release()

        async with run.injecting():
            try:
                await careless()
            except OSError:
                pass

            async def next_one() -> None:
                async with lock:
                    pass

            async with anyio.create_task_group() as group:
                group.start_soon(next_one)

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend)
    assert failed.value.failure.kind == "deadlock"
    assert failed.value.failure.faults == ("work=raise(OSError)",)
    assert "next_one  waits for the lock lock, held by scenario" in str(failed.value)


def test_who_shields_a_deadlock(backend: Any) -> None:
    """A deadlock inside a shielded scope ends its run, too."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            with anyio.CancelScope(shield=True):
                await anyio.sleep_forever()

    start = time.monotonic()
    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, timeout=20)
    assert failed.value.failure.kind == "deadlock"
    assert time.monotonic() - start < 15


# time


def test_time_is_virtual(backend: Any) -> None:
    """Sleeps and timeouts take no time, and come in the order of their deadlines."""
    logs: list[list[Any]] = []

    async def scenario(run: Run) -> None:
        log: list[Any] = []
        start = anyio.current_time()

        async def sleeper(seconds: float) -> None:
            await anyio.sleep(seconds)
            log.append((seconds, round(anyio.current_time() - start)))

        async with run.injecting(), anyio.create_task_group() as group:
            for seconds in (7200, 60, 86400 * 3, 3600):
                group.start_soon(sleeper, seconds)
        with anyio.move_on_after(3600) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        logs.append(log)

    start = time.monotonic()
    explore(scenario, backend=backend)
    assert time.monotonic() - start < 5
    assert logs == [[(60, 60), (3600, 3600), (7200, 7200), (259200, 259200)]]


def test_a_back_off_costs_nothing(backend: Any) -> None:
    """A retry that waits longer each time is explored at once."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            for attempt in range(5):
                try:
                    await failpoint("ask", raises=(TimeoutError,))
                    break
                except TimeoutError:
                    await anyio.sleep(60 * 2**attempt)

    start = time.monotonic()
    assert explore(scenario, backend=backend, max_faults=4).runs == 5
    assert time.monotonic() - start < 5


def test_real_time(backend: Any) -> None:
    """With `clock="real"` a sleep lasts."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await anyio.sleep(WAIT)

    start = time.monotonic()
    explore(scenario, backend=backend, clock="real")
    assert time.monotonic() - start >= WAIT


def test_held_tasks_come_before_time(backend: Any) -> None:
    """While a task is held no time passes: what sleeps comes after it."""
    logs: set[tuple[str, ...]] = set()

    async def scenario(run: Run) -> None:
        log: list[str] = []

        async def sleeper() -> None:
            await anyio.sleep(0.001)
            await failpoint("woken")
            log.append("woken")

        async def visitor() -> None:
            for _ in range(3):
                await failpoint("visit")
                log.append("visit")

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(sleeper)
            group.start_soon(visitor)
        logs.add(tuple(log))

    explore(scenario, backend=backend, interleavings=True)
    assert logs == {("visit", "visit", "visit", "woken")}


# threads, processes and sockets: no deadlock as long as one may answer


def in_anyio_s_thread() -> Any:
    return anyio.to_thread.run_sync(time.sleep, WAIT)


async def in_asyncio_s_thread() -> None:
    await asyncio.to_thread(time.sleep, WAIT)


async def in_trio_s_thread() -> None:
    await trio.to_thread.run_sync(time.sleep, WAIT)


@pytest.fixture(scope="module")
def pool() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """A pool that is older than any run."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        yield pool


async def in_a_thread_of_its_own() -> None:
    event = anyio.Event()
    token = anyio.lowlevel.current_token()

    def answer() -> None:
        time.sleep(WAIT)
        anyio.from_thread.run_sync(event.set, token=token)

    threading.Thread(target=answer).start()
    await event.wait()


async def in_a_process() -> None:
    await anyio.run_process([sys.executable, "-c", f"import time; time.sleep({WAIT})"], stdin=None)


async def over_a_socket() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:

        async def answer(stream: Any) -> None:
            async with stream:
                await stream.send(await stream.receive())

        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, answer)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(b"hello")
                assert await stream.receive() == b"hello"
            group.cancel_scope.cancel()


async def over_a_pipe() -> None:
    ours, theirs = __import__("socket").socketpair()

    def answer() -> None:
        time.sleep(WAIT)
        theirs.send(b"!")

    thread = threading.Thread(target=answer)
    thread.start()
    with ours, theirs:
        await anyio.wait_readable(ours)
        thread.join()


EVERYWHERE = [in_anyio_s_thread, in_a_thread_of_its_own, in_a_process, over_a_socket, over_a_pipe]


@pytest.mark.parametrize("wait", EVERYWHERE)
@pytest.mark.parametrize("interleavings", [False, True])
def test_what_may_still_answer(backend: Any, wait: Any, interleavings: bool) -> None:
    """A run waits really for a thread, a process or a socket, with a timer beside it or none."""

    async def scenario(run: Run) -> None:
        async def visitor() -> None:
            await failpoint("visit")

        async with run.injecting():
            async with anyio.create_task_group() as group:
                group.start_soon(visitor)
                await wait()
                await failpoint("answered")
                group.start_soon(visitor)
            with anyio.fail_after(3600):
                await wait()

    exploration = explore(scenario, backend=backend, interleavings=interleavings, max_faults=0, timeout=20)
    assert exploration.exhaustive


@pytest.mark.parametrize("wait", [in_asyncio_s_thread])
def test_asyncio_s_own_threads(wait: Any) -> None:
    """So does one on asyncio, for `to_thread`."""
    test_what_may_still_answer("asyncio", wait, interleavings=True)


def test_trio_s_own_threads() -> None:
    """So does one on trio."""
    test_what_may_still_answer("trio", in_trio_s_thread, interleavings=True)


def test_a_pool_that_is_older_than_the_run(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """A future of a pool that was there before is waited for, too."""

    async def in_executor() -> None:
        await asyncio.get_running_loop().run_in_executor(pool, time.sleep, WAIT)

    async def wrapped() -> None:
        await asyncio.wrap_future(pool.submit(time.sleep, WAIT))

    for wait in (in_executor, wrapped):
        test_what_may_still_answer("asyncio", wait, interleavings=True)


def test_a_deadlock_after_threads(backend: Any) -> None:
    """Threads that have nothing to do any more do not hide a deadlock."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await anyio.to_thread.run_sync(int)
            if backend == "asyncio":
                await asyncio.to_thread(int)
            await anyio.sleep_forever()

    start = time.monotonic()
    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, timeout=20)
    assert failed.value.failure.kind == "deadlock"
    assert time.monotonic() - start < 15


def test_a_thread_that_calls_back(backend: Any) -> None:
    """A visit that a worker thread makes in the loop, through `from_thread`, does not hang."""

    async def visit() -> None:
        await failpoint("from_thread")

    def in_thread() -> None:
        anyio.from_thread.run(visit)

    async def scenario(run: Run) -> None:
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, in_thread)
            group.start_soon(visit)

    assert explore(scenario, backend=backend, interleavings=True, timeout=20).runs == 2


# what does not end, and what is left behind


def test_a_loop_that_spins(backend: Any) -> None:
    """A run that never rests and never ends is a failure after `timeout` real seconds, shown where it was."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            while True:
                await anyio.lowlevel.checkpoint()

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, timeout=0.3)
    assert failed.value.failure.kind == "hang"
    assert "the run did not end within its 0.3 s" in str(failed.value)


def test_a_loop_that_sleeps_for_ever(backend: Any) -> None:
    """So is one that only lets virtual time pass."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            while True:  # noqa: ASYNC110 - the hang that is to be found
                await anyio.sleep(1)

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, timeout=0.3)
    assert failed.value.failure.kind == "hang"
    assert ": await anyio.sleep(1)" in str(failed.value)


def test_sync_code_that_never_ends(backend: Any) -> None:
    """And one whose sync code does not return: it is interrupted, and shown where it stood."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            number = 0
            while True:
                number += 1

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, timeout=0.3)
    assert failed.value.failure.kind == "hang"
    assert "number += 1" in str(failed.value) or "while True" in str(failed.value)


def test_a_thread_that_may_still_answer_is_no_deadlock(backend: Any) -> None:
    """Where a thread lives on, a run that waits for nothing else is a hang, and the message says why."""
    release = threading.Event()

    async def scenario(run: Run) -> None:
        async with run.injecting():
            threading.Thread(target=release.wait, name="the other one").start()
            await anyio.sleep_forever()

    try:
        with pytest.raises(ExplorationFailed) as failed:
            explore(scenario, backend=backend, timeout=0.3)
    finally:
        release.set()
    assert failed.value.failure.kind == "hang"
    assert "not reported as a deadlock, since other threads might still answer: the other one" in str(failed.value)


def test_a_task_that_is_left_behind() -> None:
    """Tasks that outlive the scenario are a failure, and ended."""
    ended: list[str] = []

    async def scenario(run: Run) -> None:
        async def background() -> None:
            try:
                await anyio.sleep(3600)
            finally:
                ended.append("ended")

        async with run.injecting():
            run.task = asyncio.create_task(background())  # type: ignore[attr-defined]
            await failpoint("visit")

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario)
    assert failed.value.failure.kind == "leak"
    assert "tasks were still running when the scenario had ended" in str(failed.value)
    assert "background  waits in sleep, at " in str(failed.value)
    assert ended


def test_a_task_that_is_about_to_end_is_no_leak() -> None:
    """A task that ends by itself, without waiting for anything, is none."""

    async def scenario(run: Run) -> None:
        async def background() -> None:
            for _ in range(3):
                await asyncio.sleep(0)

        async with run.injecting():
            run.task = asyncio.create_task(background())  # type: ignore[attr-defined]

    assert explore(scenario).runs == 1


def test_an_error_that_nobody_sees() -> None:
    """A task that fails and is not awaited is a failure, in whatever order it is destroyed."""

    async def scenario(run: Run) -> None:
        async def background() -> None:
            await failpoint("background", raises=(OSError,))

        async with run.injecting():
            task = asyncio.create_task(background())
            await asyncio.wait([task])

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario)
    assert failed.value.failure.kind == "unhandled"
    assert "task background failed, and its error was never retrieved: OSError" in str(failed.value)
    assert isinstance(failed.value.__cause__, OSError)


def test_async_generators_are_closed() -> None:
    """An async generator that is left in the middle is closed at the end of its run."""
    closed: list[str] = []

    async def rows() -> Any:
        try:
            yield 1
            yield 2
        finally:
            await anyio.lowlevel.checkpoint()
            closed.append("closed")

    async def scenario(run: Run) -> None:
        async with run.injecting():
            generator = rows()
            await generator.__anext__()
            run.generator = generator  # type: ignore[attr-defined]
            await failpoint("visit")

    explore(scenario)
    assert closed == ["closed", "closed"]


def test_a_limit_that_is_none(backend: Any) -> None:
    """`timeout=math.inf` is no limit, for who looks around with a debugger."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await anyio.to_thread.run_sync(time.sleep, WAIT)
            await failpoint("visit")

    assert explore(scenario, backend=backend, timeout=math.inf).runs == 2


def test_an_exception_handler_of_the_scenario_s_own() -> None:
    """Errors that asyncio has nobody to tell go to the handler that the scenario sets, and fail it without one."""
    told: list[str] = []

    def fail() -> None:
        raise OSError("nobody hears")

    async def scenario(run: Run) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))
        async with run.injecting():
            loop.call_soon(fail)
            await anyio.sleep(1)

    async def careless(run: Run) -> None:
        async with run.injecting():
            asyncio.get_running_loop().call_soon(fail)
            await anyio.sleep(1)

    assert explore(scenario).runs == 1
    assert told == ["nobody hears"]
    with pytest.raises(ExplorationFailed, match="OSError: nobody hears") as failed:
        explore(careless)
    assert failed.value.failure.kind == "unhandled"


@pytest.mark.skipif(sys.platform == "win32", reason="no event loop handles signals on Windows")
def test_a_signal_handler() -> None:
    """A scenario may handle signals on its loop."""

    async def scenario(run: Run) -> None:
        heard = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heard.set)
        async with run.injecting():
            await failpoint("visit")
        signal.raise_signal(signal.SIGUSR1)
        await heard.wait()

    assert explore(scenario).runs == 2


@pytest.mark.parametrize("what", ["an event", "a queue"])
def test_a_worker_that_waits_is_not_idle(backend: Any, what: str) -> None:
    """A worker thread that waits in a function of the standard library is not taken for one with nothing to do."""
    event, things = threading.Event(), queue.Queue[int]()
    waits = event.wait if what == "an event" else things.get

    def answer() -> None:
        time.sleep(WAIT)
        event.set()
        things.put(1)

    async def scenario(run: Run) -> None:
        event.clear()
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, answer)
            await anyio.to_thread.run_sync(waits)

    assert explore(scenario, backend=backend, timeout=20).runs == 1


def test_a_thread_that_does_not_end(backend: Any) -> None:
    """A run that waits for a thread which goes on is ended all the same, as one that did not end."""
    release = threading.Event()

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await anyio.to_thread.run_sync(release.wait)

    try:
        with pytest.raises(ExplorationFailed) as failed:
            explore(scenario, backend=backend, timeout=0.3)
    finally:
        release.set()
    assert failed.value.failure.kind == "hang"
    assert "other threads might still answer" in str(failed.value)


# clocks that stay virtual, and threads that are waited for


@pytest.fixture
def idle_thread() -> Iterator[None]:
    """A thread of nobody's, older than any run, that waits."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="metrics")
    thread.start()
    yield
    end.set()
    thread.join(10)


class Connection:
    """A worker thread with a queue, as that of a database, which answers through the loop."""

    def __init__(self) -> None:
        self._asked: Any = queue.SimpleQueue()
        self._token = anyio.lowlevel.current_token()
        self._thread = threading.Thread(target=self._work, name="connection")

    def __enter__(self) -> Connection:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._asked.put(None)
        self._thread.join(10)

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            seconds, answer = asked
            time.sleep(seconds)
            anyio.from_thread.run_sync(answer, token=self._token)

    async def ask(self, backend: str, seconds: float) -> None:
        if backend == "asyncio":
            future = asyncio.get_running_loop().create_future()
            self._asked.put((seconds, lambda: future.set_result(None)))
            await future
        else:
            task = trio.lowlevel.current_task()
            self._asked.put((seconds, lambda: trio.lowlevel.reschedule(task)))
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)


async def with_back_off() -> None:
    for _ in range(3):
        try:
            await failpoint("ask", raises=(OSError,))
            break
        except OSError:
            await anyio.sleep(30)


def test_a_back_off_beside_an_idle_thread(backend: Any, idle_thread: None) -> None:
    """A thread that answers to nobody does not make a back-off real."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await with_back_off()

    assert explore(scenario, backend=backend, max_faults=2, timeout=3).runs == 3


def test_a_back_off_beside_a_worker_of_the_run(backend: Any) -> None:
    """Nor does a connection whose thread has nothing to do, with a task beside that waits for work."""

    async def scenario(run: Run) -> None:
        with Connection() as connection:
            await connection.ask(backend, 0)
            event = anyio.Event()
            async with run.injecting(), anyio.create_task_group() as group:
                group.start_soon(event.wait)
                await with_back_off()
                await connection.ask(backend, 0)
                event.set()

    assert explore(scenario, backend=backend, timeout=3).runs == 2


def test_a_back_off_beside_a_server(backend: Any) -> None:
    """Nor does a server that nobody connects to."""

    async def scenario(run: Run) -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, run.injecting(), anyio.create_task_group() as group:
            group.start_soon(listener.serve, print)
            await with_back_off()
            group.cancel_scope.cancel()

    assert explore(scenario, backend=backend, timeout=3).runs == 2


def test_a_time_limit_beside_a_worker(backend: Any) -> None:
    """A time limit does not come before the answer of a thread that works."""

    async def scenario(run: Run) -> None:
        with Connection() as connection:
            async with run.injecting():
                with anyio.fail_after(3600):
                    await connection.ask(backend, WAIT)

    assert explore(scenario, backend=backend, timeout=20).runs == 1


def test_a_clock_that_stays_real(backend: Any) -> None:
    """A run that does not end, since its clock is real, says what for."""

    async def scenario(run: Run) -> None:
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, release.wait)
            await anyio.sleep(30)

    release = threading.Event()
    try:
        with pytest.raises(ExplorationFailed) as failed:
            explore(scenario, backend=backend, timeout=0.3)
    finally:
        release.set()
    assert failed.value.failure.kind == "hang"
    assert "its clock was real while it waited for a worker thread" in str(failed.value)


def test_an_update_lost_behind_a_thread_of_the_program_s_own(backend: Any) -> None:
    """A task that waits for a thread of the program's own takes part in the orders."""

    async def scenario(run: Run) -> None:
        balance = 0

        async def deposit(seconds: float) -> None:
            nonlocal balance
            await connection.ask(backend, seconds)
            left = balance
            await failpoint("deposit")
            balance = left + 1

        with Connection() as connection:
            async with run.injecting(), anyio.create_task_group() as group:
                group.start_soon(deposit, 0)
                group.start_soon(deposit, 0.05)
            assert balance == 2

    with pytest.raises(ExplorationFailed, match="AssertionError"):
        explore(scenario, backend=backend, interleavings=True)


def test_an_update_lost_behind_a_pool(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """So does one that waits for a future of a pool."""

    async def scenario(run: Run) -> None:
        balance = 0

        async def deposit() -> None:
            nonlocal balance
            await asyncio.wrap_future(pool.submit(time.sleep, 0.03))
            left = balance
            await failpoint("deposit")
            balance = left + 1

        async with run.injecting():
            await asyncio.gather(deposit(), deposit())
        assert balance == 2

    with pytest.raises(ExplorationFailed, match="AssertionError"):
        explore(scenario, interleavings=True)


def test_a_thread_that_takes_too_long_is_no_exhaustive_search(backend: Any) -> None:
    """Orders are not called exhaustive where a task had to go on before a thread had answered."""

    async def scenario(run: Run) -> None:
        release = threading.Event()

        async def visit() -> None:
            await failpoint("visit")
            release.set()

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, release.wait)
            group.start_soon(visit)

    exploration = explore(scenario, backend=backend, interleavings=True, timeout=20)
    assert not exploration.exhaustive
    assert exploration.bounds == ("a task went on before a thread had answered",)


def test_a_task_that_polls(backend: Any) -> None:
    """A task that goes on and on, until one that is held has gone on, does not hang."""

    async def scenario(run: Run) -> None:
        done: list[str] = []

        async def poll() -> None:
            while not done:
                await anyio.lowlevel.checkpoint()

        async def visit(name: str) -> None:
            await failpoint(name)
            done.append(name)

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(poll)
            group.start_soon(visit, "a")
            group.start_soon(visit, "b")

    assert explore(scenario, backend=backend, interleavings=True).runs == 2


def test_a_long_run_is_no_polling(backend: Any) -> None:
    """However many steps a run takes, no task goes on before the others are at rest."""

    async def scenario(run: Run) -> None:
        async def visit(count: int) -> None:
            for _ in range(600):
                await anyio.lowlevel.checkpoint()
            for number in range(count):
                await failpoint("visit", context={"number": number})
                for _ in range(600):
                    await anyio.lowlevel.checkpoint()

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(visit, 2)
            group.start_soon(visit, 2)

    assert explore(scenario, backend=backend, interleavings=True).runs == 6


def test_a_task_that_spins_is_left_behind() -> None:
    """A task left behind that never rests is a failure as any other."""

    async def spin() -> None:
        while True:  # noqa: ASYNC110 - what is to be found
            await asyncio.sleep(0)

    async def scenario(run: Run) -> None:
        async with run.injecting():
            run.task = asyncio.create_task(spin())  # type: ignore[attr-defined]
            await failpoint("visit")

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, timeout=1)
    assert failed.value.failure.kind == "leak"


def test_a_task_that_takes_no_cancelling() -> None:
    """A task that swallows its cancelling, with an async generator left in the middle, ends in a failure, too."""

    async def rows() -> Any:
        yield 1
        await anyio.sleep_forever()

    async def scenario(run: Run) -> None:
        async def stubborn() -> None:
            while True:
                try:
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    pass

        generator = rows()
        await generator.__anext__()
        async with run.injecting():
            await asyncio.create_task(stubborn())

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, timeout=0.3)
    assert failed.value.failure.kind == "hang"


@pytest.mark.skipif(sys.platform == "win32", reason="no event loop handles signals on Windows")
def test_a_signal_that_is_still_to_come(backend: Any) -> None:
    """A run that waits for a signal is no deadlock."""

    async def scenario(run: Run) -> None:
        with anyio.open_signal_receiver(signal.SIGALRM) as signals:
            signal.setitimer(signal.ITIMER_REAL, WAIT)
            async with run.injecting():
                async for _ in signals:
                    break

    assert explore(scenario, backend=backend, timeout=20).runs == 1
