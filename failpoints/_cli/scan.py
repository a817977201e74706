"""The verb scan: lists the failpoints in source code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .._scan.scan import scan_paths
from ..errors import FailpointUsageError
from .options import AsJson, examples
from .output import write_lines, write_note
from .scan_report import find_objections, quickfix_lines, scan_document, scan_lines

app = typer.Typer()


@app.command(epilog=examples("failpoints scan src tests", "failpoints scan --check src"))
def scan(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="Files, or folders of *.py files.", show_default=False)
    ],
    checked: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Exit with status 1 if unrelated places share a name, a name is invalid, a failpoint is never"
            " awaited, or a file cannot be read.",
        ),
    ] = False,
    as_json: AsJson = False,
    as_quickfix: Annotated[
        bool, typer.Option("--quickfix", help="Print FILE:LINE: SEVERITY: TEXT, which editors can jump to.")
    ] = False,
) -> None:
    """List the failpoints in source code.

    The code is parsed, not imported. Names that only the running program knows, and failpoints that are never awaited,
    are listed too.

    With --quickfix, the severity is info for a site, warning for a name that only the running program knows, and error
    for what --check refuses.

    \b
    With --json, one object is printed:
      declared       SITE[]
      unresolved     REMARK[]    a name that only the running program knows
      never_awaited  REMARK[]    a failpoint that is made and not used
      unread         REMARK[]    a file that cannot be read or parsed
      refused        REFUSAL[]   only with --check

    \b
    Each SITE:
      name           string      without :after
      names          string[]    the failpoints that the site visits: the name, and name:after unless it is inline
      kind           string      decorator, scope, inline or instrument
      file           string      as it was given, or below a folder that was given
      line           integer     the line of the site
      function       string      the decorated function, or the function around the site, or <module>

    \b
    Each REMARK:
      file           string
      line           integer
      function       string
      text           string      what to look at, and why

    \b
    Each REFUSAL:
      name           string
      why            string
      places         string[]    each as file:line
    """  # noqa: D301 - the backspace keeps click from joining the lines
    if as_json and as_quickfix:
        raise FailpointUsageError("give --json or --quickfix, not both")
    try:
        found = scan_paths(paths)
    except OSError as error:
        raise FailpointUsageError(f"{error.filename}: {error.strerror}") from None
    objections = find_objections(found) if checked else []
    if as_json:
        write_lines([json.dumps(scan_document(found, objections if checked else None), indent=2)])
    else:
        write_lines((quickfix_lines if as_quickfix else scan_lines)(found, objections))
    if not as_json and not found.declared:
        write_note("no failpoints found")
    if checked and (objections or found.never_awaited or found.unread):
        raise typer.Exit(1)
