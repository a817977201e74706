"""The services: the shop asks the stock for the goods, and the mail to tell the customer. Each is an application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from failpoints import failpoint
from failpoints.asgi import FailpointsMiddleware
from failpoints.request import RequestFailpoints, forward

KEYS = {"2026-11": "a secret of the demo's environment"}


def policy(service: str) -> RequestFailpoints:
    """Return the policy of a service, which has failpoints under its own name."""
    return RequestFailpoints(KEYS, allow=[f"{service}.*"], audience="demo", service=service, max_pause="1s")


@failpoint("stock.reserve", raises=(TimeoutError,))
async def reserve(customer: str) -> str:
    return f"reserved for {customer}"


@failpoint("mail.send", raises=(ConnectionError,))
async def send(customer: str) -> str:
    return f"sent to {customer}"


async def stock(request: Request) -> Response:
    try:
        return JSONResponse({"stock": await reserve(request.query_params["customer"])})
    except TimeoutError:
        return JSONResponse({"stock": "too slow"}, 503)


async def mail(request: Request) -> Response:
    try:
        return JSONResponse({"mail": await send(request.query_params["customer"])})
    except ConnectionError:
        return JSONResponse({"mail": "not sent"}, 503)


def single(name: str, handler: object) -> FailpointsMiddleware:
    """Return a service with one page."""
    return FailpointsMiddleware(Starlette(routes=[Route("/", handler)]), policy(name))  # type: ignore[arg-type]


def shop(others: Mapping[str, str]) -> FailpointsMiddleware:
    """Return the shop. *others* has the URLs of the stock and the mail."""

    @asynccontextmanager
    async def with_client(app: Starlette) -> AsyncIterator[None]:
        hosts = [httpx.URL(url).netloc.decode() for url in others.values()]
        async with httpx.AsyncClient(event_hooks=forward.httpx(forward_to=hosts), trust_env=False) as client:
            app.state.client = client
            yield

    async def order(request: Request) -> Response:
        client: httpx.AsyncClient = request.app.state.client
        customer = {"customer": request.query_params["customer"]}
        reserved = await client.get(others["stock"], params=customer)
        if reserved.is_error:
            return JSONResponse(reserved.json(), 503)
        mailed = await client.get(others["mail"], params=customer)
        return JSONResponse({**reserved.json(), **mailed.json()}, 200 if mailed.is_success else 202)

    return FailpointsMiddleware(Starlette(routes=[Route("/order", order)], lifespan=with_client), policy("shop"))
