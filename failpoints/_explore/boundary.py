"""The end of an injected cancellation: `run.injecting()`, unless the program takes it before."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from .._core.actions import Cancel, steps
from .execution import Execution


def cancellation_boundary(execution: Execution) -> AbstractContextManager[object]:
    """Return a context manager that an injected cancellation of the running task does not leave."""
    trio: Any = sys.modules.get("trio")
    boundary: AbstractContextManager[object] = TaskBoundary(execution)
    if trio is not None and trio.lowlevel.in_trio_task():
        boundary = trio.CancelScope()
    return boundary


class TaskBoundary:
    """Takes a cancellation of an asyncio task, which has no scopes, and the mark that it leaves on the task."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._requests = 0

    def __enter__(self) -> None:
        self._requests = _current_task().cancelling()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(error, asyncio.CancelledError) or not self._has_injected():
            return False
        self._take_mark()
        return True

    def is_pending(self) -> bool:
        """Return whether the program has put the cancellation off: `TaskGroup` does if it raises another error."""
        return self._has_injected() and _current_task().cancelling() > self._requests

    async def take(self) -> None:
        """Take a cancellation that was put off."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pass
        self._take_mark()

    def _has_injected(self) -> bool:
        execution = self._execution
        if not execution.active:  # the run itself ends the task
            return False
        return any(isinstance(steps(fault.action)[-1], Cancel) for fault in execution.injected)

    def _take_mark(self) -> None:
        task = _current_task()
        while task.cancelling() > self._requests:
            task.uncancel()


def _current_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None, "a scenario runs in a task"
    return task
