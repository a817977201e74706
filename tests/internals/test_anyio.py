"""What an exploration takes for granted about anyio."""

from __future__ import annotations

import asyncio
import queue
import sys
from types import FrameType
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from anyio._backends import _asyncio
from anyio._backends._asyncio import CancelScope

pytestmark = pytest.mark.internals


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio only: the tests are about anyio's own code for it."""
    return "asyncio"


@pytest.mark.anyio
async def test_scopes_and_groups_make_their_sets_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module makes the sets of scopes and of groups with `set()`, which its own globals can replace."""

    class Recorded(set[Any]):
        pass

    monkeypatch.setattr(_asyncio, "set", Recorded, raising=False)
    scope = CancelScope()
    assert type(scope._child_scopes) is Recorded
    assert type(scope._tasks) is Recorded
    async with anyio.create_task_group() as tasks:
        assert type(tasks._tasks) is Recorded  # type: ignore[attr-defined]
        with CancelScope() as inner:
            assert list(tasks.cancel_scope._child_scopes) == [inner]


def places(coroutine: Any) -> list[tuple[str, str]]:
    """Return the module and the name of each function in which a task waits, the outermost first."""
    found = []
    awaited = coroutine
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        found.append((frame.f_globals["__name__"], frame.f_code.co_name))
        awaited = awaited.cr_await
    return found


@pytest.mark.anyio
async def test_waiting_tasks_are_recognized_by_their_frames() -> None:
    """The waits of anyio stand in functions of these modules, with these names."""
    release = anyio.Event()
    lock, semaphore = anyio.Lock(), anyio.Semaphore(0)
    sender, receiver = anyio.create_memory_object_stream[None]()
    await lock.acquire()

    async def wait_for_a_group() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)

    waits = {
        "sleep": lambda: anyio.sleep(60),
        "lock": lock.acquire,
        "semaphore": semaphore.acquire,
        "event": release.wait,
        "stream": receiver.receive,
        "group": wait_for_a_group,
    }
    async with anyio.create_task_group() as tasks:
        for name, wait in waits.items():
            tasks.start_soon(wait, name=name)
        await anyio.wait_all_tasks_blocked()
        found = {task.get_name(): places(task.get_coro()) for task in asyncio.all_tasks()}
        tasks.cancel_scope.cancel()
    sender.close()
    receiver.close()
    backend = "anyio._backends._asyncio"
    assert "sleep" in {name for _, name in found["sleep"]}
    assert "acquire" in {name for _, name in found["lock"]}
    assert "acquire" in {name for _, name in found["semaphore"]}
    assert (backend, "wait") in found["event"]
    assert "anyio.streams.memory" in {module for module, _ in found["stream"]}
    assert (backend, "__aexit__") in found["group"]
    assert release.wait.__qualname__ == "Event.wait"
    assert type(tasks).__aexit__.__qualname__ == "TaskGroup.__aexit__"


@pytest.mark.anyio
async def test_threads_are_recognized_by_their_frames() -> None:
    """A task that waits for a thread stands in `run_sync_in_worker_thread`; in `run` an idle thread has no `func`."""
    worker: list[Any] = []

    def look() -> list[tuple[str, str]]:
        found = []
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            found.append((frame.f_globals["__name__"], frame.f_code.co_name))
            if frame.f_globals["__name__"] == "anyio._backends._asyncio" and frame.f_code.co_name == "run":
                worker.append(frame)
                assert "func" in frame.f_locals
            frame = frame.f_back
        return found

    async def use_a_thread() -> list[tuple[str, str]]:
        return await anyio.to_thread.run_sync(look)

    task = asyncio.create_task(use_a_thread())
    while not worker:
        seen = places(task.get_coro())
        await asyncio.sleep(0)
    assert ("anyio._backends._asyncio", "run_sync_in_worker_thread") in seen
    assert ("anyio._backends._asyncio", "run") in await task
    while "func" in worker[0].f_locals:  # noqa: ASYNC110 - the thread does not signal that it has become idle
        await asyncio.sleep(0)


@pytest.mark.anyio
async def test_a_lock_knows_its_owner_by_the_id_of_the_task() -> None:
    """A lock's statistics name the task that holds it by its `id()`."""
    lock = anyio.Lock()
    await lock.acquire()
    owner = lock.statistics().owner
    assert owner is not None
    assert owner.id == id(asyncio.current_task())


def test_the_coroutine_of_a_task_is_in_its_first_frame() -> None:
    """A task runs a coroutine of anyio, which has that of the program, itself or as the `_coro` of an object."""

    async def work() -> None: ...

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            (task,) = asyncio.all_tasks() - {asyncio.current_task()}
            frame: Any = task.get_coro().cr_frame  # type: ignore[union-attr]
            assert frame.f_globals["__name__"].startswith("anyio.")
            found = [[value, getattr(value, "_coro", None)] for value in frame.f_locals.values()]
            assert "work" in [getattr(each, "__name__", "") for pair in found for each in pair]

    asyncio.run(main())


def test_a_cancellation_is_repeated_by_a_callback() -> None:
    """A cancelled scope calls `_deliver_cancellation` in each round of the loop, until its tasks have left it."""
    scheduled: list[object] = []

    class Loop(asyncio.SelectorEventLoop):
        def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
            if getattr(callback, "__func__", None) is CancelScope._deliver_cancellation:  # type: ignore[attr-defined]
                scheduled.append(callback.__self__)
            return super().call_soon(callback, *args, context=context)

    async def main() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            for _ in range(3):
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    pass
            assert scheduled
            assert all(each is scope for each in scheduled)

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


@pytest.mark.anyio
async def test_a_worker_thread_has_a_queue_of_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new worker makes a `Queue` of its module, and a call comes by `put_nowait`."""
    items: list[Any] = []

    class Calls(queue.Queue[Any]):
        def put_nowait(self, item: Any) -> None:
            items.append(item)
            super().put_nowait(item)

    monkeypatch.setattr(_asyncio, "Queue", Calls)
    assert await anyio.to_thread.run_sync(int, "1") == 1
    _, function, arguments, future, _ = items[0]
    assert (function, arguments, future.done()) == (int, ("1",), True)
