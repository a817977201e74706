"""The verb check: explains actions."""

from __future__ import annotations

import json
import shutil
import sys

import typer

from .explanation import explain, explanation_document, explanation_lines
from .options import ActionsText, AsJson, examples
from .output import write_lines

_MAX_WIDTH = 100  # columns, beyond which prose is hard to read

app = typer.Typer()


@app.command(epilog=examples("failpoints check '2*off->25%3*return(x)->pause'"))
def check(actions: ActionsText, as_json: AsJson = False) -> None:
    """Explain actions term by term, and warn of surprises.

    Exit status 1 if a term can never trigger, 2 if the actions are invalid.
    """
    explanation = explain(actions)
    if as_json:
        write_lines([json.dumps(explanation_document(actions, explanation), indent=2)])
    else:
        width = min(shutil.get_terminal_size().columns, _MAX_WIDTH) if sys.stdout.isatty() else None
        write_lines(explanation_lines(explanation, width))
    if not explanation.every_term_can_trigger:
        raise typer.Exit(1)
