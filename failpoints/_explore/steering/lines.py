"""Stops the threads of a run between any two lines of some modules, and before each store within a line.

Only the threads of a run are traced. A store comes after the loads of its line, so `x += 1` is two steps.
"""

from __future__ import annotations

import dis
import functools
from collections.abc import Sequence
from types import CodeType, FrameType
from typing import Any

from .control import Steering, steering

_LOCAL = ("STORE_FAST", "STORE_NAME")  # what they store, no other thread can see


class Lines:
    """The modules whose lines are points. Passed to `sys.settrace`.

    Attributes:
        unseen: The modules of which no code has run so far.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self.unseen = dict.fromkeys(modules)
        self._modules = tuple(modules)
        self._known: dict[str, str | None] = {}  # names of modules, with the one of these that each belongs to

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        name = frame.f_globals.get("__name__")
        if not isinstance(name, str):
            return None
        try:
            module = self._known[name]
        except KeyError:
            module = next((each for each in self._modules if f"{name}.".startswith(f"{each}.")), None)
            self._known[name] = module
        if module is None:
            return None
        self.unseen.pop(module, None)
        frame.f_trace_opcodes = True
        return _trace


def _trace(frame: FrameType, event: str, argument: object) -> Any:
    if event == "line" or (event == "opcode" and frame.f_lasti in _stores(frame.f_code)):
        found: Steering | None = steering()
        if found is not None:
            found.line()
    return _trace


@functools.cache
def _stores(code: CodeType) -> frozenset[int]:
    """Return the offsets of the instructions that store something which other threads may see."""
    return frozenset(
        each.offset
        for each in dis.get_instructions(code)
        if each.opname.startswith(("STORE_", "DELETE_")) and not each.opname.startswith(_LOCAL)
    )
