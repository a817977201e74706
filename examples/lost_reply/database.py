"""SQLite without blocking the event loop."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import anyio.to_thread

T = TypeVar("T")


class Database:
    """A database file. Every call is one transaction, on a worker thread."""

    def __init__(self, path: Path, schema: str) -> None:
        self._path = path
        self._schema = schema

    async def create(self) -> None:
        """Create the tables."""
        await self.run(lambda connection: connection.execute(self._schema))

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run *work* in a transaction, which is committed if it returns and rolled back if it raises."""
        return await anyio.to_thread.run_sync(self._run, work)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        # Each call may run on another thread, and a connection must stay on its own.
        with closing(sqlite3.connect(self._path)) as connection, connection:
            return work(connection)
