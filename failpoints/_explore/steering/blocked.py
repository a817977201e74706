"""Describes what the threads of a run wait for: the lock, its holder, or the thread that has not ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

from ..lock_names import lock_name
from ..plan.identity import TaskPath
from ..problem import BlockedTask, Problem
from ..user_frames import frame_location, innermost_user_frame, source_line

_SENTENCES: Final = {
    "deadlock": "deadlock: every thread is waiting, and no timer is left, nor anything else that could wake one",
    "hang": "the run did not end",
    "leak": "threads were still running when the scenario had ended",
}


@dataclass(frozen=True, slots=True)
class BlockedThread:
    """A thread that has not ended, with its frames, the outermost first, and with what it waits for."""

    path: TaskPath
    frames: list[FrameType]
    thing: Any
    awaited: TaskPath | None


def blocked_problem(kind: str, threads: Sequence[BlockedThread]) -> Problem:
    """Return a problem of this kind, with what each thread is waiting for."""
    names: dict[int, str] = {}
    return Problem(kind, _SENTENCES[kind], blocked=tuple(_describe(thread, names) for thread in threads))


def _describe(thread: BlockedThread, names: dict[int, str]) -> BlockedTask:
    frames = thread.frames
    innermost = innermost_user_frame(frames)
    where = line = ""
    if innermost >= 0:
        where, line = frame_location(frames[innermost]), source_line(frames[innermost])
    waits_in = frames[innermost + 1].f_code.co_qualname if innermost + 1 < len(frames) else ""
    lock, holder = "", None
    if hasattr(thread.thing, "holder"):
        outer = [frame.f_locals.get("self") for frame in frames[innermost + 1 :]]
        found = lock_name((thread.thing, *outer), type(thread.thing).__name__, frames[: innermost + 1])
        namesakes = sum(known.partition(" (")[0] == found for known in names.values())
        lock = names.setdefault(id(thread.thing), f"{found} ({namesakes + 1})" if namesakes else found)
        holder = thread.thing.holder
    return BlockedTask(thread.path, where, line, waits_in, lock, holder, thread.awaited)
