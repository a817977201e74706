"""The command `failpoints`: controls the failpoints of a running program, and checks actions and source code.

It needs the extra `cli` (`pip install 'failpoints[cli]'`). `failpoints --help` lists its verbs.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import TextIO

from ._cli.endings import AnswerIsNo, CannotRun
from ._cli.text import printable
from ._core.messages import missing_extra
from .errors import FailpointError, FailpointUsageError

__all__ = ["main"]

_PACKAGES = {"httpx", "rich", "typer"}  # those of the extra
_WIDE = 80  # columns of a terminal in which an error is followed by its code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command as a function, for example from a script of your own.

    Takes the *arguments* after the command's name, by default those of this process. Returns the exit status: 0 for
    success, 1 if the answer is no, 2 for a usage error or if the program cannot be reached. With 1 and 2 there is a
    message on stderr. Mistakes of the user raise no exception and print no traceback.

    >>> from failpoints.cli import main
    >>> main(["check", "2*off->pause"])
    1. 2*off  the first 2 times: does nothing, but counts as the hit's action
    2. pause  then every time: waits until reconfigured, removed, resumed or cancelled
    0
    """
    try:
        try:
            return _status_of(lambda: _call(arguments))
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output is gone, as in `failpoints scan src | head -1`
        _discard(sys.stdout)
        return 128 + getattr(signal, "SIGPIPE", 13)
    except OSError as error:
        if error.filename is not None:
            raise
        _discard(sys.stdout)  # it failed, perhaps on a full disk: the verbs handle errors of files and connections
        return _complain(f"Error: cannot write the output: {error.strerror or error}", 2)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _call(arguments: Sequence[str] | None) -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for characters that the encoding lacks
    from ._cli.app import app  # late, because typer may not be installed

    app(args=None if arguments is None else list(arguments), prog_name="failpoints")


def _status_of(call: Callable[[], None]) -> int:
    try:
        call()
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer turns it into exit status 1
            raise end.__context__ from None
        return end.code if isinstance(end.code, int) else 0
    except AnswerIsNo as answer:
        return _complain(str(answer), 1)
    except CannotRun as error:
        return _complain(f"Error: {error}", error.status)
    except FailpointError as error:
        return _complain(f"Error: {error}{_explained(error)}", 2)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        return _complain(f"Error: {missing_extra(error, 'the command failpoints', 'cli')}", 2)
    return 0


def _explained(error: FailpointError) -> str:
    """Return a line that leads to the documentation of an error, for a terminal that has place for it."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if not is_terminal or shutil.get_terminal_size().columns < _WIDE or error.code == FailpointUsageError.code:
        return ""
    return f"\n[{error.code}] failpoints explain {error.code}"


def _complain(text: str, status: int) -> int:
    if sys.stderr is None:  # it is closed
        return status
    try:
        # Line by line, because a caret belongs below its place. Text from a server must not move the cursor.
        sys.stderr.write("".join(f"{printable(line)}\n" for line in text.split("\n")))
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)
    return status


def _discard(stream: TextIO | None) -> None:
    """Redirect a stream to the null device, so that flushing what is left in it cannot fail when Python exits."""
    if stream is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
