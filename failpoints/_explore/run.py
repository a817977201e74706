"""The run that a scenario receives as its argument."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

from .._core.messages import safe_repr
from ..errors import FailpointUsageError
from .boundary import TaskBoundary, cancellation_boundary
from .execution import Execution, Injected
from .plan.identity import TaskPath
from .sharing.snapshot import snapshot
from .sharing.space import SharedObjects
from .sharing.values import is_atomic, is_raw

T = TypeVar("T")


class Run:
    """The argument of a scenario: marks the part to explore, and shows which faults were injected.

    `error` is the fault that surfaced from `injecting()`, or `None`. `faults` has the faults injected in this run.
    """

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self.error: BaseException | None = None
        self._shared = SharedObjects(execution.touch)
        self._counts: Counter[tuple[str, TaskPath]] = Counter()
        self._observed: dict[tuple[TaskPath, int], str] = {}

    @property
    def faults(self) -> tuple[Injected, ...]:
        """The faults injected in this run so far, in order."""
        return tuple(self._execution.injected)

    def shared(self, value: T) -> T:
        """Return a proxy of an object that tasks share, so that the exploration sees what each of them does with it.

        Orders of tasks that touch different attributes or items, or only read the same ones, are then run once. Use the
        proxy in place of the object, everywhere. What is reached through it is shared, too: the objects in attributes
        and containers, and `self` in the methods of a class that is written in Python. It is equal to the object, and
        an instance of the same class. Sharing an object again returns the same proxy.

        Not seen are: what is reached in another way, such as a global or a reference from before; what callbacks and
        worker threads do; and the state of exceptions and classes. A proxy `is` not its object, and
        functions written in C, such as `json.dumps`, may want the object itself: give them a `copy.deepcopy`.

        Args:
            value: An instance of any class that can change: of your own, a `dict`, a `list`. Of a class that is
                written in C, or has a metaclass of its own (pydantic, SQLAlchemy), each method counts as writing all
                that is shared. Python's own containers are an exception.

        Raises:
            FailpointUsageError: *value* cannot change, such as a number, or is a class or a function, or is something
                that the exploration sees anyway, such as a lock.

        >>> from failpoints.explore import Run, explore
        >>> async def deposit(run: Run) -> None:
        ...     accounts = run.shared({"a": 100, "b": 0})
        ...     async with run.injecting():
        ...         await failpoint("bank.deposit", raises=(OSError,))
        ...         accounts["b"] += 10
        >>> print(explore(deposit))
        2 runs, every fault at 1 visit, one at a time: no failure
        """
        if is_atomic(value) or is_raw(value):
            raise FailpointUsageError(
                f"run.shared() takes an object that can change, such as a dict or an instance of your class; got"
                f" {safe_repr(value)}. Share the object that has it as an attribute."
            )
        shared: T = self._shared.share(value, self._place("shared"))
        return shared

    def observe(self, value: object) -> None:
        """Add a value to what is compared when two orders of tasks are said to make no difference.

        It is described at once, with all that it consists of. What went through `run.shared` is compared anyway, as it
        is at the end of the run. It takes anything, and raises nothing.

        Args:
            value: A result, or a state that is not shared through the run, such as the rows of a table.
        """
        self._observed[self._place("observed")] = snapshot(value)

    @property
    def observed(self) -> tuple[str, ...]:
        """What the run has left behind, as texts to compare: what it observed, then the state of what it shared."""
        observed = [f"observed {_of_task(place)}: {text}" for place, text in sorted(self._observed.items())]
        shared = [f"shared {_of_task(key)}: {snapshot(value)}" for key, value in sorted(self._shared.roots.items())]
        return (*observed, *shared)

    def _place(self, what: str) -> tuple[TaskPath, int]:
        """Return the position of the running task, and how many of these it has made."""
        path = self._execution.current_place()
        self._counts[what, path] += 1
        return path, self._counts[what, path]

    def injecting(self, *, expect: type[BaseException] | tuple[type[BaseException], ...] = ()) -> Injecting:
        """Mark the part of a scenario to explore: `async with run.injecting():`, once per run.

        Only inside the block are faults injected, and tasks held at their visits. An exception that leaves the block
        is kept in `run.error` and goes no further if it is a fault that surfaced: if it is an injected exception, was
        raised `from` one, is a group of such exceptions, or is of an *expect* type in a run with a fault. Any other
        exception propagates.

        Args:
            expect: An exception type, or a tuple of them.

        Raises:
            FailpointUsageError: *expect* is not an exception type or a tuple of them, or the block is entered twice.
        """
        given: Any = expect if isinstance(expect, tuple) else (expect,)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in given):
            raise FailpointUsageError(
                f"expect= must be an exception type, or a tuple of exception types; got {safe_repr(expect)}"
            )
        return Injecting(self, self._execution, given)


def _of_task(place: tuple[TaskPath, int]) -> str:
    path, number = place
    return f"{number} of task {'.'.join(map(str, path))}" if path else f"{number} of the scenario"


class Injecting:
    """The part of a scenario that is explored, as a context manager, which is async in an async scenario.

    Returned by `run.injecting()`.
    """

    def __init__(self, run: Run, execution: Execution, expect: tuple[type[BaseException], ...]) -> None:
        self._run = run
        self._execution = execution
        self._expect = expect
        self._boundary: AbstractContextManager[object]

    def __enter__(self) -> Self:
        if not self._execution.is_sync:
            raise FailpointUsageError("a scenario that is an async function takes async with run.injecting():")
        self._execution.begin(self._expect)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._execution.end()
        if error is not None and self._execution.is_surfaced(error):
            self._run.error = error
            return True
        return False

    async def __aenter__(self) -> Self:
        if self._execution.is_sync:
            raise FailpointUsageError("a scenario that is a plain function takes with run.injecting():, without async")
        self._execution.begin(self._expect)
        self._boundary = cancellation_boundary(self._execution)
        self._boundary.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        try:
            taken = bool(self._boundary.__exit__(kind, error, traceback))
            left = error
        except BaseException as rest:  # of a group, from which trio has taken the cancellations
            taken, left = False, rest
        put_off = self._boundary if isinstance(self._boundary, TaskBoundary) and self._boundary.is_pending() else None
        self._execution.end()
        if put_off is not None:
            await put_off.take()
        if left is not None and (taken or self._execution.is_surfaced(left)):
            self._run.error = left
            return True
        if left is not None and left is not error:
            raise left
        return False
