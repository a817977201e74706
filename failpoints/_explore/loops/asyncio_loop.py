"""A run on asyncio: an event loop of its own kind, which knows when it is at rest and what time it is."""

from __future__ import annotations

import asyncio
import contextvars
import math
import selectors
import socket
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from ..._core.hooks import exploring
from ..._core.own_calls import hands_over, passes_on
from ..._core.store import entered
from ..execution import Execution
from ..plan.places import Place, current_place, task_name
from ..problem import Problem
from ..threads import awaits_thread, busy_threads, hang_notes, is_alone
from ..watchdog import Stuck
from .await_frames import awaited_frames
from .blocked import Standing, blocked_problem
from .patience import Awaited, Patience, awaited

_SLICE = 0.05  # seconds of real waiting for a thread, before another look whether it still lives
_DOUBT = 0.02  # and before what looks like a deadlock is called one, where there are threads at all
_GRACE = 1.0  # for a thread that a task waits for, before another task goes on
_LONGEST = 86_400.0  # seconds that a selector is asked to wait at once
_MOST_ROUNDS = 1_000  # of the loop, without a rest, until a task that polls is taken for one that waits
_FOREIGN = 0  # the number, among the children of the root, that stands for what no task started


_NOTHING_TO_COME = {"_accept_connection", "_sock_accept", "_read_from_self"}  # by itself, where a loop listens
_EAGER: Any = getattr(asyncio, "eager_task_factory", object())  # of Python 3.12


class _Halt(BaseException):
    """Ends the loop from within, and says why."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem


class _Task(asyncio.Task[Any]):
    """A task that knows its place; sets of such are in the same order in every run."""

    __slots__ = ("number", "place")

    number: int
    place: Place

    def __hash__(self) -> int:
        return self.number


class _Belonging:
    """What a context has to know for visits in it to be those of a run."""

    def __init__(self, execution: Execution, in_force: Any, place: Place) -> None:
        self._values: list[tuple[contextvars.ContextVar[Any], Any]] = [
            (exploring, execution), (entered, in_force), (current_place, place),
        ]  # fmt: skip

    def set(self) -> list[contextvars.Token[Any]]:
        return [variable.set(value) for variable, value in self._values]

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, in a thread that knows nothing, where it is to find nothing else."""

        @passes_on
        def in_thread(*args: Any) -> Any:
            tokens = self.set()
            try:
                return function(*args)
            finally:
                for token in tokens:
                    token.var.reset(token)

        return in_thread


class _Selector(selectors.BaseSelector):
    """What the loop waits with: only as real as it has to be."""

    def __init__(self) -> None:
        self.real: selectors.BaseSelector | None = None
        self.wait: Callable[[float | None], Any]

    def made(self) -> selectors.BaseSelector:
        if self.real is None:
            self.real = selectors.DefaultSelector()
        return self.real

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.made().register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self.made().unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.made().modify(fileobj, events, data)

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        if self.real is None:
            raise KeyError(fileobj)
        return self.real.get_key(fileobj)

    def get_map(self) -> Any:
        return {} if self.real is None else self.real.get_map()

    def select(self, timeout: float | None = None) -> Any:
        return self.wait(timeout)

    def close(self) -> None:
        del self.wait  # it holds the loop
        if self.real is not None:
            self.real.close()
            self.real = None


class _Loop(asyncio.SelectorEventLoop):
    """The event loop of one run."""

    # Of asyncio's own, which its stubs do not tell.
    _add_reader: Any
    _asyncgens: Any
    _check_closed: Any
    _closed: bool
    _csock: Any
    _debug: bool
    _default_executor: Any
    _internal_fds: int
    _process_events: Any
    _read_from_self: Any
    _ready: Any
    _scheduled: Any
    _ssock: Any
    _stopping: bool
    _task_factory: Any

    def __init__(self, execution: Execution, deadline: float, *, is_virtual: bool) -> None:
        self._execution = execution
        self._deadline = deadline
        self._is_virtual = is_virtual
        self._now = 0.0
        self._rests: _Selector = _Selector()
        self._rests.wait = self._wait
        self._foreign = Place((_FOREIGN,), "")
        self._starting: list[Place] = []
        self._executing = 0
        self._held: dict[Place, asyncio.Future[None]] = {}
        self._is_settling = False
        self._is_closing = False
        self._numbered = 0
        self._registries = entered.get()
        self._rounds = 0
        self._patience = Patience()
        self._has_looked = False  # whether anybody has come in, since it is at rest
        self._real_for = ""  # what it waits for while its clock is real
        self.created: list[Any] = []
        self.unhandled: list[dict[str, Any]] = []
        super().__init__(self._rests)

    # what is ready

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        if self._closed:
            self._check_closed()
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    @hands_over
    def _run_once(self) -> None:
        """What asyncio does, without its way around timers while there are none."""
        if self._scheduled or self._debug:
            super()._run_once()  # type: ignore[misc]
            return
        ready = self._ready
        events = self._wait(0 if ready or self._stopping else None)
        if events:
            self._process_events(events)
        for _ in tuple(ready):  # what these make ready has its turn in the next round
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    # time

    def time(self) -> float:
        return self._now if self._is_virtual else time.monotonic()

    # tasks, and their places

    @passes_on
    def create_task(self, coro: Any, *, name: Any = None, context: Any = None, **kwargs: Any) -> Any:
        place = self._place_for(coro)
        if self._task_factory is _EAGER:
            kwargs.setdefault("eager_start", True)
        elif self._task_factory is not None:
            return self._create_with_factory(place, coro, name=name, context=context, **kwargs)
        return self._create(place, coro, name=name, context=context, **kwargs)

    def _place_for(self, coro: Any) -> Place:
        starter = asyncio.current_task(self)
        parent = self._foreign if starter is None else self.place_of(starter)
        return parent.child(getattr(coro, "__name__", ""))

    @passes_on
    def _create(self, place: Place, coro: Any, *, name: Any, context: Any, **kwargs: Any) -> Any:
        task, context = self._new_task(place, context)
        task.__init__(coro, loop=self, name=name, context=context, **kwargs)  # type: ignore[misc]  # an eager one begins
        self.created.append(task)
        return task

    def _new_task(self, place: Place, context: Any) -> tuple[_Task, Any]:
        self._check_closed()
        if context is None:
            context = contextvars.copy_context()
            context.run(current_place.set, place)
        elif exploring not in context:  # one of its own, which knows of no exploration
            context.run(self._belonging(place).set)
        self._numbered += 1
        task = _Task.__new__(_Task)
        task.place = place
        task.number = self._numbered
        return task, context

    def _belonging(self, place: Place) -> _Belonging:
        return _Belonging(self._execution, self._registries, place)

    @passes_on
    def _create_with_factory(self, place: Place, coro: Any, **kwargs: Any) -> Any:
        self._starting.append(place)
        try:
            task: Any = super().create_task(coro, **kwargs)
        finally:
            self._starting.pop()
        task.place = place
        self.created.append(task)
        return task

    def create_root(self, coro: Any) -> Any:
        return self._create(self._execution.root, coro, name=None, context=None)

    def place_of(self, task: Any) -> Place:
        place: Place | None = getattr(task, "place", None)
        if place is None and self._starting:
            return self._starting[-1]  # an eager task, in its first step
        if place is None:  # made without asking the loop
            place = task.place = self._foreign.child(task.get_coro().__name__)
            self.created.append(task)
        return place

    # what a run asks for

    def current(self) -> Place:
        task: Any = asyncio.current_task(self)
        try:
            return cast(Place, task.place)
        except AttributeError:
            return self._foreign if task is None else self.place_of(task)

    def hold(self, place: Place) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.Future(loop=self)
        self._held[place] = future
        return future

    def let_go(self, place: Place) -> None:
        future = self._held.pop(place)
        if not future.done():  # cancelled, and about to be told so
            future.set_result(None)

    def turn_away(self, place: Place) -> None:
        self._held.pop(place, None)

    # at rest

    def _wait(self, timeout: float | None) -> Any:
        """What the loop calls before it runs what is ready; with a timeout other than 0 nothing is."""
        real = self._rests.real
        if time.monotonic() > self._deadline:
            raise _Halt(self._hang())
        if timeout == 0:
            self._rounds += 1
            if self._rounds > _MOST_ROUNDS:
                self._polls()
            return real.select(0) if real is not None else []
        self._rounds = 0
        if real is not None:
            events = real.select(0)
            if events:
                return events
        if self._ready:  # a thread has come in
            return []
        if self._is_settling:
            self.stop()
            return []
        execution = self._execution
        if execution.held:
            if self._executing or not is_alone():
                events = self._really_wait_for_threads()
                if events or self._ready:
                    return events
            execution.let_one_go()
            return ()
        return self._wait_for_what_is_pending(timeout)

    def _hang(self) -> Problem:
        signals = bool(getattr(self, "_signal_handlers", None))
        return blocked_problem("hang", self.standing(), hang_notes(self._real_for, signals=signals))

    def _polls(self) -> None:
        """Some task goes on and on without waiting, for one that is held perhaps; or for nothing, at the end."""
        self._rounds = 0
        if self._is_settling:
            self.stop()
        elif self._execution.held:
            if self._threads_to_wait_for():
                self._execution.guide.bounds.add("threads")
            self._execution.let_one_go()

    def _wait_for_what_is_pending(self, timeout: float | None) -> Any:
        if timeout is None or self._scheduled[0]._when == math.inf:  # as of a sleep for ever
            if self._is_pending() or self._is_in_doubt():
                return self._really_wait(self._left() if self._has_io() else min(_SLICE, self._left()))
            if self._ready:
                return []
            if self._is_closing:
                self.stop()
                return []
            raise _Halt(blocked_problem("deadlock", self.standing()))
        if not self._is_virtual:
            return self._really_wait(min(timeout, self._left()))
        return self._wait_for_a_timer(timeout)

    def _wait_for_a_timer(self, timeout: float) -> Any:
        when: float = self._scheduled[0]._when
        seconds = 0.0 if self._is_closing else self._seconds_before_a_timer()
        if not seconds:
            self._has_looked = False
            self._now = when
            return []
        start = time.monotonic()
        events = self._really_wait(min(timeout, seconds, self._left()))
        passed = time.monotonic() - start
        self._has_looked = not events and not self._ready and passed < timeout
        self._now = when if passed >= timeout else self._now + passed
        return events

    def _seconds_before_a_timer(self) -> float:
        """For how long to wait really for what a task waits for, before another look; 0 for none."""
        if is_alone() and not self._executing and not self._has_io():
            return 0
        if self._threads_to_wait_for():
            self._real_for = "a worker thread"
            return _SLICE
        kinds = self._kinds_of_waiting()
        if Awaited.OUTSIDE in kinds:
            connection = self._connection()
            if connection:
                self._real_for = connection
                return self._left()
        seconds = self._patience.seconds(kinds, looked=self._has_looked, timers=True)
        if seconds and self._patience.reason:
            self._real_for = self._patience.reason
        return seconds

    def _kinds_of_waiting(self) -> set[Awaited]:
        return {
            awaited(awaited_frames(task.get_coro()), getattr(task, "_fut_waiter", None))
            for task in self.created
            if not task.done() and task.place not in self._held
        }

    def _connection(self) -> str:
        """What might bring something, other than servers that listen."""
        for key in self._rests.get_map().values():
            for handle in key.data:
                callback = "" if handle is None else _name_of(handle)
                if callback and callback not in _NOTHING_TO_COME:
                    return f"the file descriptor {key.fd} ({callback})"
        return ""

    def _really_wait(self, seconds: float) -> Any:
        self._make_real_self_pipe()
        # From here on a thread that comes in writes to the pipe; one that came before is seen here.
        return self._rests.made().select(0 if self._ready else seconds)

    def _really_wait_for_threads(self) -> Any:
        """For those that a task waits for, before another goes on that is held."""
        until = min(time.monotonic() + _GRACE, self._deadline)
        looked = False
        while True:
            if self._threads_to_wait_for():
                seconds = _SLICE if time.monotonic() < until else 0.0
                ran_out = not seconds
            else:
                seconds = self._patience.seconds(self._kinds_of_waiting(), looked=looked, timers=False)
                ran_out = self._patience.ran_out
            if not seconds:
                if ran_out:
                    self._execution.guide.bounds.add("threads")
                return []
            events = self._really_wait(seconds)
            if events or self._ready:
                return events
            looked = True

    def _threads_to_wait_for(self) -> bool:
        """Whether tasks wait for more threads than may themselves wait for a task that is held."""
        threads = self._executing
        if not is_alone():
            threads += self._futures_of_threads() + self._awaited_threads()
        # What no task started was started by a thread, perhaps, that waits for it.
        return threads > sum(place.path[:1] == (_FOREIGN,) for place in self._held) if threads else False

    def _left(self) -> float:
        return 1.0 if self._is_closing else min(max(self._deadline - time.monotonic(), 0), _LONGEST)

    def _has_io(self) -> bool:
        return len(self._rests.get_map()) > self._internal_fds

    def _is_pending(self) -> bool:
        """Whether anything could still come, for all that one knows."""
        if self._is_closing:
            return False
        if self._has_io() or self._executing or self._futures_of_threads() or getattr(self, "_signal_handlers", None):
            return True
        return not is_alone() and bool(busy_threads() or self._awaited_threads())

    def _is_in_doubt(self) -> bool:
        """Whether something has come after all; only asked where other threads live."""
        if self._is_closing or is_alone():
            return False
        self._really_wait(_DOUBT)
        return bool(self._ready or self._is_pending())

    def _awaited_threads(self) -> int:
        """How many tasks wait for a worker thread of anyio's."""
        if is_alone():
            return 0
        return sum(
            awaits_thread(awaited_frames(task.get_coro()))
            for task in self.created
            if not task.done() and task.place not in self._held
        )

    def _futures_of_threads(self) -> int:
        """How many tasks wait for a future of `concurrent.futures`, which some other thread is to settle."""
        return sum(not task.done() and _is_chained(getattr(task, "_fut_waiter", None)) for task in self.created)

    # threads and signals come in through a pipe, which most runs do without

    def _make_self_pipe(self) -> None:
        self._ssock = self._csock = None

    def _make_real_self_pipe(self) -> None:
        if self._csock is None:
            self._ssock, writer = socket.socketpair()
            self._ssock.setblocking(False)
            writer.setblocking(False)
            self._internal_fds += 1
            self._add_reader(self._ssock.fileno(), self._read_from_self)
            self._csock = writer

    def _close_self_pipe(self) -> None:
        if self._csock is not None:
            super()._close_self_pipe()  # type: ignore[misc]

    def _write_to_self(self) -> None:
        if self._csock is not None:
            super()._write_to_self()  # type: ignore[misc]

    @passes_on
    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:  # type: ignore[override]
        self._make_real_self_pipe()
        super().add_signal_handler(sig, callback, *args)

    @passes_on
    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        if executor is None or isinstance(executor, ThreadPoolExecutor):
            func = self._belonging(self.current()).around(func)
        future = super().run_in_executor(executor, func, *args)
        self._executing += 1
        future.add_done_callback(self._has_executed)
        return future

    def _has_executed(self, future: object) -> None:
        self._executing -= 1

    # the end

    @passes_on
    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.get_exception_handler() is not None:  # the scenario's own
            super().call_exception_handler(context)
        elif not self._is_closing:
            self.unhandled.append(context)

    def standing(self) -> list[Standing]:
        """Where each task stands that has not ended."""
        return [
            Standing(self.place_of(task), id(task), awaited_frames(task.get_coro()), getattr(task, "_fut_waiter", None))
            for task in self.created
            if not task.done()
        ]

    def settle(self) -> None:
        """Run what is ready, until the loop is at rest; no time passes, and nobody who is held goes on."""
        self._is_settling = True
        self._rounds = 0
        try:
            self.run_forever()
        finally:
            self._is_settling = False

    def unfinished(self) -> list[Any]:
        return [task for task in self.created if not task.done()]

    def close_down(self) -> None:
        """End whatever still runs, and close."""
        self._is_closing = True
        self._deadline = time.monotonic() + _GRACE
        self._execution.watched.extend(self._deadline)
        try:
            self._end_tasks()
            self._end_generators()
        finally:
            if self._default_executor is not None:
                self._default_executor.shutdown(wait=not self._executing)
            self.close()
            self.created.clear()

    def _end_tasks(self) -> None:
        try:
            self._cancel_all()
            if self._ready:  # what closes only now, such as a transport
                self.settle()
        except (_Halt, Stuck):  # some take no cancelling
            pass

    def _end_generators(self) -> None:
        """Close those that were left in the middle, and be silent about tasks that were."""
        if self._asyncgens:
            self._deadline = time.monotonic() + _GRACE
            self._execution.watched.extend(self._deadline)
            try:
                closing = self._create(self._foreign, self.shutdown_asyncgens(), name=None, context=None)
                closing.add_done_callback(self._stop_after)
                self.run_forever()
            except (_Halt, Stuck):
                pass
        for task in self.created:
            if not task.done():
                task._log_destroy_pending = False
            elif not task.cancelled() and task._log_traceback:
                task._log_traceback = False

    def _stop_after(self, task: object) -> None:
        self.stop()

    def _cancel_all(self) -> None:
        for _ in range(3):
            alive = self.unfinished()
            for task in alive:
                task.cancel()
            if alive:
                self.run_forever()

    def places(self) -> list[Place]:
        """All tasks, by the names that they were given last."""
        for task in self.created:
            task.place.name = task_name(task.get_name(), task.place.name)
        return [task.place for task in self.created]


def _is_chained(waiter: Any) -> bool:
    callbacks = getattr(waiter, "_callbacks", None) or ()
    return any(getattr(callback, "__qualname__", "").startswith("_chain_future.") for callback, _ in callbacks)


def _name_of(handle: Any) -> str:
    callback = handle._callback
    return getattr(callback, "__name__", "") or type(callback).__name__


def run(
    execution: Execution,
    main: Coroutine[Any, Any, Any],
    deadline: float,
    *,
    is_virtual: bool,
) -> Problem | None:
    """Run a scenario once on a loop of its own."""
    loop = _Loop(execution, deadline, is_virtual=is_virtual)
    execution.world = loop
    try:
        return _run_main(loop, main)
    finally:
        execution.active = False
        if execution.recorder is not None:
            execution.recorder.finish(loop.places())
        loop.close_down()
        del execution.world  # which knows the execution: no work for the garbage collector


def _run_main(loop: _Loop, main: Coroutine[Any, Any, Any]) -> Problem | None:
    root = loop.create_root(main)
    try:
        loop.run_until_complete(root)
    except _Halt as halt:
        return halt.problem
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Problem("error", "", error)
    return _unhandled(loop) or (_leaked(loop) if loop.unfinished() else None)


def _unhandled(loop: _Loop) -> Problem | None:
    for task in loop.created:
        if task.done() and not task.cancelled() and task._log_traceback:
            name = task_name(task.get_name(), task.place.name)
            return Problem("unhandled", f"task {name} failed, and nobody awaited it", task.exception())
    for context in loop.unhandled:
        return Problem("unhandled", str(context.get("message")), cast(Any, context.get("exception")))
    return None


def _leaked(loop: _Loop) -> Problem | None:
    try:
        loop.settle()
    except _Halt:  # it had no time left
        pass
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Problem("error", "", error)
    problem = _unhandled(loop)
    if problem is not None or not loop.unfinished():
        return problem
    return blocked_problem("leak", loop.standing())
