"""Identify tasks and visits by their position in the task tree, never by arrival time.

So the same task, and the same visit, has the same identity in every run that behaves the same.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from typing import Final, TypeAlias

from ..._core.context import Context
from ..._core.messages import safe_repr

TaskPath: TypeAlias = tuple[int, ...]
"""The position of a task in the tree: for each generation, its number among the tasks that its parent started."""

VisitKey: TypeAlias = tuple[TaskPath, str]
"""A visit without its ordinal: its task, and the failpoint's name."""

IN_THREAD: Final = -1
"""The last number in the path of code in a worker thread. Threads have no order, and no numbers of their own."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_DEFAULT_TASK_NAME = re.compile(r"Task-\d+")  # from asyncio, whose counter runs through the whole process


class TaskNode:
    """A task of a run: a node of the tree of tasks."""

    __slots__ = (
        "_children",
        "_threads",
        "arrived_at",
        "created",
        "generator",
        "label",
        "last_turn",
        "name",
        "path",
        "ticks",
        "wakeups",
    )

    def __init__(self, path: TaskPath, name: str, ticks: int = 0) -> None:
        self.path = path
        self.name = name
        # The step at which this task was last released, then its path: sorts tasks by how long ago they ran.
        self.last_turn: tuple[int, TaskPath] = (0, path)
        self.label = -1  # of the visit at which the task is held, or which it made last
        self.generator: Random | None = None  # of random bytes, made once it is needed
        self.ticks = ticks  # of the clock for UUIDs, which goes on where that of the parent was
        self.arrived_at = -1  # the label of the visit that suspends the task now
        self.wakeups = 0  # at which the task was held
        self.created = 0  # primitives of the libraries, which are named by their number
        self._children = self._threads = 0

    @property
    def has_started_tasks(self) -> bool:
        """Whether this task has started other tasks, and not only calls in threads."""
        return self._children > self._threads

    def thread(self) -> TaskNode:
        """Return the node for a call in a thread, which this task makes."""
        self._threads += 1
        return self.child("thread")

    def child(self, name: str) -> TaskNode:
        """Return the node for the next task that this one starts."""
        self._children += 1
        return TaskNode((*self.path, self._children), name, self.ticks)


current_node: Final[ContextVar[TaskNode | None]] = ContextVar("failpoints.explore.node", default=None)
"""The task that started this code, which is a task itself or runs in a worker thread."""


@dataclass(frozen=True, slots=True)
class Visit:
    """The identity of a visit in every run: its task, its failpoint, and its ordinal among equal ones.

    `context` is that of the run being shown, as text. It is not part of the identity, since the same visit may have
    another context in the next run: a new id, or the time.
    """

    path: TaskPath
    name: str
    occurrence: int
    context: str = field(default="", compare=False)


class Labels:
    """Numbers the decisions of an exploration, with the same number for the same decision in every run.

    A decision is about a visit (which fault to inject there), or about the visits and the wake-ups at which several
    tasks are held (which one to release next).
    """

    def __init__(self) -> None:
        self._visits: dict[VisitKey, list[int]] = {}
        self._labelled: list[Visit] = []

    def of_visit(self, key: VisitKey, occurrence: int) -> int:
        """Return the label of a visit. *occurrence* is its ordinal among visits with the same key, from 1."""
        known = self._visits.get(key)
        if known is None:
            known = self._visits[key] = []
        while len(known) < occurrence:
            known.append(len(self._labelled))
            self._labelled.append(Visit(*key, len(known)))
        return known[occurrence - 1]

    def visit(self, label: int) -> Visit:
        """Return the visit that has this label. That of a wake-up has no name."""
        return self._labelled[label]


def context_text(context: Context) -> str:
    """Format the context of a visit without memory addresses, which differ from run to run."""
    text = safe_repr(dict(context)) if context else ""
    return _ADDRESS.sub("", text) if " at 0x" in text else text


def task_name(given: str, function: str) -> str:
    """Return the name that a task was given, or the name of its function if it was not given one."""
    return function if not given or _DEFAULT_TASK_NAME.fullmatch(given) else given
