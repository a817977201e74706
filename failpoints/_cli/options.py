"""Options and arguments that several verbs share."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import typer

from ..errors import FailpointUsageError

DEFAULT_URL = "http://127.0.0.1:22381"

ActionsText = Annotated[
    str,
    typer.Argument(metavar="ACTIONS", help="What it does, such as '2*off->return(42)'.", show_default=False),
]
Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help=f"URL of the program. Default: $FAILPOINTS_URL, or {DEFAULT_URL}."),
]
Token = Annotated[
    str | None,
    typer.Option("--token", metavar="TOKEN", help="Token of the program. Default: $FAILPOINTS_TOKEN."),
]
FleetUrl = Annotated[
    str | None,
    typer.Option("--fleet", metavar="FLEET", help="All processes of a fleet. Default: $FAILPOINTS_FLEET."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Connection(NamedTuple):
    """The options before the verb that say how to reach a program; each verb can override them."""

    url: str | None
    token: str | None
    fleet: str | None

    def fleet_for(self, url: str | None, fleet: str | None) -> str | None:
        """Return the fleet that a verb with these options is about, or `None` if that is one program."""
        if url is not None and fleet is not None:
            raise FailpointUsageError("give --url or --fleet, not both")
        return (fleet or self.fleet) if url is None else None


def examples(*commands: str) -> str:
    """Return the end of a help text: example commands, one on each line.

    The backspace character keeps click from joining the lines.
    """
    return "\n".join(["\b", "Example:" if len(commands) == 1 else "Examples:", *(f"  {line}" for line in commands)])
