"""Servers with one number, for the tests of waiting: in a process of its own, over a socket or over pipes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio

_SERVE = """
import asyncio
number = 0
async def serve(reader, writer):
    global number
    while line := await reader.readline():
        if line == b"never\\n": continue
        await asyncio.sleep(0.002)  # a query takes its time
        if line != b"get\\n": number = int(line)
        writer.write(b"%d\\n" % number)
    writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""

PIPES = """
import sys, time
for line in sys.stdin:
    time.sleep(0.002)
    sys.stdout.write(line)
    sys.stdout.flush()
"""


@contextmanager
def number_server() -> Iterator[int]:
    """Run a server in another process, and return its port. It answers `get` and numbers, and never `never`."""
    process = subprocess.Popen([sys.executable, "-c", _SERVE], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


class Client:
    """A connection to a server, or to any other byte stream that answers each line with a line."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def ask(self, text: object) -> int:
        await self._stream.send(f"{text}\n".encode())
        answer = b""
        while not answer.endswith(b"\n"):
            answer += await self._stream.receive()
        return int(answer)

    async def close(self) -> None:
        await self._stream.aclose()


async def connect(port: int) -> Client:
    """Connect to the server."""
    return Client(await anyio.connect_tcp("127.0.0.1", port))
