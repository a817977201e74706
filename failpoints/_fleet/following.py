"""What runs on the loop of a member on a server: it shows what is new, takes counts, and follows the log."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import anyio
from coredis import Redis

from . import scripts
from .link import ANSWER, Server, Signal
from .seat import BEAT, ServerSeat

_SHOWN: Final = 0.005  # seconds between two times that a member shows what is new
_READ: Final = 5.0  # seconds for which the log is waited at


class Following:
    """Follows a fleet for one member: a `Loop`.

    Args:
        server: The server.
        key: Returns the keys of names.
    """

    def __init__(self, server: Server, key: Callable[..., list[str]]) -> None:
        self._server = server
        self._key = key
        self.seat: ServerSeat | None = None
        self.is_closed = False
        self._dirty: Signal | None = None
        self._asked: Signal | None = None
        self._timed: Signal | None = None

    # from any thread

    def signal_news(self) -> None:
        if self._dirty is not None:
            self._dirty.set()

    def signal_counts(self) -> bool:
        for signal in (self._asked, self._timed):
            if signal is not None:
                signal.set()
        return not self.is_closed

    def forget(self, seat: ServerSeat) -> None:
        if self.seat is seat:
            self.seat = None

    # on the loop

    async def probe(self, redis: Redis[str]) -> None:
        """Raise an exception if the keys are on another node of a cluster."""
        await scripts.LOOK.run(redis, self._key("state", "members", "beats", "owners"), [""])

    async def work(self, redis: Redis[str]) -> None:
        """Follow the fleet while there is a connection."""
        if self.seat is not None:
            self.seat.begin_again()
        async with anyio.create_task_group() as group:
            group.start_soon(self._show_again_and_again, redis)
            group.start_soon(self._take_counts, redis)

    async def watch(self) -> None:
        """Give up the counts that take too long, whether there is a connection or not."""
        self._timed = timed = Signal()
        while True:
            seat = self.seat
            await timed.wait(seat.expire() if seat is not None else math.inf)

    async def show(self, redis: Redis[str], seat: ServerSeat) -> list[Any]:
        """Show what a member has, and take in the state. Returns nothing if it is not a member any more."""
        version = seat.version  # first: what comes now is shown next time
        text, report, answers = seat.news()
        keys = self._key("state", "members", "beats", "owners", "reports", "log")
        keys += self._key(*(f"answers:{command}" for command in answers))
        arguments: list[str | int | float] = [seat.name, seat.revision or "", text, report]
        reply: list[Any] = await scripts.SHOW.run(redis, keys, [*arguments, *answers.values()])
        if reply:
            seat.note_shown(version, text, report, answers)
        seat.receive(reply)
        return reply

    async def _show_again_and_again(self, redis: Redis[str]) -> None:
        signal = Signal()
        log: anyio.CancelScope | None = None
        followed: ServerSeat | None = None
        async with anyio.create_task_group() as group:
            while True:
                seat = self.seat
                self._dirty = signal
                if seat is not None and not seat.is_lost:
                    version = seat.version
                    with anyio.fail_after(ANSWER):
                        reply = await self.show(redis, seat)
                    if followed is not seat and reply:
                        if log is not None:
                            log.cancel()
                        log, followed = anyio.CancelScope(), seat
                        group.start_soon(self._follow_log, seat, reply[4], log)
                    await anyio.sleep(_SHOWN)
                    if seat.version != version:
                        continue
                await signal.wait(seat.beat() if seat is not None else BEAT)

    async def _follow_log(self, seat: ServerSeat, last: str, scope: anyio.CancelScope) -> None:
        (log,) = self._key("log")
        with scope:
            async with self._server.connected() as redis:  # a read that blocks wants a connection of its own
                while True:
                    with anyio.fail_after(_READ + ANSWER):
                        got = await redis.xread({log: last}, block=int(_READ * 1000))
                    for entry in (entry for entries in (got or {}).values() for entry in entries):
                        last = str(entry.identifier)
                        values = {str(name): str(value) for name, value in entry.field_values.items()}
                        if "revision" in values:  # it is acknowledged once it is in force
                            now = int(values["now"])
                            seat.receive([values["revision"], values["document"], values["owners"], now])
                        else:
                            seat.wake()
                            seat.changed()

    async def _take_counts(self, redis: Redis[str]) -> None:
        keys = self._key("counts", "draws")
        self._asked = asked = Signal()
        while True:
            seat = self.seat
            draws = seat.draws() if seat is not None else []
            if seat is None or not draws:
                await asked.wait()
                continue
            arguments: list[str | int | float] = [seat.name]
            for draw in draws:
                arguments += [draw.number, draw.field, draw.times]
            with anyio.fail_after(ANSWER):
                results = await scripts.TAKE.run(redis, keys, arguments)
            for draw, result in zip(draws, results, strict=True):
                seat.answer(draw, granted=bool(result))
