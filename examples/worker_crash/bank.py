"""The bank, which takes the money. It has a database of its own, so no transaction includes it and the queue."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from failpoints import failpoint

SCHEMA = """
    CREATE TABLE charges (
        id INTEGER PRIMARY KEY, order_number INTEGER NOT NULL, amount INTEGER NOT NULL, key TEXT UNIQUE
    )
"""  # several charges can have no key, because NULLs are not equal in SQL


class Bank:
    """Charges for orders."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self) -> None:
        """Create the table."""
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.execute(SCHEMA)

    @failpoint("bank.charge", context=["order", "key"], raises=(TimeoutError,))
    def charge(self, order: int, amount: int, key: str | None) -> None:
        """Take *amount* cents for an order. If *key* was used before, do nothing."""
        insert = "INSERT INTO charges (order_number, amount, key) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING"
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.execute(insert, (order, amount, key))

    def charges(self) -> list[tuple[int, int]]:
        """Return the order and the amount of each charge, the oldest first."""
        with closing(sqlite3.connect(self._path)) as connection:
            return connection.execute("SELECT order_number, amount FROM charges ORDER BY id").fetchall()
