"""Finds the locks and pools that a scenario can reach and that are not steered, since they were made before the run.

It follows the names in the code of the program, and the attributes and elements of what they refer to. It does not
look inside installed packages.
"""

from __future__ import annotations

import functools
import queue
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final, cast

from ..._core.declared import is_installed, is_user_file

_KINDS: Final = (type(threading.Lock()), type(threading.RLock()), queue.SimpleQueue)
_MOST: Final = 10_000  # things to look at
_ELEMENTS: Final = (list, tuple, set, frozenset, deque)


def unsteered_locks(scenario: object) -> list[str]:
    """Return the names of the locks, queues and pools that were made before the run, and so are not steered in it."""
    todo: deque[tuple[str, Any]] = deque([("", scenario)])
    seen: dict[int, object] = {}
    names: dict[str, None] = {}
    while todo and len(seen) < _MOST:
        name, thing = todo.popleft()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if type(thing) in _KINDS:
            names[name or "an argument of the scenario"] = None
        else:
            outer = "" if type(thing) is FunctionType else name
            todo.extend((".".join(filter(None, (outer, part))), found) for part, found in _parts(thing))
    return list(names)


def _parts(thing: Any) -> Iterable[tuple[str, Any]]:
    kind = cast(Any, type(thing))
    if kind is FunctionType:
        return _parts_of_function(thing)
    if kind is dict:
        return (("", value) for value in list(thing.values())[:_MOST])
    if kind in _ELEMENTS:
        return (("", value) for value in list(thing)[:_MOST])
    if kind is MethodType:
        return (("", thing.__self__), ("", thing.__func__))
    if kind in (staticmethod, classmethod):
        return (("", thing.__func__),)
    if kind is property:
        return (("", thing.fget), ("", thing.fset), ("", thing.fdel))
    if kind is functools.partial:
        return (("", thing.func), ("", thing.args), ("", thing.keywords))
    if kind is threading.Condition:
        return (("", thing._lock),)  # noqa: SLF001
    if kind is threading.Barrier:
        return (("", thing._cond),)  # noqa: SLF001
    if kind is ThreadPoolExecutor:
        return (("", thing._work_queue),)  # noqa: SLF001
    if kind is getattr(sys.modules.get("multiprocessing.pool"), "ThreadPool", None):
        return (("", thing._inqueue),)  # noqa: SLF001
    if isinstance(thing, type):
        return _parts_of_class(thing) if _is_own(thing) else ()
    return _parts_of_object(thing) if _is_own(kind) else ()


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    wrapped = getattr(function, "__wrapped__", None)
    if wrapped is not None:
        yield "", wrapped
    code = function.__code__
    if not _is_own_file(code.co_filename):
        return
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # it is empty
            pass
    defaults = function.__defaults__ or ()
    yield from zip(code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()
    names = set(_names(code))
    for name in sorted(names):
        value = function.__globals__.get(name)
        if isinstance(value, ModuleType):
            yield from ((f"{name}.{part}", vars(value)[part]) for part in sorted(names & vars(value).keys()))
        else:
            yield name, value


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _parts_of_class(owner: type) -> Iterator[tuple[str, Any]]:
    for each in owner.__mro__:
        if _is_own(each):
            yield from list(vars(each).items())


def _parts_of_object(thing: Any) -> Iterator[tuple[str, Any]]:
    yield "", type(thing)
    try:
        attributes: Mapping[str, Any] = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        attributes = {}
    yield from list(attributes.items())
    for owner in type(thing).__mro__:
        for name in owner.__dict__.get("__slots__", ()):
            try:
                yield name, object.__getattribute__(thing, name)
            except AttributeError:
                pass


def _is_own(owner: type) -> bool:
    module = sys.modules.get(owner.__module__)
    return _is_own_file(getattr(module, "__file__", None) or "")


def _is_own_file(file: str) -> bool:
    return bool(file) and is_user_file(file) and not is_installed(file)
