"""The environment variables, as they were when the package was imported. No other module reads `os.environ`."""

from __future__ import annotations

import os
import sys

from ..errors import FailpointUsageError
from .uncaught import print_only_message

_ON = {"1", "true", "yes", "on"}
_OFF = {"0", "false", "no", "off"}
_COMMANDS = {"failpoints", "failpoints.exe", "failpoints-script.py"}  # the names that pip gives to the entry point


def _is_the_command() -> bool:
    """Return whether this process is the command `failpoints`, which ignores the variables."""
    if sys.argv[:1] == ["-m"]:  # Python is still looking for the module, and its name is not yet in sys.argv
        return sys.orig_argv[-len(sys.argv)] in {"failpoints", "-mfailpoints"}
    return bool(sys.argv) and os.path.basename(sys.argv[0]).lower() in _COMMANDS


def _switch(variable: str, expected: str, *, default: str) -> bool:
    text = _value(variable) or ""
    word = text.strip().lower() or default
    if word not in _ON | _OFF:
        error = FailpointUsageError(f"{variable} is {text!r}: expected {expected}")
        print_only_message(error)
        raise error
    return word in _ON


def _value(variable: str) -> str | None:
    """Return the value of a variable. The command gets none, so that it starts even if one has a mistake in it."""
    return None if _is_the_command() else os.environ.get(variable)


ENABLED = _switch(
    "FAILPOINTS_ENABLED",
    "1 (failpoints can be configured, the default) or 0 (they cannot, and cost nothing)",
    default="1",
)
"""`FAILPOINTS_ENABLED`: whether anything can be configured in this process."""

DEBUG = _switch(
    "FAILPOINTS_DEBUG",
    "1 (tracebacks show the frames of failpoints itself) or 0 (they do not, the default)",
    default="0",
)
"""`FAILPOINTS_DEBUG`: whether tracebacks show the frames of this package."""

CONFIGURATION = _value("FAILPOINTS") or ""
"""`FAILPOINTS`: the initial configuration, such as `a=return(42);b=sleep(1000)`."""

INSTRUMENT = _value("FAILPOINTS_INSTRUMENT") or ""
"""`FAILPOINTS_INSTRUMENT`: the functions to instrument, such as `httpx:AsyncClient.send;sqlite3:connect`."""

HTTP = (_value("FAILPOINTS_HTTP") or "").strip()
"""`FAILPOINTS_HTTP`: the address of the control plane, such as `127.0.0.1:22381`, or empty for none."""

HTTP_ALLOW = (_value("FAILPOINTS_HTTP_ALLOW") or "").strip()
"""`FAILPOINTS_HTTP_ALLOW`: what the control plane accepts beside the usual: `any-pattern`, or empty."""

FLEET = _value("FAILPOINTS_FLEET") or ""
"""`FAILPOINTS_FLEET`: the fleet that this process is a member of, such as `/run/shop`, or empty for none."""

FLEET_ALLOW = (_value("FAILPOINTS_FLEET_ALLOW") or "").strip()
"""`FAILPOINTS_FLEET_ALLOW`: what a fleet on a server may do in this process beside the usual, such as `exit,delay`."""

TOKEN = _value("FAILPOINTS_TOKEN")
"""`FAILPOINTS_TOKEN`: the token of the control plane, or `None`."""

REQUEST_KEYS = _value("FAILPOINTS_REQUEST_KEYS") or ""
"""`FAILPOINTS_REQUEST_KEYS`: the keys of `RequestFailpoints`, as `id:secret,id:secret`, or empty."""


def breakpoint_is_pdb() -> bool:
    """Return whether Python's own hook of `breakpoint()` would start pdb, as `PYTHONBREAKPOINT` is now."""
    given = "" if sys.flags.ignore_environment else os.environ.get("PYTHONBREAKPOINT", "")
    return given in ("", "pdb.set_trace")


def child_environment(configuration: str) -> dict[str, str]:
    """Return the environment for a child process, with *configuration* appended to its `FAILPOINTS`."""
    before = os.environ.get("FAILPOINTS", "")
    return {**os.environ, "FAILPOINTS": ";".join(part for part in (before, configuration) if part.strip())}
