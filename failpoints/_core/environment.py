"""The only reader of `os.environ`: what the process was told before anything was imported."""

from __future__ import annotations

import os
import sys

from ..errors import FailpointUsageError

_ON = {"", "1", "true", "yes", "on"}
_OFF = {"0", "false", "no", "off"}
_COMMANDS = {"failpoints", "failpoints.exe", "failpoints-script.py"}  # what pip makes of the entry point


def _is_the_command() -> bool:
    """Whether this process is the command `failpoints`, whose own failpoints nobody drives."""
    if sys.argv[:1] == ["-m"]:  # Python is looking for the module, whose name only stands before the arguments
        return sys.orig_argv[-len(sys.argv)] in {"failpoints", "-mfailpoints"}
    return bool(sys.argv) and os.path.basename(sys.argv[0]).lower() in _COMMANDS


def _enabled() -> bool:
    text = _told("FAILPOINTS_ENABLED") or ""
    word = text.strip().lower()
    if word not in _ON | _OFF:
        raise FailpointUsageError(
            f"FAILPOINTS_ENABLED is {text!r}: expected 1 (failpoints can be configured, the default)"
            " or 0 (they can not, and cost nothing)"
        )
    return word not in _OFF


def _told(variable: str) -> str | None:
    """What the variable says to a program; to the command they say nothing, so that no mistake in one stops it."""
    return None if _is_the_command() else os.environ.get(variable)


ENABLED = _enabled()
"""Whether anything can be configured in this process: `FAILPOINTS_ENABLED`."""

CONFIGURATION = _told("FAILPOINTS") or ""
"""`FAILPOINTS`: what is configured from the start, such as `a=return(42);b=sleep(1000)`."""

INSTRUMENT = _told("FAILPOINTS_INSTRUMENT") or ""
"""`FAILPOINTS_INSTRUMENT`: which functions of others are failpoints: `httpx:AsyncClient.send;sqlite3:connect`."""

HTTP = (_told("FAILPOINTS_HTTP") or "").strip()
"""`FAILPOINTS_HTTP`: where the control plane listens, such as `127.0.0.1:22381`; empty for nowhere."""

TOKEN = _told("FAILPOINTS_TOKEN")
"""`FAILPOINTS_TOKEN`: what its clients must know, `None` if nothing."""


def child_environment(configuration: str) -> dict[str, str]:
    """The environment of a program that is to be started with `configuration` added to its `FAILPOINTS`."""
    before = os.environ.get("FAILPOINTS", "")
    return {**os.environ, "FAILPOINTS": ";".join(part for part in (before, configuration) if part.strip())}
