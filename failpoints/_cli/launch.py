"""To start a program with failpoints: it takes the place of this process, where the system can do that."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from .._core.environment import for_child
from .._core.grammar import parse_entries
from ..errors import ActionSyntaxError

_NOT_FOUND = 127  # as shells, env, nohup and timeout have it
_NOT_EXECUTABLE = 126
_WRONG_USE = 2


class NotStarted(Exception):
    """The program could not be started: a sentence, and the exit status that shells have for it."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


def environment_with(settings: Sequence[str]) -> dict[str, str]:
    """The environment of a program in which these `NAME=ACTIONS` hold beside what `FAILPOINTS` says already.

    Raises `ActionSyntaxError` and `FailpointNameError`, for the `FAILPOINTS` of the outside, too.
    """
    for setting in settings:
        if not parse_entries(setting, "--set"):
            raise ActionSyntaxError(setting, len(setting), "expected name=actions, found nothing", "--set")
    environment = for_child(";".join(settings))
    parse_entries(environment.get("FAILPOINTS", ""), "FAILPOINTS")
    return environment


def start(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the program; returns its exit status, where it does not replace this process. Raises `NotStarted`."""
    if not command[0]:
        raise NotStarted("cannot run '': the program's name is empty", _NOT_FOUND)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # as it is where it is closed, which the program may well bear
            stream.flush()
    try:
        if sys.platform == "win32":
            return run_and_wait(command, environment)
        _unignore_signals()
        os.execvpe(command[0], tuple(command), environment)
    except FileNotFoundError:
        found = shutil.which(command[0], path=environment.get("PATH"))
        why = "its first line names a program that is not there" if found else "there is no such program"
        raise NotStarted(f"cannot run {command[0]!r}: {why}", _NOT_FOUND) from None
    except OSError as error:
        raise NotStarted(f"cannot run {command[0]!r}: {error.strerror or error}", _NOT_EXECUTABLE) from None
    except ValueError as error:  # a null byte, say
        why = f"an argument or a variable is none that a program can be given: {error}"
        raise NotStarted(f"cannot run {command[0]!r}: {why}", _WRONG_USE) from None


def run_and_wait(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the program as a child, where a process cannot be replaced; returns its exit status.

    A Ctrl-C goes to every process of the console, so that the child itself says what comes of it.
    """
    child = subprocess.Popen(command, env=environment)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            pass


def _unignore_signals() -> None:
    """Python ignores these from its start, and what is ignored stays so in the program that takes its place."""
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
