"""The message about a nondeterministic scenario names what it was seen to do that differs between runs."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import count
from os import urandom
from pathlib import Path
from typing import Any

import pytest

from failpoints import failpoint
from failpoints.explore import ExplorationFailed, Run, explore

number = 0
WHERE = r", at tests/explore/test_causes\.py:\d+"
ids = count(1)


class Service:
    calls = 0

    def __init__(self) -> None:
        self.cache: dict[str, int] = {}


service = Service()


def causes_of(backend: Any, text: Callable[[], object], **given: Any) -> list[str]:
    """Return the causes that the message has for a scenario whose visit has another name in each run."""

    async def scenario(run: Run) -> None:
        name = f"visit.{text()}"
        async with run.injecting():
            await failpoint(name)

    with pytest.raises(ExplorationFailed, match="is nondeterministic") as failed:
        explore(scenario, backend=backend, **given)
    lines = str(failed.value).splitlines()
    assert lines[3] == "A run may depend on nothing but its faults and the order of its tasks."
    if lines[4] != "Likely causes, seen when the run was repeated:":
        assert lines[4].startswith("Remove from the scenario everything else that differs")
        return []
    return [line.removeprefix("  - ") for line in lines[5:]]


def matches(pattern: str, causes: list[str]) -> bool:
    """Return whether the only cause matches the pattern."""
    return len(causes) == 1 and re.fullmatch(pattern, causes[0]) is not None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (lambda: time.monotonic_ns(), "time.monotonic_ns"),
        (lambda: time.perf_counter_ns(), "time.perf_counter_ns"),
        (lambda: datetime.now().timestamp() + next(ids), "datetime.now"),
    ],
)
def test_the_time(backend: Any, text: Any, name: str) -> None:
    """A read of the time is named, with its line."""
    causes = [cause for cause in causes_of(backend, text) if "ids" not in cause]
    assert matches(rf"the time is read \({name}\){WHERE}", causes), causes


def test_an_address(backend: Any) -> None:
    """So is `id()`."""
    kept: list[object] = []

    def text() -> int:
        kept.append(object())
        return id(kept[-1])

    causes = [cause for cause in causes_of(backend, text) if "kept" not in cause]
    assert matches(rf"the address of an object is read \(builtins\.id\){WHERE}", causes), causes


def test_random_bytes_from_the_system(backend: Any) -> None:
    """So is `os.urandom`, where the program has a reference that cannot be replaced."""
    causes = causes_of(backend, lambda: urandom(4).hex())
    assert matches(rf"random bytes are read from the operating system \((posix|nt)\.urandom\){WHERE}", causes), causes


def test_a_global(backend: Any) -> None:
    """A global that a run changes is named with its values, an attribute of a class or an instance with its owner."""

    def text() -> int:
        global number
        number += 1
        return number

    (cause,) = causes_of(backend, text)
    assert re.fullmatch(rf"the global number of {__name__} changes from \d+ to \d+", cause)

    def of_a_class() -> int:
        Service.calls += 1
        return Service.calls

    assert [cause.partition(" of ")[0] for cause in causes_of(backend, of_a_class)] == ["the global Service"]

    def of_an_instance() -> int:
        service.cache[str(len(service.cache))] = 1
        return len(service.cache)

    assert [cause.partition(" of ")[0] for cause in causes_of(backend, of_an_instance)] == ["the global service"]


def test_a_variable_outside_the_scenario(backend: Any) -> None:
    """A variable of the function around the scenario is named, too, and one of a function that it calls."""
    runs = [0]

    def text() -> int:
        runs[0] += 1
        return runs[0]

    assert causes_of(backend, text) == ["the variable runs outside the scenario changes"]


def test_a_thread_that_is_started(backend: Any) -> None:
    """A thread that the scenario starts is named, with the line that starts it."""
    answers: Iterator[int] = iter(range(100))

    def text() -> int:
        drawn: list[int] = []
        thread = threading.Thread(target=lambda: drawn.append(next(answers)), name="drawing")
        thread.start()
        thread.join(10)
        return drawn[0]

    causes = causes_of(backend, text)
    assert matches(rf"the thread drawing is started{WHERE}", causes), causes


def test_a_thread_that_is_at_work(backend: Any) -> None:
    """A thread that was there before is named if it was at work."""
    reader, writer = os.pipe()
    answers: Iterator[int] = iter(range(100))
    thread = threading.Thread(target=os.read, args=(reader, 1), name="reading")
    thread.start()
    try:
        causes = causes_of(backend, lambda: next(answers))
    finally:
        os.write(writer, b"x")
        thread.join(10)
        os.close(reader)
        os.close(writer)
    assert causes == ["the thread reading is at work"]


def test_a_socket() -> None:
    """A connection is named, also where asyncio makes it."""

    def serve() -> None:
        for answer in range(100):
            connection, _ = listener.accept()
            with connection:
                if connection.recv(1) == b"q":
                    return
                connection.sendall(b"%d\n" % answer)

    async def scenario(run: Run) -> None:
        streams, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"?")
        name = (await streams.readline()).decode().strip()
        writer.close()
        async with run.injecting():
            await failpoint(f"visit.{name}")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, name="serving", daemon=True)
        server.start()
        try:
            with pytest.raises(ExplorationFailed) as failed:
                explore(scenario)
        finally:
            with socket.create_connection(listener.getsockname()) as last:
                last.sendall(b"q")
            server.join(10)
    assert re.search(r"\n  - the socket with the file descriptor \d+ is used", str(failed.value))
    assert "\n  - the thread serving is at work" in str(failed.value)


def test_files_processes_and_databases(backend: Any, tmp_path: Path) -> None:
    """Files, folders, databases and processes are named, also where a module of Python opens them."""
    file = tmp_path / "numbers"
    file.write_text("", encoding="utf-8")

    def text() -> int:
        with file.open("a", encoding="utf-8") as opened:
            opened.write("x")
        with sqlite3.connect(tmp_path / "database") as database:
            database.execute("select 1")
        database.close()
        subprocess.run([sys.executable, "-c", ""], check=True, timeout=60)
        return len(file.read_text(encoding="utf-8")) + len(os.listdir(tmp_path))

    causes = causes_of(backend, text)
    found = [cause.partition(",")[0] for cause in causes]
    assert set(found) >= {"a file is opened", "a database is opened", "a process is started"}
    assert len(causes) <= 6
    assert all(", at tests/explore/test_causes.py:" in cause for cause in causes)


def test_no_evidence(backend: Any) -> None:
    """What cannot be seen leaves the general advice. Imports, logging and the event loop are not evidence."""
    answers: Iterator[int] = iter(range(100))

    def text() -> int:
        import colorsys  # noqa: F401

        sys.modules.pop("colorsys")
        logging.getLogger(__name__).info("the time of this is not read by the program")
        return next(answers)

    assert causes_of(backend, text) == []


def test_a_failure_that_does_not_come_again(backend: Any) -> None:
    """The causes are named, too, if a run fails and passes when it is repeated."""
    attempts = {"made": 0}

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("visit")
        attempts["made"] += 1
        assert attempts["made"] != 2

    with pytest.raises(ExplorationFailed, match="it failed, and passed when it was repeated") as failed:
        explore(scenario, backend=backend)
    assert str(failed.value).splitlines()[-1] == "  - the variable attempts outside the scenario changes"


def test_a_profiler_is_restored(backend: Any) -> None:
    """A profiler that was there before is there again."""

    def profile(frame: object, event: str, arg: object) -> None:
        """Do nothing."""

    sys.setprofile(profile)
    try:
        causes_of(backend, lambda: next(ids))
        assert sys.getprofile() is profile
    finally:
        sys.setprofile(None)


def test_a_fault_that_hides_the_cause(backend: Any) -> None:
    """The run without faults is looked at, too, since the fault may end the scenario before it reaches the cause."""
    placed: list[float] = []

    async def scenario(run: Run) -> None:
        async with run.injecting():
            if placed:
                await failpoint("order.again")
            await failpoint("order.place")
            placed.append(time.time())

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, interleavings=True, max_faults=1)
    assert "\n  - the variable placed outside the scenario changes" in str(failed.value)
    assert "\n  - the time is read (time.time), at tests/explore/test_causes.py:" in str(failed.value)


def test_a_library_that_reads_the_time(backend: Any) -> None:
    """What a library reads for its own ends, such as when garbage is collected, is not evidence."""
    library: dict[str, Any] = {"__name__": "library", "__file__": f"{Path(pytest.__file__).parent}/library.py"}
    exec("import time\ndef look(phase, info): time.perf_counter()", library)
    answers: Iterator[int] = iter(range(100))

    def text() -> int:
        gc.collect()
        return next(answers)

    gc.callbacks.append(library["look"])
    try:
        assert causes_of(backend, text) == []
    finally:
        gc.callbacks.remove(library["look"])
