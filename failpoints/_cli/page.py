"""The verb that opens the page of a running program in a browser: page."""

from __future__ import annotations

import os
import sys
import webbrowser
from typing import Annotated

import typer

from ..errors import FailpointUsageError
from .options import DEFAULT_URL, Connection, Token, Url, examples
from .output import write_lines, write_note
from .remote import RemoteProgram

app = typer.Typer()


@app.command(epilog=examples("failpoints page", "failpoints page --no-open"))
def page(
    context: typer.Context,
    opens: Annotated[bool, typer.Option("--open/--no-open", help="Open it in a browser, if there is one.")] = True,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show the failpoints in a browser, and follow them.

    Prints its URL, which lets one browser in, once, for two minutes. The page then keeps its access until the program
    ends.
    """
    connection: Connection = context.obj
    if url is None and connection.fleet:
        raise FailpointUsageError("the page shows one process of a fleet: give the --url of its control plane")
    program = RemoteProgram(url or connection.url or DEFAULT_URL, connection.token if token is None else token)
    once = program.page_url()
    write_lines([once])
    if opens and has_browser() and webbrowser.open(once):
        write_note("opened in the browser: the URL works only once")


def has_browser() -> bool:
    """Return whether there is a browser with windows. A browser of the terminal would take its place."""
    if sys.platform in {"win32", "darwin"}:
        return True
    return any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))
