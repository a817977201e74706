"""Many requests at once."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from failpoints import failpoint
from failpoints._core.store import stores_in_force
from failpoints.asgi import FailpointsMiddleware
from failpoints.request import RequestFailpoints

REQUESTS = 10_000
SIGNED = 7_321


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.anyio
async def test_of_10_000_requests_at_once_exactly_the_signed_one_is_hit(policy: RequestFailpoints) -> None:
    """All requests are under way at the same time, and visit the failpoint after the last one has begun."""
    under_way, all_under_way = 0, anyio.Event()
    statuses: dict[int, int] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal under_way
        under_way += 1
        if under_way == REQUESTS:
            all_under_way.set()
        await all_under_way.wait()
        failed = bool(await failpoint("shop.order"))
        await send({"type": "http.response.start", "status": 503 if failed else 200, "headers": []})

    async def request(number: int) -> None:
        async def send(message: Any) -> None:
            statuses[number] = message["status"]

        token = policy.sign([("shop.order", "return")]).encode()
        headers = [(b"failpoints", token)] if number == SIGNED else [(b"accept", b"*/*")]
        await middleware({"type": "http", "headers": headers}, None, send)  # type: ignore[arg-type]

    middleware = FailpointsMiddleware(app, policy)
    async with anyio.create_task_group() as tasks:
        for number in range(REQUESTS):
            tasks.start_soon(request, number)
    assert [number for number, status in statuses.items() if status != 200] == [SIGNED]
    assert len(statuses) == REQUESTS and len(stores_in_force) == 1
