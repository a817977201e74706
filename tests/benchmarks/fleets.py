"""The cost of a fleet: configuring its processes, a count that is taken, and a name that is not configured."""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import anyio
from measure import Row, Side, ratio, ratios, repeated

import failpoints

MEMBERS = 8
PAUSE = 0.15  # seconds between two changes, so that the members have done what they do after one
COUNTS = 500  # in one round
PAIRS = 12

MEMBER = """
import asyncio, json, multiprocessing, os, sys, time
import failpoints

@failpoints.failpoint("x")
async def visited(): pass

@failpoints.failpoint("elsewhere")
async def other(): pass

async def repeat_visited(turns):
    for _ in turns:
        await visited()

async def repeat_other(turns):
    for _ in turns:
        await other()

def timed(name, number):
    repeat = {"visited": repeat_visited, "other": repeat_other}[name](range(int(number)))
    began = time.thread_time()
    try:
        repeat.send(None)
    except StopIteration:
        return time.thread_time() - began

failpoints.configured("x", "off").__enter__().remove()  # what the first one imports
if len(sys.argv) == 2 and hasattr(os, "sched_setaffinity"):  # both on one core, which others may use as well
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
if len(sys.argv) == 2:  # the forked twin, whose memory is laid out alike, joins the fleet that is named
    ours, twins = multiprocessing.Pipe()
    if not os.fork():
        from failpoints._fleet.member import join
        from failpoints._fleet.urls import parse_url
        ours.close()
        join(parse_url(sys.argv[1], ""), ())
        while True:
            twins.send(timed(*twins.recv()))
    twins.close()  # so that the end of the twin is seen
    failpoints.configure("x", "off")
print(json.dumps(None), flush=True)
for line in sys.stdin:
    to, name, number = line.split()
    if to == "twin":
        ours.send((name, number))
    print(json.dumps(ours.recv() if to == "twin" else timed(name, number)), flush=True)
if len(sys.argv) == 2:
    os.killpg(0, 9)
"""


class Process:
    """A process with two decorated functions, which it calls on demand."""

    def __init__(self, folder: str, *, twin: bool = False) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
        environment = {"PYTHONPATH": str(Path(failpoints.__file__).parents[1])}
        if not twin:
            environment["FAILPOINTS_FLEET"] = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", MEMBER, *([folder] if twin else ())],
            env={**clean, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.read()

    def read(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def calls(self, name: str, number: int, *, to: str = "itself") -> float:
        """Call a function, and return the seconds of processor time that the calls took. *to* may be its twin."""
        assert self.process.stdin
        self.process.stdin.write(f"{to} {name} {number}\n")
        self.process.stdin.flush()
        return float(self.read())

    def end(self) -> None:
        self.process.communicate(timeout=60)


@contextmanager
def members(number: int) -> Generator[str]:
    """Run the members of a fleet, and yield its folder."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = os.path.join(temporary, "fleet")
        for _ in range(number):
            stack.callback(Process(folder).end)
        yield folder


@cache
def armings(rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds that it takes until all members have a configuration, and those of a rename and a stat."""
    armed: list[float] = []
    renamed: list[float] = []

    async def arm(folder: str) -> None:
        fleet_type = importlib.import_module("failpoints.fleet").Fleet
        async with fleet_type(folder) as fleet:
            for number in range(rounds + 1):  # the first one is not like the others: much is imported
                began = time.perf_counter()
                await fleet.configure("x", f"return({number})")
                armed.append(time.perf_counter() - began)
                await fleet.remove("x")
                await anyio.sleep(PAUSE)
                renamed.append(rename_and_stat(Path(folder)))

    with members(MEMBERS) as folder:
        anyio.run(arm, folder)
    return armed[1:], renamed[1:]


def rename_and_stat(folder: Path) -> float:
    """Return the seconds that it takes to replace a file and to look at another one."""
    aside = folder / ".benchmark.new"
    aside.write_bytes(b"")
    began = time.perf_counter()
    aside.replace(folder / ".benchmark.renamed.new")
    (folder / "state.json").stat()
    return time.perf_counter() - began


def arming_ratios(rounds: int) -> Sequence[float]:
    return [one / other for one, other in zip(*armings(rounds), strict=True)]


def arming_milliseconds(rounds: int) -> Sequence[float]:
    return [1000 * each for each in armings(rounds)[0]]


def slowest_arming(rounds: int) -> Sequence[float]:
    armed = armings(rounds)[0]
    return [1000 * statistics.quantiles(armed, n=100, method="inclusive")[-1]] if len(armed) > 1 else [1000 * armed[0]]


@contextmanager
def process(actions: str, *, twin: bool = False) -> Generator[tuple[str, Process]]:
    """Run a member of a fleet in which a failpoint is configured, or its twin as well, which is not a member."""

    async def configure() -> None:
        async with importlib.import_module("failpoints.fleet").Fleet(folder, lease=None) as fleet:
            await fleet.configure("x", actions)

    with members(0) as folder, ExitStack() as stack:
        anyio.run(configure)
        member = Process(folder, twin=twin)
        stack.callback(member.end)
        yield folder, member


@contextmanager
def counts() -> Generator[tuple[Side, Side]]:
    """Take a count in the folder of a fleet, and append a byte to a file there."""
    with process("1000000000*off") as (folder, member):
        file = os.open(os.path.join(folder, ".benchmark.new"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            append = repeated("it()", lambda: os.write(file, b"."), COUNTS)
            yield lambda: member.calls("visited", COUNTS), append
        finally:
            os.close(file)


def count_microseconds(rounds: int) -> Sequence[float]:
    with counts() as (ours, _):
        return [1e6 * ours() / COUNTS for _ in range(rounds)]


def not_configured(rounds: int) -> Sequence[float]:
    """Call a function whose failpoint is not configured, in a member of a fleet that has another one, and without.

    Two equal processes differ by some three in a hundred, for as long as they run. So several pairs are compared.
    """
    found: list[float] = []
    for _ in range(min(PAIRS, rounds)):
        with process("off", twin=True) as (_, both):
            found += ratios(
                partial(both.calls, "other", 100_000, to="twin"),
                partial(both.calls, "other", 100_000),
                max(1, rounds // PAIRS),
            )
    return found


ROWS: list[Row] = [
    Row("configured and acknowledged by 8 processes", "a rename and a stat there", None, arming_ratios),
    Row("configured and acknowledged by 8 processes", "", None, arming_milliseconds, "ms"),
    Row("configured and acknowledged by 8 processes, p99", "", 15, slowest_arming, "ms"),
    ratio("a visit that takes a count in the folder", "a byte appended to an open file", None, counts),
    Row("a visit that takes a count in the folder", "", 60, count_microseconds, "µs"),
    Row("a failpoint that is not configured, in a member", "without a fleet", 1.02, not_configured),
]
