"""Checked by mypy and pyright, never run: failpoints of a request, with the types of the frameworks and clients."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

import aiohttp
import httpx
import requests
from aiohttp import web
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.middleware import Middleware

from failpoints import Raise, asgi, wsgi
from failpoints.request import RequestFailpoints, Scenario, accept, forward, scenario

policy = RequestFailpoints({"k": "secret"}, allow=["stock.*"], service="stock", max_pause=timedelta(seconds=1))
RequestFailpoints(allow="stock.*", max_pause="5s")  # a str is a sequence of str to type checkers
RequestFailpoints({"k": b"secret"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]


def middlewares() -> None:
    asgi.FailpointsMiddleware(Starlette(), policy)
    asgi.FailpointsMiddleware(asgi.FailpointsMiddleware(FastAPI(), policy), policy)
    Starlette(middleware=[Middleware(asgi.FailpointsMiddleware, policy=policy)])
    app = Flask("stock")
    app.wsgi_app = wsgi.FailpointsMiddleware(app.wsgi_app, policy)  # type: ignore[method-assign]
    web.Application(middlewares=[accept.aiohttp(policy)])
    asgi.FailpointsMiddleware(app.wsgi_app, policy)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def clients() -> None:
    httpx.Client(event_hooks=forward.httpx(forward_to=["stock"]))
    httpx.AsyncClient(event_hooks=forward.httpx(forward_to=["stock"]))
    requests.Session().mount("http://", forward.requests(["stock"]))
    aiohttp.ClientSession(middlewares=[forward.aiohttp(["stock"])])
    assert_type(forward.job(), dict[str, str])
    with accept.job(policy, forward.job()) as job:
        assert_type(job.report, str)


async def tests(client: httpx.AsyncClient) -> None:
    assert_type(policy.sign([("stock.reserve", Raise(OSError)), ("mail.send", "off", {"shard": 3})]), str)
    async with scenario(client, policy, [("stock.reserve", "raise(TimeoutError)")]) as stock:
        assert_type(stock, Scenario)
    assert_type(stock.hits, int)
    assert_type(stock["stock.reserve"].mismatch, str)
    policy.sign({"stock.reserve": "off"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
