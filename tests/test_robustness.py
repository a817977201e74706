"""What holds in spite of bad timing, bad order and slips of the pen."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import failpoints
from failpoints import Continue, failpoint

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("move", ["resume", "remove", "configure"])
async def test_a_wake_up_in_time_is_none_too_late(move: str) -> None:
    """Who is woken before the limit of a pause goes on with `Continue()`, however late it comes to run."""
    outcomes: list[Any] = []

    async def visit() -> None:
        outcomes.append(await failpoint("in.time"))

    moves: dict[str, Callable[[], object]] = {
        "resume": lambda: failpoints.resume("in.time"),
        "remove": lambda: failpoints.remove("in.time"),
        "configure": lambda: failpoints.configure("in.time", "off"),
    }
    failpoints.configure("in.time", failpoints.Pause(50))
    async with anyio.create_task_group() as group:
        group.start_soon(visit)
        await failpoints.wait_until_paused("in.time")
        moves[move]()
        time.sleep(0.1)  # noqa: ASYNC251 - the loop is busy until the limit is past: that is the case
    assert outcomes == [Continue()]


def test_a_waiter_of_a_closed_loop_is_forgotten() -> None:
    """Nobody waits on a loop that is closed: neither a status nor a wait nor `resume` sees them."""
    loop = asyncio.new_event_loop()
    failpoints.configure("closed", "pause")

    async def visit() -> None:
        await failpoint("closed")

    async def main() -> asyncio.Task[None]:
        task = asyncio.ensure_future(visit())
        await failpoints.wait_until_paused("closed")
        return task

    task = loop.run_until_complete(main())
    loop.close()
    assert failpoints.status("closed").waiting == ()
    assert failpoints.resume("closed") == 0
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_status_is_the_caller_s_own() -> None:
    """What is done to a status changes nothing for the failpoint."""
    failpoints.configure("own", "off", context={"k": "yes"})
    failpoint("own", context={"k": "no"}).hit()
    status: Any = failpoints.status("own")
    status.matchers.clear()
    status.last_miss.clear()
    assert failpoints.status("own").matchers == {"k": "yes"}
    assert failpoints.status("own").last_miss == {"k": "no"}


def test_registries_and_contexts_may_be_left_in_any_order() -> None:
    """What was entered first may be left first: what is still entered holds, and nothing else."""
    first, second = failpoints.Registry(), failpoints.Registry()
    a, b = failpoints.failpoint_context(a=1), failpoints.failpoint_context(b=2)
    first.__enter__()
    second.__enter__()
    a.__enter__()
    b.__enter__()
    second.configure("order", "return(1)", context={"b": 2})
    first.__exit__(None, None, None)
    a.__exit__(None, None, None)
    assert failpoint("order").hit() == failpoints.Return("1")
    second.configure("order", "return(1)", context={"a": 1})
    assert not failpoint("order").hit()
    second.__exit__(None, None, None)
    b.__exit__(None, None, None)
    assert not failpoint("order").hit()


def test_a_site_object_is_no_outcome() -> None:
    """`if failpoint("x"):`, with neither `await` nor `.hit()`, says what was forgotten."""
    with pytest.raises(failpoints.FailpointUsageError, match=r"write await failpoint\('x'\), or failpoint\('x'\).hit"):
        bool(failpoint("x"))


@pytest.mark.parametrize("cancel", [threading.Event, asyncio.Event])
def test_a_cancel_event_is_no_class(cancel: Any) -> None:
    """A cancel event given as its class is refused, with what was meant."""
    with failpoints.configured("x", "off"), pytest.raises(failpoints.FailpointUsageError, match=r"mean Event\(\)\?$"):
        failpoint("x", cancel=cancel).hit()
