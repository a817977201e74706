"""Fleets of the processes of real servers: their workers, and the processes of their reloaders."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import pytest

from failpoints.fleet import Fleet
from tests.fleet.running import LIMIT, Client, free_port, pid_of, running
from tests.fleet.waits import joined

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such fleets"),
]

GUNICORN = "-m gunicorn --workers 4 --bind 127.0.0.1:{port}"
UVICORN = "-m uvicorn --log-level warning --port {port}"

WORKERS = {  # the command, and how many members of the fleet are not workers
    "gunicorn": (f"{GUNICORN} shop:wsgi", 0),
    "gunicorn --preload --threads": (f"{GUNICORN} --preload --threads 2 shop:wsgi", 1),
    "uvicorn --workers": (f"{UVICORN} --workers 4 shop:asgi", 0),
}
RELOADERS = {
    "uvicorn --reload": (f"{UVICORN} --reload shop:asgi", 0),
    "flask run --debug": ("-m flask --app flask_shop run --debug --port {port}", 1),
    "django runserver": ("django_shop.py runserver {port}", 1),
}


@pytest.fixture
def anyio_backend() -> str:
    """Run on one event loop: these tests are about the members."""
    return "asyncio"


@pytest.mark.parametrize("server", WORKERS)
async def test_the_workers_of_a_server(server: str, tmp_path: Path) -> None:
    """Four workers count together. One that is replaced, and all that are started by SIGHUP, go on where they were."""
    pytest.importorskip(server.partition(" ")[0])
    command, others = WORKERS[server]
    port = free_port()
    with running(tmp_path, *command.format(port=port).split()) as program:
        async with Fleet(program.fleet) as fleet, Client(port) as client:
            before = await joined(fleet, 4 + others)
            assert (program.process.pid in map(pid_of, before)) == bool(others)
            await fleet.configure_all([("order", "3*return(7)->off"), ("die", "1*exit(9)")])
            values = await client.get_many("/order", 60)
            assert (len(values), values.count("7")) == (60, 3)
            status = await fleet.status("order")
            assert (status.hits, status.triggers) == (60, 60)
            assert sum(each.hits for each in status.members.values()) == 60

            with pytest.raises(httpx.TransportError):
                await client.get("/die")
            with anyio.fail_after(LIMIT):
                while not (new := frozenset(await fleet.members()) - before):
                    await anyio.sleep(0.02)
                (member,) = new
                while (answer := await client.get("/order"))["pid"] != pid_of(member):
                    assert answer["value"] is None
            assert answer["value"] is None, "it does not begin again"
            assert (await fleet.status("order")).members[member].hits == 1
            await client.get("/die")
            status = await fleet.status("die")
            assert (status.hits, status.triggers) == (2, 1)

            hits = (await fleet.status("order")).hits
            before = await joined(fleet, 4 + others)
            program.process.send_signal(signal.SIGHUP)
            with anyio.fail_after(LIMIT):
                while len((now := frozenset(await fleet.members())) & before) > others or len(now) != 4 + others:
                    await anyio.sleep(0.02)
            assert (await client.get_once_it_listens("/order"))["value"] is None
            assert (await fleet.status("order")).hits == hits + 1


async def test_a_worker_whose_exit_status_ends_gunicorn(tmp_path: Path) -> None:
    """A worker that exits with 3 has failed to boot, for gunicorn, which ends."""
    pytest.importorskip("gunicorn")
    port = free_port()
    with running(tmp_path, *f"{GUNICORN} shop:wsgi".format(port=port).split()) as program:
        async with Fleet(program.fleet) as fleet, Client(port) as client:
            await joined(fleet, 4)
            await fleet.configure("die", "1*exit(3)")
            with pytest.raises(httpx.TransportError):
                await client.get("/die")
            assert await anyio.to_thread.run_sync(program.process.wait, LIMIT) == 3


@pytest.mark.parametrize("server", RELOADERS)
async def test_a_server_that_reloads(server: str, tmp_path: Path) -> None:
    """After a reload the new process has what is configured, and the counts go on. The reloader is never hit."""
    pytest.importorskip(server.partition(" ")[0])
    command, others = RELOADERS[server]
    port = free_port()
    with running(tmp_path, *command.format(port=port).split()) as program:
        async with Fleet(program.fleet) as fleet, Client(port) as client:
            await fleet.configure("order", "2*return(7)->return(8)")
            answer = await client.get_once_it_listens("/order")
            assert (answer["value"], answer["version"]) == ("7", 1)
            before = await joined(fleet, 1 + others)
            await fleet.configure("other", "return(9)")  # all have acknowledged it
            assert (await client.get("/other"))["value"] == "9"

            source = program.folder / "shop.py"
            source.write_text(source.read_text().replace("VERSION = 1", "VERSION = 2"))
            changes, due = itertools.count(2_000_000_000), 0.0  # also where the clock has whole seconds
            with anyio.fail_after(LIMIT):
                while (answer := await client.get_once_it_listens("/other"))["version"] == 1:
                    if anyio.current_time() >= due:  # again, since a reloader that begins sees no change
                        os.utime(source, (0, next(changes)))
                        due = anyio.current_time() + 5
                    await anyio.sleep(0.02)
            assert answer["value"] == "9"
            assert [(await client.get("/order"))["value"] for _ in range(2)] == ["7", "8"]
            status = await fleet.status("order")
            assert (status.hits, status.triggers) == (3, 3)
            after = await joined(fleet, 1 + others)
            assert {pid_of(member): each.hits for member, each in status.members.items() if each.hits} == {
                answer["pid"]: 2
            }
            assert len(before & after) == others
            assert (program.process.pid in map(pid_of, after)) == bool(others)
