"""The registry of a process as the source of a fleet: its counts are those of all processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import failpoints
from failpoints import failpoint
from failpoints._core.store import PROCESS_STORE
from failpoints._fleet.folder import Folder
from failpoints._fleet.source import Source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "fleet"


@pytest.fixture
def hand_on(folder: Path) -> Iterator[object]:
    """Return a function that makes this process the source of a fleet, until the end of the test."""
    sources: list[Source] = []
    yield lambda: sources.append(Source(Folder(folder)))
    failpoints.reset()
    for source in sources:
        source.end()
    assert PROCESS_STORE.others is None


def visit(**context: str) -> bool:
    """Return whether a visit triggers."""
    before = sum(each.triggers for each in failpoints.statuses())
    failpoint("x", context=context).hit()
    return sum(each.triggers for each in failpoints.statuses()) > before


def test_what_was_used_before_it_was_handed_on_is_used_up(hand_on: object) -> None:
    """Of five times, two are used in this process alone, and exactly three after it has become a source."""
    failpoints.configure("x", "5*off")
    assert [visit() for _ in range(2)] == [True] * 2
    assert callable(hand_on)
    hand_on()
    assert [visit() for _ in range(5)] == [True] * 3 + [False] * 2


def test_what_was_used_stays_used_when_it_is_handed_on_again(hand_on: object) -> None:
    """An older configuration of the name is made again, so the newer one is handed on again, with its counts."""
    assert callable(hand_on)
    hand_on()
    failpoints.configure("x", "off", context={"tenant": "t1"})
    failpoints.configure("x", "2*off", context={"shard": "3"})
    assert visit(shard="3")
    failpoints.configure("x", "sleep(0)", context={"tenant": "t1"})
    assert [visit(shard="3") for _ in range(3)] == [True, False, False]


def test_a_count_that_cannot_be_taken_is_an_error_of_its_configuration(hand_on: object, folder: Path) -> None:
    """A visit does nothing, and goes on to no later term. The plugin fails the test that has configured it."""
    assert callable(hand_on)
    hand_on()
    failpoints.configure("x", "2*off->raise(KeyError)")
    shutil.rmtree(folder / "counts")
    (configuration,) = PROCESS_STORE.current("x")
    assert not visit()
    assert "a count cannot be taken from those of all processes, so the visit did nothing" in str(configuration.error)
