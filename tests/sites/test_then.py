"""Several actions in one visit: `A + B`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio import to_thread

from failpoints import (
    Action,
    Call,
    Delay,
    FailpointTimeout,
    FailpointUsageError,
    Hit,
    InjectedFault,
    Off,
    Pause,
    Print,
    Raise,
    Return,
    Sleep,
    Term,
    Then,
    Yield,
    configure,
    configured,
    failpoint,
    failpoint_scope,
    remove,
    reset,
    status,
    wait_until_paused,
)
from failpoints._core.wakeups import on_event_loop

pytestmark = pytest.mark.anyio


@failpoint("work", raises=(TimeoutError,))
async def work() -> str:
    return "done"


@failpoint("sync.work")
def sync_work() -> str:
    return "done"


async def in_thread() -> str:
    return await to_thread.run_sync(sync_work)


every_work = pytest.mark.parametrize(
    ("name", "call"), [("work", work), ("sync.work", in_thread)], ids=["async", "sync"]
)


class Log:
    """Actions that note that they ran."""

    def __init__(self) -> None:
        self.entries: list[Any] = []

    def step(self, entry: object, then: Action | None = None) -> Call:
        def note(hit: Hit) -> Action | None:
            self.entries.append(entry)
            return then

        return Call(note)


@every_work
async def test_one_after_the_other(name: str, call: Callable[[], Any]) -> None:
    """The actions run in order, in one visit, which counts as one trigger."""
    log = Log()
    with configured(
        name, log.step(1) + Off() + Yield() + Sleep(1) + Delay(1) + log.step(2) + Return("early")
    ) as handle:
        assert await call() == "early"
        assert (handle.hits, handle.triggers) == (1, 1)
    assert log.entries == [1, 2]


@every_work
async def test_slow_and_then_fails(name: str, call: Callable[[], Any]) -> None:
    """`sleep(20)+raise(TimeoutError)` fails after the time is up."""
    with configured(name, "sleep(20)+raise(TimeoutError)"):
        started = anyio.current_time()
        with pytest.raises(TimeoutError):
            await call()
        assert anyio.current_time() - started >= 0.019


async def test_a_count_covers_the_whole() -> None:
    """The modifiers in front belong to all actions of the term."""
    with configured("work", "1*sleep(1)+raise->2*off+return(x)"):
        with pytest.raises(InjectedFault):
            await work()
        assert [await work(), await work(), await work()] == ["x", "x", "done"]


@every_work
async def test_resumed_the_rest_runs(name: str, call: Callable[[], Any]) -> None:
    """A visit that is resumed carries out the rest, even if the failpoint is removed before its task runs again."""
    async with anyio.create_task_group() as group:

        async def fail() -> None:
            with pytest.raises(ConnectionResetError):
                await call()

        with configured(name, "pause+raise(ConnectionResetError)") as handle:
            group.start_soon(fail)
            await handle.wait_paused(timeout=10)
            assert handle.resume() == 1


@every_work
@pytest.mark.parametrize("wait", ["pause", "sleep(60s)"])
@pytest.mark.parametrize(
    "end",
    [
        lambda name: configure(name, "off"),
        remove,
        lambda name: reset(),
    ],
    ids=["configure", "remove", "reset"],
)
async def test_ended_the_rest_does_not_run(
    name: str, call: Callable[[], Any], wait: str, end: Callable[[str], object]
) -> None:
    """A visit that is woken by a reconfiguration or a removal goes on without the rest."""
    configure(name, f"{wait}+raise(ConnectionResetError)")
    results: list[str] = []

    async def keep() -> None:
        results.append(await call())

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(keep)
            await wait_until_paused(name, timeout=10)
            end(name)
    finally:
        remove(name)
    assert results == ["done"]


@every_work
async def test_several_waits(name: str, call: Callable[[], Any]) -> None:
    """Each wait is a wait of its own, which can be seen and resumed."""
    log = Log()
    async with anyio.create_task_group() as group:
        with configured(name, Pause() + log.step("first") + Pause() + log.step("second") + Sleep(60_000)) as handle:
            group.start_soon(call)
            for entries in ([], ["first"], ["first", "second"]):
                await handle.wait_paused(timeout=10)
                while log.entries != entries:  # noqa: ASYNC110 - in a thread, the step itself is seen to wait
                    await anyio.sleep(0.001)
                assert handle.resume() == 1
    assert status(name).waiting == ()


async def test_removed_during_the_second_wait() -> None:
    """A later wait of a failpoint that is gone is not begun, and what follows it does not run."""
    with configured("work", Call(lambda hit: Sleep(0)) + Call(lambda hit: remove(hit.name)) + Pause() + Raise()):
        assert await work() == "done"


async def test_reconfigured_before_its_wait() -> None:
    """A wait is not begun if an earlier action of the same visit has reconfigured the failpoint."""
    with configured("work", Call(lambda hit: configure("work", "pause")) + Pause() + Raise()):
        with anyio.fail_after(10):
            assert await work() == "done"
        assert status("work").waiting == ()


async def test_a_limit_of_a_pause() -> None:
    """A pause that is over its limit raises, and the rest does not run."""
    log = Log()
    with configured("work", Pause(1) + log.step("rest")), pytest.raises(FailpointTimeout, match=r"pause\(1\) held"):
        await work()
    assert log.entries == []


@every_work
async def test_an_outcome_ends_it(name: str, call: Callable[[], Any]) -> None:
    """A `Return` that a function returns ends the visit; the rest does not run."""
    log = Log()
    with configured(name, log.step(1, Return("early")) + log.step(2)):
        assert await call() == "early"
    assert log.entries == [1]


@every_work
async def test_a_function_returns_several(name: str, call: Callable[[], Any]) -> None:
    """An action that a function returns may be a `Then`."""
    with configured(name, Call(lambda hit: Sleep(1) + Return("slow"))):
        assert await call() == "slow"


async def test_a_function_waits_before_a_wait() -> None:
    """The wait of a returned action and a later one are seen one after the other, and leave nothing behind."""
    async with anyio.create_task_group() as group:
        with configured("work", Call(lambda hit: Pause()) + Pause()) as handle:
            group.start_soon(work)
            for _ in range(2):
                await handle.wait_paused(timeout=10)
                assert len(handle.waiting) == 1
                handle.resume()


async def test_the_cancel_event_ends_it() -> None:
    """A wait that the `cancel` event ends gives `Cancelled()`, and the rest does not run."""
    event = anyio.Event()
    event.set()
    log = Log()
    with configured("inline", Pause() + log.step("rest")):
        outcome = await failpoint("inline", cancel=event)
    assert outcome
    assert log.entries == []


async def test_a_wait_on_the_thread_of_a_loop_is_refused() -> None:
    """In sync code on an event loop nothing of it is done, and no count is used up, if any part waits."""
    log = Log()
    assert on_event_loop()
    with configured("sync.work", log.step(1) + Sleep(1)) as handle:
        with pytest.raises(FailpointUsageError, match=r"on the thread of an event loop, which it would block"):
            sync_work()
        assert (handle.hits, handle.triggers, log.entries) == (1, 0, [])


def test_sync_wait_is_woken_by_another_thread() -> None:
    """A thread that is resumed carries out the rest."""
    errors: list[BaseException] = []

    def call() -> None:
        try:
            sync_work()
        except InjectedFault as error:
            errors.append(error)

    with configured("sync.work", "pause+raise") as handle:
        thread = threading.Thread(target=call)
        thread.start()
        handle.wait_paused_sync(timeout=10)
        handle.resume()
    thread.join(10)
    assert len(errors) == 1


async def test_at_a_scope() -> None:
    """A scope carries out several actions as well."""

    @failpoint("around")
    async def function() -> str:
        async with failpoint_scope("scope"):
            return "done"

    with configured("scope:after", "sleep(1)+return(lost)"):
        assert await function() == "lost"


async def test_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A hit is logged once, with all its actions."""
    with caplog.at_level(logging.INFO, "failpoints"), configured("work", Print("here") + Return("early")):
        await work()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "configured work: print(here)+return(early)",
        "hit work: print(here)+return(early)",
        "here",
        "removed work",
    ]


# The arguments of Then.


def test_it_is_flat() -> None:
    """`+` joins to one `Then`, however it is grouped."""
    flat = Then((Off(), Yield(), Sleep(1), Raise()))
    assert Off() + Yield() + Sleep(1) + Raise() == flat
    assert Off() + (Yield() + (Sleep(1) + Raise())) == flat
    assert Then([Off(), Yield() + Sleep(1), Raise()]) == flat
    assert hash(flat) == hash(Off() + Yield() + Sleep(1) + Raise())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Raise(OSError) + Off(),
            "nothing runs after Raise(error=<class 'OSError'>, message=None), so it must be the last of its '+'",
        ),
        (lambda: Then((Return(1), Return(2))), "nothing runs after Return(value=1), so it must be the last of its '+'"),
        (lambda: Sleep(1) + OSError, "'+' joins actions; got <class 'OSError'>; did you mean Raise(OSError)?"),
        (
            lambda: Sleep(1) + Pause,
            "'+' joins actions; got <class 'failpoints._core.actions.Pause'>; did you mean Pause(…)?",
        ),
        (lambda: Sleep(1) + 5, "'+' joins actions; got 5; did you mean Sleep(5)?"),
        (lambda: Sleep(1) + "pause", "'+' joins actions; got 'pause'"),
        (lambda: Then((Sleep(1),)), "Then takes two actions or more; got (Sleep(duration=1),)"),
        (lambda: Then(()), "Then takes two actions or more; got ()"),
        (
            lambda: Then("pause"),
            "Then takes a tuple of actions, such as (Sleep(200), Raise(TimeoutError)); got 'pause'",
        ),
        (lambda: Then(Off()), "Then takes a tuple of actions, such as (Sleep(200), Raise(TimeoutError)); got Off()"),
    ],
)
def test_invalid_arguments(make: Callable[[], Any], message: str) -> None:
    """A `Then` is refused with a sentence if it is not two actions or more, of which only the last ends the visit."""
    with pytest.raises(FailpointUsageError) as caught:
        make()
    assert str(caught.value) == message


def test_a_term_in_it_is_refused() -> None:
    """A chance or a count cannot be inside."""
    made: Any = Term(Off(), times=2)
    with pytest.raises(
        FailpointUsageError, match=r"a chance or a count belongs to the whole: Term\(A \+ B, times=3\)$"
    ):
        _ = Sleep(1) + made
