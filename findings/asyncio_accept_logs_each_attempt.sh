#!/usr/bin/env bash
# Expected: an asyncio server whose process is out of file descriptors reports that it cannot accept a connection, once
#     for each attempt a second.
# Happens: one attempt calls accept() as often as the backlog is long, 100 times by default, and reports each failure.
#     A second later it tries as often again.
# Why it matters: a server that runs out of descriptors adds 100 lines a second to its log, and the first one has
#     said it all. A listening socket whose accept() raises BlockingIOError after the first failure ends the loop.
# Source: asyncio/selector_events.py, BaseSelectorEventLoop._accept_connection.
set -euo pipefail
EXPECTED="within half a second: 100 reports"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/program.py" <<'PROGRAM'
import asyncio
import os
import resource
import socket


async def main():
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context["message"]))
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    client = socket.socket()
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    client.connect(server.sockets[0].getsockname())
    await asyncio.sleep(0.5)
    print("within half a second:", len(reports), "reports")
    print(end="", flush=True)
    os._exit(0)


asyncio.run(main())
PROGRAM
output=$(python3 "$work/program.py")
python3 --version
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "the behaviour has changed; expected:"; echo "$EXPECTED"; exit 1; }
