"""The description of a failpoint that did not do what was expected, for a person to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .context import Matchers
from .declared import where_declared
from .elapsed import waited
from .formatting import describe_actions
from .known_sites import remarks
from .messages import safe_repr
from .status import FailpointStatus, Waiting
from .strays import BOUND, describe_stray
from .suspensions import warning


def diagnosis(
    status: FailpointStatus,
    *,
    where: str = "",
    elsewhere: Iterable[FailpointStatus] = (),
    counted: Iterable[tuple[str, str]] = (),
    facts: Iterable[tuple[str, str]] = (),
) -> str:
    """Describe a failpoint with a labelled line for each fact.

    Args:
        status: The failpoint.
        where: The place where it was configured, if it is known.
        elsewhere: The status of everything that is configured. Tasks that wait at other failpoints are shown.
        counted: More labels and texts, on what the counts contain.
        facts: More labels and texts, for the last lines.
    """
    return format_facts([*_facts(status, where, counted), *_waiting_elsewhere(status.name, elsewhere), *facts])


def format_facts(facts: Iterable[tuple[str, str]]) -> str:
    """Format facts, pairs of a label and a text, as a line each. A label may be empty."""
    return "\n".join(f"  {f'{label}:' if label else '':<12}{text}" for label, text in facts)


def main_facts(status: FailpointStatus, where: str = "") -> Iterator[tuple[str, str]]:
    """Return the facts that are known of any failpoint, also of one in another process."""
    matchers = ", ".join(f"{key}={_matcher(value)}" for key, value in (status.matchers or {}).items())
    actions = describe_actions(status.actions) if status.actions else "no longer"
    yield "configured", f"{actions}{f' where {matchers}' if matchers else ''}{f', at {where}' if where else ''}"
    yield "counts", f"hits {status.hits}, misses {status.misses}, triggers {status.triggers}"


def _facts(status: FailpointStatus, where: str, counted: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for configuration in status.configurations or (status,):
        yield from main_facts(configuration, where)
        if configuration.last_miss is not None:
            label = "last miss"
            matchers = Matchers(configuration.matchers)
            for comparison in matchers.compared(configuration.last_miss, configuration.last_mismatch):
                yield label, comparison
                label = ""
    yield from counted
    for waiting in status.waiting:
        yield "waiting", describe_waiting(waiting)
    if status.waiting and (atomic := warning(status.name)):
        yield "", f"the function {atomic}"
    if status.strays:
        yield from (("strays" if stray is status.strays[0] else "", describe_stray(stray)) for stray in status.strays)
        yield "", BOUND
    yield "declared", where_declared(status.name)
    for remark in remarks(status.name):
        yield "", remark
    if status.name.endswith(":after") and not status.hits and status.sites:
        yield "", "':after' is visited after the body has finished without an exception"


def _matcher(value: object) -> str:
    try:
        return getattr(value, "__qualname__", None) or safe_repr(value)
    except Exception:  # a user's proxy object can raise anything
        return safe_repr(value)


def _waiting_elsewhere(name: str, statuses: Iterable[FailpointStatus]) -> Iterator[tuple[str, str]]:
    for status in statuses:
        if status.name != name:
            for waiting in status.waiting:
                yield "elsewhere", describe_waiting(waiting, at=status.name)


def describe_waiting(waiting: Waiting, at: str = "") -> str:
    """Describe a waiting task or thread: its name, for how long, *at* which failpoint, and its context."""
    context = f", {safe_repr(dict(waiting.context))}" if waiting.context else ""
    return f"{waiting.name!r} has waited {waited(waiting)}{f' at {at!r}' if at else ''}{context}"
