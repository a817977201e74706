"""What happens at a failpoint, in the log and in the trace of the program.

Each record of the log has fields, for handlers that write more than the message. If an OpenTelemetry span is recording,
a visit is an event of that span. Nothing here is done unless the log or a span takes it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from .actions import Action, Hit
from .context import Context
from .formatting import describe_actions
from .log import logger
from .messages import safe_repr
from .place import place_of
from .site import Site

_MAX_TEXT = 200  # characters of a text in the context, as in messages
_INT64 = range(-(2**63), 2**63)  # the integers that OpenTelemetry's protocol has


def are_taken() -> bool:
    """Return whether the log or a span takes the events of visits."""
    return logger.isEnabledFor(logging.INFO) or _recording_span() is not None


def visited(event: str, hit: Hit, action: Action | None, site: Site) -> None:
    """Note what a visit does. *event* is how that was decided: `"hit"`, `"injected"` or `"called"`."""
    if are_taken():
        what = "no term applies" if action is None else describe_actions(action)
        noted = fields(event, hit.name, action=what, context=hit.context, site=site)
        shown = f" at {safe_repr(hit.context)}" if hit.context else ""
        logger.info("%s %s: %s%s", event, hit.name, what, shown, extra=noted)
        _trace(noted)


def paused(hit: Hit, action: Action, site: Site, sleeper: str, warning: str | None) -> None:
    """Note that a visit waits from now on. *warning* is about the function that contains it."""
    if are_taken():
        noted = fields("paused", hit.name, action=describe_actions(action), context=hit.context, site=site)
        rest = f"; the function {warning}" if warning else ""
        logger.info("paused %s: %s waits%s", hit.name, sleeper, rest, extra=noted)
        _trace(noted)


def resumed(hit: Hit, action: Action, site: Site) -> None:
    """Note that a visit no longer waits."""
    if are_taken():
        noted = fields("resumed", hit.name, action=describe_actions(action), context=hit.context, site=site)
        logger.info("resumed %s", hit.name, extra=noted)
        _trace(noted)


def fields(
    event: str, name: str, *, action: str | None = None, context: Context | None = None, site: Site | None = None
) -> dict[str, Any]:
    """Return the fields of a record, for `extra=`. What is not known is left out."""
    found: dict[str, Any] = {"failpoint": name, "failpoint_event": event}
    if action is not None:
        found["failpoint_action"] = action
    if context is not None:
        found["failpoint_context"] = {str(key): _plain(value) for key, value in context.items()}
    if site is not None:
        found["failpoint_site"] = place_of(site)
    return found


def _trace(noted: Mapping[str, Any]) -> None:
    """Add an event with these fields to the span that is recording. It cannot have a mapping as a field."""
    span = _recording_span()
    if span is not None:
        flat = {key: value for key, value in noted.items() if key != "failpoint_context"}
        for key, value in noted["failpoint_context"].items():
            flat[f"failpoint_context.{key}"] = str(value) if value is None else value
        span.add_event(f"failpoint {noted['failpoint_event']}", flat)


def _plain(value: object) -> str | int | float | bool | None:
    """Return the value if every handler can write it, and otherwise its `repr`."""
    if value is None or type(value) in (bool, float) or (type(value) is int and value in _INT64):
        return value  # type: ignore[return-value]
    if type(value) is str:
        return value if len(value) <= _MAX_TEXT else f"{value[:_MAX_TEXT]}…"
    return safe_repr(value)


def _recording_span() -> Any:
    """Return the span of OpenTelemetry that is recording here; `None` if the program does not use it."""
    current = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    span = None if current is None else current()
    return span if span is not None and span.is_recording() else None
