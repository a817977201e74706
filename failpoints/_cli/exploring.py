"""To explore a scenario from the command line: found by its name, with a bar that moves while it goes on."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from .._core.messages import did_you_mean, safe_repr
from ..errors import FailpointUsageError
from ..explore import Exploration, Progress


def scenario_at(path: str) -> Any:
    """The function that `MODULE:FUNCTION` names, its module imported from the current folder too.

    Raises `FailpointUsageError` where there is none, and where the module cannot be imported.
    """
    module_name, _, function_name = path.partition(":")
    if not module_name or not function_name or module_name.endswith(".py") or "/" in module_name:
        raise FailpointUsageError(f"expected MODULE:FUNCTION, such as tests.scenarios:transfer; got {safe_repr(path)}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` has it, and a console script has not
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise FailpointUsageError(f"there is no module {error.name!r} to be seen from {here}") from None
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise FailpointUsageError(
            f"{module_name} cannot be imported: {type(error).__name__}: {error}, at {last.filename}:{last.lineno}"
        ) from error
    for name in function_name.split("."):
        if not hasattr(found, name):
            near = did_you_mean(name, [each for each in dir(found) if callable(getattr(found, each, None))])
            raise FailpointUsageError(f"there is no {function_name!r} in {module_name}{near}")
        found = getattr(found, name)
    return found


@contextmanager
def progress_bar() -> Generator[Callable[[Progress], object] | None]:
    """What shows how far an exploration is, on stderr; `None` where nobody looks."""
    if sys.stderr is None or not sys.stderr.isatty():  # pyright: ignore[reportUnnecessaryComparison]
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("exploring"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("runs, {task.fields[queued]} queued"),
    )
    with Bar(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1, queued="1")

        def show(progress: Progress) -> None:
            most = min(progress.runs + progress.queued, progress.max_runs)
            bar.update(task, completed=progress.runs, total=most, queued=f"{progress.queued:,}")

        yield show


def exploration_document(exploration: Exploration) -> dict[str, Any]:
    """What a script reads, as JSON has it."""
    return {"verdict": str(exploration), **dataclasses.asdict(exploration)}
