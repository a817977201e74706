"""The handle of a test over several services."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import requests
from aiohttp import web
from aiohttp.test_utils import TestServer

from failpoints import FailpointUsageError, failpoint
from failpoints.request import RequestFailpoints, accept, forward, scenario

from .conftest import SECRET, policy_of

TEST = RequestFailpoints({"k1": SECRET})
SLOW = [("stock.reserve", "raise(TimeoutError)")]


@failpoint("stock.reserve", raises=(TimeoutError,))
async def reserve(request: bytes, context: Any) -> bytes:
    return b"reserved"


@failpoint("mail.send")
async def send(order: str) -> None:
    pass


def report(**services: dict[str, dict[str, Any]]) -> str:
    return json.dumps(services)


def answering(*reports: str | None) -> Callable[[httpx.Request], httpx.Response]:
    """Answer each request that has a token with the next report."""
    left = list(reports)

    def answer(request: httpx.Request) -> httpx.Response:
        text = left.pop(0) if "failpoints" in request.headers else None
        return httpx.Response(200, headers={} if text is None else {"failpoints-report": text})

    return answer


def client(*reports: str | None, base_url: str = "http://shop") -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(answering(*reports)), base_url=base_url)


HIT = report(stock={"stock.reserve": {"hits": 2, "misses": 1, "triggers": 1}}, shop={})
MISMATCH = "tenant='t2' does not match 't1'"
MISSED = report(stock={"stock.reserve": {"hits": 0, "misses": 1, "triggers": 0, "mismatch": MISMATCH}}, shop={})


def test_the_counts_are_those_of_all_responses_and_services() -> None:
    """A handle adds up what came back. After the block, the client sends nothing more."""
    with client(HIT, MISSED) as shopper:
        hooks = shopper.event_hooks
        with scenario(shopper, TEST, SLOW) as stock:
            shopper.get("/")
            shopper.get("/")
            assert (stock.hits, stock.misses, stock.triggers) == (2, 2, 1)
            assert stock["stock.reserve"].mismatch and stock.services["shop"] == {}
        assert shopper.event_hooks == hooks
        shopper.get("/")
    assert stock.hits == 2
    with pytest.raises(FailpointUsageError, match="this scenario has no failpoint 'x'; it has stock.reserve"):
        stock["x"]


NEAR = report(
    stock={"stock.resrve": {"hits": 0, "misses": 0, "triggers": 0, "near": "stock.reserve"}}, shop={}, mail={}
)  # fmt: skip
BROKEN = report(stock={"stock.reserve": {"hits": 1, "misses": 0, "triggers": 1, "error": "cannot raise NoSuchError"}})
STRAYED = report(stock={"stock.reserve": {"hits": 0, "misses": 0, "triggers": 0, "strays": 2}})
CUT = '{"shop":{},"...":7}'
VERDICTS: dict[str, tuple[str, list[str | None], list[str]]] = {
    "a typo": (
        "stock.resrve", [NEAR],
        [
            "failpoint 'stock.resrve' was never hit before the response began, in stock, shop, mail;"
            " did you mean 'stock.reserve'?",
            "  stock: misses 0",
            "  shop: its policy does not allow this failpoint",
            "  mail: its policy does not allow this failpoint",
        ],
    ),
    "a miss": (
        "stock.reserve", [MISSED, None],
        [
            "failpoint 'stock.reserve' was never hit before the response began, in stock, shop",
            "  stock: misses 1; tenant='t2' does not match 't1'",
            "  shop: its policy does not allow this failpoint",
            "  1 of 2 responses had no report",
        ],
    ),
    "strays": (
        "stock.reserve", [STRAYED],
        [
            "failpoint 'stock.reserve' was never hit before the response began, in stock",
            "  stock: misses 0, strays 2 in threads that the request does not reach",
        ],
    ),
    "an error": (
        "stock.reserve", [BROKEN],
        ["failpoint 'stock.reserve' could not do what it was configured to do, in stock: cannot raise NoSuchError"],
    ),
    "no report": (
        "stock.reserve", [None, "[]"],
        [
            "nothing is known of 'stock.reserve': of 2 responses, none had a failpoints-report header; is there a"
            " FailpointsMiddleware, with a key and the audience of this policy?"
        ],
    ),
    "no response": (
        "stock.reserve", [],
        ["nothing is known of 'stock.reserve': no response came in the block, from a host that gets the token"],
    ),
    "no space": (
        "stock.reserve", [CUT],
        ["nothing is known of 'stock.reserve': the report had no space for 7 failpoints"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "reports", "lines"), VERDICTS.values(), ids=VERDICTS)
def test_a_failpoint_that_was_not_hit_fails_the_test(name: str, reports: list[str | None], lines: list[str]) -> None:
    """Leaving the block raises an error, with what each service reports. Another error goes first."""
    with client(*reports * 3) as shopper:

        def visit() -> None:
            for _ in reports:
                shopper.get("/")

        with pytest.raises(AssertionError) as raised, scenario(shopper, TEST, [(name, "off")]):
            visit()
        assert str(raised.value).splitlines() == lines
        with scenario(shopper, TEST, [(name, "off")], expect_hit=False):
            visit()
        with pytest.raises(OSError, match="its own"), scenario(shopper, TEST, [(name, "off")]):
            raise OSError("its own")


def test_only_the_host_of_the_client_gets_the_token() -> None:
    """By default the token goes to the host of `base_url`, and to no other."""
    with client(HIT) as shopper, scenario(shopper, TEST, SLOW) as stock:
        shopper.get("http://elsewhere/")
        assert stock.hits == 0
        shopper.get("/")
    with client(HIT, base_url="") as shopper:
        with pytest.raises(FailpointUsageError, match="this client has no base_url"):
            scenario(shopper, TEST, SLOW)
        with scenario(shopper, TEST, SLOW, forward_to=["shop"]):
            shopper.get("http://shop/")


def test_requests() -> None:
    """A session of requests works like a client of httpx, and keeps its adapters."""

    class Fake(requests.adapters.BaseAdapter):
        def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
            response = requests.Response()
            response.status_code, response.url, response.request = 200, request.url, request
            response.headers.update({"failpoints-report": HIT} if "failpoints" in request.headers else {})
            response._content, response._content_consumed = b"", True  # type: ignore[attr-defined]
            return response

        def close(self) -> None:
            pass

    with requests.Session() as session:
        adapter = Fake()
        session.mount("http://", adapter)
        with scenario(session, TEST, SLOW, forward_to=["shop"]) as stock:
            session.get("http://shop/")
        assert session.get_adapter("http://shop/") is adapter
    assert stock.hits == 2


def test_another_client_sends_the_header_itself() -> None:
    """Without a client, the test sends `headers`, and gives the headers of the responses to `read`."""
    with scenario(None, TEST, SLOW) as stock:
        assert list(stock.headers) == ["failpoints"]
        stock.read({"Failpoints-Report": HIT})
    assert stock.triggers == 1
    with pytest.raises(FailpointUsageError, match="takes a client of httpx, a session of requests, or None; got str"):
        scenario("client", TEST, SLOW)
    with pytest.raises(FailpointUsageError, match="policy must be a RequestFailpoints; got dict"):
        scenario(None, {}, SLOW)  # type: ignore[arg-type]


@pytest.mark.apart
def test_three_services() -> None:
    """A handle has the hits of a service over HTTP, of one over gRPC, and of the worker of a queue."""
    grpc = pytest.importorskip("grpc")
    pytest.importorskip("grpc.aio")

    async def main() -> None:
        jobs: asyncio.Queue[tuple[dict[str, str], asyncio.Future[str]]] = asyncio.Queue()

        async def mail() -> None:  # started outside the request
            policy = policy_of("mail", allow=["mail.*"])
            while True:
                headers, done = await jobs.get()
                with accept.job(policy, headers) as job:
                    await send("order")
                    done.set_result(job.report)

        stock = grpc.aio.server(interceptors=[accept.grpc(policy_of("stock", allow=["stock.*"]))])
        handler = grpc.unary_unary_rpc_method_handler(reserve)
        stock.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("stock", {"Reserve": handler}),))
        port = stock.add_insecure_port("127.0.0.1:0")
        await stock.start()
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", interceptors=forward.grpc())

        async def shop(request: web.Request) -> web.Response:
            try:
                text = (await channel.unary_unary("/stock/Reserve")(b"")).decode()
            except grpc.aio.AioRpcError:
                text = "slow"
            done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            await jobs.put((forward.job(), done))
            forward.add_report(await done)
            return web.Response(text=text)

        app = web.Application(middlewares=[accept.aiohttp(policy_of("shop", allow=["shop.*"]))])
        app.router.add_get("/", shop)
        worker = asyncio.create_task(mail())
        try:
            async with (
                channel,
                TestServer(app) as server,
                httpx.AsyncClient(base_url=str(server.make_url("/")), trust_env=False) as client,
            ):
                async with scenario(client, TEST, [*SLOW, ("mail.send", "sleep(1)")]) as failing:
                    assert (await client.get("/")).text == "slow"
                assert (failing["stock.reserve"].hits, failing["mail.send"].hits) == (1, 1)
                assert list(failing.services) == ["stock", "mail", "shop"]
                assert (await client.get("/")).text == "reserved"
                with pytest.raises(
                    AssertionError, match=r"never hit .*, in stock, mail, shop; did you mean 'mail.send'\?"
                ):
                    async with scenario(client, TEST, [("mail.sent", "off")]):
                        await client.get("/")
        finally:
            worker.cancel()
            await stock.stop(None)

    asyncio.run(main())
