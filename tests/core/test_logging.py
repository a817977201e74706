"""What is said on the logger `failpoints`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio import to_thread

from failpoints import (
    Call,
    Off,
    Outcome,
    Print,
    Registry,
    Return,
    configure,
    configure_all,
    configured,
    failpoint,
    failpoint_scope,
    remove,
    reset,
    resume,
    status,
    wait_until_paused,
)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What has been logged since it was last asked."""
    caplog.set_level(logging.INFO, "failpoints")

    def messages() -> list[str]:
        assert {(record.name, record.levelno) for record in caplog.records} <= {("failpoints", logging.INFO)}
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    return messages


def hit(name: str = "x", **context: Any) -> Outcome:
    """Visit the failpoint once, in sync code."""
    return failpoint(name, context=context).hit()


def test_configured(said: Callable[[], list[str]]) -> None:
    """Configuring is logged with the actions, as text or as Python, and the matchers."""
    configure("x", "50%2*return(7)->off", context={"k": "v.*"})
    assert said() == ["configured x: 50%2*return(7)->off where {'k': 'v.*'}"]
    configure("x", Return(7))
    assert said() == ["configured x: Return(value=7)"]
    configure_all([("x", "off"), ("y", "pause")])
    assert said() == ["configured x: off", "configured y: pause"]
    with configured("z", "off"):
        assert said() == ["configured z: off"]
    assert said() == ["removed z"]


def test_what_is_refused_is_not_logged(said: Callable[[], list[str]]) -> None:
    """A configuration that is refused is not logged, and none of its batch is."""
    with pytest.raises(ValueError, match="expected an action"):
        configure_all([("x", "off"), ("y", "nothing")])
    assert said() == []


def test_removed(said: Callable[[], list[str]]) -> None:
    """Removing and resetting are logged once for each failpoint that was configured."""
    configure_all([("x", "off"), ("y", "off")])
    said()
    remove("x")
    assert said() == ["removed x"]
    remove("x")
    assert said() == []
    reset()
    assert said() == ["removed y"]
    with Registry() as registry:
        registry.configure("z", "off")
    assert said() == ["configured z: off", "removed z"]


def test_hit(said: Callable[[], list[str]]) -> None:
    """A hit is logged with the action that runs and the context, also where that is `off` or nothing."""
    configure("x", "1*off->1*return(7)", context={"k": "v"})
    said()
    for _ in range(3):
        hit(k="v")
    assert said() == [
        "hit x: off at {'k': 'v'}",
        "hit x: return(7) at {'k': 'v'}",
        "hit x: no term is due at {'k': 'v'}",
    ]
    configure("x", [Off()])
    said()
    hit()
    assert said() == ["hit x: off"]


def test_a_miss_is_not_logged(said: Callable[[], list[str]]) -> None:
    """A visit that does not match, or whose failpoint is not configured, says nothing."""
    configure("x", "return", context={"k": "v"})
    said()
    hit(k="other")
    hit("y")
    assert said() == []


def test_the_after_failpoint_is_logged_by_its_own_name(said: Callable[[], list[str]]) -> None:
    """`name` and `name:after` are two failpoints in the log too."""
    configure_all([("x", "off"), ("x:after", "off")])
    said()
    with failpoint_scope("x"):
        said_inside = said()
    assert (said_inside, said()) == (["hit x: off"], ["hit x:after: off"])


@pytest.mark.parametrize(
    ("actions", "message"),
    [("print(over here)", "over here"), ("print", "failpoint x was reached"), (Print("100%s"), "100%s")],
    ids=str,
)
def test_print(actions: Any, message: str, said: Callable[[], list[str]]) -> None:
    """`print` logs its message as it is at INFO, or one that names the failpoint."""
    configure("x", actions)
    said()
    hit()
    assert said()[-1] == message


@pytest.mark.anyio
@pytest.mark.parametrize("action", ["pause", "sleep(60m)"])
@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_paused_and_resumed(action: str, sync: bool, said: Callable[[], list[str]]) -> None:
    """Who waits is logged once it really waits, and once it goes on."""
    configure("x", action)
    said()

    async def visit() -> None:
        await (to_thread.run_sync(hit) if sync else failpoint("x"))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(visit, name="the visitor")
            await wait_until_paused("x")
            who = status("x").waiting[0].name
            resume("x")
    action = action.replace("60m", "3600000")
    assert said() == [f"hit x: {action}", f"paused x: {who} waits", "resumed x"]
    assert sync or who == "the visitor"


@pytest.mark.anyio
async def test_paused_is_said_when_it_is_so(caplog: pytest.LogCaptureFixture) -> None:
    """At the moment of "paused" the task counts as waiting, at "hit" and "resumed" it does not."""
    seen: list[tuple[str, int]] = []

    def look(record: logging.LogRecord) -> bool:
        seen.append((record.getMessage().partition(" ")[0], len(status("x").waiting)))
        return True

    configure("x", "sleep(1)")
    caplog.set_level(logging.INFO, "failpoints")
    logging.getLogger("failpoints").addFilter(look)
    try:
        await failpoint("x")
    finally:
        logging.getLogger("failpoints").removeFilter(look)
    assert seen[:2] == [("hit", 0), ("paused", 1)]
    assert seen[2:] in ([("resumed", 0)], [("resumed", 1)])


@pytest.mark.anyio
async def test_a_wait_that_does_not_come_about_is_not_logged_as_paused(said: Callable[[], list[str]]) -> None:
    """A wait that its cancel event ended before it began was never paused, and is not resumed."""
    event = anyio.Event()
    event.set()
    configure("x", "pause")
    said()
    await failpoint("x", cancel=event)
    assert said() == ["hit x: pause"]


def test_a_pause_that_is_refused_is_not_logged_as_paused(said: Callable[[], list[str]]) -> None:
    """A pause at a sync site on an event loop is a hit, and nobody pauses."""

    async def visit() -> None:
        hit()

    configure("x", "pause")
    said()
    with pytest.raises(RuntimeError, match="would block the whole loop"):
        anyio.run(visit)
    assert said() == ["hit x: pause"]


def test_nothing_is_spelled_out_where_nobody_listens() -> None:
    """Below INFO no value of a user's is turned into text."""

    class Secret:
        def __repr__(self) -> str:
            raise AssertionError("asked for its text")

    assert not logging.getLogger("failpoints").isEnabledFor(logging.INFO)
    configure("x", [Return(Secret())], context={"k": lambda value: True})
    assert isinstance(hit(k=Secret()), Return)
    configure("x", Call(lambda hit: None), context={"k": lambda value: True})
    hit(k=Secret())
