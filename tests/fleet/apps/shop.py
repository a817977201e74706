"""A web program for every kind of server. A path is the name of a failpoint, which the request visits."""

from __future__ import annotations

import json
import os
from typing import Any

from failpoints import Return, failpoint

VERSION = 1


def answer(path: str) -> bytes:
    outcome = failpoint(path.strip("/") or "index").hit()
    value = outcome.value if isinstance(outcome, Return) else None
    return json.dumps({"pid": os.getpid(), "value": value, "version": VERSION}).encode()


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = answer(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    body = answer(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
