"""The command `failpoints`: drives the failpoints of a running program, and looks at actions and source.

It needs the extra `cli`: `pip install 'failpoints[cli]'`. Its verbs are listed by `failpoints --help`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import TextIO

from ._cli.launch import NotStarted
from ._cli.remote import AnswerIsNo
from ._cli.terminal import printable
from ._core.messages import missing_extra
from .errors import FailpointError

__all__ = ["main"]

_PACKAGES = {"httpx", "rich", "typer"}  # those of the extra


def main(arguments: Sequence[str] | None = None) -> int:
    """To run the command as a function: takes its arguments (those of the process, if not given).

    Returns the exit status: 0, 1 where the answer is no, 2 for a wrong use and where no control plane answers; what
    there is to say then stands on stderr. Raises nothing, and no traceback is shown, for what a user can do wrong.

    >>> from failpoints.cli import main
    >>> main(["check", "2*off->pause"])
    1. 2*off  the first 2 times: nothing; the hit is used up
    2. pause  then every time: waits until it is reconfigured, removed, resumed or cancelled
    0
    """
    try:
        try:
            return _status_of(lambda: _call(arguments))
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough
        _forget(sys.stdout)
        return 128 + getattr(signal, "SIGPIPE", 13)
    except OSError as error:
        if error.filename is not None:
            raise
        _forget(sys.stdout)  # a full disk, say: of files and connections the verbs themselves complain
        return _complain(f"Error: cannot write the output: {error.strerror or error}", 2)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _call(arguments: Sequence[str] | None) -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not every terminal has every character
    from ._cli.commands import app  # late: what it needs may not be installed

    app(args=None if arguments is None else list(arguments), prog_name="failpoints")


def _status_of(call: Callable[[], None]) -> int:
    try:
        call()
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # of which typer makes a 1
            raise end.__context__ from None
        return end.code if isinstance(end.code, int) else 0
    except AnswerIsNo as answer:
        return _complain(str(answer), 1)
    except NotStarted as error:
        return _complain(f"Error: {error}", error.status)
    except FailpointError as error:
        return _complain(f"Error: {error}", 2)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        return _complain(f"Error: {missing_extra(error, 'the command failpoints', 'cli')}", 2)
    return 0


def _complain(text: str, status: int) -> int:
    if sys.stderr is None:  # it is closed
        return status
    try:
        # Line by line, since a caret stands below its place; and what a server says must not move the cursor.
        sys.stderr.write("".join(f"{printable(line)}\n" for line in text.split("\n")))
        sys.stderr.flush()
    except OSError:
        _forget(sys.stderr)
    return status


def _forget(stream: TextIO | None) -> None:
    """Nobody reads it: what is left in it must not be an error when Python ends."""
    if stream is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
