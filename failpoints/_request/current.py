"""The request whose failpoints are in force here, and what goes on with it to other services."""

from __future__ import annotations

from contextvars import ContextVar
from importlib import import_module
from typing import Any, Final

from .._core.entered import Inside, leave
from .._core.store import Store
from .report import MAX_REPORT, Report, counts_of
from .rules import HEADER, Rules

_current: Final[ContextVar[SignedRequest | None]] = ContextVar("failpoints.request", default=None)


def current() -> SignedRequest | None:
    """Return the signed request that this code works for, if there is one."""
    return _current.get()


class SignedRequest:
    """A request that has brought failpoints. They are in force from `start` to `end`, in the blocks of `inside`.

    Raises `Refused` if the rules do not accept the token. Then nothing has changed.
    """

    def __init__(self, rules: Rules, token: str) -> None:
        self.store = Store()
        self._rules = rules
        self._token = token
        self._claims, self._entries, self._configurations = rules.accept(token, self.store)
        self.report = Report()

    def start(self) -> None:
        """Put the failpoints in force."""
        self.store.install_all(self._configurations)
        self.store.put_in_force()

    def inside(self) -> Around:
        """Return a block in which code works for the request."""
        return Around(self)

    def end(self) -> None:
        """Remove the failpoints, and wake everything that still waits there."""
        leave(self.store)

    def token(self) -> str:
        """Return the token for a call to another service."""
        return self._rules.sign_again(self._claims, self._entries) if self._claims.once else self._token

    def for_baggage(self) -> str | None:
        """Return the token for OpenTelemetry's baggage, or `None`. A one-time token would be used by the first call."""
        return self._token if self._rules.baggage and not self._claims.once else None

    def take_report(self, report: str | None) -> None:
        """Add the report of another service, if it is one."""
        if report is not None:
            self.report.add_header(report)

    def report_header(self, limit: int = MAX_REPORT) -> str:
        """Return the value of the header `failpoints-report` as it is now, in *limit* bytes at most."""
        errors = {each.name: each.error for each in self._configurations if each.error is not None}
        own = {status.name: counts_of(status, errors.get(status.name)) for status in self.store.statuses()}
        return self.report.header(self._rules.service, own, limit)


class Around:
    """A block in which code works for a request. Tasks and `to_thread` workers that it starts do so, too."""

    def __init__(self, request: SignedRequest) -> None:
        self._request = request
        self._inside = Inside(request.store)
        self._before: SignedRequest | None = None
        self._baggage: Any = None

    def __enter__(self) -> None:
        self._inside.__enter__()
        self._before = _current.get()
        _current.set(self._request)
        if (token := self._request.for_baggage()) is not None:
            context = import_module("opentelemetry.context")
            self._baggage = context.attach(import_module("opentelemetry.baggage").set_baggage(HEADER, token))

    def __exit__(self, *error: object) -> None:
        if self._baggage is not None:
            import_module("opentelemetry.context").detach(self._baggage)
        _current.set(self._before)  # without a token: a generator may be closed in another context
        self._inside.__exit__(*error)
