"""What an exploration on trio takes for granted about trio."""

from __future__ import annotations

import math
import signal
import socket
import sys
import threading
from collections import deque
from functools import partial
from types import FrameType
from typing import Any

import pytest
import trio
import trio._core._entry_queue as entry_queue
import trio._core._run as trio_run
import trio._threads as trio_threads
import trio.testing
from trio.lowlevel import current_task

pytestmark = pytest.mark.internals


def places(task: Any) -> list[tuple[str, str]]:
    """Return the module and the qualified name of each function in which a task waits, the outermost first."""
    found = []
    awaited = task.coro
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        found.append((frame.f_globals["__name__"], frame.f_code.co_qualname))
        awaited = awaited.cr_await
    return found


def test_a_batch_is_sorted_and_shuffled(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `_ALLOW_DETERMINISTIC_SCHEDULING` a batch is sorted by age, shuffled by `_r`, and run from its end.

    It is shuffled in each round, so that every step of a task comes after the call of `shuffle` with that task.
    """
    order: list[int] = []
    batches: list[int] = []

    class Backwards:
        def __init__(self, random: Any) -> None:
            self._random = random

        def shuffle(self, batch: list[Any]) -> None:
            batch.reverse()
            batches.append(len(order))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._random, name)

    assert trio_run._ALLOW_DETERMINISTIC_SCHEDULING in (True, False)
    monkeypatch.setattr(trio_run, "_r", Backwards(trio_run._r))
    monkeypatch.setattr(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)

    async def note(number: int) -> None:
        order.append(number)
        if number == 0:
            await trio.lowlevel.checkpoint()
            order.append(20)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(note, number)

    trio.run(main)
    assert order == list(range(21))
    assert {0, 20, 21} <= set(batches)


def test_the_runner_has_the_calls_of_threads() -> None:
    """`entry_queue` has what `run_sync_soon` was given until the run has called it."""

    async def main() -> None:
        entries: Any = trio_run.GLOBAL_RUN_CONTEXT.runner.entry_queue
        token = trio.lowlevel.current_trio_token()
        assert not entries.queue
        assert not entries.idempotent_queue
        token.run_sync_soon(int)
        token.run_sync_soon(int, idempotent=True)
        assert entries.queue
        assert entries.idempotent_queue
        while entries.queue or entries.idempotent_queue:
            await trio.lowlevel.checkpoint()

    trio.run(main)


def test_the_runner_knows_its_tasks() -> None:
    """`GLOBAL_RUN_CONTEXT.runner` has the tasks that wait until all are blocked."""

    async def main() -> None:
        runner: Any = trio_run.GLOBAL_RUN_CONTEXT.runner
        assert current_task() in runner.tasks
        assert not runner.waiting_for_idle

        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def look() -> None:
                await trio.lowlevel.checkpoint()
                assert runner.waiting_for_idle

            await trio.testing.wait_all_tasks_blocked()

    trio.run(main)


def test_the_scopes_around_a_task_can_be_found() -> None:
    """A task's `_cancel_status` has its `_scope`, and the `_parent` that it is inside."""

    async def main() -> None:
        task: Any = current_task()
        with trio.CancelScope() as outer, trio.CancelScope(shield=True) as inner:  # noqa: ASYNC100
            status = task._cancel_status
            assert status._scope is inner
            assert status._parent._scope is outer
            while status is not None:
                assert hasattr(status._scope, "shield")
                status = status._parent

    trio.run(main)


def test_the_clock_is_asked_when_nothing_can_run() -> None:
    """The clock is asked for the time to sleep only if no task can run. An instrument's hooks are found by `dir`."""
    asked: list[float] = []
    seen: list[str] = []

    class World(trio.abc.Clock, trio.abc.Instrument):
        now = 0.0

        def __dir__(self) -> list[str]:
            return ["task_exited"]

        def start_clock(self) -> None:
            pass

        def current_time(self) -> float:
            return self.now

        def deadline_to_sleep_time(self, deadline: float) -> float:
            asked.append(deadline)
            if deadline != math.inf:
                self.now = deadline
            return 0

        def task_exited(self, task: Any) -> None:
            seen.append("end")

        def before_task_step(self, task: Any) -> None:
            seen.append("step")

    async def main() -> None:
        asked.clear()
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        assert asked == []
        await trio.sleep(3600)
        assert 3600 in asked
        statistics: Any = trio.lowlevel.current_statistics().io_statistics
        kinds = ("tasks_waiting_read", "tasks_waiting_write", "tasks_waiting", "monitors")
        if sys.platform != "win32":
            assert sum(getattr(statistics, kind, 0) for kind in kinds) == 1  # trio itself, to be woken by threads

    world = World()
    trio.run(main, clock=world, instruments=[world])
    assert {"end"} == set(seen)


def test_waiting_tasks_are_recognized_by_their_frames() -> None:
    """The waits of trio stand in functions of these modules, with these names."""
    release = threading.Event()

    async def main() -> None:
        lock, event = trio.Lock(), trio.Event()
        _sender, receiver = trio.open_memory_channel[None](0)

        async def wait_for_a_nursery() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)

        async def wait_for_a_signal() -> None:
            with trio.open_signal_receiver(signal.SIGINT) as signals:
                async for _ in signals:
                    pass

        await lock.acquire()
        waits = {
            "lock": lock.acquire,
            "event": event.wait,
            "channel": receiver.receive,
            "nursery": wait_for_a_nursery,
            "sleep": partial(trio.sleep, 60),
            "signal": wait_for_a_signal,
            "thread": partial(trio.to_thread.run_sync, release.wait),
        }
        found: dict[str, list[tuple[str, str]]] = {}
        async with trio.open_nursery() as nursery:
            for name, wait in waits.items():
                nursery.start_soon(wait, name=name)
            await trio.testing.wait_all_tasks_blocked()
            for task in nursery.child_tasks:
                found[task.name] = places(task)
            release.set()
            nursery.cancel_scope.cancel()
        assert ("trio._sync", "_LockImpl.acquire") in found["lock"]
        assert ("trio._sync", "Event.wait") in found["event"]
        assert ("trio._channel", "MemoryReceiveChannel.receive") in found["channel"]
        assert any(name.endswith("NurseryManager.__aexit__") for _, name in found["nursery"])
        assert ("trio._timeouts", "sleep_until") in found["sleep"]
        assert "trio._signals" in {module for module, _ in found["signal"]}
        assert ("trio._threads", "to_thread_run_sync") in found["thread"]

    trio.run(main)


def test_an_idle_worker_thread_is_recognized_by_its_frame() -> None:
    """A thread of trio's cache that has nothing to do stands in `_work`."""

    def place() -> list[tuple[str, str]]:
        found = []
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            found.append((frame.f_globals["__name__"], frame.f_code.co_name))
            frame = frame.f_back
        return found

    async def main() -> list[tuple[str, str]]:
        return await trio.to_thread.run_sync(place)

    assert ("trio._core._thread_cache", "_work") in trio.run(main)


def test_a_lock_knows_its_owner() -> None:
    """A lock of trio is of the module `trio`, has an `_owner`, and its statistics have the task itself."""

    async def main() -> None:
        lock = trio.Lock()
        await lock.acquire()
        assert type(lock).__module__ == "trio"
        assert lock._owner is current_task()  # type: ignore[attr-defined]
        assert lock.statistics().owner is current_task()

    trio.run(main)


def test_the_answer_of_a_thread_knows_its_task() -> None:
    """A worker thread answers with a function that refers to the task, which waits inside `to_thread_run_sync`."""
    modules: list[str] = []

    class Entries(deque[Any]):
        def append(self, entry: Any) -> None:
            super().append((self.call, entry))

        def call(self, function: Any, args: Any) -> None:
            if "task_register" in function.__code__.co_freevars:
                cell = function.__closure__[function.__code__.co_freevars.index("task_register")]
                found = [module for module, _ in places(cell.cell_contents[0])]
                while found.pop() != "trio._threads":
                    pass
                modules.append(found[-1])
            function(*args)

    async def main() -> None:
        entries: Any = trio_run.GLOBAL_RUN_CONTEXT.runner.entry_queue
        entries.queue = Entries(entries.queue)
        await trio.to_thread.run_sync(int)
        await trio.socket.getaddrinfo("localhost", 80)
        await trio.run_process([sys.executable, "-c", ""])

    trio.run(main)
    assert modules == [__name__, "trio._socket", "trio._subprocess"]


def test_a_wait_for_io_knows_its_file_descriptor() -> None:
    """A task that waits for I/O is inside one of trio's modules for I/O, in a function that has the file descriptor."""
    ours, theirs = socket.socketpair()
    found: list[Any] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.wait_readable, ours)
            await trio.testing.wait_all_tasks_blocked()
            (waiting,) = nursery.child_tasks
            awaited: Any = waiting.coro
            while (frame := getattr(awaited, "cr_frame", None)) is not None:
                if frame.f_globals["__name__"].startswith("trio._core._io_"):
                    found.append(frame.f_locals.get("fd", frame.f_locals.get("sock")))
                awaited = awaited.cr_await
            nursery.cancel_scope.cancel()

    with ours, theirs:
        trio.run(main)
        assert found[-1] in (ours, ours.fileno())


@pytest.mark.skipif(sys.platform != "linux", reason="trio keeps file descriptors in another way without epoll")
def test_the_runner_has_a_queue_and_file_descriptors() -> None:
    """Tasks that can run are in `runq`, also those that are put there. One file descriptor is trio's own."""
    counts: list[int] = []
    ran: list[str] = []

    async def main() -> None:
        runner: Any = trio_run.GLOBAL_RUN_CONTEXT.runner
        counts.append(len(runner.io_manager._registered))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note)
            task = runner.runq.pop()
            await trio.lowlevel.checkpoint()
            assert ran == []
            runner.runq.append(task)
            one, other = socket.socketpair()
            with one, other:
                nursery.start_soon(trio.lowlevel.wait_readable, one)
                await trio.testing.wait_all_tasks_blocked()
                counts.append(len(runner.io_manager._registered))
                other.send(b".")
                await trio.testing.wait_all_tasks_blocked()

    async def note() -> None:
        ran.append("note")

    trio.run(main)
    assert ran == ["note"]
    assert counts in ([0, 2], [1, 2])


@pytest.mark.skipif(sys.platform == "win32", reason="trio has another registry on Windows")
def test_the_waits_for_io_are_registered() -> None:
    """`_registered` has trio's own wait, and each wait of a task until it ends."""
    ours, theirs = socket.socketpair()

    async def main() -> None:
        registered: Any = trio_run.GLOBAL_RUN_CONTEXT.runner.io_manager._registered
        await trio.testing.wait_all_tasks_blocked()
        assert len(registered) == 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.wait_readable, ours)
            await trio.testing.wait_all_tasks_blocked()
            assert len(registered) == 2
            theirs.send(b"!")
        assert len(registered) == 1

    with ours, theirs:
        trio.run(main)


def test_calls_in_threads_are_made_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """`to_thread` looks `start_thread_soon` up in its module, and `from_thread` so sends a message with a queue."""
    module: Any = trio_threads
    started: list[Any] = []
    sent: list[Any] = []
    start, send = module.start_thread_soon, module._send_message_to_trio

    def start_thread_soon(fn: Any, deliver: Any, name: str | None = None) -> None:
        started.append(fn)
        start(fn, deliver, name)

    def send_message_to_trio(token: Any, message: Any) -> Any:
        sent.append(type(message.queue).__name__)
        return send(token, message)

    monkeypatch.setattr(module, "start_thread_soon", start_thread_soon)
    monkeypatch.setattr(module, "_send_message_to_trio", send_message_to_trio)

    async def main() -> None:
        await trio.to_thread.run_sync(trio.from_thread.run_sync, int)
        assert type(trio.lowlevel.current_trio_token()) is entry_queue.TrioToken

    trio.run(main)
    assert "sync_fn" in started[0].__code__.co_freevars
    assert sent == ["SimpleQueue"]
