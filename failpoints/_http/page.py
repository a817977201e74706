"""The page: the document, the way in, its events, and what its buttons do."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import Any, Final

from anyio import CancelScope, create_task_group, current_time, sleep
from anyio.lowlevel import checkpoint
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .._core.messages import safe_repr
from ..errors import FailpointError, FailpointUsageError
from .exchange import check_content_type, error_response, json_response, read_body
from .feed import Feed
from .guard import NO_SESSION
from .program import Shown
from .sessions import TICKET_SECONDS, Session, Sessions
from .wire import parse_object, to_json

SESSION: Final = "failpoints.session"
"""The key of the ASGI scope that has the `Session` of a request."""

_INTERVAL = 0.05  # seconds between two events, so that a busy failpoint does not keep the program busy
_MOST_CHANGES = 100  # failpoints in one event
_MOST_BYTES = 200_000  # of an event, beyond which no further failpoint is added
_STREAM_SECONDS = 10.0  # for a connection: a server that shuts down waits for it. The page opens the next one at once


class Page:
    """The page of a control plane, which shows one program."""

    def __init__(self, program: Shown) -> None:
        self._program = program
        self.sessions = Sessions()

    async def show(self, request: Request) -> Response:
        document, policy = _document()
        return Response(
            document,
            headers={
                "Content-Security-Policy": policy,
                "Cache-Control": "no-store",
                "Cross-Origin-Opener-Policy": "same-origin",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "DENY",
            },
            media_type="text/html",
        )

    # the way in

    async def hand_out_ticket(self, request: Request) -> Response:
        """Answer a client with a ticket, which lets one page in."""
        check_content_type(request, required=False)
        return json_response({"ticket": self.sessions.ticket(), "seconds": TICKET_SECONDS})

    async def open_session(self, request: Request) -> Response:
        ticket = (await _arguments(request, "ticket"))["ticket"]
        token = self.sessions.open(_text("ticket", ticket))
        if token is None:
            return error_response(*NO_SESSION)
        return json_response({"session": token})

    # while it is shown

    async def events(self, request: Request) -> Response:
        session: Session = request.scope[SESSION]
        return _EventStream(self._program, session.feed(request.headers.get("last-event-id", "")))

    async def resume(self, request: Request) -> Response:
        arguments = await _arguments(request, "name", "waiter")
        waiter = arguments["waiter"]
        if waiter is not None and type(waiter) is not int:
            raise FailpointUsageError(f"waiter must be a number or null; got {safe_repr(waiter)}")
        return json_response({"resumed": await self._program.resume(_text("name", arguments["name"]), waiter)})

    async def remove(self, request: Request) -> Response:
        name = (await _arguments(request, "name"))["name"]
        await self._program.remove(None if name is None else _text("name", name))
        return json_response(None)


def answering(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Make an endpoint answer the page that a request was wrong with status 200 and its message.

    A browser writes every other status on its console, and a typo is nothing that belongs there.
    """

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except FailpointError as error:
            return json_response({"msg": str(error)})

    return answer


async def _arguments(request: Request, *keys: str) -> dict[str, Any]:
    """Return the body of a request of the page, which is an object with exactly these keys."""
    check_content_type(request, required=True)
    given = parse_object(await read_body(request))
    if set(given) != set(keys):
        raise HTTPException(400, f"the body must be an object with exactly {', '.join(keys)}")
    return given


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise FailpointUsageError(f"{key} must be a string; got {safe_repr(value)}")
    return value


class _EventStream(Response):
    """The server-sent events of one connection: what has changed, and then each change when it happens."""

    def __init__(self, program: Shown, feed: Feed) -> None:
        super().__init__(headers={"Cache-Control": "no-store, no-transform"}, media_type="text/event-stream")
        del self.headers["content-length"]
        self._program = program
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_event(event: bytes) -> None:
            await send({"type": "http.response.body", "body": event, "more_body": True})

        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with create_task_group() as group:
            group.start_soon(_cancel_on_disconnect, receive, group.cancel_scope)
            try:
                await self._send_changes(send_event)
            except FailpointError as error:  # what it shows cannot be seen: the page tries again
                await send_event(b"event: problem\ndata: %s\n\n" % to_json({"msg": str(error)}))
            await send({"type": "http.response.body", "body": b""})
            group.cancel_scope.cancel()

    async def _send_changes(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        with self._program.following() as changes:
            pending = dict.fromkeys([*await self._program.names(), *self._feed.names()])
            hello = {**self._program.description(), "fresh": self._feed.is_new}
            await send(b"event: hello\ndata: %s\n\n" % to_json(hello))
            while pending:
                await self._send_some(pending, send)
                await checkpoint()
            await send(self._feed.complete())
            end = current_time() + _STREAM_SECONDS
            while (left := end - current_time()) > 0:
                pending.update(dict.fromkeys(await changes(0 if pending else left)))
                await self._send_some(pending, send)
                await sleep(_INTERVAL)

    async def _send_some(self, pending: dict[str, None], send: Callable[[bytes], Awaitable[None]]) -> None:
        documents: dict[str, bytes | None] = {}
        size = 0
        for name in list(islice(pending, _MOST_CHANGES)):
            del pending[name]
            documents[name] = self._program.document(name)
            size += len(documents[name] or b"")
            if size > _MOST_BYTES:
                break
        event = self._feed.changes(documents)
        if event is not None:
            await send(event)


async def _cancel_on_disconnect(receive: Receive, scope: CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


@cache
def _document() -> tuple[bytes, str]:
    """Return the HTML of the page, and a policy that allows its one style and its one script, and nothing else."""
    text = files("failpoints._http").joinpath("page.html").read_text(encoding="utf-8")
    policy = [
        "default-src 'none'",
        f"script-src {_hash(text, 'script')}",
        f"style-src {_hash(text, 'style')}",
        "img-src data:",  # the empty icon
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
    return text.encode(), "; ".join(policy)


def _hash(text: str, element: str) -> str:
    """Return the hash of the content of the only element of a kind."""
    (content,) = re.findall(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
