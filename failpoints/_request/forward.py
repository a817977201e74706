"""Passing the failpoints of a request on, with the calls that the service makes for it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping, Sequence
from typing import Any, Final, cast
from urllib.parse import urlsplit

from .._core.messages import safe_repr
from .._core.reentrancy import runs_user_code
from ..errors import FailpointUsageError
from .current import SignedRequest, current
from .optional import optional
from .report import HEADER as REPORT
from .rules import HEADER

_HOST: Final = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[^\s/:@\[\]]+))(?::(?P<port>[0-9]{1,5}))?")


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
    if found is None:
        raise FailpointUsageError(f"forward_to= has hosts such as 'stock' or 'stock:8080'; got {safe_repr(given)}")
    return found["six"] or found["name"], None if found["port"] is None else int(found["port"])


class Call:
    """One call to another service, as a client is about to send it. Redirects make several of one."""

    def __init__(self, hosts: Hosts, host: str | None, port: int | None, scheme: str | None = None) -> None:
        port = port if port is not None else {"http": 80, "https": 443}.get(scheme or "")
        self._belongs = hosts.has(host, port)
        self._request: SignedRequest | None = current() if self._belongs else None

    def write(self, headers: MutableMapping[str, Any]) -> None:
        """Add the token to the headers of the call, or delete it where it does not belong."""
        if self._request is not None:
            headers[HEADER] = self._request.token()
        elif not self._belongs and HEADER in headers:  # a redirect took it along
            del headers[HEADER]

    def read(self, headers: Mapping[str, Any]) -> None:
        """Add what a response reports to the report of the request."""
        if self._request is not None and REPORT in headers:
            self._request.report.add_header(str(headers[REPORT]))


class _Done:
    """The result of a hook, which an async client awaits and a sync one ignores."""

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


def httpx(forward_to: Sequence[str]) -> dict[str, list[Callable[[Any], Awaitable[None]]]]:
    """Return event hooks for `httpx.Client` and `httpx.AsyncClient`.

    Args:
        forward_to: The hosts of your own services, such as `["stock", "mail:8025"]`. The token goes to no other host,
            not even by a redirect.

    Raises:
        FailpointUsageError: *forward_to* is not a list of hosts.

    >>> import httpx
    >>> from failpoints.request import forward
    >>> client = httpx.AsyncClient(event_hooks=forward.httpx(forward_to=["stock"]))
    """
    hosts = Hosts(forward_to)

    def call(request: Any) -> Call:
        return Call(hosts, request.url.host, request.url.port, request.url.scheme)

    def on_request(request: Any) -> Awaitable[None]:
        call(request).write(request.headers)
        return _Done()

    def on_response(response: Any) -> Awaitable[None]:
        call(response.request).read(response.headers)
        return _Done()

    return {"request": [on_request], "response": [on_response]}


def requests(forward_to: Sequence[str], adapter: Any = None) -> Any:
    """Return an adapter for a `requests.Session`, to be mounted at `http://` and `https://`.

    Args:
        forward_to: The hosts of your own services. The token goes to no other host, not even by a redirect.
        adapter: The adapter that sends the requests. `None` means a `requests.adapters.HTTPAdapter`.

    Raises:
        FailpointUsageError: *forward_to* is not a list of hosts, or requests is not installed.

    >>> import requests
    >>> from failpoints.request import forward
    >>> session = requests.Session()
    >>> session.mount("http://", forward.requests(forward_to=["stock"]))
    """
    hosts = Hosts(forward_to)
    adapters: Any = optional("requests.adapters", "forward.requests", "requests")
    base: Any = adapters.BaseAdapter
    inner: Any = adapters.HTTPAdapter() if adapter is None else adapter

    class ForwardingAdapter(base):  # type: ignore[misc]
        @runs_user_code
        def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
            url = urlsplit(str(request.url))
            call = Call(hosts, url.hostname, url.port, url.scheme)
            call.write(request.headers)
            response = inner.send(request, *arguments, **options)
            call.read(response.headers)
            return response

        def close(self) -> None:
            inner.close()

    return ForwardingAdapter()


def aiohttp(forward_to: Sequence[str]) -> Callable[[Any, Callable[[Any], Awaitable[Any]]], Awaitable[Any]]:
    """Return a middleware for an `aiohttp.ClientSession`, of aiohttp 3.12 or newer.

    Args:
        forward_to: The hosts of your own services. The token goes to no other host, not even by a redirect.

    Raises:
        FailpointUsageError: *forward_to* is not a list of hosts.

    >>> import aiohttp
    >>> from failpoints.request import forward
    >>> async def reserve() -> int:
    ...     async with aiohttp.ClientSession(middlewares=[forward.aiohttp(forward_to=["stock"])]) as session:
    ...         return (await session.get("http://stock/reserve")).status
    """
    hosts = Hosts(forward_to)

    @runs_user_code
    async def middleware(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        call = Call(hosts, request.url.host, request.url.port)
        call.write(request.headers)
        response = await handler(request)
        call.read(response.headers)
        return response

    return middleware


def grpc() -> list[Any]:
    """Return interceptors for a channel of `grpc.aio`.

    A channel has one target, so give them only to those of your own services.

    Raises `FailpointUsageError` if grpcio is not installed.

    >>> import grpc.aio
    >>> from failpoints.request import forward
    >>> async def connect() -> grpc.aio.Channel:
    ...     return grpc.aio.insecure_channel("stock:50051", interceptors=forward.grpc())
    """
    optional("grpc.aio", "forward.grpc", "grpcio")
    from .grpc import client_interceptors

    return client_interceptors()


def job() -> dict[str, str]:
    """Return the headers for a job that the request causes: of a Celery task, or arguments of an arq function.

    They are empty if this code does not work for a signed request.

    >>> from failpoints.request import forward
    >>> forward.job()
    {}
    """
    request = current()
    return {} if request is None else {HEADER: request.token()}


def add_report(report: str) -> None:
    """Add the report of a job that has ended to the report of the request. Other texts are ignored.

    >>> from failpoints.request import forward
    >>> forward.add_report('{"mail":{"mail.send":{"hits":1,"misses":0,"triggers":1}}}')
    """
    request = current()
    if request is not None:
        request.report.add_header(report)
