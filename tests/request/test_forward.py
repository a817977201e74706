"""Passing failpoints on to other services and jobs, and adding up what they report."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from failpoints import FailpointUsageError, failpoint
from failpoints._request.current import SignedRequest
from failpoints._request.policy import rules_of
from failpoints.asgi import FailpointsMiddleware
from failpoints.request import accept, forward

from .conftest import policy_of

pytestmark = pytest.mark.anyio

STOCK = policy_of("stock", allow=["stock.*"])
SHOP = policy_of("shop", allow=["shop.*"])


@failpoint("stock.reserve", raises=(TimeoutError,))
async def reserve() -> str:
    return "reserved"


@failpoint("mail.send")
def send_mail() -> str:
    return "sent"


async def stock(request: Request) -> Response:
    try:
        return PlainTextResponse(await reserve())
    except TimeoutError:
        return PlainTextResponse("slow", 503)


STOCK_APP = FailpointsMiddleware(Starlette(routes=[Route("/", stock)]), STOCK)


def counts(report: str) -> dict[str, dict[str, int]]:
    """Return the hits of each failpoint in each service."""
    return {
        service: {name: each["hits"] for name, each in names.items()} for service, names in json.loads(report).items()
    }


class Asks:
    """A shop that asks the stock so often at once, with the event hooks of `forward.httpx`."""

    def __init__(self, times: int, hosts: list[str]) -> None:
        self.times, self.hosts = times, hosts
        self.statuses: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await failpoint("shop.order")
        hooks = forward.httpx(forward_to=self.hosts)
        transport = httpx.ASGITransport(STOCK_APP)
        async with httpx.AsyncClient(transport=transport, base_url="http://stock", event_hooks=hooks) as client:

            async def ask() -> None:
                self.statuses.append((await client.get("/")).status_code)

            async with anyio.create_task_group() as tasks:
                for _ in range(self.times):
                    tasks.start_soon(ask)
        await PlainTextResponse("")(scope, receive, send)


async def order(app: Any, token: str) -> httpx.Response:
    transport = httpx.ASGITransport(FailpointsMiddleware(app, SHOP))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        return await client.get("/", headers={"failpoints": token})


@pytest.mark.parametrize("once", [False, True])
async def test_counts_are_added_up_over_services_and_calls(once: bool) -> None:
    """Calls made at once carry the failpoints on, a one-time token too, and the sum of their counts comes back."""
    shop = Asks(3, ["stock"])
    token = SHOP.sign([("shop.order", "off"), ("stock.reserve", "raise(TimeoutError)")], once=once)
    answer = await order(shop, token)
    assert shop.statuses == [503] * 3
    assert counts(answer.headers["failpoints-report"]) == {"stock": {"stock.reserve": 3}, "shop": {"shop.order": 1}}


async def test_other_hosts_do_not_get_the_token() -> None:
    """A client passes the failpoints on only to the hosts that it was given."""
    shop = Asks(1, ["mail", "stock:8080"])
    answer = await order(shop, SHOP.sign([("stock.reserve", "raise(TimeoutError)")]))
    assert shop.statuses == [200] and counts(answer.headers["failpoints-report"]) == {"shop": {}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("stock", r"must be a list of hosts; .*did you mean \['stock'\]"),
        (["http://stock/"], "has hosts"),
        (["*.stock.test"], "a pattern is not a host, so name each one"),
        (["stock:99999"], "got 'stock:99999'"),
        (["stock,mail"], "has hosts"),
        ([1], "hosts"),
    ],
)
def test_what_is_not_a_host_is_refused(given: Any, message: str) -> None:
    """`forward_to=` is a list of hosts, with or without a port."""
    with pytest.raises(FailpointUsageError, match=message):
        forward.httpx(forward_to=given)


class Signed:
    """A block that works for a signed request."""

    def __init__(self, entries: Any = (("stock.reserve", "off"),)) -> None:
        self.request = SignedRequest(rules_of(SHOP), SHOP.sign(entries))

    def __enter__(self) -> SignedRequest:
        self.request.start()
        self._around = self.request.inside()
        self._around.__enter__()
        return self.request

    def __exit__(self, *exception: object) -> None:
        self._around.__exit__(*exception)
        self.request.end()


REPORT = '{"stock":{"stock.reserve":{"hits":1,"misses":0,"triggers":1}}}'


def answers(seen: list[tuple[str, bool]]) -> Callable[[httpx.Request], httpx.Response]:
    """Redirect the host stock to another one, and note which request had a token."""

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.host, "failpoints" in request.headers))
        headers = {"failpoints-report": REPORT}
        if request.url.host == "stock":
            return httpx.Response(302, headers={"location": "http://elsewhere/", **headers})
        return httpx.Response(200, headers=headers)

    return answer


def test_a_redirect_does_not_carry_the_token_to_another_host() -> None:
    """The headers of httpx go along with a redirect. The hook deletes the token, and reads no report from there."""
    seen: list[tuple[str, bool]] = []
    hooks = forward.httpx(forward_to=["stock"])
    transport = httpx.MockTransport(answers(seen))
    with httpx.Client(transport=transport, event_hooks=hooks, follow_redirects=True) as client, Signed() as request:
        client.get("http://stock/")
    assert seen == [("stock", True), ("elsewhere", False)]
    assert request.report.services()["stock"]["stock.reserve"].hits == 1


def test_a_client_that_works_for_no_request_adds_nothing() -> None:
    """Outside a signed request the hooks do nothing, and a token of the program's own stays."""
    seen: list[tuple[str, bool]] = []
    hooks = forward.httpx(forward_to=["stock"])
    with httpx.Client(transport=httpx.MockTransport(answers(seen)), event_hooks=hooks) as client:
        client.get("http://stock/")
        client.get("http://stock/", headers={"failpoints": "its own"})
    assert seen == [("stock", False), ("stock", True)]


def test_requests() -> None:
    """The adapter for `requests` passes the failpoints on, and deletes the token from a redirect to another host."""
    seen: list[tuple[str, bool]] = []
    respond = answers(seen)

    class Fake(requests.adapters.BaseAdapter):
        def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
            given = respond(httpx.Request("GET", request.url, headers=dict(request.headers)))
            response = requests.Response()
            response.status_code, response.url, response.request = given.status_code, request.url, request
            response.headers.update(given.headers)
            response._content = b""  # type: ignore[attr-defined]
            response._content_consumed = True  # type: ignore[attr-defined]
            return response

        def close(self) -> None:
            seen.append(("closed", False))

    with requests.Session() as session, Signed() as request:
        session.mount("http://", forward.requests(forward_to=["STOCK:80"], adapter=Fake()))
        session.get("http://stock/")
    assert seen == [("stock", True), ("elsewhere", False), ("closed", False)]
    assert request.report.services()["stock"]["stock.reserve"].hits == 1


@pytest.mark.parametrize("report", ["", "[]", "{", '{"a":{"b":{"hits":-1}}}', '{"a":{"b":{"hits":true}}}', '{"a":1}'])
def test_a_report_that_is_none_is_ignored(report: str) -> None:
    """What another service sends as a report is checked before it is added."""
    with Signed() as request:
        forward.add_report(report)
        assert request.report.services() == {}
    forward.add_report(REPORT)  # outside, there is nothing to add it to


async def test_a_job_belongs_to_the_request() -> None:
    """A job that a request causes has its failpoints, in a worker that the request does not reach, and reports back."""
    mail = policy_of("mail", allow=["mail.*"])

    async def work(ctx: dict[str, Any], failpoints: str | None = None) -> tuple[str, str]:  # like a function of arq
        with accept.job(mail, failpoints) as job:
            return send_mail(), job.report

    async def shop(scope: Any, receive: Any, send: Any) -> None:
        arguments = forward.job()
        sent, report = await work({}, **arguments)
        forward.add_report(report)
        await PlainTextResponse(sent)(scope, receive, send)

    answer = await order(shop, SHOP.sign([("mail.send", "return(lost)")]))
    assert answer.text == "lost" and counts(answer.headers["failpoints-report"])["mail"] == {"mail.send": 1}
    assert (await work({}))[0] == "sent"


def test_a_job_with_a_bad_token_does_not_begin() -> None:
    """A token that the worker refuses is an error before the job has begun, as is a policy that is not complete."""
    with pytest.raises(FailpointUsageError, match="this job is refused: .* not a token"), accept.job(STOCK, "forged"):
        raise AssertionError
    with pytest.raises(FailpointUsageError, match="needs a policy with allow="):
        accept.job(policy_of(allow=[]), {})
    with pytest.raises(FailpointUsageError, match="a token that is a str"):
        accept.job(STOCK, {"failpoints": 1})
    with accept.job(policy_of(keys=None), "forged") as job:  # off
        assert job.report == "{}"


@pytest.mark.slow
def test_celery() -> None:
    """The headers of a task carry the failpoints to its worker, which runs in a thread of its own here."""
    celery = pytest.importorskip("celery")
    from celery.contrib.testing.worker import start_worker

    app = celery.Celery("mail", broker="memory://", backend="cache+memory://")
    mail = policy_of("mail", allow=["mail.*"])

    @app.task(bind=True)
    def work(self: Any) -> str:
        with accept.job(mail, self.request.headers):
            return send_mail()

    with start_worker(app, perform_ping_check=False, pool="solo"):
        with Signed(entries=[("mail.send", "return(lost)")]):
            result = work.apply_async(headers=forward.job())
        assert result.get(timeout=20) == "lost"
        assert work.apply_async().get(timeout=20) == "sent"
