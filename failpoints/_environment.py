"""The only reader of `os.environ`: what the process was told before anything was imported."""

from __future__ import annotations

import os

from .errors import FailpointUsageError

__all__ = ["CONFIGURATION", "ENABLED"]

_ON = {"", "1", "true", "yes", "on"}
_OFF = {"0", "false", "no", "off"}


def _enabled() -> bool:
    text = os.environ.get("FAILPOINTS_ENABLED", "")
    word = text.strip().lower()
    if word not in _ON | _OFF:
        raise FailpointUsageError(
            f"FAILPOINTS_ENABLED is {text!r}: expected 1 (failpoints can be configured, the default)"
            " or 0 (they can not, and cost nothing)"
        )
    return word not in _OFF


ENABLED = _enabled()
"""Whether anything can be configured in this process: `FAILPOINTS_ENABLED`."""

CONFIGURATION = os.environ.get("FAILPOINTS", "")
"""`FAILPOINTS`: what is configured from the start, such as `a=return(42);b=sleep(1000)`."""
