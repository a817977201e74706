"""The command line application: the options that stand before a verb, and the verbs in the order of the help."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from . import check, drive, explain, explore, page, request, run, scan
from .options import DEFAULT_URL, Connection, examples
from .output import require_output, write_lines


def _show_version(requested: bool) -> None:
    if requested:
        require_output()
        write_lines([f"failpoints {version('failpoints')}"])
        raise typer.Exit


app = typer.Typer(
    name="failpoints",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would wrap the text above a caret
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(
    epilog=examples(
        "failpoints run --set gateway.charge=pause --http 127.0.0.1:22381 -- python app.py",
        "failpoints wait gateway.charge --paused 1",
        "failpoints remove gateway.charge",
    )
)
def _failpoints(  # pyright: ignore[reportUnusedFunction] - called by typer
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            envvar="FAILPOINTS_URL",
            show_envvar=False,
            help=f"URL of the program. Default: $FAILPOINTS_URL, or {DEFAULT_URL}. Goes before or after the command.",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TOKEN",
            envvar="FAILPOINTS_TOKEN",
            show_envvar=False,
            help="Token of the program. Default: $FAILPOINTS_TOKEN, which other users cannot see.",
        ),
    ] = None,
    fleet: Annotated[
        str | None,
        typer.Option(
            "--fleet",
            metavar="FLEET",
            envvar="FAILPOINTS_FLEET",
            show_envvar=False,
            help="Control all processes of this fleet instead. Default: $FAILPOINTS_FLEET, unless --url is given.",
        ),
    ] = None,
    shows_version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Control the failpoints of a running program, run a program with failpoints, or check actions and source code.

    To make a program controllable, run it with FAILPOINTS_HTTP=127.0.0.1:22381 in its environment. To control a program
    of many processes, run it with FAILPOINTS_FLEET=FLEET, and use the same --fleet.

    Exit status: 0 success, 1 the answer is no, 2 usage error or the program cannot be reached.
    """
    if context.invoked_subcommand not in ("run", "request"):  # the program that these start may not need an output
        require_output()
    context.obj = Connection(url, token, fleet)


for _verbs in (drive, page, explore, check, explain, scan, run, request):
    app.add_typer(_verbs.app)
