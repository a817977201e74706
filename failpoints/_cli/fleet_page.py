"""The page of a fleet, which the command itself serves."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Final, TypeAlias

import anyio
from starlette.requests import Request
from starlette.responses import Response

from .._core.clock import now
from .._fleet.urls import without_password
from .._http.address import Address
from .._http.app import page_app
from .._http.budget import Budget
from .._http.exchange import check_content_type, json_response, read_body
from .._http.page import Page
from .._http.program import MOST_WAITERS, page_document
from .._http.server import Server
from .._http.wire import Entry, parse_entries, to_json
from ..errors import FailpointUsageError, FleetTimeout
from ..fleet import Fleet, FleetStatus, FleetWaiting

_INTERVAL: Final = 0.25  # seconds between two looks at the fleet, for a page that is shown
_DECLARED_EVERY: Final = 10.0  # seconds: to find what is declared, a member goes through all its modules

_Waiter: TypeAlias = tuple[str, str, str, str, int]


def serve_page(folder: str, announce: Callable[[str], None]) -> None:
    """Serve the page of a fleet, until this process is interrupted. *announce* gets a URL that opens it, once."""

    async def serve() -> None:
        async with Fleet(folder, lease=None) as fleet:
            shown = ShownFleet(fleet, folder)
            page = Page(shown)
            # Other users can connect, too, but not look into the folder. So only this process hands out tickets.
            server = Server(Address("127.0.0.1", 0), None, page_app(page, shown.configure, token=None))
            server.start()
            try:
                announce(f"{server.url}/#{page.sessions.ticket()}")
                await shown.follow_declared()
            finally:
                server.end()

    anyio.run(serve)


class ShownFleet:
    """The failpoints that a fleet has, with what each member did."""

    def __init__(self, fleet: Fleet, folder: str) -> None:
        self._fleet = fleet
        self._folder = folder
        self._looks = itertools.count(1)
        self._latest = 0  # the look that the following is from
        self._members = 0
        self._documents: dict[str, bytes] = {}
        self._declared: Sequence[FleetStatus] = ()
        self._pages = 0  # that are shown
        self._numbers: dict[_Waiter, int] = {}
        self._waiting: dict[tuple[str, int], FleetWaiting] = {}  # by failpoint and number
        self._next_number = itertools.count(1)

    def description(self) -> dict[str, Any]:
        """Return what identifies the fleet, and the time of day."""
        return {
            "program": f"fleet {without_password(self._folder)}",
            "members": self._members,
            "now": now().isoformat(),
        }

    async def names(self) -> list[str]:
        """Look at the folder, and return every name that is configured or declared."""
        await self._look()
        return list(self._documents)

    def document(self, name: str) -> bytes | None:
        """Return the JSON of a failpoint, or `None` if it is neither configured nor declared."""
        return self._documents.get(name)

    @contextmanager
    def following(self) -> Generator[Callable[[float], Awaitable[list[str]]]]:
        """Follow the failpoints during a block, which gets a function that waits for changes."""
        before = self._documents

        async def changes(seconds: float) -> list[str]:
            nonlocal before
            end = anyio.current_time() + seconds
            while True:
                left = end - anyio.current_time()
                await anyio.sleep(max(min(_INTERVAL, left), 0))
                await self._look()
                after = self._documents
                names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
                before = after
                if names or left <= _INTERVAL:
                    return names

        self._pages += 1
        try:
            yield changes
        finally:
            self._pages -= 1

    async def follow_declared(self) -> None:
        """Ask the members what they declare, again and again while a page is shown. Returns only by cancellation."""
        asked = -_DECLARED_EVERY
        while True:
            if self._pages and anyio.current_time() >= asked + _DECLARED_EVERY:
                asked = anyio.current_time()
                with suppress(FleetTimeout, FailpointUsageError):  # a member is stopped, or the folder is gone
                    statuses = await self._fleet.statuses(declared=True)
                    # What is only configured has no sites. It must not be shown once it is removed.
                    self._declared = [each for each in statuses if each.sites]
            await anyio.sleep(_INTERVAL)

    async def resume(self, name: str, waiter: int | None) -> int:
        """Wake one waiter of a failpoint, or all of them, and return how many were woken."""
        if waiter is None:
            return await self._fleet.resume(name)
        waiting = self._waiting.get((name, waiter))
        return 0 if waiting is None else await self._fleet.resume(name, waiter=waiting)

    async def remove(self, name: str | None) -> None:
        """Remove what is configured for a name, or everything."""
        if name is None:
            await self._fleet.reset()
        else:
            await self._fleet.remove(name)

    async def configure(self, request: Request) -> Response:
        """Answer a request that configures failpoints in all members."""
        check_content_type(request, required=True)
        budget = Budget("these entries are too much work for one request: split them over several requests")
        await self._fleet.configure_all(parse_entries(await read_body(request), budget, _parts))
        return json_response(None)

    async def _look(self) -> None:
        look = next(self._looks)
        statuses = await self._fleet.statuses()
        members = len(await self._fleet.members())
        if look > self._latest:  # else another page has looked later, and was faster
            self._latest = look
            self._members = members
            self._show(statuses)

    def _show(self, statuses: Sequence[FleetStatus]) -> None:
        numbers: dict[_Waiter, int] = {}
        shown: dict[tuple[str, int], FleetWaiting] = {}
        documents: dict[str, bytes] = {}
        equal = Counter[tuple[str, str, str, str]]()
        sites = {each.name: each.sites for each in self._declared}
        only_declared = [FleetStatus(name) for name in sites]
        for status in {each.name: each for each in (*only_declared, *statuses)}.values():
            of_status: dict[float, FleetWaiting] = {}
            for each in status.waiting[:MOST_WAITERS]:
                assert isinstance(each, FleetWaiting)
                same = (status.name, each.member, each.name, each.since.isoformat())
                equal[same] += 1
                waiter = (*same, equal[same])
                number = numbers[waiter] = self._numbers.get(waiter) or next(self._next_number)
                shown[status.name, number] = of_status[number] = each
            all_sites = tuple(sorted({*status.sites, *sites.get(status.name, ())}))
            documents[status.name] = to_json(_document(replace(status, sites=all_sites), of_status))
        self._numbers, self._waiting, self._documents = numbers, shown, documents


def _document(status: FleetStatus, waiting: dict[float, FleetWaiting]) -> dict[str, Any]:
    document = page_document(status, waiting, len(status.waiting))
    for shown, each in zip(document["waiting"], waiting.values(), strict=True):
        shown["member"] = each.member
    document["members"] = {
        member: {"hits": each.hits, "misses": each.misses, "triggers": each.triggers}
        for member, each in status.members.items()
    }
    return document


def _parts(entry: Entry) -> tuple[str, str, dict[str, Any]]:
    if entry.handle is not None:
        raise FailpointUsageError("a configuration of a fleet has no handle: leave it out")
    return entry.name, entry.actions, entry.matchers
