"""Messages on the logger `failpoints`."""

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
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function that returns the messages logged since its last call."""
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


def test_configured(logged: Callable[[], list[str]]) -> None:
    """Configuring logs the actions, as text or as Python, and the matchers."""
    configure("x", "50%2*return(7)->off", context={"k": "v.*"})
    assert logged() == ["configured x: 50%2*return(7)->off where {'k': 'v.*'}"]
    configure("x", Return(7))
    assert logged() == ["configured x: Return(value=7)"]
    configure_all([("x", "off"), ("y", "pause")])
    assert logged() == ["configured x: off", "configured y: pause"]
    with configured("z", "off"):
        assert logged() == ["configured z: off"]
    assert logged() == ["removed z"]


def test_a_refused_configuration_is_not_logged(logged: Callable[[], list[str]]) -> None:
    """A refused configuration is not logged, nor is the rest of its batch."""
    with pytest.raises(ValueError, match="expected an action"):
        configure_all([("x", "off"), ("y", "nothing")])
    assert logged() == []


def test_removed(logged: Callable[[], list[str]]) -> None:
    """`remove` and `reset` log one message for each configured failpoint."""
    configure_all([("x", "off"), ("y", "off")])
    logged()
    remove("x")
    assert logged() == ["removed x"]
    remove("x")
    assert logged() == []
    reset()
    assert logged() == ["removed y"]
    with Registry() as registry:
        registry.configure("z", "off")
    assert logged() == ["configured z: off", "removed z"]


def test_hit(logged: Callable[[], list[str]]) -> None:
    """A hit is logged with its action and context, even if the action is `off` or no term applies."""
    configure("x", "1*off->1*return(7)", context={"k": "v"})
    logged()
    for _ in range(3):
        hit(k="v")
    assert logged() == [
        "hit x: off at {'k': 'v'}",
        "hit x: return(7) at {'k': 'v'}",
        "hit x: no term applies at {'k': 'v'}",
    ]
    configure("x", [Off()])
    logged()
    hit()
    assert logged() == ["hit x: off"]


def test_a_miss_is_not_logged(logged: Callable[[], list[str]]) -> None:
    """Misses and visits of unconfigured failpoints are not logged."""
    configure("x", "return", context={"k": "v"})
    logged()
    hit(k="other")
    hit("y")
    assert logged() == []


def test_the_after_failpoint_is_logged_by_its_own_name(logged: Callable[[], list[str]]) -> None:
    """`name` and `name:after` are logged under their own names."""
    configure_all([("x", "off"), ("x:after", "off")])
    logged()
    with failpoint_scope("x"):
        logged_inside = logged()
    assert (logged_inside, logged()) == (["hit x: off"], ["hit x:after: off"])


@pytest.mark.parametrize(
    ("actions", "message"),
    [("print(over here)", "over here"), ("print", "failpoint x was reached"), (Print("100%s"), "100%s")],
    ids=str,
)
def test_print(actions: Any, message: str, logged: Callable[[], list[str]]) -> None:
    """`print` logs its message unchanged, or a default that names the failpoint."""
    configure("x", actions)
    logged()
    hit()
    assert logged()[-1] == message


@pytest.mark.anyio
@pytest.mark.parametrize("action", ["pause", "sleep(60m)"])
@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_paused_and_resumed(action: str, sync: bool, logged: Callable[[], list[str]]) -> None:
    """A waiter is logged when its wait begins and when it is resumed."""
    configure("x", action)
    logged()

    async def visit() -> None:
        await (to_thread.run_sync(hit) if sync else failpoint("x"))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(visit, name="the visitor")
            await wait_until_paused("x")
            who = status("x").waiting[0].name
            resume("x")
    action = action.replace("60m", "3600000")
    assert logged() == [f"hit x: {action}", f"paused x: {who} waits", "resumed x"]
    assert sync or who == "the visitor"


@pytest.mark.anyio
async def test_paused_is_logged_while_the_task_waits(caplog: pytest.LogCaptureFixture) -> None:
    """The task is a waiter when "paused" is logged, but not yet when "hit" is logged."""
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
async def test_a_wait_cancelled_before_it_begins_is_not_logged_as_paused(logged: Callable[[], list[str]]) -> None:
    """If the cancel event is already set, only the hit is logged."""
    event = anyio.Event()
    event.set()
    configure("x", "pause")
    logged()
    await failpoint("x", cancel=event)
    assert logged() == ["hit x: pause"]


def test_a_refused_pause_is_not_logged_as_paused(logged: Callable[[], list[str]]) -> None:
    """If a sync site on an event loop refuses to pause, only the hit is logged."""

    async def visit() -> None:
        hit()

    configure("x", "pause")
    logged()
    with pytest.raises(RuntimeError, match="on the thread of an event loop, which it would block"):
        anyio.run(visit)
    assert logged() == ["hit x: pause"]


def test_values_are_not_formatted_without_a_listener() -> None:
    """If INFO is disabled, no `repr` of a user's value is computed."""

    class Secret:
        def __repr__(self) -> str:
            raise AssertionError("asked for its text")

    assert not logging.getLogger("failpoints").isEnabledFor(logging.INFO)
    configure("x", [Return(Secret())], context={"k": lambda value: True})
    assert isinstance(hit(k=Secret()), Return)
    configure("x", Call(lambda hit: None), context={"k": lambda value: True})
    hit(k=Secret())
