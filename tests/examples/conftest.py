"""A payment service for the tests of the shop."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from examples.lost_reply.gateway import Ledger, running_gateway


@pytest.fixture(scope="module")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Ledger, Path]]:
    """Run one payment service for the tests of a module, since starting and stopping a server takes time.

    Its thread must end with the module. An exploration in the same process would wait for it, and call a deadlock a
    hang.
    """
    file = tmp_path_factory.mktemp("gateway") / "charges.sqlite"
    ledger = Ledger(file)
    with start_blocking_portal() as portal:
        portal.call(ledger.create)
        with portal.wrap_async_context_manager(running_gateway(ledger)) as url:
            yield url, ledger, file


@pytest.fixture
def service(shared_service: tuple[str, Ledger, Path]) -> tuple[str, Ledger]:
    """Return the URL and the ledger of a payment service that has no charges yet."""
    url, ledger, file = shared_service
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DELETE FROM charges")
    return url, ledger
