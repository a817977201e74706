"""What each task of a run that got stuck waits for: where it stands, which lock, and who holds that."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import anyio

from ..._core.own_calls import passes_on
from ..plan.places import Place, current_place
from ..problem import Blocked, Problem
from ..program_frames import innermost, line_at, shown_place

_SENTENCES = {
    "deadlock": "deadlock: every task waits, and no timer, thread or I/O is pending that could let one go on",
    "hang": "the run did not end",
    "leak": "tasks were still alive when the scenario had ended",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """A task that has not ended: its place, its `id()`, its frames from the outermost on, what it awaits in C."""

    place: Place
    ident: int
    frames: list[FrameType]
    awaits: object = None


def blocked_problem(kind: str, standing: Sequence[Standing], notes: Sequence[str] = ()) -> Problem:
    """A problem of this kind, with what each task waits for."""
    places = {each.ident: each.place for each in standing}
    lock_names: dict[int, str] = {}  # by the id of the lock
    blocked = tuple(_blocked(each, places, lock_names) for each in standing)
    return Problem(kind, _SENTENCES[kind], notes=tuple(notes), blocked=blocked)


def _blocked(standing: Standing, places: dict[int, Place], lock_names: dict[int, str]) -> Blocked:
    frames = standing.frames
    theirs = innermost(frames)
    where = line = ""
    if theirs >= 0:
        frame = frames[theirs]
        where, line = shown_place(frame.f_code.co_filename, frame.f_lineno), line_at(frame)
    waits_in = frames[theirs + 1].f_code.co_qualname if theirs + 1 < len(frames) else ""
    lock = _lock_waited_for(frames[theirs + 1 :])
    holder: tuple[int, ...] | None = None
    lock_name = ""
    if lock is not None:
        name = _name_of(lock, frames[: theirs + 1])
        others = sum(known.partition(" (")[0] == name for known in lock_names.values())
        lock_name = lock_names.setdefault(id(lock.inner), f"{name} ({others + 1})" if others else name)
        holder = _holder(lock.inner, places)
    awaited = places.get(id(standing.awaits))
    return Blocked(
        standing.place.path, where, line, waits_in, lock_name, holder, awaited.path if awaited is not None else None
    )


class _Lock(NamedTuple):
    """A lock: as the program has it, and the one inside that knows its owner."""

    outer: Any
    inner: Any


def _lock_waited_for(frames: Sequence[FrameType]) -> _Lock | None:
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


def _holder(lock: Any, places: dict[int, Place]) -> tuple[int, ...] | None:
    if isinstance(lock, asyncio.Lock):
        return _owners.get(lock)
    owner: Any = lock.statistics().owner
    if owner is None:
        return None
    # anyio tells of a task what id() says of it, trio gives the task itself.
    place = places.get(owner.id if isinstance(owner, anyio.TaskInfo) else id(owner))
    return place.path if place is not None else None


def _name_of(lock: _Lock, frames: Sequence[FrameType]) -> str:
    """What the program calls the lock, where that can be found."""
    for frame in reversed(frames):
        for scope in (frame.f_locals, frame.f_globals):
            for name, thing in scope.items():
                if thing is lock.outer or thing is lock.inner:
                    return name
        for name, thing in frame.f_locals.items():
            for attribute, value in _attributes(thing):
                if value is lock.outer or value is lock.inner:
                    return f"{name}.{attribute}"
    return f"{type(lock.outer).__name__} without a name"


def _attributes(thing: Any) -> list[tuple[str, Any]]:
    try:
        return [*cast(dict[str, Any], object.__getattribute__(thing, "__dict__")).items()]
    except AttributeError:
        return []


# asyncio's locks do not know who holds them

_owners: WeakKeyDictionary[asyncio.Lock, tuple[int, ...]] = WeakKeyDictionary()
_lock = threading.Lock()
_remembered_by = 0
_acquire = asyncio.Lock.acquire


@passes_on
async def _acquire_and_remember(self: asyncio.Lock) -> Any:
    await _acquire(self)
    _remember(self)
    return True


def _remember(lock: asyncio.Lock) -> None:
    place = current_place.get()
    if place is not None:
        _owners[lock] = place.path


@contextmanager
def remembering_owners() -> Generator[None]:
    """Keep, for the runs inside, which task acquired each of asyncio's locks last."""
    global _acquire, _remembered_by
    with _lock:
        if not _remembered_by:
            _acquire = asyncio.Lock.acquire
            asyncio.Lock.acquire = _acquire_and_remember  # type: ignore[method-assign]
        _remembered_by += 1
    try:
        yield
    finally:
        with _lock:
            _remembered_by -= 1
            if not _remembered_by:
                asyncio.Lock.acquire = _acquire  # type: ignore[method-assign]
