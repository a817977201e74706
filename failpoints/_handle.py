"""Watching and steering one configured failpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._actions import Actions
from ._configuration import Configuration
from ._context import GivenMatchers
from ._status import FailpointStatus, Waiting

if TYPE_CHECKING:
    from ._registry import Registry  # the registry hands the handles out

__all__ = ["Configured", "Handle"]


class Handle:
    """To watch and steer one failpoint: what `with configured(…) as handle:` gives.

    It follows the failpoint by its name, through reconfigurations; once that is removed, it keeps the counts
    of the last configuration it saw. The waits are those of `Registry`, and raise what they raise.

    >>> with configured("backup.parse", "return(0)") as handle:
    ...     outcome = failpoint("backup.parse").hit()
    >>> handle.hits, handle.triggers
    (1, 1)
    """

    def __init__(self, registry: Registry, name: str, configuration: Configuration) -> None:
        self.name = name
        self._registry = registry
        self._last = configuration

    def __repr__(self) -> str:
        return f"<Handle of failpoint {self.name!r}>"

    @property
    def status(self) -> FailpointStatus:
        """Everything that is known, as `failpoints.status(name)` gives it."""
        self._last = self._registry.current(self.name) or self._last
        return self._registry.status_of(self._last)

    @property
    def hits(self) -> int:
        """How often a site was reached with a context that matched."""
        return self.status.hits

    @property
    def misses(self) -> int:
        """How often one was reached with a context that did not match."""
        return self.status.misses

    @property
    def triggers(self) -> int:
        """How often an action ran."""
        return self.status.triggers

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """Who waits there now."""
        return self.status.waiting

    async def wait_hit(self, hits: int = 1, *, timeout: float | None = None) -> None:
        """To go on once it has been hit so often; `timeout` in seconds."""
        await self._registry.wait_until_hit(self.name, hits, timeout=timeout)

    async def wait_paused(self, tasks: int = 1, *, timeout: float | None = None) -> None:
        """To go on once so many tasks or threads wait at it now; `timeout` in seconds."""
        await self._registry.wait_until_paused(self.name, tasks, timeout=timeout)

    def wait_hit_sync(self, hits: int = 1, *, timeout: float | None = None) -> None:
        """`wait_hit` for tests with threads and no event loop."""
        self._registry.wait_until_hit_sync(self.name, hits, timeout=timeout)

    def wait_paused_sync(self, tasks: int = 1, *, timeout: float | None = None) -> None:
        """`wait_paused` for tests with threads and no event loop."""
        self._registry.wait_until_paused_sync(self.name, tasks, timeout=timeout)

    def resume(self) -> int:
        """To let those go on who wait now, and hold the next ones; how many were woken."""
        return self._registry.resume(self.name)

    def remove(self) -> None:
        """To end the configuration, waking who waits."""
        self._last = self._registry.current(self.name) or self._last
        self._registry.remove(self.name)


class Configured:
    """The block of `configured(…)`."""

    def __init__(self, registry: Registry, name: str, actions: Actions, context: GivenMatchers | None) -> None:
        self._registry = registry
        self._given = name, actions, context
        self._handles: list[Handle] = []

    def __enter__(self) -> Handle:
        name, actions, context = self._given
        handle = Handle(self._registry, name, self._registry.install(name, actions, context))
        self._handles.append(handle)
        return handle

    def __exit__(self, *exception: object) -> None:
        self._handles.pop().remove()

    async def __aenter__(self) -> Handle:
        return self.__enter__()

    async def __aexit__(self, *exception: object) -> None:
        self.__exit__()
