"""Makes asyncio and anyio go through their own sets in the order in which the elements were added.

They keep tasks, futures, coroutines, cancel scopes and connections in sets. The order of a set depends on the memory
addresses of its elements, unless they have a hash of their own, so it differs from run to run.
"""

from __future__ import annotations

import asyncio
import asyncio.staggered
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from threading import get_ident
from types import SimpleNamespace
from typing import Any, Final

from anyio._backends import _asyncio as anyio_asyncio

from ..._core.reentrancy import transparent
from ..ordered_set import OrderedSet, OrderedWeakSet
from ..replacement import Replacement


def _ordered_set(elements: Iterable[Any] = ()) -> set[Any]:
    return OrderedSet(elements) if get_ident() in _threads else set(elements)


def _ordered_weak_set() -> weakref.WeakSet[Any]:
    return OrderedWeakSet() if get_ident() in _threads else weakref.WeakSet()


# Modules look a builtin up among their own globals first.
_GLOBALS: Final[list[tuple[Any, str, Any]]] = [
    (asyncio.tasks, "set", _ordered_set),  # the arguments of as_completed; those and the results of wait
    (asyncio.taskgroups, "set", _ordered_set),  # the tasks of a group
    (asyncio.staggered, "set", _ordered_set),
    (anyio_asyncio, "set", _ordered_set),  # the tasks of a group, and the tasks and scopes inside a cancel scope
]
_base_events: Any = asyncio.base_events
_all_tasks_before: Any = None


def _replace() -> None:
    global _all_tasks_before
    for module, name, replacement in _GLOBALS:
        setattr(module, name, replacement)
    _base_events.weakref = SimpleNamespace(
        **{**vars(weakref), "WeakSet": _ordered_weak_set}
    )  # the connections of a server
    _all_tasks_before = asyncio.all_tasks
    asyncio.all_tasks = asyncio.tasks.all_tasks = _all_tasks(_all_tasks_before)


def _restore() -> None:
    for module, name, _ in _GLOBALS:
        delattr(module, name)
    _base_events.weakref = weakref
    asyncio.all_tasks = asyncio.tasks.all_tasks = _all_tasks_before


_ordered: Final = Replacement(_replace, _restore)
_threads: Final = _ordered.threads  # sets made in other threads stay as they are


def deterministic_order() -> AbstractContextManager[None]:
    """Fix the order of these sets for the explorations of the current thread."""
    return _ordered.in_this_thread()


def _all_tasks(original: Callable[..., set[Any]]) -> Any:
    @transparent
    def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[Any]:
        return _in_order_of_creation(original(loop))

    return all_tasks


def _in_order_of_creation(tasks: set[Any]) -> set[Any]:
    loop: Any = next(iter(tasks)).get_loop() if tasks else None
    if not hasattr(loop, "node_of"):
        return tasks
    return OrderedSet(sorted(tasks, key=lambda task: loop.node_of(task).path))
