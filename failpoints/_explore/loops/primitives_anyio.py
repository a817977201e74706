"""What the primitives of anyio note that are the same on each backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio
from anyio.streams.memory import (
    MemoryObjectReceiveStream,
    MemoryObjectSendStream,
    _MemoryObjectStreamState,  # pyright: ignore[reportPrivateUsage]
)

from .primitives import EXCLUSIVE, Patches
from .primitives_channels import ENDS_WAITS, reading, stream_at_once, stream_waiting


def state_of(stream: Any) -> Any:
    """Return what the ends of a stream, or of a channel of trio, have in common."""
    return stream._state


def install_anyio(patches: Patches) -> None:
    """Wrap the primitives of anyio that are built on other ones."""
    condition: Any = anyio.Condition
    patches.created(condition)
    patches.quiet(condition._check_acquired)
    patches.asynchronous(condition, "wait", EXCLUSIVE)
    patches.sync(condition, "notify notify_all", EXCLUSIVE)
    patches.created(_MemoryObjectStreamState)
    install_stream(patches, MemoryObjectSendStream, MemoryObjectReceiveStream)


def install_stream(patches: Patches, sender: Any, receiver: Any) -> None:
    """Wrap the two ends of a stream."""
    patches.asynchronous(sender, "send", stream_waiting(state_of))
    patches.sync(sender, "send_nowait", stream_at_once("put", state_of))
    patches.asynchronous(receiver, "receive", stream_waiting(state_of))
    patches.sync(receiver, "receive_nowait", stream_at_once("get", state_of))
    for end in (sender, receiver):
        patches.sync(end, "close clone", replace(ENDS_WAITS, of=state_of))
        patches.sync(end, "statistics", reading(state_of))
