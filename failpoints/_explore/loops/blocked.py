"""Describes the tasks of a stuck run: the line that each is at, and the lock that it waits for, with its holder."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import anyio

from ..lock_names import lock_name as name_of_lock
from ..plan.identity import TaskNode, TaskPath, current_node
from ..problem import BlockedTask, Problem
from ..replacement import Replacement
from ..user_frames import frame_location, innermost_user_frame, source_line

_SENTENCES = {
    "deadlock": "deadlock: every task is waiting, and no timer, thread or I/O is left that could wake one",
    "hang": "the run did not end",
    "asleep": "",
    "leak": "tasks were still running when the scenario had ended",
}


@dataclass(frozen=True, slots=True)
class UnfinishedTask:
    """A task that has not ended.

    `ident` is the `id()` of the task of the event loop, and `frames` its frames, the outermost first. `awaits` is the
    future that it awaits, on asyncio.
    """

    node: TaskNode
    ident: int
    frames: list[FrameType]
    awaits: object = None


def blocked_problem(kind: str, unfinished: Sequence[UnfinishedTask], notes: Sequence[str] = ()) -> Problem:
    """Return a problem of this kind, with what each unfinished task is waiting for."""
    nodes = {each.ident: each.node for each in unfinished}
    lock_names: dict[int, str] = {}  # by id() of the lock
    blocked = tuple(_describe(each, nodes, lock_names) for each in unfinished)
    return Problem(kind, _SENTENCES[kind], notes=tuple(notes), blocked=blocked)


def _describe(task: UnfinishedTask, nodes: dict[int, TaskNode], lock_names: dict[int, str]) -> BlockedTask:
    frames = task.frames
    innermost = innermost_user_frame(frames)
    where = line = ""
    if innermost >= 0:
        where, line = frame_location(frames[innermost]), source_line(frames[innermost])
    waits_in = frames[innermost + 1].f_code.co_qualname if innermost + 1 < len(frames) else ""
    lock = _awaited_lock(frames[innermost + 1 :])
    holder: TaskPath | None = None
    lock_name = ""
    if lock is not None:
        name = name_of_lock((lock.outer, lock.inner), type(lock.outer).__name__, frames[: innermost + 1])
        namesakes = sum(known.partition(" (")[0] == name for known in lock_names.values())
        lock_name = lock_names.setdefault(id(lock.inner), f"{name} ({namesakes + 1})" if namesakes else name)
        holder = _holder(lock.inner, nodes)
    awaited = nodes.get(id(task.awaits))
    return BlockedTask(
        task.node.path, where, line, waits_in, lock_name, holder, awaited.path if awaited is not None else None
    )


class _Lock(NamedTuple):
    """A lock as the user's code has it, and the lock inside that knows its owner. Often both are the same."""

    outer: Any
    inner: Any


def _awaited_lock(frames: Sequence[FrameType]) -> _Lock | None:
    locks: list[Any] = []
    for frame in frames:
        thing = frame.f_locals.get("self")
        if frame.f_code.co_name in ("acquire", "__aenter__") and _is_lock(thing):
            locks.append(thing)
    return _Lock(locks[0], locks[-1]) if locks else None


def _is_lock(thing: object) -> bool:
    if isinstance(thing, (asyncio.Lock, anyio.Lock)):
        return True
    return type(thing).__module__ == "trio" and hasattr(thing, "statistics") and hasattr(thing, "_owner")


def _holder(lock: Any, nodes: dict[int, TaskNode]) -> TaskPath | None:
    if isinstance(lock, asyncio.Lock):
        return _owners.get(lock)
    owner: Any = lock.statistics().owner
    if owner is None:
        return None
    # anyio has the id() of the owning task, trio the task itself.
    node = nodes.get(owner.id if isinstance(owner, anyio.TaskInfo) else id(owner))
    return node.path if node is not None else None


# The locks of asyncio do not know their owner, so it is recorded when they become locked.

_owners: WeakKeyDictionary[asyncio.Lock, TaskPath] = WeakKeyDictionary()


class _RecordingFlag:
    """Stands in the class of a lock for the attribute that each lock has, and records which task has set it."""

    def __get__(self, lock: asyncio.Lock | None, kind: type) -> Any:
        return self if lock is None else lock.__dict__["_locked"]

    def __set__(self, lock: asyncio.Lock, is_locked: bool) -> None:
        lock.__dict__["_locked"] = is_locked
        node = current_node.get()
        if is_locked and node is not None:
            _owners[lock] = node.path


_lock_class: Any = asyncio.Lock
_recording: Final = Replacement(
    partial(setattr, _lock_class, "_locked", _RecordingFlag()), partial(delattr, _lock_class, "_locked")
)


def recording_lock_owners() -> AbstractContextManager[None]:
    """Record the last owner of each lock of asyncio, in the runs inside the block."""
    return _recording.in_this_thread()
