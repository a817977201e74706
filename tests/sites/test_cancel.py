"""The `cancel` event of a site ends a wait, and affects nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio
from anyio import to_thread

from failpoints import (
    Call,
    Cancelled,
    Continue,
    FailpointCancelled,
    FailpointError,
    FailpointTimeout,
    FailpointUsageError,
    Outcome,
    Pause,
    Return,
    configure,
    failpoint,
    failpoint_scope,
    remove,
    resume,
    status,
    wait_until_paused,
)

pytestmark = pytest.mark.anyio

WAITS = ["pause", "pause(60m)", "sleep(60m)"]


def native(anyio_backend: tuple[str, dict[str, Any]]) -> type[Any]:
    """Return the event class of the running loop's library."""
    return asyncio.Event if anyio_backend[0] == "asyncio" else trio.Event


class Site:
    """Sites of every kind at `x` with a cancel event, and a log of what they did."""

    def __init__(self, cancel: Any) -> None:
        self.ran: list[str] = []

        @failpoint("x", cancel=cancel)
        async def decorated() -> str:
            self.ran.append("decorated")
            return "body"

        @failpoint("x", cancel=cancel)
        def decorated_sync() -> str:
            self.ran.append("decorated")
            return "body"

        @failpoint("x", cancel=cancel)
        async def generator() -> Any:
            self.ran.append("generator")
            yield "body"

        async def generated() -> list[Any]:
            return [item async for item in generator()]

        async def scope() -> None:
            async with failpoint_scope("x", cancel=cancel):
                self.ran.append("scope")

        def scope_sync() -> None:
            with failpoint_scope("x", cancel=cancel):
                self.ran.append("scope")

        async def inline() -> Outcome:
            return await failpoint("x", cancel=cancel)

        self.visits: dict[str, Callable[[], Any]] = {
            "inline": inline,
            "decorator": decorated,
            "generator": generated,
            "scope": scope,
            "inline sync": failpoint("x", cancel=cancel).hit,
            "decorator sync": decorated_sync,
            "scope sync": scope_sync,
        }

    async def check(self, kind: str) -> None:
        """Visit the site, and check that the event ended the wait."""
        if kind.startswith("inline"):
            assert await self.visit(kind) == Cancelled()
        else:
            with pytest.raises(FailpointCancelled, match="the cancel event ended the wait at failpoint 'x'") as caught:
                await self.visit(kind)
            assert isinstance(caught.value, FailpointError)
            assert caught.value.name == "x"
        assert self.ran == []

    async def visit(self, kind: str) -> Any:
        """Visit once, in a worker thread if that kind of site is sync."""
        visit = self.visits[kind]
        return await (to_thread.run_sync(visit) if kind.endswith("sync") else visit())


ASYNC = ["inline", "decorator", "generator", "scope"]
SYNC = ["inline sync", "decorator sync", "scope sync"]


# what it does


@pytest.mark.parametrize("action", WAITS)
@pytest.mark.parametrize("given", ["event", "callable"])
@pytest.mark.parametrize("library", ["anyio", "native"])
@pytest.mark.parametrize("kind", ASYNC)
async def test_set_during_a_wait(
    kind: str, library: str, given: str, action: str, anyio_backend: tuple[str, dict[str, Any]]
) -> None:
    """An event set during a wait ends it, with `Cancelled()` inline and `FailpointCancelled` elsewhere."""
    event: Any = anyio.Event() if library == "anyio" else native(anyio_backend)()
    site = Site(event if given == "event" else lambda: event)
    configure("x", action)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(site.check, kind)
            await wait_until_paused("x")
            await anyio.wait_all_tasks_blocked()
            event.set()
    assert (status("x").waiting, resume("x")) == ((), 0)


@pytest.mark.parametrize("action", WAITS)
@pytest.mark.parametrize("given", ["event", "callable"])
@pytest.mark.parametrize("kind", SYNC)
async def test_set_during_a_wait_in_a_thread(kind: str, given: str, action: str) -> None:
    """In sync code a `threading.Event` ends the wait."""
    event = threading.Event()
    site = Site(event if given == "event" else lambda: event)
    configure("x", action)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(site.check, kind)
            await wait_until_paused("x")
            event.set()
    assert (status("x").waiting, resume("x")) == ((), 0)


@pytest.mark.parametrize(
    "action", [*WAITS, Call(lambda hit: Pause())], ids=lambda action: str(action).partition(" at ")[0]
)
@pytest.mark.parametrize("kind", [*ASYNC, *SYNC])
async def test_set_before_the_wait(kind: str, action: Any, anyio_backend: tuple[str, dict[str, Any]]) -> None:
    """An event that is already set ends the wait before it begins, and the visit counts as a trigger."""
    event: Any = threading.Event() if kind in SYNC else native(anyio_backend)()
    event.set()
    site = Site(event)
    configure("x", action)
    with anyio.fail_after(5):
        await site.check(kind)
    assert (status("x").hits, status("x").triggers, status("x").waiting) == (1, 1, ())


@pytest.mark.parametrize("kind", [*ASYNC, *SYNC])
async def test_after_the_body(kind: str) -> None:
    """The event also ends a wait at `name:after`, after the body has run."""
    event: Any = threading.Event() if kind in SYNC else anyio.Event()
    event.set()
    site = Site(event)
    configure("x:after", "pause")
    with anyio.fail_after(5):
        if kind.startswith("inline"):
            assert await site.visit(kind) == Continue()
        else:
            with pytest.raises(FailpointCancelled, match="at failpoint 'x:after'"):
                await site.visit(kind)
            assert len(site.ran) == 1


@pytest.mark.parametrize("kind", ["inline", "inline sync"])
async def test_a_callable_may_return_none(kind: str) -> None:
    """If the callable returns `None`, the wait lasts until it is woken."""
    site = Site(lambda: None)
    configure("x", "pause")
    outcomes: list[Outcome] = []

    async def visit() -> None:
        outcomes.append(await site.visit(kind))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(visit)
            await wait_until_paused("x")
            resume("x")
    assert outcomes == [Continue()]


async def test_a_callable_is_called_at_each_wait() -> None:
    """A callable is called once for each wait, and may return another event each time."""
    first, second = anyio.Event(), anyio.Event()
    events = [first, second]
    first.set()
    site = failpoint("x", cancel=lambda: events.pop(0))
    configure("x", "pause")
    with anyio.fail_after(5):
        assert await site == Cancelled()
        with anyio.move_on_after(0.01) as scope:
            await site
    assert (scope.cancelled_caught, events) == (True, [])


@pytest.mark.parametrize("cancel", [anyio.Event, threading.Event], ids=["async", "sync"])
async def test_an_event_that_is_not_set_changes_nothing(cancel: Callable[[], Any]) -> None:
    """With an event that is not set, the wait ends at its limit, after its length, or when woken."""
    kind = "inline" if cancel is anyio.Event else "inline sync"
    site = Site(cancel())
    with anyio.fail_after(5):
        configure("x", "pause(1)")
        with pytest.raises(FailpointTimeout):
            await site.visit(kind)
        configure("x", "sleep(1)")
        assert await site.visit(kind) == Continue()
        configure("x", "pause")
        async with anyio.create_task_group() as group:
            group.start_soon(site.visit, kind)
            await wait_until_paused("x")
            remove("x")
    assert status("x").waiting == ()


async def test_many_waits_with_one_event() -> None:
    """One event ends all waits that use it."""
    event = anyio.Event()
    configure("x", "pause")
    outcomes: list[Outcome] = []

    async def visit() -> None:
        outcomes.append(await failpoint("x", cancel=event))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(visit)
            await wait_until_paused("x", 50)
            event.set()
    assert outcomes == [Cancelled()] * 50


# when the event is not used


@pytest.mark.parametrize("kind", [*ASYNC, *SYNC])
@pytest.mark.parametrize("action", ["off", "yield", "print", "delay(0)", "0%pause", "1*off->pause"])
async def test_the_callable_is_not_called_without_a_wait(kind: str, action: str) -> None:
    """The callable is not called, and a set event has no effect, where no action waits."""
    asked: list[str] = []
    event: Any = threading.Event() if kind in SYNC else anyio.Event()
    event.set()
    for cancel in (event, lambda: asked.append("asked")):
        configure("x", action)
        result = await Site(cancel).visit(kind)
        assert result in (Continue(), "body", ["body"], None)
    assert asked == []


async def test_a_return_and_a_raise_are_not_cancelled() -> None:
    """A set event does not affect `return` and `raise`."""
    event = anyio.Event()
    event.set()
    site = failpoint("x", cancel=event)
    configure("x", "1*return(7)->raise(OSError)")
    assert await site == Return("7")
    with pytest.raises(OSError, match="injected by failpoint 'x'"):
        await site


async def test_a_miss_does_not_use_the_event() -> None:
    """A visit whose context does not match does not use the event."""
    configure("x", "pause", context={"k": "v"})
    event = anyio.Event()
    event.set()
    assert await failpoint("x", cancel=event) == Continue()


# usage errors


@pytest.mark.parametrize("action", WAITS)
@pytest.mark.parametrize("given", ["event", "callable"])
@pytest.mark.parametrize("kind", [*ASYNC, *SYNC])
async def test_the_wrong_kind_of_event(kind: str, given: str, action: str) -> None:
    """A `threading.Event` in async code, or an async event in sync code, is a usage error."""
    event: Any = anyio.Event() if kind in SYNC else threading.Event()
    site = Site(event if given == "event" else lambda: event)
    configure("x", action)
    code, wanted = ("sync", "a threading.Event") if kind in SYNC else ("async", "an event of anyio, asyncio or trio")
    with (
        anyio.fail_after(5),
        pytest.raises(FailpointUsageError, match=f"'x': in {code} code, cancel= must be {wanted}; got "),
    ):
        await site.visit(kind)
    assert (site.ran, status("x").waiting) == ([], ())


async def test_an_event_of_the_other_library(anyio_backend: tuple[str, dict[str, Any]]) -> None:
    """An event of a different async library than the running loop's is a usage error, and leaves no waiter."""
    foreign = trio.Event() if anyio_backend[0] == "asyncio" else asyncio.Event()
    configure("x", "pause")
    with anyio.fail_after(5), pytest.raises(FailpointUsageError, match="cannot be waited for here"):
        await failpoint("x", cancel=foreign)
    assert status("x").waiting == ()


@pytest.mark.parametrize("answer", [True, "event", object()], ids=["True", "a text", "an object"])
@pytest.mark.parametrize("kind", [*ASYNC, *SYNC])
async def test_a_callable_that_returns_no_event(kind: str, answer: object) -> None:
    """A callable that returns neither an event nor `None` is a usage error that shows the value."""
    site = Site(lambda: answer)
    configure("x", "pause")
    with (
        anyio.fail_after(5),
        pytest.raises(FailpointUsageError, match="'x': cancel= must return an event or None; it returned"),
    ):
        await site.visit(kind)
    assert (site.ran, status("x").waiting) == ([], ())


@pytest.mark.parametrize("cancel", [5, "event", ["event"]], ids=repr)
def test_an_invalid_event_is_refused(cancel: Any) -> None:
    """A `cancel` that is neither an event nor a callable is a usage error, at decoration or the first visit."""
    with pytest.raises(FailpointUsageError, match="cancel= must be an event, or a callable that returns one"):
        failpoint("x", cancel=cancel)(lambda: None)
    configure("cancel.inline", "off")
    configure("cancel.scope", "off")
    with pytest.raises(FailpointUsageError, match="cancel= must be an event, or a callable that returns one"):
        failpoint("cancel.inline", cancel=cancel).hit()
    with (
        pytest.raises(FailpointUsageError, match="cancel= must be an event, or a callable that returns one"),
        failpoint_scope("cancel.scope", cancel=cancel),
    ):
        pass


@pytest.mark.parametrize("kind", ["inline", "inline sync"])
async def test_an_error_of_the_callable_comes_through(kind: str) -> None:
    """The site raises what the callable raises, and leaves no waiter."""

    def broken() -> None:
        raise ZeroDivisionError

    configure("x", "pause")
    with pytest.raises(ZeroDivisionError):
        await Site(broken).visit(kind)
    assert status("x").waiting == ()


# together with native cancellation


@pytest.mark.parametrize("kind", ASYNC)
async def test_native_cancellation_propagates_unchanged(kind: str) -> None:
    """Native cancellation of a wait with an event propagates unchanged, not as `Cancelled()`."""
    site = Site(anyio.Event())
    seen: list[BaseException] = []
    configure("x", "pause")

    async def visit() -> None:
        try:
            await site.visit(kind)
        except BaseException as error:
            seen.append(error)
            raise

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(visit)
            await wait_until_paused("x")
            group.cancel_scope.cancel()
    assert [type(error) for error in seen] == [anyio.get_cancelled_exc_class()]
    assert (site.ran, status("x").waiting) == ([], ())


async def test_the_event_and_native_cancellation_at_once() -> None:
    """If the event and native cancellation coincide, the native cancellation is not swallowed."""
    event = anyio.Event()
    configure("x", "pause")
    after: list[str] = []

    async def visit() -> None:
        await failpoint("x", cancel=event)
        await anyio.lowlevel.checkpoint()
        after.append("went on")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(visit)
            await wait_until_paused("x")
            await anyio.wait_all_tasks_blocked()
            event.set()
            group.cancel_scope.cancel()
    assert (after, status("x").waiting) == ([], ())


@pytest.mark.parametrize("action", WAITS)
@pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])
def test_the_event_leaves_no_cancellation_on_the_task(uvloop: bool, action: str) -> None:
    """After the event has ended a wait, the asyncio task has no pending cancellation."""

    async def main() -> tuple[Outcome, int]:
        event = asyncio.Event()
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(event.set)
        outcome = await failpoint("x", cancel=event)
        await asyncio.sleep(0)
        return outcome, task.cancelling()

    configure("x", action)
    assert anyio.run(main, backend="asyncio", backend_options={"use_uvloop": uvloop}) == (Cancelled(), 0)
