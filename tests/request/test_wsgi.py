"""The WSGI middleware, around plain applications and around frameworks."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from flask import Flask, stream_with_context
from werkzeug.test import Client

from failpoints import failpoint
from failpoints._core.entered import entered
from failpoints._core.store import stores_in_force
from failpoints.request import RequestFailpoints
from failpoints.wsgi import FailpointsMiddleware

from .conftest import policy_of


@failpoint("stock.count")
def count() -> str:
    return "7"


def report(response: Any) -> Any:
    return json.loads(response.headers["failpoints-report"])["shop"]


def app(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain")])

    def parts() -> Iterator[bytes]:
        yield count().encode()
        yield count().encode()

    return parts()


def test_a_signed_request_is_hit_and_others_are_not(policy: RequestFailpoints) -> None:
    """The whole response belongs to the request, its body included. It follows the specification of WSGI."""
    checked = validator(FailpointsMiddleware(validator(app), policy))
    token = policy.sign([("stock.count", "1*off->return(none)")])
    environ: dict[str, Any] = {"HTTP_FAILPOINTS": token, "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    answered: list[Any] = []
    body = checked(environ, lambda status, headers, *_: answered.extend([status, dict(headers)]) or (lambda data: None))
    parts = iter(body)
    assert next(parts) == b"7"
    assert count() == "7" and len(entered.get()) == 1  # this thread does not belong to the request in between
    assert list(parts) == [b"none"]
    assert len(stores_in_force) == 2
    body.close()  # type: ignore[attr-defined]
    assert len(stores_in_force) == 1
    assert answered[0] == "200 OK" and json.loads(answered[1]["failpoints-report"])["shop"]
    assert Client(FailpointsMiddleware(app, policy)).get("/", buffered=True).text == "77"


def test_a_refused_request_does_not_reach_the_application(policy: RequestFailpoints) -> None:
    """A bad token is answered with 403 and the reason."""

    def unreachable(*_: object) -> Any:
        raise AssertionError

    answer = Client(FailpointsMiddleware(unreachable, policy)).get("/", buffered=True, headers={"failpoints": "forged"})
    assert answer.status_code == 403 and answer.json == {"msg": answer.json["msg"]} and "token" in answer.json["msg"]


def test_a_body_that_is_never_closed_ends_with_its_last_reference(policy: RequestFailpoints) -> None:
    """A server that forgets `close` leaves nothing configured."""
    environ: dict[str, Any] = {"HTTP_FAILPOINTS": policy.sign([("stock.count", "off")])}
    setup_testing_defaults(environ)
    body = FailpointsMiddleware(app, policy)(environ, lambda *_: lambda data: None)
    assert len(stores_in_force) == 2
    del body
    gc.collect()
    assert len(stores_in_force) == 1


def test_an_application_that_raises_leaves_nothing_configured(policy: RequestFailpoints) -> None:
    """An exception of the application goes to the server, and the request has ended."""

    def failing(*_: object) -> Any:
        raise OSError(count())

    with pytest.raises(OSError, match="none"):
        token = policy.sign([("stock.count", "return(none)")])
        Client(FailpointsMiddleware(failing, policy)).get("/", buffered=True, headers={"failpoints": token})
    assert len(stores_in_force) == 1 and len(entered.get()) == 1


def test_without_a_key_everything_is_passed_on() -> None:
    """A policy without a key is off."""
    answer = Client(FailpointsMiddleware(app, policy_of(keys=None))).get(
        "/", buffered=True, headers={"failpoints": "forged"}
    )
    assert answer.text == "77"


def test_flask(policy: RequestFailpoints) -> None:
    """Views, errors and streamed bodies of Flask belong to the request."""
    flask = Flask("shop")

    @flask.get("/")
    def view() -> str:
        return count()

    @flask.get("/stream")
    def stream() -> Any:
        return stream_with_context(count() for _ in range(2)), {"Content-Type": "text/plain"}

    flask.wsgi_app = FailpointsMiddleware(flask.wsgi_app, policy)  # type: ignore[method-assign]
    client = flask.test_client()
    token = policy.sign([("stock.count", "1*return(1)->1*return(2)->raise(OSError)")])
    answer = client.get("/", buffered=True, headers={"failpoints": token})
    assert (answer.text, report(answer)["stock.count"]["hits"]) == ("1", 1)
    assert client.get("/stream", buffered=True, headers={"failpoints": token}).text == "12"
    error = client.get("/", buffered=True, headers={"failpoints": policy.sign([("stock.count", "raise(OSError)")])})
    assert (error.status_code, report(error)["stock.count"]["triggers"]) == (500, 1)
    assert client.get("/", buffered=True).text == "7"


def test_django(policy: RequestFailpoints) -> None:
    """Sync and async views of Django under WSGI belong to the request."""
    from django.core.wsgi import get_wsgi_application

    from .django_site import site

    with site():
        client = Client(FailpointsMiddleware(get_wsgi_application(), policy))
        token = policy.sign([("django.stock", "return(none)")])
        for path in ("/sync", "/async"):
            answer = client.get(path, buffered=True, headers={"failpoints": token})
            assert (answer.text, client.get(path, buffered=True).text) == ("none", "7")
            assert report(answer)["django.stock"]["hits"] == 1
