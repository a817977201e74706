"""The token as a member of W3C baggage, where OpenTelemetry passes it on."""

from __future__ import annotations

import sys
from typing import Any

import httpx
import pytest
from opentelemetry import baggage, propagate
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from werkzeug.test import Client

from failpoints import FailpointUsageError, failpoint, wsgi
from failpoints.asgi import FailpointsMiddleware

from .conftest import policy_of

pytestmark = pytest.mark.anyio

POLICY = policy_of(baggage=True)
SHOP = policy_of(allow=["shop.*"], baggage=True)  # its code is around that of the stock here


@failpoint("stock.reserve")
async def reserve() -> str:
    return "reserved"


async def stock(request: Request) -> PlainTextResponse:
    return PlainTextResponse(await reserve())


def services(stock_policy: Any, shop_policy: Any = SHOP) -> httpx.AsyncClient:
    """Return a client of a shop that asks a stock, with what OpenTelemetry would add to the headers."""
    inner = httpx.ASGITransport(FailpointsMiddleware(Starlette(routes=[Route("/", stock)]), stock_policy))

    async def shop(request: Request) -> PlainTextResponse:
        headers: dict[str, str] = {}
        propagate.inject(headers)
        async with httpx.AsyncClient(transport=inner, base_url="http://stock") as client:
            return PlainTextResponse((await client.get("/", headers=headers)).text)

    app = FailpointsMiddleware(Starlette(routes=[Route("/", shop)]), shop_policy)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop")


@pytest.mark.parametrize("as_baggage", [False, True])
async def test_a_token_travels_as_baggage(as_baggage: bool) -> None:
    """A service passes the token on in OpenTelemetry's baggage, however it came, and the next one takes it there."""
    token = POLICY.sign([("stock.reserve", "return(nothing)")])
    headers = {"baggage": f"user=Ada, failpoints={token};level=1"} if as_baggage else {"failpoints": token}
    async with services(POLICY) as client:
        assert (await client.get("/", headers=headers)).text == "nothing"
        assert (await client.get("/", headers={"baggage": "user=Ada,failpoint=x"})).text == "reserved"
        assert (await client.get("/", headers={"baggage": f"failpoints={token[:-1]}"})).status_code == 403
        two = {"baggage": f"failpoints={token},failpoints={token}"}
        assert (await client.get("/", headers=two)).status_code == 403
    assert baggage.get_all() == {}


async def test_baggage_is_only_used_where_the_policy_says_so() -> None:
    """Without `baggage=True`, a service takes no token from baggage and puts none there. One-time tokens stay out."""
    token, once = (POLICY.sign([("stock.reserve", "return(nothing)")], once=each) for each in (False, True))
    async with services(POLICY, policy_of(allow=["shop.*"])) as client:
        assert (await client.get("/", headers={"failpoints": token})).text == "reserved"
    async with services(policy_of()) as client:
        assert (await client.get("/", headers={"failpoints": token})).text == "reserved"
    async with services(POLICY) as client:
        assert (await client.get("/", headers={"failpoints": once})).text == "reserved"


def test_wsgi() -> None:
    """The middleware for WSGI takes the token from baggage, too."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"nothing" if failpoint("stock.count").hit() else b"7"]

    client = Client(wsgi.FailpointsMiddleware(app, POLICY))
    token = POLICY.sign([("stock.count", "return")])
    texts = [
        client.get("/", headers={"baggage": each}, buffered=True).text for each in (f"failpoints={token}", "user=Ada")
    ]
    assert texts == ["nothing", "7"]


def test_baggage_needs_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy with `baggage=True` says what is not installed, and takes nothing but a bool."""
    monkeypatch.setitem(sys.modules, "opentelemetry.baggage", None)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(FailpointUsageError, match="baggage=True needs opentelemetry-api, which is not installed"):
        policy_of(baggage=True)
    with pytest.raises(FailpointUsageError, match="baggage= must be True or False"):
        policy_of(baggage="yes")
