"""What the primitives of asyncio note, and those of anyio on asyncio."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import anyio._backends._asyncio as anyio_asyncio

from .primitives import (
    ACQUIRE,
    CLEAR,
    EXCLUSIVE,
    IS_SET,
    LOOK_AT_LOCK,
    READING,
    RELEASE,
    Patches,
    install_limiters,
    install_lock,
    noting,
    set_and_wait,
)
from .primitives_anyio import install_anyio
from .primitives_channels import ENDS_WAITS, queue_at_once, queue_waiting, reading
from .primitives_tasks import install_tasks


def install(patches: Patches) -> None:
    """Wrap the primitives of asyncio, and those of anyio on asyncio."""
    _install_asyncio(patches)
    _install_queues(patches)
    _install_backend_of_anyio(patches)
    install_anyio(patches)
    install_tasks(patches)


def _inner_event(event: Any) -> Any:
    return event._event


_SET, _WAIT = set_and_wait("_value")


def _install_asyncio(patches: Patches) -> None:
    patches.created(asyncio.Lock)
    patches.asynchronous(asyncio.Lock, "acquire", ACQUIRE)
    patches.sync(asyncio.Lock, "release", RELEASE)
    patches.sync(asyncio.Lock, "locked", LOOK_AT_LOCK)
    patches.created(asyncio.Event)
    patches.sync(asyncio.Event, "set", _SET)
    patches.sync(asyncio.Event, "clear", CLEAR)
    patches.sync(asyncio.Event, "is_set", IS_SET)
    patches.asynchronous(asyncio.Event, "wait", _WAIT)
    for primitive in (asyncio.Condition, asyncio.Semaphore, asyncio.Barrier):
        patches.created(primitive)
        patches.asynchronous(primitive, "acquire wait reset abort", EXCLUSIVE)
        patches.sync(primitive, "release notify notify_all", EXCLUSIVE)
        patches.sync(primitive, "locked", READING)
        patches.properties(primitive, "n_waiting broken", READING)
    patches.sync(asyncio.BoundedSemaphore, "release", EXCLUSIVE)


def _room(queue: Any) -> float:
    return queue._maxsize if queue._maxsize > 0 else math.inf


def _no_room(queue: Any) -> float:
    return 0


_queue: Any = asyncio.Queue
_get, _put = _queue._get, _queue._put


def _is_line(queue: Any) -> bool:
    """Return whether items leave a queue in the order in which they were put."""
    kind: Any = queue.__class__
    return kind._get is _get and kind._put is _put


def _install_queues(patches: Patches) -> None:
    queue = asyncio.Queue
    patches.created(queue)
    patches.asynchronous(queue, "put", queue_waiting("put", _is_line))
    patches.asynchronous(queue, "get", queue_waiting("get", _is_line))
    patches.sync(queue, "put_nowait", queue_at_once("put", _room, _is_line))
    patches.sync(queue, "get_nowait", queue_at_once("get", _no_room, _is_line))
    patches.sync(queue, "qsize empty full", reading())
    patches.sync(queue, "shutdown", ENDS_WAITS)
    patches.sync(queue, "task_done", noting("w", "put"))  # which meets a put, since that has one more task to do
    patches.asynchronous(queue, "join", noting("w", "put"))


def _install_backend_of_anyio(patches: Patches) -> None:
    patches.quiet(anyio_asyncio.Event.wait)  # which looks whether it is set
    patches.quiet(anyio_asyncio.Event.is_set)
    patches.sync(anyio_asyncio.Event, "is_set", replace(IS_SET, of=_inner_event))
    patches.asynchronous(anyio_asyncio.Event, "wait", replace(_WAIT, of=_inner_event))
    install_lock(patches, anyio_asyncio.Lock)
    install_limiters(patches, anyio_asyncio.Semaphore, anyio_asyncio.CapacityLimiter)
