"""Pauses and sleeps on one event loop: what ends a wait, and that no task waits at a removed failpoint."""

from __future__ import annotations

import asyncio
import logging
import selectors
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
import trio
import trio.testing
from anyio import to_thread

from failpoints import (
    Call,
    Cancelled,
    Continue,
    FailpointTimeout,
    Hit,
    Outcome,
    Pause,
    Return,
    Sleep,
    configure,
    configure_all,
    configured,
    failpoint,
    failpoint_scope,
    remove,
    reset,
    resume,
    status,
    wait_until_hit,
    wait_until_paused,
)

pytestmark = pytest.mark.anyio

LOOPS = [
    pytest.param("asyncio", {"use_uvloop": False}, id="asyncio"),
    pytest.param("asyncio", {"use_uvloop": True}, id="uvloop"),
]
WAITS = ["pause", "pause(60m)", "sleep(60m)"]


async def visit(name: str = "x", **site_options: Any) -> Outcome:
    """Visit the failpoint once."""
    return await failpoint(name, **site_options)


def hit(name: str = "x", **site_options: Any) -> Outcome:
    """Visit the failpoint once, in sync code."""
    return failpoint(name, **site_options).hit()


class Visits:
    """Visits of `x`, each in its own task, and their outcomes."""

    def __init__(self, group: anyio.abc.TaskGroup) -> None:
        self.group = group
        self.outcomes: list[Outcome] = []

    def start(self, **site_options: Any) -> None:
        """Start a task that visits `x`."""
        self.group.start_soon(self._visit, site_options)

    async def _visit(self, site_options: dict[str, Any]) -> None:
        self.outcomes.append(await visit(**site_options))


# what ends a wait

ENDS: dict[str, tuple[Callable[[], object], Outcome]] = {
    "configure": (lambda: configure("x", "return(later)"), Return("later")),
    "configure_all": (lambda: configure_all([("x", "return(later)")]), Return("later")),
    "remove": (lambda: remove("x"), Continue()),
    "reset": (reset, Continue()),
    "resume": (lambda: resume("x"), Return("second")),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("action", WAITS)
async def test_changing_or_resuming_a_failpoint_wakes_its_waiters(action: str, how: str) -> None:
    """A woken visit returns `Continue()`. The new configuration applies to later visits only."""
    end, later = ENDS[how]
    configure("x", f"2*{action}->return(second)")
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            visits = Visits(group)
            visits.start()
            visits.start()
            await wait_until_paused("x", 2)
            end()
            assert status("x").waiting == ()
        assert visits.outcomes == [Continue(), Continue()]
        assert await visit() == later


async def test_a_woken_function_or_scope_runs_its_body() -> None:
    """After a pause, a decorated function runs its body and a scope its block."""
    ran: list[str] = []

    @failpoint("x")
    async def decorated() -> str:
        return "body"

    async def call() -> None:
        ran.append(await decorated())

    async def scoped() -> None:
        async with failpoint_scope("x"):
            ran.append("block")

    configure("x", "pause")
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            group.start_soon(scoped)
            await wait_until_paused("x", 2)
            assert ran == []
            configure("x", "raise(OSError)")
    assert sorted(ran) == ["block", "body"]


@pytest.mark.parametrize("action", WAITS)
async def test_another_failpoint_does_not_wake_waiters(action: str) -> None:
    """Configuring, removing or resuming one failpoint does not wake the waiters of another."""
    configure_all([("x", action), ("y", "pause")])
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            visits = Visits(group)
            visits.start()
            await wait_until_paused("x")
            assert resume("y") == 0
            configure("y", "off")
            remove("y")
            await anyio.wait_all_tasks_blocked()
            assert (visits.outcomes, len(status("x").waiting)) == ([], 1)
            remove("x")


async def test_a_resumed_failpoint_pauses_later_visits() -> None:
    """`resume` returns the number of waiters that it woke, and later visits pause again."""
    configure("x", "pause")
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            visits = Visits(group)
            for number in (3, 2, 1):
                for _ in range(number):
                    visits.start()
                await wait_until_paused("x", number)
                assert resume("x") == number
            assert resume("x") == 0
    assert (len(visits.outcomes), status("x").hits) == (6, 6)


async def test_a_thousand_waiters() -> None:
    """A thousand tasks can wait at once, and `resume` wakes them all."""
    configure("x", "pause")
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            visits = Visits(group)
            for _ in range(1000):
                visits.start()
            await wait_until_paused("x", 1000)
            assert len(status("x").waiting) == 1000
            assert resume("x") == 1000
            assert status("x").waiting == ()
        assert visits.outcomes == [Continue()] * 1000


async def test_a_pause_may_have_a_limit() -> None:
    """`pause(limit)` raises a `FailpointTimeout` that names the failpoint and the context."""
    configure("x", "pause(1)")
    with anyio.fail_after(5), pytest.raises(FailpointTimeout, match=r"'x': pause\(1\) held .*'tenant_id': 't1'"):
        await visit(context={"tenant_id": "t1"})
    with anyio.fail_after(5), pytest.raises(FailpointTimeout, match=r"'x': pause\(1\) held"):
        await to_thread.run_sync(hit)
    assert status("x").waiting == ()


async def test_a_sleep_ends_by_itself() -> None:
    """`sleep` returns `Continue()` after its duration, in tasks and in threads."""
    configure("x", "sleep(1)")
    with anyio.fail_after(5):
        assert (await visit(), await to_thread.run_sync(hit)) == (Continue(), Continue())
    assert status("x").waiting == ()


@pytest.mark.parametrize("action", [Sleep(0), Pause(0)], ids=str)
async def test_a_wait_of_zero_length(action: Sleep | Pause) -> None:
    """A sleep or pause with a duration of zero ends at once."""
    configure("x", action)
    with anyio.fail_after(5):
        for site in (visit, lambda: to_thread.run_sync(hit)):
            if isinstance(action, Pause):
                with pytest.raises(FailpointTimeout):
                    await site()
            else:
                assert await site() == Continue()


@pytest.mark.parametrize("action", [Sleep(1e300), Pause(1e300)], ids=str)
async def test_a_wait_longer_than_any_clock(action: Sleep | Pause) -> None:
    """A wait with a duration beyond the range of the clock lasts until it is woken."""
    configure("x", action)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            visits = Visits(group)
            visits.start()
            group.start_soon(to_thread.run_sync, hit)
            await wait_until_paused("x", 2)
            assert resume("x") == 2
    assert visits.outcomes == [Continue()]


# native cancellation


@pytest.mark.parametrize("cancel", [False, True], ids=["no cancel event", "cancel event"])
@pytest.mark.parametrize("action", WAITS)
async def test_a_cancel_scope_ends_a_wait(action: str, cancel: bool) -> None:
    """Cancelling a cancel scope ends a pause or sleep and leaves no waiter behind."""
    configure("x", action)
    outcomes: list[Outcome] = []
    event = anyio.Event() if cancel else None

    async def record_outcome() -> None:
        outcomes.append(await visit(cancel=event))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(record_outcome)
            await wait_until_paused("x")
            group.cancel_scope.cancel()
    assert (outcomes, status("x").waiting, resume("x")) == ([], (), 0)


@pytest.mark.parametrize("cancel", [False, True], ids=["no cancel event", "cancel event"])
@pytest.mark.parametrize("action", WAITS)
@pytest.mark.parametrize(("backend", "options"), LOOPS)
def test_asyncio_cancellation_is_untouched(backend: str, options: dict[str, Any], action: str, cancel: bool) -> None:
    """`task.cancel("message")` ends a wait as it ends `asyncio.sleep`: same message, same cancellation count."""

    async def main() -> tuple[list[Any], list[Any]]:
        event = asyncio.Event() if cancel else None
        waiting = asyncio.Event()

        async def cancelled(sleep: Callable[[], Any], seen: list[Any]) -> None:
            try:
                waiting.set()
                await sleep()
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                assert task is not None
                seen += [type(error), error.args, error.__cause__, task.cancelling()]
                raise

        results: list[Any] = []
        for sleep in (lambda: asyncio.sleep(3600), lambda: visit(cancel=event)):
            seen: list[Any] = []
            waiting.clear()
            task = asyncio.create_task(cancelled(sleep, seen))
            await waiting.wait()
            if results:
                await wait_until_paused("x")
            task.cancel("the message")
            await asyncio.wait([task])
            results.append([*seen, task.cancelled(), task.cancelling()])
        return results[0], results[1]

    configure("x", action)
    plain, paused = anyio.run(main, backend=backend, backend_options=options)
    assert paused == plain == [asyncio.CancelledError, ("the message",), None, 1, True, 1]
    assert status("x").waiting == ()


@pytest.mark.parametrize("action", WAITS)
@pytest.mark.parametrize(("backend", "options"), LOOPS)
def test_a_timeout_of_asyncio_ends_a_wait(backend: str, options: dict[str, Any], action: str) -> None:
    """`asyncio.timeout` ends a pause or sleep and raises its own `TimeoutError`."""

    async def main() -> None:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.01):
                await visit()
        assert not isinstance(caught.value, FailpointTimeout)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    configure("x", action)
    anyio.run(main, backend=backend, backend_options=options)
    assert status("x").waiting == ()


@pytest.mark.parametrize("cancel", [False, True], ids=["no cancel event", "cancel event"])
@pytest.mark.parametrize("action", WAITS)
def test_trio_cancellation_is_untouched(action: str, cancel: bool) -> None:
    """Trio's `Cancelled` is raised unchanged, in no group, and caught by its own scope."""
    seen: list[BaseException] = []

    async def main() -> None:
        async def cancelled() -> None:
            try:
                await visit(cancel=trio.Event() if cancel else None)
            except BaseException as error:
                seen.append(error)
                raise

        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancelled)
                await wait_until_paused("x")
                scope.cancel()
        assert scope.cancelled_caught

    configure("x", action)
    trio.run(main)
    assert [type(error) for error in seen] == [trio.Cancelled]
    assert status("x").waiting == ()


@pytest.mark.parametrize("wait", [wait_until_hit, wait_until_paused])
async def test_cancellation_ends_a_wait_for_a_hit_or_pause(wait: Callable[[str], Any]) -> None:
    """Cancelling a cancel scope ends `wait_until_hit` and `wait_until_paused`."""
    configure("x", "off")
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(wait, "x")
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert await visit() == Continue()


# the running loop's clock


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(self.Selector(self))

    def time(self) -> float:
        return self.now

    class Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
        """A selector that never waits, but advances the clock of its loop."""

        def __init__(self, loop: JumpingLoop) -> None:
            super().__init__()
            self.loop = loop

        def select(self, timeout: float | None = None) -> list[Any]:
            if timeout:
                self.loop.now += timeout
                timeout = 0
            return super().select(timeout)  # type: ignore[no-any-return]


def on_asyncio(function: Callable[[], Any]) -> None:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(function())


def on_trio(function: Callable[[], Any]) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(function, clock=clock)  # anyio before 4.14 passes no options to trio


@pytest.mark.parametrize("run", [on_asyncio, on_trio])
def test_waits_use_the_clock_of_the_running_loop(run: Callable[[Callable[[], Any]], None]) -> None:
    """With a virtual clock, sleeps and limits of an hour pass at once."""

    async def main() -> None:
        began = anyio.current_time()
        configure("x", "sleep(60m)")
        assert await visit() == Continue()
        assert anyio.current_time() - began == pytest.approx(3600, abs=1)
        configure("x", "pause(60m)")
        with pytest.raises(FailpointTimeout):
            await visit()
        assert anyio.current_time() - began == pytest.approx(7200, abs=1)
        with pytest.raises(FailpointTimeout):
            await wait_until_hit("x", 5, timeout=3600)
        assert anyio.current_time() - began == pytest.approx(10800, abs=1)

    began = time.monotonic()
    run(main)
    assert time.monotonic() - began < 60


# reconfigured in the middle of a visit


class Interruption:
    """A callable that acts on the failpoint once, when a visit calls it."""

    def __init__(self, do: Callable[[], object]) -> None:
        self.do = do
        self.done = 0

    def __call__(self, *arguments: object) -> bool:
        if not self.done:
            self.done += 1
            self.do()
        return True

    def __str__(self) -> str:
        self()
        return "text"

    def __eq__(self, other: object) -> bool:
        return self()

    def __hash__(self) -> int:
        return 1


CHANGES = {
    "configure": lambda: configure("x", "return(later)"),
    "configure the same": lambda: configure("x", "pause"),
    "remove": lambda: remove("x"),
    "reset": reset,
    "remove and configure": lambda: (remove("x"), configure("x", "pause")),
}
PLACES = ["predicate", "__str__", "__eq__", "context", "cancel", "hit", "paused", "call"]


@pytest.fixture
def interrupted(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[str, Interruption], dict[str, Any]]]:
    """Return a function that configures `x` and returns arguments for a site whose visit is interrupted at *place*."""
    logger = logging.getLogger("failpoints")
    filters: list[Callable[[logging.LogRecord], bool]] = []

    def prepare(place: str, interruption: Interruption) -> dict[str, Any]:
        matchers: dict[str, Any] = {
            "predicate": {"k": interruption},
            "__str__": {"k": "text"},
            "__eq__": {"k": 5},
        }
        value = interruption if place in ("__str__", "__eq__") else 5
        action = Call(lambda hit: Pause() if interruption() else None) if place == "call" else Pause()
        configure("x", action, context=matchers.get(place))
        if place in ("hit", "paused"):
            caplog.set_level(logging.INFO, "failpoints")
            filters.append(lambda record: not record.getMessage().startswith(f"{place} x") or interruption())
            logger.addFilter(filters[0])
        if place == "context":
            return {"context": lambda: {"k": interruption()}}
        return {"context": {"k": value}, "cancel": (lambda: interruption() and None) if place == "cancel" else None}

    yield prepare
    for each in filters:
        logger.removeFilter(each)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("place", PLACES)
async def test_a_visit_reconfigured_halfway_does_not_wait(
    place: str, change: str, interrupted: Callable[[str, Interruption], dict[str, Any]]
) -> None:
    """If code that an async visit runs reconfigures the failpoint, the visit returns `Continue()`."""
    interruption = Interruption(CHANGES[change])
    site_options = interrupted(place, interruption)
    with anyio.fail_after(5):
        assert await visit(**site_options) == Continue()
    assert interruption.done == 1
    assert status("x").waiting == ()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("place", PLACES)
def test_a_sync_visit_reconfigured_halfway_does_not_wait(
    place: str, change: str, interrupted: Callable[[str, Interruption], dict[str, Any]]
) -> None:
    """If code that a sync visit runs reconfigures the failpoint, the visit returns `Continue()`."""
    interruption = Interruption(CHANGES[change])
    site_options = interrupted(place, interruption)
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(hit(**site_options)), daemon=True)
    thread.start()
    thread.join(5)
    assert (outcomes, interruption.done, status("x").waiting) == ([Continue()], 1, ())


@pytest.mark.parametrize("place", ["hit", "paused", "cancel"])
async def test_a_visit_resumed_before_it_waits_does_not_wait(
    place: str, interrupted: Callable[[str, Interruption], dict[str, Any]]
) -> None:
    """If code that a visit runs before its wait resumes the failpoint, the visit does not wait."""
    numbers: list[int] = []
    site_options = interrupted(place, Interruption(lambda: numbers.append(resume("x"))))
    with anyio.fail_after(5):
        assert await visit(**site_options) == Continue()
    assert (numbers, status("x").waiting, resume("x")) == ([1], (), 0)


@pytest.mark.parametrize("action", ["pause", "return", "off"])
async def test_a_visit_that_always_reconfigures_itself_ends(action: str) -> None:
    """A visit ends with `Continue()` even if its predicate configures the failpoint again at every call."""
    calls: list[object] = []

    def again(value: object) -> bool:
        calls.append(value)
        configure("x", action, context={"k": again})
        return True

    again(0)
    with anyio.fail_after(5):
        assert await visit(context={"k": 1}) == Continue()
        assert await to_thread.run_sync(lambda: hit(context={"k": 2})) == Continue()
    assert calls == [0, 1, 2]


async def test_a_pause_returned_by_a_call_after_removal_does_not_wait() -> None:
    """A visit ignores a `Pause` that an async `Call` returns after the failpoint was removed."""
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            calling, go = anyio.Event(), anyio.Event()

            async def call(hit: Hit) -> Pause:
                calling.set()
                await go.wait()
                return Pause()

            visits = Visits(group)
            configure("x", Call(call))
            visits.start()
            await calling.wait()
            remove("x")
            go.set()
    assert visits.outcomes == [Continue()]


async def test_a_pause_returned_by_a_call_works_like_any_pause() -> None:
    """`wait_until_paused` sees a `Pause` that a `Call` returned, and `resume` ends it."""
    with anyio.fail_after(5), configured("x", Call(lambda hit: Pause())) as handle:
        async with anyio.create_task_group() as group:
            visits = Visits(group)
            visits.start()
            group.start_soon(to_thread.run_sync, hit)
            await handle.wait_paused(2)
            assert handle.resume() == 2
    assert (visits.outcomes, handle.hits, handle.triggers) == ([Continue()], 2, 2)


# user code runs outside the lock


@pytest.mark.parametrize("place", [*PLACES, "configured", "resumed", "removed"])
def test_user_code_runs_outside_the_lock(
    place: str,
    interrupted: Callable[[str, Interruption], dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another thread can configure failpoints while a visit runs a predicate, `str()`, a log handler or a callable."""
    finished: list[bool] = []

    def elsewhere() -> None:
        thread = threading.Thread(target=configure, args=("y", "off"), daemon=True)
        thread.start()
        thread.join(5)
        finished.append(not thread.is_alive())

    interruption = Interruption(elsewhere)
    caplog.set_level(logging.INFO, "failpoints")

    def listen(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(f"{place} x") or interruption()

    logging.getLogger("failpoints").addFilter(listen)
    try:
        site_options = interrupted(place, interruption)
        thread = threading.Thread(target=hit, kwargs=site_options, daemon=True)
        thread.start()
        while thread.is_alive() and not status("x").waiting:
            pass
        resume("x")
        thread.join(5)
        remove("x")
    finally:
        logging.getLogger("failpoints").removeFilter(listen)
    assert not thread.is_alive()
    assert finished == [True]


async def test_cancelled_and_continue_are_distinct() -> None:
    """A wait returns `Cancelled()` when its cancel event ends it, and `Continue()` when `resume` does."""
    event = anyio.Event()
    configure("x", "pause")
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            visits = Visits(group)
            visits.start(cancel=event)
            await wait_until_paused("x")
            resume("x")
            while not visits.outcomes:
                await anyio.lowlevel.checkpoint()
            visits.start(cancel=event)
            await wait_until_paused("x")
            event.set()
    assert visits.outcomes == [Continue(), Cancelled()]
