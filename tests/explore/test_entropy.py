"""Random numbers and ids are the same in every run, and differ within a run."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import secrets
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from uuid import uuid1, uuid4

import anyio
import anyio.to_thread
import pytest

from failpoints import failpoint
from failpoints.explore import Run, explore

RUNS = {"visit": ["off"] * 3}  # four runs

SOURCES: dict[str, Callable[[], object]] = {
    "os.urandom": lambda: os.urandom(8),
    "random.random": random.random,
    "random.Random": lambda: random.Random().random(),
    "random.SystemRandom": lambda: random.SystemRandom().random(),
    "random.SystemRandom.getrandbits": lambda: random.SystemRandom().getrandbits(70),
    "secrets.token_hex": secrets.token_hex,
    "secrets.randbelow": lambda: secrets.randbelow(10**20),
    "uuid.uuid1": lambda: uuid.uuid1(),
    "uuid1, imported by name": uuid1,
    "uuid1 of a node": lambda: uuid1(node=1),
    "uuid1 with a sequence": lambda: uuid1(clock_seq=1),
    "uuid.uuid4": lambda: uuid.uuid4(),
    "uuid4, imported by name": uuid4,
}
if sys.version_info >= (3, 14):
    SOURCES |= {"uuid6": uuid.uuid6, "uuid7": uuid.uuid7, "uuid8": uuid.uuid8}


def draws_of(backend: Any, draw: Callable[[], object], **given: Any) -> list[dict[str, list[object]]]:
    """Draw in several tasks and in a thread, in several runs."""
    runs: list[dict[str, list[object]]] = []

    async def scenario(run: Run) -> None:
        drawn: dict[str, list[object]] = {"scenario": [draw()]}
        runs.append(drawn)

        async def task(name: str) -> None:
            drawn[name] = [draw()]
            await failpoint("visit")
            drawn[name].append(draw())

        async with run.injecting():
            drawn["thread"] = [await anyio.to_thread.run_sync(draw)]
            async with anyio.create_task_group() as tasks:
                for name in "abc":
                    tasks.start_soon(task, name)
        drawn["scenario"].append(draw())

    explore(scenario, backend=backend, **given)
    return runs


@pytest.mark.parametrize("name", SOURCES)
def test_every_run_draws_the_same(backend: Any, name: str) -> None:
    """All runs get the same values from the source, and no value comes twice in one run."""
    first, *others = draws_of(backend, SOURCES[name], faults=RUNS)
    assert len(others) == 9
    assert all(other == first for other in others)
    values = [value for drawn in first.values() for value in drawn]
    assert len(values) == 9
    assert len(set(values)) == 9


@pytest.mark.parametrize("name", ["os.urandom", "secrets.token_hex", "uuid.uuid1", "uuid.uuid4"])
def test_the_order_of_the_tasks_changes_nothing(backend: Any, name: str) -> None:
    """What a task draws does not depend on what other tasks have drawn before."""
    first, *others = draws_of(backend, SOURCES[name], interleavings=True)
    assert len(others) == 5
    assert all(other == first for other in others)


@pytest.mark.parametrize("name", ["os.urandom", "random.Random", "uuid.uuid1", "uuid.uuid4", "secrets.token_hex"])
def test_explorations_in_several_threads(name: str) -> None:
    """Explorations that run at once, on both backends, draw what each of them draws alone."""
    alone = draws_of("asyncio", SOURCES[name], faults=RUNS)[0]
    found: list[list[dict[str, list[object]]]] = []

    def in_thread(backend: str) -> None:
        found.append(draws_of(backend, SOURCES[name], faults=RUNS))

    threads = [threading.Thread(target=in_thread, args=(backend,)) for backend in ["asyncio", "trio"] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4
    assert all(drawn == alone for runs in found for drawn in runs)


@pytest.mark.parametrize("name", sorted(set(SOURCES) - {"random.random", "uuid8"}))
def test_other_threads_draw_from_the_system(name: str) -> None:
    """A thread that belongs to no run gets values that no run gets, and never the same ones."""
    draw = SOURCES[name]
    elsewhere: list[object] = []

    def look() -> None:
        elsewhere.extend(draw() for _ in range(20))

    async def scenario(run: Run) -> None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join(10)
        async with run.injecting():
            await failpoint("visit")
        inside.extend(draw() for _ in range(20))

    inside: list[object] = []
    explore(scenario, faults=RUNS)
    explore(scenario, faults=RUNS)
    assert len(set(inside)) == 20
    assert len(set(elsewhere)) == len(elsewhere) == 160
    assert not set(inside) & set(elsewhere)


def test_everything_is_restored(backend: Any) -> None:
    """An exploration that fails, too, leaves the original functions, and `random` in the state that it had."""
    before = os.urandom, random.Random.seed, vars(uuid).get("_generate_time_safe"), time.time_ns, random.getstate()

    async def scenario(run: Run) -> None:
        os.urandom(1)
        async with run.injecting():
            await failpoint("visit")
        raise OSError(random.random())

    with pytest.raises(AssertionError):
        explore(scenario, backend=backend)
    after = os.urandom, random.Random.seed, vars(uuid).get("_generate_time_safe"), time.time_ns, random.getstate()
    assert after == before
    assert vars(random)["_urandom"] is os.urandom


def test_another_tool_has_replaced_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that a scenario has replaced for good stays as it is."""

    def own(size: int) -> bytes:
        return bytes(size)

    monkeypatch.setattr(os, "urandom", os.urandom)  # to restore it after the test

    async def scenario(run: Run) -> None:
        os.urandom = own  # type: ignore[assignment]
        async with run.injecting():
            await failpoint("visit")

    explore(scenario)
    assert os.urandom is own


def test_uuids_with_a_time(backend: Any) -> None:
    """They have the right version, and those that a task and its child make one after the other have later times."""

    async def scenario(run: Run) -> None:
        async def child(name: str) -> None:
            made.append(make())

        for make in makes:
            made = [make() for _ in range(100)]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(child, "child")
            assert all(first.time < second.time for first, second in pairwise(made))
            assert len(made) == 101
            versions.update(each.version for each in made)
        async with run.injecting():
            await failpoint("visit")

    makes: list[Callable[[], uuid.UUID]] = [uuid1, lambda: uuid1(1, 2)]
    if sys.version_info >= (3, 14):
        makes += [uuid.uuid6, uuid.uuid7]
    versions: set[int | None] = set()
    explore(scenario, backend=backend)
    assert versions == ({1, 6, 7} if sys.version_info >= (3, 14) else {1})


def test_a_hardware_address_that_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """`getnode` may have to draw an address in the first run. The other draws of that run are the same as ever."""
    monkeypatch.setattr(uuid, "_node", None)
    monkeypatch.setattr(uuid, "_GETTERS", [])
    monkeypatch.setattr(uuid, "_generate_time_safe", None)

    def draw() -> object:
        return uuid1(), random.random(), os.urandom(4)

    first, *others = draws_of("asyncio", draw, faults=RUNS)
    assert all(other == first for other in others)


def test_time_stays_real() -> None:
    """`time.time_ns` is the real time for all but the functions that make UUIDs."""

    async def scenario(run: Run) -> None:
        uuid1(node=1)
        before = time.time()
        now = time.time_ns() / 1e9
        assert before - 1 <= now <= time.time() + 1
        async with run.injecting():
            await failpoint("visit")

    assert explore(scenario).runs == 2


def test_other_users_of_random_bytes() -> None:
    """Temporary files, TLS, hashes and processes work in a run as they do elsewhere."""
    paths: list[str] = []

    def use() -> None:
        with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile() as file:
            paths.extend((folder, file.name))
            assert os.path.isdir(folder)
        ssl.create_default_context()
        assert len({ssl.RAND_bytes(8) for _ in range(10)}) == 10
        key = hashlib.pbkdf2_hmac("sha256", b"secret", os.urandom(16), 1)
        assert len(key) == 32
        done = subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, timeout=60, check=True)
        assert done.stdout.strip() == b"1"

    async def scenario(run: Run) -> None:
        use()
        async with run.injecting():
            await failpoint("visit")

    assert explore(scenario).runs == 2
    assert len(paths) == 4


def test_invalid_sizes() -> None:
    """`os.urandom` raises what it raises elsewhere."""

    async def scenario(run: Run) -> None:
        assert os.urandom(0) == b""
        with pytest.raises(ValueError, match="number of bits|negative"):
            os.urandom(-1)
        with pytest.raises(TypeError):
            os.urandom("1")  # type: ignore[arg-type]
        async with run.injecting():
            await failpoint("visit")

    explore(scenario)


def test_threads_of_one_task() -> None:
    """Calls in an executor draw by their place among the calls of their task, however the threads arrive."""
    drawn: list[tuple[bytes, ...]] = []

    async def scenario(run: Run) -> None:
        first = len(drawn) % 2
        turns = threading.Event()

        def draw(number: int) -> bytes:
            if number == first:
                value = os.urandom(8)
                turns.set()
                return value
            assert turns.wait(10)
            return os.urandom(8)

        loop = asyncio.get_running_loop()
        drawn.append(tuple(await asyncio.gather(*(loop.run_in_executor(None, draw, number) for number in (0, 1)))))
        async with run.injecting():
            await failpoint("visit")

    explore(scenario, faults=RUNS)
    assert len(drawn) == 4
    assert len(set(drawn)) == 1
    assert len(set(drawn[0])) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork processes")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_forked_processes_draw_from_the_system() -> None:
    """Processes that a run forks draw different values, neither of which is the one that the run draws next."""
    drawn: list[bytes] = []

    def fork() -> bytes:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.write(writer, uuid4().bytes)
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader, "rb") as pipe:
            value = pipe.read()
        os.waitpid(child, 0)
        return value

    async def scenario(run: Run) -> None:
        os.urandom(1)
        drawn.extend((fork(), fork(), uuid4().bytes))
        async with run.injecting():
            await failpoint("visit")

    explore(scenario)
    assert len(drawn) == 6
    assert len(set(drawn)) == 5
