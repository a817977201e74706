"""aiohttp's client and server, and gRPC, over real connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from failpoints import failpoint
from failpoints._core.store import stores_in_force
from failpoints.request import accept, forward

from .conftest import policy_of

SHOP, STOCK = policy_of("shop", allow=["shop.*"]), policy_of("stock", allow=["stock.*"])


@failpoint("stock.reserve", raises=(TimeoutError,))
async def reserve() -> str:
    return "reserved"


def hits(report: str) -> dict[str, dict[str, int]]:
    return {
        service: {name: each["hits"] for name, each in names.items()} for service, names in json.loads(report).items()
    }


@asynccontextmanager
async def serving(policy: Any, handler: Any) -> AsyncIterator[str]:
    app = web.Application(middlewares=[accept.aiohttp(policy)])
    app.router.add_get("/{path:.*}", handler)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def stock(request: web.Request) -> web.Response:
    match request.path:
        case "/raise":
            await reserve()
        case "/http-error":
            raise web.HTTPConflict(text=await reserve())
        case "/redirect":
            url = request.url.with_host("localhost").with_path("/seen")
            raise web.HTTPFound(url)
        case "/seen":
            return web.Response(text=str("failpoints" in request.headers))
        case "/socket":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_str(await reserve())
            await socket.close()
            return socket  # type: ignore[return-value]
    return web.Response(text=await reserve())


def test_aiohttp() -> None:
    """A server of aiohttp obeys by its own middleware. A client passes the failpoints on to the given hosts only."""

    async def main() -> None:
        async with serving(STOCK, stock) as stock_url, aiohttp.ClientSession() as test:

            async def shop(request: web.Request) -> web.Response:
                middleware = forward.aiohttp(forward_to=["127.0.0.1"])
                async with aiohttp.ClientSession(middlewares=[middleware]) as session:
                    answers = await asyncio.gather(*[session.get(stock_url) for _ in range(2)])
                    texts = [await answer.text() for answer in answers]
                    texts.append(await (await session.get(f"{stock_url}redirect")).text())
                return web.Response(text=" ".join(texts))

            async with serving(SHOP, shop) as url:
                headers = {"failpoints": SHOP.sign([("stock.reserve", "return(nothing)")])}
                async with test.get(url, headers=headers) as answer:
                    assert await answer.text() == "nothing nothing False"
                    report = answer.headers["failpoints-report"]
                    assert hits(report) == {"stock": {"stock.reserve": 2}, "shop": {}}
                async with test.get(url) as answer:
                    assert await answer.text() == "reserved reserved False"

    asyncio.run(main())
    assert len(stores_in_force) == 1


def test_an_error_after_the_response_began_cuts_it_off() -> None:
    """A streamed response and a websocket of aiohttp end as they do without the middleware, without a second answer."""

    async def streamed(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse() if request.path == "/stream" else web.WebSocketResponse()
        await response.prepare(request)
        if isinstance(response, web.WebSocketResponse):
            await response.receive()
        else:
            await response.write(b"the first part")
        await reserve()
        return response

    async def main() -> None:
        token = {"failpoints": STOCK.sign([("stock.reserve", "raise(TimeoutError)")])}
        async with serving(STOCK, streamed) as url, aiohttp.ClientSession() as session:
            async with session.get(f"{url}stream", headers=token) as answer:
                assert await answer.content.readexactly(14) == b"the first part"
                with pytest.raises(aiohttp.ClientPayloadError):
                    await answer.read()
            async with session.ws_connect(f"{url}socket", headers=token) as socket:
                await socket.send_str("go on")
                assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSED

    asyncio.run(main())


def test_aiohttp_answers_that_are_errors_have_the_report() -> None:
    """The report comes with an HTTP exception and an error 500. A bad token is answered with 403, and two are, too."""

    async def main() -> None:
        async with serving(STOCK, stock) as url, aiohttp.ClientSession() as test:
            for path, actions, status in (
                ("raise", "raise(TimeoutError)", 500), ("http-error", "return(gone)", 409), ("", "off", 200),
            ):  # fmt: skip
                headers = {"failpoints": STOCK.sign([("stock.reserve", actions)])}
                async with test.get(f"{url}{path}", headers=headers) as answer:
                    assert answer.status == status
                    assert hits(answer.headers["failpoints-report"]) == {"stock": {"stock.reserve": 1}}
            async with test.ws_connect(f"{url}socket", headers=headers) as socket:
                assert await socket.receive_str() == "reserved"
            token = STOCK.sign([("stock.reserve", "off")])
            for given in ([("failpoints", "forged")], [("failpoints", token)] * 2):
                async with test.get(url, headers=given) as answer:
                    assert answer.status == 403 and list(await answer.json()) == ["msg"]

    asyncio.run(main())
    assert len(stores_in_force) == 1


@pytest.mark.apart
def test_grpc() -> None:
    """The interceptors of gRPC pass the failpoints on, obey them, and bring back the counts, for all kinds of calls."""
    grpc = pytest.importorskip("grpc")
    pytest.importorskip("grpc.aio")

    async def read(request: Any) -> None:
        if not isinstance(request, bytes):  # if the client still sends at the end, it can miss the last metadata
            async for _ in request:
                pass

    async def unary(request: Any, context: Any) -> bytes:
        await read(request)
        return (await reserve()).encode()

    async def stream(request: Any, context: Any) -> AsyncIterator[bytes]:
        await read(request)
        yield (await reserve()).encode()
        yield (await reserve()).encode()

    handlers = {
        "UnaryUnary": grpc.unary_unary_rpc_method_handler(unary),
        "StreamUnary": grpc.stream_unary_rpc_method_handler(unary),
        "UnaryStream": grpc.unary_stream_rpc_method_handler(stream),
        "StreamStream": grpc.stream_stream_rpc_method_handler(stream),
    }

    async def call_all(channel: Any) -> list[bytes]:
        async def requests() -> AsyncIterator[bytes]:
            yield b""

        return [
            await channel.unary_unary("/stock/UnaryUnary")(b""),
            await channel.stream_unary("/stock/StreamUnary")(requests()),
            *[each async for each in channel.unary_stream("/stock/UnaryStream")(b"")],
            *[each async for each in channel.stream_stream("/stock/StreamStream")(requests())],
        ]

    async def main() -> None:
        policy = policy_of("stock", allow=["stock.*"], baggage=True)
        server = grpc.aio.server(interceptors=[accept.grpc(policy)])
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("stock", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", interceptors=forward.grpc()) as channel:
                token = SHOP.sign([("stock.reserve", "return(nothing)")], once=True)
                with accept.job(SHOP, token) as job:
                    assert await call_all(channel) == [b"nothing"] * 6
                    assert hits(job.report) == {"shop": {}, "stock": {"stock.reserve": 6}}
                assert await call_all(channel) == [b"reserved"] * 6
                with accept.job(SHOP, SHOP.sign([("stock.reserve", "raise(TimeoutError)")])) as job:
                    with pytest.raises(grpc.aio.AioRpcError):
                        await channel.unary_unary("/stock/UnaryUnary")(b"")
                    assert hits(job.report)["stock"] == {"stock.reserve": 1}
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                metadata = (("baggage", "user=Ada"),)
                assert await channel.unary_unary("/stock/UnaryUnary")(b"", metadata=metadata) == b"reserved"
                stream = channel.unary_stream("/stock/UnaryStream")(b"", metadata=metadata)
                assert [each async for each in stream] == [b"reserved"] * 2
                for tokens in (["forged"], [token] * 2):
                    with pytest.raises(grpc.aio.AioRpcError) as raised:
                        metadata = tuple(("failpoints", each) for each in tokens)
                        await channel.unary_unary("/stock/UnaryUnary")(b"", metadata=metadata)
                    assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
        finally:
            await server.stop(None)

    asyncio.run(main())
    assert len(stores_in_force) == 1
