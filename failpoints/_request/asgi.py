"""The middleware for ASGI applications: Starlette, FastAPI, Django, Litestar and others."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from .._core.reentrancy import runs_user_code
from .current import SignedRequest
from .incoming import header_names, token_of
from .policy import RequestFailpoints, complete_rules_of
from .report import HEADER as REPORT
from .tokens import Refused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_REPORT: Final = REPORT.encode()
_WITH_HEADERS: Final = ("http.response.start", "websocket.accept")


class FailpointsMiddleware:
    """Lets a request bring its own failpoints to an ASGI application, as a policy allows.

    Put it around the whole application. A request with the header `failpoints` is handled in a registry of its own,
    which reaches the tasks and worker threads that are started for it, and background tasks. Its response has the
    header `failpoints-report`, with what was counted until the response began. A token that the policy does not accept
    is answered with 403 and `{"msg": …}`, before the application sees the request. Requests without the header are
    passed on.

    Args:
        app: The application.
        policy: The `RequestFailpoints` of the service, with `allow=` and `service=`.

    Raises:
        FailpointUsageError: *policy* is not such a policy.

    >>> from starlette.applications import Starlette
    >>> from failpoints.asgi import FailpointsMiddleware
    >>> from failpoints.request import RequestFailpoints
    >>> policy = RequestFailpoints({"2026-11": "a secret of 16 bytes or more"}, allow=["stock.*"], service="stock")
    >>> app = FailpointsMiddleware(Starlette(), policy)
    """

    def __init__(self, app: App, policy: RequestFailpoints) -> None:
        self._app = app
        self._rules = complete_rules_of(policy)
        self._names = frozenset(name.encode() for name in header_names(self._rules))

    @runs_user_code
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, a websocket, or the lifespan."""
        if "headers" in scope:
            for name, _ in scope["headers"]:
                if name in self._names:
                    return await self._obey(scope, receive, send)
        return await self._app(scope, receive, send)

    @runs_user_code
    async def _obey(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"] if name in self._names]
        try:
            token = token_of(found, self._rules)
            request = None if token is None else SignedRequest(self._rules, token)
        except Refused as refusal:
            await _refuse(scope, send, str(refusal))
            return
        if request is None:  # baggage of others
            await self._app(scope, receive, send)
            return
        started = False

        @runs_user_code
        async def reporting(message: Message) -> None:
            nonlocal started
            if message["type"] in _WITH_HEADERS:
                started = True
                headers = [*message.get("headers", ()), (_REPORT, request.report_header().encode())]
                message = {**message, "headers": headers}
            await send(message)

        request.start()
        try:
            with request.inside():
                await self._app(scope, receive, reporting)
        except Exception:
            if not started and scope["type"] == "http":  # the server would answer without the report
                await _answer(reporting, 500, b"text/plain", b"Internal Server Error")
            raise
        finally:
            request.end()


async def _refuse(scope: Scope, send: Send, message: str) -> None:
    body = json.dumps({"msg": message}).encode()
    if scope["type"] == "http":
        await _answer(send, 403, b"application/json", body)
    elif "websocket.http.response" in scope.get("extensions", {}):
        await _answer(send, 403, b"application/json", body, kind="websocket.http.response")
    else:  # before the handshake, which the server answers with 403
        await send({"type": "websocket.close", "code": 1008, "reason": ""})


async def _answer(send: Send, status: int, content_type: bytes, body: bytes, kind: str = "http.response") -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
