"""What the page shows, of this process or another place, and what it can do there."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, Final, Protocol, TypeAlias

from .._core.clock import now
from .._core.declared import with_declared
from .._core.followers import Follower
from .._core.messages import safe_repr
from .._core.registry import Registry, store_of
from .._core.status import FailpointStatus, Waiting
from .._core.validation import check_name
from .._core.wakeups import Ended, TaskWakeup
from .wire import shown_context, status_document, to_json

MOST_WAITERS: Final = 200  # of one failpoint: those that have waited longest

Changes: TypeAlias = Callable[[float], Awaitable[list[str]]]
"""Wait for at most these seconds, and return the names of the failpoints that have changed."""


class Shown(Protocol):
    """What a page shows: failpoints, each as a document. Its methods raise `FailpointError` if they cannot be seen."""

    def description(self) -> dict[str, Any]:
        """Return what identifies the place, and its time of day."""
        ...

    async def names(self) -> list[str]:
        """Look, and return the name of every failpoint."""
        ...

    def document(self, name: str) -> bytes | None:
        """Return the JSON of a failpoint, or `None` if there is none of this name."""
        ...

    def following(self) -> AbstractContextManager[Changes]:
        """Follow the failpoints during a block, which gets a function that waits for changes."""
        ...

    async def resume(self, name: str, waiter: int | None) -> int:
        """Wake one waiter of a failpoint, or all of them, and return how many were woken."""
        ...

    async def remove(self, name: str | None) -> None:
        """Remove what is configured for a name, or everything."""


class Program:
    """The failpoints of this process."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._store = store_of(registry)
        self._declared: dict[str, tuple[str, ...]] = {}  # the sites of each name

    def description(self) -> dict[str, Any]:
        """Return what identifies the process, and its time of day."""
        folder, file = os.path.split(sys.argv[0])
        return {
            "program": (os.path.basename(folder) if file == "__main__.py" else file) or "python",
            "process": os.getpid(),
            "now": now().isoformat(),
        }

    async def names(self) -> list[str]:
        """Return every name that is configured or declared. Looks for sites in modules that were imported lately."""
        self._declared = {status.name: status.sites for status in with_declared(())}
        return sorted({*self._declared, *self._store.stacks})

    def document(self, name: str) -> bytes | None:
        """Return the JSON of a failpoint, or `None` if the name is neither configured nor declared."""
        status = self._store.status(name)
        sites = self._declared.get(name) or status.sites
        if not sites and not status.configurations:
            return None
        count, waiting = self._store.parked(name, MOST_WAITERS)
        return to_json(page_document(replace(status, sites=sites), waiting, count))

    @contextmanager
    def following(self) -> Generator[Changes]:
        """Follow the failpoints during a block, which gets a function that waits for changes."""
        follower = Follower()
        self._store.follow(follower)

        async def changes(seconds: float) -> list[str]:
            while not (names := self._store.changes(follower, wakeup := TaskWakeup())):
                if await wakeup.wait(seconds) is Ended.EXPIRED:
                    return []
            return names

        try:
            yield changes
        finally:
            self._store.unfollow(follower)

    async def resume(self, name: str, waiter: int | None) -> int:
        """Wake one waiter of a failpoint, or all of them, and return how many were woken."""
        return self._store.resume(check_name(name), arrival=waiter)

    async def remove(self, name: str | None) -> None:
        """Remove what is configured for a name, or everything."""
        if name is None:
            self._registry.reset()
        else:
            self._registry.remove(name)


def page_document(status: FailpointStatus, waiting: Mapping[float, Waiting], count: int) -> dict[str, Any]:
    """Return a failpoint as the page shows it, with waiters by their numbers, and the number of all."""
    without_waiters = [replace(each, waiting=(), sites=(), strays=()) for each in status.configurations]
    document = status_document(replace(status, waiting=(), configurations=tuple(without_waiters)))
    for each in document, *document["configurations"]:
        each["matchers"] = _as_texts(each["matchers"])
        each["last_miss"] = _as_texts(each["last_miss"] or {})
    document["strays"] = [{"thread": each.thread, "count": each.count} for each in status.strays]
    document["waiting"] = [_waiter(number, each) for number, each in waiting.items()]
    document["waiting_count"] = count
    return document


def _waiter(number: float, waiting: Waiting) -> dict[str, Any]:
    return {
        "id": number,
        "name": waiting.name,
        "context": _as_texts(shown_context(waiting.context)),
        "since": waiting.since.isoformat(),
    }


def _as_texts(context: Mapping[str, Any]) -> dict[str, str]:
    """Return values as texts. The numbers of JavaScript are not exact above 2**53."""
    return {key: value if isinstance(value, str) else safe_repr(value) for key, value in context.items()}
