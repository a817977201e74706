"""Ending the process, and saying so where nothing can hold it back."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

before_end: Final[list[Callable[[], object]]] = []
"""Called before the process is ended. Each returns soon."""


def end_process(status: int, name: str, place: str) -> NoReturn:
    """End the process at once. Say on its standard error that the failpoint *name* did it, at *place*."""
    line = f"failpoint {name!r} ended the process with exit status {status}, at {place}".replace("\n", " ")
    try:
        # Python has no such stream if the descriptor was closed at the start: it may be a file of the program by now.
        stream = sys.__stderr__
        if stream is not None and not stream.closed:
            os.write(2, f"{line}\n".encode(errors="backslashreplace"))
    except (OSError, ValueError):  # such as a pipe that nothing reads any more
        pass
    for each in before_end:
        with suppress(Exception):
            each()
    os._exit(status)
