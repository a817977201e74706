"""Stops threads at the points of modules by `sys.settrace`, on Python 3.11. Only the threads of a run are traced."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Any

from .control import steering
from .lines import Modules, points


class TracedLines:
    """The modules whose lines are points. Passed to `sys.settrace`."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.modules = Modules(modules)

    def watching(self) -> AbstractContextManager[None]:
        """Do nothing: each thread of a run is traced by itself."""
        return nullcontext()

    @contextmanager
    def stopping(self) -> Generator[None]:
        """Trace the calling thread inside the block."""
        traced_by = sys.gettrace()
        sys.settrace(self)
        try:
            yield
        finally:
            sys.settrace(traced_by)

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        module = self.modules.of(frame.f_globals)
        if module is None:
            return None
        self.modules.unseen.pop(module, None)
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        return _trace


def _trace(frame: FrameType, event: str, argument: object) -> Any:
    if event == "opcode" and frame.f_lasti in points(frame.f_code):
        found = steering()
        if found is not None:
            found.line()
    return _trace
