"""Replaces the primitives of Python while any thread explores a scenario whose threads are steered.

A module may have imported a name before. So each global of each module that is such a primitive is replaced, and each
variable of a closure, such as the one in which a dataclass has a `default_factory`.
"""

from __future__ import annotations

import gc
import sys
from contextlib import AbstractContextManager
from types import CellType
from typing import Any, Final

from ..replacement import Replacement
from . import clock, futures, locks, pools, primitives, queues, workers

_LEFT_OUT: Final = ("_thread", "_queue", "importlib", "failpoints", "builtins", "xdist", "execnet", "pytest_timeout")

_ABSENT: Final = object()
_undo: Final[list[tuple[Any, str, Any]]] = []


def steering_threads() -> AbstractContextManager[None]:
    """Steer the threads of the runs inside the block."""
    return _replacement.in_this_thread()


def _replace() -> None:
    by_id = {id(original): (original, new) for original, new in {**locks.ORIGINALS, **clock.replacements()}.items()}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _LEFT_OUT:
            continue
        namespace: Any = getattr(module, "__dict__", {})
        for variable, value in list(namespace.items()):
            found = by_id.get(id(value))
            if found is not None:
                namespace[variable] = found[1]
                _undo.append((namespace, variable, value))
    for cell in gc.get_referrers(*locks.ORIGINALS):
        if type(cell) is CellType:
            value = cell.cell_contents
            cell.cell_contents = locks.ORIGINALS[value]
            _undo.append((cell, "cell_contents", value))
    for owner, name, function in futures.globals_of_module():
        _undo.append((owner, name, owner.get(name, _ABSENT)))
        owner[name] = function
    for owner, name, method in (
        *primitives.patches(),
        *queues.patches(),
        *pools.patches(),
        *workers.patches(),
    ):
        _undo.append((owner, name, owner.__dict__[name]))
        setattr(owner, name, method)


def _restore() -> None:
    while _undo:
        owner, name, original = _undo.pop()
        if original is _ABSENT:
            del owner[name]
        elif isinstance(owner, dict):
            owner[name] = original
        else:
            setattr(owner, name, original)


_replacement: Final = Replacement(_replace, _restore)
