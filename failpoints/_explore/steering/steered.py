"""A thread of a run, and what it is waiting for."""

from __future__ import annotations

import threading
from _thread import allocate_lock
from collections.abc import Callable
from inspect import CO_GENERATOR
from operator import attrgetter
from types import FrameType
from typing import Any, Final, TypeAlias

from ..plan.accesses import Mode
from ..plan.identity import TaskNode

INFINITE: Final = float("inf")
Wants: TypeAlias = tuple[tuple[Any, Mode, str], ...]


class Abandoned(BaseException):
    """Ends a thread whose run has ended."""


class Steered:
    """A thread of the scenario.

    Attributes:
        node: Its place in the tree of tasks.
        ident: That of the thread, once it has been started.
        baton: Held by the thread itself, except for the moment at which it goes on.
        is_enabled: Returns whether what it waits for is there. `None` if it waits for nothing.
        deadline: When its wait ends by itself, on the clock of the run.
        has_timed_out: Whether that time has come.
        alarm: The segment in which it came, until the operation is over.
        thing: The primitive that it is at.
        wants: What it would touch if it went on, if it waits: primitives, modes and parts.
        label: Identifies the point at which it is.
        since: When it came to this point: a number that grows.
        is_after: Whether the point is one after an operation.
        is_ended: Whether it has ended, or is about to.
        end: The number of its last segment.
        is_atomic: Whether it carries out several operations at once, and stops only if it has to wait.
        is_outside: Whether another thread went on while it was running, since it was waiting for something else.
        call: The call of a function of a pool in which it is, if any. Its frame.
        is_worker: Whether it belongs to an executor, and begins without a function of the program.
        runs_program: Whether it runs the program at the point, or a pool has called that since.
        points: The number of points at which it was while it was being ended.
    """

    __slots__ = (
        "alarm",
        "baton",
        "call",
        "deadline",
        "end",
        "has_timed_out",
        "ident",
        "is_after",
        "is_atomic",
        "is_enabled",
        "is_ended",
        "is_outside",
        "is_worker",
        "label",
        "node",
        "points",
        "runs_program",
        "since",
        "thing",
        "thread",
        "wants",
    )

    def __init__(self, node: TaskNode, thread: threading.Thread | None, ident: int = 0) -> None:
        self.node = node
        self.thread = thread
        self.ident = ident
        self.baton: Any = allocate_lock()
        self.baton.acquire()
        self.is_enabled: Callable[[], bool] | None = None
        self.deadline = INFINITE
        self.has_timed_out = self.is_after = self.is_ended = self.is_outside = self.is_atomic = False
        self.thing: Any = None
        self.wants: Wants = ()
        self.label = -1
        self.since = 0
        self.end: int | None = None
        self.alarm: int | None = None
        self.points = 0
        self.call: FrameType | None = None
        self.runs_program = True
        self.is_worker = False

    def is_able(self) -> bool:
        """Return whether it can go on."""
        return self.is_enabled is None or self.has_timed_out or self.is_enabled()


_POOLS: Final = ("concurrent.futures.thread", "concurrent.futures._base")
_OURS: Final = __name__.rpartition(".")[0] + "."


def call_of_pool(frame: FrameType | None) -> FrameType | None:
    """Return the outermost call of a pool's function that everything inside belongs to the pool.

    A generator is none: the program runs between two of its steps.
    """
    found = None
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name in _POOLS and not frame.f_code.co_flags & CO_GENERATOR:
            found = frame
        elif name != "threading" and not name.startswith(_OURS):
            break
        frame = frame.f_back
    return found


by_path = attrgetter("node.path")
by_since = attrgetter("since")


def is_expendable(thread: Steered) -> bool:
    """Return whether a thread may be left behind: a daemon, or a worker that waits for work."""
    if thread.thread is None or thread.thread.daemon:
        return True
    target = getattr(thread.thread, "_target", None)
    is_worker = (getattr(target, "__module__", ""), getattr(target, "__name__", "")) == (
        "concurrent.futures.thread",
        "_worker",
    )
    is_waiting = thread.is_enabled is not None and not thread.is_enabled()
    return is_worker and is_waiting and type(thread.thing).__name__ == "SimpleQueue"
