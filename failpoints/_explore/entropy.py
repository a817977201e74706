"""Makes random numbers and ids the same in every run: `random`, `os.urandom`, `secrets` and `uuid`.

Each task draws bytes from a generator of its own, whose seed is the position of the task in the tree of tasks. So the
order of the tasks does not change what a task draws. Code that does not belong to a run, such as that of other threads,
draws from the operating system as always. The functions of the module `random` share one generator, to which each run
gives the same seed.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import Context
from sys import _getframe  # pyright: ignore[reportPrivateUsage]
from typing import Any, Final

from .._core.reentrancy import transparent
from .plan.identity import TaskNode, current_node
from .replacement import Replacement

_EPOCH: Final = 1_700_000_000 * 10**9  # in ns; in the past, so that ids of other threads are later
_UUID_EPOCH: Final = 0x01B21DD213814000  # of the Unix epoch, in 100 ns since that of UUIDs
_LATEST = (
    "_last_timestamp",
    "_last_timestamp_v6",
    "_last_timestamp_v7",
)  # of uuid1, and since Python 3.14 of the others

_SEEDED: Final[Any] = random.Random(0).getstate()  # that of each run: faster than to seed

_process = 0  # the number of this process
_random_state: Any = None
_replaced: list[tuple[Any, str, Any, Any]] = []


def same_in_every_run() -> AbstractContextManager[None]:
    """Replace the sources of random bytes, and restore them and the state of `random` afterwards."""
    return _same.in_this_thread()


def begin_run(root: TaskNode) -> None:
    """Let the current context draw as the task of a scenario does."""
    current_node.set(root)
    random.setstate(_SEEDED)


def _replace_sources() -> None:
    global _process, _random_state
    _process = os.getpid()
    _random_state = random.getstate()
    sources: list[tuple[Any, str, Callable[[Any], Any]]] = [
        (os, "urandom", _urandom),
        (random, "_urandom", _urandom),  # of SystemRandom, and so of `secrets`
        (random.Random, "seed", _seed),
        (uuid, "_generate_time_safe", _generate_time_safe),  # written in C
        (time, "time_ns", _time_ns),
    ]
    for owner, name, replacing in sources:
        original = getattr(owner, name)
        if original is not None:  # no function of the operating system makes UUIDs with a time
            _replaced.append((owner, name, original, replacing(original)))
    for owner, name, _, replacement in _replaced:
        setattr(owner, name, replacement)


def _restore_sources() -> None:
    while _replaced:
        owner, name, original, replacement = _replaced.pop()
        if getattr(owner, name) is replacement:  # else another tool has replaced it, and not put it back yet
            setattr(owner, name, original)
    random.setstate(_random_state)


_same: Final = Replacement(_replace_sources, _restore_sources)

# The replacements. Each calls the original where the caller does not belong to a run.


def _urandom(original: Callable[[int], bytes]) -> Any:
    @transparent
    def urandom(size: int, /) -> bytes:
        return _source_of_bytes(original)(size)

    return urandom


def _source_of_bytes(original: Callable[[int], bytes]) -> Callable[[int], bytes]:
    task = _running_task()
    return original if task is None else _generator_of(task).randbytes


def _seed(original: Callable[..., None]) -> Any:
    @transparent
    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        original(self, _seed_for(a), version)

    return seed


def _seed_for(given: Any) -> Any:
    task = _running_task()
    return given if given is not None or task is None else _generator_of(task).getrandbits(256)


def _generate_time_safe(original: Callable[[], Any]) -> Any:
    @transparent
    def generate_time_safe() -> Any:
        return _source_of_uuids(original)()

    return generate_time_safe


def _source_of_uuids(original: Callable[[], Any]) -> Callable[[], Any]:
    task = _running_task()
    if task is None:
        return original
    timestamp = _next_time(task) // 100 + _UUID_EPOCH
    draw = _generator_of(task).getrandbits
    fields = (timestamp & 0xFFFFFFFF, timestamp >> 32 & 0xFFFF, timestamp >> 48, draw(6), draw(8), draw(48))
    made = uuid.UUID(fields=fields, version=1).bytes
    return lambda: (made, None)


def _time_ns(original: Callable[[], int]) -> Any:
    @transparent
    def time_ns() -> int:
        return _clock(original)()

    return time_ns


def _clock(original: Callable[[], int]) -> Callable[[], int]:
    """Return the clock for the caller of `time_ns`, which is the original one unless a run makes a UUID."""
    task = _running_task()
    caller = _getframe(2)
    if task is None or caller.f_globals is not vars(uuid):
        return original
    if caller.f_locals.get("node", "") is None:
        _find_hardware_address()
    for name in _LATEST:  # of an earlier run, or of another thread: it would make this one later
        if name in caller.f_globals:
            caller.f_globals[name] = None
    now = _next_time(task)
    return lambda: now


def _find_hardware_address() -> None:
    """Call `getnode`, which takes a random number in the first run only, if it finds no address."""
    if vars(uuid)["_node"] is None:
        state = random.getstate()
        Context().run(uuid.getnode)
        random.setstate(state)


# The generators of the tasks


def _running_task() -> TaskNode | None:
    """Return the task of a run that draws, or `None` outside of runs, and in a process that a run has forked.

    All processes that are forked in one place would draw the same.
    """
    return current_node.get() if os.getpid() == _process else None


def _generator_of(task: TaskNode) -> random.Random:
    if task.generator is None:
        task.generator = random.Random(repr(task.path))
    return task.generator


def _next_time(task: TaskNode) -> int:
    """Return a later time each time, in ns. No two tasks are likely to get the same."""
    task.ticks += 1
    return _EPOCH + task.ticks * 1_000_000 + _generator_of(task).randrange(10_000) * 100
