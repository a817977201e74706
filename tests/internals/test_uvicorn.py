"""What the control plane takes for granted about uvicorn and h11."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import h11
import pytest
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.server import ServerState

pytestmark = pytest.mark.internals


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request with 204."""
    await receive()
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def test_a_protocol_serves_without_a_server() -> None:
    """`H11Protocol` needs a loaded config and a `ServerState`, in which it enters its connections and tasks."""
    bad: list[str] = []
    protocols: list[Protocol] = []
    completed: list[bool] = []

    class Protocol(H11Protocol):
        def __init__(self, config: Config, state: ServerState) -> None:
            super().__init__(config, state, {})
            self.logger = logging.getLogger("internals")
            self.access_log = False
            protocols.append(self)

        def on_response_complete(self) -> None:
            completed.append(self.cycle.response_complete)
            super().on_response_complete()

        def send_400_response(self, msg: str) -> None:
            bad.append(msg)
            for event in h11.Response(status_code=400, headers=[("connection", "close")]), h11.EndOfMessage():
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

    async def main() -> None:
        config = Config(application, http="h11", ws="none", lifespan="off", log_config=None)
        config.load()
        state = ServerState()
        assert (state.connections, state.tasks) == (set(), set())
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Protocol(config, state), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()[:2]

        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 204 No Content\r\n"
        [protocol] = protocols
        assert completed == [True]
        assert STATUS_PHRASES[408] == b"Request Timeout"
        assert state.connections == {protocol}
        assert all(isinstance(task, asyncio.Task) for task in state.tasks)
        assert protocol.conn.trailing_data == (b"", False)
        protocol.flow.resume_reading()
        protocol.transport.abort()
        writer.close()
        await reader.read()

        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"no request\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 400 \r\n"
        assert len(bad) == 1
        writer.close()
        await reader.read()
        server.close()
        while state.connections:  # noqa: ASYNC110 - the protocol does not signal that its connection is lost
            await asyncio.sleep(0)

    asyncio.run(main())
