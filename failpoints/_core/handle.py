"""The handle of a configured failpoint, and the block that gives it."""

from __future__ import annotations

from collections.abc import Callable

from .configuration import Configuration
from .status import FailpointStatus, Waiting
from .store import Store
from .waits import wait, wait_sync
from .watches import Watch


class Handle:
    """Watches and controls one failpoint: `with configured(…) as handle:`.

    A handle follows the failpoint's name through reconfigurations. After the failpoint is removed, it keeps the counts
    of the last configuration that it saw. Its waits raise the same exceptions as those of `Registry`. Their *timeout*
    is in seconds. Without one they have no limit or, with a handle of the pytest fixture, the limit of the ini file.

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
        """The status of the failpoint, as returned by `failpoints.status(name)`."""
        self._last = self._store.current(self.name) or self._last
        return self._store.status_of(self._last)

    @property
    def hits(self) -> int:
        """The number of visits in this process whose context matched. Those in its children are not counted."""
        return self.status.hits

    @property
    def misses(self) -> int:
        """The number of visits whose context did not match."""
        return self.status.misses

    @property
    def triggers(self) -> int:
        """The number of actions that ran, `off` included."""
        return self.status.triggers

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """The tasks and threads that are paused or sleeping there now."""
        return self.status.waiting

    async def wait_hit(self, hits: int = 1, *, timeout: float | None = None) -> None:
        """Wait until it has been hit *hits* times since it was configured. Earlier hits count."""
        __tracebackhide__ = True  # so that pytest shows a timeout at the test's own line
        await wait(self._store, Watch(self.name, "hit", hits), self._limit(timeout))

    async def wait_paused(self, tasks: int = 1, *, timeout: float | None = None) -> None:
        """Wait until *tasks* tasks or threads are paused or sleeping there right now."""
        __tracebackhide__ = True
        await wait(self._store, Watch(self.name, "paused", tasks), self._limit(timeout))

    def wait_hit_sync(self, hits: int = 1, *, timeout: float | None = None) -> None:
        """Like `wait_hit`, for a thread without an event loop. On a loop's thread a `FailpointUsageError`."""
        __tracebackhide__ = True
        wait_sync(self._store, Watch(self.name, "hit", hits), self._limit(timeout))

    def wait_paused_sync(self, tasks: int = 1, *, timeout: float | None = None) -> None:
        """Like `wait_paused`, for a thread without an event loop. On a loop's thread a `FailpointUsageError`."""
        __tracebackhide__ = True
        wait_sync(self._store, Watch(self.name, "paused", tasks), self._limit(timeout))

    def _limit(self, timeout: float | None) -> float | None:
        return self._timeout if timeout is None else timeout

    def resume(self) -> int:
        """Wake everything waiting there and return how many were woken. Later visits wait again."""
        return self._store.resume(self.name)

    def remove(self) -> None:
        """Remove the configuration and wake everything waiting there."""
        self._last = self._store.current(self.name) or self._last
        self._store.remove(self.name)


class Configured:
    """The context manager that `configured(…)` returns, for `with` and `async with`."""

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
