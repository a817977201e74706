"""Records what a function does to a folder, in a process of its own."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from itertools import zip_longest
from typing import Any

import anyio

from .._core.clock import monotonic
from .._core.hooks import exploring
from .._core.late_imports import import_for_visits
from .._core.store import arm_all_sites
from ..errors import FailpointUsageError
from .disk import Disk
from .folder import difference, read_disk
from .losses import shapes
from .notes import Markers, NotedVisits, Notes
from .operations import Operation
from .processes import Ending, call, run_in_child
from .processes import warm_up as warm_up_processes
from .strace import trace
from .traced import BEGIN, END

_LEFT = 1.0  # seconds for threads to end that are about to

_notes: Notes | None = None  # in a process that records


def acknowledge(value: object) -> None:
    """Note that *value* was promised to a client: what `act` of `explore_crashes` calls once something is saved.

    `check` receives all values that were acknowledged before the crash, in order. Outside of `act`, this does nothing.

    Args:
        value: Anything that can be pickled.

    Raises:
        FailpointUsageError: The value cannot be pickled.

    >>> from failpoints.explore import acknowledge
    >>> acknowledge("saved")
    """
    if _notes is not None:
        _notes.acknowledge(value)


@dataclass(frozen=True, slots=True)
class Recording:
    """What a function has done to a folder.

    Attributes:
        start: The folder before.
        operations: What it did, in order.
        refused: What it did that cannot be recorded, or "".
        own: The numbers of its process and its thread, which may be in names of files.
        mapped: Files that it writes to by a memory map, of which nothing is recorded.
    """

    start: Disk
    operations: Sequence[Operation]
    refused: str = ""
    own: tuple[str, ...] = ()
    mapped: tuple[str, ...] = ()


def warm_up(backend: str) -> None:
    """Import what child processes need, since each of them would import it again."""
    import_module(f"{__package__}.files")  # here, because it needs modules that Windows does not have
    anyio.run(anyio.sleep, 0, backend=backend)
    import_for_visits()
    with _deterministic_order(backend):
        warm_up_processes()


def record(
    function: Callable[..., Any],
    arguments: tuple[object, ...],
    folder: str,
    *,
    recorder: str,
    backend: str,
    timeout: float,
    is_act: bool,
) -> tuple[Ending, Recording | None]:
    """Run a function in a child process, and return how it ended, and what it did if it returned.

    Raises:
        FailpointUsageError: It did something that cannot be recorded.
    """
    if recorder == "strace":
        ending, recording = _trace(function, arguments, folder, backend, timeout, is_act=is_act)
    else:
        ending = run_in_child(lambda: _record(function, arguments, folder, backend, is_act=is_act), timeout)
        recording = ending.value if ending.kind == "returned" else None
    if recording is not None and recording.refused:
        raise FailpointUsageError(recording.refused)
    return ending, recording


def _record(
    function: Callable[..., Any], arguments: tuple[object, ...], folder: str, backend: str, *, is_act: bool
) -> Recording:
    from .files import Replaced  # imported here because it needs modules that Windows does not have

    disk, numbers = read_disk(folder)
    notes = Notes(folder, numbers)
    Replaced(notes).install()
    try:
        _run(function, arguments, notes, backend, is_act=is_act)
    except BaseException:
        if not notes.refused:
            raise
    refused = notes.refused or _left_behind() or _not_seen(folder, disk, notes.operations)
    return Recording(disk, notes.operations, refused, _own_numbers())


def _trace(
    function: Callable[..., Any],
    arguments: tuple[object, ...],
    folder: str,
    backend: str,
    timeout: float,
    *,
    is_act: bool,
) -> tuple[Ending, Recording | None]:
    def run(marker: int) -> tuple[str, tuple[str, ...]]:
        os.write(marker, BEGIN)
        _run(function, arguments, Markers(marker), backend, is_act=is_act)
        os.write(marker, END)
        return _left_behind(), _own_numbers()

    start, _ = read_disk(folder)
    ending, traced = trace(run, timeout, folder, start)
    if traced.refused:
        return ending, Recording(start, (), traced.refused)
    if ending.kind != "returned":
        return ending, None
    left, own = ending.value
    if not traced.is_complete:
        return ending, Recording(start, (), "strace ended before the program: what the program did then was not seen")
    refused = left or _not_seen(folder, start, traced.operations, set(traced.mapped))
    return ending, Recording(start, traced.operations, refused, own, tuple(traced.mapped.values()))


def _run(
    function: Callable[..., Any], arguments: tuple[object, ...], notes: Notes, backend: str, *, is_act: bool
) -> None:
    global _notes
    _notes = notes if is_act else None
    sys.dont_write_bytecode = True  # Python's own files are not the program's
    import_for_visits()
    arm_all_sites(armed=True)
    exploring.set(NotedVisits(notes))
    with _deterministic_order(backend):
        call(function, *arguments, backend=backend)


def _deterministic_order(backend: str) -> AbstractContextManager[None]:
    if backend == "trio":
        from .._explore.loops import trio_order

        return trio_order.deterministic_order()
    from .._explore.loops import asyncio_order

    return asyncio_order.deterministic_order()


def _own_numbers() -> tuple[str, ...]:
    return str(os.getpid()), str(threading.get_ident())


def _left_behind() -> str:
    deadline = monotonic() + _LEFT
    for thread in threading.enumerate():
        if thread is threading.current_thread() or thread.name.startswith("Trio thread"):  # idle, and kept for later
            continue
        thread.join(max(0.0, deadline - monotonic()))
        if thread.is_alive():
            return f"the program leaves a thread behind, which may go on writing: {thread.name!r}. End it first"
    child = -1
    while child:  # one that has ended comes before one that runs
        try:
            child, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ""
    return "the program leaves a child process behind, which may go on writing. End it first"


def _not_seen(folder: str, disk: Disk, operations: Sequence[Operation], mapped: set[int] | None = None) -> str:
    for position, operation in enumerate(operations):
        disk = disk.after(position, operation)
    found = difference(folder, disk, mapped or set())
    if not found:
        return ""
    if mapped is not None:
        return f"the program changes its folder in a way that strace does not show: {found}"
    return (
        f"the program changes its folder in a way that recorder='python' does not see, such as in C code or in a"
        f" child process: {found}. recorder='strace' sees the system calls of all code"
    )


def first_difference(one: Recording, other: Recording) -> tuple[str, str] | None:
    """Return the first operations in which two recordings differ, or `None`.

    Written bytes may differ, and the numbers of the process in names.
    """
    whole = shapes(one.operations), shapes(other.operations)
    without_numbers = shapes(one.operations, one.own), shapes(other.operations, other.own)
    pairs, others = (zip_longest(*both, fillvalue="nothing more") for both in (whole, without_numbers))
    for pair, pair_without_numbers in zip(pairs, others, strict=True):
        if pair[0] != pair[1] and pair_without_numbers[0] != pair_without_numbers[1]:
            return pair_without_numbers
    return None
