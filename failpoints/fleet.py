"""Many processes as one: configure failpoints in all processes of a program, and see what they do there."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Self, cast

import anyio

from ._core.actions import Actions
from ._core.clock import monotonic
from ._core.context import GivenMatchers
from ._core.diagnosis import describe_waiting, format_facts, main_facts
from ._core.limits import limited
from ._core.log import logger
from ._core.messages import did_you_mean, safe_repr
from ._core.reachability import reachable_terms
from ._core.status import FailpointStatus
from ._core.validation import check_count, check_name, entry_parts, seconds
from ._core.waits import DEFAULT_LIMIT
from ._core.watches import Watch
from ._fleet.engine import Engine
from ._fleet.place import Reports, Seen, member_name
from ._fleet.state import Command, Entry, State
from ._fleet.status import FleetStatus, FleetWaiting, refusals, status_of_fleet
from ._fleet.urls import parse_url
from ._http.wire import entry_document, matchers_document
from .errors import FailpointTimeout, FailpointUsageError, FleetTimeout

__all__ = ["Fleet", "FleetHandle", "FleetStatus", "FleetWaiting"]

_FIRST_LOOK: Final = 0.0005  # seconds until it is looked again whether something has happened
_LAST_LOOK: Final = 0.01  # seconds between two looks, once it takes long
_AFTER_ERROR: Final = 2.0  # seconds to remove a configuration after another error
_REPORTED: Final = 0.3  # seconds for the reports of members to be as new as their counts


class Fleet:
    """All processes that were started with the same `FAILPOINTS_FLEET`, for tests and tools.

    It is an async context manager, on asyncio and trio, with the verbs of `Registry`. They act on all members: the
    processes whose environment has `FAILPOINTS_FLEET`, and that have imported the package. A process that joins later
    has what is configured from its first visit on. Counts are of the fleet: `1*exit(9)` ends one process.

    Leaving the block removes what it has configured. If this process is killed, the members do that, at once. If it is
    stopped, or the fleet is on a server, they do it after *lease* seconds.

    Args:
        url: The absolute path of a folder, which is made if it is not there. It belongs to this user alone, because
            anyone who can write there can end the processes. Or a server, such as `redis://HOST:6379/0?fleet=shop`.
        lease: Seconds after which the members end what it has configured, if this process does not show that it is
            running. `None` leaves it configured until it is removed, also after the block.

    Raises:
        FailpointUsageError: On construction, if *url* is not the URL of a fleet, or *lease* is not a number. From
            every verb: outside the block, and if the folder is gone, damaged, full, or not of a fleet of this user, or
            the server cannot be reached or refuses.

    >>> from failpoints.fleet import Fleet
    >>> async def crash_one_worker(folder: str) -> None:
    ...     async with Fleet(folder) as fleet:
    ...         await fleet.configure("charge.before_ack", "1*exit(9)")  # every worker has it, and one dies of it
    ...         await fleet.wait_until_hit("charge.before_ack", timeout=30)
    """

    def __init__(self, url: str | os.PathLike[str], *, lease: float | None = 30.0) -> None:
        self._place = parse_url(url, "the fleet's URL")
        if lease is not None and not _is_duration(lease):
            raise FailpointUsageError(f"lease must be a number of seconds above 0, or None; got {safe_repr(lease)}")
        self._lease = lease
        self._owner: str | None = None
        self._entered: Engine | None = None

    def __repr__(self) -> str:
        return f"<Fleet in {self._place}>"

    async def __aenter__(self) -> Self:
        if self._entered is not None:
            raise FailpointUsageError("this Fleet is already entered; make one for each block")
        engine = Engine(self._place)
        self._owner = await engine.open(self._lease)
        self._entered = engine
        return self

    async def __aexit__(self, *exception: object) -> None:
        with anyio.CancelScope(shield=True):
            try:
                if self._owner is not None:
                    await self._remove(lambda entry: entry.owner == self._owner)
            except FailpointUsageError as error:  # then the members end it, as soon as the owner is gone
                logger.warning("failpoints fleet: leaving it: %s", error)
            except FleetTimeout as error:
                logger.warning("failpoints fleet: %s", error)
            finally:
                engine, self._entered = self._engine, None
                await engine.close()

    @property
    def _engine(self) -> Engine:
        if self._entered is None:
            raise FailpointUsageError(
                f"this Fleet in {self._place} has not been entered: write async with Fleet(…) as fleet:"
            )
        return self._entered

    # configuring

    async def configure(
        self,
        name: str,
        actions: Actions,
        *,
        context: GivenMatchers | None = None,
        duration: float | None = None,
        timeout: float = 10,
    ) -> None:
        """Configure a failpoint in all members. Returns once each of them has acknowledged that it is in force there.

        Takes what `Registry.configure` takes, but only what has a text form: no `Call`, no predicate, and no `Return`
        of anything but a `str` or `None`.

        Args:
            name: The failpoint.
            actions: What it does.
            context: The matchers.
            duration: Seconds after which the members end it; `None` for no limit.
            timeout: Seconds for all members to acknowledge it.

        Raises:
            FleetTimeout: A member has not acknowledged it in time. It stays configured, so the member has it as soon as
                it goes on.
            FailpointUsageError: A member refuses it. Then it is not configured in any other
                either, and what it was to replace is in force. Or an argument has
                a wrong type or no text form.
            ActionSyntaxError: *actions* cannot be parsed.
            FailpointNameError: *name*, or a pattern in *context*, is invalid.
        """
        await self._configure([(name, actions, context)], timeout, duration=duration)

    async def configure_all(
        self,
        entries: Iterable[tuple[str, Actions] | tuple[str, Actions, GivenMatchers | None]],
        *,
        timeout: float = 10,
    ) -> None:
        """Configure several failpoints at the same moment: all of them or, on any error but `FleetTimeout`, none.

        Takes what `Registry.configure_all` takes, and raises what `configure` raises.
        """
        await self._configure([tuple(parts) for parts in entry_parts(entries)], timeout)

    @asynccontextmanager
    async def configured(
        self, name: str, actions: Actions, *, context: GivenMatchers | None = None, timeout: float = 10
    ) -> AsyncGenerator[FleetHandle, None]:
        """Configure a failpoint for the duration of an `async with` block, which gets a `FleetHandle`.

        The handle is about this configuration alone. Leaving the block removes it, wakes everything waiting there, and
        puts back in force what it had replaced. Entering raises what `configure` raises, and `FailpointUsageError` for
        a term that nothing can reach, as in `sleep(200)->raise(OSError)`.
        """
        __tracebackhide__ = True
        reachable_terms(name, actions)
        (entry,) = await self._configure([(name, actions, context)], timeout, block=True)
        handle = FleetHandle(
            name,
            _Verbs(
                partial(self._status, name, entry.serial),
                partial(self._wait, name, only=entry.serial),
                partial(self._resume, name, only=entry.serial),
                partial(self._remove, lambda each: each.serial == entry.serial),
            ),
        )
        try:
            yield handle
        except BaseException:
            with anyio.CancelScope(shield=True), suppress(FleetTimeout, FailpointUsageError):
                await handle.remove(timeout=_AFTER_ERROR)
            raise
        with anyio.CancelScope(shield=True):
            await handle.remove()

    async def _configure(
        self, given: list[tuple[Any, ...]], timeout: float, *, duration: float | None = None, block: bool = False
    ) -> list[Entry]:
        limit = seconds(timeout)
        if duration is not None and not _is_duration(duration):
            raise FailpointUsageError(f"duration must be a number of seconds above 0; got {safe_repr(duration)}")
        until = None if duration is None else await self._engine.time() + duration
        documents = [entry_document(*parts) for parts in given]
        entries = [
            Entry(
                serial=0,
                name=document["name"],
                actions=document["actions"],
                matchers=document.get("context_matchers", {}),
                owner=self._owner,
                lease=self._lease or 0,
                span=duration,
                until=until,
                block=True,  # until no member refuses it
            )
            for document in documents
        ]
        state = await self._engine.change(lambda state: state.with_entries(entries))
        made = [entry for entry in state.entries if entry.serial > state.numbers - len(entries)]
        serials = frozenset(entry.serial for entry in made)
        try:
            await self._acknowledged(state, limit)
        except FleetTimeout:
            if not block:
                await self._engine.change(lambda state: state.settled(serials))
            raise
        seen = await self._engine.seen()
        refused = (record.refused for member in seen.members.values() for record in member.records.values())
        problems = refusals(made, seen, await self._engine.reports(seen)) if any(refused) else {}
        if problems:
            await self._remove(lambda entry: entry.serial in serials, limit)
            raise FailpointUsageError("; ".join(f"member {member} refuses: {why}" for member, why in problems.items()))
        if not block and state.settled(serials) is not state:
            await self._engine.change(lambda state: state.settled(serials))
        return made

    async def remove(self, name: str, *, timeout: float = 10) -> None:
        """Remove all configurations of *name* in all members, and wake everything waiting there.

        That includes what the command, or the `Fleet` of another process, has configured. Returns once each member has
        acknowledged it. Does nothing if there is none. Raises `FleetTimeout` if a member has not done so in time.
        """
        check_name(name)
        await self._remove(lambda entry: entry.name == name, seconds(timeout))

    async def reset(self, *, timeout: float = 10) -> None:
        """Remove every configuration in all members, and wake all waiters. Otherwise like `remove`."""
        await self._remove(lambda _: True, seconds(timeout))

    async def _remove(self, ended: Callable[[Entry], bool], timeout: float | None = 10) -> None:
        await self._acknowledged(await self._engine.change(lambda state: state.without(ended)), timeout)

    async def _acknowledged(self, state: State, timeout: float | None) -> None:
        """Wait until every member has what the state has."""
        missing: list[str] = []
        with limited(timeout):
            pause = _FIRST_LOOK
            while missing := await self._engine.unacknowledged(state.revision):
                await anyio.sleep(pause)
                pause = min(pause * 1.2, _LAST_LOOK)
            return
        missing = missing or await self._engine.unacknowledged(state.revision)
        if missing:
            names = tuple(map(member_name, missing))
            raise FleetTimeout(
                f"{len(names)} of {len(await self._engine.members())} members did not acknowledge it within"
                f" {timeout:g} s: {', '.join(names)}",
                names,
            )

    async def resume(
        self,
        name: str,
        *,
        context: GivenMatchers | None = None,
        tasks: int | None = None,
        waiter: FleetWaiting | None = None,
        timeout: float = 10,
    ) -> int:
        """Wake what waits at the failpoint in any member, and return how many were woken. Later visits wait again.

        Args:
            name: The failpoint.
            context: Matchers as for `configure`. Only visits whose context matches are woken.
            tasks: The most to wake in all members together. Those that have waited longest come first.
            waiter: The only one to wake, as the `waiting` of a status has it. It excludes *context* and *tasks*.
            timeout: Seconds for all members to answer.

        Raises:
            FleetTimeout: A member has not answered in time.
            FailpointUsageError: *tasks* is not 1 or more, *context* cannot be sent, or *waiter* is not of a fleet.
        """
        if waiter is not None:
            if not isinstance(waiter, FleetWaiting) or context is not None or tasks is not None:
                raise FailpointUsageError(
                    "waiter must be one of the waiting of a fleet's status, without context and tasks"
                )
            one = (waiter.member, waiter.name, waiter.since.isoformat())
            woken = await self._command(Command(0, check_name(name), {}, waiter=one), seconds(timeout))
            return sum(woken.values())
        return await self._resume(check_name(name), context, tasks, seconds(timeout))

    async def _resume(
        self,
        name: str,
        context: GivenMatchers | None,
        tasks: int | None,
        timeout: float | None,
        only: int | None = None,
    ) -> int:
        matchers = matchers_document(context or {})
        if tasks is None:
            return sum((await self._command(Command(0, name, matchers, only), timeout)).values())
        left = check_count("tasks", tasks)
        while left:
            since = await self._command(Command(0, name, matchers, only, asks=True), timeout)
            waiting = sorted((each, member) for member, times in since.items() for each in times or ())
            chosen: dict[str, int] = {}
            for _, member in waiting[:left]:
                chosen[member] = chosen.get(member, 0) + 1
            if not chosen:
                break
            woken = sum((await self._command(Command(0, name, matchers, only, tasks=chosen), timeout)).values())
            left -= woken  # one that has gone on by itself meanwhile is not counted
        return tasks - left

    async def _command(self, command: Command, timeout: float | None) -> dict[str, Any]:
        state = await self._engine.change(lambda state: state.with_command(command))
        await self._acknowledged(state, timeout)
        return await self._engine.answers(state.commands[-1].number)

    # looking

    async def status(self, name: str) -> FleetStatus:
        """Return what a failpoint did in all processes since it was configured, and in `.members` in each of them."""
        return await self._status(check_name(name))

    async def _status(self, name: str, only: int | None = None) -> FleetStatus:
        return status_of_fleet(name, *await self._reported(), only)

    async def statuses(self, *, declared: bool = False, timeout: float = 10) -> list[FleetStatus]:
        """Return the status of every failpoint that is configured in the fleet, sorted by name.

        With *declared*, also of each failpoint that the modules declare which the members have imported, and all its
        sites. Then it raises `FleetTimeout` if a member has not answered within *timeout* seconds.
        """
        if not isinstance(cast(object, declared), bool):
            raise FailpointUsageError(f"declared must be True or False; got {safe_repr(declared)}")
        sites = await self._declared(seconds(timeout)) if declared else {}
        seen, reports = await self._reported()
        names = sorted({*sites, *(entry.name for entry in seen.state.entries)})
        statuses = (status_of_fleet(name, seen, reports) for name in names)
        return [replace(each, sites=tuple(sorted({*each.sites, *sites.get(each.name, ())}))) for each in statuses]

    async def _declared(self, timeout: float | None) -> dict[str, set[str]]:
        """Return the sites of each name in all members."""
        sites: dict[str, set[str]] = {}
        answers = await self._command(Command(0, "", {}, declares=True), timeout)
        given: list[dict[str, list[str]]] = [each for each in answers.values() if each]
        for declared in given:
            for name, places in declared.items():
                sites.setdefault(name, set()).update(places)
        return sites

    async def _reported(self) -> tuple[Seen, Reports]:
        """Return the counts, and reports that are as new, unless that takes too long."""
        deadline = monotonic() + _REPORTED
        await self._engine.refresh(_REPORTED)
        while True:
            seen = await self._engine.seen()
            reports = await self._engine.reports(seen)
            if monotonic() >= deadline or seen.agrees_with(reports):
                return seen, reports
            await self._engine.wake()
            await anyio.sleep(_LAST_LOOK)

    async def members(self) -> list[str]:
        """Return the members whose process is there, each as `HOST:PID`."""
        return sorted(map(member_name, await self._engine.members()))

    # waiting

    async def wait_until_hit(self, name: str, hits: int = 1, *, timeout: float | None = None) -> None:
        """Wait until the failpoint has been hit *hits* times in all processes together. Earlier hits count.

        The wait goes on through a reconfiguration, and no longer counts the hits of what was replaced.

        Args:
            name: The failpoint.
            hits: A whole number of 1 or more.
            timeout: Seconds to wait at most, 60 by default; `math.inf` for no limit.

        Raises:
            FailpointTimeout: The timeout is over. The message describes the failpoint's state.
            FailpointUsageError: The failpoint is not configured, or was removed during the wait.
        """
        __tracebackhide__ = True
        await self._wait(name, "hit", hits, timeout)

    async def wait_until_paused(self, name: str, tasks: int = 1, *, timeout: float | None = None) -> None:
        """Wait until *tasks* tasks or threads of all members together wait at the failpoint right now.

        Otherwise like `wait_until_hit`.
        """
        __tracebackhide__ = True
        await self._wait(name, "paused", tasks, timeout)

    async def _wait(
        self, name: str, event: Literal["hit", "paused"], target: int, timeout: float | None, only: int | None = None
    ) -> None:
        __tracebackhide__ = True
        watch = Watch(name, event, target)
        limit = seconds(DEFAULT_LIMIT if timeout is None else timeout)
        begun = False
        with limited(limit):
            pause = _FIRST_LOOK
            while not self._has_happened(await self._engine.seen(), name, event, target, only, begun):
                begun = True
                await anyio.sleep(pause)
                pause = min(pause * 1.5, _LAST_LOOK)
            return
        status = await self._status(name, only)
        raise FailpointTimeout(f"{watch.shortfall()} within {limit:g} s\n{_described(status)}", status)

    def _has_happened(
        self, seen: Seen, name: str, event: Literal["hit", "paused"], target: int, only: int | None, begun: bool
    ) -> bool:
        serials = [entry.serial for entry in seen.state.of(name) if only in (None, entry.serial)]
        if not serials:
            what = f"failpoint {name!r}" if only is None else f"this configuration of failpoint {name!r}"
            if begun:
                raise FailpointUsageError(f"{what} was removed while a task was waiting for it", code="FP016")
            if only is not None:
                raise FailpointUsageError(
                    f"{what} has ended: it was removed or replaced, or this process did not renew its lease in time",
                    code="FP016",
                )
            near = did_you_mean(name, (entry.name for entry in seen.state.entries))
            raise FailpointUsageError(f"{what} is not configured in the fleet: configure it first{near}", code="FP016")
        if event == "hit":
            return sum(seen.counts(serial).hits for serial in serials) >= target
        return sum(seen.waiting(serial) for serial in serials) >= target


class _Verbs(NamedTuple):
    """The verbs of a fleet that are about one configuration."""

    status: Callable[[], Awaitable[FleetStatus]]
    wait: Callable[[Literal["hit", "paused"], int, float | None], Awaitable[None]]
    resume: Callable[[GivenMatchers | None, int | None, float | None], Awaitable[int]]
    remove: Callable[[float | None], Awaitable[None]]


class FleetHandle:
    """One configuration of a failpoint in all processes: `async with fleet.configured(…) as handle:`.

    It has nothing to do with other configurations of the same name. Each method raises what the verb of `Fleet` raises.
    """

    def __init__(self, name: str, verbs: _Verbs) -> None:
        self.name = name
        self._verbs = verbs

    def __repr__(self) -> str:
        return f"<FleetHandle of failpoint {self.name!r}>"

    async def status(self) -> FleetStatus:
        """Return the status of its configuration."""
        return await self._verbs.status()

    async def wait_hit(self, hits: int = 1, *, timeout: float | None = None) -> None:
        """Wait until it has been hit *hits* times in all processes together. Earlier hits count."""
        __tracebackhide__ = True
        await self._verbs.wait("hit", hits, timeout)

    async def wait_paused(self, tasks: int = 1, *, timeout: float | None = None) -> None:
        """Wait until *tasks* tasks or threads of all members together wait there right now."""
        __tracebackhide__ = True
        await self._verbs.wait("paused", tasks, timeout)

    async def resume(
        self, *, context: GivenMatchers | None = None, tasks: int | None = None, timeout: float = 10
    ) -> int:
        """Wake what waits there, and return how many were woken, as `Fleet.resume` does."""
        return await self._verbs.resume(context, tasks, seconds(timeout))

    async def remove(self, *, timeout: float = 10) -> None:
        """Remove the configuration, wake everything waiting there, and put back in force what it had replaced."""
        await self._verbs.remove(seconds(timeout))


def _is_duration(given: object) -> bool:
    return isinstance(given, (int, float)) and not isinstance(given, bool) and 0 < given < math.inf


def _described(status: FailpointStatus) -> str:
    facts = [*main_facts(status)]
    if status.last_mismatch is not None:
        facts.append(("last miss", status.last_mismatch))
    facts += [("waiting", describe_waiting(waiting)) for waiting in status.waiting]
    return format_facts([*facts, ("sites", ", ".join(status.sites) or "none seen so far in the fleet")])
