"""Registries as they surround code: entering and leaving them, and which of them decides a visit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final
from weakref import WeakKeyDictionary

from .configuration import Configuration
from .context import context_of_visit
from .log import logger
from .stack import Stack
from .store import PROCESS_STORE, Store, stores_in_force
from .strays import BOUND, describe_stray
from .wakeups import on_event_loop

entered: Final[ContextVar[tuple[Store, ...]]] = ContextVar("failpoints.entered", default=(PROCESS_STORE,))
"""The stores whose blocks are around this point, the innermost first. One may be out of force already."""

_around: Final = WeakKeyDictionary[Store, tuple[Store, ...]]()  # what was around the block of a store when it began


def enter(store: Store) -> None:
    """Put the store in force for the visits of this context."""
    store.put_in_force()
    _around[store] = entered.get()
    entered.set((store, *_around[store]))


def leave(store: Store) -> None:
    """Take the store out of force and remove everything in it."""
    try:
        _warn_of_strays(store)
        store.end()
    finally:
        store.end()  # again, in case an exception from a signal handler came before the end of the first
        # Without a token: registries may be left in another order or context than they were entered in.
        entered.set(tuple(other for other in entered.get() if other is not store))


class Inside:
    """A block that runs as if it were in the block that entered the store, for example in another thread.

    Not made by `contextlib.contextmanager`, which sets the `__traceback__` of an error that leaves the block. A frozen
    dataclass refuses that, and its own error would take its place.
    """

    __slots__ = ("_before", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._before: tuple[Store, ...] = ()

    def __enter__(self) -> None:
        self._before = entered.get()
        entered.set((self._store, *_around.get(self._store, self._before)))

    def __exit__(self, *error: object) -> None:
        entered.set(self._before)


def find(name: str) -> tuple[Store, Stack] | None:
    """Find the configurations that decide a visit made here: those of the innermost store that has the name."""
    for store in entered.get():
        stacks = store.stacks
        # Not `get`: without the GIL, it takes the lock of the dict for a key that another thread has made.
        if name in stacks and stacks[name].current and store in stores_in_force:
            return store, stacks[name]
    return None


def in_force() -> list[Configuration]:
    """Return every configuration that may decide a visit made here."""
    return [
        configuration for store in entered.get() if store in stores_in_force for configuration in store.configurations()
    ]


def note_stray(name: str, context: Callable[[], Mapping[str, Any]]) -> None:
    """Keep a visit that no registry reaches and that a registry configures, if it is made in a plain thread.

    A visit of another task is none, nor is one that belongs to another registry: that is how tests are kept apart.
    """
    if len(stores_in_force) == 1 or len(entered.get()) > 1 or threading.current_thread() is threading.main_thread():
        return
    stores = [store for store in list(stores_in_force) if store.stack(name)]
    if not stores or on_event_loop():
        return
    visited: Mapping[str, Any] = {}
    try:
        visited = context_of_visit(context)
    except Exception:  # a site that is not hit raises nothing
        pass
    for store in stores:
        store.add_stray(name, threading.current_thread().name, visited)


def _warn_of_strays(store: Store) -> None:
    for status in store.statuses():
        if status.strays and not all(each.hits for each in status.configurations):
            logger.warning(
                "failpoint %s was configured in a Registry and not hit, but visited: %s. To reach it, %s",
                status.name,
                "; ".join(map(describe_stray, status.strays)),
                BOUND,
                extra={"failpoint": status.name, "failpoint_event": "stray"},
            )
