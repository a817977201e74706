"""The registry: the functions with which tests configure failpoints, inspect them and wait for them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Final, ParamSpec, Self, TypeVar, cast

from ..errors import FailpointUsageError
from .actions import Actions
from .context import GivenMatchers
from .entered import Inside, enter, leave
from .functions import Kind, kind_of
from .handle import Configured, Handle
from .messages import safe_repr
from .reachability import reachable_terms
from .reentrancy import runs_user_code
from .status import FailpointStatus
from .store import PROCESS_STORE, Store
from .validation import check_name, entry_parts
from .waits import wait, wait_sync
from .watches import Watch

P = ParamSpec("P")
T = TypeVar("T")


class Registry:
    """A separate set of failpoints, for tests that run concurrently: `with Registry() as registry:`.

    Its configurations apply to the task that enters the block, and to the tasks and `to_thread` workers started inside
    it, and to nothing else. A name configured in it hides the same name outside, even when it misses or is used up.
    Leaving the block removes everything and wakes all waiters. Any thread and any task may call any method, also
    outside the block. The package-level functions of the same names act on the process-wide registry.

    >>> with Registry() as registry:
    ...     registry.configure("gateway.charge", "raise(TimeoutError)")
    """

    def __init__(self) -> None:
        self._store = Store()

    def __enter__(self) -> Self:
        enter(self._store)
        return self

    def __exit__(self, *exception: object) -> None:
        leave(self._store)

    def bound(self, function: Callable[P, T]) -> Callable[P, T]:
        """Make a function run inside the registry, also in a thread that does not belong to it.

        Use it for the target of a `threading.Thread` and for what an executor runs. They start with a new context, so
        the registry does not reach them. `asyncio.to_thread` and `anyio.to_thread` copy the context, and need nothing.

        Args:
            function: A function or an async function.

        Returns a function that takes the same arguments. Raises `FailpointUsageError` if *function* is neither.

        >>> import threading
        >>> with Registry() as registry:
        ...     registry.configure("backup.parse", "return(0)")
        ...     thread = threading.Thread(target=registry.bound(failpoint("backup.parse").hit))
        ...     thread.start()
        ...     thread.join()
        ...     registry.status("backup.parse").hits
        1
        """
        given = cast(Callable[..., Any], function)
        kind = kind_of(given) if callable(given) else None
        if kind is Kind.ASYNC:

            @functools.wraps(given)
            @runs_user_code
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                with Inside(self._store):
                    return await given(*args, **kwargs)

            return cast(Callable[P, T], run_async)
        if kind is not Kind.SYNC:
            raise FailpointUsageError(f"bound() takes a function or an async function; got {safe_repr(given)}")

        @functools.wraps(given)
        @runs_user_code
        def run(*args: Any, **kwargs: Any) -> Any:
            with Inside(self._store):
                return given(*args, **kwargs)

        return run

    # configuring

    def configure(self, name: str, actions: Actions, *, context: GivenMatchers | None = None) -> None:
        """Configure a failpoint. Takes effect at the next visit.

        A failpoint may have several configurations, told apart by their matchers. The newest one whose matchers match
        decides a visit, alone. A new one replaces the one with equal matchers and, if it has no matchers, all of the
        failpoint. Everything waiting at a configuration that is replaced is woken and goes on with `Continue()`.

        Args:
            name: The failpoint's name: printable, without white space, `=`, `;`, `[` or `]`.
            actions: A text (`"2*off->return(42)"`), an action, a `Term`, or a sequence of actions and terms.
            context: The matchers, a mapping of context keys. Each maps to a pattern (`str` or `re.Pattern`) that must
                match the whole `str()` of the value, to a predicate of one argument, or to a value that must be equal.
                All must hold.

        Raises:
            ActionSyntaxError: *actions* is a text that cannot be read.
            FailpointNameError: *name* cannot be a failpoint's name, or a pattern is not a regular expression.
            FailpointUsageError: An argument has a wrong type, or `FAILPOINTS_ENABLED=0`. Or *actions* has a
                `raise(Name)` that no site can raise: it is not builtin, all known sites of the name are functions that
                do not declare it in `raises`, and no imported module contains another site of the name.

        After an error nothing has changed. A term that nothing can reach, as in `sleep(200)->raise(OSError)`, is logged
        at WARNING.

        >>> configure("backup", "return(0)", context={"tenant_id": "test_.*", "shard": 3})
        >>> remove("backup")
        """
        self._store.install(self._store.prepare(name, actions, context))

    def configure_all(
        self,
        entries: Iterable[tuple[str, Actions] | tuple[str, Actions, GivenMatchers | None]],
    ) -> None:
        """Configure several failpoints at the same moment: all of them or, on any error, none.

        Each entry is `(name, actions)` or `(name, actions, context)`. Later entries are newer: one without a context
        replaces the earlier ones of the same name. Raises the exceptions of `configure`.

        >>> configure_all([("backup", "pause"), ("upload", "raise(OSError)", {"shard": 3})])
        >>> reset()
        """
        self._store.install_all([self._store.prepare(*parts) for parts in entry_parts(entries)])

    def configured(self, name: str, actions: Actions, *, context: GivenMatchers | None = None) -> Configured:
        """Configure a failpoint for a block of code, and watch it there.

        Use it with `with` or `async with`, which give a `Handle`. Leaving the block removes this configuration, wakes
        its waiters, and restores what it replaced, whose counts go on. Nothing is restored if the failpoint was removed
        or configured again in the meantime. The arguments are those of `configure`, whose exceptions are raised on
        entering. A term that nothing can reach, as in `sleep(200)->raise(OSError)`, is a `FailpointUsageError`.

        >>> with configured("backup", "off") as handle:
        ...     handle.hits
        0
        """

        def configure() -> Handle:
            terms = reachable_terms(name, actions)
            configuration = self._store.prepare(name, terms, context, for_block=True)
            return Handle(self._store, self._store.install(configuration))

        return Configured(configure)

    def remove(self, name: str) -> None:
        """Remove all configurations of *name* and wake everything waiting there. Does nothing if there is none.

        Raises `FailpointNameError` for a value that cannot be a failpoint's name.
        """
        self._store.remove(check_name(name))

    def reset(self) -> None:
        """Remove every configuration in this registry and wake all waiters."""
        self._store.reset()

    def resume(self, name: str, *, context: GivenMatchers | None = None, tasks: int | None = None) -> int:
        """Wake what waits at the failpoint, and return how many tasks and threads were woken. Later visits wait again.

        Args:
            name: The failpoint's name.
            context: Matchers as for `configure`. Only visits whose context matches are woken.
            tasks: The most tasks and threads to wake, a whole number of 1 or more. Those that have waited longest come
                first. `None` wakes all.

        Raises:
            FailpointNameError: *name* cannot be a failpoint's name, or a pattern is not a regular expression.
            FailpointUsageError: *context* or *tasks* has a wrong type or value.

        >>> resume("backup", context={"tenant_id": "test_.*"}, tasks=1)
        0
        """
        return self._store.resume(check_name(name), context, tasks)

    def seed(self, n: int | None) -> None:
        """Make random draws (`25%…`) come out the same in every run.

        Each failpoint draws from a generator of its own, seeded with *n* and its name, so one failpoint's draws do not
        depend on another's. `seed` and each `configure` restart it. `None` picks a random seed. Raises
        `FailpointUsageError` if *n* is not an `int` or `None`.
        """
        if n is not None and (not isinstance(n, int) or isinstance(n, bool)):
            raise FailpointUsageError(f"a seed is an int, or None for any; got {safe_repr(n)}")
        self._store.seed(n)

    # looking

    def status(self, name: str) -> FailpointStatus:
        """Return what a failpoint did since it was configured. Reading changes nothing.

        The counts are sums over its configurations, which `.configurations` has one by one, the newest first. If it is
        not configured, there are no actions and all counts are zero. Raises `FailpointNameError` for a value that
        cannot be a failpoint's name.
        """
        return self._store.status(check_name(name))

    def statuses(self) -> list[FailpointStatus]:
        """Return the status of every configured failpoint, sorted by name."""
        return self._store.statuses()

    # waiting

    async def wait_until_hit(self, name: str, hits: int = 1, *, timeout: float | None = None) -> None:
        """Wait until the failpoint has been hit *hits* times since it was configured. Earlier hits count.

        The hits of all configurations in force are counted. The wait goes on through a reconfiguration, and no longer
        counts the hits of what was replaced. To count hits and do nothing else, configure `off`.

        Args:
            name: The failpoint's name.
            hits: A whole number of 1 or more.
            timeout: Seconds to wait at most, 60 by default; `math.inf` for no limit.

        Raises:
            FailpointTimeout: The timeout is over. The message describes the failpoint's state.
            FailpointUsageError: The failpoint is not configured, or was removed during the wait.
            FailpointNameError: *name* cannot be a failpoint's name.
        """
        __tracebackhide__ = True
        await wait(self._store, Watch(name, "hit", hits), timeout)

    async def wait_until_paused(self, name: str, tasks: int = 1, *, timeout: float | None = None) -> None:
        """Wait until *tasks* tasks or threads are paused or sleeping at the failpoint right now.

        Those that run the function of a `Call` count as well. Otherwise like `wait_until_hit`.
        """
        __tracebackhide__ = True
        await wait(self._store, Watch(name, "paused", tasks), timeout)

    def wait_until_hit_sync(self, name: str, hits: int = 1, *, timeout: float | None = None) -> None:
        """Like `wait_until_hit`, for a thread without an event loop. On a loop's thread a `FailpointUsageError`."""
        __tracebackhide__ = True
        wait_sync(self._store, Watch(name, "hit", hits), timeout)

    def wait_until_paused_sync(self, name: str, tasks: int = 1, *, timeout: float | None = None) -> None:
        """Like `wait_until_paused`, for a thread without an event loop. On a loop's thread a `FailpointUsageError`."""
        __tracebackhide__ = True
        wait_sync(self._store, Watch(name, "paused", tasks), timeout)


def store_of(registry: Registry) -> Store:
    """Return the store of a registry, for the rooms that need more of it than its verbs."""
    return registry._store  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001 - the one way in


PROCESS_WIDE: Final = Registry()
PROCESS_WIDE._store = PROCESS_STORE  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001 - which is there before any registry

configure = PROCESS_WIDE.configure
configure_all = PROCESS_WIDE.configure_all
configured = PROCESS_WIDE.configured
remove = PROCESS_WIDE.remove
reset = PROCESS_WIDE.reset
resume = PROCESS_WIDE.resume
seed = PROCESS_WIDE.seed
status = PROCESS_WIDE.status
statuses = PROCESS_WIDE.statuses
wait_until_hit = PROCESS_WIDE.wait_until_hit
wait_until_hit_sync = PROCESS_WIDE.wait_until_hit_sync
wait_until_paused = PROCESS_WIDE.wait_until_paused
wait_until_paused_sync = PROCESS_WIDE.wait_until_paused_sync
