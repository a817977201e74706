"""The state of a failpoint at one moment, as plain values for people, tests and the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from .actions import Term
from .values import Value, dataclass, set_field


@dataclass(frozen=True)
class Waiting(Value):
    """A task or thread that waits at a failpoint.

    Attributes:
        name: The name of the task or thread.
        context: The context of its visit.
        since: When it began to wait, in UTC.
    """

    __slots__ = ("context", "name", "since")
    name: str
    context: Mapping[str, Any]
    since: datetime

    def __init__(self, name: str, context: Mapping[str, Any], since: datetime) -> None:
        set_field(self, "name", name)
        set_field(self, "context", context)
        set_field(self, "since", since)


@dataclass(frozen=True)
class Stray(Value):
    """The visits of a failpoint in a thread that its `Registry` does not reach.

    A `Registry` reaches the task that entered it, and the tasks and `to_thread` workers started in its block. A
    `threading.Thread` or the thread of an executor is only reached with `registry.bound(function)`.

    Attributes:
        thread: The name of the thread.
        context: The context of the first of these visits.
        count: The number of visits.
        since: When the first of them came, in UTC.
    """

    __slots__ = ("context", "count", "since", "thread")
    thread: str
    context: Mapping[str, Any]
    count: int
    since: datetime

    def __init__(self, thread: str, context: Mapping[str, Any], count: int, since: datetime) -> None:
        set_field(self, "thread", thread)
        set_field(self, "context", context)
        set_field(self, "count", count)
        set_field(self, "since", since)


@dataclass(frozen=True)
class FailpointStatus(Value):
    """The state of a failpoint at one moment, as `status(name)` returns it.

    A failpoint may have several configurations, one for each set of matchers. Then the counts are sums over them, and
    *configurations* has the state of each. If the failpoint is not configured, there are no actions and all counts
    are zero.

    >>> configure("backup", "off")
    >>> configure("backup", "return(0)", context={"shard": 3})
    >>> failpoint("backup", context={"shard": 4}).hit()
    Continue()
    >>> [(each.matchers, each.hits, each.misses) for each in status("backup").configurations]
    [({'shard': 3}, 0, 1), ({}, 1, 0)]
    >>> remove("backup")

    Attributes:
        name: The failpoint's name.
        actions: The configured terms, in order. Of several configurations, those of the newest.
        matchers: The configured matchers, by context key; `None` if the failpoint is not configured. Of several
            configurations, those of the newest.
        hits: The number of visits whose context matched.
        misses: The number of visits whose context did not match. A visit that a configuration decides is a miss for
            the newer ones.
        last_miss: The context of the last miss. Of several configurations, that of the newest which has one.
        last_mismatch: Why it did not match, as in `tenant_id='t2' does not match 'test_.*'`.
        triggers: The number of actions that ran, `off` included.
        waiting: The tasks and threads that are paused or sleeping there now, or run the function of a `Call`, the
            longest waiting first.
        sites: The known sites of the name, each as `file:line`.
        configurations: The state of each configuration, the newest first. Empty in the state of a configuration, which
            also is the `status` of a handle.
        strays: The visits in threads that the `Registry` does not reach, since the failpoint was configured there.
    """

    __slots__ = (
        "actions",
        "configurations",
        "hits",
        "last_mismatch",
        "last_miss",
        "matchers",
        "misses",
        "name",
        "sites",
        "strays",
        "triggers",
        "waiting",
    )
    name: str
    actions: tuple[Term, ...]
    matchers: Mapping[str, Any] | None
    hits: int
    misses: int
    last_miss: Mapping[str, Any] | None
    last_mismatch: str | None
    triggers: int
    waiting: tuple[Waiting, ...]
    sites: tuple[str, ...]
    configurations: tuple[FailpointStatus, ...]
    strays: tuple[Stray, ...]

    def __init__(
        self,
        name: str,
        actions: tuple[Term, ...] = (),
        matchers: Mapping[str, Any] | None = None,
        hits: int = 0,
        misses: int = 0,
        last_miss: Mapping[str, Any] | None = None,
        last_mismatch: str | None = None,
        triggers: int = 0,
        waiting: tuple[Waiting, ...] = (),
        sites: tuple[str, ...] = (),
        configurations: tuple[FailpointStatus, ...] = (),
        strays: tuple[Stray, ...] = (),
    ) -> None:
        set_field(self, "name", name)
        set_field(self, "actions", actions)
        set_field(self, "matchers", matchers)
        set_field(self, "hits", hits)
        set_field(self, "misses", misses)
        set_field(self, "last_miss", last_miss)
        set_field(self, "last_mismatch", last_mismatch)
        set_field(self, "triggers", triggers)
        set_field(self, "waiting", waiting)
        set_field(self, "sites", sites)
        set_field(self, "configurations", configurations)
        set_field(self, "strays", strays)


def read(status: FailpointStatus) -> FailpointStatus:
    """Return a status whose mismatches are texts. The caller holds no lock, since this may run the user's code."""
    mismatch = status.last_mismatch
    return replace(
        status,
        last_mismatch=None if mismatch is None else str(mismatch),
        configurations=tuple(map(read, status.configurations)),
    )


def summed(configurations: tuple[FailpointStatus, ...], waiting: tuple[Waiting, ...]) -> FailpointStatus:
    """Return the state of a failpoint, given that of its configurations and everything that waits there."""
    newest = configurations[0]
    missed = next((each for each in configurations if each.last_miss is not None), newest)
    return replace(
        newest,
        hits=sum(each.hits for each in configurations),
        misses=sum(each.misses for each in configurations),
        last_miss=missed.last_miss,
        last_mismatch=missed.last_mismatch,
        triggers=sum(each.triggers for each in configurations),
        waiting=waiting,
        configurations=configurations,
    )
