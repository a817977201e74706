"""The handle of a configured failpoint, and the block that gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from .configuration import Configuration
from .context import GivenMatchers
from .status import FailpointStatus, Waiting
from .store import Store
from .waits import wait, wait_sync
from .wakeups import running
from .watches import Watch


class Handle:
    """Watches and controls one configuration of a failpoint: `with configured(…) as handle:`.

    It has nothing to do with other configurations of the same name. After its own is replaced or removed, it keeps the
    counts, and its waits raise `FailpointUsageError`. Otherwise its waits raise the same exceptions as those of
    `Registry`. Their *timeout* is in seconds, `math.inf` for no limit. The default is 60 or, with a handle of the
    pytest fixture or of `FailpointsMixin`, the limit set there.

    >>> with configured("backup.parse", "return(0)") as handle:
    ...     outcome = failpoint("backup.parse").hit()
    >>> handle.hits, handle.triggers
    (1, 1)
    """

    def __init__(self, store: Store, configuration: Configuration, timeout: float | None = None) -> None:
        self.name = configuration.name
        self._store = store
        self._configuration = configuration
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<Handle of failpoint {self.name!r}>"

    @property
    def status(self) -> FailpointStatus:
        """The status of its configuration, as in `failpoints.status(name).configurations`."""
        return self._store.status_of(self._configuration)

    @property
    def hits(self) -> int:
        """The number of visits whose context matched. Those in other processes count with `failpoints_processes`."""
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
        await wait(self._store, self._watch("hit", hits), self._limit(timeout))

    async def wait_paused(self, tasks: int = 1, *, timeout: float | None = None) -> None:
        """Wait until *tasks* tasks or threads are paused or sleeping there right now."""
        __tracebackhide__ = True
        await wait(self._store, self._watch("paused", tasks), self._limit(timeout))

    def wait_hit_sync(self, hits: int = 1, *, timeout: float | None = None) -> None:
        """Like `wait_hit`, for a thread without an event loop. On a loop's thread a `FailpointUsageError`."""
        __tracebackhide__ = True
        wait_sync(self._store, self._watch("hit", hits), self._limit(timeout))

    def wait_paused_sync(self, tasks: int = 1, *, timeout: float | None = None) -> None:
        """Like `wait_paused`, for a thread without an event loop. On a loop's thread a `FailpointUsageError`."""
        __tracebackhide__ = True
        wait_sync(self._store, self._watch("paused", tasks), self._limit(timeout))

    def _watch(self, event: Literal["hit", "paused"], target: int) -> Watch:
        return Watch(self.name, event, target, self._configuration)

    def _limit(self, timeout: float | None) -> float | None:
        return self._timeout if timeout is None else timeout

    def resume(self, *, context: GivenMatchers | None = None, tasks: int | None = None) -> int:
        """Wake what waits there, and return how many tasks and threads were woken. Later visits wait again.

        *context* and *tasks* limit it, and are refused, as in `Registry.resume`.
        """
        return self._store.resume(self.name, context, tasks, only=self._configuration)

    def remove(self) -> None:
        """Remove its configuration and wake everything waiting there.

        In a block of `configured`, this does what leaving the block does: what it replaced is in force again.
        """
        self._store.remove_one(self._configuration)


class Configured:
    """The context manager that `configured(…)` returns, for `with` and `async with`."""

    def __init__(self, configure: Callable[[], Handle]) -> None:
        self._configure = configure
        self._entered: list[tuple[object, Handle]] = []  # with the task or thread that entered

    def __enter__(self) -> Handle:
        __tracebackhide__ = True
        handle = self._configure()
        self._entered.append((running(), handle))
        return handle

    def __exit__(self, *exception: object) -> None:
        entry = None
        try:
            entry = self._innermost()
            entry[1].remove()
        finally:  # again, in case an exception from a signal handler came before the end of the first
            entry = entry or self._innermost()
            entry[1].remove()
            self._entered.remove(entry)

    def _innermost(self) -> tuple[object, Handle]:
        # Several tasks may be in one block. A fixture may be left by another task than it was entered by.
        own = [entry for entry in self._entered if entry[0] == running()]
        return (own or self._entered)[-1]

    async def __aenter__(self) -> Handle:
        __tracebackhide__ = True
        return self.__enter__()

    async def __aexit__(self, *exception: object) -> None:
        self.__exit__()
