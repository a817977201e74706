"""The job as an actor of dramatiq."""

from __future__ import annotations

import os

import dramatiq
import jobs  # type: ignore[import-not-found]  # beside this file
from dramatiq.brokers.redis import RedisBroker

# By default, a worker is given up after a minute, and in one of a thousand rounds.
dramatiq.set_broker(
    RedisBroker(port=int(os.environ["REDIS_PORT"]), heartbeat_timeout=500, maintenance_chance=1_000_000)
)


@dramatiq.actor
def charge(order: str) -> None:
    jobs.charge(order)
