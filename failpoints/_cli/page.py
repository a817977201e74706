"""The verb that opens the page of a running program, or of a fleet, in a browser: page."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Callable
from typing import Annotated

import typer

from .._core.messages import missing_extra
from .options import DEFAULT_URL, Connection, FleetUrl, Token, Url, examples
from .output import write_lines, write_note
from .remote import RemoteProgram

app = typer.Typer()


@app.command(epilog=examples("failpoints page", "failpoints page --no-open", "failpoints page --fleet /run/shop"))
def page(
    context: typer.Context,
    opens: Annotated[bool, typer.Option("--open/--no-open", help="Open it in a browser, if there is one.")] = True,
    url: Url = None,
    token: Token = None,
    fleet: FleetUrl = None,
) -> None:
    """Show the failpoints in a browser, and follow them.

    Prints its URL, which lets one browser in, once, for two minutes. The page then keeps its access until the program
    ends.

    With --fleet, the command serves the page of all processes itself, until Ctrl-C. What is configured there stays
    until it is removed.
    """

    def announce(once: str) -> None:
        write_lines([once])
        if opens and has_browser() and webbrowser.open(once):
            write_note("opened in the browser: the URL works only once")

    connection: Connection = context.obj
    if folder := connection.fleet_for(url, fleet):
        _serve(folder, announce)
    else:
        program = RemoteProgram(url or connection.url or DEFAULT_URL, connection.token if token is None else token)
        announce(program.page_url())


def _serve(folder: str, announce: Callable[[str], None]) -> None:
    try:
        from .fleet_page import serve_page
    except ModuleNotFoundError as error:
        raise missing_extra(error, "failpoints page --fleet", "http") from error
    serve_page(folder, announce)


def has_browser() -> bool:
    """Return whether there is a browser with windows. A browser of the terminal would take its place."""
    if sys.platform in {"win32", "darwin"}:
        return True
    return any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))
