"""What a page has been sent: only changes, and after a cut only what it may have missed."""

from __future__ import annotations

import json
from typing import Any

from failpoints._http.feed import Feed


def parsed(event: bytes | None) -> tuple[int, Any]:
    assert event is not None
    position, data = event.decode().removesuffix("\n\n").split("\n")
    return int(position.rpartition("-")[2]), json.loads(data.removeprefix("data: "))


def test_only_what_has_changed() -> None:
    """A document is sent once, and again when it is another one. What was removed is named."""
    feed = Feed("f")
    assert parsed(feed.changes({"a": b"1", "b": b"2", "c": None})) == (1, {"changed": [1, 2], "removed": []})
    assert feed.changes({"a": b"1", "b": b"2", "c": None}) is None
    assert parsed(feed.changes({"a": b"3", "b": None})) == (2, {"changed": [3], "removed": ["b"]})
    assert feed.names() == ["a"]
    assert parsed(feed.changes({"b": b"2"})) == (3, {"changed": [2], "removed": []})


def test_what_came_after_a_position() -> None:
    """After a cut, what was sent later than the page's last event is sent again, if that is still so."""
    feed = Feed("f")
    feed.changes({"a": b"1", "b": b"1", "c": b"1", "d": b"1"})
    feed.changes({"a": b"2", "b": None, "d": b"2"})
    after = feed.after(1)
    assert after is not None
    assert sorted(after.names()) == ["a", "b", "c", "d"]
    state: dict[str, bytes | None] = {"a": b"2", "b": None, "c": b"1", "d": b"1"}
    assert parsed(after.changes(state)) == (3, {"changed": [2, 1], "removed": ["b"]})
    assert after.changes(state) is None
    everything = feed.after(2)
    assert everything is not None
    assert everything.changes({"a": b"2", "b": None, "c": b"1", "d": b"2"}) is None


def test_the_connection_that_was_cut_may_go_on() -> None:
    """What a feed sends into a dead connection is not taken for received by the one that came after it."""
    feed = Feed("f")
    feed.changes({"a": b"1"})
    after = feed.after(1)
    assert after is not None
    assert feed.changes({"a": b"2"}) is not None
    assert after.changes({"a": b"2"}) is not None


def test_positions_that_there_are_not() -> None:
    """A feed does not go on from a position that it has not reached."""
    feed = Feed("f")
    feed.changes({"a": b"1"})
    assert feed.after(2) is None
    assert feed.after(0) is not None


def test_names_that_come_and_go() -> None:
    """A feed remembers only so many removed names. A page that is farther behind has to begin again."""
    feed = Feed("f")
    for number in range(1002):
        feed.changes({f"n{number}": b"1"})
        feed.changes({f"n{number}": None})
    assert len(feed._sent) < 1002
    assert feed.after(1) is None
    assert feed.after(2 * 1002) is not None
