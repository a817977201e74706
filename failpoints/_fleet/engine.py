"""What a `Fleet` needs of the place where its configurations are kept, and how a folder provides it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Event
from typing import Any, Protocol, TypeVar

import anyio
import anyio.to_thread

from ..errors import FailpointUsageError
from .background import Background
from .files import Held
from .folder import Folder, Gone, Reports, Seen
from .state import State

_Result = TypeVar("_Result")


class Engine(Protocol):
    """A place where the configurations of a fleet are kept. All methods raise `FailpointUsageError` if it is gone."""

    async def open(self, lease: float | None) -> str | None:
        """Begin to renew a lease, and return the id of its owner; without a *lease* there is none."""
        ...

    async def close(self) -> None:
        """Stop renewing the lease, which ends what is left of the owner."""

    async def change(self, alter: Callable[[State], State]) -> State:
        """Change the state at one moment, let all members know, and return what it is now."""
        ...

    async def unacknowledged(self, revision: int) -> list[str]:
        """Return the members whose process is there, and that do not have a revision yet."""
        ...

    async def seen(self) -> Seen:
        """Return the state and the counts of one moment."""
        ...

    async def reports(self, seen: Seen) -> Reports:
        """Return what the members know beside their counts."""
        ...

    async def wake(self) -> None:
        """Let all members report what is new."""

    async def answers(self, command: int) -> dict[str, Any]:
        """Return the answers to a command, by member."""
        ...

    async def members(self) -> list[str]:
        """Return the members whose process is there."""
        ...


class FolderEngine:
    """A fleet in a folder. What touches files runs on a worker thread, since a file system may be slow."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._owner: Held | None = None
        self._renewing: Background | None = None

    async def open(self, lease: float | None) -> str | None:
        await self._run(self._folder.open)
        if lease is None:
            return None
        self._owner = owner = await self._run(self._folder.own)
        ending = Event()

        def renew() -> None:
            ending.wait(lease / 4)
            owner.touch()

        self._renewing = Background("failpoints fleet lease", renew, ending.set)
        self._renewing.start()
        return owner.path.name

    async def close(self) -> None:
        renewing, self._renewing = self._renewing, None
        if renewing is not None:
            renewing.stop()
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.remove()

    async def change(self, alter: Callable[[State], State]) -> State:
        def change() -> State:
            state = self._folder.change(alter)
            self._folder.wake_all()
            return state

        return await self._run(change)

    async def unacknowledged(self, revision: int) -> list[str]:
        return await self._run(partial(self._folder.unacknowledged, revision))

    async def seen(self) -> Seen:
        return await self._run(self._folder.seen)

    async def reports(self, seen: Seen) -> Reports:
        return await self._run(partial(self._folder.reports, seen))

    async def wake(self) -> None:
        await self._run(self._folder.wake_all)

    async def answers(self, command: int) -> dict[str, Any]:
        return await self._run(partial(self._folder.answers, command))

    async def members(self) -> list[str]:
        return await self._run(self._folder.members)

    async def _run(self, function: Callable[[], _Result]) -> _Result:
        try:
            return await anyio.to_thread.run_sync(function)
        except Gone:
            raise FailpointUsageError(f"the fleet's folder {str(self._folder.path)!r} is gone") from None
        except OSError as error:  # a TimeoutError is one, too
            raise FailpointUsageError(f"cannot use the fleet in {str(self._folder.path)!r}: {error}") from error
