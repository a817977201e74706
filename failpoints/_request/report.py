"""What the failpoints of one request did, by service: it comes back with the response. Pure."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from .._core.known_sites import known_names, made
from .._core.messages import nearest
from .._core.status import FailpointStatus

HEADER: Final = "failpoints-report"
MAX_REPORT: Final = 8_000
"""Bytes of the header. aiohttp's client refuses 8,190 and more for a header with its name."""

_COUNTS: Final = ("hits", "misses", "triggers", "strays")
_HINTS: Final = ("mismatch", "near", "error")
LEFT_OUT: Final = "..."  # in the place of a service, which cannot have this name
_MAX_HINT: Final = 200  # characters
_MAX_COUNT: Final = 2**53


class Counts(NamedTuple):
    """What one failpoint did for one request, in one service or in all of them.

    Attributes:
        hits: The number of visits whose context matched.
        misses: The number of visits whose context did not match.
        triggers: The number of actions that ran.
        strays: The number of visits in threads that the request does not reach.
        mismatch: Why the last miss did not match, or an empty string.
        near: The most similar name of a service that has no such failpoint, or an empty string.
        error: Why a site could not do what was configured, or an empty string.
    """

    hits: int = 0
    misses: int = 0
    triggers: int = 0
    strays: int = 0
    mismatch: str = ""
    near: str = ""
    error: str = ""

    def plus(self, other: Counts) -> Counts:
        """Return the sum. The hints are those of *other*, if it has them."""
        return Counts(
            self.hits + other.hits,
            self.misses + other.misses,
            self.triggers + other.triggers,
            self.strays + other.strays,
            other.mismatch or self.mismatch,
            other.near or self.near,
            other.error or self.error,
        )


def counts_of(status: FailpointStatus, error: Exception | None = None) -> Counts:
    """Return the counts of a failpoint in this process. *error* is what a site could not carry out."""
    strays = sum(stray.count for stray in status.strays)
    near = ""
    if not (status.hits or status.misses or strays):
        known = {*known_names(), *made()}  # not the source of all modules, which takes long to read
        near = "" if status.name in known else nearest(status.name, sorted(known)) or ""
    hints = (status.last_mismatch or "", near, "" if error is None else str(error))
    mismatch, near, problem = (hint[:_MAX_HINT] for hint in hints)
    return Counts(status.hits, status.misses, status.triggers, strays, mismatch, near, problem)


Services = dict[str, dict[str, Counts]]
"""The counts of each failpoint in each service."""


class Report:
    """The counts of one request, added up over the services that it passes. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._services: Services = {}
        self._left_out = 0

    @property
    def left_out(self) -> int:
        """The number of failpoints for which a response had no space."""
        return self._left_out

    def services(self) -> Services:
        """Return the counts so far."""
        with self._lock:
            return {service: dict(names) for service, names in self._services.items()}

    def add(self, services: Mapping[str, Mapping[str, Counts]], left_out: int = 0) -> None:
        """Add counts to what is there."""
        with self._lock:
            for service, names in services.items():
                known = self._services.setdefault(service, {})
                for name, counts in names.items():
                    known[name] = known.get(name, Counts()).plus(counts)
            self._left_out += left_out

    def add_header(self, text: str) -> bool:
        """Add what the header of a response contains. Return false, and add nothing, if it is not a report."""
        parsed = _parse(text)
        if parsed is None:
            return False
        self.add(*parsed)
        return True

    def header(self, service: str, own: Mapping[str, Counts], limit: int = MAX_REPORT) -> str:
        """Return the value of the header: what is there, and the counts of this *service*, by failpoint."""
        total = Report()
        total.add(self.services(), self._left_out)
        total.add({service: own})
        return total.text(limit)

    def text(self, limit: int) -> str:
        """Return it as JSON of *limit* bytes at most. Hints are left out first, then what was not hit."""
        services, left_out = self.services(), self._left_out
        text = _text(services, left_out, hints=True)
        if len(text) > limit:
            text = _text(services, left_out, hints=False)
        entries = [(service, name) for service, names in services.items() for name in names]
        entries.sort(key=lambda entry: services[entry[0]][entry[1]].hits)
        while len(text) > limit and entries:
            for service, name in entries[: len(entries) // 4 + 1]:  # a quarter each time, not to write it too often
                del services[service][name]
                left_out += 1
            del entries[: len(entries) // 4 + 1]
            text = _text(services, left_out, hints=False)
        return text if len(text) <= limit else _text({}, left_out, hints=False)


def _text(services: Services, left_out: int, *, hints: bool) -> str:
    document: dict[str, Any] = {
        service: {name: _document(counts, hints=hints) for name, counts in names.items()}
        for service, names in services.items()
    }
    if left_out:
        document[LEFT_OUT] = left_out
    return json.dumps(document, separators=(",", ":"))


def _document(counts: Counts, *, hints: bool) -> dict[str, int | str]:
    document: dict[str, int | str] = {"hits": counts.hits, "misses": counts.misses, "triggers": counts.triggers}
    optional: dict[str, int | str] = {"strays": counts.strays}
    if hints:
        optional |= {"mismatch": counts.mismatch, "near": counts.near, "error": counts.error}
    return document | {key: value for key, value in optional.items() if value}


def _parse(text: str) -> tuple[Services, int] | None:
    """Return the counts of a header, and how many were left out; `None` if it is not a report."""
    if len(text) > MAX_REPORT:
        return None
    try:
        document: Any = json.loads(text)
        left_out = document.pop(LEFT_OUT, 0)
        services = {
            service: {name: _counts(each) for name, each in names.items()} for service, names in document.items()
        }
        return services, _count(left_out)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _counts(document: dict[str, Any]) -> Counts:
    hits, misses, triggers, strays = (_count(document.get(key, 0)) for key in _COUNTS)
    mismatch, near, error = (_hint(document.get(key, "")) for key in _HINTS)
    return Counts(hits, misses, triggers, strays, mismatch, near, error)


def _hint(given: object) -> str:
    if not isinstance(given, str):
        raise TypeError
    return given[:_MAX_HINT]


def _count(given: object) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given < _MAX_COUNT:
        raise ValueError
    return given
