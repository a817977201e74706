"""The ASGI middleware, around plain applications and around frameworks."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

import failpoints
from failpoints import FailpointUsageError, failpoint
from failpoints._core.store import stores_in_force
from failpoints.asgi import FailpointsMiddleware
from failpoints.request import RequestFailpoints

from .conftest import policy_of

pytestmark = pytest.mark.anyio


@failpoint("stock.reserve", raises=(TimeoutError,))
async def reserve() -> str:
    return "reserved"


@failpoint("stock.count")
def count() -> str:
    return "7"


def report(response: httpx.Response) -> Any:
    return json.loads(response.headers["failpoints-report"])


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://shop")


async def handler(request: Request) -> Response:
    try:
        return PlainTextResponse(await reserve())
    except TimeoutError:
        return PlainTextResponse("slow", 503)


def shop(policy: RequestFailpoints, *routes: Any) -> FailpointsMiddleware:
    return FailpointsMiddleware(Starlette(routes=[Route("/", handler), *routes]), policy)


FAILS = [("stock.reserve", "raise(TimeoutError)")]


async def test_exactly_the_signed_request_is_hit(policy: RequestFailpoints) -> None:
    """Of many requests at once, the one with a token is hit, and its response has the counts."""
    answers: dict[int, httpx.Response] = {}
    async with client(shop(policy)) as shopper, anyio.create_task_group() as tasks:

        async def ask(number: int) -> None:
            headers = {"failpoints": policy.sign(FAILS)} if number == 7 else {}
            answers[number] = await shopper.get("/", headers=headers)

        for number in range(40):
            tasks.start_soon(ask, number)
    assert [number for number, answer in answers.items() if answer.text == "slow"] == [7]
    assert report(answers[7]) == {"shop": {"stock.reserve": {"hits": 1, "misses": 0, "triggers": 1}}}
    assert all("failpoints-report" not in answer.headers for number, answer in answers.items() if number != 7)
    assert failpoints.statuses() == [] and len(stores_in_force) == 1


class StopServer(BaseException):
    """What a program may raise to end itself."""


@failpoint("stock.stop", raises=(StopServer,))
async def stop() -> None:
    raise AssertionError("nothing is raised for the request")


async def stopping(request: Request) -> Response:
    try:
        if request.url.path == "/function":
            await stop()
        await failpoint("stock.inline", raises=(StopServer,))
    except FailpointUsageError as error:
        return PlainTextResponse(str(error), 500)
    raise AssertionError("nothing is raised for the request")


async def test_what_a_site_declares_cannot_end_the_service(policy: RequestFailpoints) -> None:
    """A site that declares what is not an `Exception` refuses to raise it for a request, and the report says so."""
    app = shop(policy, Route("/function", stopping), Route("/inline", stopping))
    entries = [(name, "sleep(1)+raise(StopServer)") for name in ("stock.stop", "stock.inline")]
    async with client(app) as shopper:
        for path, name in (("/function", "stock.stop"), ("/inline", "stock.inline")):
            response = await shopper.get(path, headers={"failpoints": policy.sign(entries)})
            assert response.text.startswith(f"failpoint {name!r} does not raise StopServer for a request: it is not an")
            assert "it is not an Exception" in report(response)["shop"][name]["error"]


@failpoint("asgi.declared")
def declared() -> None:
    """Declare a failpoint that has no other site, at which any exception could be declared."""


def lasting(entries: Any, **options: Any) -> tuple[str, str]:
    """Return a header that is valid until the last test has run."""
    return "failpoints", policy_of(**options).sign(entries, seconds=3600)


BAD: list[tuple[list[tuple[str, str]], str]] = [
    ([("failpoints", "forged")], "not a token"),
    ([("failpoints", "")], "not a token"),
    ([("failpoints", "a" * 5000)], "larger than 4096 bytes"),
    ([lasting(FAILS), lasting(FAILS)], "more than one"),
    ([("Failpoints", lasting(FAILS, audience="elsewhere")[1])], "for the audience 'elsewhere'"),
    ([lasting([("asgi.declared", "raise(NoSuchError)")])], "cannot raise NoSuchError"),
]


@pytest.mark.parametrize(("headers", "message"), BAD, ids=[message for _, message in BAD])
async def test_a_refused_request_does_not_reach_the_application(headers: list[Any], message: str) -> None:
    """A bad token is answered with 403 and the reason, and nothing is done."""
    called: list[str] = []

    async def app(*_: object) -> None:
        called.append("")

    async with client(FailpointsMiddleware(app, policy_of())) as shopper:
        answer = await shopper.get("/", headers=headers)
    assert answer.status_code == 403 and list(answer.json()) == ["msg"] and message in answer.json()["msg"]
    assert "failpoints-report" not in answer.headers
    assert called == [] and len(stores_in_force) == 1


async def test_a_request_without_the_header_meets_nothing_of_ours(policy: RequestFailpoints) -> None:
    """The application is called with what the server has given, and nothing is put around it."""
    calls: list[tuple[object, ...]] = []

    async def app(*given: object) -> None:
        calls.append(given)
        assert len(stores_in_force) == 1

    async def channel(*_: object) -> Any: ...

    for scope in ({"type": "lifespan"}, {"type": "http", "headers": [(b"host", b"shop"), (b"failpoint", b"x")]}):
        await FailpointsMiddleware(app, policy)(scope, channel, channel)
        ((was_scope, receive, send),) = calls
        assert (was_scope is scope, receive, send) == (True, channel, channel)
        calls.clear()


async def test_a_one_time_token_works_for_one_request(policy: RequestFailpoints) -> None:
    """The second request with a token that was signed with `once=True` is answered with 403."""
    token = policy.sign(FAILS, once=True)
    async with client(shop(policy)) as shopper:
        answers = [await shopper.get("/", headers={"failpoints": token}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [503, 403]


async def test_without_a_key_everything_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy without a key is off: whatever the header has, the application answers."""
    async with client(shop(policy_of(keys=None))) as shopper:
        answer = await shopper.get("/", headers={"failpoints": policy_of().sign(FAILS)})
    assert answer.text == "reserved" and "failpoints-report" not in answer.headers


async def test_where_failpoints_are_disabled_everything_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """With FAILPOINTS_ENABLED=0 a policy is off, whatever keys it has."""
    token = policy_of().sign(FAILS)
    monkeypatch.setattr("failpoints._core.environment.ENABLED", False)
    async with client(shop(policy_of())) as shopper:
        answer = await shopper.get("/", headers={"failpoints": token})
    assert answer.text == "reserved" and "failpoints-report" not in answer.headers


@pytest.mark.parametrize("options", [{"service": ""}, {"allow": []}])
def test_an_incomplete_policy_is_refused_at_the_start(options: dict[str, Any]) -> None:
    """A middleware needs to know what a request may configure, and the name of the service."""
    with pytest.raises(FailpointUsageError, match="a service needs a policy with"):
        FailpointsMiddleware(Starlette(), policy_of(**options))
    with pytest.raises(FailpointUsageError, match="policy must be a RequestFailpoints; got str"):
        FailpointsMiddleware(Starlette(), "policy")  # type: ignore[arg-type]


async def test_an_error_of_the_application_comes_with_the_report(policy: RequestFailpoints) -> None:
    """If the application raises before its response has begun, the answer 500 has the report, and the error goes on."""

    async def app(*_: object) -> None:
        await reserve()

    token = policy.sign([("stock.reserve", "raise(OSError: disk full)"), ("stock.reserv", "off")])
    async with client(FailpointsMiddleware(app, policy)) as shopper:
        answer = await shopper.get("/", headers={"failpoints": token})
    assert answer.status_code == 500
    assert report(answer)["shop"]["stock.reserve"]["triggers"] == 1
    assert report(answer)["shop"]["stock.reserv"] == {"hits": 0, "misses": 0, "triggers": 0, "near": "stock.reserve"}
    transport = httpx.ASGITransport(FailpointsMiddleware(app, policy))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as shopper:
        with pytest.raises(OSError, match="disk full"):
            await shopper.get("/", headers={"failpoints": token})
    assert len(stores_in_force) == 1


async def test_matchers_decide_and_misses_are_reported(policy: RequestFailpoints) -> None:
    """A context that does not match is a miss, and the report says why."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await failpoint("shop.order", context={"tenant": "t2"})
        await PlainTextResponse("")(scope, receive, send)

    async with client(FailpointsMiddleware(app, policy)) as shopper:
        token = policy.sign([("shop.order", "raise", {"tenant": "t1"})])
        answer = await shopper.get("/", headers={"failpoints": token})
    assert report(answer)["shop"]["shop.order"] == {
        "hits": 0, "misses": 1, "triggers": 0, "mismatch": "tenant='t2' does not match 't1'",
    }  # fmt: skip


async def test_worker_threads_and_tasks_belong_to_the_request(policy: RequestFailpoints) -> None:
    """Sync code in worker threads, and tasks that the application starts, are reached."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reserve)
        await PlainTextResponse(await anyio.to_thread.run_sync(count))(scope, receive, send)

    async with client(FailpointsMiddleware(app, policy)) as shopper:
        token = policy.sign([("stock.count", "return(0)"), ("stock.reserve", "sleep(1)")])
        answer = await shopper.get("/", headers={"failpoints": token})
    assert answer.text == "0"
    assert {name: counts["hits"] for name, counts in report(answer)["shop"].items()} == {
        "stock.count": 1,
        "stock.reserve": 1,
    }


async def test_a_thread_of_its_own_is_reported_as_a_stray(policy: RequestFailpoints) -> None:
    """A plain thread does not belong to the request: its visits are strays, and `copy_context` makes it belong."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for target in (count, partial(contextvars.copy_context().run, count)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        await PlainTextResponse("")(scope, receive, send)

    async with client(FailpointsMiddleware(app, policy)) as shopper:
        answer = await shopper.get("/", headers={"failpoints": policy.sign([("stock.count", "off")])})
    assert report(answer)["shop"]["stock.count"] == {"hits": 1, "misses": 0, "triggers": 1, "strays": 1}


async def test_a_streamed_body_belongs_to_the_request(policy: RequestFailpoints) -> None:
    """A failpoint in the body of a streamed response is hit, although the report went before."""

    async def stream(request: Request) -> Response:
        async def parts() -> AsyncIterator[str]:
            yield await reserve()

        return StreamingResponse(parts())

    async with client(shop(policy, Route("/stream", stream))) as shopper:
        token = policy.sign([("stock.reserve", "return(nothing)")])
        answer = await shopper.get("/stream", headers={"failpoints": token})
    assert answer.text == "nothing" and report(answer)["shop"]["stock.reserve"]["hits"] == 0


async def test_inside_base_http_middleware(policy: RequestFailpoints) -> None:
    """The application may be behind `BaseHTTPMiddleware`, on both sides of ours."""

    class Passing(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Callable[..., Any]) -> Response:
            return await call_next(request)

    inner = Starlette(routes=[Route("/", handler)], middleware=[Middleware(Passing)])
    outer = Starlette(
        routes=[Route("/", handler)],
        middleware=[Middleware(Passing), Middleware(FailpointsMiddleware, policy=policy), Middleware(Passing)],
    )
    for app in (FailpointsMiddleware(inner, policy), outer):
        async with client(app) as shopper:
            answer = await shopper.get("/", headers={"failpoints": policy.sign(FAILS)})
            assert (answer.text, (await shopper.get("/")).text) == ("slow", "reserved")
        assert report(answer)["shop"]["stock.reserve"]["hits"] == 1


async def test_fastapi(policy: RequestFailpoints) -> None:
    """Sync handlers, dependencies in threads and background tasks of FastAPI belong to the request."""
    app = FastAPI()
    done: list[str] = []

    def stocked() -> str:
        return count()

    async def mail() -> None:
        done.append(await reserve())

    @app.get("/")
    def order(background: BackgroundTasks, stock: str = Depends(stocked)) -> dict[str, str]:
        background.add_task(mail)
        return {"stock": stock, "again": count()}

    token = policy.sign([("stock.count", "1*return(3)->return(4)"), ("stock.reserve", "return(refused)")])
    async with client(FailpointsMiddleware(app, policy)) as shopper:
        assert (await shopper.get("/")).json() == {"stock": "7", "again": "7"}
        answer = await shopper.get("/", headers={"failpoints": token})
    assert answer.json() == {"stock": "3", "again": "4"}
    assert done == ["reserved", "refused"]
    assert report(answer)["shop"]["stock.count"]["hits"] == 2


async def test_a_pause_ends_with_the_request(policy: RequestFailpoints) -> None:
    """A task that the request left behind is woken when the request has ended."""
    if not asyncio_runs():
        return  # trio has no task without a nursery
    tasks: list[asyncio.Task[str]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        tasks.append(asyncio.create_task(reserve()))
        await asyncio.sleep(0)
        await PlainTextResponse("")(scope, receive, send)

    async with client(FailpointsMiddleware(app, policy)) as shopper:
        await shopper.get("/", headers={"failpoints": policy.sign([("stock.reserve", "pause")])})
    assert await tasks[0] == "reserved"


def asyncio_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def talk(app: Any, *headers: tuple[bytes, bytes], **scope: Any) -> list[Any]:
    """Open a websocket, send two messages, and return what the application sends."""
    sent: list[Any] = []
    messages = [
        {"type": "websocket.connect"},
        *[{"type": "websocket.receive", "text": ""}] * 2,
        {"type": "websocket.disconnect"},
    ]

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return messages.pop(0)

    await app(
        {"type": "websocket", "path": "/ws", "headers": list(headers), "query_string": b"", **scope}, receive, send
    )
    return sent


async def test_websockets(policy: RequestFailpoints) -> None:
    """A websocket with a token has its failpoints as long as it is open."""

    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        for _ in range(2):
            await socket.receive_text()
            await socket.send_text(await reserve())

    app = shop(policy, WebSocketRoute("/ws", echo))
    token = policy.sign([("stock.reserve", "1*off->return(nothing)")])
    accepted, *answers = await talk(app, (b"failpoints", token.encode()))
    assert json.loads(dict(accepted["headers"])[b"failpoints-report"])["shop"]["stock.reserve"]["hits"] == 0
    assert [answer["text"] for answer in answers] == ["reserved", "nothing"]
    assert [answer.get("text") for answer in await talk(app)] == [None, "reserved", "reserved"]
    assert len(stores_in_force) == 1


@pytest.mark.parametrize(
    ("extensions", "types"),
    [
        ({}, ["websocket.close"]),
        ({"websocket.http.response": {}}, ["websocket.http.response.start", "websocket.http.response.body"]),
    ],
)
async def test_a_websocket_with_a_bad_token_is_not_accepted(
    policy: RequestFailpoints, extensions: dict[str, Any], types: list[str]
) -> None:
    """It is answered with 403 and the reason. A server that cannot do that is asked to close, which it answers so."""
    sent = await talk(shop(policy), (b"failpoints", b"forged"), extensions=extensions)
    assert [message["type"] for message in sent] == types
    assert sent[0].get("status", 403) == 403


async def test_django(policy: RequestFailpoints) -> None:
    """Async and sync views of Django under ASGI belong to the request."""
    from django.core.asgi import get_asgi_application

    from .django_site import site

    if not asyncio_runs():
        return  # Django's handler runs on asyncio only
    with site():
        async with client(FailpointsMiddleware(get_asgi_application(), policy)) as shopper:
            token = policy.sign([("django.stock", "return(none)")])
            for path in ("/async", "/sync"):
                answer = await shopper.get(path, headers={"failpoints": token})
                assert (answer.text, (await shopper.get(path)).text) == ("none", "7")
                assert report(answer)["shop"]["django.stock"]["hits"] == 1
