"""Robustness against unlucky timing, unusual order and common mistakes."""

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


class Unshowable:
    """A value whose `repr` raises."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize("move", ["resume", "remove", "configure"])
async def test_a_waiter_woken_before_its_limit_does_not_time_out(move: str) -> None:
    """A waiter woken before its limit continues, even if it runs only after the limit."""
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
    """Neither `status` nor `resume` counts the waiters of a closed event loop."""
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


def test_a_status_is_a_copy() -> None:
    """Changing a status does not change the failpoint."""
    failpoints.configure("own", "off", context={"k": "yes"})
    failpoint("own", context={"k": "no"}).hit()
    status: Any = failpoints.status("own")
    status.matchers.clear()
    status.last_miss.clear()
    assert failpoints.status("own").matchers == {"k": "yes"}
    assert failpoints.status("own").last_miss == {"k": "no"}


def test_registries_and_contexts_may_be_left_in_any_order() -> None:
    """Registries and contexts may be left in any order. Those still entered stay in effect."""
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
    second.remove("order")
    second.configure("order", "return(1)", context={"a": 1})
    assert not failpoint("order").hit()
    second.__exit__(None, None, None)
    b.__exit__(None, None, None)
    assert not failpoint("order").hit()


def test_a_site_has_no_truth_value() -> None:
    """`if failpoint("x"):` raises a usage error that suggests `await` or `.hit()`."""
    with pytest.raises(failpoints.FailpointUsageError, match=r"write await failpoint\('x'\), or failpoint\('x'\).hit"):
        bool(failpoint("x"))


@pytest.mark.parametrize("cancel", [threading.Event, asyncio.Event])
def test_a_cancel_event_must_not_be_a_class(cancel: Any) -> None:
    """An event class given as the cancel event is refused, with a suggestion."""
    with failpoints.configured("x", "off"), pytest.raises(failpoints.FailpointUsageError, match=r"mean Event\(\)\?$"):
        failpoint("x", cancel=cancel).hit()


@pytest.mark.parametrize("keyword", ["what", "function", "arguments", "name", "cls"])
def test_a_keyword_of_any_name_reaches_the_context(keyword: str) -> None:
    """Keywords of a decorated function may have any name."""

    @failpoint("keyword", context=lambda **keywords: keywords)
    def function(**keywords: int) -> int:
        return sum(keywords.values())

    with failpoints.configured("keyword", "off", context={keyword: 1}) as handle:
        assert function(**{keyword: 1}) == 1
        assert handle.hits == 1


@pytest.mark.parametrize(
    "refused",
    [
        lambda value: failpoints.configure(value, "off"),
        lambda value: failpoints.configure("x", value),
        lambda value: failpoints.configure("x", "off", context=value),
        lambda value: failpoints.configure("x", "off", context={value: 1}),
        lambda value: failpoints.configure_all([value]),
        lambda value: failpoints.parse_actions(value),
        lambda value: failpoint("x", context=value)(lambda: None),
        lambda value: failpoint("x", raises=value)(lambda: None),
        lambda value: failpoint("x", cancel=value)(lambda: None),
        lambda value: failpoint("x", convert=value)(lambda: None),
        lambda value: failpoint("x")(value),
        lambda value: failpoints.Panic(value),
        lambda value: failpoints.Raise("OSError", value),
    ],
)
@pytest.mark.parametrize("value", [10**5000, Unshowable()], ids=["a long int", "no repr"])
def test_values_that_cannot_be_shown_are_refused_too(refused: Callable[[Any], object], value: Any) -> None:
    """A refused value whose `repr` fails raises a `FailpointError` like any other."""
    with pytest.raises(failpoints.FailpointError):
        refused(value)
    assert failpoints.statuses() == []


@pytest.mark.parametrize("first", ["cancel", "resume"])
async def test_resume_wins_over_a_simultaneous_cancel_event(first: str) -> None:
    """A waiter counted by `resume` gets `Continue()`, even if its cancel event is set at the same time."""
    outcomes: list[Any] = []
    cancel = anyio.Event()
    counts: list[int] = []
    moves: dict[str, Callable[[], object]] = {
        "cancel": cancel.set,
        "resume": lambda: counts.append(failpoints.resume("both")),
    }

    async def visit() -> None:
        outcomes.append(await failpoint("both", cancel=cancel))

    failpoints.configure("both", "pause")
    async with anyio.create_task_group() as group:
        group.start_soon(visit)
        await failpoints.wait_until_paused("both")
        moves.pop(first)()
        moves.popitem()[1]()
    assert (counts, outcomes) == ([1], [Continue()])
