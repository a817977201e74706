"""Replaces the primitives of Python while any thread explores a scenario whose threads are steered.

A module may have imported a name before. So each global of each module that is such a primitive is replaced, and each
variable of a closure, such as the one in which a dataclass has a `default_factory`.
"""

from __future__ import annotations

import gc
import sys
import sysconfig
import threading
from contextlib import AbstractContextManager, suppress
from functools import partial
from operator import call
from types import CellType
from typing import Any, Final, TypeAlias

from ..replacement import Replacement
from . import clock, futures, locks, pools, primitives, queues, workers

_LEFT_OUT: Final = ("_thread", "_queue", "importlib", "failpoints", "builtins", "xdist", "execnet", "pytest_timeout")

_ABSENT: Final = object()
_undo: Final[list[tuple[Any, str, Any]]] = []

_HAS_GIL: Final = not sysconfig.get_config_var("Py_GIL_DISABLED")
_Global: TypeAlias = tuple[dict[str, Any], str, Any]
_found: Final[list[_Global]] = []  # last time
_cells: Final[list[Any]] = []  # of closures, that were found
_modules = 0  # that there were when closures were looked for at the beginning of an exploration
_lock: Final = threading.Lock()


def steering_threads() -> AbstractContextManager[None]:
    """Steer the threads of the runs inside the block."""
    return _replacement.in_this_thread()


def _replace() -> None:
    stand_ins = {**locks.ORIGINALS, **clock.replacements()}
    for namespace, variable, original in _globals(tuple(stand_ins)):
        namespace[variable] = stand_ins[original]
        _undo.append((namespace, variable, original))
    global _modules
    _replace_in(_cells)
    if _modules != len(sys.modules):
        _modules = len(sys.modules)
        replace_in_closures()
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


def replace_in_closures() -> bool:
    """Replace the primitives in the closures that were made since this was last done. Return whether there are any.

    It looks at all objects that there are. So without threads, it is done only once modules were imported.
    """
    with _lock:
        found: list[Any] = [each for each in gc.get_referrers(*locks.ORIGINALS) if type(each) is CellType]
        _replace_in(found)
        _cells.extend(found)
    return bool(found)


def _replace_in(cells: list[Any]) -> None:
    by_id = {id(original): new for original, new in locks.ORIGINALS.items()}
    for cell in cells:
        with suppress(ValueError):  # it is empty by now
            value = cell.cell_contents
            if id(value) in by_id:
                cell.cell_contents = by_id[id(value)]
                _undo.append((cell, "cell_contents", value))


def _globals(originals: tuple[Any, ...]) -> list[_Global]:
    """Return the globals of all modules that are one of the originals.

    Those that were found last time are all, if they are as many as there are references to each original.
    """
    spaces: dict[int, Any] = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in _LEFT_OUT:
            namespace = getattr(module, "__dict__", {})
            spaces[id(namespace)] = namespace
    _found[:] = [each for each in _found if id(each[0]) in spaces and each[0].get(each[1]) is each[2]]
    counts = [sum(each[2] is original for each in _found) for original in originals]
    ids = set(map(id, originals))
    if _references(originals, list(spaces.values())) != counts:
        _found[:] = [
            (namespace, variable, value)
            for namespace in spaces.values()
            for variable, value in list(namespace.items())
            if id(value) in ids
        ]
    return [each for each in _found if id(each[2]) in ids]  # else it is a function of time that was mocked meanwhile


def _references(originals: tuple[Any, ...], namespaces: list[dict[str, Any]]) -> list[int]:
    """Count how often each original is in the namespaces, a few times faster than by looking at each global.

    Each global that is put into a list counts as one more reference. No other thread runs meanwhile, since what counts
    is not written in Python. Without the GIL, references are counted in another way, and nothing is found.
    """
    if not _HAS_GIL:
        return []
    count: list[Any] = [partial(list, map(sys.getrefcount, originals)) for _ in range(2)]
    # The tuple refers to each original, too, once: of an object that is immortal, no reference counts.
    before, values, after = map(call, (count[0], partial(gc.get_referents, *namespaces, originals), count[1]))
    del values
    return [more - less - 1 for less, more in zip(before, after, strict=True)]


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
