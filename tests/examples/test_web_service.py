"""The box office, a process of its own: paused, watched, broken and resumed from here."""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
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
LIMIT = 30  # seconds, for what takes one or two
SESSION = re.compile(r"<!-- web service -->\n+```sh\n(.*?)```.*?```text\n(.*?)```", re.DOTALL)


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens at."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [listener.getsockname()[1] for listener in listeners]


def environment(**variables: str) -> dict[str, str]:
    """The environment of a process that has these variables of the library's, and no others."""
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
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def wait_for(self, text: str) -> str:
        """The first line from now on that holds the text."""
        while (line := self._lines.get(timeout=LIMIT)) is not None:
            self.said.append(line)
            if text in line:
                return line
        raise AssertionError(f"it ended without saying {text!r}:\n" + "\n".join(self.said))

    def ended(self) -> int:
        """The exit status, once it has ended of itself."""
        return self._process.wait(LIMIT)

    def end(self) -> None:
        """End it, and whatever it has started."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError):  # there is nobody left
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait(LIMIT)
        self._reader.join(LIMIT)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


@dataclass
class BoxOffice:
    """The service that runs, how to book there, and how to steer its failpoints."""

    process: Process
    http: httpx.AsyncClient
    failpoints: FailpointsClient

    async def book(self, customer: str) -> tuple[int, Any]:
        response = await self.http.post(f"/bookings/{customer}")
        return response.status_code, response.json()

    async def tickets(self) -> list[tuple[int, str]]:
        return [(ticket["seat"], ticket["customer"]) for ticket in (await self.http.get("/tickets")).json()]


@asynccontextmanager
async def open_box_office(folder: Path) -> AsyncIterator[BoxOffice]:
    """Run the service in that folder, as long as the block."""
    port, steering = free_ports(2)
    command = [sys.executable, "-m", "uvicorn", "examples.web_service.app:app", "--port", str(port)]
    process = Process(*command, folder=folder, FAILPOINTS_HTTP=f"127.0.0.1:{steering}")
    try:
        await anyio.to_thread.run_sync(process.wait_for, "Uvicorn running on")
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT, trust_env=False) as http,
            FailpointsClient(f"http://127.0.0.1:{steering}") as client,
        ):
            yield BoxOffice(process, http, client)
    finally:
        process.end()


async def test_with_nothing_configured(tmp_path: Path) -> None:
    """Everybody gets a seat of their own, until the house is full; a restart changes nothing."""
    async with open_box_office(tmp_path) as office:
        assert await office.failpoints.statuses() == []
        assert [await office.book(name) for name in ("Ada", "Grace")] == [(201, {"seat": 1}), (201, {"seat": 2})]
    async with open_box_office(tmp_path) as office:
        assert await office.book("Barbara") == (201, {"seat": 3})
        assert await office.book("Edsger") == (409, {"error": "sold out"})
        assert await office.tickets() == [(1, "Ada"), (2, "Grace"), (3, "Barbara")]


async def test_two_customers_get_the_same_seat(tmp_path: Path) -> None:
    """Whoever is overtaken between looking and reserving gets a seat that is sold: the bug, seen as it happens."""
    answers: dict[str, tuple[int, Any]] = {}

    async def book(office: BoxOffice, customer: str) -> None:
        answers[customer] = await office.book(customer)

    async with open_box_office(tmp_path) as office:
        async with (
            anyio.create_task_group() as tasks,
            office.failpoints.configured("bookings.reserve", "pause", context={"customer": "Ada"}) as reserve,
        ):
            tasks.start_soon(book, office, "Ada")
            await reserve.wait_paused(timeout=LIMIT)  # Ada has seen that seat 1 is free,

            status = await reserve.status()
            assert format_actions(status.actions) == "pause"
            assert [dict(waiting.context) for waiting in status.waiting] == [{"customer": "Ada", "seat": 1}]
            assert re.fullmatch(r"examples/web_service/app\.py:\d+", status.sites[0])

            await book(office, "Grace")  # Grace sees it too, and takes it,
            assert answers == {"Grace": (201, {"seat": 1})}
            assert (await reserve.status()).last_mismatch == "customer='Grace' does not match 'Ada'"

            assert await reserve.resume() == 1  # and now Ada takes it as well
        assert answers["Ada"] == (201, {"seat": 1})
        assert await office.tickets() == [(1, "Grace"), (1, "Ada")]


async def test_a_pause_between_the_two_writes(tmp_path: Path) -> None:
    """Once a seat is reserved nobody else gets it, even while there is no ticket for it yet."""
    async with open_box_office(tmp_path) as office:
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
    """A seat that was reserved when the process ended, and has no ticket, is free again after a restart."""
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


async def test_a_lost_reply(tmp_path: Path) -> None:
    """Whoever is told to try again though there is a ticket gets two: the bug."""
    async with open_box_office(tmp_path) as office:
        actions = "1*raise(TimeoutError)"
        async with office.failpoints.configured("bookings.confirm:after", actions) as reply:
            assert await office.book("Ada") == (503, {"error": "try again"})
            assert await office.book("Ada") == (201, {"seat": 2})
            status = await reply.status()
            assert (status.hits, status.triggers) == (2, 1)
        assert await office.tickets() == [(1, "Ada"), (2, "Ada")]


async def test_a_request_that_is_given_up_while_it_waits(tmp_path: Path) -> None:
    """Whoever removes the failpoint, or ends its block, lets the request go on to its end."""
    async with open_box_office(tmp_path) as office, anyio.create_task_group() as tasks:
        async with office.failpoints.configured("bookings.reserve", "pause") as reserve:
            tasks.start_soon(partial(office.book, "Ada"))
            tasks.start_soon(partial(office.book, "Ada"))
            await reserve.wait_paused(2, timeout=LIMIT)
            assert await office.tickets() == []
        async with office.failpoints.configured("bookings.confirm:after", "off") as confirmed:
            assert await office.book("Grace") in [(201, {"seat": 1}), (201, {"seat": 2})]
            await confirmed.wait_hit(timeout=LIMIT)


# by hand


def shown_by_the_readme() -> tuple[list[str], list[str]]:
    """The commands that the README shows to type, and what it says they print."""
    found = SESSION.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert found, "README.md shows no commands below <!-- web service -->"
    return found[1].splitlines(), found[2].splitlines()


@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="there is no bash or no curl")
def test_the_commands_of_the_readme(tmp_path: Path) -> None:
    """What the README shows to type, in other ports, sells one seat twice and prints what the README says."""
    commands, printed = shown_by_the_readme()
    port, steering = map(str, free_ports(2))
    shell = Process("bash", "--norc", folder=tmp_path, FAILPOINTS_URL=f"http://127.0.0.1:{steering}")
    try:
        for command in commands:
            assert re.search(r"\b(8000|22381)\b", command) or "127.0.0.1" not in command
            shell.tell(command.replace("8000", port).replace("22381", steering))
            if command.startswith("FAILPOINTS_HTTP="):
                shell.wait_for("Uvicorn running on")
        shell.tell("wait; echo; echo it is all over")
        shell.wait_for("it is all over")
    finally:
        shell.end()
    said = sorted(map(in_any_run, shell.said))
    assert [line for line in sorted(map(in_any_run, printed)) if line not in said] == []
    assert said.count('{"seat":1}') == 2
    assert not (tmp_path / "bookings.sqlite").exists()


def in_any_run(line: str) -> str:
    """A line without what is another in each run."""
    return re.sub(r"Task-\d+ for [\d.]+ m?s", "Task-… for … s", line)
