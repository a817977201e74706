"""The same jobs in rq, whose workers fork a process for each job."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import anyio
from redis import Redis
from redis.exceptions import ConnectionError as NotYet
from rq import Queue, Retry
from rq.job import Job

from .billing import bill
from .jobs import ATTEMPTS, POLL, ROOT, WORKERS
from .jobs import Job as Order

TIME_TO_START = 10.0  # seconds


async def carry_out(
    version: str, folder: Path, jobs: list[Order], environment: Mapping[str, str]
) -> tuple[list[int], int]:
    """Carry out jobs in workers of rq, and return the orders of those that were finished, and all attempts."""
    socket = folder / "redis.sock"
    server = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)]
    worker = [sys.executable, "-m", "rq.cli", "worker", "--burst", "--logging_level", "CRITICAL"]
    worker += ["--url", f"unix://{socket}"]

    async def run_worker() -> None:
        await anyio.run_process(worker, cwd=ROOT, env=environment, stdout=None, stderr=None)

    process = await anyio.open_process(server, stdout=subprocess.DEVNULL)
    try:
        with Redis(unix_socket_path=str(socket)) as connection:
            await _wait_for(connection)
            queue = Queue(connection=connection)
            retry = Retry(max=ATTEMPTS - 1)
            sent = {job.order: queue.enqueue(bill, version, str(folder), *job, retry=retry) for job in jobs}
            async with anyio.create_task_group() as tasks:
                for _ in range(WORKERS):
                    tasks.start_soon(run_worker)
            done = {order: Job.fetch(job.id, connection) for order, job in sent.items()}
            finished = [order for order, job in done.items() if job.is_finished]
            return finished, sum(ATTEMPTS - (job.retries_left or 0) for job in done.values())
    finally:
        process.kill()
        with anyio.CancelScope(shield=True):
            await process.wait()


async def _wait_for(connection: Redis) -> None:
    with anyio.fail_after(TIME_TO_START):
        while True:
            try:
                connection.ping()
                return
            except NotYet:
                await anyio.sleep(POLL)
