"""What is known of a failpoint at one moment: plain values, for people, tests and the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .actions import Term


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task or thread that waits at a failpoint: its name, the context of its visit, since when (UTC)."""

    name: str
    context: Mapping[str, Any]
    since: datetime


@dataclass(frozen=True, slots=True)
class FailpointStatus:
    """A failpoint at one moment; the counts are since its current configuration.

    `hits`: how often a site was reached with a context that matched; `misses`: with one that did not, and
    `last_miss` the context of the last of these, `last_mismatch` the reason; `triggers`: how often an action
    ran; `waiting`: who waits there now; `sites`: each known place of that name as `file:line`. Of a failpoint
    that is not configured: no actions, and zeros.
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
