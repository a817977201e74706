"""Clients that send failpoints along, and read what comes back."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping, Sequence
from typing import Any, Final, Protocol, cast
from urllib.parse import urlsplit

from .._core.messages import safe_repr
from .._core.reentrancy import runs_user_code
from ..errors import FailpointUsageError
from .optional import optional
from .report import HEADER as REPORT
from .rules import HEADER

_HOST: Final = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[^\s/:@\[\]*?,]+))(?::(?P<port>[0-9]{1,5}))?")
_LAST_PORT: Final = 65_535


class Hosts:
    """The hosts to which a client passes the failpoints on. Raises `FailpointUsageError` for what is not one."""

    def __init__(self, forward_to: Sequence[str]) -> None:
        given = cast(object, forward_to)
        if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
            hint = f"; did you mean [{given!r}]?" if isinstance(given, str) else ""
            raise FailpointUsageError(f"forward_to= must be a list of hosts; got {safe_repr(cast(Any, given))}{hint}")
        self._hosts = set(map(_parse_host, cast(Sequence[object], given)))

    def has(self, host: str | None, port: int | None) -> bool:
        """Return whether the failpoints may be sent to a host."""
        name = (host or "").lower().strip("[]")
        return (name, None) in self._hosts or (name, port) in self._hosts


def _parse_host(given: object) -> tuple[str, int | None]:
    found = _HOST.fullmatch(given.lower()) if isinstance(given, str) else None
    if found is None or int(found["port"] or 0) > _LAST_PORT:
        hint = ": a pattern is not a host, so name each one" if isinstance(given, str) and "*" in given else ""
        raise FailpointUsageError(
            f"forward_to= has hosts such as 'stock' or 'stock:8080'; got {safe_repr(given)}{hint}"
        )
    return found["six"] or found["name"], None if found["port"] is None else int(found["port"])


class Origin(Protocol):
    """Where the failpoints come from that go on with a call, and to which the counts return."""

    def token(self) -> str:
        """Return the token for one call."""
        ...

    def take_report(self, report: str | None) -> None:
        """Take the report of a response; `None` if it has none."""
        ...


Source = Callable[[], Origin | None]
"""Returns where the failpoints come from, if there is anything to pass on."""


class Call:
    """One call to another service, as a client is about to send it. Redirects make several of one."""

    def __init__(
        self, hosts: Hosts, source: Source, host: str | None, port: int | None, scheme: str | None = None
    ) -> None:
        port = port if port is not None else {"http": 80, "https": 443}.get(scheme or "")
        self._belongs = hosts.has(host, port)
        self._origin = source() if self._belongs else None

    def write(self, headers: MutableMapping[str, Any]) -> None:
        """Add the token to the headers of the call, or delete it where it does not belong."""
        if self._origin is not None:
            headers[HEADER] = self._origin.token()
        elif not self._belongs and HEADER in headers:  # a redirect took it along
            del headers[HEADER]

    def read(self, headers: Mapping[str, Any]) -> None:
        """Add what a response reports to what is known."""
        if self._origin is not None:
            self._origin.take_report(str(headers[REPORT]) if REPORT in headers else None)


class _Done:
    """The result of a hook, which an async client awaits and a sync one ignores."""

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


Hook = Callable[[Any], Awaitable[None]]


def httpx_hooks(hosts: Hosts, source: Source) -> dict[str, list[Hook]]:
    """Return event hooks for sync and async clients of httpx."""

    def call(request: Any) -> Call:
        return Call(hosts, source, request.url.host, request.url.port, request.url.scheme)

    def on_request(request: Any) -> Awaitable[None]:
        call(request).write(request.headers)
        return _Done()

    def on_response(response: Any) -> Awaitable[None]:
        call(response.request).read(response.headers)
        return _Done()

    return {"request": [on_request], "response": [on_response]}


def requests_adapter(hosts: Hosts, source: Source, inner: Any) -> Any:
    """Return an adapter of requests around another one, which sends."""
    base: Any = optional("requests.adapters", "forward.requests", "requests").BaseAdapter

    class ForwardingAdapter(base):  # type: ignore[misc]
        @runs_user_code
        def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
            url = urlsplit(str(request.url))
            call = Call(hosts, source, url.hostname, url.port, url.scheme)
            call.write(request.headers)
            response = inner.send(request, *arguments, **options)
            call.read(response.headers)
            return response

        def close(self) -> None:
            inner.close()

    return ForwardingAdapter()
