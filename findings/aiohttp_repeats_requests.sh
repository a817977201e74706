#!/usr/bin/env bash
# Expected: a client sends a request once. If the server closes the connection without an answer, the caller gets an
#     exception and decides whether to try again.
# Happens: aiohttp silently sends a GET, HEAD, OPTIONS, TRACE, PUT or DELETE a second time, even if the connection was
#     new. A POST raises ServerDisconnectedError. aiohttp's own TestClient switches the repetition off.
# Why it matters: a test that loses one reply to a PUT or DELETE never reaches the caller's error path, and the server's
#     handler runs twice. Two lost replies in a row are needed. With the TestClient one is enough, so what such a test
#     shows is not what production does.
# Source: aiohttp/client.py, IDEMPOTENT_METHODS and retry_persistent_connection in ClientSession._request;
#     aiohttp/test_utils.py, TestClient.__init__.
set -euo pipefail
VERSION=3.14.5
EXPECTED="ClientSession, PUT: the server saw 2 requests, the caller got 200
ClientSession, DELETE: the server saw 2 requests, the caller got 200
ClientSession, POST: the server saw 1 requests, the caller got ServerDisconnectedError
TestClient, PUT: the server saw 1 requests, the caller got ServerDisconnectedError
TestClient, DELETE: the server saw 1 requests, the caller got ServerDisconnectedError
TestClient, POST: the server saw 1 requests, the caller got ServerDisconnectedError"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "aiohttp==$VERSION" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import asyncio

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer


async def lose_first_reply(kind, method):
    """Send a request to a server that loses its first reply."""
    seen = []

    async def handler(request):
        seen.append(request.method)
        if len(seen) == 1:
            request.transport.abort()  # the work is done, the reply is lost
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/", handler)
    async with TestServer(app, host="127.0.0.1") as server:
        client = TestClient(server) if kind is TestClient else kind(base_url=server.make_url("/"))
        async with client:
            try:
                async with client.request(method, "/") as response:
                    got = response.status
            except aiohttp.ClientError as error:
                got = type(error).__name__
    print(f"{kind.__name__}, {method}: the server saw {len(seen)} requests, the caller got {got}")


for kind in (aiohttp.ClientSession, TestClient):
    for method in ("PUT", "DELETE", "POST"):
        asyncio.run(lose_first_reply(kind, method))
PROGRAM
output=$("$work/venv/bin/python" "$work/program.py")
echo "aiohttp $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: aiohttp repeats other requests than it did"; exit 1; }
