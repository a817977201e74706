"""What the exploration of orders takes for granted about the primitives of asyncio, anyio and trio."""

from __future__ import annotations

import asyncio
import asyncio.taskgroups
import asyncio.tasks
from typing import Any

import anyio
import anyio._backends._asyncio as anyio_asyncio
import anyio.streams.memory
import pytest
import trio
import trio._core._run as trio_run
import trio._sync as trio_sync

pytestmark = pytest.mark.internals


def test_asyncio_s_primitives_have_their_state_under_these_names() -> None:
    """An event has a value, and a queue a size and items. Its subclasses change how these are taken."""

    async def main() -> None:
        event: Any = asyncio.Event()
        assert event._value is False
        event.set()
        assert event._value is True
        queue: Any = asyncio.Queue[int](3)
        queue.put_nowait(1)
        assert queue._maxsize == 3
        assert list(queue._queue) == [1]
        kinds: list[Any] = [asyncio.Queue, asyncio.LifoQueue, asyncio.PriorityQueue]
        assert len({kind._get for kind in kinds}) == 3

    asyncio.run(main())


def test_asyncio_s_groups_have_their_tasks_under_these_names() -> None:
    """A group has its tasks and its parent, and calls these methods. A task has the exception that ended it."""
    ended: list[Any] = []

    class Group(asyncio.TaskGroup):
        def _on_task_done(self, task: Any) -> None:
            ended.append(task)
            super()._on_task_done(task)  # type: ignore[misc]

        def _abort(self) -> None:
            ended.append("abort")
            super()._abort()  # type: ignore[misc]

    async def fail() -> None:
        raise ValueError

    async def main() -> None:
        group: Any = Group()
        with pytest.raises(ExceptionGroup):
            async with group:
                task = group.create_task(fail())
                assert task in group._tasks
                assert group._parent_task is asyncio.current_task()
        assert ended == [task, "abort"]
        assert isinstance(task._exception, ValueError)
        gathering: Any = asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
        module: Any = asyncio.tasks
        assert type(gathering) is module._GatheringFuture
        assert len(gathering._children) == 2
        await gathering

    asyncio.run(main())


def test_anyio_s_scopes_have_their_tasks_under_these_names() -> None:
    """A scope has its tasks, its host, its parent and its children. A task has its scope."""

    async def main() -> None:
        module: Any = anyio_asyncio
        outer: Any = anyio.CancelScope()
        inner: Any = anyio.CancelScope(shield=True)
        with outer, inner:
            host = asyncio.current_task()
            assert inner._host_task is host
            assert host in inner._tasks
            assert inner._parent_scope is outer
            assert inner in outer._child_scopes
            assert module._task_states[host].cancel_scope is inner
            async with anyio.create_task_group() as group:
                assert callable(group._spawn)  # type: ignore[attr-defined]
                group.start_soon(anyio.sleep, 0)
                assert len(group._tasks) == 1  # type: ignore[attr-defined]

    anyio.run(main, backend="asyncio")


def test_the_ends_of_a_stream_have_a_state() -> None:
    """Both ends of a stream have the same state, and a condition checks its lock in a method."""

    async def main() -> None:
        send, receive = anyio.create_memory_object_stream[int](2)
        with send, receive:
            state: Any = send._state
            assert state is receive._state
            assert type(state) is anyio.streams.memory._MemoryObjectStreamState
            assert state.max_buffer_size == 2
        condition = anyio.Condition()
        with pytest.raises(RuntimeError):
            condition._check_acquired()

    anyio.run(main)


def test_trio_s_primitives_have_their_state_under_these_names() -> None:
    """An event has a flag, a condition its lock, a scope its status, and a nursery learns of each end."""
    finished: list[str] = []

    async def main() -> None:
        event: Any = trio.Event()
        assert event._flag is False
        condition: Any = trio.Condition()
        assert isinstance(condition._lock, trio_sync._LockImpl)
        child_finished: Any = trio.Nursery._child_finished

        def note(self: Any, task: Any, outcome: Any) -> None:
            finished.append(task.name)
            child_finished(self, task, outcome)

        trio.Nursery._child_finished = note  # type: ignore[method-assign]
        try:
            manager: Any = trio.open_nursery()
            assert isinstance(manager, trio_run.NurseryManager)
            async with manager as nursery:
                nursery.start_soon(trio.sleep, 0, name="child")
                assert manager._nursery is nursery
                status = nursery.cancel_scope._cancel_status
                assert {task.name for task in status._tasks} >= {"child"}
                assert all(isinstance(task._counter, int) for task in status._tasks)
                with trio.CancelScope(shield=True) as scope:  # noqa: ASYNC100 - looked at, and left
                    inner: Any = scope
                    assert inner._cancel_status in status._children
                    assert inner._cancel_status._parent is status
                    assert inner._cancel_status._scope is scope
                    assert callable(inner._cancel)
        finally:
            trio.Nursery._child_finished = child_finished  # type: ignore[method-assign]
        assert finished == ["child"]

    trio.run(main)
