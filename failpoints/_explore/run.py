"""What a scenario is given: the run that it is part of."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from .._core.messages import safe_repr
from ..errors import FailpointUsageError
from .execution import Execution, Injected


class Run:
    """To say where faults may come and orders vary, and to see what came of it: what a scenario is given.

    `error` is the fault that surfaced from `injecting()`, or `None`; `faults` are those that this run injected.
    """

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self.error: BaseException | None = None

    @property
    def faults(self) -> tuple[Injected, ...]:
        """The faults that were injected so far in this run, in the order in which they came."""
        return tuple(self._execution.injected)

    def injecting(self, *, expect: type[BaseException] | tuple[type[BaseException], ...] = ()) -> Injecting:
        """To mark what is to be explored: `async with run.injecting():`, once in a run.

        Faults are injected, and tasks held at their visits, only inside. Leaving it takes an exception that is an
        injected one, was raised `from` one, is a group of such, or is one of the `expect` types in a run with a
        fault, and keeps it in `run.error`; any other passes. Raises `FailpointUsageError` when it is entered twice,
        or for an `expect` that is no exception type or tuple of such.
        """
        given: Any = expect if isinstance(expect, tuple) else (expect,)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in given):
            raise FailpointUsageError(f"expect= is an exception type, or a tuple of such; got {safe_repr(expect)}")
        return Injecting(self, self._execution, given)


class Injecting:
    """The part of a scenario that is explored: what `run.injecting()` returns, for `async with`."""

    def __init__(self, run: Run, execution: Execution, expect: tuple[type[BaseException], ...]) -> None:
        self._run = run
        self._execution = execution
        self._expect = expect

    async def __aenter__(self) -> Self:
        self._execution.begin(self._expect)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._execution.end()
        if error is None or not self._execution.is_surfaced(error):
            return False
        self._run.error = error
        return True
