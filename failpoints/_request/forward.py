"""Passing the failpoints of a request on, with the calls that the service makes for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from .._core.reentrancy import runs_user_code
from .clients import Call, Hosts, httpx_hooks, requests_adapter
from .current import current
from .optional import optional
from .rules import HEADER


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
    return httpx_hooks(Hosts(forward_to), current)


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
    adapters: Any = optional("requests.adapters", "forward.requests", "requests")
    return requests_adapter(Hosts(forward_to), current, adapters.HTTPAdapter() if adapter is None else adapter)


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
        call = Call(hosts, current, request.url.host, request.url.port)
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
        request.take_report(report)
