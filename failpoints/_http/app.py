"""The application of the control plane: configures, shows and resumes failpoints over HTTP, in JSON (extra `http`)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any
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

from .._core.actions import may_exit
from .._core.configuration import Configuration
from .._core.declared import with_declared
from .._core.handle import Handle
from .._core.log import logger
from .._core.registry import PROCESS_WIDE, Registry, store_of
from .._core.store import Store
from .._core.validation import check_count, check_name
from ..errors import FailpointError, FailpointTimeout, FailpointUsageError
from .budget import Budget, TooMuchWork
from .exchange import (
    check_content_type,
    check_no_body,
    encoded_response,
    error_response,
    json_response,
    read_body,
    too_large,
)
from .guard import FOR_PAGE, OPENS_SESSION, check_request
from .openapi import openapi_document
from .page import SESSION, Page, answering
from .paths import decode_name, undecoded_path
from .patterns import Compiler
from .program import Program
from .sessions import Sessions
from .targets import Failpoint, Handles
from .wire import (
    MAX_BODY,
    MAX_COUNT,
    MAX_WAIT,
    NOT_CONFIGURED,
    Entry,
    check_token,
    parse_entries,
    parse_matchers,
    status_document,
    to_json,
)

_STATUS_COST = 8  # units of the budget
_COMPARISON_COST = 2
_BYTES_PER_UNIT = 100
_COUNT = re.compile(r"0*([1-9][0-9]{0,15})", re.ASCII)
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?", re.ASCII)


def admin_app(
    registry: Registry | None = None, *, token: str | None = None, allow_any_pattern: bool = False
) -> Starlette:
    """Return an ASGI application with which a running program's failpoints are configured and watched over HTTP.

    Use it in a program that has a web server: mount it at any path. It answers below `/v1/failpoints`, and has an
    OpenAPI document at `/v1/failpoints/openapi.json`. At `/` it has a page for a browser, which the command
    `failpoints page` opens. For a program without a web server, set
    `FAILPOINTS_HTTP=127.0.0.1:22381` instead.

    **Security.** Anyone who can send it requests can end the program. Without a token it answers only if both ends of
    the connection are loopback addresses, or a Unix socket that the server reports as one. It answers no web page
    but its own, and that one only with the access that `failpoints page` gave it. Never put it behind a proxy without a
    token: to the application, everything that comes through the proxy comes from this machine. Requests with the
    headers that proxies add are refused, but a proxy that adds none goes unnoticed.
    `FAILPOINTS_TOKEN` has no effect on this application.

    **Shutdown.** A server that shuts down waits for its open requests. A request that waits for a failpoint stays open
    for its *timeout* at most, and one of the page for ten seconds. In uvicorn, `--timeout-graceful-shutdown` limits
    this.

    Args:
        registry: The registry that requests act on. `None` means the process-wide one.
        token: The secret that clients send as `Authorization: Bearer TOKEN`. `None` means that none is required.
        allow_any_pattern: Whether matchers may have patterns that take exponential time. One of these can stop the
            whole program. Without it, they are refused.

    Raises:
        FailpointUsageError: *registry* is not a `Registry`, *token* is empty or has characters that a header cannot
            contain, or *allow_any_pattern* is not a `bool`.

    >>> from failpoints.admin import admin_app
    >>> from starlette.applications import Starlette
    >>> from starlette.routing import Mount
    >>> app = Starlette(routes=[Mount("/debug", app=admin_app())])
    """
    if registry is not None and not isinstance(registry, Registry):
        raise FailpointUsageError(
            f"registry must be a Registry, or None for the process-wide one; got {safe_repr(registry)}"
        )
    if token is not None:
        check_token(token)
    if not isinstance(allow_any_pattern, bool):
        raise FailpointUsageError(f"allow_any_pattern must be True or False; got {safe_repr(allow_any_pattern)}")
    routes = _Routes(
        PROCESS_WIDE if registry is None else registry,
        openapi_document(secured=token is not None),
        allow_any_pattern=allow_any_pattern,
    )
    page = Page(Program(PROCESS_WIDE if registry is None else registry))
    api = [
        Route("/v1/page", _MethodRouter(POST=page.hand_out_ticket)),
        Route(
            "/v1/failpoints",
            _MethodRouter(GET=routes.statuses, PUT=routes.configure, POST=routes.configure, DELETE=routes.reset),
        ),
        Route("/v1/failpoints/openapi.json", _MethodRouter(GET=routes.openapi)),
        Route("/v1/failpoints/{name}", _MethodRouter(GET=routes.status, DELETE=routes.remove)),
        Route("/v1/failpoints/{name}/resume", _MethodRouter(POST=routes.resume)),
        Route("/v1/failpoints/{name}/wait", _MethodRouter(GET=routes.wait)),
    ]
    return page_app(page, routes.configure, api, token=token)


def page_app(
    page: Page, configure: Callable[[Request], Awaitable[Response]], api: Sequence[Route] = (), *, token: str | None
) -> Starlette:
    """Return an application that serves a page, its requests, and an API. Without one, it hands out no tickets."""
    app = Starlette(
        routes=[
            Route("/", _MethodRouter(GET=page.show)),
            Route(OPENS_SESSION, _MethodRouter(POST=page.open_session)),
            Route(f"{FOR_PAGE}events", _MethodRouter(GET=page.events)),
            Route(f"{FOR_PAGE}configure", _MethodRouter(POST=answering(configure))),
            Route(f"{FOR_PAGE}resume", _MethodRouter(POST=answering(page.resume))),
            Route(f"{FOR_PAGE}remove", _MethodRouter(POST=answering(page.remove))),
            *api,
        ],
        middleware=[Middleware(_Guard, token=token, sessions=page.sessions)],
        exception_handlers={
            HTTPException: partial(_http_error, expected=_API_PATHS if api else "this serves a page, and no API"),
            FailpointError: _bad_request,
            ClientDisconnect: _client_disconnected,
        },
    )
    app.router.redirect_slashes = False
    return app


class _Guard:
    """The outermost middleware.

    It refuses requests without access, routes by the path as it was sent, and answers any error with a 500.
    """

    def __init__(self, app: ASGIApp, token: str | None, sessions: Sessions) -> None:
        self._app = app
        self._token = token
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = undecoded_path(scope)
        session = self._sessions.find(_session_token(scope))
        refusal = check_request(scope, self._token, path=path, has_session=session is not None)
        if refusal is not None:
            await error_response(*refusal)(scope, receive, send)
            return
        inner = {**scope, "path": path, "root_path": "", SESSION: session}
        answered = False

        async def send_and_note(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._app(inner, receive, send_and_note)
        except Exception:
            logger.exception("the control plane failed at %s %s", scope["method"], scope["path"])
            if not answered:
                await error_response(500, "the control plane failed: see the log of the program")(scope, receive, send)


def _session_token(scope: Scope) -> bytes:
    """Return the token of the session that a request has, or nothing."""
    given = [value for name, value in scope["headers"] if name.lower() == b"failpoints-session"]
    return bytes(given[0]).strip() if len(given) == 1 else b""


class _Routes:
    """The endpoints of a control plane, which act on one registry."""

    def __init__(self, registry: Registry, document: dict[str, Any], *, allow_any_pattern: bool) -> None:
        self._registry = registry
        self._allow_any_pattern = allow_any_pattern
        self._store = store_of(registry)
        self._handles = Handles(self._store)
        self._document = document

    async def openapi(self, request: Request) -> Response:
        return json_response(self._document)

    async def configure(self, request: Request) -> Response:
        check_content_type(request, required=True)
        body = await read_body(request)
        budget = Budget("these entries are too much work for one request: split them over several requests")
        compiler = Compiler(budget, allow_any=self._allow_any_pattern)
        number = Counter[str]()  # of the entries for each name
        handles: dict[str, Configuration] = {}

        def prepare(entry: Entry) -> Configuration:
            name, handle = entry.name, entry.handle
            number[name] += 1
            # It is compared with all the others of its name.
            budget.spend(_COMPARISON_COST * (len(self._store.stack(name).configurations()) + number[name]))
            matchers = compiler.matchers(entry.matchers)
            configuration = self._store.prepare(name, entry.actions, matchers, for_block=handle is not None)
            if handle is not None:
                if handle in handles or self._handles.in_use(handle):
                    raise HTTPException(409, f"the handle {safe_repr(handle)} is in use: choose another one")
                handles[handle] = configuration
            return configuration

        configurations = parse_entries(body, budget, prepare)
        self._handles.add(handles)
        if any(may_exit(term.action) for each in configurations for term in each.terms):
            return _ConfigureAfterResponse(self._store, configurations)
        self._store.install_all(configurations)
        return json_response(None)

    async def statuses(self, request: Request) -> Response:
        declared = _parse_declared(request)
        budget = Budget("there are too many statuses for one answer: ask for each by its name")
        budget.spend(_STATUS_COST * len(self._store.configurations()))
        statuses = self._registry.statuses()
        if declared:
            statuses = with_declared(statuses)
            budget.spend(_STATUS_COST * len(statuses))
        encoded: list[bytes] = []
        for status in statuses:
            encoded.append(to_json(status_document(status)))
            budget.spend(len(encoded[-1]) // _BYTES_PER_UNIT)
        return encoded_response(b"[%s]" % b",".join(encoded))

    async def status(self, request: Request) -> Response:
        return json_response(status_document(self._target(request, _parse_query(request, "handle")).status))

    async def reset(self, request: Request) -> Response:
        await check_no_body(request, "it removes everything; to remove one failpoint, put its name into the path")
        _parse_query(request)
        self._registry.reset()
        return json_response(None)

    async def remove(self, request: Request) -> Response:
        await check_no_body(request, "to remove one configuration only, add ?handle= to the path")
        self._target(request, _parse_query(request, "handle")).remove()
        return json_response(None)

    async def resume(self, request: Request) -> Response:
        # There need not be a body, but a Content-Type must be JSON: an HTML form always sends another one.
        check_content_type(request, required=False)
        await check_no_body(request, "to wake only some of the waiters, add ?tasks=, ?context= or ?handle= to the path")
        query = _parse_query(request, "context", "tasks", "handle")
        compiler = Compiler(
            Budget("these matchers are too much work for one request"), allow_any=self._allow_any_pattern
        )
        context = compiler.matchers(parse_matchers(query["context"], "context")) if "context" in query else None
        tasks = _parse_count("tasks", query["tasks"]) if "tasks" in query else None
        return json_response({"resumed": self._target(request, query).resume(context=context, tasks=tasks)})

    async def wait(self, request: Request) -> Response:
        query = _parse_query(request, "hits", "paused", "timeout", "handle")
        if "hits" in query and "paused" in query:
            raise HTTPException(400, "hits and paused exclude each other: give only one of them")
        event = "paused" if "paused" in query else "hits"
        number, timeout = _parse_count(event, query.get(event, "1")), _parse_timeout(query.get("timeout", "10"))
        target = self._target(request, query)
        wait = target.wait_paused if event == "paused" else target.wait_hit
        try:
            await _until_disconnect(request, lambda: wait(number, timeout=timeout))
        except FailpointTimeout as error:
            status = error.status or target.status
            return json_response({"msg": str(error).partition("\n")[0], "status": status_document(status)}, 408)
        except FailpointUsageError as error:  # the failpoint was removed during the wait, or the one with the handle
            raise HTTPException(404, str(error)) from None
        return json_response(status_document(target.status))

    def _target(self, request: Request, query: Mapping[str, str]) -> Failpoint | Handle:
        """Return what a request with a name in its path is about. Raises a 404 if it is not configured."""
        name = check_name(decode_name(request.path_params["name"]))
        if "handle" in query:
            handle = self._handles.find(name, query["handle"])
            if handle is None:
                raise HTTPException(
                    404, f"failpoint {name!r} {NOT_CONFIGURED} with the handle {safe_repr(query['handle'])}"
                )
            return handle
        if not self._store.current(name):
            names = list(dict.fromkeys(configuration.name for configuration in self._store.configurations()))
            raise HTTPException(404, f"failpoint {name!r} {NOT_CONFIGURED}{did_you_mean(name, names)}")
        return Failpoint(self._registry, name)


# routing and responses


class _MethodRouter:
    """The endpoint of one path, which dispatches on the method.

    Starlette passes every method to such an endpoint. If a `Route` listed its methods instead, a request with another
    one would fall through to the routes after it.
    """

    def __init__(self, **by_method: Callable[[Request], Awaitable[Response]]) -> None:
        self._by_method = by_method
        self._allowed = ", ".join(sorted({*by_method, "HEAD"} if "GET" in by_method else by_method))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        method = "GET" if request.method == "HEAD" else request.method
        if method not in self._by_method:
            msg = f"{request.method} is not allowed for this path: expected {self._allowed}"
            raise HTTPException(405, msg, {"Allow": self._allowed})
        response = await self._by_method[method](request)
        await response(scope, receive, send)


_API_PATHS = (
    "expected /v1/failpoints, or /v1/failpoints/NAME, optionally followed by /resume or /wait; percent-encode the name,"
    " including any / as %2F"
)


async def _http_error(request: Request, error: Exception, *, expected: str) -> Response:
    assert isinstance(error, HTTPException)
    msg = error.detail
    if error.status_code == 404 and msg == "Not Found":
        msg = f"no such path: {expected}"
    return error_response(error.status_code, msg, error.headers)


async def _bad_request(request: Request, error: Exception) -> Response:
    return error_response(413 if isinstance(error, TooMuchWork) else 400, str(error))


async def _client_disconnected(request: Request, error: Exception) -> Response:
    return error_response(400, "the client disconnected before its request was complete")


class _ConfigureAfterResponse(Response):
    """Answers `null`, and configures only after that has been sent: an `exit` may end the program at the next visit."""

    def __init__(self, store: Store, configurations: Sequence[Configuration]) -> None:
        super().__init__(to_json(None), media_type="application/json")
        self._store = store
        self._configurations = configurations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
            # Middleware may hold the response back. Once it is out, the only message left to receive is a disconnect.
            with move_on_after(1):
                while (await receive())["type"] != "http.disconnect":
                    pass
        finally:
            self._store.install_all(self._configurations)


# requests


async def _until_disconnect(request: Request, wait: Callable[[], Awaitable[None]]) -> None:
    """Run `wait()`, but give up when the client disconnects.

    Raises what `wait()` raises, `ClientDisconnect`, or a 413 if a body larger than 1 MiB arrives during the wait.
    """
    failure: Exception | None = None

    async def cancel_on_disconnect(scope: CancelScope) -> None:
        nonlocal failure
        body = 0
        while (message := await request.receive())["type"] != "http.disconnect":
            body += len(message.get("body", b""))
            if body > MAX_BODY:
                failure = too_large()
                break
        failure = failure or ClientDisconnect()
        scope.cancel()

    async with create_task_group() as group:
        group.start_soon(cancel_on_disconnect, group.cancel_scope)
        try:
            await wait()
        except Exception as error:
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _parse_declared(request: Request) -> bool:
    text = _parse_query(request, "declared").get("declared", "0")
    if text not in {"0", "1"}:
        raise HTTPException(400, f"declared must be 1 or 0; got {safe_repr(text)}")
    return text == "1"


def _parse_query(request: Request, *known: str) -> dict[str, str]:
    query: bytes = request.scope["query_string"]
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise HTTPException(400, "the query is not percent-encoded UTF-8") from None
    given = dict(pairs)
    for key in given:
        if key not in known:
            raise HTTPException(
                400,
                f"unknown parameter {safe_repr(key)}: expected {', '.join(known) or 'none'}{did_you_mean(key, known)}",
            )
    if len(given) < len(pairs):
        raise HTTPException(400, "a parameter appears twice")
    return given


def _parse_count(event: str, text: str) -> int:
    found = _COUNT.fullmatch(text)
    return check_count(event, int(found[1]) if found else text, most=MAX_COUNT)


def _parse_timeout(text: str) -> float:
    seconds = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not seconds <= MAX_WAIT:
        raise HTTPException(400, f"timeout must be a number of seconds from 0 to {MAX_WAIT}; got {safe_repr(text)}")
    return seconds
