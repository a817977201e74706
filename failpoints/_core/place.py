"""The place of a visit: where the program is stopped or ended, and what the messages about that show."""

from __future__ import annotations

from sys import _getframe  # pyright: ignore[reportPrivateUsage]
from types import CodeType, FrameType

from .reentrancy import PACKAGE
from .site import Site


def program_frame() -> FrameType:
    """Return the innermost frame of the program: the one that visits, or calls or awaits the function that does."""
    frame = _getframe()
    while frame.f_back is not None and is_own(frame.f_code):
        frame = frame.f_back
    return frame


def is_own(code: CodeType) -> bool:
    """Return whether the code is part of this package."""
    return code.co_filename.startswith(PACKAGE)


def place_of(site: Site) -> str:
    """Return `file:line` of the site that is visited now: the first line of a function, otherwise the running line."""
    if site.code is not None:
        return f"{site.code.co_filename}:{site.code.co_firstlineno}"
    frame = program_frame()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
