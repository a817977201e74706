"""Load test of the control plane: 8 clients configure 10,000 times while 1,000 tasks hit failpoints and wait.

    python tests/benchmarks/http_load.py

The program with the tasks is a process of its own. The clients are tasks of this process. Each client has a failpoint
of its own, so that it knows what every answer must be, and all of them configure a shared one. The exit status is 1,
with the reasons, if an answer was wrong, a waiting task was lost, or the program's memory grew.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from failpoints import FailpointStatus, FailpointTimeout, FailpointUsageError, failpoint, format_actions
from failpoints.client import FailpointsClient

CLIENTS = 8
ROUND = 10  # configure requests in one round of a client
LIMIT = 60  # seconds for any single wait

T = TypeVar("T")


# the program with the tasks


async def serve(tasks: int) -> None:
    """Visit failpoints in a loop until a line is read, then print how many tasks finished."""
    stopping = False
    finished = 0
    all_finished = anyio.Event()

    async def visit(number: int) -> None:
        nonlocal finished
        own, context = f"load.{number % CLIENTS}", {"task": number}
        while not stopping:
            try:
                if not await failpoint(own, context=context):
                    await failpoint("load.shared", context=context)
            except TimeoutError:  # as configured
                pass
            await anyio.sleep(0.1)
        finished += 1
        if finished == tasks:
            all_finished.set()

    async with anyio.create_task_group() as group:
        for number in range(tasks):
            group.start_soon(visit, number)
        await anyio.to_thread.run_sync(sys.stdin.readline)
        stopping = True
        with anyio.move_on_after(LIMIT):
            await all_finished.wait()
        print(finished, flush=True)
        group.cancel_scope.cancel()


class Program:
    """The process with the tasks."""

    def __init__(self, tasks: int) -> None:
        others = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", "--tasks", str(tasks)],
            env=others | {"FAILPOINTS_HTTP": "127.0.0.1:0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        line = self._process.stderr.readline()  # "failpoints control plane listening on http://… (process 1)"
        self.url = next((word for word in line.split() if word.startswith("http://")), "")
        if not self.url:
            sys.exit(f"the program did not start:\n{line}{self._process.communicate()[1]}")

    def memory(self) -> int:
        """Return the resident memory in KiB."""
        command = ["ps", "-o", "rss=", "-p", str(self._process.pid)]
        return int(subprocess.run(command, capture_output=True, check=True, timeout=LIMIT).stdout)

    def end(self) -> tuple[int, str]:
        """End the program. Returns how many of its tasks finished, and its standard error."""
        try:
            finished, complaints = self._process.communicate("end\n", timeout=2 * LIMIT)
        finally:
            self._process.kill()
        return int(finished or -1), complaints


# the clients


@dataclass
class Load:
    """The observations of the clients."""

    program: Program
    planned: int
    configured: int = 0
    seconds: list[float] = field(default_factory=list)  # of each request that does not wait for a task
    waits: int = 0
    wrong: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)  # at each twentieth of the run

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            self.wrong.append(what)

    async def timed(self, request: Awaitable[T]) -> T:
        start = time.perf_counter()
        answer = await request
        self.seconds.append(time.perf_counter() - start)
        return answer

    async def configuring(self, request: Awaitable[None]) -> None:
        await self.timed(request)
        self.configured += 1
        if self.configured * 20 // self.planned > len(self.memory) - 1:
            self.memory.append(await anyio.to_thread.run_sync(self.program.memory))

    async def waiting(self, wait: Awaitable[None]) -> None:
        await wait
        self.waits += 1

    async def run_client(self, number: int, rounds: int) -> None:
        """Run one client, with a failpoint that no other configures."""
        async with FailpointsClient(self.program.url) as client:
            for _ in range(rounds):
                try:
                    await self.one_round(client, f"load.{number}", number)
                except FailpointUsageError as error:
                    self.wrong.append(f"client {number}: {error}")
                except FailpointTimeout as error:
                    self.wrong.append(f"client {number}: a wait timed out: {error}")

    async def one_round(self, client: FailpointsClient, own: str, number: int) -> None:
        """Send ten configure requests, and check the effects of each."""
        await self.configuring(client.configure(own, "off"))
        await self.waiting(client.wait_until_hit(own, 2, timeout=LIMIT))

        await self.configuring(client.configure_all([("load.shared", "off"), (own, "pause")]))
        await self.waiting(client.wait_until_paused(own, 3, timeout=LIMIT))
        status = await self.timed(client.status(own))
        self.check_paused(status, own)
        woken = await self.timed(client.resume(own))
        self.check(len(status.waiting) <= woken, f"{own}: {len(status.waiting)} were waiting, {woken} were resumed")

        await self.waiting(client.wait_until_paused(own, timeout=LIMIT))
        await self.configuring(client.configure_all([(own, "off"), (own, "pause", {"task": str(number)})]))
        await self.waiting(client.wait_until_paused(own, timeout=LIMIT))
        status = await self.timed(client.status(own))
        self.check([dict(each.context) for each in status.waiting] == [{"task": number}], f"{own}: {status}")

        await self.configuring(client.configure(own, "1*raise(TimeoutError)->sleep(5)"))
        await self.waiting(client.wait_until_hit(own, 2, timeout=LIMIT))
        await self.configuring(client.configure_all([(own, "pause"), ("load.shared", "3*sleep(1)->off")]))
        await self.configuring(client.configure(own, "50%return(x)->yield"))
        status = await self.timed(client.status(own))
        self.check(format_actions(status.actions) == "50%return(x)->yield", f"{own}: {status}")

        with anyio.move_on_after(0.005):  # cancelled at some point of the request
            await client.wait_until_hit(own, 10**9)
        try:
            await self.timed(client.wait_until_hit(own, 10**9, timeout=0))
            self.wrong.append(f"{own}: hit a thousand million times")
        except FailpointTimeout as error:
            self.check(error.status is not None and error.status.name == own, f"{own}: {error}")

        await self.configuring(client.configure(f"{own}/{own}:after", "off"))
        await self.timed(client.remove(f"{own}/{own}:after"))
        self.check(await self.timed(client.resume(f"{own}/{own}:after")) == 0, f"{own}: resumed after it was removed")
        await self.configuring(client.configure_all([(own, "off", {"task": -1})]))
        await self.configuring(client.configure(own, "pause"))
        await self.waiting(client.wait_until_paused(own, 2, timeout=LIMIT))
        await self.configuring(client.configure(own, "off"))

    def check_paused(self, status: FailpointStatus, own: str) -> None:
        counts = (len(status.waiting), status.triggers, status.hits)
        self.check(3 <= counts[0] <= counts[1] == counts[2], f"{own}: waiting, triggers and hits are {counts}")
        self.check(format_actions(status.actions) == "pause", f"{own}: {status}")


async def all_pause(url: str, tasks: int) -> None:
    """Make every task wait at the same time, then release them."""
    async with FailpointsClient(url) as client:
        await client.configure_all((f"load.{number}", "pause") for number in range(CLIENTS))
        for number in range(CLIENTS):
            await client.wait_until_paused(f"load.{number}", tasks // CLIENTS, timeout=LIMIT)
        await client.reset()


async def run(tasks: int, requests: int, max_growth: float) -> list[str]:
    """Run the load and print the figures. Returns what was wrong."""
    program = Program(tasks)
    load = Load(program, requests)
    try:
        await all_pause(program.url, tasks)  # so that the memory for this is allocated before the measurement
        start = time.perf_counter()
        async with anyio.create_task_group() as group:
            for number in range(CLIENTS):
                group.start_soon(load.run_client, number, requests // CLIENTS // ROUND)
        seconds = time.perf_counter() - start
        await all_pause(program.url, tasks)  # checks that no task has been lost
    finally:
        finished, complaints = await anyio.to_thread.run_sync(program.end)

    load.check(
        load.configured == requests // CLIENTS // ROUND * CLIENTS * ROUND, f"only {load.configured} were configured"
    )
    load.check(finished == tasks, f"{finished} of {tasks} tasks finished")
    load.check(not complaints, f"the program printed errors:\n{complaints}")
    show(load, seconds, finished, max_growth)
    return load.wrong


def show(load: Load, seconds: float, finished: int, max_growth: float) -> None:
    """Print the figures and check the growth of the memory."""
    milliseconds = [1000 * each for each in load.seconds]
    cuts = statistics.quantiles(milliseconds, n=100)
    print(f"Python {sys.version.split()[0]}, {CLIENTS} clients, {seconds:.1f} s")
    print(f"configure requests:         {load.configured}")
    requests = len(milliseconds) + load.waits
    print(f"all requests:               {requests}, {requests / seconds:.0f}/s")
    print(f"waits ended by a task:      {load.waits}")
    print(f"latency of the others:      p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms")
    print(f"tasks finished:             {finished}")
    quarters = [load.memory[index * (len(load.memory) - 1) // 4] / 1024 for index in range(5)]
    print(f"memory at the quarters:     {', '.join(f'{each:.1f}' for each in quarters)} MiB")
    settled = load.memory[len(load.memory) // 4 :]
    half = len(settled) // 2
    growth = statistics.median(settled[half:]) / statistics.median(settled[:half]) - 1
    print(f"growth after that:          {growth:+.1%} (at most {max_growth:+.0%})")
    load.check(growth <= max_growth, f"the program's memory grew by {growth:.1%}")


def main() -> int:
    """Run as one of the two processes, depending on the arguments. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1_000)
    parser.add_argument("--requests", type=int, default=10_000, help="a multiple of 80")
    parser.add_argument("--max-growth", type=float, default=0.03, help="of the memory, after a quarter of the run")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments: Any = parser.parse_args()
    if arguments.serve:
        anyio.run(serve, arguments.tasks)
        return 0
    wrong = anyio.run(run, arguments.tasks, arguments.requests, arguments.max_growth)
    for each in wrong[:20]:
        print(f"WRONG: {each}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
