"""What the event loop of an exploration, and the control plane's, take for granted about asyncio."""

from __future__ import annotations

import asyncio
import asyncio.staggered
import concurrent.futures
import socket
import sys
import threading
import weakref
from collections import deque
from types import FrameType, SimpleNamespace
from typing import Any

import anyio
import pytest

pytestmark = pytest.mark.internals


class Watching(asyncio.SelectorEventLoop):
    """A loop that records what each of its rounds begins with."""

    _ready: Any
    _scheduled: Any
    _stopping: Any

    def __init__(self) -> None:
        self.rounds: list[tuple[list[Any], list[Any], bool]] = []
        super().__init__()

    def _run_once(self) -> None:
        assert isinstance(self._ready, deque)
        self.rounds.append((list(self._ready), list(self._scheduled), self._stopping))
        super()._run_once()  # type: ignore[misc]


def test_a_loop_runs_in_rounds() -> None:
    """`run_forever` calls `_run_once`, which takes handles from `_ready` and timers from `_scheduled`."""
    loop = Watching()
    ran: list[str] = []
    try:
        soon = loop.call_soon(ran.append, "soon")
        later = loop.call_later(0.001, loop.stop)
        cancelled = loop.call_soon(ran.append, "never")
        cancelled.cancel()
        loop.run_forever()
    finally:
        loop.close()
    handles, timers, stopping = loop.rounds[0]
    assert handles == [soon, cancelled]
    assert timers == [later]
    assert not stopping
    assert later._when == later.when()
    assert [handle._cancelled for handle in handles] == [False, True]
    assert ran == ["soon"]
    soon._run()
    assert ran == ["soon", "soon"]


def test_a_loop_keeps_its_state_under_these_names() -> None:
    """The attributes of a loop that an exploration reads exist, and mean what they seem to."""
    loop: Any = asyncio.SelectorEventLoop()
    assert loop._task_factory is None
    assert loop._default_executor is None
    assert not loop._closed
    assert loop._debug is loop.get_debug()
    assert len(loop._asyncgens) == 0
    assert loop._process_events([]) is None
    if sys.platform != "win32":
        assert not loop._signal_handlers
    loop._check_closed()
    loop.close()
    assert loop._closed
    with pytest.raises(RuntimeError):
        loop._check_closed()


def test_the_pipe_of_a_loop_can_be_made_later() -> None:
    """A loop makes its pipe in `_make_self_pipe`, writes to it from threads, and closes it at the end."""
    called: list[str] = []

    class Loop(asyncio.SelectorEventLoop):
        _add_reader: Any
        _csock: Any
        _internal_fds: int
        _read_from_self: Any
        _ssock: Any

        def _make_self_pipe(self) -> None:
            called.append("make")
            super()._make_self_pipe()  # type: ignore[misc]

        def _write_to_self(self) -> None:
            called.append("write")
            super()._write_to_self()  # type: ignore[misc]

        def _close_self_pipe(self) -> None:
            called.append("close")
            super()._close_self_pipe()  # type: ignore[misc]

    loop = Loop()
    assert called == ["make"]
    assert loop._internal_fds == 1
    assert isinstance(loop._ssock, socket.socket)
    assert isinstance(loop._csock, socket.socket)
    readers = [key.data[0] for key in loop._selector.get_map().values()]  # type: ignore[attr-defined]
    assert [(reader._callback, reader._callback.__name__) for reader in readers] == [
        (loop._read_from_self, "_read_from_self")
    ]
    assert callable(loop._add_reader)
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()
    assert called == ["make", "write"]
    loop.close()
    assert called == ["make", "write", "close"]


def test_a_loop_names_what_it_listens_with() -> None:
    """A server and `sock_accept` wait for a connection in callbacks with these names."""

    async def main() -> list[str]:
        loop: Any = asyncio.get_running_loop()
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            accepting = asyncio.create_task(loop.sock_accept(listener))
            await asyncio.sleep(0)
            names = [key.data[0]._callback.__name__ for key in loop._selector.get_map().values()]
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
        server.close()
        return sorted(names)

    loop = asyncio.SelectorEventLoop()
    try:
        assert loop.run_until_complete(main()) == ["_accept_connection", "_read_from_self", "_sock_accept"]
    finally:
        loop.close()


def test_a_task_knows_its_future_and_its_error() -> None:
    """A task keeps what it awaits in `_fut_waiter`, and whether its error was seen in `_log_traceback`."""

    async def fail() -> None:
        raise ValueError

    async def main() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def wait() -> None:
            await future

        waiting: Any = asyncio.create_task(wait())
        failing: Any = asyncio.create_task(fail())
        assert not failing._log_traceback
        await asyncio.sleep(0)
        assert waiting._fut_waiter is future
        assert failing._log_traceback
        failing._log_traceback = False
        future.set_result(None)
        await waiting

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="current_task is written in C since Python 3.12")
def test_the_running_task_is_in_a_dict() -> None:
    """`_current_tasks` has the running task of each loop."""
    module: Any = asyncio.tasks

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert module._current_tasks.get(loop) is asyncio.current_task()
        assert module._current_tasks.get(object()) is None

    asyncio.run(main())


def test_a_waiting_task_is_woken_by_a_callback() -> None:
    """The callback that wakes a task is a method of it. Without the future, it can be called with a cancelled one."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        future: Any = loop.create_future()

        async def wait() -> None:
            await future

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        ((callback, context),) = future._callbacks
        assert callback.__self__ is waiting
        assert future.remove_done_callback(callback) == 1
        cancelled = loop.create_future()
        cancelled.cancel()
        loop.call_soon(callback, cancelled, context=context)
        assert await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()

    asyncio.run(main())


def test_a_gathering_future_knows_its_children() -> None:
    """`gather` keeps its tasks in `_children`."""

    async def main() -> None:
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(2)]
        gathering: Any = asyncio.gather(*tasks)
        assert list(gathering._children) == tasks
        await gathering

    asyncio.run(main())


def test_the_future_of_a_thread_is_chained() -> None:
    """The callbacks of a future that wraps one of `concurrent.futures` come from `_chain_future`."""

    async def main() -> None:
        theirs: concurrent.futures.Future[None] = concurrent.futures.Future()
        future: Any = asyncio.wrap_future(theirs)
        names = [callback.__qualname__ for callback, _ in future._callbacks]
        assert any(name.startswith("_chain_future.") for name in names), names
        theirs.set_result(None)
        await future

    asyncio.run(main())


async def innermost_frame(coroutine: Any) -> FrameType:
    """Run the coroutine in a task until it waits, and return its innermost frame."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    awaited: Any = coroutine
    while getattr(awaited, "cr_await", None) is not None and hasattr(awaited.cr_await, "cr_frame"):
        awaited = awaited.cr_await
    frame: FrameType = awaited.cr_frame
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return frame


def test_waiting_tasks_are_recognized_by_their_frames() -> None:
    """The waits of asyncio stand in functions of these modules, with these names and variables."""

    async def main() -> None:
        lock = asyncio.Lock()
        await lock.acquire()
        future = asyncio.get_running_loop().create_future()
        frames = {
            "sleep": await innermost_frame(asyncio.sleep(60)),
            "acquire": await innermost_frame(lock.acquire()),
            "event": await innermost_frame(asyncio.Event().wait()),
            "get": await innermost_frame(asyncio.Queue[None]().get()),
            "wait": await innermost_frame(asyncio.wait([future])),
        }
        places = {name: (frame.f_globals["__name__"], frame.f_code.co_name) for name, frame in frames.items()}
        assert places == {
            "sleep": ("asyncio.tasks", "sleep"),
            "acquire": ("asyncio.locks", "acquire"),
            "event": ("asyncio.locks", "wait"),
            "get": ("asyncio.queues", "get"),
            "wait": ("asyncio.tasks", "_wait"),
        }
        assert "fs" in frames["wait"].f_code.co_varnames
        assert asyncio.TaskGroup.__aexit__.__qualname__ == "TaskGroup.__aexit__"
        assert "fut" in asyncio.wait_for.__code__.co_varnames

    asyncio.run(main())


def test_a_future_is_known_by_an_attribute() -> None:
    """`ensure_future` passes on what has an `_asyncio_future_blocking` other than `None`, and awaits the rest."""

    class Like:
        _asyncio_future_blocking: bool | None = False

        def __await__(self) -> Any:
            return asyncio.sleep(0, 5).__await__()

    async def main() -> None:
        like = Like()
        assert asyncio.isfuture(like)
        assert asyncio.ensure_future(like) is like
        Like._asyncio_future_blocking = None
        assert not asyncio.isfuture(like)
        assert await asyncio.gather(like) == [5]
        for kind in asyncio.Future, asyncio.Task:
            assert hasattr(kind, "_asyncio_future_blocking")

    asyncio.run(main())


def test_sets_are_made_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """These sets are made with `set()` and `weakref.WeakSet()`, which the globals of asyncio's modules can replace."""
    made: list[Any] = []

    class Recorded(set[Any]):
        def __init__(self, elements: Any = ()) -> None:
            super().__init__(elements)
            made.append(self)

    class RecordedWeakly(weakref.WeakSet[Any]):
        def __init__(self, elements: Any = ()) -> None:
            super().__init__(elements)
            self.data = Recorded(self.data)

    for module in (asyncio.tasks, asyncio.taskgroups, asyncio.staggered):
        monkeypatch.setattr(module, "set", Recorded, raising=False)
    monkeypatch.setattr(asyncio.base_events, "weakref", SimpleNamespace(WeakSet=RecordedWeakly))

    async def wait() -> None:
        assert type(asyncio.TaskGroup()._tasks) is Recorded  # type: ignore[attr-defined]
        coroutines = [asyncio.sleep(0) for _ in range(20)]
        del made[:]
        for one in asyncio.as_completed(coroutines):
            await one
        assert set(coroutines) in made
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(3)]
        done, pending = await asyncio.wait(tasks)
        assert set(tasks) in made
        assert (type(done), type(pending)) == (Recorded, Recorded)
        loop: Any = asyncio.get_running_loop()
        assert type(loop._asyncgens) is RecordedWeakly
        server: Any = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        server.close()
        if sys.version_info >= (3, 13):
            assert type(server._clients) is RecordedWeakly
            assert type(server._clients.copy()) is RecordedWeakly

    asyncio.run(wait())
    assert asyncio.all_tasks is asyncio.tasks.all_tasks
    if sys.version_info >= (3, 13, 1):
        made.clear()
        asyncio.run(asyncio.staggered.staggered_race([lambda: asyncio.sleep(0)], None))
        assert made


@pytest.mark.skipif(sys.platform == "win32", reason="processes are waited for in another way on Windows")
def test_the_end_of_a_process_is_called_back() -> None:
    """A thread in which asyncio waits for a process has a name of its own, and calls back a method of the loop."""
    called: list[tuple[str, str]] = []

    class Loop(asyncio.SelectorEventLoop):
        _child_watcher_callback: Any

        def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
            if threading.current_thread() is not threading.main_thread():
                called.append((callback.__name__, threading.current_thread().name))
            return super().call_soon_threadsafe(callback, *args, context=context)

    async def main() -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
        await process.wait()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())
    assert all(name == "_child_watcher_callback" and "waitpid-" in thread for name, thread in called)


def test_a_stream_knows_its_transport() -> None:
    """A stream of asyncio, or of anyio on asyncio, has its transport, which has its socket."""

    async def main() -> None:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                found: list[Any] = [reader, stream]
                for each in found:
                    assert each._transport.get_extra_info("socket").getpeername()[1] == port
            writer.close()
            await writer.wait_closed()

    asyncio.run(main())


@pytest.mark.parametrize("task_type", [asyncio.Task, asyncio.tasks._PyTask])
def test_the_next_step_of_a_task_is_a_callback_that_knows_it(task_type: Any) -> None:
    """A task schedules its steps with `call_soon` of its loop: the first one, after a bare yield, after a future."""
    scheduled: list[tuple[str, object]] = []

    class Loop(asyncio.SelectorEventLoop):
        def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
            name = getattr(callback, "__name__", None) or type(callback).__name__
            if name in ("TaskStepMethWrapper", "task_wakeup", "__step", "__wakeup"):
                scheduled.append((name, callback.__self__))
            handle = super().call_soon(callback, *args, context=context)
            assert handle._callback is callback  # type: ignore[attr-defined]
            assert handle._loop is self  # type: ignore[attr-defined]
            return handle

    async def wait() -> None:
        await asyncio.sleep(0)
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, None)
        await future

    loop = Loop()
    try:
        task = task_type(wait(), loop=loop)
        loop.run_until_complete(task)
    finally:
        loop.close()
    step = "TaskStepMethWrapper" if task_type is asyncio.Task else "__step"
    wakeup = "task_wakeup" if task_type is asyncio.Task else "__wakeup"
    assert scheduled == [(step, task), (step, task), (wakeup, task)]


def test_a_lock_sets_an_attribute_when_a_task_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`_locked` is set to true in the task that gets a lock, at once or after a wait, and to false by a release."""
    sets: list[tuple[str, bool]] = []

    class Flag:
        def __get__(self, lock: Any, kind: type) -> Any:
            return lock.__dict__["_locked"]

        def __set__(self, lock: Any, is_locked: bool) -> None:
            lock.__dict__["_locked"] = is_locked
            task = asyncio.current_task()
            sets.append(("" if task is None else task.get_name(), is_locked))

    monkeypatch.setattr(asyncio.Lock, "_locked", Flag(), raising=False)

    async def main() -> None:
        lock = asyncio.Lock()

        async def work() -> None:
            async with lock:
                await asyncio.sleep(0)

        await asyncio.gather(*(asyncio.create_task(work(), name=name) for name in "ab"))

    asyncio.run(main())
    assert sets[1:] == [("a", True), ("a", False), ("b", True), ("b", False)]
