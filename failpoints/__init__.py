"""Failpoints: named places in a program that do nothing until configured.

Then they make the code that reaches them pause, sleep, return early, raise or end the process, so that a test
can drive it into the states that are hard to reach. For asyncio and trio, through anyio.
"""

from ._actions import (
    Action,
    Actions,
    Break,
    Call,
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
    Yield,
)
from ._context import failpoint_context
from ._failpoint import failpoint
from ._grammar import format_actions, parse_actions
from ._handle import Handle
from ._registry import (
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
    wait_until_paused,
)
from ._scope import failpoint_scope
from ._status import FailpointStatus, Waiting
from .errors import (
    ActionSyntaxError,
    FailpointCancelled,
    FailpointError,
    FailpointNameError,
    FailpointPanic,
    FailpointTimeout,
    FailpointUsageError,
    InjectedFault,
)

from . import _instrumented_at_start as _instrumented_at_start  # isort: skip  # late: it takes all of the above
from . import _start as _start  # isort: skip  # last: it may start a server, which needs all of the above

__all__ = [
    "Action",
    "ActionSyntaxError",
    "Actions",
    "Break",
    "Call",
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
    "Term",
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
    "wait_until_paused",
]
