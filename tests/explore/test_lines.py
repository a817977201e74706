"""Threads that change between lines, and in the middle of one."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from failpoints import FailpointUsageError
from failpoints.explore import ExplorationFailed, Run, explore


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
        threads = [threading.Thread(target=lambda: results.append(called())) for _ in range(2)]
        with run.injecting():
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
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
        ({"sample": None}, "so it needs sample="),
        ({"lines": "shop"}, "lines= must be a sequence of names of modules"),
        ({"lines": ("",)}, "lines= must be a sequence of names of modules"),
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
