"""All processes of a fleet as the verbs see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import anyio

from .._core.actions import Sleep
from .._core.grammar import parse_actions
from .._core.status import FailpointStatus
from ..errors import ActionSyntaxError, FailpointUsageError, FleetTimeout
from .endings import AnswerIsNo
from .remote import Program, missing_site

if TYPE_CHECKING:
    from ..fleet import Fleet

_ADVICE = 3.0  # seconds for the members to answer what they declare

_Result = TypeVar("_Result")


class FleetProgram(Program["Fleet"]):
    """A program of many processes, which are the members of a fleet.

    What it configures stays, until it is removed or its time is over.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def ask(self, request: Callable[[Fleet], Awaitable[_Result]]) -> _Result:
        """Run *request* with the fleet, and return its result. A member that does not answer is a no."""
        from ..fleet import Fleet

        async def with_fleet() -> _Result:
            async with Fleet(self._folder, lease=None) as fleet:
                return await request(fleet)

        try:
            return anyio.run(with_fleet)
        except FleetTimeout as error:
            raise AnswerIsNo(str(error)) from None

    def statuses(self, *, declared: bool = False) -> Sequence[FailpointStatus]:
        """Return the status of every configured failpoint, and with *declared* of those that members only declare."""
        return self.ask(lambda fleet: fleet.statuses(declared=declared))

    async def _declared(self, client: Fleet) -> Sequence[FailpointStatus]:
        try:
            return await client.statuses(declared=True)
        except FleetTimeout:  # a member is stopped
            return ()

    def configure(
        self, name: str, actions: str, context: Mapping[str, str] | None, duration: float | None = None
    ) -> str | None:
        """Configure a failpoint in all members, and return a note that has their number."""

        async def request(fleet: Fleet) -> str:
            await fleet.configure(name, actions, context=context, duration=duration)
            count = len(await fleet.members())
            note = f"note: {'1 member has' if count == 1 else f'{count} members have'} it, and those that start later"
            return "; ".join([note, *(await self._advice(fleet, name) if count else ())])

        return self.ask(request)

    async def _advice(self, client: Fleet, name: str) -> Sequence[str]:
        try:
            if (await client.status(name)).sites:  # then the members need not go through all their modules
                return ()
            declared = await client.statuses(declared=True, timeout=_ADVICE)
        except FleetTimeout:  # a member is stopped, so nobody knows what it declares
            return ()
        missing = missing_site(name, declared, "the members have")
        return () if missing is None else (missing,)

    def members(self) -> list[str]:
        """Return the members, each as `HOST:PID`."""
        return self.ask(lambda fleet: fleet.members())


def parse_duration(text: str) -> float:
    """Return the seconds of a duration, such as `10m`."""
    try:
        (term,) = parse_actions(f"sleep({text})")
        duration = term.action.duration if isinstance(term.action, Sleep) else None
    except (ActionSyntaxError, ValueError):  # no action, or several
        duration = None
    if not isinstance(duration, (int, float)) or duration <= 0 or not text.strip()[-1:].isalpha():
        raise FailpointUsageError(f"--for must be a duration such as 10m, 30s or 500ms; got {text!r}")
    return duration / 1000
