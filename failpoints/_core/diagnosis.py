"""What is known of a failpoint that did not do what somebody expected, for a person to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .context import Matchers
from .declared import where_declared
from .elapsed import waited
from .formatting import describe_actions
from .messages import safe_repr
from .status import FailpointStatus, Waiting


def diagnosis(
    status: FailpointStatus,
    *,
    where: str = "",
    elsewhere: Iterable[FailpointStatus] = (),
    facts: Iterable[tuple[str, str]] = (),
) -> str:
    """Everything that is known, a labelled line each.

    `where` is the place where it was configured, `elsewhere` what else is configured; `facts` come last.
    """
    return format_facts([*_facts(status, where), *_waiting_elsewhere(status.name, elsewhere), *facts])


def format_facts(facts: Iterable[tuple[str, str]]) -> str:
    """Facts as a person reads them: a line each, after its label, if it has one."""
    return "\n".join(f"  {f'{label}:' if label else '':<12}{text}" for label, text in facts)


def main_facts(status: FailpointStatus, where: str = "") -> Iterator[tuple[str, str]]:
    """What is known of any failpoint, whatever process it is in."""
    asked = ", ".join(f"{key}={_matcher(value)}" for key, value in (status.matchers or {}).items())
    actions = describe_actions(status.actions) if status.actions else "not any more"
    yield "configured", f"{actions}{f' where {asked}' if asked else ''}{f', at {where}' if where else ''}"
    yield "counts", f"hits {status.hits}, misses {status.misses}, triggers {status.triggers}"


def _facts(status: FailpointStatus, where: str) -> Iterator[tuple[str, str]]:
    yield from main_facts(status, where)
    if status.last_miss is not None:
        label = "last miss"
        for said in Matchers(status.matchers).compared(status.last_miss, status.last_mismatch):
            yield label, said
            label = ""
    for waiting in status.waiting:
        yield "waiting", describe_waiting(waiting)
    yield "declared", where_declared(status.name)
    if status.name.endswith(":after") and not status.hits and status.sites:
        yield "", "':after' is visited once the body has completed without raising"


def _matcher(value: object) -> str:
    try:
        return getattr(value, "__qualname__", None) or safe_repr(value)
    except Exception:  # whatever a proxy of a user's raises
        return safe_repr(value)


def _waiting_elsewhere(name: str, statuses: Iterable[FailpointStatus]) -> Iterator[tuple[str, str]]:
    for status in statuses:
        if status.name != name:
            for waiting in status.waiting:
                yield "elsewhere", f"at {status.name!r} {describe_waiting(waiting)}"


def describe_waiting(waiting: Waiting) -> str:
    """Describe a waiting task or thread: its name, for how long, and with which context."""
    context = f", {safe_repr(dict(waiting.context))}" if waiting.context else ""
    return f"{waiting.name!r} has waited {waited(waiting)}{context}"
