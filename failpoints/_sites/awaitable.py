"""The awaited work of a call of a sync function, and the visits around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from .._core.actions import Outcome
from .._core.context import GetContext
from .._core.functions import callable_name
from .._core.hooks import exploring
from .._core.perform import CONTINUE
from .._core.reentrancy import transparent
from .._core.region import Region, region_of_call
from .._core.site import Site
from .._core.tracebacks import OwnFramesHidden, own_frames_hidden
from .._core.visit import visit


class Given:
    """The value of an early return."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Visits:
    """The visits around the work that one call of a sync function has returned.

    Args:
        site: What the failpoint declares.
        context: Evaluates the context of the call.
        value: Makes the value of an outcome.
        end_iteration: Raises `FailpointUsageError` if an iteration cannot end with an outcome.
        frames: Keeps the frames of this package out of the errors of a visit.
        skips_name: Whether `name` was visited before the call.
    """

    __slots__ = ("_after", "_context", "_end_iteration", "_frames", "_skips_name", "_value", "site")

    def __init__(
        self,
        site: Site,
        context: GetContext,
        value: Callable[[str, Outcome], Any],
        end_iteration: Callable[[str, Outcome], None],
        frames: OwnFramesHidden,
        *,
        skips_name: bool,
    ) -> None:
        self.site = site
        self._after = f"{site.name}:after"
        self._context = context
        self._value = value
        self._end_iteration = end_iteration
        self._frames = frames
        self._skips_name = skips_name

    async def before(self, begun: str | None, region: Region) -> Given | None:
        """Visit `name`, and return the value to give instead of doing the work, if any.

        If the work may have begun already, *begun* names where to put the failpoint instead. The caller leaves the
        region when the work is done.
        """
        with self._frames:
            outcome = await self._visit_name(begun, region)
            return Given(self._value(self.site.name, outcome)) if outcome else None

    async def after(self, result: Any) -> Any:
        """Visit `name:after`, and return the result of the work, or what replaces it."""
        with self._frames:
            outcome = await visit(self._after, self.site, self._context, result)
            return self._value(self._after, outcome) if outcome else result

    async def begin_iteration(self, begun: str | None, region: Region) -> bool:
        """Visit `name`, and return whether to iterate. The caller leaves the region at the end."""
        with self._frames:
            outcome = await self._visit_name(begun, region)
            if outcome:
                self._end_iteration(self.site.name, outcome)
            return not outcome

    async def end_iteration(self) -> None:
        """Visit `name:after`."""
        with self._frames:
            outcome = await visit(self._after, self.site, self._context)
            if outcome:
                self._end_iteration(self._after, outcome)

    async def _visit_name(self, begun: str | None, region: Region) -> Outcome:
        if self._skips_name or (begun is not None and exploring.get() is not None):
            return CONTINUE  # an exploration has no fault to try where nothing can be prevented any more
        site = self.site if begun is None else self.site.of_begun_work(begun)
        return await visit(site.name, site, self._context, region=region)


class Work:
    """What is to be awaited. It is discarded if that never happens, since a coroutine would warn about it."""

    __slots__ = ("_begin", "_discard", "given", "is_done")

    def __init__(self, begin: Callable[[], Awaitable[Any]], discard: Callable[[], object] | None = None) -> None:
        self._begin = begin
        self._discard = discard
        self.is_done = False
        self.given: Given | None = None  # instead of the work's result

    @transparent
    def begin(self) -> Awaitable[Any]:
        """Return what to await."""
        self._discard = None
        return self._begin()

    def close(self) -> None:
        """Discard the work, unless it has begun."""
        if self._discard is not None:
            discard, self._discard = self._discard, None
            discard()

    __del__ = close


@transparent
async def awaited(work: Work, visits: Visits, begun: str | None = None) -> Any:
    """Do the work, with the visits around it."""
    with own_frames_hidden, region_of_call(visits.site) as region:
        try:
            work.given = await visits.before(begun, region)
            if work.given is not None:
                return work.given.value
            result = await work.begin()
            work.is_done = True
        finally:
            work.close()
        return await visits.after(result)


async def gives(value: Any) -> Any:
    """Return a value where it is awaited."""
    return value


def named(started: Any, function: Any) -> Any:
    """Give a coroutine or generator the name of a function, which warnings, task names and debuggers show."""
    qualname = callable_name(function)
    started.__name__ = getattr(function, "__name__", qualname)
    started.__qualname__ = qualname
    return started
