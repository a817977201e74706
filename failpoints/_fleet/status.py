"""The state of a failpoint in all processes of a fleet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from .._core.actions import Term
from .._core.grammar import parse_actions
from .._core.status import FailpointStatus, Stray, Waiting, summed
from .._core.values import dataclass, set_field
from .._http.wire import parse_status
from .place import Record, Reported, Reports, Seen, member_name
from .state import Entry


@dataclass(frozen=True)
class FleetWaiting(Waiting):
    """A task or thread of a member that waits at a failpoint.

    Attributes:
        name: The name of the task or thread.
        context: The context of its visit. A value that JSON does not have is its `repr`.
        since: When it began to wait, in UTC.
        member: The member, as `HOST:PID`.
    """

    __slots__ = ("member",)
    member: str

    def __init__(self, name: str, context: Mapping[str, Any], since: datetime, member: str) -> None:
        super().__init__(name, context, since)
        set_field(self, "member", member)


@dataclass(frozen=True)
class FleetStatus(FailpointStatus):
    """The state of a failpoint in all processes of a fleet, as `Fleet.status` returns it.

    The counts are sums over all processes, those that have ended included. *waiting* has `FleetWaiting`. All other
    attributes are those of `FailpointStatus`.

    Attributes:
        members: The state in each member that is there, by `HOST:PID`. Of processes in containers that share a host
            name and a process id, it is the sum.
    """

    __slots__ = ("members",)
    members: Mapping[str, FailpointStatus]

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
        members: Mapping[str, FailpointStatus] | None = None,
    ) -> None:
        super().__init__(
            name, actions, matchers, hits, misses, last_miss, last_mismatch, triggers, waiting, sites, configurations,
            strays,
        )  # fmt: skip
        set_field(self, "members", members or {})


def status_of_fleet(name: str, seen: Seen, reports: Reports, only: int | None = None) -> FleetStatus:
    """Return the state of a failpoint, or with *only* that of one of its configurations."""
    entries = [entry for entry in seen.state.of(name) if only in (None, entry.serial)]
    by_member: dict[str, list[FailpointStatus]] = {}
    of_members: dict[int, list[FailpointStatus]] = {}
    for member in sorted(seen.living):
        for entry in entries:
            record = seen.members[member].records.get(entry.serial)
            if record is not None and not record.refused:
                status = _of_member(entry, record, reports.get(member, {}).get(entry.serial), member_name(member))
                of_members.setdefault(entry.serial, []).append(status)
                by_member.setdefault(member_name(member), []).append(status)
    if not entries:
        return FleetStatus(name)
    total: list[FleetStatus] = []
    for entry in entries:
        there = of_members.get(entry.serial, [])
        counts = seen.counts(entry.serial)
        missed = next((each for each in there if each.last_miss is not None), None) or _missed(entry, reports)
        total.append(
            FleetStatus(
                name,
                parse_actions(entry.actions),
                dict(entry.matchers),
                counts.hits,
                counts.misses,
                missed.last_miss,
                missed.last_mismatch,
                counts.triggers,
                _all_waiting(there),
                tuple(sorted({site for each in there for site in each.sites})),
            )
        )
    whole = summed(tuple(total), _all_waiting(total))
    sites = tuple(sorted({site for each in total for site in each.sites}))
    assert isinstance(whole, FleetStatus)
    members = {each: summed(tuple(statuses), _all_waiting(statuses)) for each, statuses in by_member.items()}
    return replace(whole, sites=sites, members=members)


def _missed(entry: Entry, reports: Reports) -> FailpointStatus:
    """Return the status in a member that has ended, and that has reported a miss."""
    for report in reports.values():
        reported = report.get(entry.serial)
        if reported is not None and reported.status is not None and reported.status["last_miss"] is not None:
            return parse_status(reported.status)
    return FailpointStatus(entry.name)


def _of_member(entry: Entry, record: Record, reported: Reported | None, member: str) -> FailpointStatus:
    if reported is not None and reported.status is not None:
        status = parse_status(reported.status)
    else:  # it has not reported yet
        status = FailpointStatus(entry.name, parse_actions(entry.actions), dict(entry.matchers))
    return replace(
        status,
        hits=record.counts.hits,
        misses=record.counts.misses,
        triggers=record.counts.triggers,
        waiting=tuple(FleetWaiting(each.name, each.context, each.since, member) for each in status.waiting),
    )


def _all_waiting(statuses: Sequence[FailpointStatus]) -> tuple[Waiting, ...]:
    return tuple(sorted((each for status in statuses for each in status.waiting), key=lambda each: each.since))


def refusals(entries: list[Entry], seen: Seen, reports: Reports) -> dict[str, str]:
    """Return why members refuse any of these configurations, by `HOST:PID`."""
    found: dict[str, str] = {}
    for member in sorted(seen.living):
        for entry in entries:
            reported = reports.get(member, {}).get(entry.serial)
            if reported is not None and reported.refusal is not None:
                found[member_name(member)] = reported.refusal
    return found
