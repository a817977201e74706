"""Watching and steering one configured failpoint."""

from __future__ import annotations

from collections.abc import Callable

from .configuration import Configuration
from .status import FailpointStatus, Waiting
from .store import Store
from .waits import wait, wait_sync
from .watches import Watch


class Handle:
    """To watch and steer one failpoint: what `with configured(…) as handle:` gives.

    It follows the failpoint by its name, through reconfigurations; once that is removed, it keeps the counts
    of the last configuration it saw. The waits are those of `Registry`, and raise what they raise; their `timeout`
    is in seconds, and without one they have no limit (from the pytest fixture: that of the ini file).

    >>> with configured("backup.parse", "return(0)") as handle:
    ...     outcome = failpoint("backup.parse").hit()
    >>> handle.hits, handle.triggers
    (1, 1)
    """

    def __init__(self, store: Store, name: str, configuration: Configuration, timeout: float | None = None) -> None:
        self.name = name
        self._store = store
        self._last = configuration
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<Handle of failpoint {self.name!r}>"

    @property
    def status(self) -> FailpointStatus:
        """Everything that is known, as `failpoints.status(name)` gives it."""
        self._last = self._store.current(self.name) or self._last
        return self._store.status_of(self._last)

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
        """To go on once it has been hit so often."""
        __tracebackhide__ = True  # a test that waited in vain is shown at its own line
        await wait(self._store, Watch(self.name, "hit", hits), self._limit(timeout))

    async def wait_paused(self, tasks: int = 1, *, timeout: float | None = None) -> None:
        """To go on once so many tasks or threads wait at it now."""
        __tracebackhide__ = True
        await wait(self._store, Watch(self.name, "paused", tasks), self._limit(timeout))

    def wait_hit_sync(self, hits: int = 1, *, timeout: float | None = None) -> None:
        """`wait_hit` for tests with threads and no event loop."""
        __tracebackhide__ = True
        wait_sync(self._store, Watch(self.name, "hit", hits), self._limit(timeout))

    def wait_paused_sync(self, tasks: int = 1, *, timeout: float | None = None) -> None:
        """`wait_paused` for tests with threads and no event loop."""
        __tracebackhide__ = True
        wait_sync(self._store, Watch(self.name, "paused", tasks), self._limit(timeout))

    def _limit(self, timeout: float | None) -> float | None:
        return self._timeout if timeout is None else timeout

    def resume(self) -> int:
        """To let those go on who wait now, and hold the next ones; how many were woken."""
        return self._store.resume(self.name)

    def remove(self) -> None:
        """To end the configuration, waking who waits."""
        self._last = self._store.current(self.name) or self._last
        self._store.remove(self.name)


class Configured:
    """The block of `configured(…)`."""

    def __init__(self, configure: Callable[[], Handle]) -> None:
        self._configure = configure
        self._handles: list[Handle] = []

    def __enter__(self) -> Handle:
        __tracebackhide__ = True
        handle = self._configure()
        self._handles.append(handle)
        return handle

    def __exit__(self, *exception: object) -> None:
        self._handles.pop().remove()

    async def __aenter__(self) -> Handle:
        __tracebackhide__ = True
        return self.__enter__()

    async def __aexit__(self, *exception: object) -> None:
        self.__exit__()
