"""The job as one of arq."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import jobs  # type: ignore[import-not-found]  # beside this file
from arq import create_pool
from arq.connections import RedisSettings


async def charge(context: dict[str, Any], order: str) -> None:
    jobs.charge(order)


async def _send(order: str) -> None:
    await (await create_pool(WorkerSettings.redis_settings)).enqueue_job("charge", order, _job_id="1")


def send(order: str) -> None:
    asyncio.run(_send(order))


class WorkerSettings:
    functions = [charge]
    redis_settings = RedisSettings(port=int(os.environ["REDIS_PORT"]))
    poll_delay = 0.02
