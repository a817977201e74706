"""The hooks through which exploration and the pytest plugin take part in visits, and the plugin in exploration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Final, Protocol

from ..errors import FailpointUsageError
from .accesses import Accesses
from .actions import Action
from .configuration import Configuration
from .context import Context, GivenMatchers
from .site import Site

observers: Final[list[Callable[[Configuration, Action | None, bool], object]]] = []
"""Called at each visit of a configured failpoint, with the action that triggers and whether the context matched."""


class Others(Protocol):
    """The other processes that have what a store has, and whose counts are added to its own."""

    def changed(self) -> None:
        """Configure the others as the store is now."""

    def can_have(self, configuration: Configuration) -> bool:
        """Return whether the others can be given a configuration. One without a text stays in this process."""
        ...

    def begin_again(self) -> Callable[[], None]:
        """Begin the counts of the others again. Calling the result adds up what was counted before and since."""
        ...

    def refresh(self, configurations: Iterable[Configuration]) -> None:
        """Note in each configuration what the others did. Called without a lock."""

    def resume(self, name: str, context: GivenMatchers | None, tasks: int | None, only: Configuration | None) -> int:
        """Wake what waits in this process and in the others, and return how many were woken."""
        ...


class Result(Protocol):
    """The result of an exploration that found no failure."""

    @property
    def exhaustive(self) -> bool: ...
    @property
    def bounds(self) -> tuple[str, ...]: ...
    @property
    def replayed(self) -> bool: ...


class Spectator(Protocol):
    """Follows every exploration of the process."""

    def advanced(self, done: int, total: int | None, what: str) -> None:
        """Note how much is done, and of how much, as far as that is known. *what* is "runs" or "states"."""

    def ended(self, result: Result | None, tried: str) -> None:
        """Note that an exploration has ended, with a result or with an error. *tried* is such as "7 runs"."""


spectators: Final[list[Spectator]] = []


class Explorer(Protocol):
    """One run of an exploration, as the sites visited in it use it."""

    def arrive(self, name: str, context: Context) -> Awaitable[object] | None:
        """Return what an async visit has to await before it continues: the turn of its task."""

    def arrive_sync(self, name: str, context: Context) -> None:
        """Wait until it is the turn of the running thread, at a visit in sync code."""

    def turn_away(self) -> None:
        """Note that the running task was cancelled while it waited for its turn."""

    def choose(self, name: str, context: Context, site: Site) -> Action | None:
        """Choose what an async visit does instead of what is configured; `None` for the latter."""

    def choose_sync(self, name: str, context: Context, site: Site) -> Action | None:
        """Choose what a visit in sync code does instead of what is configured; `None` for the latter."""

    def declare_step(self, accesses: Accesses) -> None:
        """Note what the running task declares to touch until it is next suspended."""

    def enter_region(self, region: object, accesses: Accesses) -> None:
        """Note what the running task declares to touch until it leaves the region, which is any object."""

    def leave_region(self, region: object) -> Accesses | None:
        """End a region, and return what it declared; `None` if it was not entered.

        Of one object that several tasks have entered as a region, the running task leaves its own. If it has none, the
        latest one ends: a generator can be resumed, or closed, by another task.
        """

    def misdeclared(self, error: FailpointUsageError) -> None:
        """Record that a site cannot declare what it declares."""

    def raised(self, error: BaseException) -> None:
        """Record an exception that the chosen action raised."""


exploring: Final[ContextVar[Explorer | None]] = ContextVar("failpoints.exploring", default=None)
"""The run of an exploration that visits in this context belong to. Read only while something is armed."""
