#!/usr/bin/env bash
# Expected: with httpx's ASGITransport a client gets the answer that the application sends, as it would over a socket.
# Happens: it gets the answer when the application has *returned*. Background work that follows the answer delays it, and
#     an error in that work is raised by `client.get` in place of the 200 that was sent. The chunks of a stream arrive
#     together, after the last one.
# Why it matters: a failure injected after the reply, in a background task, looks to the test like a failed request, and
#     a client's retry sends the request a second time. Code that is paused in a background task keeps the client waiting
#     for an answer that it already has in production. For such tests serve the application on a socket.
# Source: httpx/_transports/asgi.py, ASGITransport.handle_async_request (awaits the application, then makes the response).
set -euo pipefail
HTTPX=0.28.1
UVICORN=0.54.0
EXPECTED="over a socket
  work of 0.5 s after the answer: 200, before its end
  an error after the answer: 200
  a stream of two chunks: the first arrives before the second is sent
ASGITransport
  work of 0.5 s after the answer: 200, after its end
  an error after the answer: OSError
  a stream of two chunks: the first arrives after the second is sent"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "httpx==$HTTPX" "uvicorn==$UVICORN" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import asyncio
import socket

import httpx
import uvicorn

done = []


async def application(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await asyncio.sleep(0.5)
        done.append("second")
        await send({"type": "http.response.body", "body": b"two"})
        return
    await send({"type": "http.response.body", "body": b"accepted"})
    if scope["path"] == "/error":
        raise OSError("disk full")
    await asyncio.sleep(0.5)
    done.append("work")


async def report(client):
    done.clear()
    answer = await client.get("/work")
    print(f"  work of 0.5 s after the answer: {answer.status_code}, {'after' if done else 'before'} its end")
    try:
        outcome = (await client.get("/error")).status_code
    except OSError as error:
        outcome = type(error).__name__
    print(f"  an error after the answer: {outcome}")
    await asyncio.sleep(0.6)  # for the work of the first request
    done.clear()
    async with client.stream("GET", "/stream") as answer:
        async for _ in answer.aiter_raw():
            print(f"  a stream of two chunks: the first arrives {'after' if done else 'before'} the second is sent")
            break


async def main():
    print("over a socket")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = uvicorn.Server(uvicorn.Config(application, lifespan="off", log_level="critical"))
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            await report(client)
        server.should_exit = True
        await serving
    print("ASGITransport")
    async with httpx.AsyncClient(base_url="http://shop", transport=httpx.ASGITransport(application)) as client:
        await report(client)


asyncio.run(main())
PROGRAM
output=$("$work/venv/bin/python" "$work/program.py")
echo "httpx $HTTPX, uvicorn $UVICORN"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: ASGITransport gives the answer at another moment"; exit 1; }
