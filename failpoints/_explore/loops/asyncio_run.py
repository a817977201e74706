"""One run of a scenario on asyncio: from the event loop's creation until everything on it has ended."""

from __future__ import annotations

import inspect
from collections.abc import Coroutine
from typing import Any, cast

from ..execution import Execution
from ..plan.identity import task_name
from ..problem import Problem
from ..watchdog import Stuck
from .abandon import keep_forever
from .asyncio_loop import ExplorationLoop, Halt, frame_of_anyio
from .asyncio_tasks import waiter_of
from .blocked import blocked_problem

_CANCELLATIONS = 3  # of each task, since one may swallow the first


def run(execution: Execution, main: Coroutine[Any, Any, Any], deadline: float, *, is_virtual: bool) -> Problem | None:
    """Run a scenario once, on an event loop of its own, and return what went wrong."""
    loop = ExplorationLoop(execution, deadline, is_virtual=is_virtual)
    execution.loop = loop
    try:
        return _run_scenario(loop, main)
    finally:
        execution.stop()
        if execution.recorder is not None:
            execution.recorder.finish([*loop.named_nodes(), *(loop.steering.threads if loop.steering else ())])
        if loop.steering is not None:
            loop.steering.unwind()
            execution.steering = None
        _close(loop)
        execution.seen = None
        del execution.loop  # which refers to the execution: no work for the garbage collector


def _run_scenario(loop: ExplorationLoop, main: Coroutine[Any, Any, Any]) -> Problem | None:
    root = loop.create_root(main)
    try:
        loop.run_until_complete(root)
        _settle_threads(loop)
    except Halt as halt:
        return halt.problem
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Problem("error", "", error)
    problem = _settled(loop) if loop.is_ready or loop.unfinished() else _unhandled_error(loop)
    return problem or _error_of_thread(loop)


def _settle_threads(loop: ExplorationLoop) -> None:
    """Let the threads go on until each has ended or waits, since the scenario has ended."""
    while loop.steering is not None and loop.steering.settle():
        if loop.is_ready:
            loop.settle()


def _error_of_thread(loop: ExplorationLoop) -> Problem | None:
    return None if loop.steering is None else loop.steering.problem_of_thread()


def _unhandled_error(loop: ExplorationLoop) -> Problem | None:
    for task in loop.created:
        if task._log_traceback:  # it has failed
            name = task_name(task.get_name(), task.node.name)
            return Problem("unhandled", f"task {name} failed, and its error was never retrieved", task.exception())
    for context in loop.unhandled:
        return Problem("unhandled", str(context.get("message")), cast(Any, context.get("exception")))
    return None


def _settled(loop: ExplorationLoop) -> Problem | None:
    """Let callbacks run that are ready, such as one that retrieves an error, and return what is wrong then."""
    try:
        loop.settle()
    except Halt:  # no time is left
        pass
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Problem("error", "", error)
    problem = _unhandled_error(loop)
    if problem is not None or not loop.unfinished():
        return problem
    return blocked_problem("leak", loop.unfinished_tasks())


def _close(loop: ExplorationLoop) -> None:
    """End every task that is still running, and close the loop."""
    loop.limit_closing()
    try:
        _end_tasks(loop)
        _end_async_generators(loop)
        _silence(loop)
    finally:
        loop.close()


def _end_tasks(loop: ExplorationLoop) -> None:
    try:
        for _ in range(_CANCELLATIONS):
            unfinished = loop.unfinished()
            if not unfinished:
                break
            for task in unfinished:
                _cancel(loop, task)
            loop.run_forever()
        if loop.is_ready:  # a transport, for example, closes only now
            loop.settle()
    except (Halt, Stuck):  # a task has swallowed its cancellation
        pass


def _cancel(loop: ExplorationLoop, task: Any) -> None:
    """Cancel a task, also one of several that wait for each other in a circle, which asyncio would go round."""
    frame = frame_of_anyio(task)
    for value in () if frame is None else frame.f_locals.values():  # the coroutine that it would await
        for coroutine in (value, getattr(value, "_coro", None)):
            if inspect.iscoroutine(coroutine):
                coroutine.close()
    try:
        task.cancel()
    except RecursionError:
        waiter: Any = waiter_of(task)
        for callback, context in cast(Any, tuple(waiter._callbacks or ())):
            if getattr(callback, "__self__", None) is task:  # it wakes the task
                waiter.remove_done_callback(callback)
                cancelled = loop.create_future()
                cancelled.cancel()
                loop.call_soon(callback, cancelled, context=context)


def _end_async_generators(loop: ExplorationLoop) -> None:
    """Close the async generators that were left unfinished."""
    if not loop.has_async_generators:
        return
    loop.limit_closing()
    try:
        closing = loop.create_foreign(loop.shutdown_asyncgens())

        def stop(closed: object) -> None:
            loop.stop()

        closing.add_done_callback(stop)
        loop.run_forever()
    except (Halt, Stuck):
        pass


def _silence(loop: ExplorationLoop) -> None:
    """Keep asyncio from logging errors that were not retrieved, and leave behind what has not ended."""
    for task in loop.created:
        if task._log_traceback:
            task._log_traceback = False
        elif not task.done():
            keep_forever(task)
