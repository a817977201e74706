"""Waits for what other processes do by themselves."""

from __future__ import annotations

from typing import Any

import anyio

from failpoints.fleet import Fleet
from tests.fleet.conftest import LIMIT

NAMES = "[s.name for s in failpoints.statuses()]"


async def until(member: Any, expression: str, value: object) -> None:
    """Wait until a member answers with a value."""
    with anyio.fail_after(LIMIT):
        while member.ask(expression) != value:
            await anyio.sleep(0.02)


async def joined(fleet: Fleet, count: int = 1, *, without: frozenset[str] = frozenset()) -> frozenset[str]:
    """Wait until the fleet has *count* members, none of which is in *without*, and return them."""
    members: frozenset[str] = frozenset()
    with anyio.move_on_after(LIMIT):
        while True:
            members = frozenset(await fleet.members())
            if len(members) == count and not members & without:
                return members
            await anyio.sleep(0.02)
    raise AssertionError(f"the fleet has {sorted(members)} after {LIMIT:g} s, not {count} members")
