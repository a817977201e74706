"""A place as a `Fleet` uses it, from a task."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from ..errors import FailpointUsageError
from .background import Background, keep_renewed
from .place import Gone, Owner, Place, Reports, Seen
from .state import State

_Result = TypeVar("_Result")


class Engine:
    """A place whose methods run on worker threads, since each of them may take a while.

    All methods raise `FailpointUsageError` if the place is gone, or cannot be reached.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._owner: Owner | None = None
        self._renewing: Background | None = None

    async def open(self, lease: float | None) -> str | None:
        """Begin to renew a lease, and return the id of its owner; without a *lease* there is none."""
        try:
            await self._run(self._place.open)
            if lease is None:
                return None
            self._owner = owner = await self._run(partial(self._place.own, lease))
        except BaseException:
            self._place.close()
            raise
        self._renewing = keep_renewed(owner, lease)
        return owner.name

    async def close(self) -> None:
        """Stop renewing the lease, which ends what is left of the owner."""
        renewing, self._renewing = self._renewing, None
        owner, self._owner = self._owner, None

        def close() -> None:
            if renewing is not None:
                renewing.stop()
            if owner is not None:
                owner.remove()
            self._place.close()

        await anyio.to_thread.run_sync(close)

    async def change(self, alter: Callable[[State], State]) -> State:
        """Change the state at one moment, let all members know, and return what it is now."""
        return await self._run(partial(self._place.change, alter))

    async def unacknowledged(self, revision: int) -> list[str]:
        """Return the members whose process is there, and that do not have a revision yet."""
        return await self._run(partial(self._place.unacknowledged, revision))

    async def seen(self) -> Seen:
        """Return the state and the counts of one moment."""
        return await self._run(self._place.seen)

    async def reports(self, seen: Seen) -> Reports:
        """Return what the members know beside their counts."""
        return await self._run(partial(self._place.reports, seen))

    async def wake(self) -> None:
        """Let all members report what is new."""
        await self._run(self._place.wake_all)

    async def refresh(self, seconds: float) -> None:
        """Wait until every member has shown what it had counted so far, or until this has taken too long."""
        await self._run(partial(self._place.refresh, seconds))

    async def answers(self, command: int) -> dict[str, Any]:
        """Return the answers to a command, by member."""
        return await self._run(partial(self._place.answers, command))

    async def members(self) -> list[str]:
        """Return the members whose process is there."""
        return await self._run(self._place.members)

    async def time(self) -> float:
        """Return the time, by the clock of the place."""
        return await self._run(self._place.time)

    async def _run(self, function: Callable[[], _Result]) -> _Result:
        try:
            return await anyio.to_thread.run_sync(function)
        except Gone:
            raise FailpointUsageError(f"the fleet in {self._place} is gone", code="FP026") from None
        except OSError as error:  # a TimeoutError is one, too
            raise FailpointUsageError(f"cannot use the fleet in {self._place}: {error}", code="FP026") from error
