"""The verbs of the command `failpoints`, as typer reads them from the command line."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer

from .._core.status import FailpointStatus
from .._http.address import parse_address
from .._scan.scan import scan_paths
from ..errors import FailpointUsageError
from .explanation import explain, explanation_document, explanation_lines
from .launch import environment_with, start
from .remote import Remote, statuses_as_json
from .scan_report import objections, scan_document, scan_lines
from .terminal import printable

_URL = "http://127.0.0.1:22381"

app = typer.Typer(
    name="failpoints",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes would fold what stands above a caret
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help=f"Where the program listens: FAILPOINTS_URL, else {_URL}."),
]
_Token = Annotated[
    str | None,
    typer.Option("--token", metavar="TOKEN", help="What it asks for, better given by FAILPOINTS_TOKEN."),
]
_Name = Annotated[str, typer.Argument(metavar="NAME", help="The failpoint's name.", show_default=False)]
_Actions = Annotated[
    str,
    typer.Argument(metavar="ACTIONS", help="What it does, such as '2*off->return(42)'.", show_default=False),
]
_Json = Annotated[bool, typer.Option("--json", help="For scripts.")]


def _examples(*lines: str) -> str:
    return "\n".join(["\b", "Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)])


def _show_version(given: bool) -> None:
    if given:
        _check_output()
        _write([f"failpoints {version('failpoints')}"])
        raise typer.Exit


@app.callback(
    epilog=_examples(
        "failpoints run --set gateway.charge=pause --http 127.0.0.1:22381 -- python app.py",
        "failpoints wait gateway.charge --paused 1",
        "failpoints off gateway.charge",
    )
)
def _failpoints(  # pyright: ignore[reportUnusedFunction] - typer uses it
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            envvar="FAILPOINTS_URL",
            show_envvar=False,
            help=f"Where the program listens: FAILPOINTS_URL, else {_URL}. Stands before the verb or after it.",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TOKEN",
            envvar="FAILPOINTS_TOKEN",
            show_envvar=False,
            help="What it asks for, better given by FAILPOINTS_TOKEN: a command line can be seen by others.",
        ),
    ] = None,
    shows_version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Drive the failpoints of a running program, start one with failpoints, or look at actions and source.

    A program is driven over HTTP once it runs with FAILPOINTS_HTTP=127.0.0.1:22381 in its environment.

    The exit status is 0 for yes, 1 where the answer is no, 2 for a wrong use and where nothing answers.
    """
    if context.invoked_subcommand != "run":  # whose program may want no output
        _check_output()
    context.obj = (url, token)


def _remote(context: typer.Context, url: str | None, token: str | None) -> Remote:
    outer_url, outer_token = context.obj
    return Remote(url or outer_url or _URL, outer_token if token is None else token)


# verbs that drive a running program


@app.command("list", epilog=_examples("failpoints list", "failpoints list --json | jq -r '.[].name'"))
def list_(context: typer.Context, as_json: _Json = False, url: _Url = None, token: _Token = None) -> None:
    """Show what is configured, how often it was hit, and who waits."""
    statuses = _remote(context, url, token).statuses()
    if as_json:
        _write([statuses_as_json(statuses, indent=2)])
    else:
        _show(statuses)


def _show(statuses: list[FailpointStatus]) -> None:
    from . import tables

    console = tables.terminal()
    if not statuses:
        _remark(tables.NOTHING)
    elif console is not None:
        console.print(tables.table(statuses, datetime.now(UTC), console.width))
    else:
        _write(tables.plain_lines(statuses, datetime.now(UTC)))


@app.command(
    "set",
    epilog=_examples(
        "failpoints set gateway.charge:after '1*raise(TimeoutError)'",
        "failpoints set backup pause --context 'tenant_id=test_.*' --context shard=3",
    ),
)
def set_(
    context: typer.Context,
    name: _Name,
    actions: _Actions,
    matchers: Annotated[
        list[str] | None,
        typer.Option(
            "--context",
            metavar="KEY=PATTERN",
            help="Only where the context has the key, and the pattern matches the whole value. Can be repeated.",
        ),
    ] = None,
    url: _Url = None,
    token: _Token = None,
) -> None:
    """Configure a failpoint, from its next hit on.

    Whoever waits there goes on. What the actions mean is told by: failpoints check ACTIONS
    """
    is_known = _remote(context, url, token).configure(name, actions, _read_matchers(matchers or []))
    _say(f"{name}: {actions}")
    if not is_known:
        _remark("note: no failpoint of this name has been seen there yet")


def _read_matchers(texts: list[str]) -> dict[str, str]:
    matchers: dict[str, str] = {}
    for text in texts:
        key, equals, pattern = text.partition("=")
        if not equals or not key:
            raise FailpointUsageError(f"expected KEY=PATTERN, such as tenant_id=test_.*; got {text!r}")
        if key in matchers:
            raise FailpointUsageError(f"the key {key!r} is given twice; one pattern can hold both: {key}='one|other'")
        matchers[key] = pattern
    return matchers


@app.command(epilog=_examples("failpoints off gateway.charge"))
def off(context: typer.Context, name: _Name, url: _Url = None, token: _Token = None) -> None:
    """End what is configured for a failpoint; whoever waits goes on.

    Status 1 if it is not configured. To have it do nothing but count its hits: failpoints set NAME off
    """
    _remote(context, url, token).remove(name)
    _say(f"{name}: not configured any more")


@app.command(epilog=_examples("failpoints reset"))
def reset(context: typer.Context, url: _Url = None, token: _Token = None) -> None:
    """End everything that is configured; whoever waits goes on."""
    _remote(context, url, token).reset()
    _say("nothing is configured any more")


@app.command(epilog=_examples("failpoints resume gateway.charge"))
def resume(context: typer.Context, name: _Name, url: _Url = None, token: _Token = None) -> None:
    """Let those go on who wait at a failpoint now.

    It stays configured: the next ones wait again. Status 1 if nobody waits.
    """
    woken = _remote(context, url, token).resume(name)
    _say(f"{name}: {woken} resumed")


@app.command(
    epilog=_examples("failpoints wait gateway.charge --hits 3", "failpoints wait backup --paused 1 --timeout 60")
)
def wait(
    context: typer.Context,
    name: _Name,
    hits: Annotated[
        int | None,
        typer.Option("--hits", min=1, metavar="N", help="Until it was hit so often since it was configured; else 1."),
    ] = None,
    paused: Annotated[
        int | None, typer.Option("--paused", min=1, metavar="N", help="Until so many wait there at once.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="How long at most.")] = 10,
    url: _Url = None,
    token: _Token = None,
) -> None:
    """Wait until a failpoint is hit, or until somebody waits there.

    Status 1 if it did not come to that in time, or if the failpoint is not configured.
    """
    if hits is not None and paused is not None:
        raise FailpointUsageError("give --hits or --paused, not both")
    if not 0 <= timeout < math.inf:
        raise FailpointUsageError(f"--timeout is a number of seconds, 0 or more; got {timeout:g}")
    _remote(context, url, token).wait(name, hits, paused, timeout)
    _say(f"{name}: hit {_times(hits or 1)}" if paused is None else f"{name}: {paused} waiting")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


@app.command(epilog=_examples("failpoints watch", "failpoints watch --json | jq -c '.[] | [.name, .hits]'"))
def watch(context: typer.Context, as_json: _Json = False, url: _Url = None, token: _Token = None) -> None:
    """Show what list shows, again and again, until Ctrl-C.

    Not at a terminal it is a table after every change, and with --json a line after every change.
    """
    from . import tables

    remote = _remote(context, url, token)
    console = None if as_json else tables.terminal()
    if console is not None:
        with tables.live(console) as show:
            remote.watch_live(show)
    elif as_json:
        remote.watch(lambda statuses: _write([statuses_as_json(statuses)]))
    else:
        remote.watch(_show_again)


def _show_again(statuses: list[FailpointStatus]) -> None:
    from . import tables

    lines = tables.plain_lines(statuses, datetime.now(UTC)) if statuses else [tables.NOTHING]
    _write([*lines, ""])


# exploring


@app.command(
    epilog=_examples(
        "failpoints explore tests.scenarios:transfer --max-faults 2",
        "failpoints explore tests.scenarios:withdrawals --interleavings --backend trio",
    )
)
def explore(
    scenario: Annotated[
        str, typer.Argument(metavar="MODULE:FUNCTION", help="An async function of a run.", show_default=False)
    ],
    max_faults: Annotated[
        int | None,
        typer.Option("--max-faults", min=0, metavar="N", help="So many faults in one run; else 1, 0 with orders."),
    ] = None,
    interleavings: Annotated[bool, typer.Option("--interleavings", help="Every order of the tasks, too.")] = False,
    max_preemptions: Annotated[
        int | None,
        typer.Option(
            "--max-preemptions", min=0, metavar="N", help="So many switches away from a task that could go on."
        ),
    ] = None,
    max_runs: Annotated[int, typer.Option("--max-runs", min=1, metavar="N", help="No more runs than that.")] = 10_000,
    backend: Annotated[Literal["asyncio", "trio"], typer.Option("--backend", help="The event loop.")] = "asyncio",
    clock: Annotated[Literal["virtual", "real"], typer.Option("--clock", help="Whether time costs time.")] = "virtual",
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="How long one run may take at most.")
    ] = 5,
    replay: Annotated[
        str | None, typer.Option("--replay", metavar="TEXT", help="Run that one run again, as a failure told it.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Try every fault of a scenario, and every order of its tasks.

    What was tried is said in one line. Status 1 if a run failed, which is then shown, with how to run it alone.
    """
    from ..explore import ExplorationFailed
    from ..explore import explore as run_exploration
    from . import exploring

    found = exploring.scenario_at(scenario)
    try:
        with exploring.progress_bar() as show:
            exploration = run_exploration(
                found,
                backend=backend,
                max_faults=max_faults,
                interleavings=interleavings,
                max_preemptions=max_preemptions,
                max_runs=max_runs,
                timeout=timeout,
                clock=clock,
                replay=replay,
                on_run=show,
            )
    except ExplorationFailed as error:
        if as_json:
            _write([json.dumps(exploring.exploration_document(error.exploration), indent=2)])
        else:
            _write([*map(printable, str(error).splitlines()), "", str(error.exploration)])
        raise typer.Exit(1) from None
    _write([json.dumps(exploring.exploration_document(exploration), indent=2) if as_json else str(exploration)])


# verbs that need no running program


@app.command(epilog=_examples("failpoints check '2*off->25%3*return(x)->pause'"))
def check(actions: _Actions, as_json: _Json = False) -> None:
    """Read actions aloud, term by term, and say what may surprise.

    Status 1 if a term can never trigger, 2 if these are no actions.
    """
    explanation = explain(actions)
    if as_json:
        _write([json.dumps(explanation_document(actions, explanation), indent=2)])
    else:
        width = min(shutil.get_terminal_size().columns, 100) if sys.stdout.isatty() else None
        _write(explanation_lines(explanation, width))
    if not explanation.sound:
        raise typer.Exit(1)


@app.command(epilog=_examples("failpoints scan src tests", "failpoints scan --check src"))
def scan(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="Files, and folders of *.py files.", show_default=False)
    ],
    checked: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Status 1 if unrelated places declare one name, a name cannot be a failpoint's, nobody awaits one, or"
            " a file cannot be read.",
        ),
    ] = False,
    as_json: _Json = False,
) -> None:
    """List the failpoints that source code declares.

    It is read, and not imported. What cannot be told from it is listed, too, and so is what nobody awaits.
    """
    try:
        found = scan_paths(paths)
    except OSError as error:
        raise FailpointUsageError(f"{error.filename}: {error.strerror}") from None
    objected = objections(found) if checked else []
    if as_json:
        _write([json.dumps(scan_document(found, objected if checked else None), indent=2)])
    else:
        _write(scan_lines(found, objected))
    if not as_json and not found.declared:
        _remark("no failpoint is declared")
    if checked and (objected or found.never_awaited or found.unread):
        raise typer.Exit(1)


@app.command(
    epilog=_examples(
        "failpoints run --set 'gateway.charge=1*raise(TimeoutError)' -- python app.py",
        "failpoints run --set backup=pause --http 127.0.0.1:22381 -- uvicorn app:app",
    ),
    context_settings={"allow_interspersed_args": False},
)
def run(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND [ARGS]", help="The program.", show_default=False)],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=ACTIONS", help="What is configured from the start. Can be repeated."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--http", metavar="HOST:PORT", help="Where it is to listen (FAILPOINTS_HTTP); :0 takes any port."),
    ] = None,
    matchers: Annotated[list[str] | None, typer.Option("--context", hidden=True)] = None,
) -> None:
    """Run a program with failpoints.

    They are given to it by its variable FAILPOINTS, after what that says already. The program takes the place of
    this command: signals and the exit status are its own. Status 127 if there is no such program, 126 if it cannot be
    run, 2 if something is wrong with the actions.
    """
    if matchers:
        raise FailpointUsageError("FAILPOINTS has no matchers: start it with --http, then failpoints set … --context …")
    environment = environment_with(settings or [])
    if address is not None:
        parse_address(address, "--http")
        environment["FAILPOINTS_HTTP"] = address
    raise typer.Exit(start(command, environment))


def _check_output() -> None:
    """Refuse to begin where nobody would learn what came of it."""
    if sys.stdout is None:
        raise FailpointUsageError("the standard output is closed: there is nowhere to write to")


def _remark(sentence: str) -> None:
    if sys.stderr is not None:  # as it is where it is closed
        sys.stderr.write(f"{sentence}\n")


def _say(sentence: str) -> None:
    _write([printable(sentence)])


def _write(lines: Iterable[str]) -> None:
    # At once, and with what its encoding has not as escapes; typer's own would write another encoding than it has.
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
