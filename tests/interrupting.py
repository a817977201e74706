"""Coming between any two lines of the package, as the handler of a signal does."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import failpoints

PACKAGE = str(Path(failpoints.__file__).parent)


def interrupting(line: int, handler: Callable[[], object], function: Callable[[], object]) -> bool:
    """Run *function*, and call *handler* in the same thread before line number *line*, as a signal would.

    Only lines of the package and of `threading` count. Returns whether the handler was called.
    """
    left = line
    files = (PACKAGE, threading.__file__)

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(files):
            return None
        left -= event == "line"
        if left > 0:
            return trace
        sys.settrace(None)
        handler()
        return None

    before = sys.gettrace()  # of coverage
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return left <= 0
