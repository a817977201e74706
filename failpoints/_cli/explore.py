"""The verb explore: finds a scenario by its name, explores it, and shows a progress bar."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .._core.messages import did_you_mean, safe_repr
from ..errors import FailpointUsageError
from .options import AsJson, examples
from .output import write_lines
from .text import printable

if TYPE_CHECKING:
    from ..explore import Exploration, Progress

app = typer.Typer()


@app.command(
    "explore",
    epilog=examples(
        "failpoints explore tests.scenarios:transfer --max-faults 2",
        "failpoints explore tests.scenarios:withdrawals --interleavings --backend trio",
        "failpoints explore tests.scenarios:pool --awaits --cancellations --max-faults 1 --sample 1000",
    ),
)
def explore_scenario(
    scenario: Annotated[
        str,
        typer.Argument(metavar="MODULE:FUNCTION", help="An async function that takes the run.", show_default=False),
    ],
    max_faults: Annotated[
        int | None,
        typer.Option(
            "--max-faults",
            min=0,
            metavar="N",
            help="Inject at most N faults per run (default 1, or 0 with --interleavings or --awaits).",
        ),
    ] = None,
    interleavings: Annotated[bool, typer.Option("--interleavings", help="Also try every order of the tasks.")] = False,
    awaits: Annotated[
        bool, typer.Option("--awaits", help="Also try every order of all wake-ups, in code without failpoints.")
    ] = False,
    cancellations: Annotated[
        bool, typer.Option("--cancellations", help="Also cancel the task, as a fault: see --max-faults.")
    ] = False,
    reduction: Annotated[
        Literal["sound", "declared", "none"],
        typer.Option(
            "--reduction",
            help="Which orders are equivalent: a step that declares nothing meets every other (sound), touches only"
            " what is seen (declared), or every order is tried (none).",
        ),
    ] = "sound",
    audit: Annotated[
        float, typer.Option("--audit", metavar="SHARE", help="Check a share of what was declared, such as 0.1.")
    ] = 0.0,
    max_preemptions: Annotated[
        int | None,
        typer.Option(
            "--max-preemptions",
            min=0,
            metavar="N",
            help="With --interleavings: leave a task that could continue at most N times per run.",
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample", min=1, metavar="N", help="With --interleavings or --awaits: run N orders, drawn at random."
        ),
    ] = None,
    max_runs: Annotated[int, typer.Option("--max-runs", min=1, metavar="N", help="Stop after N runs.")] = 10_000,
    max_failures: Annotated[
        int, typer.Option("--max-failures", min=1, metavar="N", help="Go on until N different failures are found.")
    ] = 1,
    backend: Annotated[Literal["asyncio", "trio"], typer.Option("--backend", help="The event loop.")] = "asyncio",
    clock: Annotated[
        Literal["virtual", "real"], typer.Option("--clock", help="Whether waiting takes real time.")
    ] = "virtual",
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="Time limit of each run.")] = 5,
    replay: Annotated[
        str | None, typer.Option("--replay", metavar="TEXT", help="Repeat one run, from the text that a failure shows.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Try every fault in a scenario, or every order of its tasks.

    Prints one line about what was tried. Exit status 1 if a run failed: its report is printed, with the text for
    --replay.
    """
    from ..explore import ExplorationFailed, explore  # takes time to import, and only this verb needs it

    found = find_scenario(scenario)
    failure: list[str] = []
    try:
        with progress_bar() as on_run:
            exploration = explore(
                found,
                backend=backend,
                max_faults=max_faults,
                cancellations=cancellations,
                interleavings="awaits" if awaits else interleavings,
                reduction=None if reduction == "none" else reduction,
                audit=audit,
                max_preemptions=max_preemptions,
                sample=sample,
                max_runs=max_runs,
                max_failures=max_failures,
                timeout=timeout,
                clock=clock,
                replay=replay,
                on_run=on_run,
            )
    except ExplorationFailed as error:
        exploration = error.exploration
        failure = [*map(printable, str(error).splitlines()), ""]
    if as_json:
        write_lines([json.dumps(exploration_document(exploration), indent=2)])
    else:
        write_lines([*failure, str(exploration)])
    if failure:
        raise typer.Exit(1)


def find_scenario(path: str) -> Any:
    """Return the object that `MODULE:FUNCTION` names. The module can be in the current folder.

    Raises `FailpointUsageError` if there is no such object, or if the module cannot be imported.
    """
    module_name, _, function_name = path.partition(":")
    if not module_name or not function_name or module_name.endswith(".py") or "/" in module_name:
        raise FailpointUsageError(f"expected MODULE:FUNCTION, such as tests.scenarios:transfer; got {safe_repr(path)}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)  # `python -m` does this, but a console script does not
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise FailpointUsageError(f"no module named {error.name!r} can be imported from {here}") from None
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise FailpointUsageError(
            f"cannot import {module_name}: {type(error).__name__}: {error}, at {last.filename}:{last.lineno}"
        ) from error
    for name in function_name.split("."):
        if not hasattr(found, name):
            callables = [each for each in dir(found) if callable(getattr(found, each, None))]
            raise FailpointUsageError(f"{module_name} has no {function_name!r}{did_you_mean(name, callables)}")
        found = getattr(found, name)
    return found


@contextmanager
def progress_bar() -> Generator[Callable[[Progress], object] | None]:
    """Show a progress bar on stderr. The block gets the function to call after each run.

    It gets `None` if stderr is not a terminal.
    """
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
            total = min(progress.runs + progress.queued, progress.max_runs)
            bar.update(task, completed=progress.runs, total=total, queued=f"{progress.queued:,}")

        yield show


def exploration_document(exploration: Exploration) -> dict[str, Any]:
    """Return an exploration as `--json` prints it."""
    return {"verdict": str(exploration), **dataclasses.asdict(exploration), "hits": dict(exploration.hits)}
