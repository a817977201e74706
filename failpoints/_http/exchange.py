"""Requests and responses in JSON, as every endpoint reads and writes them."""

from __future__ import annotations

from typing import Any

from anyio import move_on_after
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from .._core.messages import safe_repr
from .wire import MAX_BODY, to_json

_BODY_TIMEOUT = 30  # seconds for a body to arrive


def json_response(document: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a response with a JSON document."""
    return encoded_response(to_json(document), status, headers)


def encoded_response(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a response with JSON that is encoded already."""
    return Response(body, status, headers, media_type="application/json")


def error_response(status: int, msg: str, headers: Any = None) -> Response:
    """Return the response of an error, which has a message for a person."""
    return json_response({"msg": msg}, status, dict(headers or {}))


def check_content_type(request: Request, *, required: bool) -> None:
    """Raise a 415 unless the body is plain JSON. Without *required*, it may also be left out."""
    given = request.headers.getlist("content-type")
    if not given and not required:
        return
    if len(given) != 1 or not _is_json(given[0]):
        got = f"got {safe_repr(', '.join(given))}" if given else "it is missing"
        raise HTTPException(415, f"the Content-Type of this request must be application/json; {got}")
    encoded = request.headers.get("content-encoding", "identity")
    if encoded.strip().lower() != "identity":
        raise HTTPException(415, f"the body must be sent without Content-Encoding; got {safe_repr(encoded)}")


def _is_json(content_type: str) -> bool:
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    return kind == "application/json" and all(
        parameter.replace('"', "") in {"", "charset=utf-8", "charset=utf8"} for parameter in parameters
    )


def too_large() -> HTTPException:
    """Return the error of a body that is too large."""
    return HTTPException(413, f"a body may have at most {MAX_BODY} bytes: split the entries over several requests")


async def check_no_body(request: Request, instead: str) -> None:
    """Raise a 400 if the request has a body, which would be ignored. *instead* says where its content belongs."""
    length = request.headers.get("content-length")
    # Without a length, it is sent in chunks, or there is none.
    if length.strip("0") if length is not None else await read_body(request):
        raise HTTPException(400, f"{request.method} takes no body here: {instead}")


async def read_body(request: Request) -> bytes:
    """Return the body. Raises a 413 if it is too large, and a 400 if it does not arrive in time."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 15 or int(declared) > MAX_BODY):
        raise too_large()
    body = bytearray()
    with move_on_after(_BODY_TIMEOUT):
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise too_large()
        return bytes(body)
    raise HTTPException(400, f"the body did not arrive completely within {_BODY_TIMEOUT} s")
