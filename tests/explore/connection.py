"""A connection that answers from a thread, for the tests of waiting."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from typing import Any

import anyio.from_thread
import anyio.lowlevel
import trio

WAIT = 0.15  # seconds that a thread or a process takes: longer than a run, much shorter than its time limit


class Connection:
    """A connection with a queue and a worker thread, such as that of a database, which answers through the loop."""

    def __init__(self) -> None:
        self._requests: Any = queue.SimpleQueue()
        self._token = anyio.lowlevel.current_token()
        self._thread = threading.Thread(target=self._work, name="connection")

    def __enter__(self) -> Connection:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._requests.put(None)
        self._thread.join(10)

    def _work(self) -> None:
        while (request := self._requests.get()) is not None:
            seconds, answer = request
            time.sleep(seconds)
            anyio.from_thread.run_sync(answer, token=self._token)

    async def ask(self, backend: str, seconds: float) -> None:
        if backend == "asyncio":
            future = asyncio.get_running_loop().create_future()
            self._requests.put((seconds, lambda: future.set_result(None)))
            await future
        else:
            task = trio.lowlevel.current_task()
            self._requests.put((seconds, lambda: trio.lowlevel.reschedule(task)))
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
