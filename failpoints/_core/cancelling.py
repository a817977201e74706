"""Cancelling the running task, as something outside the program's code would."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import anyio

from ..errors import FailpointUsageError


async def cancel_task(name: str) -> NoReturn:
    """Cancel the running task on behalf of the failpoint *name*, and let the cancellation arrive here.

    On asyncio the task is cancelled natively. It stays marked as cancelled until it calls `uncancel()`, as after any
    other `Task.cancel()`, so that timeouts and task groups around it do not take the cancellation for their own. On
    trio the innermost cancel scope is cancelled. Raises `FailpointUsageError` if there is nothing to cancel.
    """
    reason = f"failpoint {name!r}"
    if _runs_trio():
        _innermost_scope(name).cancel(reason=reason)
    else:
        _asyncio_task(name).cancel(reason)
    await anyio.lowlevel.checkpoint()
    raise FailpointUsageError(f"failpoint {name!r} cannot cancel: the task refused", code="FP025")


def _runs_trio() -> bool:
    try:
        return hasattr(anyio.lowlevel.current_token().native_token, "run_sync_soon")
    except RuntimeError:  # anyio knows no event loop here
        return False


def _asyncio_task(name: str) -> Any:
    try:
        task = sys.modules["asyncio"].current_task()
    except RuntimeError:  # there is no loop
        task = None
    if task is None:
        raise FailpointUsageError(
            f"failpoint {name!r} cannot cancel: no task of an event loop runs its code", code="FP025"
        )
    return task


def _innermost_scope(name: str) -> Any:
    trio = sys.modules["trio.lowlevel"]
    task = trio.current_task()
    scope = task._cancel_status._scope  # noqa: SLF001 - trio has no public way to the scope
    nursery = task.parent_nursery
    # The main task and trio's own tasks are in nurseries of the run, which are not the program's to cancel.
    if nursery is None or (nursery.parent_task is trio.current_root_task() and scope is nursery.cancel_scope):
        raise FailpointUsageError(
            f"failpoint {name!r} cannot cancel: no cancel scope is around it, in the main task of the trio run; run the"
            " code in a nursery, or in a CancelScope",
            code="FP025",
        )
    return scope
