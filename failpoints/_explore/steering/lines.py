"""The modules whose lines are switch points, and the points of their code.

A point comes before each line, before each round of a loop, and before each store within a line. A store comes after
the loads of its line, so `x += 1` is two steps.
"""

from __future__ import annotations

import dis
import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import CodeType
from typing import Any, Protocol

_LOCAL = ("STORE_FAST", "STORE_NAME")  # what they store, no other thread can see


class Lines(Protocol):
    """Stops the threads of a run at the points of some modules.

    Attributes:
        modules: The modules whose lines are points.
    """

    modules: Modules

    def watching(self) -> AbstractContextManager[None]:
        """Watch the code of the modules inside the block, which has all runs."""
        ...

    def stopping(self) -> AbstractContextManager[None]:
        """Stop the calling thread, which is one of a run, at the points inside the block."""
        ...


class Modules:
    """The modules that a user has named.

    Attributes:
        unseen: Those of which no code has run so far.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.unseen = dict.fromkeys(names)
        self._names = tuple(names)
        self._known: dict[str, str | None] = {}  # names of modules, with the one of these that each belongs to

    def of(self, variables: dict[str, Any]) -> str | None:
        """Return which of these modules the code with these globals belongs to, or `None`."""
        name = variables.get("__name__")
        if not isinstance(name, str):
            return None
        try:
            return self._known[name]
        except KeyError:
            module = next((each for each in self._names if f"{name}.".startswith(f"{each}.")), None)
            self._known[name] = module
            return module


@functools.cache
def points(code: CodeType) -> frozenset[int]:
    """Return the offsets of the instructions before which a thread stops.

    The events of Python for lines are not used: in each version, some lines have none, such as that of a lambda.
    """
    found: set[int] = set()
    before: int | None = None
    has_begun = False
    for each in dis.get_instructions(code):
        name, line = each.opname, each.positions and each.positions.lineno
        if name == "RESUME":
            has_begun = True
        elif has_begun and line is not None:
            if line != before or (name.startswith(("STORE_", "DELETE_")) and not name.startswith(_LOCAL)):
                found.add(each.offset)
            before = line
        if "JUMP_BACKWARD" in name and not name.endswith("NO_INTERRUPT"):  # which is that of an await
            found.add(each.argval)
    return frozenset(found)
