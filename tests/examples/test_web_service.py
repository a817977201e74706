"""The example web service in a process of its own, paused, watched, broken and resumed from the tests."""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from failpoints import FailpointTimeout, FailpointUsageError, format_actions
from failpoints.client import FailpointsClient

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
LIMIT = 30  # seconds to wait for things that normally take one or two
SESSION = re.compile(r"<!-- web service -->\n+```sh\n(.*?)```.*?```text\n(.*?)```", re.DOTALL)


def free_ports(number: int) -> list[int]:
    """Return ports that are not in use."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [listener.getsockname()[1] for listener in listeners]


def environment(**variables: str) -> dict[str, str]:
    """Return an environment whose only failpoints variables are the given ones."""
    others = re.compile("failpoints|.*_proxy$", re.IGNORECASE)
    kept = {name: value for name, value in os.environ.items() if not others.match(name)}
    scripts = str(Path(sys.executable).parent)
    return kept | {"PYTHONPATH": str(ROOT), "PATH": f"{scripts}{os.pathsep}{kept['PATH']}", **variables}


class Process:
    """A process whose output can be waited for, line by line."""

    def __init__(self, *command: str, folder: Path, **variables: str) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(**variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            bufsize=1,
            start_new_session=True,
        )
        self.printed: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def send_line(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def wait_for(self, text: str) -> str:
        """Wait for the next line that contains the text."""
        while (line := self._lines.get(timeout=LIMIT)) is not None:
            self.printed.append(line)
            if text in line:
                return line
        raise AssertionError(f"the process ended without printing {text!r}:\n" + "\n".join(self.printed))

    def ended(self) -> int:
        """Wait until the process ends, and return its exit status."""
        return self._process.wait(LIMIT)

    def end(self) -> None:
        """Kill the process and its children."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait(LIMIT)
        self._reader.join(LIMIT)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


@dataclass
class BoxOffice:
    """A running service: how to book seats, and a client for its failpoints."""

    process: Process
    http: httpx.AsyncClient
    failpoints: FailpointsClient

    async def book(self, customer: str) -> tuple[int, Any]:
        response = await self.http.post(f"/bookings/{customer}")
        return response.status_code, response.json()

    async def tickets(self) -> list[tuple[int, str]]:
        return [(ticket["seat"], ticket["customer"]) for ticket in (await self.http.get("/tickets")).json()]


class Service(Process):
    """The service, with its port and that of its control plane."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.control_port = free_ports(2)
        command = [sys.executable, "-m", "uvicorn", "examples.web_service.app:app", "--port", str(self.port)]
        super().__init__(*command, folder=folder, FAILPOINTS_HTTP=f"127.0.0.1:{self.control_port}")

    @asynccontextmanager
    async def clients(self) -> AsyncIterator[BoxOffice]:
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=LIMIT, trust_env=False) as http,
            FailpointsClient(f"http://127.0.0.1:{self.control_port}") as client,
        ):
            yield BoxOffice(self, http, client)


@asynccontextmanager
async def open_box_office(folder: Path) -> AsyncIterator[BoxOffice]:
    """Run the service in a folder for the length of the block."""
    service = Service(folder)
    try:
        await anyio.to_thread.run_sync(service.wait_for, "Uvicorn running on")
        async with service.clients() as office:
            yield office
    finally:
        service.end()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run the service once for all tests that do not end it."""
    service = Service(tmp_path_factory.mktemp("service"))
    try:
        service.wait_for("Uvicorn running on")
        yield service
    finally:
        service.end()


@pytest.fixture
async def office(service: Service) -> AsyncIterator[BoxOffice]:
    """Give a test the shared service, with all seats free and nothing configured."""
    with closing(sqlite3.connect(service.folder / "bookings.sqlite")) as connection, connection:
        connection.executescript("DELETE FROM tickets; UPDATE seats SET customer = NULL")
    async with service.clients() as office:
        assert await office.failpoints.statuses() == []
        yield office


async def test_with_nothing_configured(tmp_path: Path) -> None:
    """Each customer gets a different seat until the theatre is full. A restart changes nothing."""
    async with open_box_office(tmp_path) as office:
        assert await office.failpoints.statuses() == []
        assert [await office.book(name) for name in ("Ada", "Grace")] == [(201, {"seat": 1}), (201, {"seat": 2})]
    async with open_box_office(tmp_path) as office:
        assert await office.book("Barbara") == (201, {"seat": 3})
        assert await office.book("Edsger") == (409, {"error": "sold out"})
        assert await office.tickets() == [(1, "Ada"), (2, "Grace"), (3, "Barbara")]


async def test_two_customers_get_the_same_seat(office: BoxOffice) -> None:
    """A customer who is overtaken between looking and reserving gets a seat that is already sold: the bug."""
    answers: dict[str, tuple[int, Any]] = {}

    async def book(office: BoxOffice, customer: str) -> None:
        answers[customer] = await office.book(customer)

    async with (
        anyio.create_task_group() as tasks,
        office.failpoints.configured("bookings.reserve", "pause", context={"customer": "Ada"}) as reserve,
    ):
        tasks.start_soon(book, office, "Ada")
        await reserve.wait_paused(timeout=LIMIT)  # Ada has seen that seat 1 is free

        status = await reserve.status()
        assert format_actions(status.actions) == "pause"
        assert [dict(waiting.context) for waiting in status.waiting] == [{"customer": "Ada", "seat": 1}]
        assert re.fullmatch(r"examples/web_service/app\.py:\d+", status.sites[0])

        await book(office, "Grace")  # Grace has seen it too, and takes it
        assert answers == {"Grace": (201, {"seat": 1})}
        assert (await reserve.status()).last_mismatch == "customer='Grace' does not match 'Ada'"

        assert await reserve.resume() == 1  # now Ada takes it as well
    assert answers["Ada"] == (201, {"seat": 1})
    assert await office.tickets() == [(1, "Grace"), (1, "Ada")]


async def test_a_pause_between_the_two_writes(office: BoxOffice) -> None:
    """A reserved seat is not given to another customer, even before its ticket is issued."""
    async with (
        anyio.create_task_group() as tasks,
        office.failpoints.configured("bookings.confirm", "1*pause") as confirm,
    ):
        tasks.start_soon(office.book, "Ada")
        await confirm.wait_paused(timeout=LIMIT)
        assert await office.tickets() == []
        assert await office.book("Grace") == (201, {"seat": 2})
        with pytest.raises(FailpointTimeout, match=r"(?s)hits 2, misses 0, triggers 1.*'customer': 'Ada'"):
            await confirm.wait_paused(2, timeout=0)
    assert await office.tickets() == [(2, "Grace"), (1, "Ada")]


async def test_a_crash_between_the_two_writes(tmp_path: Path) -> None:
    """A seat without a ticket that was reserved when the process ended is free again after a restart."""
    async with open_box_office(tmp_path) as office:
        assert await office.book("Grace") == (201, {"seat": 1})
        async with office.failpoints.configured("bookings.confirm", "exit(3)"):
            with pytest.raises(httpx.RemoteProtocolError):
                await office.book("Ada")
            assert await anyio.to_thread.run_sync(office.process.ended) == 3
        with pytest.raises(FailpointUsageError, match="cannot connect"):
            await office.failpoints.statuses()
    async with open_box_office(tmp_path) as office:
        assert await office.failpoints.statuses() == []
        assert await office.tickets() == [(1, "Grace")]
        assert await office.book("Ada") == (201, {"seat": 2})


async def test_a_lost_reply(office: BoxOffice) -> None:
    """A customer who is asked to try again although the ticket was issued gets two tickets: the bug."""
    actions = "1*raise(TimeoutError)"
    async with office.failpoints.configured("bookings.confirm:after", actions) as reply:
        assert await office.book("Ada") == (503, {"error": "try again"})
        assert await office.book("Ada") == (201, {"seat": 2})
        status = await reply.status()
        assert (status.hits, status.triggers) == (2, 1)
    assert await office.tickets() == [(1, "Ada"), (2, "Ada")]


async def test_removal_during_a_pause(office: BoxOffice) -> None:
    """Leaving the block of a failpoint releases the requests that are paused there, and they complete."""
    async with anyio.create_task_group() as tasks:
        async with office.failpoints.configured("bookings.reserve", "pause") as reserve:
            tasks.start_soon(partial(office.book, "Ada"))
            tasks.start_soon(partial(office.book, "Ada"))
            await reserve.wait_paused(2, timeout=LIMIT)
            assert await office.tickets() == []
        async with office.failpoints.configured("bookings.confirm:after", "off") as confirmed:
            assert await office.book("Grace") in [(201, {"seat": 1}), (201, {"seat": 2})]
            await confirmed.wait_hit(timeout=LIMIT)


# by hand


def shown_by_the_page() -> tuple[list[str], list[str]]:
    """Return the commands that the page shows, and the output that it shows for them."""
    found = SESSION.search((ROOT / "docs" / "control-plane.md").read_text(encoding="utf-8"))
    assert found, "docs/control-plane.md shows no commands below <!-- web service -->"
    return found[1].splitlines(), found[2].splitlines()


@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="there is no bash or no curl")
def test_the_commands_of_the_page(tmp_path: Path) -> None:
    """The commands of docs/control-plane.md, with other ports, sell one seat twice and print what it shows."""
    commands, printed = shown_by_the_page()
    port, control_port = map(str, free_ports(2))
    shell = Process("bash", "--norc", folder=tmp_path, FAILPOINTS_URL=f"http://127.0.0.1:{control_port}")
    try:
        for command in commands:
            assert re.search(r"\b(8000|22381)\b", command) or "127.0.0.1" not in command
            shell.send_line(command.replace("8000", port).replace("22381", control_port))
            if command.startswith("FAILPOINTS_HTTP="):
                shell.wait_for("Uvicorn running on")
        shell.send_line("wait; echo; echo done with everything")
        shell.wait_for("done with everything")
    finally:
        shell.end()
    output = sorted(map(in_any_run, shell.printed))
    assert [line for line in sorted(map(in_any_run, printed)) if line not in output] == []
    assert output.count('{"seat":1}') == 2
    assert not (tmp_path / "bookings.sqlite").exists()


def in_any_run(line: str) -> str:
    """Replace the parts of a line that differ from run to run."""
    return re.sub(r"Task-\d+ for [\d.]+ m?s", "Task-… for … s", line)
