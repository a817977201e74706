#!/usr/bin/env bash
# Expected: a command whose reply is lost raises ConnectionError. The caller knows that it may or may not have run.
# Happens: redis-py sends the command again, up to ten times, and returns the last reply. An INCR then counts twice, and
#     `Lock.acquire` returns False although the lock is held by this very client. Nothing is logged. redis-py 5 raised
#     ConnectionError.
# Why it matters: a test that loses one reply never reaches the caller's error path, and the counter is wrong without an
#     error. The lock stays taken until its timeout, and nobody owns it. `Redis(retry=Retry(NoBackoff(), 0))` restores
#     the exception.
# Source: redis/asyncio/client.py, `retry` of Redis.__init__ and Redis.execute_command; redis/_defaults.py,
#     DEFAULT_RETRY_COUNT.
set -euo pipefail
VERSION=8.1.0
EXPECTED="default client, INCR: sent 2 times, returned 2, the counter is 2
default client, Lock.acquire: sent 2 times, returned False, the lock is taken
no retries, INCR: sent 1 times, raised ConnectionError, the counter is 1
no retries, Lock.acquire: sent 1 times, raised ConnectionError, the lock is taken"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "redis==$VERSION" "fakeredis==2.41.0" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import asyncio
import os
import sys
import threading

import redis.asyncio
from fakeredis import TcpFakeServer
from redis.backoff import NoBackoff
from redis.retry import Retry

server = TcpFakeServer(("127.0.0.1", 0))
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()


class Proxy:
    """Passes commands on to the server, and closes the connection in place of the first reply to INCR or SET NX."""

    def __init__(self):
        self.sent = 0

    async def serve(self, reader, writer):
        server_reader, server_writer = await asyncio.open_connection(*server.server_address)
        while command := await reader.read(65536):
            server_writer.write(command)
            reply = await server_reader.read(65536)
            if b"INCR" in command or b"NX" in command:
                self.sent += 1
                if self.sent == 1:
                    break
            writer.write(reply)
        writer.close()
        server_writer.close()


async def lose_reply(label, command, key, options):
    """Run one command, lose its first reply, and print what the caller and the server have afterwards."""
    proxy = Proxy()
    listener = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    address = dict(port=listener.sockets[0].getsockname()[1], protocol=2)
    async with redis.asyncio.Redis(**address, **options) as client:
        try:
            got = f"returned {await command(client)}"
        except redis.ConnectionError as error:
            got = f"raised {type(error).__name__}"
    async with redis.asyncio.Redis(port=server.server_address[1], protocol=2) as direct:
        value = await direct.get(key)
        await direct.flushall()
    state = f"the counter is {int(value)}" if key == "counter" else f"the lock is {'taken' if value else 'free'}"
    print(f"{label}: sent {proxy.sent} times, {got}, {state}")
    listener.close()


async def main():
    for label, options in ("default client", {}), ("no retries", {"retry": Retry(NoBackoff(), 0)}):
        await lose_reply(f"{label}, INCR", lambda client: client.incr("counter"), "counter", options)
        await lose_reply(
            f"{label}, Lock.acquire", lambda client: client.lock("lock").acquire(blocking=False), "lock", options
        )


asyncio.run(main())
sys.stdout.flush()
os._exit(0)  # the fake server's threads do not end
PROGRAM
output=$("$work/venv/bin/python" "$work/program.py")
echo "redis-py $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: redis-py repeats other commands than it did"; exit 1; }
