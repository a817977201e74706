"""Search the orders of a few threads with this library and with others, each in an environment of its own.

    python tests/benchmarks/threads.py [TOOL...]

It needs Python 3.13, and takes five minutes. Each tool gets the same problems, written as its documentation does:

- *locked*: threads that read something, take a lock, and count while they have it. No order fails.
- *lost update*: two threads that count without a lock. A test has to fail.

The others are imported by their names, since they are not installed where this file is checked.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

Answer: TypeAlias = tuple[int, str]
"""The runs that a tool made, and what it found."""

Solve: TypeAlias = Callable[[int, bool], Answer]
"""Searches the orders of a number of threads, which have a lock or do not."""

LIMIT = 30.0  # seconds for which a tool may search


class Counter:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.name = "counter"
        self.counted = 0

    def count(self) -> None:
        counted = self.counted
        self.counted = counted + 1

    def count_locked(self) -> None:
        assert self.name
        with self.lock:
            self.count()


def with_failpoints(threads: int, is_locked: bool, **options: Any) -> Answer:
    from failpoints import failpoint
    from failpoints.explore import ExplorationFailed, Run, explore

    class Visited(Counter):
        def count(self) -> None:
            failpoint("counter.read", reads=("counted",)).hit()
            counted = self.counted
            if not is_locked:  # inside the lock, one visit is enough
                failpoint("counter.write", writes=("counted",)).hit()
            self.counted = counted + 1

        def count_locked(self) -> None:
            failpoint("counter.name").hit()
            with self.lock:
                failpoint("counter.count", writes=("counted",)).hit()
                self.counted += 1

    def scenario(run: Run) -> None:
        counter = Visited()
        work = counter.count_locked if is_locked else counter.count
        with run.injecting():
            started = [threading.Thread(target=work) for _ in range(threads)]
            for thread in started:
                thread.start()
            for thread in started:
                thread.join()
        assert counter.counted == threads

    try:
        exploration = explore(scenario, interleavings=True, max_runs=20_000, **options)
    except ExplorationFailed as error:
        return int(re.findall(r"failed in run ([\d,]+)", str(error))[0].replace(",", "")), "found"
    return exploration.runs, "every order" if exploration.exhaustive else "not finished"


def with_frontrun(threads: int, is_locked: bool) -> Answer:
    result = importlib.import_module("frontrun").explore(
        setup=Counter,
        workers=Counter.count_locked if is_locked else Counter.count,
        count=threads,
        invariant=lambda counter: counter.counted == threads,
        preemption_bound=None,  # every order
        reproduce_on_failure=0,
        total_timeout=LIMIT,
    )
    return result.num_explored, "every order" if result.property_holds else "found"


def with_interleave_test(threads: int, is_locked: bool, granularity: str) -> Answer:
    interleave_test = importlib.import_module("interleave_test")

    def model() -> None:
        counter = Counter()
        work = counter.count_locked if is_locked else counter.count
        tasks = [interleave_test.spawn(work) for _ in range(threads)]
        for task in tasks:
            task.join()
        assert counter.counted == threads

    try:
        result = interleave_test.explore(model, iterations=12_000, strategy="dfs", granularity=granularity)
    except interleave_test.RaceFound as error:
        return error.failure.iteration + 1, "found"
    return result.schedules_run, "every order with 2 switches" if result.exhausted else "not finished"


def with_ploom(threads: int, is_locked: bool) -> Answer:
    ploom = importlib.import_module("ploom")

    def scenario() -> None:
        name, counted, lock = ploom.SharedCell("counter"), ploom.SharedCell(0), ploom.Lock()

        def count() -> None:
            counted.write(counted.read() + 1)

        def count_locked() -> None:
            assert name.read()
            with lock:
                count()

        started = [ploom.Thread(target=count_locked if is_locked else count) for _ in range(threads)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
        assert counted.read() == threads

    options: Any = {"timeout": LIMIT, "max_executions": 100_000, "minimize_executions": 0}
    try:
        statistics = ploom.check(scenario, config=ploom.Config(**options), on_failure=lambda *_: None)
    except ploom.IncompleteExplorationError as error:
        return error.statistics.executions, "not finished"
    except ploom.ModelCheckError as error:
        return error.statistics.executions, "found"
    return statistics.executions, "every order"


def with_pytest_run_parallel(threads: int, is_locked: bool) -> Answer:
    iterations = 2_000
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_counter.py").write_text(
            "import pytest\n"
            "from threads import Counter\n"
            "counter = Counter()\n"
            f"def test_count():\n    counter.{'count_locked' if is_locked else 'count'}()\n"
            "@pytest.mark.thread_unsafe\n"
            f"def test_counted():\n    assert counter.counted == {threads * iterations}\n"
        )
        options = [f"--parallel-threads={threads}", f"--iterations={iterations}", "-q", "-p", "no:cacheprovider"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        done = subprocess.run([sys.executable, "-m", "pytest", *options, folder], env=environment, capture_output=True)
    return iterations, "found" if done.returncode else "nothing found"


ROOT = Path(__file__).parents[2]

TOOLS: dict[str, tuple[str, Solve]] = {
    'failpoints, reduction="declared"': (str(ROOT), partial(with_failpoints, reduction="declared")),
    "failpoints": (str(ROOT), with_failpoints),
    "frontrun": ("frontrun==0.7.0", with_frontrun),
    "interleave-test, lines": ("interleave-test==0.1.0", partial(with_interleave_test, granularity="line")),
    "interleave-test, opcodes": ("interleave-test==0.1.0", partial(with_interleave_test, granularity="opcode")),
    "ploom": ("ploom==0.1.1", with_ploom),
    "pytest-run-parallel": ("pytest-run-parallel==0.10.0", with_pytest_run_parallel),
}

PROBLEMS = {"2 locked threads": (2, True), "3 locked threads": (3, True), "lost update": (2, False)}


def solve(tool: str) -> None:
    """Print the answers of a tool, which is installed. The quick ones are the fastest of several."""
    _, search = TOOLS[tool]
    for problem, given in PROBLEMS.items():
        seconds: list[float] = []
        runs, verdict = 0, ""
        while not seconds or (len(seconds) < 5 and sum(seconds) < 2):
            began = time.perf_counter()
            runs, verdict = search(*given)
            seconds.append(time.perf_counter() - began)
        print(f"{tool:<34} {problem:<18} {runs:>7,} runs {min(seconds):>8.3f} s  {verdict}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser("python tests/benchmarks/threads.py", description=__doc__.partition("\n")[0])
    parser.add_argument("tools", nargs="*", metavar="TOOL", help=f"one of {', '.join(TOOLS)}")
    parser.add_argument("--installed", action="store_true", help="the tools are in the environment that runs this")
    given = parser.parse_args()
    for tool in given.tools or TOOLS:
        if given.installed:
            solve(tool)
            continue
        with tempfile.TemporaryDirectory() as folder:
            python = Path(folder, "bin", "python")
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            package, _ = TOOLS[tool]
            subprocess.run([python, "-m", "pip", "install", "-q", package], check=True)
            command = [python, __file__, "--installed", tool]
            if tool == "frontrun":
                command.insert(0, python.with_name("frontrun"))  # which prepares the process
            subprocess.run(command, check=True, cwd=folder)


if __name__ == "__main__":
    main()
