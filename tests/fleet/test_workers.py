"""Fleets of the processes that carry out jobs: those of task queues, and of pools."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from failpoints.fleet import Fleet
from tests.fleet.running import LIMIT, pid_of, redis_port, running
from tests.fleet.waits import joined

__all__ = ["redis_port"]

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such fleets"),
]

DIES_ONCE = ("charge.before_ack", "1*exit(9)")


@pytest.fixture
def anyio_backend() -> str:
    """Run on one event loop: these tests are about the members."""
    return "asyncio"


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Return the path of the ledger of charges, which is empty."""
    path = tmp_path / "ledger"
    path.touch()
    return path


def charges(ledger: Path) -> list[tuple[str, int]]:
    """Return the order and the process of each charge."""
    return [(order, int(pid)) for order, pid in map(str.split, ledger.read_text().splitlines())]


async def assert_charged_twice(fleet: Fleet, ledger: Path) -> None:
    """Wait for the second charge. Another process has made it, and has not died of it."""
    await fleet.wait_until_hit("charge.before_ack", 2, timeout=LIMIT)
    (first, died), (second, other) = charges(ledger)
    assert (first, second) == ("order-1", "order-1")
    assert died != other
    status = await fleet.status("charge.before_ack")
    assert (status.hits, status.triggers) == (2, 1)
    assert died not in map(pid_of, status.members)


async def test_celery(tmp_path: Path, ledger: Path) -> None:
    """One of Celery's prefork workers dies, and is replaced. The job comes again to another one, and is done."""
    pytest.importorskip("celery")
    queue = tmp_path / "queue"

    queue.mkdir()
    command = (
        "-m",
        "celery",
        "-A",
        "celery_jobs",
        "worker",
        "-c",
        "2",
        "-l",
        "WARNING",
        "--without-gossip",
        "--without-mingle",
    )
    with running(tmp_path, *command, LEDGER=str(ledger), QUEUE=str(queue)) as program:
        async with Fleet(program.fleet) as fleet:
            before = await joined(fleet, 3)
            assert program.process.pid in map(pid_of, before), "the parent of the workers is one, too"
            await fleet.configure(*DIES_ONCE)
            await program.run("import celery_jobs; celery_jobs.charge.delay('order-1')")
            await assert_charged_twice(fleet, ledger)
            assert len(await joined(fleet, 3) - before) == 1


async def test_rq(tmp_path: Path, ledger: Path, redis_port: int) -> None:
    """The process that rq forks for a job dies. The retried job has another one, which does not begin again."""
    rq: Any = pytest.importorskip("rq")
    redis: Any = pytest.importorskip("redis")
    command = ("-m", "rq.cli", "worker", "--url", f"redis://127.0.0.1:{redis_port}/0", "jobs")
    with redis.Redis(port=redis_port) as connection, running(tmp_path, *command, LEDGER=str(ledger)) as program:
        async with Fleet(program.fleet) as fleet:
            await fleet.configure(*DIES_ONCE)
            queue = rq.Queue("jobs", connection=connection)
            queue.enqueue("jobs.charge", "order-1", retry=rq.Retry(max=3))
            await assert_charged_twice(fleet, ledger)
            assert program.process.pid not in map(pid_of, await fleet.members())


async def test_arq(tmp_path: Path, ledger: Path, redis_port: int) -> None:
    """The only process of arq dies. Once it is started again, it does the job again."""
    pytest.importorskip("arq")
    redis: Any = pytest.importorskip("redis")
    environment = {"LEDGER": str(ledger), "REDIS_PORT": str(redis_port)}
    with running(tmp_path, "-m", "arq", "arq_jobs.WorkerSettings", **environment) as program:
        async with Fleet(program.fleet) as fleet:
            await fleet.configure(*DIES_ONCE)
            await program.run("import arq_jobs; arq_jobs.send('order-1')")
            await fleet.wait_until_hit("charge.before_ack", timeout=LIMIT)
            program.start_again()
            await joined(fleet, 1)
            with redis.Redis(port=redis_port) as connection:
                connection.delete("arq:in-progress:1")  # which expires 10 seconds after the time limit of the job
            await assert_charged_twice(fleet, ledger)


async def test_dramatiq(tmp_path: Path, ledger: Path, redis_port: int) -> None:
    """All of dramatiq ends if one of its workers dies. Once it is started again, it does the job again."""
    pytest.importorskip("dramatiq")
    command = ("-m", "dramatiq", "dramatiq_jobs", "--processes", "2", "--threads", "1")
    environment = {"LEDGER": str(ledger), "REDIS_PORT": str(redis_port)}
    with running(tmp_path, *command, **environment) as program:
        async with Fleet(program.fleet) as fleet:
            assert program.process.pid not in map(pid_of, await joined(fleet, 2))
            await fleet.configure(*DIES_ONCE)
            await program.run("import dramatiq_jobs; dramatiq_jobs.charge.send('order-1')")
            await fleet.wait_until_hit("charge.before_ack", timeout=LIMIT)
            program.start_again()  # which waits until all of it has ended
            await assert_charged_twice(fleet, ledger)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
async def test_a_pool_that_replaces_its_workers(method: str, tmp_path: Path, ledger: Path) -> None:
    """The workers of a `multiprocessing.Pool` go on where those that they replace have stopped."""
    with running(tmp_path, "pool.py", method, LEDGER=str(ledger)) as program:
        async with Fleet(program.fleet) as fleet:
            await fleet.configure("charge.before_ack", "2*return(7)", context={"order": "[a-f]"})
            await fleet.configure("charge.before_ack", "1*exit(9)", context={"order": "dies|next"})
            await anyio.to_thread.run_sync(program.process.wait, LIMIT)
            results = json.loads(program.log.read_text().splitlines()[-1])
            assert sorted(results.pop("recycled"), key=str) == ["7", "7", None, None, None, None]
            assert results == {"next": None, "lost": True}
            status = await fleet.status("charge.before_ack")
            assert (status.hits, status.triggers) == (8, 3)
        assert len({pid for _, pid in charges(ledger)}) == 8
