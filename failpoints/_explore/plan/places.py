"""Tasks and visits by what they are, never by when they came: the same in every run that does the same.

A task's place is its parent's place and its number among the tasks that its parent started.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import Final, NamedTuple, cast

from ..._core.context import Context
from ..._core.messages import safe_repr

IN_THREAD: Final = -1
"""The end of the place of what runs in a worker thread: these have no order, and no number among them."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_OWN_NAME = re.compile(r"Task-\d+")  # given by asyncio, counted through the whole process


class Place:
    """One task of a run: its place in the tree of tasks."""

    __slots__ = ("_children", "arrived", "name", "path", "turn")

    def __init__(self, path: tuple[int, ...], name: str) -> None:
        self.path = path
        self.name = name
        # Whose turn it is: who was let go longest ago comes first.
        self.turn: tuple[int, tuple[int, ...]] = (0, path)
        self.arrived = -1  # the label of the visit that it is held at, or goes on with
        self._children = 0

    def child(self, name: str) -> Place:
        """The place of the next task that this one starts."""
        self._children += 1
        return Place((*self.path, self._children), name)


current_place: Final[ContextVar[Place | None]] = ContextVar("failpoints.explore.place", default=None)
"""The task that this code, or the worker thread that it runs in, was started from."""


class Visit(NamedTuple):
    """What a visit is known by: the task's place, the failpoint's name, its context, and the how-manieth of these."""

    path: tuple[int, ...]
    name: str
    context: str
    occurrence: int


class Labels:
    """A small number for each thing that a run can decide about, the same in every run."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, ...], int] = {}
        self._visits: dict[tuple[tuple[int, ...], str, str], list[int]] = {}
        self._things: list[Visit | tuple[int, ...]] = []

    def number(self, visits: tuple[int, ...]) -> int:
        """The number of a choice between visits, given by their own."""
        number = self._numbers.get(visits)
        if number is None:
            number = self._numbers[visits] = len(self._things)
            self._things.append(visits)
        return number

    def visit_number(self, key: tuple[tuple[int, ...], str, str], occurrence: int) -> int:
        """The number of a visit: its task, name and context, and the how-manieth of these it is, from 1."""
        known = self._visits.get(key)
        if known is None:
            known = self._visits[key] = []
        while len(known) < occurrence:
            known.append(len(self._things))
            self._things.append(Visit(*key, len(known)))
        return known[occurrence - 1]

    def visit(self, number: int) -> Visit:
        """The visit that has this number."""
        return cast(Visit, self._things[number])

    def visits(self, number: int) -> list[Visit]:
        """The visits that a decision with this number was about."""
        thing = self._things[number]
        return [thing] if isinstance(thing, Visit) else [self.visit(each) for each in thing]


def context_text(context: Context) -> str:
    """The context of a visit, the same in every run: without the addresses of objects."""
    text = safe_repr(dict(context)) if context else ""
    return _ADDRESS.sub("", text) if " at 0x" in text else text


def task_name(given: str, function: str) -> str:
    """The name of a task: the given one, or that of its function if nobody gave one."""
    return function if not given or _OWN_NAME.fullmatch(given) else given
