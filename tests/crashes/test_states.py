"""The states of a disk after a crash are those of the model, each once."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Sequence
from itertools import islice

import pytest

from failpoints._crashes.disk import Disk
from failpoints._crashes.losses import Loss, Replay, checksum
from failpoints._crashes.operations import ROOT, Acknowledge, Kind, Make, Operation, Rename, Sync, Truncate, Write
from failpoints._crashes.states import CrashStates, State
from tests.crashes.model import Folder, all_states, random_program

PROGRAMS = 2_000


def crash_states(operations: Sequence[Operation], disk: str = "power", limit: int = 10_000) -> CrashStates:
    return CrashStates(Disk(), operations, is_power=disk == "power", limit=limit, known=set())


def folder_of(state: State) -> Folder:
    return tuple(sorted((path, state.files[file][2].to_bytes()) for path, file in state.names.items()))


def save_three_times(way: str) -> list[Operation]:
    """Return what saving state.json three times does: in place, or by a temporary name, with or without syncs."""
    operations: list[Operation] = []
    for version in (1, 2, 3):
        data = str(version).encode() * 8
        if way == "in place":
            operations += [Make("state.json", 1) if version == 1 else Truncate(1, 0), Write(1, 0, data)]
        else:
            operations += [Make("tmp", version), Write(version, 0, data)]
            operations += [Sync(version)] if "fsync" in way else []
            operations += [Rename("tmp", "state.json")]
            operations += [Sync(ROOT)] if way == "fsync and folder" else []
        operations.append(Acknowledge(b""))
    return operations


def is_broken(state: State, *, is_durable: bool) -> bool:
    content = dict(folder_of(state)).get("state.json")
    saved = state.acknowledged if is_durable else 0
    versions = [None, *(str(version).encode() * 8 for version in (1, 2, 3))]
    return content not in versions or versions.index(content) < saved


@pytest.mark.parametrize(
    ("way", "states", "broken"),
    [("in place", 26, 13), ("renamed", 81, 41), ("fsync", 28, 0), ("fsync and folder", 16, 0)],
)
def test_the_closed_forms(way: str, states: int, broken: int) -> None:
    """One file that is saved three times has exactly the states that the contract counts."""
    found = list(crash_states(save_three_times(way)))
    assert len(found) == states
    assert sum(is_broken(state, is_durable=way == "fsync and folder") for state in found) == broken


@pytest.mark.parametrize("disk", ["power", "process"])
@pytest.mark.parametrize("part", range(4))
def test_random_programs_against_the_model(part: int, disk: str) -> None:
    """On thousands of random programs, the states are those of a second, plain implementation, each once."""
    for seed in range(part * PROGRAMS // 4, (part + 1) * PROGRAMS // 4):
        program = random_program(seed)
        found = [(folder_of(state), state.acknowledged) for state in crash_states(program, disk)]
        assert len(found) == len(set(found)), program
        assert set(found) == all_states(program, disk), program


def test_each_loss_leads_to_its_state_again() -> None:
    """The text of a state's loss leads to the same state."""
    for seed in range(100):
        states = crash_states(program := random_program(seed))
        for state in states:
            replay = Replay.parse(str(Replay((state.loss,), checksum(program))))
            again = states.state(replay.losses[0])
            assert again is not None
            assert again.key == state.key


def test_a_loss_that_cannot_happen_has_no_state() -> None:
    """A crash after the end of the program, or that takes back more than may be lost, has no state."""
    states = crash_states([Make("a", 1), Sync(ROOT)])
    assert states.state(Loss(3)) is None
    assert states.state(Loss(2, dropped=1)) is None


def test_complete_states_come_first() -> None:
    """The states in which nothing is lost come first, one for each point of the crash, then those with one loss."""
    losses = [state.loss.dropped + len(state.loss.lost) for state in crash_states(save_three_times("renamed"))]
    assert losses[:13] == [0] * 13
    assert losses == sorted(losses[: losses.index(3)]) + losses[losses.index(3) :]


def test_many_writes_of_the_same_bytes_are_few_states() -> None:
    """Losses that lead to the same bytes are looked at together, not one by one."""
    program: list[Operation] = [Make("a", 1), *(Write(1, 0, b"1111") for _ in range(60))]
    assert len(list(crash_states(program))) == 4


def test_versions_beyond_the_limit_are_noted() -> None:
    """A file with more versions than the limit is noted as cut off, and its states with few losses are there."""
    program: list[Operation] = [Make("log", 1), *(Write(1, 2 * line, b"ab") for line in range(6))]
    states = crash_states(program, limit=50)
    found = list(states)
    assert states.is_cut_off
    assert len(found) < len(list(crash_states(program)))
    assert sum(not state.loss.dropped and len(state.loss.lost) == 1 for state in found) == 36


def test_memory_stays_level() -> None:
    """Of a state that was checked, only its key is kept: less than 250 bytes."""
    program: list[Operation] = [Make("d", 1, Kind.FOLDER)]
    for file in range(2, 6):
        program += [Make(f"d/{file}", file), *(Write(file, 2 * line, b"ab") for line in range(3))]
    states = iter(crash_states(program))
    tracemalloc.start()
    try:
        assert sum(1 for _ in islice(states, 1_000)) == 1_000
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        assert sum(1 for _ in islice(states, 4_000)) == 4_000
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 4_000 * 250
