"""A running program as the verbs see it: one request to it after another."""

from __future__ import annotations

import itertools
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar

import anyio

from .._core.messages import did_you_mean, nearest
from .._core.status import FailpointStatus
from .._http.wire import status_document
from ..errors import FailpointTimeout, FailpointUsageError
from .endings import AnswerIsNo
from .text import shown_sites

if TYPE_CHECKING:
    from ..client import FailpointsClient  # imports httpx, which may not be installed

_POLL_INTERVAL = 0.25  # seconds
_DECLARED_EVERY = 20  # looks: to find what is declared, a program goes through all its modules

_Result = TypeVar("_Result")
_Client = TypeVar("_Client", bound="Verbs")


class Verbs(Protocol):
    """What a control plane and a fleet have in common."""

    async def status(self, name: str) -> FailpointStatus: ...
    async def statuses(self) -> Sequence[FailpointStatus]: ...
    async def remove(self, name: str) -> None: ...
    async def reset(self) -> None: ...
    async def resume(self, name: str, *, context: Mapping[str, str] | None = None, tasks: int | None = None) -> int: ...
    async def wait_until_hit(self, name: str, hits: int = 1, *, timeout: float | None = None) -> None: ...
    async def wait_until_paused(self, name: str, tasks: int = 1, *, timeout: float | None = None) -> None: ...


class Program(Generic[_Client]):
    """A program that is driven through a client, which *ask* opens for one request after the other.

    Each method is a verb. They raise `AnswerIsNo` and `FailpointError`, as a user wants to read them.
    """

    def ask(self, request: Callable[[_Client], Awaitable[_Result]]) -> _Result:
        """Run *request* with a client of its own, and return its result."""
        raise NotImplementedError

    async def _declared(self, client: _Client) -> Sequence[FailpointStatus]:
        """Return what is configured or declared."""
        raise NotImplementedError

    async def _advice(self, client: _Client, name: str) -> Sequence[str]:
        """Return what may help after a wait for a failpoint that has timed out, beside the message."""
        return ()

    def remove(self, name: str) -> None:
        """Remove the configuration of a failpoint, which must be configured."""

        async def request(client: Verbs) -> None:
            await _check_configured(client, name)
            await client.remove(name)

        self.ask(request)

    def reset(self) -> None:
        """Remove the configuration of every failpoint."""
        self.ask(lambda client: client.reset())

    def resume(self, name: str, context: Mapping[str, str] | None, tasks: int | None) -> int:
        """Wake what waits at a failpoint, and return how many tasks and threads were woken, at least 1.

        *context* and *tasks* limit it as in `FailpointsClient.resume`.
        """

        async def request(client: Verbs) -> int:
            woken = await client.resume(name, context=context, tasks=tasks)
            if not woken:
                await _check_configured(client, name)
                waiting = len((await client.status(name)).waiting)
                if context and waiting:
                    tasks_wait = "1 task waits" if waiting == 1 else f"{waiting} tasks wait"
                    raise AnswerIsNo(f"{tasks_wait} at failpoint {name!r}, none with such a context")
                raise AnswerIsNo(f"nothing is waiting at failpoint {name!r}")
            return woken

        return self.ask(request)

    def wait(self, name: str, hits: int | None, paused: int | None, timeout: float) -> None:
        """Wait until the failpoint was hit *hits* times, or *paused* tasks are waiting there."""

        async def request(client: _Client) -> None:
            try:
                if paused is None:
                    await client.wait_until_hit(name, hits or 1, timeout=timeout)
                else:
                    await client.wait_until_paused(name, paused, timeout=timeout)
            except FailpointTimeout as error:
                raise AnswerIsNo("\n".join([str(error), *await self._advice(client, name)])) from None
            except FailpointUsageError as error:
                if any(status.name == name for status in await client.statuses()):
                    raise
                raise AnswerIsNo(str(error)) from None  # not configured, or removed during the wait

        self.ask(request)

    def watch(self, show: Callable[[Sequence[FailpointStatus]], None]) -> None:
        """Call *show* with every status, now and after each change, until the program cannot be reached."""

        async def request(client: Verbs) -> None:
            async for statuses in _changes(client):
                show(statuses)

        with _exit_on_sigterm():
            self.ask(request)

    def watch_live(self, show: Callable[[Sequence[FailpointStatus], str | None], None]) -> None:
        """Call *show* at every interval, forever.

        While nothing is configured, it gets what the program declares. Its second argument is the error message while
        the program cannot be reached: it may be restarting.
        """

        async def request(client: _Client) -> None:
            statuses: Sequence[FailpointStatus] = await client.statuses()
            declared: Sequence[FailpointStatus] = ()
            problem: str | None = None
            for look in itertools.count():
                try:
                    if not statuses and problem is None and look % _DECLARED_EVERY == 0:
                        declared = await self._declared(client)
                    show(statuses or (() if problem else declared), problem)
                    await anyio.sleep(_POLL_INTERVAL)
                    statuses, problem = await client.statuses(), None
                except FailpointUsageError as error:
                    statuses, problem = [], str(error)

        with _exit_on_sigterm():
            self.ask(request)


class RemoteProgram(Program["FailpointsClient"]):
    """A program that is driven over its control plane."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        self._token = token

    def ask(self, request: Callable[[FailpointsClient], Awaitable[_Result]]) -> _Result:
        """Run *request* with a client of its own, and return its result."""
        from ..client import FailpointsClient

        async def with_client() -> _Result:
            async with FailpointsClient(self._url, token=self._token) as client:
                return await request(client)

        return anyio.run(with_client)

    def statuses(self, *, declared: bool = False) -> Sequence[FailpointStatus]:
        """Return the status of every configured failpoint, and with *declared* of those that are only declared."""
        return self.ask(lambda client: client.statuses(declared=declared))

    async def _declared(self, client: FailpointsClient) -> Sequence[FailpointStatus]:
        return await client.statuses(declared=True)

    def page_url(self) -> str:
        """Return a URL that opens the page of the program in a browser, once."""
        return self.ask(lambda client: client.page_url())

    def configure(
        self, name: str, actions: str, context: Mapping[str, str] | None, duration: float | None = None
    ) -> str | None:
        """Configure a failpoint, and return a note if the program has no site of that name so far."""
        if duration is not None:
            raise FailpointUsageError("--for needs --fleet: the control plane of one process ends nothing by itself")

        async def request(client: FailpointsClient) -> str | None:
            await client.configure(name, actions, context=context)
            try:
                if (await client.status(name)).sites:
                    return None
                missing = missing_site(name, await client.statuses(declared=True), "the program has")
                return None if missing is None else f"note: {missing}"
            except FailpointUsageError:  # the program reached the site, and exited there
                return None

        return self.ask(request)


def missing_site(name: str, statuses: Sequence[FailpointStatus], who_has: str) -> str | None:
    """Return a sentence that *name* is not declared, and what the most similar declared name is; `None` if it is."""
    declared = {status.name: status.sites for status in statuses if status.sites}
    if name in declared:
        return None
    near = nearest(name, declared)
    hint = "" if near is None else f"; did you mean {near!r}, declared at {shown_sites(declared[near])}?"
    return f"{name!r} is not in any module that {who_has} imported so far{hint}"


async def _check_configured(client: Verbs, name: str) -> None:
    known = [status.name for status in await client.statuses()]
    if name not in known:
        raise AnswerIsNo(f"failpoint {name!r} is not configured{did_you_mean(name, known)}")


async def _changes(client: Verbs) -> AsyncIterator[Sequence[FailpointStatus]]:
    before: Sequence[FailpointStatus] | None = None
    while True:
        statuses = await client.statuses()
        if statuses != before:
            yield statuses
            before = statuses
        await anyio.sleep(_POLL_INTERVAL)


def statuses_as_json(statuses: Sequence[FailpointStatus], *, indent: int | None = None) -> str:
    """Return statuses as `--json` prints them: an array of the documents that the control plane sends, in ASCII.

    Those of a fleet have the members, too.
    """
    return json.dumps([_document(status) for status in statuses], indent=indent)


def _document(status: FailpointStatus) -> dict[str, Any]:
    document = status_document(status)
    members: Mapping[str, FailpointStatus] | None = getattr(status, "members", None)
    if members is not None:
        document["members"] = {member: status_document(each) for member, each in members.items()}
    return document


@contextmanager
def _exit_on_sigterm() -> Generator[None]:
    """Make SIGTERM raise `SystemExit` inside the block, so that the cursor is shown again."""

    def end(*_: object) -> NoReturn:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
