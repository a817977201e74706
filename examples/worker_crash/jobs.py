"""A queue of jobs in SQLite, and the worker processes that carry them out."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import anyio

from failpoints import failpoint

from .billing import bill

SCHEMA = """
    CREATE TABLE jobs (
        order_number INTEGER PRIMARY KEY, amount INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL DEFAULT 0, finished INTEGER NOT NULL DEFAULT 0
    )
"""

ROOT = Path(__file__).parents[2]
ATTEMPTS = 3
WORKERS = 2
TIME_TO_FINISH = 3.0  # seconds until a job comes back
POLL = 0.02  # seconds


class Job(NamedTuple):
    """A job for an order, and its amount in cents."""

    order: int
    amount: int


class Queue:
    """Jobs that wait, that a worker has taken, or that are finished."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self, jobs: list[Job]) -> None:
        """Create the table, with these jobs."""
        with closing(self._connect()) as connection, connection:
            connection.execute(SCHEMA)
            connection.executemany("INSERT INTO jobs (order_number, amount) VALUES (?, ?)", jobs)

    @failpoint("queue.take")
    def take(self) -> Job | None:
        """Wait for a job that is due, and hide it from the other workers for a while. Return `None` if all are over."""
        take = """
            UPDATE jobs SET attempts = attempts + 1, due = ? WHERE order_number = (
                SELECT order_number FROM jobs WHERE NOT finished AND due <= ? AND attempts < ? ORDER BY due LIMIT 1
            ) RETURNING order_number, amount
        """
        left = "SELECT count(*) FROM jobs WHERE NOT finished AND NOT (attempts >= ? AND due <= ?)"
        while True:
            now = time.time()
            with closing(self._connect()) as connection, connection:
                for job in connection.execute(take, (now + TIME_TO_FINISH, now, ATTEMPTS)).fetchall():
                    return Job(*job)
                if connection.execute(left, (ATTEMPTS, now)).fetchone() == (0,):
                    return None
            time.sleep(POLL)

    @failpoint("queue.finish", context=["job"])
    def finish(self, job: Job) -> None:
        """Note that a job need not come back."""
        with closing(self._connect()) as connection, connection:
            connection.execute("UPDATE jobs SET finished = 1 WHERE order_number = ?", (job.order,))

    def attempts(self) -> int:
        """Return how often a job was taken."""
        with closing(self._connect()) as connection:
            return int(connection.execute("SELECT sum(attempts) FROM jobs").fetchone()[0])

    def finished(self) -> list[int]:
        """Return the orders whose jobs are finished."""
        with closing(self._connect()) as connection:
            return [order for (order,) in connection.execute("SELECT order_number FROM jobs WHERE finished")]

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=30)


def work(version: str, folder: str) -> None:
    """Carry out jobs until all are over: the program of a worker process."""
    queue = Queue(Path(folder, "jobs.sqlite"))
    while job := queue.take():
        try:
            bill(version, folder, *job)
        except Exception as error:  # the job comes back
            print(f"order {job.order}: {type(error).__name__}: {error}", file=sys.stderr)
        else:
            queue.finish(job)


async def carry_out(
    version: str, folder: Path, jobs: list[Job], environment: Mapping[str, str]
) -> tuple[list[int], int]:
    """Carry out jobs in worker processes, and return the orders of those that were finished, and all attempts."""
    queue = Queue(folder / "jobs.sqlite")
    queue.create(jobs)
    starts_left = WORKERS + ATTEMPTS * len(jobs)  # a worker that cannot even start is not started endlessly

    async def keep_one_running() -> None:
        nonlocal starts_left
        status = 1
        while status and starts_left:
            starts_left -= 1
            command = [sys.executable, "-m", __name__, version, str(folder)]
            done = await anyio.run_process(command, cwd=ROOT, env=environment, stdout=None, stderr=None, check=False)
            status = done.returncode

    async with anyio.create_task_group() as tasks:
        for _ in range(WORKERS):
            tasks.start_soon(keep_one_running)
    return queue.finished(), queue.attempts()


if __name__ == "__main__":
    work(*sys.argv[1:])
