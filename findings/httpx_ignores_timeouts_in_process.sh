#!/usr/bin/env bash
# Expected: a client of httpx with `timeout=0.1` raises ReadTimeout if the answer takes half a second, whatever its
#     transport.
# Happens: the client only passes the limit on to its transport. ASGITransport, WSGITransport and MockTransport do not
#     look at it, so the late answer is returned as if it came in time. Over a socket the same call fails.
# Why it matters: a test that makes the application slow and expects the client to give up, retry or fall back takes the
#     successful path instead, and passes if it only checks the final result. Serve the application on a socket, put
#     `asyncio.timeout` around the call, or raise httpx.ReadTimeout in the transport.
# Source: httpx/_transports/asgi.py, wsgi.py and mock.py (`request.extensions["timeout"]` is read only in
#     httpcore, by way of _transports/default.py).
set -euo pipefail
VERSION=0.28.1
EXPECTED="over a socket: ReadTimeout
ASGITransport: 200 late
WSGITransport: 200 late
MockTransport, AsyncClient: 200 late
MockTransport, Client: 200 late"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "httpx==$VERSION" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import asyncio
import threading
import time
from wsgiref.simple_server import WSGIRequestHandler, make_server

import httpx


async def asgi(scope, receive, send):
    await asyncio.sleep(0.5)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"late"})


def wsgi(environ, start_response):
    time.sleep(0.5)
    start_response("200 OK", [("Content-Length", "4")])
    return [b"late"]


def handler(request):
    time.sleep(0.5)
    return httpx.Response(200, text="late")


async def async_handler(request):
    await asyncio.sleep(0.5)
    return httpx.Response(200, text="late")


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


server = make_server("127.0.0.1", 0, wsgi, handler_class=Quiet)
threading.Thread(target=server.serve_forever, daemon=True).start()


def get(label, transport, url="http://shop/"):
    with httpx.Client(transport=transport, timeout=0.1) as client:
        try:
            answer = client.get(url)
            print(f"{label}: {answer.status_code} {answer.text}")
        except httpx.TimeoutException as error:
            print(f"{label}: {type(error).__name__}")


async def async_get(label, transport):
    async with httpx.AsyncClient(transport=transport, timeout=0.1) as client:
        answer = await client.get("http://shop/")
        print(f"{label}: {answer.status_code} {answer.text}")


get("over a socket", httpx.HTTPTransport(), f"http://127.0.0.1:{server.server_port}/")
asyncio.run(async_get("ASGITransport", httpx.ASGITransport(asgi)))
get("WSGITransport", httpx.WSGITransport(wsgi))
asyncio.run(async_get("MockTransport, AsyncClient", httpx.MockTransport(async_handler)))
get("MockTransport, Client", httpx.MockTransport(handler))
PROGRAM
output=$("$work/venv/bin/python" "$work/program.py" 2>/dev/null)
echo "httpx $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: the limits of httpx have another effect"; exit 1; }
