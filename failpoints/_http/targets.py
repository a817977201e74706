"""What a request acts on: all configurations of a failpoint, or the one that a client gave a handle."""

from __future__ import annotations

from collections.abc import Mapping

from .._core.configuration import Configuration
from .._core.context import GivenMatchers
from .._core.handle import Handle
from .._core.registry import Registry
from .._core.status import FailpointStatus
from .._core.store import Store

_MOST_ENDED = 1_000  # configurations that are kept for their counts after they were removed or replaced


class Failpoint:
    """All configurations of one failpoint, with the verbs of a `Handle`."""

    def __init__(self, registry: Registry, name: str) -> None:
        self._registry = registry
        self._name = name

    @property
    def status(self) -> FailpointStatus:
        return self._registry.status(self._name)

    async def wait_hit(self, hits: int, *, timeout: float) -> None:
        await self._registry.wait_until_hit(self._name, hits, timeout=timeout)

    async def wait_paused(self, tasks: int, *, timeout: float) -> None:
        await self._registry.wait_until_paused(self._name, tasks, timeout=timeout)

    def resume(self, *, context: GivenMatchers | None = None, tasks: int | None = None) -> int:
        return self._registry.resume(self._name, context=context, tasks=tasks)

    def remove(self) -> None:
        self._registry.remove(self._name)


class Handles:
    """The configurations with a handle, which a client chose when it configured them.

    They are kept after they have ended, as the handles of a registry keep theirs, but only so many.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._configurations: dict[str, Configuration] = {}

    def in_use(self, handle: str) -> bool:
        """Return whether a configuration with this handle has not ended."""
        configuration = self._configurations.get(handle)
        return configuration is not None and self._is_there(configuration)

    def add(self, configurations: Mapping[str, Configuration]) -> None:
        """Add configurations by their handles."""
        ended = [handle for handle, each in self._configurations.items() if not self._is_there(each)]
        for handle in ended[: max(len(ended) - _MOST_ENDED, 0)]:
            del self._configurations[handle]
        self._configurations.update(configurations)

    def find(self, name: str, handle: str) -> Handle | None:
        """Return the handle of a configuration of *name*, or `None` if there never was one, or long ago."""
        configuration = self._configurations.get(handle)
        return Handle(self._store, configuration) if configuration and configuration.name == name else None

    def _is_there(self, configuration: Configuration) -> bool:
        return configuration in self._store.stack(configuration.name).configurations()
