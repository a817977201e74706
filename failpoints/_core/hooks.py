"""The hooks through which exploration and the pytest plugin take part in visits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final, Protocol

from .actions import Action
from .configuration import Configuration
from .context import Context

observers: Final[list[Callable[[Configuration, Action | None, bool], object]]] = []
"""Called at each visit of a configured failpoint, with the action that triggers and whether the context matched."""


class Explorer(Protocol):
    """One run of an exploration, as the sites visited in it use it."""

    def arrive(self, name: str, context: Context) -> Awaitable[object] | None:
        """Return what an async visit has to await before it continues: the turn of its task."""

    def turn_away(self) -> None:
        """Note that the running task was cancelled while it waited for its turn."""

    def choose(self, name: str, context: Context, raises: tuple[type[BaseException], ...]) -> Action | None:
        """Choose what an async visit does instead of what is configured; `None` for the latter."""

    def choose_sync(self, name: str, context: Context, raises: tuple[type[BaseException], ...]) -> Action | None:
        """Choose what a visit in sync code does instead of what is configured; `None` for the latter."""

    def raised(self, error: BaseException) -> None:
        """Record an exception that the chosen action raised."""


exploring: Final[ContextVar[Explorer | None]] = ContextVar("failpoints.exploring", default=None)
"""The run of an exploration that visits in this context belong to. Read only while something is armed."""
