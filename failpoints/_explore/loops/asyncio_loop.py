"""The asyncio event loop of a run: it knows when it is at rest, and keeps the time of the run."""

from __future__ import annotations

import asyncio
import inspect
import math
import selectors
import socket
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import BuiltinMethodType, MethodType
from typing import Any, cast

from anyio._backends._asyncio import CancelScope

from ..._core.clock import monotonic
from ..._core.reentrancy import runs_user_code, transparent
from ..execution import Execution
from ..plan.identity import TaskNode
from ..problem import Problem
from ..steering.beside import Beside
from ..steering.control import steering_beside_loop as steering_of_caller
from ..steering.primitives import internal
from ..steps import Steps
from ..threads import awaits_thread, is_only_thread
from ..user_frames import suspended_at
from .asyncio_tasks import FOREIGN, TaskTrackingLoop, running_task, waiter_of
from .await_frames import awaited_frames
from .blocked import blocked_problem
from .outside_waits import OutsideWait
from .rest import GRACE, MAX_ROUNDS, RestPolicy
from .sockets import LocalConnections, awaited_descriptor
from .wait_sources import WaitSource, wait_place, wait_source

# Callbacks for a file descriptor that brings nothing unless something connects, or calls into the loop.
_LISTENING = {"_accept_connection", "_sock_accept", "_read_from_self"}


_LOOKUPS = (socket.getaddrinfo, socket.getnameinfo)  # called in an executor by asyncio itself
# The callbacks that are the next step of a task: those of asyncio's accelerated tasks, and of its plain ones.
_STEP_NAMES = {"task_wakeup", "__step", "__wakeup"}


# With this callback anyio cancels a task again and again, until it has taken the cancellation. A held one does not.
_RETRY = CancelScope._deliver_cancellation  # pyright: ignore[reportPrivateUsage]


class Suspension:
    """Suspends the running task, which can go on at once."""

    def __await__(self) -> Generator[None]:
        yield


class _Handle(asyncio.Handle):
    """A callback with its number, and with that of the segment that has led to it."""

    __slots__ = ("cause", "number", "starter")

    _loop: ExplorationLoop
    cause: int | None
    starter: TaskNode | None
    number: int

    @runs_user_code
    def _run(self) -> None:
        self._loop.cause, self._loop.starter = self.cause, self.starter
        super()._run()
        self._loop.cause = self._loop.starter = None


class Halt(BaseException):
    """Ends the event loop from within, with a problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem


class ExplorationLoop(TaskTrackingLoop):
    """The event loop of one run."""

    # Private attributes of asyncio's own classes, which typeshed does not have.
    _asyncgens: Any
    _closed: bool
    _debug: bool
    _default_executor: Any
    _process_events: Any
    _scheduled: Any
    _stopping: bool

    def __init__(self, execution: Execution, deadline: float, *, is_virtual: bool) -> None:
        self.unhandled: list[dict[str, Any]] = []
        self._is_virtual = is_virtual
        self._held: dict[TaskNode, asyncio.Future[None]] = {}
        self._going: TaskNode | None = None  # the task that was released last, until it runs
        self._suspended: dict[TaskNode, _Handle] = {}  # the next steps of tasks that are held at a wake-up
        self._retries: list[_Handle] = []  # to be run beside the next step
        self._scheduled_so_far = 0
        self.cause: int | None = None  # the segment that has scheduled the running callback
        self._executing: dict[Any, int] = {}  # the futures of calls in an executor, numbered
        self._calls = 0  # in an executor so far
        self._own_executor: Any = None  # the default one, if the loop has made it
        self._lookups: set[object] = set()  # futures of those that look up an address
        self._connections = LocalConnections()
        self._is_settling = False
        self._is_closing = False
        self._rest = RestPolicy(self, execution, deadline, is_virtual=is_virtual)
        self.steering: Beside | None = None
        if execution.scheduler.interleavings is not None:
            self.steering = execution.steering = Beside(execution, self, self._rest, deadline, is_virtual=is_virtual)
        super().__init__(execution)
        self.lazy_selector.wait = self._wait

    # asyncio.AbstractEventLoop

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        if self._closed:
            self._check_closed()
        execution = self._execution
        if execution.steps is None and not execution.holds_wakeups:
            handle = asyncio.Handle(callback, args, self, context)
            self._ready.append(handle)
            return handle
        return self._call_soon(callback, args, context)

    def _call_soon(self, callback: Any, args: Any, context: Any = None) -> Any:
        """Schedule a callback, and note whether it is the next step of a task, and what has led to it."""
        handle = _Handle(callback, args, self, context)
        handle.cause = None
        handle.starter = None if self._execution.steering is None else self._execution.steering.thread_node()
        self._scheduled_so_far += 1
        handle.number = self._scheduled_so_far
        execution, steps = self._execution, self._execution.steps
        node = self._stepping_node(callback)
        if node is None:
            if execution.holds_wakeups and execution.held and getattr(callback, "__func__", None) is _RETRY:
                self._retries.append(handle)
                return handle
            if steps is not None:
                handle.cause = self._running_segment(steps)
        elif node is self._going:
            self._going = None
        else:
            if steps is not None:
                steps.wake(node, self._running_segment(steps), could_run=node in self._held)
            if execution.holds_wakeups:
                self._suspended[node] = handle
                execution.woken(node)
                return handle
        self._ready.append(handle)
        return handle

    def _stepping_node(self, callback: Any) -> TaskNode | None:
        """Return the node of the task of which a callback is the next step, or `None` if it is something else."""
        kind = cast(Any, type(callback))
        if kind is BuiltinMethodType or kind is MethodType:
            if callback.__name__ not in _STEP_NAMES:
                return None
        elif kind.__name__ != "TaskStepMethWrapper":
            return None
        task = callback.__self__
        return self.node_of(task) if isinstance(task, asyncio.Task) else None

    def acting_node(self) -> TaskNode:
        """Return the running task or, for a callback, the task that has scheduled it."""
        steps = self._execution.steps
        if steps is not None and self.cause is not None and running_task(self) is None:
            return steps.task_of(self.cause) or self._foreign
        return self.current_node()

    def _running_segment(self, steps: Steps) -> int | None:
        thread = None if self._execution.steering is None else self._execution.steering.thread_node()
        if thread is not None:
            return steps.mark(thread)
        task = running_task(self)
        if task is not None:
            return steps.mark(self.node_of(task))
        node = None if self.cause is None else steps.task_of(self.cause)
        return self.cause if node is None else steps.mark(node)

    @runs_user_code
    def _run_once(self) -> None:
        """Do the same as asyncio, without its work for timers if there are none."""
        if self._scheduled or self._debug:
            super()._run_once()  # type: ignore[misc]
            return
        ready = self._ready
        events = self._wait(0 if ready or self._stopping else None)
        if events:
            self._process_events(events)
        for _ in tuple(ready):  # callbacks added by these are run in the next round
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def time(self) -> float:
        return self._rest.now if self._is_virtual else monotonic()

    @transparent
    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        steering = self._execution.steering
        if steering is not None and not steering.is_ending and func not in _LOOKUPS:
            used = self._default_executor if executor is None else executor
            if steering.has_made(used):
                return super().run_in_executor(executor, func, *args)
            if executor is None and used is self._own_executor:
                return self._run_in_order(steering, func, args)
        if executor is None or isinstance(executor, ThreadPoolExecutor):
            # Several calls of one task may run at once. Each has a node, so that arrival does not tell them apart.
            called = self.run_context(self.current_node().thread()).around(func)
        else:
            called = func
        is_new = executor is None and self._default_executor is None
        with nullcontext() if steering is None else internal(steering):
            future = super().run_in_executor(executor, called, *args)
        if is_new:
            self._own_executor = self._default_executor
        if func in _LOOKUPS:
            self._lookups.add(future)
        else:
            self._execution.see_thread(is_beside=bool(self._executing))
        self._calls += 1
        self._executing[future] = self._calls
        future.add_done_callback(self._has_executed)
        return future

    def _run_in_order(self, steering: Beside, function: Any, args: tuple[Any, ...]) -> Any:
        job = steering.job(function)
        with internal(steering):
            job.waiter = future = super().run_in_executor(None, job, *args)
        self._own_executor = self._default_executor
        steering.submit(job, self._default_executor._max_workers)
        return future

    def _has_executed(self, future: Any) -> None:
        del self._executing[future]
        self._lookups.discard(future)

    @transparent
    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        steering = self._execution.steering
        if steering is not None:
            steering.come_back()
            caller = steering_of_caller()
            if caller is not None:
                caller.before(self)
        is_here = threading.get_ident() == self._execution.thread
        if not is_here and not self._is_of_asyncio(callback, args):
            self._execution.see_thread()
        try:
            if not is_here or self._closed:
                return super().call_soon_threadsafe(callback, *args, context=context)
            handle = self._call_soon(callback, args, context)  # from Python 3.14 on, asyncio does not call this
            self._write_to_self()
            return handle
        finally:
            if steering is not None and is_here:
                steering.answered()
                found = steering_of_caller()
                if found is not None:
                    found.after()

    def _is_of_asyncio(self, callback: Any, args: tuple[Any, ...]) -> bool:
        """Return whether a thread of asyncio itself calls: one that waits for a process, or looks up an address."""
        return getattr(callback, "__name__", "") == "_child_watcher_callback" or not self._lookups.isdisjoint(args[:1])

    @transparent
    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.get_exception_handler() is not None:  # set by the scenario
            super().call_exception_handler(context)
        elif not self._is_closing:
            self.unhandled.append(context)

    # Loop, the interface for the run

    def hold(self, task: TaskNode) -> asyncio.Future[None]:
        """Return the future that suspends the running task."""
        if len(self._executing) > len(self._lookups):
            self._execution.see_thread(is_beside=True)
        future: asyncio.Future[None] = asyncio.Future(loop=self)
        self._held[task] = future
        return future

    def suspend(self) -> Suspension:
        """Return an awaitable that suspends the running task, which can go on at once."""
        return Suspension()

    def release(self, task: TaskNode) -> None:
        """Let a task that is held go on."""
        suspended = self._suspended.pop(task, None)
        if suspended is not None:
            # A retry that was scheduled before the step comes before it, as on any loop: it may cancel the task.
            earlier = [retry for retry in self._retries if retry.number < suspended.number]
            later = [retry for retry in self._retries if retry.number > suspended.number]
            self._ready.extend((*earlier, suspended, *later))
            self._retries.clear()
            return
        self._going = task
        future = self._held.pop(task)
        if not future.done():  # else it is cancelled, and its task will run
            future.set_result(None)

    def position(self, task: TaskNode) -> tuple[str, str]:
        """Return the user's line at which a task that is held at a wake-up is suspended: its place, and its text."""
        coroutine = self._suspended_task(task).get_coro()
        return suspended_at(coroutine, awaited_frames(coroutine))

    def can_cancel(self, task: TaskNode) -> bool:
        """Return whether a task that is held at a wake-up can be cancelled there.

        anyio never cancels a task that has not begun. asyncio does.
        """
        return frame_of_anyio(self._suspended_task(task)) is None

    def cancel(self, task: TaskNode) -> None:
        """Cancel a task that is held at a wake-up."""
        steps = self._execution.steps
        self.cause = None if steps is None else steps.mark(task)  # as if it did this itself
        self._suspended_task(task).cancel()
        self.cause = None

    def _suspended_task(self, task: TaskNode) -> asyncio.Task[Any]:
        step: Any = self._suspended[task]
        suspended: asyncio.Task[Any] = step._callback.__self__
        return suspended

    def forget(self, task: TaskNode) -> None:
        """Take note that a task is not held any more."""
        self._held.pop(task, None)

    def end_asleep(self) -> None:
        """End the run, since everything that could follow has been run."""
        raise Halt(Problem("asleep", ""))

    # At rest

    def _wait(self, timeout: float | None) -> Any:
        """Wait for I/O. The loop calls this before it runs the callbacks that are ready.

        If *timeout* is 0, some are ready. Otherwise the loop is at rest.
        """
        rest = self._rest
        real = self.lazy_selector.real
        if self._execution.steering is not None and self._execution.steering.problem is not None:
            raise Halt(self._execution.steering.problem)
        if monotonic() > rest.deadline:
            raise Halt(blocked_problem("hang", self.unfinished_tasks(), rest.hang_notes()))
        if timeout == 0:
            if rest.waiting_since is not None:
                rest.woken()
            rest.rounds += 1
            if rest.rounds > MAX_ROUNDS:
                self._interrupt_poller()
            return self._new_events(real.select(0)) if real is not None else ()
        rest.rounds = 0
        events = self._new_events(real.select(0)) if real is not None else ()
        if events or self._ready:  # a thread has called into the loop
            rest.woken()
            return events
        if self._is_settling:
            self.stop()
            return ()
        timer = math.inf if timeout is None else self._scheduled[0]._when
        if self._is_closing:
            return self._wait_while_closing(timer)
        seconds = rest.next_wait(timer)
        if not seconds:
            return ()
        events = self._new_events(self.really_wait(seconds))
        if events or self._ready:
            rest.woken()
        return events

    def _new_events(self, events: Any) -> Any:
        """Leave out the events that have already woken a task that is held.

        A task may take its file descriptor out of the selector only once it goes on.
        """
        if not events or not self._execution.holds_wakeups:
            return events
        return [
            (key, mask)
            for key, mask in events
            if (mask & selectors.EVENT_READ and _is_awaited(key.data[0]))
            or (mask & selectors.EVENT_WRITE and _is_awaited(key.data[1]))
        ]

    def _interrupt_poller(self) -> None:
        if self._is_settling:
            self._rest.rounds = 0
            self.stop()
        else:
            self._rest.release_beside_poller()

    def _wait_while_closing(self, timer: float) -> Any:
        if timer == math.inf:
            self.stop()
            return ()
        if not self._is_virtual:
            return self.really_wait(max(min(timer, self._rest.deadline) - monotonic(), 0))
        self._rest.now = timer
        return ()

    # RestingLoop, the interface for the policy

    def threads_may_answer(self) -> bool:
        """Return whether there is another thread, or a process, that may wake a task."""
        return bool(self._executing) or not is_only_thread()

    def thread_waits(self) -> list[OutsideWait]:
        """Return the waits for threads, if there are more than threads that may be waiting for a held task."""
        waits = {
            future: OutsideWait(future, ("call", number), "a worker thread")
            for future, number in self._executing.items()
        }
        for task in () if is_only_thread() and not waits else self._waiting_tasks():
            waiter, frames = waiter_of(task), awaited_frames(task.get_coro())
            if waiter not in waits and (_is_chained(waiter) or awaits_thread(frames)):
                waits[waiter] = OutsideWait(waiter, wait_place(self.node_of(task).path, frames), "a worker thread")
        # A held task that no task has started may have been started by a thread, which is waiting for it.
        is_doubtful = len(waits) <= sum(task.path[:1] == (FOREIGN,) for task in self._execution.held)
        return [] if is_doubtful else list(waits.values())

    def is_signal_awaited(self) -> bool:
        """Return whether the loop handles a signal."""
        return bool(getattr(self, "_signal_handlers", None))

    def outside_waits(self) -> list[OutsideWait]:
        """Return the waits for I/O of tasks that are not held, if something may come from outside the run."""
        waits: list[OutsideWait] = []
        source: str | None = None
        for task in self._waiting_tasks():
            waiter, frames = waiter_of(task), awaited_frames(task.get_coro())
            if waiter is None or wait_source(frames, waiter) is not WaitSource.OUTSIDE:
                continue
            descriptor = awaited_descriptor(frames)
            if descriptor is None or descriptor not in self.lazy_selector.get_map():
                if source is None:
                    source = self._outside_source()
            elif not self._connections.are_between_tasks(descriptor):
                source = source or f"the file descriptor {descriptor}"
            else:
                continue
            if source:
                waits.append(OutsideWait(waiter, wait_place(self.node_of(task).path, frames), source))
        return waits

    def _outside_source(self) -> str:
        """Describe a file descriptor that something may come from. Servers that listen are left out."""
        for key in self.lazy_selector.get_map().values():
            for handle in key.data:
                callback = "" if handle is None else _callback_name(handle)
                if callback and callback not in _LISTENING and not self._connections.are_between_tasks(key.fd):
                    return f"the file descriptor {key.fd} ({callback})"
        return ""

    def wait_sources(self) -> set[WaitSource]:
        """Return the kinds of waits of all tasks that are not held."""
        return {
            self._connections.source(awaited_frames(task.get_coro()), waiter_of(task)) for task in self._waiting_tasks()
        }

    def has_arrived(self) -> bool:
        """Return whether a thread or a signal handler has called into the loop since it came to rest."""
        return self.is_ready

    def end_in_deadlock(self) -> None:
        """End the run, since nothing can wake a task."""
        problem = blocked_problem("deadlock", self.unfinished_tasks())
        raise Halt(problem if self._execution.steering is None else self._execution.steering.beside(problem))

    def _waiting_tasks(self) -> list[Any]:
        steering, held = self._execution.steering, self._execution.held
        waiting = [task for task in self.created if not task.done() and self.node_of(task) not in held]
        if steering is not None and steering.threads:
            waiting = [task for task in waiting if not steering.awaits(waiter_of(task))]
        return waiting

    def wake(self) -> None:
        """End the wait of the loop for I/O."""
        self._write_to_self()

    # The end

    def settle(self) -> None:
        """Run all ready callbacks until the loop is at rest. No time passes, and no held task is released."""
        self._is_settling = True
        self._rest.rounds = 0
        try:
            self.run_forever()
        finally:
            self._is_settling = False

    def limit_closing(self) -> None:
        """From now on, report no errors and let timers fire at once. Limit the time until the loop must be closed."""
        self._is_closing = True
        self._ready.extend(self._suspended.values())
        self._suspended.clear()
        self._rest.deadline = monotonic() + GRACE
        self._execution.watched.extend(self._rest.deadline)

    @property
    def is_ready(self) -> bool:
        """Whether a callback is ready to run."""
        return bool(self._ready)

    @property
    def has_async_generators(self) -> bool:
        """Whether an async generator was left unfinished."""
        return bool(self._asyncgens)

    def close(self) -> None:
        if self.is_running() or self.is_closed():
            super().close()  # which raises an error, or does nothing
            return
        if self._default_executor is not None:
            are_busy = self._executing or (self.steering is not None and self.steering.jobs)
            self._default_executor.shutdown(wait=not are_busy)
        super().close()
        self.created.clear()
        self._rest.detach()


def _is_awaited(handle: Any) -> bool:
    """Return whether the callback for a file descriptor still has an effect."""
    if handle is None:
        return False
    future: Any = getattr(handle._callback, "__self__", None)
    return not (isinstance(future, asyncio.Future) and future.done())


def _is_chained(waiter: Any) -> bool:
    callbacks: Any = getattr(waiter, "_callbacks", None) or ()
    return any(getattr(callback, "__qualname__", "").startswith("_chain_future.") for callback, _ in callbacks)


def _callback_name(handle: Any) -> str:
    callback: Callable[..., Any] = handle._callback
    return getattr(callback, "__name__", "") or type(callback).__name__


def frame_of_anyio(task: asyncio.Task[Any]) -> Any:
    """Return the frame of a task that anyio has started, as long as the task has not begun."""
    coroutine: Any = task.get_coro()
    if not inspect.iscoroutine(coroutine) or inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED:
        return None
    frame: Any = coroutine.cr_frame
    return frame if frame.f_globals.get("__name__", "").partition(".")[0] == "anyio" else None
