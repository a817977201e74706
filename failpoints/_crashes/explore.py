"""`explore_crashes`: records what a program does to a folder, and checks every state in which a crash can leave it."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

from .._core.hooks import spectators
from .._explore.result import ExplorationFailed, Failure, counted
from .folder import write_folder
from .losses import Replay, checksum, shapes
from .operations import Acknowledge, Operation, Truncate, Visit, Write
from .options import CrashOptions, name_of
from .processes import Child, Ending, call, run_in_child
from .recording import Recording, first_difference, record, warm_up
from .report import crashes_failed, describe_failure, failed_without_crash, failure_of, nondeterministic
from .result import CrashExploration, CrashProgress
from .states import CrashStates, State


def explore_crashes(
    act: Callable[[Path], object],
    check: Callable[[Path, list[Any]], object],
    *,
    arrange: Callable[[Path], object] | None = None,
    backend: Literal["asyncio", "trio"] = "asyncio",
    disk: Literal["process", "power"] = "power",
    recorder: Literal["python", "strace"] = "python",
    depth: int = 1,
    max_states: int = 10_000,
    max_failures: int | None = 1,
    timeout: float = 5.0,
    replay: str | None = None,
    on_state: Callable[[CrashProgress], object] | None = None,
) -> CrashExploration:
    """Test that a program recovers from a crash at any moment, by checking every folder that a crash can leave behind.

    *act* receives an empty folder and writes to it. It calls `acknowledge(value)` once something must not get lost.
    *check* receives the folder as a crash left it, and the list of the values that were acknowledged by then. It opens
    the store again, and asserts what must hold. Both run in processes of their own, and can be async functions.

    The operations of *act* on files are recorded once. The states that a crash at any point of them can leave are
    computed from that, and *check* runs on each. A state is what the folder contains, and what was acknowledged.

    Args:
        act: The function that writes.
        check: The function that recovers.
        arrange: A function that makes the folder's first content. No crash takes any of that away.
        backend: The event loop of async functions.
        disk: `"process"` if only the process dies: at each operation and visit, and what was written is there.
            `"power"` if what was not synced may be lost as well: each write as a whole or by half, and the latest
            changes of names.
        recorder: `"python"` records Python's own functions, `"strace"` the system calls of any code.
        depth: How many crashes follow each other. With 2, *check* crashes as well, at each of its own operations, and
            once more it must hold.
        max_states: The most states. Those in which everything written is there come first.
        max_failures: After how many broken states to stop, or `None` to check all states.
        timeout: The most seconds of real time that one call may take.
        replay: The text from a failure. Makes only that state, runs *check*, and leaves the folder behind.
        on_state: A function to call with a `CrashProgress` after each state.

    Returns:
        A `CrashExploration`. `str()` of it is a line that describes what was checked.

    Raises:
        ExplorationFailed: *check* failed on a state, or *act* failed by itself, or does different things each time. An
            `AssertionError`, with the original error as its cause. Its message has the operations, what the disk kept
            of them, and the files that came of it.
        FailpointUsageError: An argument is not valid, or *act* does something that cannot be recorded: it writes
            outside of its folder, leaves threads or processes behind, or uses the network or `mmap`.

    >>> from failpoints.explore import acknowledge, explore_crashes
    >>> def save(folder):
    ...     (folder / "new").write_text("saved")
    ...     (folder / "new").rename(folder / "state")
    ...     acknowledge("saved")
    >>> def check(folder, acknowledged):
    ...     assert not acknowledged or (folder / "state").read_text() == "saved"
    >>> print(explore_crashes(save, check, disk="process"))
    5 states after the end of the process at any point of 3 operations: no failure

    The model of the disk is similar to that of ALICE (Pillai et al., 2014).
    """
    __tracebackhide__ = True
    options = CrashOptions(
        act=act,
        check=check,
        arrange=arrange,
        backend=backend,
        disk=disk,
        recorder=recorder,
        depth=depth,
        max_states=max_states,
        max_failures=max_failures,
        timeout=timeout,
        replay=replay,
        on_state=on_state,
    )
    warm_up(backend)
    with (
        _folder() as folder,
        tempfile.TemporaryFile() as output,
        closing(_Exploration(options, folder, output)) as exploration,
    ):
        result: CrashExploration | None = None
        try:
            return (result := exploration.run() if options.replayed is None else exploration.replay(options.replayed))
        finally:
            for spectator in spectators:
                spectator.ended(result, counted(0 if result is None else result.states, "state"))


@contextmanager
def _folder() -> Generator[str]:
    """Make the folder in which everything takes place, so that absolute paths in files stay valid."""
    around = os.path.realpath(tempfile.mkdtemp(prefix="failpoints-crashes-"))
    try:
        yield os.path.join(around, "folder")
    finally:
        shutil.rmtree(around, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Program:
    """Something that may crash: `act`, or the `check` of a state that earlier *crashes* have left."""

    recording: Recording
    crashes: tuple[tuple[Recording, State], ...] = ()


class _Exploration:
    def __init__(self, options: CrashOptions, folder: str, output: IO[bytes]) -> None:
        self._options = options
        self._output = output  # of `check`
        self._folder = folder
        self._states = self._broken = self._operations = 0
        self._bounds: list[str] = []
        self._failures: list[Failure] = []
        self._text = ""  # of the first failure
        self._cause: BaseException | None = None
        self._confirmed: set[tuple[str, str]] = set()  # kinds and places of failures
        self._acknowledged: list[bytes] = []  # all values, pickled
        self._next: Child | None = None  # forked for the next state, while `check` runs on this one

    def close(self) -> None:
        """End the process that no state was left for."""
        if self._next is not None:
            self._next.end()

    # The parts of an exploration

    def run(self) -> CrashExploration:
        __tracebackhide__ = True
        programs = deque([_Program(self._record_twice())])
        known: set[bytes] = set()
        while programs:
            program = programs.popleft()
            for state in self._states_of(program, known):
                if self._states >= self._options.max_states:
                    self._bounds.append(f"stopped at max_states={self._options.max_states:,}")
                    programs.clear()
                    break
                following = self._check(program, state)
                if following is not None:
                    programs.append(following)
                if len(self._failures) == self._options.max_failures:
                    raise crashes_failed(self._options, self._text, self._result(), self._cause)
        result = self._result(exhaustive=not self._bounds)
        if self._failures:
            raise crashes_failed(self._options, self._text, result, self._cause)
        return result

    def replay(self, replay: Replay) -> CrashExploration:
        __tracebackhide__ = True
        program = _Program(self._record_twice())
        state: State | None = None
        if checksum(program.recording.operations, program.recording.own) == replay.checksum:
            state = self._crash_states(program, set()).state(replay.losses[0])
        for loss in replay.losses[1:]:
            if state is None:
                break
            _, following = self._run_check(program, state, is_recorded=True)
            if following is None:
                state = None
                break
            program = following
            state = self._crash_states(program, set()).state(loss)
        if state is None:
            self._bounds.append("the program does not do what the replay was made from")
            return self._result(replayed=True)
        left = os.path.join(tempfile.mkdtemp(prefix="failpoints-crash-"), "folder")
        write_folder(left, state.names, state.files)
        ending, _ = self._run_check(program, state, is_recorded=False)
        self._states = 1
        if ending.kind != "returned":
            self._add_failure(program, state, ending)
            result = self._result(replayed=True, folder=left)
            raise crashes_failed(self._options, self._text, result, self._cause)
        return self._result(replayed=True, folder=left)

    def _result(
        self, *, exhaustive: bool = False, replayed: bool = False, folder: str | None = None
    ) -> CrashExploration:
        return CrashExploration(
            states=self._states,
            broken=self._broken,
            exhaustive=exhaustive,
            failures=tuple(self._failures),
            operations=self._operations,
            disk=self._options.disk,
            bounds=tuple(dict.fromkeys(self._bounds)),
            replayed=replayed,
            folder=folder,
        )

    def _record_twice(self) -> Recording:
        """Return what `act` does, after checking that it does the same each time."""
        __tracebackhide__ = True
        options = self._options
        name = name_of(options.act, "act")
        recordings: list[Recording] = []
        for _ in range(2):
            write_folder(self._folder, {}, {})
            if options.arrange is not None:
                function = partial(call, options.arrange, Path(self._folder), backend=options.backend)
                ending = run_in_child(partial(_only, function), options.timeout)
                if ending.kind != "returned":
                    raise failed_without_crash("arrange failed, before anything could crash", ending, self._result())
            ending, recording = self._record(options.act, (Path(self._folder),), is_act=True)
            if recording is None:
                raise failed_without_crash(f"{name} failed without any crash: fix this first", ending, self._result())
            recordings.append(recording)
        one = self._compared(name, *recordings)
        self._operations = sum(not isinstance(each, Acknowledge | Visit) for each in one.operations)
        self._acknowledged = [each.value for each in one.operations if isinstance(each, Acknowledge)]
        return one

    def _compared(self, name: str, one: Recording, other: Recording) -> Recording:
        """Return the first of two recordings of the same function, after checking that it did the same each time."""
        __tracebackhide__ = True
        differing = first_difference(one, other)
        if differing is not None:
            raise nondeterministic(
                f"{name} is nondeterministic: where it did {differing[0]!r} in one run, it did {differing[1]!r} in the"
                " next",
                self._result(),
            )
        if shapes(one.operations) == shapes(other.operations):
            one = replace(one, own=())  # a small number of a process may be in names by chance
        else:
            self._bounds.append(f"{name} names files after its process, and one run was explored")
        if _written(one) != _written(other):
            self._bounds.append(f"{name} writes other bytes in each run (a time, an id), and one run was explored")
        return one

    def _record(
        self, function: Callable[..., Any], arguments: tuple[object, ...], *, is_act: bool
    ) -> tuple[Ending, Recording | None]:
        options = self._options
        ending, recording = record(
            function,
            arguments,
            self._folder,
            recorder=options.recorder,
            backend=options.backend,
            timeout=options.timeout,
            is_act=is_act,
        )
        for path in () if recording is None else recording.mapped:
            self._bounds.append(f"what is written to {path!r} by a memory map (mmap) is out of sight")
        return ending, recording

    def _crash_states(self, program: _Program, known: set[bytes]) -> CrashStates:
        return CrashStates(
            program.recording.start,
            program.recording.operations,
            is_power=self._options.is_power,
            limit=self._options.max_states,
            known=known,
            acknowledged=program.crashes[-1][1].acknowledged if program.crashes else 0,
        )

    def _states_of(self, program: _Program, known: set[bytes]) -> Iterator[State]:
        states = self._crash_states(program, known)
        yield from states
        if states.is_cut_off:
            self._bounds.append(f"a file had more than max_states={self._options.max_states:,} versions")

    # One state

    def _check(self, program: _Program, state: State) -> _Program | None:
        """Run `check` on a state, and return it as a program that may crash, if that is to be explored."""
        __tracebackhide__ = True
        options = self._options
        is_recorded = len(program.crashes) + 1 < options.depth
        ending, following = self._run_check(program, state, is_recorded=is_recorded)
        self._states += 1
        if ending.kind != "returned":
            if self._states == 1:
                what = f"{name_of(options.check, 'check')} fails on the folder that act has not touched yet"
                raise failed_without_crash(f"{what}: fix this first", ending, self._result())
            if (ending.kind, ending.location) not in self._confirmed:
                self._confirm(program, state, ending)
            self._add_failure(program, state, ending)
        for spectator in spectators:
            spectator.advanced(self._states, None, "states")
        if options.on_state is not None:
            options.on_state(CrashProgress(self._states, options.max_states, self._broken))
        return following

    def _confirm(self, program: _Program, state: State, ending: Ending) -> None:
        """Run `check` again on a state that it failed on: it must fail again."""
        __tracebackhide__ = True
        again, _ = self._run_check(program, state, is_recorded=False)
        if not again.is_like(ending):
            raise self._failed_only_sometimes(ending, again)
        self._confirmed.add((ending.kind, ending.location))

    def _failed_only_sometimes(self, ending: Ending, again: Ending) -> ExplorationFailed:
        return nondeterministic(
            f"{name_of(self._options.check, 'check')} is nondeterministic: on one folder, it ended with"
            f" {ending.sentence or 'no error'!r}, and then with {again.sentence or 'no error'!r}",
            self._result(),
        )

    def _add_failure(self, program: _Program, state: State, ending: Ending) -> None:
        crashes = (*program.crashes, (program.recording, state))
        losses = tuple(crash.loss for _, crash in crashes)
        replay = str(Replay(losses, checksum(crashes[0][0].operations, crashes[0][0].own)))
        failure = failure_of(self._options, crashes, ending, replay)
        self._broken += 1
        self._failures.append(failure)
        if not self._text:
            self._output.seek(0)
            printed = self._output.read().decode(errors="replace")
            self._text = describe_failure(self._options, crashes, ending, failure, printed)
            self._cause = ending.error

    def _run_check(self, program: _Program, state: State, *, is_recorded: bool) -> tuple[Ending, _Program | None]:
        options = self._options
        write_folder(self._folder, state.names, state.files)
        self._output.truncate(0)
        self._output.seek(0)
        check = partial(_check_with, options.check, self._acknowledged, self._output.fileno())
        if not is_recorded:
            return self._in_child(check, state), None
        arguments = Path(self._folder), state.acknowledged
        ending, recording = self._record(check, arguments, is_act=False)
        if recording is None or not recording.operations:
            return ending, None
        write_folder(self._folder, state.names, state.files)
        again, other = self._record(check, arguments, is_act=False)
        if other is None:
            raise self._failed_only_sometimes(ending, again)
        recording = self._compared(name_of(options.check, "check"), recording, other)
        return ending, _Program(recording, (*program.crashes, (program.recording, state)))

    def _in_child(self, check: Callable[[Path, int], object], state: State) -> Ending:
        """Run `check` in a child process, and fork the one for the next state meanwhile, on another processor."""

        def function(acknowledged: int) -> None:
            call(check, Path(self._folder), acknowledged, backend=self._options.backend)

        child, self._next = self._next or Child(function), None
        try:
            child.start(state.acknowledged, is_error_needed=not self._confirmed)
            self._next = Child(function)
            return child.wait(self._options.timeout)
        finally:
            child.end()


def _check_with(check: Callable[..., Any], acknowledged: list[bytes], output: int, folder: Path, count: int) -> Any:
    """Run `check`. What it prints goes into a file, since it runs on thousands of states."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = sys.stderr = open(1, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115 - stays open
    return check(folder, [pickle.loads(value) for value in acknowledged[:count]])


def _only(function: Callable[[], object]) -> None:
    """Call a function whose result nobody wants, and which may not be picklable."""
    function()


def _written(recording: Recording) -> list[Operation]:
    return [each for each in recording.operations if isinstance(each, Write | Truncate | Acknowledge)]
