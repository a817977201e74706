"""What the operations of queues and streams note: puts meet puts, and gets meet gets.

The n-th item that is put is the n-th one that a task gets, whichever of the two comes first. So a put and a get do not
meet: the task that gets goes on after both. In a bounded queue, likewise, the n-th put goes on after the get that
made room for it. That holds only in a line of first come, first served. Where it may not hold, everything meets.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Literal

from .primitives import Channel, Operation, Seen

Side = Literal["put", "get"]

BOTH: Final = ("put", "get")


def _other(side: Side) -> Side:
    return "get" if side == "put" else "put"


def _look(seen: Seen, thing: Any) -> None:
    if not seen.channel(thing).inside[seen.node]:
        seen.note(thing, "r", *BOTH)


def reading(of: Callable[[Any], Any] | None = None) -> Operation:
    """Return an operation that looks at a channel, unless it is part of another operation."""
    return Operation(_look, of=of)


def _write(seen: Seen, thing: Any, token: object = None) -> None:
    seen.note(thing, "w", *BOTH)


# What ends the waits of others. Each of them then notes that it has failed.
ENDS_WAITS: Final = Operation(_write, _write, _write)


# Queues: a task that was woken looks again, and another one may have been faster.


def _certain(seen: Seen, queue: Any, is_line: Callable[[Any], bool]) -> Channel:
    channel = seen.channel(queue)
    if not channel.is_irregular:
        channel.is_irregular = not is_line(queue) or len(channel.puts) - len(channel.gets) != len(queue._queue)
    return channel


def queue_waiting(side: Side, is_line: Callable[[Any], bool]) -> Operation:
    """Return the operation of `put` or `get`, which waits and then calls its sister that does not wait.

    *is_line* returns whether the items of a queue leave it in the order in which they were put.
    """

    def before(seen: Seen, queue: Any) -> None:
        channel = _certain(seen, queue, is_line)
        seen.note(queue, "w", side)
        if channel.is_irregular or channel.waiting[side] or seen.is_exact:
            seen.note(queue, "w", _other(side))  # it may overtake a task that was woken and has not run yet
        channel.waiting[side] += 1
        channel.inside[seen.node] += 1

    def leave(seen: Seen, queue: Any, token: object = None) -> None:
        channel = seen.channel(queue)
        channel.waiting[side] -= 1
        channel.inside[seen.node] -= 1

    def failed(seen: Seen, queue: Any) -> None:
        leave(seen, queue)
        seen.note(queue, "w", *BOTH)

    return Operation(before, leave, failed, BOTH)


def queue_at_once(side: Side, room: Callable[[Any], float], is_line: Callable[[Any], bool]) -> Operation:
    """Return the operation of `put_nowait` or `get_nowait`.

    *room* returns the number of items for which there is room before anything was put or gotten.
    """

    def before(seen: Seen, queue: Any) -> None:
        channel = _certain(seen, queue, is_line)
        own, others = channel.lines(side)
        number = len(own) - room(queue)
        if channel.is_irregular:
            seen.note(queue, "w", *BOTH)
        elif channel.inside[seen.node]:
            seen.split_because(channel.mark_of(others, number))
        elif number > -math.inf:
            seen.note(queue, "r", _other(side))
        seen.note(queue, "w", side)
        channel.inside[seen.node] += 1

    def after(seen: Seen, queue: Any, token: object) -> None:
        channel = seen.channel(queue)
        channel.inside[seen.node] -= 1
        channel.lines(side)[0].append(seen.mark())

    def failed(seen: Seen, queue: Any) -> None:
        seen.channel(queue).inside[seen.node] -= 1
        seen.note(queue, "w", *BOTH)

    return Operation(before, after, failed)


# Streams: an item is handed over to the task that has waited longest.


def stream_waiting(state: Callable[[Any], Any]) -> Operation:
    """Return the operation of `send` or `receive`, which calls its sister that does not wait, and then waits."""

    def before(seen: Seen, shared: Any) -> None:
        seen.channel(shared).inside[seen.node] += 1

    def after(seen: Seen, shared: Any, token: object) -> None:
        seen.channel(shared).inside[seen.node] -= 1

    def failed(seen: Seen, shared: Any) -> None:
        channel = seen.channel(shared)
        channel.inside[seen.node] -= 1
        channel.is_irregular = True
        seen.note(shared, "w", *BOTH)

    return Operation(before, after, failed, BOTH, state)


def stream_at_once(side: Side, state: Callable[[Any], Any]) -> Operation:
    """Return the operation of `send_nowait` or `receive_nowait`, which is also the request of its sister."""

    def before(seen: Seen, shared: Any) -> None:
        channel = seen.channel(shared)
        seen.note(shared, "w", side)
        if channel.is_irregular:
            seen.note(shared, "w", _other(side))
        elif seen.is_exact or (not channel.inside[seen.node] and (side == "get" or shared.max_buffer_size < math.inf)):
            seen.note(shared, "r", _other(side))

    def after(seen: Seen, shared: Any, token: object) -> None:
        channel = seen.channel(shared)
        own, others = channel.lines(side)
        number = len(own) - (shared.max_buffer_size if side == "put" else 0)
        own.append(seen.mark())
        if channel.inside[seen.node] and not channel.is_irregular:
            seen.split_because(channel.mark_of(others, number))

    def failed(seen: Seen, shared: Any) -> None:
        channel = seen.channel(shared)
        if channel.inside[seen.node]:  # it will wait
            channel.lines(side)[0].append(seen.mark())
        else:
            seen.note(shared, "w", *BOTH)

    return Operation(before, after, failed, of=state)
