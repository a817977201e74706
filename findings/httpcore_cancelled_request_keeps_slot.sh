#!/usr/bin/env bash
# Expected: a request that is cancelled, at whatever await, gives its place in the connection pool back.
# Happens: two of the awaits do not. If the task is cancelled where it goes on after the connection was made, the
#     connection stays in the pool in the state NEW, which counts as neither idle nor closed. If it is cancelled where
#     it begins to read the body of the reply, the connection stays ACTIVE. Nothing uses or closes either of them.
# Why it matters: with as many such cancellations as `max_connections`, every later request ends in `PoolTimeout`, or
#     waits for ever if the pool has no timeout. A test that cancels a request at a random time rarely hits these two
#     awaits. One that cancels it at each of them finds both within a few runs.
# Source: httpcore/_async/http11.py, handle_async_request before its `try`; httpcore/_async/connection_pool.py,
#     PoolByteStream; httpx/_models.py, Response.aread.
set -euo pipefail
EXPECTED="httpx 0.28.1, httpcore 1.0.9, anyio 4.16.0
cancelled in connect_tcp: the pool has no connection, the next request: ok
cancelled in AsyncHTTP11Connection.handle_async_request: the pool has 1 of 1 connections, NEW, the next request: PoolTimeout
cancelled in SocketStream.send: the pool has no connection, the next request: ok
cancelled in SocketStream.receive: the pool has no connection, the next request: ok
cancelled in Response.aread: the pool has 1 of 1 connections, ACTIVE, the next request: PoolTimeout"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check httpx==0.28.1 httpcore==1.0.9 anyio==4.16.0 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import asyncio
import re
from importlib.metadata import version

import httpx

PLACES = [
    "connect_tcp",
    "AsyncHTTP11Connection.handle_async_request",
    "SocketStream.send",
    "SocketStream.receive",
    "Response.aread",
]


async def serve(reader, writer):
    while await reader.readline() not in (b"\r\n", b""):
        pass
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    await reader.read()
    writer.close()


def waits_in(task):
    """Return the functions in which a task waits."""
    names, awaited = [], task.get_coro()
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        names.append(frame.f_code.co_qualname)
        awaited = awaited.cr_await
    return names


async def cancel_in(place, url):
    """Cancel a request at its first wait in a function, then make another one."""
    timeout = httpx.Timeout(10, pool=0.3)
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=1), timeout=timeout) as client:
        task = asyncio.create_task(client.get(url))
        while not any(name.startswith(place) for name in waits_in(task)):
            assert not task.done()
            await asyncio.sleep(0)
        task.cancel()
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
        connections = client._transport._pool.connections
        states = re.findall(r"NEW|ACTIVE|IDLE|CLOSED", repr(connections))
        kept = f"{len(connections)} of 1 connections, {states[0]}" if connections else "no connection"
        try:
            after = (await client.get(url)).text
        except httpx.HTTPError as error:
            after = type(error).__name__
        print(f"cancelled in {place}: the pool has {kept}, the next request: {after}")


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = "http://127.0.0.1:{}/".format(server.sockets[0].getsockname()[1])
    for place in PLACES:
        await cancel_in(place, url)


print(", ".join(f"{name} {version(name)}" for name in ("httpx", "httpcore", "anyio")))
asyncio.run(main())
PROGRAM
output=$(timeout 60 "$work/venv/bin/python" "$work/program.py" 2>"$work/errors") || { cat "$work/errors"; exit 1; }
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: cancelled requests leave the pool in another state"; exit 1; }
