"""The run that a scenario receives as its argument."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from .._core.messages import safe_repr
from ..errors import FailpointUsageError
from .boundary import cancellation_boundary
from .execution import Execution, Injected


class Run:
    """The argument of a scenario: marks the part to explore, and shows which faults were injected.

    `error` is the fault that surfaced from `injecting()`, or `None`. `faults` has the faults injected in this run.
    """

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self.error: BaseException | None = None

    @property
    def faults(self) -> tuple[Injected, ...]:
        """The faults injected in this run so far, in order."""
        return tuple(self._execution.injected)

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


class Injecting:
    """The part of a scenario that is explored, as an async context manager. Returned by `run.injecting()`."""

    def __init__(self, run: Run, execution: Execution, expect: tuple[type[BaseException], ...]) -> None:
        self._run = run
        self._execution = execution
        self._expect = expect
        self._boundary: AbstractContextManager[object]

    async def __aenter__(self) -> Self:
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
        self._execution.end()
        if left is not None and (taken or self._execution.is_surfaced(left)):
            self._run.error = left
            return True
        if left is not None and left is not error:
            raise left
        return False
