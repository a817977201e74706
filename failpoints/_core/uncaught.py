"""Uncaught errors of which only the message is printed, because their traceback leads nowhere in the program."""

from __future__ import annotations

import sys
from types import TracebackType


def print_only_message(error: BaseException) -> None:
    """Print an error without its traceback, should it end the program. Everything else is printed as before."""
    print_uncaught = sys.excepthook

    def print_message(kind: type[BaseException], uncaught: BaseException, traceback: TracebackType | None) -> None:
        if uncaught is error:
            uncaught.__traceback__ = traceback = None
        print_uncaught(kind, uncaught, traceback)

    sys.excepthook = print_message
