"""Writing to stdout and stderr, either of which can be closed."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ..errors import FailpointUsageError
from .text import printable


def require_output() -> None:
    """Raise `FailpointUsageError` if stdout is closed, before anything is done whose result could not be shown."""
    if sys.stdout is None:
        raise FailpointUsageError("standard output is closed, so there is nowhere to write")


def write_lines(lines: Iterable[str]) -> None:
    """Write lines to stdout and flush.

    Unlike `typer.echo`, this keeps the encoding and the error handler of stdout.
    """
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def write_sentence(sentence: str) -> None:
    """Write one line to stdout, with control characters escaped."""
    write_lines([printable(sentence)])


def write_note(note: str) -> None:
    """Write one line to stderr, unless it is closed."""
    if sys.stderr is not None:
        sys.stderr.write(f"{note}\n")
