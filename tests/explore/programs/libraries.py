"""The primitives of asyncio, of anyio and of trio, under the same names, for random programs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel  # pyright: ignore[reportUnusedImport]  # an attribute of anyio from here on
import trio

Body: TypeAlias = Callable[[], Awaitable[None]]
Cancels: TypeAlias = list[Callable[[], object]]

LIBRARIES = ("asyncio", "anyio", "trio", "anyio-on-trio")


class AsyncioPrimitives:
    """The primitives of asyncio. `makers` has what makes each thing, by its name in a program."""

    cancelled: Any = asyncio.CancelledError
    expected: tuple[type[Exception], ...] = (
        RuntimeError, ValueError, asyncio.QueueEmpty, asyncio.QueueFull, asyncio.InvalidStateError,
        asyncio.BrokenBarrierError,
    )  # fmt: skip
    makers: dict[str, Callable[[], Any]] = {
        "L": asyncio.Lock,
        "M": asyncio.Lock,
        "E": asyncio.Event,
        "F": asyncio.Event,
        "S": lambda: asyncio.Semaphore(1),
        "Z": lambda: asyncio.BoundedSemaphore(2),
        "C": asyncio.Condition,
        "P": lambda: asyncio.Barrier(2),
        "Q": asyncio.Queue,
        "B": lambda: asyncio.Queue[int](1),
        "H": asyncio.PriorityQueue,
        "K": lambda: asyncio.LifoQueue[int](1),
        "U": lambda: asyncio.get_running_loop().create_future(),
    }

    def __init__(self) -> None:
        self.left: list[asyncio.Task[Any]] = []  # tasks that may outlive the task that has started them

    async def put(self, queue: Any, value: int) -> None:
        await queue.put(value)

    async def get(self, queue: Any) -> int:
        return int(await queue.get())

    def put_nowait(self, queue: Any, value: int) -> None:
        queue.put_nowait(value)

    def get_nowait(self, queue: Any) -> object:
        return queue.get_nowait()

    def size(self, queue: Any) -> object:
        return queue.qsize()

    def tokens(self, semaphore: Any) -> object:
        return semaphore.locked()

    async def checkpoint(self) -> None:
        await asyncio.sleep(0)

    async def sleep(self, seconds: int) -> None:
        await asyncio.sleep(seconds)

    async def together(self, bodies: list[Body], cancels: Cancels) -> None:
        async with asyncio.TaskGroup() as group:
            for body in bodies:
                cancels.append(group.create_task(body()).cancel)  # type: ignore[arg-type]

    def task_of(self, cancel: Any) -> Any:
        """Return the task that a method cancels."""
        return cancel.__self__

    async def within(self, body: Body) -> bool:
        try:
            async with asyncio.timeout(1):
                await body()
        except TimeoutError:
            return True
        return False

    async def before_deadline(self, body: Body) -> bool:
        try:
            await asyncio.wait_for(body(), 1)
        except TimeoutError:
            return True
        return False

    async def shielded(self, body: Body) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(body())  # type: ignore[assignment]
        self.left.append(task)
        await asyncio.shield(task)

    async def wait(self, bodies: list[Body], return_when: str, timeout: int | None) -> object:
        tasks: list[asyncio.Task[None]] = [asyncio.create_task(body()) for body in bodies]  # type: ignore[arg-type]
        try:
            await asyncio.wait(tasks, return_when=return_when, timeout=timeout)
            return tuple(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def as_completed(self, bodies: list[Body]) -> object:
        tasks: list[asyncio.Task[None]] = [asyncio.create_task(body()) for body in bodies]  # type: ignore[arg-type]
        try:
            for each in asyncio.as_completed(tasks):
                await each
                break
            return tuple(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def gather(self, bodies: list[Body]) -> None:
        tasks: list[asyncio.Task[None]] = [asyncio.create_task(body()) for body in bodies]  # type: ignore[arg-type]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def finish(self) -> None:
        """Wait for the tasks that have outlived those that have started them."""
        await asyncio.gather(*self.left, return_exceptions=True)


class AnyioPrimitives:
    """The primitives of anyio, on either backend.

    A stream is a tuple of its two ends.
    """

    module: Any = anyio
    expected: tuple[type[Exception], ...] = (
        RuntimeError, ValueError, anyio.WouldBlock, anyio.ClosedResourceError, anyio.BrokenResourceError,
        anyio.EndOfStream, anyio.BusyResourceError,
    )  # fmt: skip
    makers: dict[str, Callable[[], Any]] = {
        "L": anyio.Lock,
        "M": lambda: anyio.Lock(fast_acquire=True),
        "E": anyio.Event,
        "F": anyio.Event,
        "S": lambda: anyio.Semaphore(1),
        "Z": lambda: anyio.Semaphore(2),
        "T": lambda: anyio.CapacityLimiter(1),
        "V": lambda: anyio.CapacityLimiter(2),
        "C": anyio.Condition,
        "Q": lambda: anyio.create_memory_object_stream[int](float("inf")),
        "B": lambda: anyio.create_memory_object_stream[int](1),
        "R": lambda: anyio.create_memory_object_stream[int](0),
    }

    @property
    def cancelled(self) -> Any:
        return anyio.get_cancelled_exc_class()

    def scope(self, *, shield: bool = False) -> Any:
        return self.module.CancelScope(shield=shield)

    def group(self) -> Any:
        return anyio.create_task_group()

    async def put(self, stream: Any, value: int) -> None:
        await stream[0].send(value)

    async def get(self, stream: Any) -> int:
        return int(await stream[1].receive())

    def put_nowait(self, stream: Any, value: int) -> None:
        stream[0].send_nowait(value)

    def get_nowait(self, stream: Any) -> object:
        return stream[1].receive_nowait()

    def size(self, stream: Any) -> object:
        return stream[0].statistics().current_buffer_used

    def tokens(self, limiter: Any) -> object:
        return limiter.value if hasattr(limiter, "value") else limiter.available_tokens

    async def checkpoint(self) -> None:
        await self.module.lowlevel.checkpoint()

    async def sleep(self, seconds: int) -> None:
        await self.module.sleep(seconds)

    async def together(self, bodies: list[Body], cancels: Cancels, *, is_started: bool = False) -> None:
        """Run tasks in a group. Each has a scope. The last of *cancels* is that of the group."""

        async def scoped(scope: Any, body: Body, task_status: Any = anyio.TASK_STATUS_IGNORED) -> None:
            with scope:
                await body()
                if is_started:
                    task_status.started()
                    await body()

        scopes = [self.scope() for _ in bodies]
        cancels.extend(scope.cancel for scope in scopes)
        async with self.group() as group:
            cancels.append(group.cancel_scope.cancel)
            for scope, body in zip(scopes, bodies, strict=True):
                if is_started:
                    await group.start(scoped, scope, body)
                else:
                    group.start_soon(scoped, scope, body)

    async def within(self, body: Body) -> bool:
        with self.module.move_on_after(1) as scope:
            await body()
        return bool(scope.cancelled_caught)

    async def before_deadline(self, body: Body) -> bool:
        try:
            with self.module.fail_after(1):
                await body()
        except (TimeoutError, trio.TooSlowError):
            return True
        return False

    async def shielded(self, body: Body) -> None:
        with self.scope(shield=True):
            await body()

    async def finish(self) -> None:
        """Do nothing: no task outlives its group."""


class TrioPrimitives(AnyioPrimitives):
    """The primitives of trio."""

    module = trio
    cancelled: Any = trio.Cancelled
    expected = (
        RuntimeError, ValueError, trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError,
        trio.EndOfChannel, trio.BusyResourceError,
    )  # fmt: skip
    makers: dict[str, Callable[[], Any]] = {
        "L": trio.Lock,
        "M": trio.StrictFIFOLock,
        "E": trio.Event,
        "F": trio.Event,
        "S": lambda: trio.Semaphore(1),
        "Z": lambda: trio.Semaphore(2, max_value=2),
        "T": lambda: trio.CapacityLimiter(1),
        "V": lambda: trio.CapacityLimiter(2),
        "C": trio.Condition,
        "Q": lambda: trio.open_memory_channel[int](float("inf")),
        "B": lambda: trio.open_memory_channel[int](1),
        "R": lambda: trio.open_memory_channel[int](0),
    }

    def group(self) -> Any:
        return trio.open_nursery()


PRIMITIVES: dict[str, Any] = {
    "asyncio": AsyncioPrimitives,
    "anyio": AnyioPrimitives,
    "trio": TrioPrimitives,
    "anyio-on-trio": AnyioPrimitives,
}
