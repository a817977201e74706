"""The worker threads of anyio and trio: each call in one of them is a thread of a run, from the call to its answer."""

from __future__ import annotations

import sys
from queue import Queue, SimpleQueue
from typing import Any

from ..._core.reentrancy import transparent
from .beside import Beside
from .control import steering
from .locks import SimpleQueue as SteeredQueue
from .primitives import Patch, internal

_TRIO_ITSELF = ("trio._socket", "trio._subprocess")  # modules that call functions in a thread for their own ends


def patches() -> list[Patch]:
    """Return the modules and classes, what is replaced in them, and what takes its place."""
    made: list[Patch] = []
    anyio: Any = sys.modules.get("anyio._backends._asyncio")
    if anyio is not None:
        made.append((anyio, "Queue", _Calls))
    trio: Any = sys.modules.get("trio._threads")
    if trio is not None:
        token: Any = sys.modules["trio._core._entry_queue"].TrioToken
        made.append((trio, "start_thread_soon", _starting(trio.start_thread_soon)))
        made.append((trio, "_send_message_to_trio", _sending(trio._send_message_to_trio)))  # noqa: SLF001
        made.append((token, "run_sync_soon", _running_soon(token.run_sync_soon)))
    return made


def _beside() -> Beside | None:
    """Return the threads of the run, if the caller is on its event loop."""
    found = steering()
    return found if isinstance(found, Beside) and found.is_on_loop and not found.is_ending else None


class _Calls(Queue[Any]):
    """The queue of a worker thread of anyio."""

    def __init__(self, maxsize: int = 0) -> None:
        found = steering()
        if found is None:
            super().__init__(maxsize)
            return
        with internal(found):
            super().__init__(maxsize)

    def put_nowait(self, item: Any) -> None:
        found = _beside()
        if found is None:
            super().put_nowait(item)
        elif item is None:
            with internal(found):
                super().put_nowait(item)
        else:
            context, function, args, future, scope = item
            job = found.job(function)
            job.waiter = future
            with internal(found):
                super().put_nowait((context, job, args, future, scope))
            found.submit(job)


def _starting(original: Any) -> Any:
    @transparent
    def start_thread_soon(fn: Any, deliver: Any, name: str | None = None) -> None:
        found = _beside()
        if found is None or _is_for_trio():
            original(fn, deliver, name)
            return
        job = found.job(fn)
        job.waiter = sys.modules["trio"].lowlevel.current_task()

        def deliver_in_order(result: Any) -> None:
            try:
                deliver(result)
            finally:
                found.answered()

        with internal(found):
            original(job, deliver_in_order, name)
        found.submit(job)

    return start_thread_soon


def _is_for_trio() -> bool:
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage] # noqa: SLF001 - of to_thread.run_sync
    caller = frame.f_back
    return caller is not None and (caller.f_globals.get("__name__") or "").startswith(_TRIO_ITSELF)


def _sending(original: Any) -> Any:
    @transparent
    def send_message_to_trio(trio_token: Any, message: Any) -> Any:
        if steering() is not None and type(message.queue) is SimpleQueue:
            object.__setattr__(message, "queue", SteeredQueue())
        return original(trio_token, message)

    return send_message_to_trio


def _running_soon(original: Any) -> Any:
    @transparent
    def run_sync_soon(self: Any, *args: Any, **kwargs: Any) -> None:
        found = steering()
        if found is None:
            original(self, *args, **kwargs)
            return
        found.before(self)
        with internal(found):  # its lock has no points: a thread whose call has ended takes it, too, to answer
            original(self, *args, **kwargs)
        found.after()

    return run_sync_soon
