"""Finds the name that a program has for a lock, for messages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import FrameType
from typing import Any, cast


def lock_name(locks: Collection[object], kind: str, frames: Sequence[FrameType]) -> str:
    """Return the name of a lock in the user's code, such as `self.lock`, where it can be found.

    *locks* has the lock, and those that have it inside. *frames* are those of the user's code, the outermost first.
    """
    known = {id(lock) for lock in locks if lock is not None}
    for frame in reversed(frames):
        for scope in (frame.f_locals, frame.f_globals):
            for name, thing in scope.items():
                if id(thing) in known:
                    return name
        for name, thing in frame.f_locals.items():
            for attribute, value in _attributes(thing):
                if id(value) in known:
                    return f"{name}.{attribute}"
    return f"{kind} without a name"


def _attributes(thing: Any) -> list[tuple[str, Any]]:
    try:
        return [*cast(dict[str, Any], object.__getattribute__(thing, "__dict__")).items()]
    except AttributeError:
        return []
