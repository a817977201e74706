"""Failpoints: named places in a program that do nothing until configured.

A configured failpoint can pause, sleep, return early, raise, or end the process, so a test can reach states that are
otherwise a matter of luck. For asyncio and trio, through anyio.
"""

from . import _bootstrap
from ._core.actions import (
    Action,
    Actions,
    Break,
    Call,
    Cancel,
    Cancelled,
    Continue,
    Delay,
    Exit,
    Hit,
    Off,
    Outcome,
    Panic,
    Pause,
    Print,
    Raise,
    Return,
    Sleep,
    Term,
    Then,
    Yield,
)
from ._core.context import failpoint_context
from ._core.formatting import format_actions
from ._core.grammar import parse_actions
from ._core.handle import Handle
from ._core.registry import (
    Registry,
    configure,
    configure_all,
    configured,
    remove,
    reset,
    resume,
    seed,
    status,
    statuses,
    wait_until_hit,
    wait_until_hit_sync,
    wait_until_paused,
    wait_until_paused_sync,
)
from ._core.status import FailpointStatus, Stray, Waiting
from ._sites.failpoint import failpoint
from ._sites.scope import failpoint_scope
from .errors import (
    ActionSyntaxError,
    FailpointCancelled,
    FailpointError,
    FailpointNameError,
    FailpointPanic,
    FailpointTimeout,
    FailpointUsageError,
    FleetTimeout,
    InjectedFault,
)

__all__ = [
    "Action",
    "ActionSyntaxError",
    "Actions",
    "Break",
    "Call",
    "Cancel",
    "Cancelled",
    "Continue",
    "Delay",
    "Exit",
    "FailpointCancelled",
    "FailpointError",
    "FailpointNameError",
    "FailpointPanic",
    "FailpointStatus",
    "FailpointTimeout",
    "FailpointUsageError",
    "FleetTimeout",
    "Handle",
    "Hit",
    "InjectedFault",
    "Off",
    "Outcome",
    "Panic",
    "Pause",
    "Print",
    "Raise",
    "Registry",
    "Return",
    "Sleep",
    "Stray",
    "Term",
    "Then",
    "Waiting",
    "Yield",
    "configure",
    "configure_all",
    "configured",
    "failpoint",
    "failpoint_context",
    "failpoint_scope",
    "format_actions",
    "parse_actions",
    "remove",
    "reset",
    "resume",
    "seed",
    "status",
    "statuses",
    "wait_until_hit",
    "wait_until_hit_sync",
    "wait_until_paused",
    "wait_until_paused_sync",
]

__tracebackhide__ = True  # for pytest, when a mistake in a variable ends the import here

_bootstrap.start()
