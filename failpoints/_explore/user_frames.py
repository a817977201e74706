"""Tell the user's own lines of code from those of the libraries below."""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, cast

from .._core.declared import is_installed, is_user_file, relative_to_cwd

_LIBRARIES = {"anyio", "exceptiongroup", "outcome", "sniffio", "trio", "wrapt"}


def is_user_frame(frame: FrameType) -> bool:
    """Return whether a frame runs the user's code."""
    module = frame.f_globals.get("__name__") or ""
    return module.partition(".")[0] not in _LIBRARIES and is_user_file(frame.f_code.co_filename)


def innermost_user_frame(frames: Sequence[FrameType]) -> int:
    """Return the index of the last frame that runs the user's code, or -1 if there is none."""
    return next((index for index in range(len(frames) - 1, -1, -1) if is_user_frame(frames[index])), -1)


def format_location(file: str, line: int) -> str:
    """Format a line of a file as `file:line`, relative to the current folder if it is below that."""
    return f"{relative_to_cwd(file)}:{line}"


def frame_location(frame: FrameType) -> str:
    """Format the line that a frame is at as `file:line`."""
    return format_location(frame.f_code.co_filename, frame.f_lineno)


def source_line(frame: FrameType) -> str:
    """Return the source text of the line that a frame is at."""
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()


def suspended_at(coroutine: Any, frames: Sequence[FrameType]) -> tuple[str, str]:
    """Return the user's line at which a task with these frames is suspended: its place, and its text.

    A frame of the program itself comes before one of an installed package. Both are "" if the task has not begun, or
    if none of its frames runs the user's code.
    """
    has_begun = not inspect.iscoroutine(coroutine) or inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED
    users = [frame for frame in frames if is_user_frame(frame)]
    own = [frame for frame in users if not is_installed(frame.f_code.co_filename)]
    if not users or not has_begun:
        return "", ""
    frame = (own or users)[-1]
    return frame_location(frame), source_line(frame)


def raised_at(error: BaseException) -> str:
    """Return the innermost line of the user's code that an exception passed, as `file:line`, or "" for none.

    For a group, it is that of the first exception inside.
    """
    leaf = error
    while isinstance(leaf, BaseExceptionGroup):
        leaf = cast(BaseExceptionGroup[BaseException], leaf).exceptions[0]
    found = ""
    traceback: TracebackType | None = leaf.__traceback__
    while traceback is not None:
        if is_user_frame(traceback.tb_frame):
            found = format_location(traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found
