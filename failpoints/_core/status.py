"""The state of a failpoint at one moment, as plain values for people, tests and the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .actions import Term


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task or thread that waits at a failpoint: its name, the context of its visit, and since when, in UTC."""

    name: str
    context: Mapping[str, Any]
    since: datetime


@dataclass(frozen=True, slots=True)
class FailpointStatus:
    """The state of a failpoint at one moment. The counts begin with its current configuration.

    If it is not configured, there are no actions and all counts are zero.

    Attributes:
        name: The failpoint's name.
        actions: The configured terms, in order.
        matchers: The configured matchers, by context key; `None` if the failpoint is not configured.
        hits: The number of visits whose context matched.
        misses: The number of visits whose context did not match.
        last_miss: The context of the last miss.
        last_mismatch: Why it did not match, as in `tenant_id='t2' does not match 'test_.*'`.
        triggers: The number of actions that ran, `off` included.
        waiting: The tasks and threads that are paused or sleeping there now.
        sites: The known sites of the name, each as `file:line`.
    """

    name: str
    actions: tuple[Term, ...] = ()
    matchers: Mapping[str, Any] | None = None
    hits: int = 0
    misses: int = 0
    last_miss: Mapping[str, Any] | None = None
    last_mismatch: str | None = None
    triggers: int = 0
    waiting: tuple[Waiting, ...] = ()
    sites: tuple[str, ...] = ()
