"""The program's own lines, apart from those of the libraries it runs on."""

from __future__ import annotations

import linecache
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import cast

from .._core.declared import is_theirs, seen_from_here

_LIBRARIES = {"anyio", "exceptiongroup", "outcome", "sniffio", "trio", "wrapt"}


def is_programs(frame: FrameType) -> bool:
    """Whether a frame runs the program's own code."""
    module = frame.f_globals.get("__name__") or ""
    return module.partition(".")[0] not in _LIBRARIES and is_theirs(frame.f_code.co_filename)


def innermost(frames: Sequence[FrameType]) -> int:
    """The index of the last frame that runs the program's own code; -1 if none does."""
    return next((index for index in range(len(frames) - 1, -1, -1) if is_programs(frames[index])), -1)


def shown_place(file: str, line: int) -> str:
    """A line of a file as a person finds it from here."""
    return f"{seen_from_here(file)}:{line}"


def line_at(frame: FrameType) -> str:
    """The text of the line where a frame stands."""
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()


def raised_at(error: BaseException) -> str:
    """The program's own line that an exception came from, as `file:line`; empty if there is none."""
    leaf = error
    while isinstance(leaf, BaseExceptionGroup):
        leaf = cast(BaseExceptionGroup[BaseException], leaf).exceptions[0]
    found = ""
    traceback: TracebackType | None = leaf.__traceback__
    while traceback is not None:
        if is_programs(traceback.tb_frame):
            found = shown_place(traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found
