"""`explore_crashes` finds the states that a program does not recover from, and describes them."""

from __future__ import annotations

import os
import pickle
import re
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest

from failpoints import FailpointUsageError, configured, failpoint
from failpoints.explore import (
    CrashExploration,
    CrashProgress,
    ExplorationFailed,
    acknowledge,
    explore,
    explore_crashes,
)

VERSIONS = (1, 2, 3)


def content(version: int) -> str:
    return str(version) * 8


def sync_folder(folder: Path) -> None:
    place = os.open(folder, os.O_RDONLY)
    os.fsync(place)
    os.close(place)


def in_place(folder: Path) -> None:
    for version in VERSIONS:
        (folder / "state.json").write_text(content(version))
        acknowledge(version)


def renamed(folder: Path, *, is_synced: bool = False, is_folder_synced: bool = False) -> None:
    for version in VERSIONS:
        with open(folder / "tmp", "w") as file:
            file.write(content(version))
            if is_synced:
                file.flush()
                os.fsync(file.fileno())
        os.replace(folder / "tmp", folder / "state.json")
        if is_folder_synced:
            sync_folder(folder)
        acknowledge(version)


def synced(folder: Path) -> None:
    renamed(folder, is_synced=True)


def durable(folder: Path) -> None:
    renamed(folder, is_synced=True, is_folder_synced=True)


def is_whole(folder: Path, acknowledged: list[Any]) -> None:
    state = folder / "state.json"
    assert not state.exists() or state.read_text() in map(content, VERSIONS)


def nothing_is_lost(folder: Path, acknowledged: list[Any]) -> None:
    last = acknowledged[-1] if acknowledged else 0
    state = folder / "state.json"
    version = int(state.read_text()[:1]) if state.exists() else 0
    assert version in (last, last + 1)
    assert not version or state.read_text() == content(version)


def accept(folder: Path, acknowledged: list[Any]) -> None:
    pass


def explored(act: Any, check: Any = is_whole, **options: Any) -> CrashExploration:
    """Return the result, also of an exploration that fails."""
    try:
        return explore_crashes(act, check, **{"max_failures": None, **options})
    except ExplorationFailed as failed:
        exploration: CrashExploration = failed.exploration
        return exploration


@pytest.mark.parametrize(
    ("act", "states", "broken"), [(in_place, 26, 13), (renamed, 81, 41), (synced, 28, 0), (durable, 16, 0)]
)
def test_the_ways_to_save_a_file(act: Any, states: int, broken: int) -> None:
    """Four ways to save a file have the states that were counted by hand, and break in as many of them."""
    exploration = explored(act)
    assert (exploration.states, exploration.broken, exploration.exhaustive) == (states, broken, True)
    assert len(exploration.failures) == broken


def test_only_the_sync_of_the_folder_keeps_what_was_acknowledged() -> None:
    """An acknowledged version gets lost unless the file and the folder are synced."""
    assert explored(durable, nothing_is_lost).broken == 0
    assert explored(synced, nothing_is_lost).broken > 0


def test_the_end_of_the_process_loses_nothing_that_was_written() -> None:
    """If only the process dies, a file that is renamed is whole, and one that is written in place may not be."""
    assert str(explored(renamed, nothing_is_lost, disk="process")) == (
        "13 states after the end of the process at any point of 9 operations: no failure"
    )
    assert explored(in_place, disk="process").broken == 3  # created or truncated, and still empty


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_functions(backend: Any) -> None:
    """`act`, `check` and `arrange` can be async functions, on both event loops."""

    async def arrange(folder: Path) -> None:
        await anyio.Path(folder / "state.json").write_text(content(1))

    async def act(folder: Path) -> None:
        await anyio.Path(folder / "state.json").write_text(content(2))

    async def check(folder: Path, acknowledged: list[Any]) -> None:
        assert await anyio.Path(folder / "state.json").read_text() in (content(1), content(2))

    exploration = explored(act, check, arrange=arrange, backend=backend)
    assert (exploration.states, exploration.broken) == (4, 2)


def test_the_message_of_a_failure() -> None:
    """A failure shows what was done, what the disk kept, the files, what was acknowledged, and how to repeat it."""
    with pytest.raises(ExplorationFailed) as failed:
        explore_crashes(renamed, is_whole, timeout=60)
    text = re.sub(r"[\w./]*test_crashes\.py:\d+", "FILE:LINE", str(failed.value))
    assert text.startswith("is_whole failed in 1 of 14 states after a power loss: AssertionError: ")
    assert (
        """, at FILE:LINE

  renamed:
      1  create tmp
      2  write 8 bytes at 0 of tmp  HALF OF IT LOST
      3  rename tmp to state.json
      4  acknowledge 1
         — the power fails —

  the folder then:
    state.json  4 bytes  b'1111'

acknowledged:       [1]
repeat this state:  explore_crashes(renamed, is_whole, timeout=60, replay='4.1h #"""
        in text
    )
    assert isinstance(failed.value.__cause__, AssertionError)
    assert "In the child process" in "".join(failed.value.__cause__.__notes__)
    assert failed.value.failure.timeline[0] == "renamed:"
    assert pickle.loads(pickle.dumps(failed.value)).exploration == failed.value.exploration


def test_all_losses_of_a_failure_are_shown() -> None:
    """The operations that the disk has lost are marked, and data whose file was not truncated in time as well."""
    exploration = explored(in_place)
    timeline = next(f.timeline for f in exploration.failures if f.replay.startswith("6-1.1h "))
    assert [re.sub(r"\s+", " ", line).strip() for line in timeline] == [
        "in_place:",
        "1 create state.json",
        "2 write 8 bytes at 0 of state.json HALF OF IT LOST",
        "3 acknowledge 1",
        "4 truncate state.json to 0 bytes LOST",
        "5 write 8 bytes at 0 of state.json LOST",
        "6 acknowledge 2",
        "— the power fails —",
    ]


def test_a_replay_leaves_the_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay makes exactly the state of a failure, before `check` can repair it, and says where it is."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def repairing(folder: Path, acknowledged: list[Any]) -> None:
        text = (folder / "state.json").read_text() if (folder / "state.json").exists() else content(1)
        (folder / "state.json").unlink(missing_ok=True)
        assert text == content(int(text[0]))

    with pytest.raises(ExplorationFailed) as found:
        explore_crashes(renamed, repairing)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ExplorationFailed, match=r"repairing failed in the replay after a power loss") as failed:
        explore_crashes(renamed, repairing, replay=found.value.replay)
    left = failed.value.exploration.folder
    assert f"the folder is left behind in {left}" in str(failed.value)
    assert Path(left, "state.json").read_text() == "1111"
    assert failed.value.replay == found.value.replay
    result = explore_crashes(renamed, accept, replay=found.value.replay)
    assert result.folder is not None
    assert str(result) == f"1 state, replayed, and left behind in {result.folder}: no failure"


def test_a_replay_of_another_program() -> None:
    """A replay of a program that has changed says so, and checks nothing."""
    with pytest.raises(ExplorationFailed) as found:
        explore_crashes(renamed, is_whole)
    result = explore_crashes(in_place, is_whole, replay=found.value.replay)
    assert result.bounds == ("the program does not do what the replay was made from",)
    assert str(result) == "0 states, replayed: the program does not do what the replay was made from"


def test_visits_of_failpoints_are_shown() -> None:
    """The failpoints that `act` visits are in the timeline, so a crash has a name."""

    def act(folder: Path) -> None:
        (folder / "a").write_text("a")
        failpoint("store.between").hit()
        (folder / "b").write_text("b")

    def check(folder: Path, acknowledged: list[Any]) -> None:
        assert (folder / "a").exists() or not (folder / "b").exists()
        assert not (folder / "b").exists()

    with pytest.raises(ExplorationFailed) as failed:
        explore_crashes(act, check, disk="process")
    assert [line.split(maxsplit=1)[-1] for line in failed.value.failure.timeline[1:]] == [
        "create a",
        "write 1 byte at 0 of a",
        "visit store.between",
        "create b",
        "the process dies —",
    ]


def test_a_configured_failpoint_acts_in_act() -> None:
    """What is configured around the exploration acts in `act`: a crash after an error can be explored."""

    def act(folder: Path) -> None:
        try:
            failpoint("store.write").hit()
        except OSError:
            (folder / "failed").touch()

    with configured("store.write", "raise(OSError)"):
        assert explored(act, accept).states == 2


def test_crashes_during_recovery() -> None:
    """With `depth=2`, `check` crashes as well: a recovery that removes its log too early is found."""

    def arrange(folder: Path) -> None:
        (folder / "data").write_text("old")

    def act(folder: Path) -> None:
        with open(folder / "new", "w") as file:
            file.write("new")
            file.flush()
            os.fsync(file.fileno())
        os.rename(folder / "new", folder / "log")
        sync_folder(folder)
        acknowledge("new")

    def recover(folder: Path, is_safe: bool) -> None:
        if (folder / "log").exists():
            text = (folder / "log").read_text()
            if not is_safe:
                (folder / "log").unlink()
            with open(folder / "copy", "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.rename(folder / "copy", folder / "data")
            if is_safe:
                (folder / "log").unlink()

    def check(folder: Path, acknowledged: list[Any], is_safe: bool = False) -> None:
        recover(folder, is_safe)
        assert (folder / "data").read_text() in (["new"] if acknowledged else ["old", "new"])

    def check_safe(folder: Path, acknowledged: list[Any]) -> None:
        check(folder, acknowledged, is_safe=True)

    assert explored(act, check, arrange=arrange).broken == 0
    with pytest.raises(ExplorationFailed) as failed:
        explore_crashes(act, check, arrange=arrange, depth=2)
    assert [line for line in failed.value.failure.timeline if not line.startswith(" ")] == ["act:", "check:"]
    with pytest.raises(ExplorationFailed) as replayed:
        explore_crashes(act, check, arrange=arrange, depth=2, replay=failed.value.replay)
    assert replayed.value.failure.timeline == failed.value.failure.timeline
    once = explored(act, check_safe, arrange=arrange)
    twice = explored(act, check_safe, arrange=arrange, depth=2)
    assert (once.broken, twice.broken, twice.exhaustive) == (0, 0, True)
    assert twice.states > once.states


def test_a_recovery_that_differs_each_time(tmp_path: Path) -> None:
    """With `depth=2`, a `check` that writes other bytes each time takes the verdict away. One that does more fails."""

    def act(folder: Path) -> None:
        (folder / "state.json").touch()

    def check(folder: Path, acknowledged: list[Any]) -> None:
        (folder / "recovered").write_text(str(time.time_ns()))

    def check_more(folder: Path, acknowledged: list[Any]) -> None:
        (folder / "recovered").touch()
        if (tmp_path / "was here").exists():
            (folder / "more").touch()
        os.mkfifo(tmp_path / "was here") if not (tmp_path / "was here").exists() else None

    result = explored(act, check, disk="process", depth=2)
    assert result.bounds == ("check writes other bytes in each run (a time, an id), and one run was explored",)
    with pytest.raises(ExplorationFailed, match=r"check_more is nondeterministic: where it did 'nothing more' in one"):
        explore_crashes(act, check_more, depth=2)


def test_max_states_takes_the_complete_states_first() -> None:
    """A limit of states leaves out those with losses first, and is in the verdict."""
    seen: list[CrashProgress] = []
    result = explored(renamed, accept, max_states=13, on_state=seen.append)
    assert str(result) == (
        "13 states after a power loss during 9 operations: stopped at max_states=13: not exhaustive: no failure found"
        " so far"
    )
    assert seen[-1] == CrashProgress(states=13, max_states=13, broken=0)
    assert explored(durable, accept, max_states=16).exhaustive


def test_max_failures() -> None:
    """The exploration stops after so many broken states, and its message has a line for each."""
    with pytest.raises(ExplorationFailed) as failed:
        explore_crashes(in_place, is_whole, max_failures=3)
    exploration = failed.value.exploration
    assert (exploration.broken, len(exploration.failures)) == (3, 3)
    assert all(f"replay={failure.replay!r}" in str(failed.value) for failure in exploration.failures)


def test_a_check_that_fails_on_the_untouched_folder() -> None:
    """A `check` that fails before `act` has done anything is reported as that."""

    def check(folder: Path, acknowledged: list[Any]) -> None:
        assert (folder / "state.json").exists()

    with pytest.raises(ExplorationFailed, match="check fails on the folder that act has not touched yet: fix this"):
        explore_crashes(renamed, check, max_failures=None)


def test_an_act_that_fails() -> None:
    """An `act` or `arrange` that fails by itself is reported as that."""

    def act(folder: Path) -> None:
        raise OSError("no space")

    with pytest.raises(ExplorationFailed, match=r"^act failed without any crash: fix this first: OSError: no space"):
        explore_crashes(act, accept)
    with pytest.raises(ExplorationFailed, match="^arrange failed, before anything could crash: OSError: no space"):
        explore_crashes(renamed, accept, arrange=act)


def hang(folder: Path, acknowledged: list[Any]) -> None:
    if (folder / "state.json").exists():
        time.sleep(60)


def leave(folder: Path, acknowledged: list[Any]) -> None:
    if (folder / "state.json").exists():
        os._exit(3)


def exit_quietly(folder: Path, acknowledged: list[Any]) -> None:
    if (folder / "state.json").exists():
        sys.exit(0)


class Unpicklable(Exception):
    def __init__(self, one: object, two: object) -> None:
        super().__init__(f"{one} and {two}")


def raise_unpicklable(folder: Path, acknowledged: list[Any]) -> None:
    if (folder / "state.json").exists():
        raise Unpicklable(1, threading.Lock())


@pytest.mark.parametrize(
    ("check", "kind", "summary"),
    [
        pytest.param(hang, "hang", r"check did not end within 5 s", marks=pytest.mark.slow),  # and one run to repeat it
        (leave, "died", r"check its process ended by itself, with exit status 3"),
        (exit_quietly, "error", r"SystemExit: 0"),
        (raise_unpicklable, "error", r"Unpicklable: 1 and <unlocked"),
    ],
)
def test_how_a_check_can_end(check: Any, kind: str, summary: str) -> None:
    """A `check` that hangs, ends its process or raises anything has failed."""
    with pytest.raises(ExplorationFailed, match=summary) as failed:
        explore_crashes(durable, check, timeout=5 if check is hang else 60)
    assert failed.value.failure.kind == kind


def test_a_check_that_fails_only_once(tmp_path: Path) -> None:
    """A failure that does not repeat on the same folder is reported as nondeterministic."""

    def check(folder: Path, acknowledged: list[Any]) -> None:
        if acknowledged and not (tmp_path / "was here").exists():
            (tmp_path / "was here").touch()
            raise OSError

    with pytest.raises(ExplorationFailed, match="check is nondeterministic: on one folder, it ended with 'OSError'"):
        explore_crashes(durable, check)


def test_an_act_that_does_other_things_each_time(tmp_path: Path) -> None:
    """An `act` whose two recordings differ is reported with the first difference."""

    def act(folder: Path) -> None:
        name = "b" if (tmp_path / "was here").exists() else "a"
        os.makedirs(folder / name)
        os.mkfifo(tmp_path / "was here") if name == "a" else None

    with pytest.raises(ExplorationFailed, match=r"act is nondeterministic: where it did 'make folder a 1' in one run"):
        explore_crashes(act, accept)


def test_bytes_that_differ_are_in_the_verdict() -> None:
    """An `act` that writes the time is explored, and its verdict is not exhaustive."""

    def act(folder: Path) -> None:
        (folder / "time").write_text(f"{time.time_ns():020}")

    result = explored(act, accept)
    assert result.bounds == ("act writes other bytes in each run (a time, an id), and one run was explored",)


def test_acknowledged_values_are_as_they_were() -> None:
    """A value is passed on as it was when it was acknowledged. One that cannot be pickled is refused."""

    def act(folder: Path) -> None:
        values: list[int] = []
        for value in (1, 2):
            values.append(value)
            acknowledge(values)

    def check(folder: Path, acknowledged: list[Any]) -> None:
        assert acknowledged in ([], [[1]], [[1], [1, 2]])

    assert explored(act, check).states == 3
    with pytest.raises(ExplorationFailed, match=r"acknowledge\(\) takes a value that can be pickled; got <unlocked"):
        explore_crashes(lambda folder: acknowledge(threading.Lock()), accept)


def test_processes_of_a_check_are_ended(tmp_path: Path) -> None:
    """A process that `check` leaves running does not outlive it."""

    def check(folder: Path, acknowledged: list[Any]) -> None:
        if not os.fork():
            (tmp_path / str(os.getpid())).touch()
            time.sleep(60)
        while not list(tmp_path.iterdir()):
            pass

    explore_crashes(lambda folder: None, check)
    (left,) = tmp_path.iterdir()
    for _ in count():
        try:
            state = Path(f"/proc/{left.name}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return
        if state == "Z":
            return
        time.sleep(0.01)


def children() -> set[int]:
    found: set[int] = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:  # it has ended
            continue
        if int(text.rpartition(")")[2].split()[1]) == os.getpid():
            found.add(int(stat.parent.name))
    return found


def test_no_process_is_left_behind() -> None:
    """The process that is forked early, for a state that does not come, is ended and reaped."""
    before = children()
    explored(durable, accept, max_states=3)
    explored(in_place, max_failures=1)
    assert children() <= before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((in_place, "check"), r"check must be a function; got 'check'"),
        ((in_place, in_place), r"check must be callable like this: def check\(folder, acknowledged\): …"),
        ((is_whole, is_whole), r"act must be callable like this: def act\(folder\): …"),
        ({"disk": "powr"}, r"disk= must be 'process' or 'power'; got 'powr'; did you mean 'power'\?"),
        ({"recorder": None}, r"recorder= must be 'python' or 'strace'; got None"),
        ({"backend": "curio"}, r"backend= must be 'asyncio' or 'trio'"),
        ({"depth": 0}, r"depth= must be a whole number of 1 or more; got 0"),
        ({"max_states": 0}, r"max_states= must be a whole number of 1 or more"),
        ({"max_failures": 0}, r"max_failures= must be a whole number of 1 or more"),
        ({"timeout": 0}, r"timeout= must be a number of real seconds above 0; got 0"),
        ({"replay": "o0.1"}, r"replay= takes the text that a failure of explore_crashes\(\) shows"),
        ({"arrange": is_whole}, r"arrange must be callable like this: def arrange\(folder\): …"),
    ],
)
def test_arguments_that_are_not_valid(arguments: Any, message: str) -> None:
    """An argument that is not valid is refused with what it must be."""
    functions = arguments if isinstance(arguments, tuple) else (in_place, is_whole)
    options = arguments if isinstance(arguments, dict) else {}
    with pytest.raises(FailpointUsageError, match=message):
        explore_crashes(*functions, **options)


def test_inside_an_event_loop() -> None:
    """`explore_crashes` is refused inside an event loop."""

    async def inside() -> None:
        explore_crashes(in_place, is_whole)

    with pytest.raises(FailpointUsageError, match="call it in a plain function or test"):
        anyio.run(inside)


def test_a_coroutine_in_place_of_a_function() -> None:
    """A coroutine in place of its function is refused."""

    async def act(folder: Path) -> None: ...

    call: Callable[..., Any] = explore_crashes
    with pytest.raises(FailpointUsageError, match=r"takes act itself, since it calls it: leave out the \(\)"):
        call(act(Path()), is_whole)


def test_acknowledge_outside_of_act_does_nothing() -> None:
    """`acknowledge` can be called anywhere."""
    acknowledge(threading.Lock())


def test_the_other_exploration_has_its_own_result() -> None:
    """Exceptions of `explore` still have an `Exploration`."""

    async def scenario(run: Any) -> None:
        raise OSError

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario)
    assert failed.value.exploration.runs == 1


def test_names_with_the_number_of_the_process() -> None:
    """Temporary names may have the number of the process and its thread in them. A replay finds its state again."""

    def act(folder: Path) -> None:
        temporary = folder / f"tmp.{os.getpid()}-{threading.get_ident()}"
        temporary.write_text(content(1))
        temporary.rename(folder / "state.json")

    with pytest.raises(ExplorationFailed) as found:
        explore_crashes(act, is_whole)
    with pytest.raises(ExplorationFailed, match="is_whole failed in the replay"):
        explore_crashes(act, is_whole, replay=found.value.replay)
    assert explored(act, accept).bounds == ("act names files after its process, and one run was explored",)


def test_names_may_have_the_number_of_a_process_by_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of a container have small numbers, which names and files have as well."""

    def numbers() -> tuple[str, ...]:
        if (tmp_path / "was here").exists():
            return ("2",)
        os.mkfifo(tmp_path / "was here")
        return ("1",)

    def act(folder: Path) -> None:
        for number in (1, 2):
            (folder / f"tmp.{number}").write_text(content(1))
            (folder / f"tmp.{number}").rename(folder / "state.json")

    monkeypatch.setattr("failpoints._crashes.recording._own_numbers", numbers)
    result = explored(act, is_whole)
    assert result.exhaustive
    assert explored(act, accept, replay=result.failures[0].replay).folder is not None


def test_what_a_check_prints(capfd: pytest.CaptureFixture[str]) -> None:
    """The output of `check` is in the message of a failure, and nowhere else."""

    def check(folder: Path, acknowledged: list[Any]) -> None:
        sys.stdout.write("recovering\n")
        os.system("echo from a child")
        is_whole(folder, acknowledged)

    with pytest.raises(ExplorationFailed, match=r"check printed:\n    recovering\n    from a child\n\nacknowledged:"):
        explore_crashes(in_place, check)
    assert capfd.readouterr() == ("", "")
