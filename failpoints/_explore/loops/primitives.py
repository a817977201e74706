"""What the primitives of the libraries do to each other, as the search needs it: which of their operations meet.

While a reduction needs it, the operations of locks, events, queues and so on are wrapped, for the threads that
explore. Each notes what it touches: a resource, which is a part of the primitive, with a mode. Operations that do not
meet can be exchanged without a difference, so the search runs only one of the orders. An operation of which that is
not certain writes the whole primitive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from sys import _getframe  # pyright: ignore[reportPrivateUsage]  # imported by name, since sys._getframe can be replaced
from threading import get_ident
from types import CodeType
from typing import Any, Final, Self, TypeAlias

from ..._core.hooks import exploring
from ..._core.reentrancy import transparent
from ..execution import Execution
from ..plan.accesses import Mode, add_access
from ..plan.identity import TaskNode
from ..replacement import Replacement
from ..steps import CANCELLATION

_NO_TASK: Final = (0,)  # the path of the node above all tasks that no task has started


class Seen:
    """What was seen of the primitives of one run."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self._are_all_exact = execution.cancels_at_wakeups
        self._exact: set[TaskNode] = set()
        self._names: dict[int, tuple[Hashable, object]] = {}  # by id(), with the thing, so that no other one gets it
        self._marks: dict[tuple[Hashable, Hashable], int] = {}
        self.ends: dict[TaskNode, int | None] = {}  # the last segments of tasks that have ended
        self.group_of: dict[TaskNode, object] = {}
        self._members: dict[int, list[TaskNode]] = {}  # of groups of tasks, by id()
        self._observers: dict[TaskNode, set[str]] = {}
        self._waits: dict[TaskNode, list[Wait]] = {}
        self._observed: dict[TaskNode, list[TaskNode]] = {}
        self._channels: dict[int, Channel] = {}

    @property
    def node(self) -> TaskNode:
        """The running task, or the task that has scheduled the running callback."""
        return self.execution.acting_task()

    @property
    def is_program(self) -> bool:
        """Whether a task is running, or a callback that one has scheduled, and not the event loop itself."""
        return self.node.path != _NO_TASK

    @property
    def is_exact(self) -> bool:
        """Whether it matters if an operation suspends the running task: it is cancelled then, or when it goes on."""
        return self._are_all_exact or (bool(self._exact) and self.node in self._exact)

    def is_to_be_cancelled(self) -> None:
        """Note that the running task is cancelled where it next has to wait."""
        self._exact.add(self.node)

    def create(self, thing: object) -> None:
        """Name something that the running task has created, with the same name in every run."""
        node = self.node
        node.created += 1
        self._names[id(thing)] = ((node.path, node.created), thing)

    def name(self, thing: object) -> Hashable:
        """Return the name of something. It is the thing itself if it was created outside the run."""
        known = self._names.get(id(thing))
        if known is not None:
            return known[0]
        if isinstance(thing, TaskNode):
            return thing.path
        if isinstance(thing, str):
            return thing
        outside = ("outside", id(thing))
        self._names[id(thing)] = outside, thing
        return outside

    def channel(self, thing: object) -> Channel:
        """Return what was seen of a queue or stream."""
        channel = self._channels.get(id(thing))
        if channel is None:
            self.name(thing)  # which keeps it
            channel = self._channels[id(thing)] = Channel()
        return channel

    def members(self, group: object) -> list[TaskNode]:
        """Return the tasks of a group, a list to add to."""
        self.name(group)  # which keeps it
        return self._members.setdefault(id(group), [])

    def observe(self, node: TaskNode, function: str) -> None:
        """Note that the running task has a function called when another one ends. *function* is its qualified name."""
        self._observers.setdefault(node, set()).add(function)
        self._observed.setdefault(self.node, []).append(node)

    def observers(self, node: TaskNode) -> set[str]:
        """Return the qualified names of the functions that are called when a task ends."""
        return self._observers.get(node, set())

    def note(self, thing: object, mode: Mode, *parts: str) -> None:
        """Note that the running task touches parts of a thing."""
        steps = self.execution.steps
        if steps is None:
            return
        accesses, name = steps.accesses(self.node), self.name(thing)
        for part in parts:
            add_access(accesses, (name, part), mode)

    def mark(self) -> int | None:
        """Return the number of the running segment."""
        steps = self.execution.steps
        return None if steps is None else steps.mark(self.node)

    def set_mark(self, thing: object, part: str = "") -> None:
        """Remember the running segment as the one that has last made something possible."""
        mark = self.mark()
        if mark is not None:
            self._marks[self.name(thing), part] = mark

    def split_because(self, *marks: int | None) -> None:
        """Begin a new segment of the running task, which could not have run before those with these marks."""
        steps = self.execution.steps
        if steps is not None:
            for mark in marks:
                if mark is not None:
                    steps.split(self.node, mark)

    def join(self, nodes: Iterable[TaskNode], mark: int | None) -> None:
        """Note that the running task goes on since all of these have ended. *mark* is that from before it waited."""
        ends = [end for end in map(self.ends.get, nodes) if end is not None]
        steps = self.execution.steps
        if steps is None or mark is None or self.mark() == mark:
            self.split_because(*ends)
        else:
            steps.follow(self.node, ends)

    def split(self, thing: object, part: str = "") -> None:
        """Begin a new segment of the running task, which could not have run before the one that was remembered."""
        self.split_because(self._marks.get((self.name(thing), part)))

    # Cancellation

    def waiting(self, thing: object, parts: Iterable[str]) -> Waiting:
        """Return a block in which the running task may wait for a thing, so that cancelling it writes these parts."""
        return Waiting(self._waits.setdefault(self.node, []), (thing, parts))

    def cancel(self, node: TaskNode) -> None:
        """Note that the running task cancels another one."""
        steps = self.execution.steps
        if steps is None:
            return
        add_access(steps.accesses(self.node), (CANCELLATION, node.path), "w")
        self._exact.add(node)
        if node is self.node:  # it runs, or is cancelled when it goes on, and what it waited for notes that
            return
        for thing, parts in self._waits.get(node, ()):
            self.note(thing, "w", *parts)
            if id(thing) in self._channels:
                self._channels[id(thing)].is_irregular = True
        for observed in self._observed.get(node, ()):
            if observed not in self.ends:  # the task may wait for it
                self.note(observed, "w", "end")


Wait: TypeAlias = tuple[object, Iterable[str]]
"""Something that a task waits for, and the parts of it."""


class Waiting:
    """A block in which a task may wait.

    Not made by `contextmanager`, which replaces an error that is a frozen dataclass.
    """

    __slots__ = ("_wait", "_waits")

    def __init__(self, waits: list[Wait], wait: Wait) -> None:
        self._waits = waits
        self._wait = wait

    def __enter__(self) -> None:
        self._waits.append(self._wait)

    def __exit__(self, *exception: object) -> None:
        self._waits.remove(self._wait)


class Channel:
    """What was seen of one queue or stream: the segments that made room in it, and those that filled it."""

    def __init__(self) -> None:
        self.puts: list[int | None] = []
        self.gets: list[int | None] = []
        self.inside: Counter[TaskNode] = Counter()  # the calls of each task whose own calls are not the program's
        self.waiting: Counter[str] = Counter()  # the tasks in a call of "put" or "get" that may wait
        self.is_irregular = False  # an item or a slot may have gone to another task than the next in line

    def lines(self, side: str) -> tuple[list[int | None], list[int | None]]:
        """Return the segments of this side, "put" or "get", and those of the other side."""
        return (self.puts, self.gets) if side == "put" else (self.gets, self.puts)

    def mark_of(self, marks: list[int | None], index: float) -> int | None:
        """Return the segment that made the operation with this number possible."""
        return marks[int(index)] if 0 <= index < len(marks) else None


def current() -> Seen | None:
    """Return what to note operations in, or `None` if the caller does not belong to a run that needs it."""
    execution: Any = exploring.get()
    if execution is None or not execution.is_reduced or execution.thread != get_ident():
        return None
    return execution.seen or _begin(execution)


def current_of_loop() -> Seen | None:
    """Like `current`, but only while the steps of tasks are recorded."""
    execution: Any = exploring.get()
    if execution is None or execution.steps is None or execution.thread != get_ident():
        return None
    return execution.seen or _begin(execution)


def _begin(execution: Execution) -> Seen | None:
    if execution.is_sync:  # its tasks are those of an event loop of its own, and have no order to choose
        return None
    seen = execution.seen = Seen(execution)
    return seen


# Wrapping


Note: TypeAlias = Callable[[Seen, Any], Any]

_quiet: Final[set[CodeType]] = set()
"""Functions of the libraries whose calls are part of an operation that is noted already."""


@dataclass(frozen=True)
class Operation:
    """What an operation of a primitive notes: before it, after it, and if it raises.

    `waits_for` names the parts that the operation may wait for. What `before` returns is given to `after`. `of` returns
    the thing that is touched, if it is not the object that has the method.
    """

    before: Note | None = None
    after: Callable[[Seen, Any, Any], Any] | None = None
    failed: Note | None = None
    waits_for: Iterable[str] = ()
    of: Callable[[Any], Any] | None = None

    def noted(self, seen: Seen, thing: Any) -> Noted:
        """Return the block around a call."""
        return Noted(self, seen, thing if self.of is None else self.of(thing))


class Noted:
    """A call of an operation, as a block that notes what it touches. Not made by `contextmanager`: see `Waiting`."""

    __slots__ = ("_operation", "_seen", "_token", "thing")

    def __init__(self, operation: Operation, seen: Seen, thing: Any) -> None:
        self._operation = operation
        self._seen = seen
        self.thing = thing

    def __enter__(self) -> Self:
        before = self._operation.before
        self._token = None if before is None else before(self._seen, self.thing)
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        operation = self._operation
        if kind is not None:
            if operation.failed is not None:
                operation.failed(self._seen, self.thing)
        elif operation.after is not None:
            operation.after(self._seen, self.thing, self._token)


class Patches:
    """Wraps methods, and restores them."""

    def __init__(self) -> None:
        self._originals: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, name: str, replacement: Any) -> None:
        """Replace a method, or add one."""
        self._originals.append((owner, name, owner.__dict__.get(name, _MISSING)))
        setattr(owner, name, replacement)

    def undo(self) -> None:
        """Restore everything that was replaced."""
        while self._originals:
            owner, name, original = self._originals.pop()
            if original is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, original)

    def created(self, owner: Any) -> None:
        """Name the instances of a class when they are created."""
        self.replace(owner, "__init__", _naming(owner.__init__))

    def sync(self, owner: Any, names: str, operation: Operation) -> None:
        """Note the calls of these methods of a class, as far as it has them."""
        operation = _in_one_step(operation)
        for name in names.split():
            if name in owner.__dict__:
                self.replace(owner, name, _noting(owner.__dict__[name], operation))

    def asynchronous(self, owner: Any, names: str, operation: Operation) -> None:
        """Like `sync`, for async methods."""
        for name in names.split():
            if name in owner.__dict__:
                self.replace(owner, name, _noting_async(owner.__dict__[name], operation))

    def properties(self, owner: Any, names: str, operation: Operation) -> None:
        """Note that these properties are read. Setting one writes everything."""
        for name in names.split():
            found = owner.__dict__.get(name)
            if isinstance(found, property):
                getter: Any = found.fget
                operation = _in_one_step(operation)
                setter = None if found.fset is None else _noting(found.fset, EXCLUSIVE)
                self.replace(owner, name, property(_noting(getter, operation), setter))

    def quiet(self, function: Any) -> None:
        """Do not note what this function of a library calls."""
        _quiet.add(function.__code__)


_MISSING: Final = object()


def _in_one_step(operation: Operation) -> Operation:
    """Return an operation for a function that does not suspend the task, so that what it touches is noted once."""
    after: Any = operation.after
    return replace(operation, after=None) if after is operation.before else operation


def _naming(init: Callable[..., None]) -> Any:
    @transparent
    def created(self: Any, *args: Any, **kwargs: Any) -> None:
        seen = current()
        if seen is not None:
            seen.create(self)
        init(self, *args, **kwargs)

    return created


def _noting(original: Callable[..., Any], operation: Operation) -> Any:
    @transparent
    def noting(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen = current_of_loop()
        if seen is None or _is_quiet():
            return original(self, *args, **kwargs)
        with operation.noted(seen, self):
            return original(self, *args, **kwargs)

    return noting


def _noting_async(original: Callable[..., Any], operation: Operation) -> Any:
    @transparent
    async def noting(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen = current_of_loop()
        if seen is None:
            return await original(self, *args, **kwargs)
        with operation.noted(seen, self) as noted, seen.waiting(noted.thing, operation.waits_for):
            return await original(self, *args, **kwargs)

    return noting


def _is_quiet() -> bool:
    return _getframe(2).f_code in _quiet


# The operations of primitives that all libraries have.


def noting(mode: Mode, *parts: str) -> Operation:
    """Return an operation that touches parts of the primitive, while it lasts."""

    def note(seen: Seen, thing: Any, token: object = None) -> None:
        seen.note(thing, mode, *parts)

    def write(seen: Seen, thing: Any) -> None:
        seen.note(thing, "w", *parts)

    return Operation(note, note, write, parts)


EXCLUSIVE: Final = noting("w", "all")
READING: Final = noting("r", "all")


def _request(seen: Seen, lock: Any) -> None:
    seen.note(lock, "w", "queue")
    seen.note(lock, "w" if seen.is_exact else "u", "state")


def acquired(seen: Seen, lock: Any, token: object = None) -> None:
    """Note that the running task has got a lock, which it requested before."""
    seen.split(lock)
    seen.note(lock, "u", "state")


def _release(seen: Seen, lock: Any) -> None:
    seen.note(lock, "u", "state")
    seen.set_mark(lock)


def _write_lock(seen: Seen, lock: Any) -> None:
    seen.note(lock, "w", "queue", "state")


# Only the order of the requests of a lock matters. The task that requests it first gets it first, whenever the lock is
# released.
ACQUIRE: Final = Operation(_request, acquired, _write_lock, ("queue", "state"))
RELEASE: Final = Operation(_release, None, _write_lock)
ACQUIRE_AT_ONCE: Final = noting("w", "queue", "state")
LOOK_AT_LOCK: Final = noting("r", "state")


def _end_wait(seen: Seen, event: Any, was_set: Any) -> None:
    if was_set:
        seen.split(event)


def _fail_wait(seen: Seen, event: Any) -> None:
    seen.note(event, "w", "set", "clear")


def set_and_wait(flag: str) -> tuple[Operation, Operation]:
    """Return the operations that set an event and wait for it. *flag* is its attribute that is true once it is set."""

    def set_it(seen: Seen, event: Any) -> None:
        seen.note(event, "w", "set")
        if not getattr(event, flag):
            seen.set_mark(event)

    def begin_wait(seen: Seen, event: Any) -> bool:
        seen.note(event, "r", "clear", *(["set"] if seen.is_exact else []))
        return bool(getattr(event, flag))

    return Operation(set_it), Operation(begin_wait, _end_wait, _fail_wait, ("set", "clear"))


# A wait does not meet a set: whichever comes first, the task goes on after both. It does meet a clear.
CLEAR: Final = noting("w", "set", "clear")
IS_SET: Final = noting("r", "set")


def install_lock(patches: Patches, lock: Any) -> None:
    """Wrap a lock that can be acquired without waiting."""
    patches.created(lock)
    patches.quiet(lock.acquire)  # which calls others of these
    patches.quiet(lock.statistics)
    patches.asynchronous(lock, "acquire", ACQUIRE)
    patches.sync(lock, "acquire_nowait", ACQUIRE_AT_ONCE)
    patches.sync(lock, "release", RELEASE)
    patches.sync(lock, "locked statistics", LOOK_AT_LOCK)


def install_limiters(patches: Patches, *limiters: Any) -> None:
    """Wrap semaphores and limiters, of which all operations meet."""
    for limiter in limiters:
        patches.created(limiter)
        patches.asynchronous(limiter, "acquire acquire_on_behalf_of", EXCLUSIVE)
        patches.sync(limiter, "acquire_nowait acquire_on_behalf_of_nowait", EXCLUSIVE)
        patches.sync(limiter, "release release_on_behalf_of", EXCLUSIVE)
        patches.sync(limiter, "statistics", READING)
        patches.properties(limiter, "value total_tokens borrowed_tokens available_tokens", READING)


def noting_primitives(install: Callable[[Patches], None]) -> AbstractContextManager[None]:
    """Note the operations of primitives in the runs of the current thread. *install* wraps them."""
    patches = Patches()
    return _installed.setdefault(install, Replacement(partial(install, patches), patches.undo)).in_this_thread()


_installed: dict[Callable[[Patches], None], Replacement] = {}
