"""Threads that change between lines, and in the middle of one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from failpoints import FailpointUsageError
from failpoints._explore.steering.control import Steering
from failpoints.explore import ExplorationFailed, Run, explore
from tests.explore.races import race

monitoring: Any = getattr(sys, "monitoring", None)
with_monitoring = pytest.mark.skipif(monitoring is None, reason="Python 3.11 has no sys.monitoring")


class Counter:
    def __init__(self) -> None:
        self.counted = 0
        self.cache: dict[str, object] = {}
        self.lock = threading.Lock()

    def count(self) -> int:
        self.counted += 1
        return 0

    def look_up(self) -> object:
        if "key" not in self.cache:
            self.cache["key"] = object()
        return self.cache["key"]

    def look_up_locked(self) -> object:
        with self.lock:
            return self.look_up()


only: object = None


def make_only() -> object:
    global only
    if only is None:
        only = object()
    return only


def twice(name: str) -> Callable[[Run], None]:
    """Return a scenario that calls a method in two threads, whose results must be the same object."""

    def scenario(run: Run) -> None:
        global only
        only, counter, results = None, Counter(), list[object]()
        called: Callable[[], object] = make_only if name == "make_only" else getattr(counter, name)
        with run.injecting():
            race(*[lambda: results.append(called())] * 2)
        assert results[0] is results[1]
        assert counter.counted in (0, 2)

    return scenario


LINES: Any = {"lines": (__name__,), "interleavings": True, "sample": 200}


@pytest.mark.parametrize("name", ["count", "look_up", "make_only"])
def test_a_race_between_lines_is_found(name: str) -> None:
    """`x += 1`, a key that is looked up before it is set, and a singleton that is made lazily."""
    before = sys.gettrace()
    with pytest.raises(ExplorationFailed, match="with no fault and 1 switch") as failed:
        explore(twice(name), **LINES)
    assert f"lines=({__name__!r},)" in str(failed.value)
    with pytest.raises(ExplorationFailed):
        explore(twice(name), lines=(__name__,), replay=failed.value.replay)
    assert sys.gettrace() is before


def test_the_thread_of_the_scenario_stops_as_well() -> None:
    """The thread that calls `explore` loses an update to the one that it has started."""

    def scenario(run: Run) -> None:
        counter = Counter()
        thread = threading.Thread(target=counter.count)
        with run.injecting():
            thread.start()
            counter.count()
            thread.join()
        assert counter.counted == 2

    with pytest.raises(ExplorationFailed, match="with no fault and 1 switch"):
        explore(scenario, **LINES)


class Programs:
    """Code whose points are known."""

    def a_lambda(self) -> None:
        (lambda: 0)()

    def loops(self) -> None:
        for _ in range(2): pass  # noqa: E701  # fmt: skip
        number = 0
        while number < 2: number += 1  # noqa: E701  # fmt: skip

    def stores(self) -> None:
        self.a = self.b = 1
        del self.a, self.b
        shared, local = [0], 0
        shared[local] = local

    def a_generator(self) -> None:
        def generate() -> Iterator[int]:
            yield 1
            yield 2

        list(generate())

    def an_error(self) -> None:
        try:
            with contextlib.suppress(ValueError):
                raise ValueError
            raise KeyError
        except KeyError:
            pass
        finally:
            self.a = 1

    def code_that_is_made(self) -> None:
        exec("\n\ndef made():\n    global only\n    only = 1\nmade()", {"__name__": __name__})

    def many_names(self) -> None:
        exec(SOURCE, NAMES)


SOURCE = "\n".join(f"name{number}.a = 1" for number in range(300))
NAMES: dict[str, Any] = {"__name__": __name__, **{f"name{number}": Counter() for number in range(300)}}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a_lambda", [1, 1]),  # the line, and the lambda in it
        ("loops", [1, 1, 1, 1, 2, 3, 3, 3]),  # the start of the loop, and each time that it looks for a next round
        ("stores", [1, 1, 1, 2, 2, 2, 3, 4, 4]),
        ("a_generator", [1, 5, 2, 3]),
        ("an_error", [1, 2, 3, 2, 4, 5, 6, 6, 8, 8]),
        ("code_that_is_made", [1, 3, 6, 5, 5]),
        ("many_names", [1, *(line for line in range(1, 301) for _ in range(2))]),
    ],
)
def test_the_points_are_those_of_every_version(name: str, expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread stops before each line, each round of a loop, and each store: also in code that the run makes."""
    found: list[list[int]] = []
    first = getattr(Programs, name).__code__.co_firstlineno
    stop = Steering.line

    def line(self: Steering) -> None:
        frame: Any = sys._getframe()
        while frame.f_globals.get("__name__") != __name__ or frame.f_code.co_name == "line":
            frame = frame.f_back
        if self.execution.holds_threads and frame.f_code.co_name != "scenario":
            found[-1].append(frame.f_lineno - (first if frame.f_code.co_filename == __file__ else 0))
        stop(self)

    def scenario(run: Run) -> None:
        found.append([])
        with run.injecting():
            getattr(Programs(), name)()

    monkeypatch.setattr(Steering, "line", line)
    for _ in range(2):  # with code that is new to Python, and with code that is not
        explore(scenario, **{**LINES, "sample": 2})
    assert found[0] == found[1] == found[2] == found[3]
    assert found[0] == expected


@contextlib.contextmanager
def tools(*names: str) -> Iterator[None]:
    """Take tool ids of `sys.monitoring`, from 5 downwards."""
    taken = [5 - number for number in range(len(names))]
    for tool, name in zip(taken, names, strict=True):
        monitoring.use_tool_id(tool, name)
    try:
        yield
    finally:
        for tool in taken:
            monitoring.free_tool_id(tool)


@with_monitoring
def test_no_free_tool_id() -> None:
    """Other tools keep their ids. One free id is enough; without one, the message names the tools."""
    with tools("one", "two", "three"), pytest.raises(ExplorationFailed):
        explore(twice("count"), **LINES)
    with (
        tools("one", "two", "three", "four"),
        pytest.raises(FailpointUsageError, match="in use, by 'two', 'three', 'one', 'four': switch one of these off"),
    ):
        explore(twice("count"), **LINES)


@with_monitoring
def test_nothing_is_left_behind() -> None:
    """The tool id is free afterwards, and the code of the modules has no events."""
    with pytest.raises(ExplorationFailed):
        explore(twice("count"), **LINES)
    tools_left = [monitoring.get_tool(tool) for tool in range(6)]
    assert "failpoints" not in tools_left
    for tool in (tool for tool in range(6) if tools_left[tool] is None):
        monitoring.use_tool_id(tool, "test")
        try:
            assert not monitoring.get_events(tool)
            assert not monitoring.get_local_events(tool, Counter.count.__code__)
        finally:
            monitoring.free_tool_id(tool)


def test_two_explorations_with_lines() -> None:
    """Two threads explore the same module at once. Each one stops its own threads only, so both find the same."""
    found: list[object] = []

    def find() -> None:
        try:
            explore(twice("count"), **LINES)
        except ExplorationFailed as failed:
            found.append(failed.replay)

    threads = [threading.Thread(target=find) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2
    assert found[0] == found[1]


MEASURED = """
import sys
from failpoints.explore import explore
import measured
explore(measured.scenario, interleavings=True, sample=20, lines=("measured",) if sys.argv[1:] else ())
"""
PROGRAM = """
import threading

class Counter:
    counted = 0

    def count(self):
        self.counted += 1
        if self.counted > 10:
            raise AssertionError
        for _ in range(2):
            self.last = self.counted

def scenario(run):
    counter = Counter()
    threads = [threading.Thread(target=counter.count) for _ in range(2)]
    with run.injecting():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
"""


@with_monitoring
@pytest.mark.parametrize("core", ["ctrace", "sysmon"])
def test_coverage_measures_the_same_lines(core: str, tmp_path: Path) -> None:
    """Neither tracing nor another tool of `sys.monitoring` is disturbed."""
    pytest.importorskip("coverage")
    (tmp_path / "measured.py").write_text(PROGRAM)
    (tmp_path / "main.py").write_text(MEASURED)

    def missing(*arguments: str) -> str:
        coverage = [sys.executable, "-m", "coverage"]
        given = {"cwd": tmp_path, "env": {**os.environ, "COVERAGE_CORE": core}, "timeout": 60, "check": True}
        subprocess.run([*coverage, "run", "--include=measured.py", "main.py", *arguments], **given)
        report = subprocess.run([*coverage, "report", "-m"], **given, capture_output=True, text=True)
        return report.stdout

    without = missing()
    assert " 10" in without  # the line that is not run
    assert missing("lines") == without


def test_a_lock_around_the_lines() -> None:
    """The fixed version passes all runs, which are a sample."""
    exploration = explore(twice("look_up_locked"), **LINES)
    assert (exploration.runs, exploration.exhaustive) == (200, False)


def test_without_lines_there_is_no_switch() -> None:
    """The race is not found, since there is no visit and no primitive in it."""
    explore(twice("count"), interleavings=True, sample=50)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lines": ("no.such.module",)}, "lines= names 'no.such.module', but no code of this module ran"),
        ({"sample": None}, "so it needs interleavings=True and sample="),
        ({"lines": "shop"}, "lines= must be a list or tuple of names of modules"),
        ({"lines": ("",)}, "lines= must be a list or tuple of names of modules"),
        ({"lines": 5}, "lines= must be a list or tuple of names of modules"),
        ({"lines": (name for name in [__name__])}, "lines= must be a list or tuple of names of modules"),
    ],
)
def test_lines_that_are_refused(given: dict[str, Any], message: str) -> None:
    """A module that is not there, too many orders, and what is not a name."""
    with pytest.raises(FailpointUsageError, match=message):
        explore(twice("look_up_locked"), **{**LINES, "sample": 5, **given})


def test_tasks_do_not_change_between_lines() -> None:
    """An async scenario is refused."""

    async def scenario(run: Run) -> None:
        pass

    with pytest.raises(FailpointUsageError, match="scenario is an async function"):
        explore(scenario, **LINES)
