"""The messages about crashes: what was done, what the disk kept, the files that came of it, and what `check` said."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeAlias

from .._core.messages import safe_repr
from .._explore.result import ExplorationFailed, Failure
from .disk import Names, renamed
from .losses import Loss, Part
from .operations import ROOT, Acknowledge, Kind, Link, Make, Operation, Remove, Rename, Sync, Truncate, Visit, Write
from .options import CrashOptions, name_of
from .processes import Ending
from .recording import Recording
from .result import CrashExploration
from .states import State

_MAX_LINES = 60  # of a list of operations; from a longer one the middle is left out
_MAX_FILES = 20
_MAX_PRINTED = 10  # lines of the output of `check`
_MAX_SHOWN = 48  # bytes of a file
_MAX_OTHERS = 10  # failures with one line each


_Crashes: TypeAlias = Sequence[tuple[Recording, State]]
"""The recording of `act` and the state that it left, then of each `check` that crashed as well."""


def failure_of(options: CrashOptions, crashes: _Crashes, ending: Ending, replay: str) -> Failure:
    """Return a state that `check` failed on as a failure."""
    timeline: list[str] = []
    for number, (recorded, left) in enumerate(crashes):
        timeline.append(f"{name_of(options.check, 'check') if number else name_of(options.act, 'act')}:")
        timeline += _operation_lines(recorded, left.loss, is_power=options.is_power)
    summary = f"check {ending.sentence}" if ending.kind != "error" else ending.sentence
    return Failure(ending.kind, summary.splitlines()[0], tuple(timeline), (), replay)


def describe_failure(options: CrashOptions, crashes: _Crashes, ending: Ending, failure: Failure, printed: str) -> str:
    """Return the text that reports a failure. *printed* is the output of `check`."""
    _recording, state = crashes[-1]
    summary = f"check {ending.sentence}" if ending.kind != "error" else ending.sentence
    values = [pickle.loads(each.value) for each in _acknowledged(crashes)]
    where = f", at {ending.location}" if ending.location else ""
    lines = [f"{summary}{where}", "", *(f"  {line}" for line in failure.timeline), "", "  the folder then:"]
    lines += [f"    {line}" for line in _file_lines(state)]
    if printed.strip():
        lines += ["", "  check printed:", *(f"    {line}" for line in printed.splitlines()[-_MAX_PRINTED:])]
    lines += [
        "",
        f"acknowledged:       {safe_repr(values)}",
        f"repeat this state:  {options.replay_call(failure.replay)}",
    ]
    return "\n".join(lines)


def _acknowledged(crashes: _Crashes) -> list[Acknowledge]:
    recording, state = crashes[0]
    done = recording.operations[: state.loss.cut]
    return [operation for operation in done if isinstance(operation, Acknowledge)]


def crashes_failed(
    options: CrashOptions, text: str, exploration: CrashExploration, cause: BaseException | None
) -> ExplorationFailed:
    """Return the exception to raise for the failures of an exploration. *text* describes the first one."""
    crash = "a power loss" if options.is_power else "the end of the process"
    name = name_of(options.check, "check")
    where = "in the replay" if exploration.replayed else f"in {exploration.broken:,} of {exploration.states:,} states"
    lines = [f"{name} failed {where} after {crash}: {text}"]
    others = exploration.failures[1:]
    if others:
        lines += ["", "other states:"]
        lines += [f"  {failure.summary}  replay={failure.replay!r}" for failure in others[:_MAX_OTHERS]]
    if len(others) > _MAX_OTHERS:
        lines.append(f"  … {len(others) - _MAX_OTHERS:,} more")
    if exploration.folder is not None:
        lines.append(f"the folder is left behind in {exploration.folder}")
    failed = ExplorationFailed("\n".join(lines), exploration, exploration.failures[0])
    failed.__cause__ = cause
    return failed


def failed_without_crash(what: str, ending: Ending, exploration: CrashExploration) -> ExplorationFailed:
    """Return the exception to raise if a function fails although nothing has crashed yet."""
    where = f", at {ending.location}" if ending.location else ""
    summary = f"{what}: {ending.sentence}"
    failure = Failure(ending.kind, summary.splitlines()[0])
    exploration = replace(exploration, failures=(failure,))
    failed = ExplorationFailed(f"{summary}{where}", exploration, failure)
    failed.__cause__ = ending.error
    return failed


def nondeterministic(what: str, exploration: CrashExploration) -> ExplorationFailed:
    """Return the exception to raise for a function that does other things each time."""
    lines = [
        what,
        "Remove what differs from run to run: the time, random numbers that do not come from Python, threads, and",
        "state outside of the folder.",
    ]
    failure = Failure("nondeterministic", what.splitlines()[0])
    return ExplorationFailed("\n".join(lines), replace(exploration, failures=(failure,)), failure)


def _operation_lines(recording: Recording, loss: Loss, *, is_power: bool) -> list[str]:
    disk = recording.start
    names: Names = disk.current
    known = {number: path for path, number in names.items()}
    rows: list[tuple[int, str]] = []
    for position, operation in enumerate(recording.operations[: loss.cut]):
        rows.append((position, describe_operation(operation, known)))
        disk = disk.after(position, operation)
        if isinstance(operation, Make | Link | Rename | Remove):
            names = renamed(names, operation)
            known |= {number: path for path, number in names.items()}
    fates = _fates(
        recording.operations, loss, {each.position for each in disk.pending[len(disk.pending) - loss.dropped :]}
    )
    width = max((len(text) for _, text in rows), default=0)
    lines = [_line(position + 1, text, width, fates.get(position, "")) for position, text in rows]
    if len(lines) > _MAX_LINES:
        half = _MAX_LINES // 2
        lines[half:-half] = [f"  … {len(lines) - 2 * half} more operations …"]
    return [*lines, "       — the power fails —" if is_power else "       — the process dies —"]


@lru_cache(maxsize=4096)
def _line(number: int, text: str, width: int, fate: str) -> str:
    """Return a line of a timeline. Thousands of failures have the same lines, and share their text."""
    return f"  {number:>3}  {text:<{width}}  {fate}".rstrip()


def _fates(operations: Sequence[Operation], loss: Loss, taken_back: set[int]) -> dict[int, str]:
    """Return what the disk lost of each operation, by its position."""
    fates = dict.fromkeys(taken_back, "LOST")
    fates |= {position: "LOST" if part is Part.NONE else "HALF OF IT LOST" for position, part in loss.lost}
    missing: set[int] = set()
    for position, operation in enumerate(operations[: loss.cut]):
        if position in taken_back and isinstance(operation, Make | Truncate):
            missing.add(operation.file)
        elif isinstance(operation, Write) and operation.file in missing:
            fates[position] = "LOST"
    return fates


def describe_operation(operation: Operation, known: dict[int, str]) -> str:
    """Return an operation in words. *known* has the latest path of each file."""

    def name(number: int) -> str:
        return "the folder" if number == ROOT else known.get(number, "a file without a name")

    match operation:
        case Make(None):
            return "create a file without a name"
        case Make(path, _, Kind.FILE):
            return f"create {path}"
        case Make(path, _, Kind.FOLDER):
            return f"make the folder {path}"
        case Make(path, _, _, target):
            return f"make the symbolic link {path} to {target}"
        case Link(path, file):
            return f"link {name(file)} as {path}"
        case Rename(source, path):
            return f"rename {source} to {path}"
        case Remove(path):
            return f"remove {path}"
        case Truncate(file, size):
            return f"truncate {name(file)} to {_bytes(size)}"
        case Write(file, offset, data):
            return f"write {_bytes(len(data))} at {offset:,} of {name(file)}"
        case Sync(file):
            return "sync everything" if file is None else f"fsync {name(file)}"
        case Acknowledge(value):
            return f"acknowledge {safe_repr(pickle.loads(value))}"
        case Visit(visited):
            return f"visit {visited}"


def _bytes(number: int) -> str:
    return "1 byte" if number == 1 else f"{number:,} bytes"


def _file_lines(state: State) -> list[str]:
    if not state.names:
        return ["(it is empty)"]
    width = max(map(len, state.names))
    lines: list[str] = []
    for path in sorted(state.names):
        kind, target, content = state.files[state.names[path]]
        if kind is not Kind.FILE:
            lines.append(f"{path:<{width}}  {kind.value}{f' to {target}' if target else ''}")
            continue
        data = content.to_bytes()
        more = "…" if len(data) > _MAX_SHOWN else ""
        lines.append(f"{path:<{width}}  {_bytes(len(data))}  {data[:_MAX_SHOWN]!r}{more}")
    if len(lines) > _MAX_FILES:
        lines[_MAX_FILES:] = [f"… {len(lines) - _MAX_FILES} more"]
    return lines
