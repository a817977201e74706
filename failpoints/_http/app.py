"""The control plane: failpoints configured, watched and resumed over HTTP, in JSON (extra `http`)."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from .._core.messages import did_you_mean, missing_extra, safe_repr

try:
    from anyio import CancelScope, create_task_group, move_on_after
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ModuleNotFoundError as error:
    raise missing_extra(error, "failpoints.admin", "http") from error

from .._core.actions import Exit
from .._core.configuration import Configuration
from .._core.grammar import check_name
from .._core.log import logger
from .._core.registry import PROCESS_WIDE, Registry, store_of
from .._core.store import Store
from ..errors import FailpointError, FailpointTimeout, FailpointUsageError
from .guard import refusal
from .openapi import openapi_document
from .paths import name_in, undecoded_path
from .wire import (
    LARGEST_BODY,
    LONGEST_WAIT,
    MOST,
    NOT_CONFIGURED,
    at_entry,
    check_token,
    read_entries,
    status_document,
    written,
)

_PATIENCE = 30  # seconds for a body to arrive
_COUNT = re.compile(r"0*([1-9][0-9]{0,15})", re.ASCII)
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?", re.ASCII)


def admin_app(registry: Registry | None = None, *, token: str | None = None) -> Starlette:
    """To steer the failpoints of a running program over HTTP, from a server that it has: mount this anywhere.

    `registry` is the one to steer, `None` that of the whole process; `token` is what clients send as
    `Authorization: Bearer TOKEN`. It answers below `/v1/failpoints`, with an OpenAPI document at
    `/v1/failpoints/openapi.json`. `FAILPOINTS_HTTP=127.0.0.1:22381` starts it in a program that has no server.

    Who can speak to it can end the program. Without a token it answers only where both ends of the connection are
    loopback, or a Unix socket that the server tells as one, and never to a web page. So without a token it must never
    stand behind a proxy, which is a neighbour whoever speaks through it: requests with the headers that proxies add are
    refused, but a proxy that adds none looks like a neighbour. `FAILPOINTS_TOKEN` is not for it.

    A request that waits is one that a server waits for when it ends, for `timeout` seconds at most; uvicorn has
    `--timeout-graceful-shutdown` for those.

    Raises `FailpointUsageError` for a token that none can send, or that is empty.

    >>> from failpoints.admin import admin_app
    >>> from starlette.applications import Starlette
    >>> from starlette.routing import Mount
    >>> app = Starlette(routes=[Mount("/debug", app=admin_app())])
    """
    if registry is not None and not isinstance(registry, Registry):
        raise FailpointUsageError(f"registry is a Registry, or None for that of the process; got {safe_repr(registry)}")
    if token is not None:
        check_token(token)
    routes = _Routes(PROCESS_WIDE if registry is None else registry, openapi_document(secured=token is not None))
    app = Starlette(
        routes=[
            Route(
                "/v1/failpoints",
                _Path(GET=routes.statuses, PUT=routes.configure, POST=routes.configure, DELETE=routes.reset),
            ),
            Route("/v1/failpoints/openapi.json", _Path(GET=routes.openapi)),
            Route("/v1/failpoints/{name}", _Path(GET=routes.status, DELETE=routes.remove)),
            Route("/v1/failpoints/{name}/resume", _Path(POST=routes.resume)),
            Route("/v1/failpoints/{name}/wait", _Path(GET=routes.wait)),
        ],
        middleware=[Middleware(_Door, token=token)],
        exception_handlers={
            HTTPException: _http_error,
            FailpointError: _bad_request,
            ClientDisconnect: _nobody_there,
        },
    )
    app.router.redirect_slashes = False
    return app


class _Door:
    """What every request passes: who may not speak is refused, the path is taken undecoded, no error gets out."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = refusal(scope, self._token)
        if refused is not None:
            await _error(*refused)(scope, receive, send)
            return
        answered = False

        async def watched(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._app({**scope, "path": undecoded_path(scope), "root_path": ""}, receive, watched)
        except Exception:
            logger.exception("the control plane failed at %s %s", scope["method"], scope["path"])
            if not answered:
                await _error(500, "the control plane failed: the log of the program says why")(scope, receive, send)


class _Routes:
    """The answers of the control plane of one registry."""

    def __init__(self, registry: Registry, document: dict[str, Any]) -> None:
        self._registry = registry
        self._store = store_of(registry)
        self._document = document

    async def openapi(self, request: Request) -> Response:
        return _json(self._document)

    async def configure(self, request: Request) -> Response:
        _check_type(request, required=True)
        configurations = self._prepared(read_entries(await _body(request)))
        if any(isinstance(term.action, Exit) for each in configurations for term in each.terms):
            return _AnswerFirst(self._store, configurations)
        self._store.install_all(configurations)
        return _json(None)

    async def statuses(self, request: Request) -> Response:
        return _json([status_document(status) for status in self._registry.statuses()])

    async def status(self, request: Request) -> Response:
        return _json(status_document(self._registry.status(self._configured(request))))

    async def reset(self, request: Request) -> Response:
        self._registry.reset()
        return _json(None)

    async def remove(self, request: Request) -> Response:
        self._registry.remove(self._configured(request))
        return _json(None)

    async def resume(self, request: Request) -> Response:
        # Without a body, which no form of a page can do: it names a type of its own.
        _check_type(request, required=False)
        return _json({"resumed": self._registry.resume(self._configured(request))})

    async def wait(self, request: Request) -> Response:
        asked = _asked(request)
        name = self._configured(request)
        wait_until = self._registry.wait_until_hit if asked.what == "hits" else self._registry.wait_until_paused
        try:
            await _while_there(request, lambda: wait_until(name, asked.number, timeout=asked.timeout))
        except FailpointTimeout as error:
            status = error.status or self._registry.status(name)
            return _json({"msg": str(error).partition("\n")[0], "status": status_document(status)}, 408)
        except FailpointUsageError as error:  # it was removed meanwhile
            raise HTTPException(404, str(error)) from None
        return _json(status_document(self._registry.status(name)))

    def _prepared(self, entries: list[tuple[str, str, dict[str, Any]]]) -> list[Configuration]:
        configurations: list[Configuration] = []
        for number, entry in enumerate(entries, start=1):
            try:
                configurations.append(self._store.prepare(*entry))
            except FailpointError as error:
                raise HTTPException(400, f"{at_entry(number, entries)}{error}") from None
        return configurations

    def _configured(self, request: Request) -> str:
        """The name in the path, if it is configured."""
        name = name_in(request.path_params["name"])
        if self._store.current(check_name(name)) is None:
            names = [status.name for status in self._registry.statuses()]
            raise HTTPException(404, f"failpoint {name!r} {NOT_CONFIGURED}{did_you_mean(name, names)}")
        return name


# routes and answers


class _Path:
    """The methods of one path, as Starlette takes an endpoint that is for all: no other route gets what is left."""

    def __init__(self, **by_method: Callable[[Request], Awaitable[Response]]) -> None:
        self._by_method = by_method
        self._allowed = ", ".join(sorted({*by_method, "HEAD"} if "GET" in by_method else by_method))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        method = "GET" if request.method == "HEAD" else request.method
        if method not in self._by_method:
            msg = f"{request.method} is not for this path: expected {self._allowed}"
            raise HTTPException(405, msg, {"Allow": self._allowed})
        response = await self._by_method[method](request)
        await response(scope, receive, send)


def _json(document: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(written(document), status, headers, media_type="application/json")


def _error(status: int, msg: str, headers: Any = None) -> Response:
    return _json({"msg": msg}, status, dict(headers or {}))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    msg = error.detail
    if error.status_code == 404 and msg == "Not Found":
        msg = (
            "no such path: expected /v1/failpoints, or /v1/failpoints/NAME, with /resume or /wait after it;"
            " percent-encode the name, a / in it as %2F"
        )
    return _error(error.status_code, msg, error.headers)


async def _bad_request(request: Request, error: Exception) -> Response:
    return _error(400, str(error))


async def _nobody_there(request: Request, error: Exception) -> Response:
    return _error(400, "the client went away before its request was whole")


class _AnswerFirst(Response):
    """Answers `null`, and configures once that has been sent: an `exit` may end the program at the next visit."""

    def __init__(self, store: Store, configurations: Sequence[Configuration]) -> None:
        super().__init__(written(None), media_type="application/json")
        self._store = store
        self._configurations = configurations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
            with move_on_after(1):  # middleware may hold the answer: after it there is nothing to receive but the end
                while (await receive())["type"] != "http.disconnect":
                    pass
        finally:
            self._store.install_all(self._configurations)


# requests


def _check_type(request: Request, *, required: bool) -> None:
    given = request.headers.getlist("content-type")
    if not given and not required:
        return
    if len(given) != 1 or not _is_json(given[0]):
        got = f"got {safe_repr(', '.join(given))}" if given else "it has none"
        raise HTTPException(415, f"the Content-Type of this request has to be application/json; {got}")
    encoded = request.headers.get("content-encoding", "identity")
    if encoded.strip().lower() != "identity":
        raise HTTPException(415, f"a body is taken as it is, without Content-Encoding; got {safe_repr(encoded)}")


def _is_json(content_type: str) -> bool:
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    return kind == "application/json" and all(
        parameter.replace('"', "") in {"", "charset=utf-8", "charset=utf8"} for parameter in parameters
    )


def _too_large() -> HTTPException:
    return HTTPException(413, f"a body holds {LARGEST_BODY} bytes at most: send the entries in several requests")


async def _body(request: Request) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 15 or int(declared) > LARGEST_BODY):
        raise _too_large()
    body = bytearray()
    with move_on_after(_PATIENCE):
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_BODY:
                raise _too_large()
        return bytes(body)
    raise HTTPException(400, f"the body did not arrive whole within {_PATIENCE} s")


async def _while_there(request: Request, wait: Callable[[], Awaitable[None]]) -> None:
    """Wait as long as the client does; raises what the wait raises, and `ClientDisconnect` if it went away."""
    failure: Exception | None = None

    async def end_when_gone(scope: CancelScope) -> None:
        nonlocal failure
        body = 0
        while (message := await request.receive())["type"] != "http.disconnect":
            body += len(message.get("body", b""))
            if body > LARGEST_BODY:
                failure = _too_large()
                break
        failure = failure or ClientDisconnect()
        scope.cancel()

    async with create_task_group() as group:
        group.start_soon(end_when_gone, group.cancel_scope)
        try:
            await wait()
        except Exception as error:
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure


class _Asked(NamedTuple):
    """What a wait is for, and how long it lasts."""

    what: str
    number: int
    timeout: float


def _asked(request: Request) -> _Asked:
    query: bytes = request.scope["query_string"]
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise HTTPException(400, "the query is not UTF-8, percent-encoded") from None
    given = dict(pairs)
    known = ("hits", "paused", "timeout")
    for key in given:
        if key not in known:
            raise HTTPException(
                400, f"unknown parameter {safe_repr(key)}: expected {', '.join(known)}{did_you_mean(key, known)}"
            )
    if len(given) < len(pairs):
        raise HTTPException(400, "a parameter is given twice")
    if "hits" in given and "paused" in given:
        raise HTTPException(400, "a wait is for hits or for paused: give one of the two")
    what = "paused" if "paused" in given else "hits"
    return _Asked(what, _count(what, given.get(what, "1")), _timeout(given.get("timeout", "10")))


def _count(what: str, text: str) -> int:
    found = _COUNT.fullmatch(text)
    if not found or int(found[1]) > MOST:
        raise HTTPException(400, f"{what} is a whole number from 1 to {MOST}; got {safe_repr(text)}")
    return int(found[1])


def _timeout(text: str) -> float:
    seconds = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not seconds <= LONGEST_WAIT:
        raise HTTPException(400, f"timeout is in seconds, from 0 to {LONGEST_WAIT}; got {safe_repr(text)}")
    return seconds
