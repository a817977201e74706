"""The verb run: runs a program with failpoints, in place of this process where the system can do that."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from .._core.environment import child_environment
from .._core.grammar import parse_entries
from .._fleet.urls import parse_url
from .._http.address import parse_address
from .._instrument.variable import parse_instrumented
from ..errors import ActionSyntaxError, FailpointUsageError
from .endings import CannotRun
from .options import examples
from .output import write_note
from .python_startup import startup_problem, with_startup
from .text import printable

# The statuses of shells, env, nohup and timeout.
_NOT_EXECUTABLE = 126
_NOT_FOUND = 127
_USAGE_ERROR = 2

app = typer.Typer()


@app.command(
    epilog=examples(
        "failpoints run --set 'gateway.charge=1*raise(TimeoutError)' -- python app.py",
        "failpoints run --set 'backup[tenant_id=test_.*]=pause' --http 127.0.0.1:22381 -- uvicorn app:app",
    ),
    context_settings={"allow_interspersed_args": False},
)
def run(
    command: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND [ARGS]", help="The program and its arguments.", show_default=False),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=ACTIONS",
            help="Configure a failpoint from the start: NAME=ACTIONS or NAME[KEY=PATTERN,…]=ACTIONS. Can be repeated.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--http",
            metavar="HOST:PORT",
            help="Make the program controllable at this address (FAILPOINTS_HTTP). Port 0 takes any free port.",
        ),
    ] = None,
    fleet: Annotated[
        str | None,
        typer.Option("--fleet", metavar="FLEET", help="Make its processes members of this fleet (FAILPOINTS_FLEET)."),
    ] = None,
    matchers: Annotated[list[str] | None, typer.Option("--context", hidden=True)] = None,
) -> None:
    """Run a program with failpoints.

    They are appended to the FAILPOINTS environment variable of the program. Each Python process that the program starts
    obeys the variables FAILPOINTS, FAILPOINTS_INSTRUMENT, FAILPOINTS_FLEET and FAILPOINTS_HTTP, once it has imported
    failpoints or a module that FAILPOINTS_INSTRUMENT names. For this, a folder is put in front of PYTHONPATH.

    Each process has counts of its own: with 1*exit, a worker that is restarted ends again. To end one worker of all,
    configure it in a fleet first, with `failpoints set --fleet FLEET`, and then run the program with --fleet.

    The program replaces this command: signals go to the program, and the exit status is its own. Exit status 127 if the
    program is not found, 126 if it cannot be run, 2 if the actions are invalid.
    """
    if matchers:
        raise FailpointUsageError("run takes matchers in --set: --set 'NAME[KEY=PATTERN,…]=ACTIONS'")
    environment = environment_with(settings or [])
    if address is not None:
        parse_address(address, "--http")
        environment["FAILPOINTS_HTTP"] = address
    if fleet is not None:
        parse_url(fleet, "--fleet")
        environment["FAILPOINTS_FLEET"] = fleet
    if _configures(environment):
        problem = startup_problem(command, environment)
        if problem is not None:
            write_note(printable(f"failpoints run: the program obeys only if it imports failpoints itself: {problem}"))
        environment = with_startup(environment)
    raise typer.Exit(execute(command, environment))


def _configures(environment: Mapping[str, str]) -> bool:
    return any(environment.get(f"FAILPOINTS{end}") for end in ("", "_INSTRUMENT", "_FLEET", "_HTTP"))


def environment_with(settings: Sequence[str]) -> dict[str, str]:
    """Return this process's environment, with *settings* (`NAME=ACTIONS`) appended to `FAILPOINTS`.

    Raises `ActionSyntaxError` and `FailpointNameError`, also for the value that `FAILPOINTS` had before, and
    `FailpointUsageError` for a mistake in `FAILPOINTS_INSTRUMENT`.
    """
    for setting in settings:
        if not parse_entries(setting, "--set"):
            raise ActionSyntaxError(setting, len(setting), "expected name=actions, found nothing", "--set")
    environment = child_environment(";".join(settings))
    parse_entries(environment.get("FAILPOINTS", ""), "FAILPOINTS")
    parse_instrumented(environment.get("FAILPOINTS_INSTRUMENT", ""))
    return environment


def execute(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Replace this process with the program. On Windows, run it and return its exit status.

    Raises `CannotRun`.
    """
    if not command[0]:
        raise CannotRun("cannot run '': the program's name is empty", _NOT_FOUND)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # it is closed, which is fine for the program
            stream.flush()
    try:
        if sys.platform == "win32":
            return run_as_child(command, environment)
        _restore_signals()
        os.execvpe(command[0], tuple(command), environment)
    except FileNotFoundError:
        found = shutil.which(command[0], path=environment.get("PATH"))
        reason = "the interpreter that its first line names does not exist" if found else "no such program"
        raise CannotRun(f"cannot run {command[0]!r}: {reason}", _NOT_FOUND) from None
    except OSError as error:
        raise CannotRun(f"cannot run {command[0]!r}: {error.strerror or error}", _NOT_EXECUTABLE) from None
    except ValueError as error:  # such as an embedded null byte
        reason = f"an argument or environment variable is invalid: {error}"
        raise CannotRun(f"cannot run {command[0]!r}: {reason}", _USAGE_ERROR) from None


def run_as_child(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the program as a child process and return its exit status.

    Ctrl-C goes to every process of the console, so the child decides whether it ends.
    """
    child = subprocess.Popen(command, env=environment)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            pass


def _restore_signals() -> None:
    """Undo what Python did at its start: ignored signals stay ignored in the program that replaces this process."""
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
