"""The verbs of the command that drive another process, over its control plane."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, TypeVar

import anyio

from .._core.messages import did_you_mean
from .._core.status import FailpointStatus
from .._http.wire import status_document
from ..errors import FailpointTimeout, FailpointUsageError

if TYPE_CHECKING:
    from ..client import FailpointsClient  # and httpx with it, which some verbs do without

_BETWEEN_LOOKS = 0.25  # seconds

_Answer = TypeVar("_Answer")


class AnswerIsNo(Exception):
    """The control plane was asked, and it is not so: a sentence."""


class Remote:
    """A control plane, asked one verb at a time: each method is a verb, and raises `AnswerIsNo` or `FailpointError`."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        self._token = token

    def ask(self, verb: Callable[[FailpointsClient], Awaitable[_Answer]]) -> _Answer:
        """Have the verb done with a client of its own."""
        from ..client import FailpointsClient

        async def asked() -> _Answer:
            async with FailpointsClient(self._url, token=self._token) as client:
                return await verb(client)

        return anyio.run(asked)

    def statuses(self) -> list[FailpointStatus]:
        """Everything that is configured."""
        return self.ask(lambda client: client.statuses())

    def configure(self, name: str, actions: str, context: Mapping[str, str] | None) -> bool:
        """Have a failpoint do something; whether the program has come by a site of that name."""

        async def verb(client: FailpointsClient) -> bool:
            await client.configure(name, actions, context=context)
            try:
                return bool((await client.status(name)).sites)
            except FailpointUsageError:  # it has come by it, and has ended of it
                return True

        return self.ask(verb)

    def remove(self, name: str) -> None:
        """End one, if it is configured."""

        async def verb(client: FailpointsClient) -> None:
            await _check_configured(client, name)
            await client.remove(name)

        self.ask(verb)

    def reset(self) -> None:
        """End all of them."""
        self.ask(lambda client: client.reset())

    def resume(self, name: str) -> int:
        """Wake who waits, if anybody does."""

        async def verb(client: FailpointsClient) -> int:
            woken = await client.resume(name)
            if not woken:
                await _check_configured(client, name)
                raise AnswerIsNo(f"nobody waits at failpoint {name!r}")
            return woken

        return self.ask(verb)

    def wait(self, name: str, hits: int | None, paused: int | None, timeout: float) -> None:
        """Wait until it is hit so often, or so many wait at it."""

        async def verb(client: FailpointsClient) -> None:
            try:
                if paused is None:
                    await client.wait_until_hit(name, hits or 1, timeout=timeout)
                else:
                    await client.wait_until_paused(name, paused, timeout=timeout)
            except FailpointTimeout as error:
                raise AnswerIsNo(str(error)) from None
            except FailpointUsageError as error:
                if any(status.name == name for status in await client.statuses()):
                    raise
                raise AnswerIsNo(str(error)) from None  # it is not configured, or was removed meanwhile

        self.ask(verb)

    def watch(self, show: Callable[[list[FailpointStatus]], None]) -> None:
        """Show everything that is configured, now and after every change, until there is no answer any more."""

        async def verb(client: FailpointsClient) -> None:
            async for statuses in _changes(client):
                show(statuses)

        with _ended_by_sigterm():
            self.ask(verb)

    def watch_live(self, show: Callable[[list[FailpointStatus], str | None], None]) -> None:
        """Show it all the time, with the reason where there is no answer: the program may be there again soon."""

        async def verb(client: FailpointsClient) -> None:
            statuses = await client.statuses()
            trouble: str | None = None
            while True:
                show(statuses, trouble)
                await anyio.sleep(_BETWEEN_LOOKS)
                try:
                    statuses, trouble = await client.statuses(), None
                except FailpointUsageError as error:
                    statuses, trouble = [], str(error)

        with _ended_by_sigterm():
            self.ask(verb)


async def _check_configured(client: FailpointsClient, name: str) -> None:
    known = [status.name for status in await client.statuses()]
    if name not in known:
        raise AnswerIsNo(f"failpoint {name!r} is not configured{did_you_mean(name, known)}")


async def _changes(client: FailpointsClient) -> AsyncIterator[list[FailpointStatus]]:
    before: list[FailpointStatus] | None = None
    while True:
        statuses = await client.statuses()
        if statuses != before:
            yield statuses
            before = statuses
        await anyio.sleep(_BETWEEN_LOOKS)


def statuses_as_json(statuses: list[FailpointStatus], *, indent: int | None = None) -> str:
    """What a script reads: an array of the documents that the control plane sends, in ASCII."""
    return json.dumps([status_document(status) for status in statuses], indent=indent)


@contextmanager
def _ended_by_sigterm() -> Generator[None]:
    """A SIGTERM leaves the block as Ctrl-C does, so that the terminal is left in order."""

    def end(*_: object) -> NoReturn:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
