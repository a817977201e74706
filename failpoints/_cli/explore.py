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
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .._core.messages import did_you_mean, safe_repr
from ..errors import FailpointUsageError
from .options import AsJson, examples
from .output import write_lines
from .text import printable

if TYPE_CHECKING:
    from ..explore import CrashExploration, CrashProgress, Exploration, Progress

app = typer.Typer()


@app.command(
    "explore",
    epilog=examples(
        "failpoints explore tests.scenarios:transfer --max-faults 2",
        "failpoints explore tests.scenarios:withdrawals --interleavings --backend trio",
        "failpoints explore tests.scenarios:pool --awaits --cancellations --max-faults 1 --sample 1000",
        "failpoints explore --crashes tests.store:save tests.store:check --disk power",
    ),
)
def explore_scenario(
    scenario: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="An async function that takes the run. With --crashes, the function that writes.",
            show_default=False,
        ),
    ],
    check: Annotated[
        str | None,
        typer.Argument(metavar="MODULE:CHECK", help="With --crashes, the function that recovers.", show_default=False),
    ] = None,
    crashes: Annotated[
        bool,
        typer.Option("--crashes", help="Instead, check every folder that a crash of the first function can leave."),
    ] = False,
    disk: Annotated[
        Literal["process", "power"],
        typer.Option("--disk", help="With --crashes: whether the process dies, or the power fails."),
    ] = "power",
    recorder: Annotated[
        Literal["python", "strace"],
        typer.Option("--recorder", help="With --crashes: what sees the operations on files. strace sees C code, too."),
    ] = "python",
    depth: Annotated[
        int,
        typer.Option("--depth", min=1, metavar="N", help="With --crashes: N crashes, the later ones in MODULE:CHECK."),
    ] = 1,
    max_states: Annotated[
        int, typer.Option("--max-states", min=1, metavar="N", help="With --crashes: check at most N folders.")
    ] = 10_000,
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
    lines: Annotated[
        list[str] | None,
        typer.Option(
            "--lines", metavar="MODULE", help="With --sample: let threads change between lines of this module."
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
    from ..explore import ExplorationFailed, explore, explore_crashes  # takes time to import: only this verb needs it

    if crashes != (check is not None):
        raise FailpointUsageError("--crashes takes two functions: failpoints explore --crashes MODULE:ACT MODULE:CHECK")
    found = find_scenario(scenario)
    failure: list[str] = []
    exploration: Exploration | CrashExploration
    try:
        if check is not None:
            recovering = find_scenario(check)
            with crash_progress_bar() as on_state:
                exploration = explore_crashes(
                    found,
                    recovering,
                    backend=backend,
                    disk=disk,
                    recorder=recorder,
                    depth=depth,
                    max_states=max_states,
                    max_failures=max_failures,
                    timeout=timeout,
                    replay=replay,
                    on_state=on_state,
                )
            show(exploration, failure, as_json=as_json)
            return
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
                lines=lines or (),
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
    show(exploration, failure, as_json=as_json)


def show(exploration: Exploration | CrashExploration, failure: list[str], *, as_json: bool) -> None:
    """Print the result, after the text of a failure. Ends with status 1 if there is one."""
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
    with _bar("runs, {task.fields[queued]} queued", queued="1") as update:

        def show(progress: Progress) -> None:
            total = min(progress.runs + progress.queued, progress.max_runs)
            update(completed=progress.runs, total=total, queued=f"{progress.queued:,}")

        yield show if update is not no_update else None


@contextmanager
def crash_progress_bar() -> Generator[Callable[[CrashProgress], object] | None]:
    """Show how many states were checked, like `progress_bar`. How many there are is not known before."""
    with _bar("states, {task.fields[broken]} broken", broken="0") as update:

        def show(progress: CrashProgress) -> None:
            update(completed=progress.states, total=progress.max_states, broken=f"{progress.broken:,}")

        yield show if update is not no_update else None


def no_update(**_: object) -> None:
    """Show nothing: stderr is not a terminal."""


@contextmanager
def _bar(text: str, **fields: Any) -> Generator[Callable[..., object]]:
    if sys.stderr is None or not sys.stderr.isatty():  # pyright: ignore[reportUnnecessaryComparison]
        yield no_update
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("exploring"), BarColumn(), MofNCompleteColumn(), TextColumn(text))
    with Bar(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        yield partial(bar.update, bar.add_task("", total=1, **fields))


def exploration_document(exploration: Exploration | CrashExploration) -> dict[str, Any]:
    """Return an exploration as `--json` prints it."""
    document: dict[str, Any] = {"verdict": str(exploration), **dataclasses.asdict(exploration)}
    return {**document, "hits": dict(document["hits"])} if "hits" in document else document
