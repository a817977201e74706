"""The status of a failpoint in all processes, as it is put together from what the members show."""

from __future__ import annotations

from failpoints._fleet.place import Record, Seen, Shown
from failpoints._fleet.state import Counts, Entry, State
from failpoints._fleet.status import status_of_fleet


def test_members_of_one_name_are_added_up() -> None:
    """Containers can share a host name, and the process in each can have the id 1. Neither of them is lost."""
    entry = Entry(1, "x", "return", {})
    shown = [Shown(1, {1: Record(1, Counts(hits, 0, hits), 0, False, 0)}) for hits in (3, 4, 5)]
    members = dict(zip(["vm:1:a", "vm:1:b", "vm:2:c"], shown, strict=True))
    status = status_of_fleet("x", Seen(State("fleet", entries=(entry,)), members, frozenset(members)), {})
    assert status.hits == 12
    assert {name: (each.hits, each.triggers) for name, each in status.members.items()} == {
        "vm:1": (7, 7),
        "vm:2": (5, 5),
    }
