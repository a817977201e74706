"""Where a task stands: the frames of its coroutine, and of what that awaits or calls."""

from __future__ import annotations

import gc
import inspect
from types import FrameType
from typing import Any

_MOST_FRAMES = 1000


def awaited_frames(coroutine: Any) -> list[FrameType]:
    """The frames of a coroutine that waits, the outermost first."""
    frames: list[FrameType] = []
    awaited: Any = coroutine
    while awaited is not None and len(frames) < _MOST_FRAMES:
        frame, inner = _frame_and_awaited(awaited)
        if frame is None and inner is None:
            # What steps an async generator, or wraps a coroutine, tells only the garbage collector of what.
            inner = next((thing for thing in gc.get_referents(awaited) if _frame_and_awaited(thing)[0]), None)
        if frame is not None:
            frames.append(frame)
        awaited = inner
    return frames


def running_frames(coroutine: Any) -> list[FrameType]:
    """The frames of a coroutine that runs, and called what asks; the outermost first."""
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
