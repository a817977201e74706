"""Collects the frames of a task: those of its coroutine, and of everything that it awaits or calls."""

from __future__ import annotations

import gc
import inspect
from types import FrameType
from typing import Any

_MAX_FRAMES = 1000
_WRAPPERS = f"{__package__}.primitives"  # the modules whose functions wrap those of libraries


def awaited_frames(coroutine: Any) -> list[FrameType]:
    """Return the frames of a coroutine that is suspended, the outermost first, without those of our wrappers."""
    frames: list[FrameType] = []
    awaited: Any = coroutine
    while awaited is not None and len(frames) < _MAX_FRAMES:
        frame, inner = _frame_and_awaited(awaited)
        if frame is None and inner is None:
            # The step of an async generator, and a wrapped coroutine, have no attribute for the thing that they await.
            # The garbage collector knows it.
            inner = next((thing for thing in gc.get_referents(awaited) if _frame_and_awaited(thing)[0]), None)
        if frame is not None and not frame.f_globals.get("__name__", "").startswith(_WRAPPERS):
            frames.append(frame)
        awaited = inner
    return frames


def running_frames(coroutine: Any) -> list[FrameType]:
    """Return the frames of a coroutine that is running, and has called this function, the outermost first."""
    frames: list[FrameType] = []
    frame: FrameType | None = inspect.currentframe()
    while frame is not None and (not frames or frames[-1] is not coroutine.cr_frame):
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def _frame_and_awaited(thing: Any) -> tuple[FrameType | None, Any]:
    for prefix, inner in (("cr", "await"), ("gi", "yieldfrom"), ("ag", "await")):
        frame = getattr(thing, f"{prefix}_frame", None)
        if frame is not None:
            return frame, getattr(thing, f"{prefix}_{inner}", None)
    return None, None
