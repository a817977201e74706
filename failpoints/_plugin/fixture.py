"""The class of the fixture `failpoints`."""

from __future__ import annotations

import inspect
from functools import partial
from types import FrameType

from .._core.actions import Actions
from .._core.context import GivenMatchers
from .._core.handle import Configured, Handle
from .._core.known_sites import Location
from .._core.registry import PROCESS_WIDE
from .._core.status import FailpointStatus
from .expectations import Expectations


class Failpoints:
    """The fixture `failpoints`: configures failpoints for one test.

    Use it to make a program fail or wait where a test needs it. A configuration acts on every task, thread and event
    loop of the process. After the test, pass or fail, the fixture restores the previous configuration and wakes
    everything that still waits. What a fixture of a wider scope configures is removed as well if that fixture is first
    set up during the test.

    A test that passes without hitting a failpoint that it set fails.

    >>> async def test_lost_reply(failpoints: Failpoints) -> None:
    ...     reply = failpoints.set("gateway.charge:after", "raise(TimeoutError)")
    ...     await pay("order-1")
    ...     assert reply.triggers == 1
    """

    def __init__(self, expectations: Expectations) -> None:
        self._expectations = expectations

    def __repr__(self) -> str:
        return "<the failpoints of this test>"

    def set(
        self, name: str, actions: Actions, *, context: GivenMatchers | None = None, expect_hit: bool = True
    ) -> Handle:
        """Configure a failpoint for the rest of the test and return a `Handle` to watch and control it.

        The handle's waits raise `FailpointTimeout` after *failpoints_timeout* seconds (10 by default), unless they
        are given a `timeout=`. A pause raises it in the paused code after *failpoints_pause_limit* seconds (30 by
        default). Both are settings of the ini file.

        Args:
            name: The name of the failpoint.
            actions: As for `failpoints.configure`: a text, an action, a `Term`, or a sequence of actions and terms.
            context: The matchers, as for `failpoints.configure`.
            expect_hit: If false, the test passes even if the failpoint is never hit or cannot carry out its actions.

        Raises:
            ActionSyntaxError: *actions* is a text that is not valid.
            FailpointNameError: *name* or a pattern in *context* is not valid.
            FailpointUsageError: An argument has the wrong type, the test has ended, or `FAILPOINTS_ENABLED=0`.

        >>> upload = failpoints.set("backup.upload", "raise(OSError: disk full)", context={"shard": 3})
        >>> failpoint("backup.upload", context={"shard": 4}).hit()
        Continue()
        >>> failpoint("backup.upload", context={"shard": 3}).hit()
        Traceback (most recent call last):
        OSError: disk full
        >>> upload.hits, upload.misses
        (1, 1)
        """
        __tracebackhide__ = True  # so that the report shows an error at the test's own line
        return self._expectations.set(name, actions, context, expect_hit, _caller(inspect.currentframe()))

    def paused(self, name: str, *, context: GivenMatchers | None = None) -> Configured:
        """Pause every task and thread that reaches a failpoint while a block runs.

        Use it with `with` or `async with`, which return a `Handle`. `await handle.wait_paused()` waits until a task
        is paused, and `handle.resume()` lets it go on. Leaving the block removes the configuration and wakes
        everything that waits there. Entering the block raises what `set` raises.

        >>> async def test_race(failpoints: Failpoints) -> None:
        ...     async with anyio.create_task_group() as tasks, failpoints.paused("cache.fill") as fill:
        ...         tasks.start_soon(reader)
        ...         await fill.wait_paused()  # no sleep, no polling
        ...         await writer()
        """
        where = _caller(inspect.currentframe())
        return Configured(partial(self._expectations.set, name, "pause", context, True, where, for_block=True))

    def handle(self, name: str) -> Handle:
        """Return a handle of a failpoint that a marker, `--failpoints` or `FAILPOINTS` configured.

        Raises:
            FailpointNameError: *name* is not valid.
            FailpointUsageError: *name* is not configured.

        >>> setting = failpoints.set("backup.parse", "off")
        >>> failpoint("backup.parse").hit()
        Continue()
        >>> failpoints.handle("backup.parse").hits
        1
        """
        __tracebackhide__ = True
        return self._expectations.handle(name)

    def remove(self, name: str) -> None:
        """Remove the configuration of *name* and wake everything that waits there, like `failpoints.remove`."""
        PROCESS_WIDE.remove(name)

    def reset(self) -> None:
        """Remove all configuration and wake everything that waits, like `failpoints.reset`."""
        PROCESS_WIDE.reset()

    def resume(self, name: str, *, context: GivenMatchers | None = None, tasks: int | None = None) -> int:
        """Wake what waits at *name* and return how many were woken, like `failpoints.resume`."""
        return PROCESS_WIDE.resume(name, context=context, tasks=tasks)

    def seed(self, n: int | None) -> None:
        """Seed the random draws (`25%…`) independently of the run's seed, like `failpoints.seed`."""
        self._expectations.seed(n)

    def status(self, name: str) -> FailpointStatus:
        """Return the status of *name*, like `failpoints.status`."""
        return PROCESS_WIDE.status(name)

    def statuses(self) -> list[FailpointStatus]:
        """Return the status of every configured failpoint, like `failpoints.statuses`."""
        return PROCESS_WIDE.statuses()


def _caller(frame: FrameType | None) -> Location | str:
    """Return the place that called the function of *frame*."""
    caller = frame.f_back if frame is not None else None
    if caller is None:
        return "an unknown place"
    return Location(caller.f_code.co_filename, caller.f_lineno, caller.f_code.co_qualname)
