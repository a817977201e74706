"""One run of a scenario that is a plain function: from its call until every thread that it started has ended."""

from __future__ import annotations

from collections.abc import Callable

from ..execution import Execution
from ..problem import Problem
from .control import Steering
from .lines import Lines
from .steered import Abandoned


class NotAFunction(BaseException):
    """The scenario looks like a plain function, and returns a coroutine."""


def run(
    execution: Execution, scenario: Callable[[], object], deadline: float, *, is_virtual: bool, lines: Lines | None
) -> Problem | None:
    """Run a scenario once, and return what went wrong. *lines* has the modules whose lines are points, if any."""
    steering = Steering(execution, deadline, is_virtual=is_virtual)
    steering.lines = lines
    execution.loop = execution.steering = steering
    execution.is_sync = True
    execution.watched.look = steering.look
    try:
        with steering.stopping_at_lines():
            return _run_scenario(steering, scenario)
    finally:
        execution.watched.look = None
        execution.stop()
        steering.unwind()
        if execution.recorder is not None:
            execution.recorder.finish(list(steering.threads))
        execution.steering = None
        del execution.loop  # which refers to the execution: no work for the garbage collector


def _run_scenario(steering: Steering, scenario: Callable[[], object]) -> Problem | None:
    try:
        scenario()
        steering.settle()
    except Abandoned:
        return steering.problem
    except (KeyboardInterrupt, NotAFunction):
        raise
    except BaseException as error:
        return steering.problem or Problem("error", "", error)
    return steering.problem or _error_of_thread(steering)


def _error_of_thread(steering: Steering) -> Problem | None:
    for node, error in steering.errors:
        if not steering.execution.is_surfaced(error):
            return Problem("unhandled", f"thread {node.name} failed", error)
    return None
