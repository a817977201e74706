"""The verbs that control a running program: list, set, remove, reset, resume, wait and watch."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from .._core.status import FailpointStatus
from ..errors import FailpointUsageError
from .fleet import FleetProgram, parse_duration
from .options import DEFAULT_URL, ActionsText, AsJson, Connection, FleetUrl, Token, Url, examples
from .output import write_lines, write_note, write_sentence
from .remote import RemoteProgram, statuses_as_json
from .text import printable, times

app = typer.Typer()


def _complete(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names that the program configures or declares, for the completion of the shell."""
    connection = Connection(*(ctx.find_root().params.get(option) for option in Connection._fields))
    ctx.obj = connection
    try:
        program = _program(ctx, *(ctx.params.get(option) for option in Connection._fields))
        names = [status.name for status in program.statuses(declared=True)]
    except Exception:  # the program does not run, or is not ours: a shell that completes has no place for messages
        return []
    return [name for name in names if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Name of the failpoint.", show_default=False, autocompletion=_complete),
]


def _program(
    context: typer.Context, url: str | None, token: str | None, fleet: str | None
) -> RemoteProgram | FleetProgram:
    connection: Connection = context.obj
    if folder := connection.fleet_for(url, fleet):
        return FleetProgram(folder)
    return RemoteProgram(url or connection.url or DEFAULT_URL, connection.token if token is None else token)


@app.command(
    "list", epilog=examples("failpoints list", "failpoints list --all", "failpoints list --json | jq -r '.[].name'")
)
def list_statuses(
    context: typer.Context,
    declared: Annotated[
        bool,
        typer.Option(
            "--all", help="Also list the failpoints that the program declares and nothing configures, and all sites."
        ),
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    fleet: FleetUrl = None,
) -> None:
    """List configured failpoints, with their counts and waiting tasks.

    With --all, these are the failpoints in the source of the modules that the program has imported so far, and those
    that it has visited while something was configured.
    """
    statuses = _program(context, url, token, fleet).statuses(declared=declared)
    if as_json:
        write_lines([statuses_as_json(statuses, indent=2)])
    else:
        _show(statuses, declared)


def _show(statuses: Sequence[FailpointStatus], declared: bool) -> None:
    from . import status_table  # imports rich, which most verbs do without

    console = status_table.terminal()
    if not statuses:
        write_note("no failpoint is configured or declared" if declared else status_table.NOTHING)
    elif console is not None:
        console.print(status_table.table(statuses, datetime.now(UTC), console.width, sites=declared))
    else:
        write_lines(status_table.plain_lines(statuses, datetime.now(UTC), sites=declared))


@app.command(
    "set",
    epilog=examples(
        "failpoints set gateway.charge:after '1*raise(TimeoutError)'",
        "failpoints set backup pause --context 'tenant_id=test_.*' --context shard=3",
        "failpoints set charge.before_ack '1*exit(9)' --fleet /run/shop --for 10m",
    ),
)
def configure(
    context: typer.Context,
    name: Name,
    actions: ActionsText,
    matchers: Annotated[
        list[str] | None,
        typer.Option(
            "--context",
            metavar="KEY=PATTERN",
            help="Act only where the regular expression matches the whole context value. Can be repeated."
            " Configurations with other matchers stay, and the newest that matches decides.",
        ),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="DURATION", help="End it after this time, such as 10m or 30s. Only with --fleet."
        ),
    ] = None,
    url: Url = None,
    token: Token = None,
    fleet: FleetUrl = None,
) -> None:
    """Configure a failpoint, effective at its next visit.

    Everything waiting there is released. To see what actions do: failpoints check ACTIONS. To see which failpoints the
    program has: failpoints list --all

    With --fleet, every process has it when the command ends, and so have those that start later, until it is removed.
    Exit status 1 if a process has not acknowledged it within 10 seconds.
    """
    seconds = None if duration is None else parse_duration(duration)
    note = _program(context, url, token, fleet).configure(name, actions, _parse_matchers(matchers or []), seconds)
    write_sentence(f"{name}: {actions}")
    if note:
        write_note(printable(note))


def _parse_matchers(texts: list[str]) -> dict[str, str]:
    matchers: dict[str, str] = {}
    for text in texts:
        key, equals, pattern = text.partition("=")
        if not equals or not key:
            raise FailpointUsageError(f"expected KEY=PATTERN, such as tenant_id=test_.*; got {text!r}")
        if key in matchers:
            raise FailpointUsageError(f"the key {key!r} is given twice; one pattern can match both: {key}='one|other'")
        matchers[key] = pattern
    return matchers


@app.command("off", hidden=True)  # the former name of remove
@app.command(epilog=examples("failpoints remove gateway.charge"))
def remove(context: typer.Context, name: Name, url: Url = None, token: Token = None, fleet: FleetUrl = None) -> None:
    """Disable a failpoint and release everything waiting there.

    Exit status 1 if it is not configured. To make it do nothing but count: failpoints set NAME off
    """
    _program(context, url, token, fleet).remove(name)
    write_sentence(f"{name}: removed")


@app.command(epilog=examples("failpoints reset"))
def reset(context: typer.Context, url: Url = None, token: Token = None, fleet: FleetUrl = None) -> None:
    """Disable every failpoint and release everything waiting."""
    _program(context, url, token, fleet).reset()
    write_sentence("all failpoints removed")


@app.command(
    epilog=examples(
        "failpoints resume gateway.charge",
        "failpoints resume stock.sell --context customer=Ada",
        "failpoints resume stock.sell --tasks 1",
    )
)
def resume(
    context: typer.Context,
    name: Name,
    matchers: Annotated[
        list[str] | None,
        typer.Option(
            "--context",
            metavar="KEY=PATTERN",
            help="Release only where the regular expression matches the whole context value. Can be repeated.",
        ),
    ] = None,
    tasks: Annotated[
        int | None,
        typer.Option("--tasks", min=1, metavar="N", help="Release at most N, those that have waited longest."),
    ] = None,
    url: Url = None,
    token: Token = None,
    fleet: FleetUrl = None,
) -> None:
    """Release everything waiting at a failpoint, or a part of it.

    It stays configured, so later visits wait again. Exit status 1 if nothing was waiting.
    """
    woken = _program(context, url, token, fleet).resume(name, _parse_matchers(matchers or []) or None, tasks)
    write_sentence(f"{name}: {woken} resumed")


@app.command(
    epilog=examples("failpoints wait gateway.charge --hits 3", "failpoints wait backup --paused 1 --timeout 60")
)
def wait(
    context: typer.Context,
    name: Name,
    hits: Annotated[
        int | None,
        typer.Option("--hits", min=1, metavar="N", help="Wait for N hits since it was configured (default 1)."),
    ] = None,
    paused: Annotated[
        int | None,
        typer.Option("--paused", min=1, metavar="N", help="Wait until N tasks or threads are waiting there."),
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="Give up after this time.")] = 10,
    url: Url = None,
    token: Token = None,
    fleet: FleetUrl = None,
) -> None:
    """Wait until a failpoint is hit, or until tasks are waiting there.

    Earlier hits count. Exit status 1 on timeout, or if the failpoint is not configured.
    """
    if hits is not None and paused is not None:
        raise FailpointUsageError("give --hits or --paused, not both")
    if not 0 <= timeout < math.inf:
        raise FailpointUsageError(f"--timeout must be a number of seconds, 0 or more; got {timeout:g}")
    _program(context, url, token, fleet).wait(name, hits, paused, timeout)
    write_sentence(f"{name}: hit {times(hits or 1)}" if paused is None else f"{name}: {paused} waiting")


@app.command(epilog=examples("failpoints watch", "failpoints watch --json | jq -c '.[] | [.name, .hits]'"))
def watch(
    context: typer.Context, as_json: AsJson = False, url: Url = None, token: Token = None, fleet: FleetUrl = None
) -> None:
    """Show the list and keep it up to date, until Ctrl-C.

    A terminal shows one table that is updated in place, or what the program declares while nothing is configured.
    Otherwise each change prints a new table, or with --json a line. Below the table is what waits, with its context.
    """
    from . import status_table

    program = _program(context, url, token, fleet)
    console = None if as_json else status_table.terminal()
    if console is not None:
        with status_table.live(console) as show:
            program.watch_live(show)
    elif as_json:
        program.watch(lambda statuses: write_lines([statuses_as_json(statuses)]))
    else:
        program.watch(_show_again)


def _show_again(statuses: Sequence[FailpointStatus]) -> None:
    from . import status_table

    now = datetime.now(UTC)
    lines = status_table.plain_lines(statuses, now) if statuses else [status_table.NOTHING]
    write_lines([*lines, *status_table.waiting_lines(statuses, now), ""])


@app.command(epilog=examples("failpoints members --fleet /run/shop"))
def members(context: typer.Context, as_json: AsJson = False, fleet: FleetUrl = None) -> None:
    """List the processes of a fleet, each as HOST:PID."""
    connection: Connection = context.obj
    folder = fleet or connection.fleet
    if not folder:
        raise FailpointUsageError("members lists the processes of a fleet: give its folder or URL with --fleet")
    names = FleetProgram(folder).members()
    if as_json:
        write_lines([json.dumps(names)])
    elif names:
        write_lines(map(printable, names))
    else:
        write_note("no process is a member")
