"""`configured(…)` and the handle that it yields: counts, `remove`, `resume`, and waits with timeouts."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio import to_thread

from failpoints import (
    Continue,
    FailpointTimeout,
    FailpointUsageError,
    Handle,
    Off,
    Outcome,
    Pause,
    Registry,
    Return,
    Term,
    configure,
    configured,
    failpoint,
    remove,
    reset,
    resume,
    status,
    statuses,
    wait_until_hit,
    wait_until_hit_sync,
    wait_until_paused,
    wait_until_paused_sync,
)
from failpoints._core import waits
from failpoints._core.store import PROCESS_STORE

pytestmark = pytest.mark.anyio


async def visit(name: str = "x", **context: Any) -> Outcome:
    """Visit the failpoint once."""
    return await failpoint(name, context=context)


def hit(name: str = "x", **context: Any) -> Outcome:
    """Visit the failpoint once, in sync code."""
    return failpoint(name, context=context).hit()


def started(function: Callable[[], object]) -> threading.Thread:
    """Run the function in a new thread."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def finish(*threads: threading.Thread) -> None:
    """Join the threads, and fail if one still runs."""
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


# the block


def test_with_configures_and_removes() -> None:
    """`with configured(…)` configures the failpoint on entry and removes it on exit."""
    block = configured("x", "return", context={"k": "v"})
    assert statuses() == []
    with block as handle:
        assert (hit(), hit(k="v")) == (Continue(), Return())
        assert handle.name == "x"
    assert (statuses(), hit(k="v")) == ([], Continue())


async def test_async_with_configures_and_removes() -> None:
    """`async with configured(…)` configures the failpoint on entry and removes it on exit."""
    async with configured("x", "return", context={"k": "v"}) as handle:
        assert (await visit(), await visit(k="v")) == (Continue(), Return())
        assert handle.name == "x"
    assert (statuses(), await visit(k="v")) == ([], Continue())


def test_an_exception_removes_too() -> None:
    """An exception leaves the block unchanged, and the failpoint is removed."""
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as caught, configured("x", "return"):
        raise error
    assert caught.value is error
    assert statuses() == []


@pytest.mark.parametrize("arguments", [("a b", "off"), ("x", "of"), ("x", "off", {"k": "("})], ids=str)
def test_bad_arguments_are_refused_on_entering(arguments: tuple[Any, ...]) -> None:
    """Entering the block raises what `configure` would raise, and changes no configuration."""
    configure("x", "return")
    block = configured(arguments[0], arguments[1], context=arguments[2] if len(arguments) > 2 else None)
    with pytest.raises(ValueError, match=r"."):
        block.__enter__()
    assert hit() == Return()


def test_a_block_can_be_entered_again() -> None:
    """A `configured(…)` object can be entered again, and its counts restart at zero."""
    block = configured("x", "1*return")
    for _ in range(2):
        with block as handle:
            assert [hit(), hit()] == [Return(), Continue()]
            assert (handle.hits, handle.triggers) == (2, 1)


def test_configured_of_a_registry() -> None:
    """`registry.configured(…)` configures the failpoint in that registry only."""
    with Registry() as registry, registry.configured("x", "return") as handle:
        assert (hit(), handle.hits, statuses()) == (Return(), 1, [])


# attributes


async def test_attributes_of_a_handle() -> None:
    """A handle has the failpoint's name, status, counts and current waiters."""
    async with configured("x", "1*off->pause", context={"k": "v"}) as handle:
        assert isinstance(handle, Handle)
        await visit(k="other")
        await visit(k="v")
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: visit(k="v"), name="the visitor")
            await handle.wait_paused()
            assert (handle.hits, handle.misses, handle.triggers) == (2, 1, 2)
            assert [(waiting.name, waiting.context) for waiting in handle.waiting] == [("the visitor", {"k": "v"})]
            assert (handle.status,) == status("x").configurations
            assert handle.status.actions == (Term(Off(), times=1), Term(Pause()))
            assert handle.resume() == 1
        assert (handle.waiting, handle.resume()) == ((), 0)
    assert repr(handle) == "<Handle of failpoint 'x'>"


def test_the_counts_stay_after_the_block() -> None:
    """After the block, a handle keeps its counts. Later visits do not change them."""
    with configured("x", "return", context={"k": "v"}) as handle:
        hit(k="v")
        hit(k="other")
    configure("y", "off")
    hit(k="v")
    assert (handle.hits, handle.misses, handle.triggers, handle.waiting) == (1, 1, 1, ())
    assert handle.status.last_miss == {"k": "other"}


def test_a_handle_keeps_to_its_own_configuration() -> None:
    """A handle has the counts of its own configuration, also after another one replaced it."""
    with configured("x", "return") as handle:
        hit()
        configure("x", "off")
        for _ in range(3):
            hit()
        assert (handle.hits, handle.status.actions, status("x").hits) == (1, (Term(Return()),), 3)


async def test_remove_wakes_waiters() -> None:
    """`handle.remove()` removes the configuration and wakes all waiters. The block then exits without an error."""
    outcomes: list[Outcome] = []

    async def reach() -> None:
        outcomes.append(await visit())

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            with configured("x", "pause") as handle:
                group.start_soon(reach)
                await handle.wait_paused()
                handle.remove()
                assert (handle.waiting, statuses()) == ((), [])
    assert (outcomes, handle.hits) == ([Continue()], 1)


async def test_leaving_wakes_waiters() -> None:
    """Leaving the block wakes the tasks and threads that wait at the failpoint."""
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group, configured("x", "pause") as handle:
            group.start_soon(visit)
            group.start_soon(to_thread.run_sync, hit)
            await handle.wait_paused(2)
    assert handle.waiting == ()


# waiting


async def test_waits_count_earlier_hits_and_pauses() -> None:
    """`wait_hit` and `wait_paused` return at once if enough hits or pauses came before them."""
    with configured("x", "2*off->pause") as handle:
        await visit()
        await visit()
        await handle.wait_hit()
        await handle.wait_hit(2)
        async with anyio.create_task_group() as group:
            group.start_soon(visit)
            await handle.wait_paused()
            await handle.wait_paused(1, timeout=0)
            await handle.wait_hit(3, timeout=0)
            handle.resume()


async def test_waits_end_at_the_requested_number() -> None:
    """`wait_hit(n)` and `wait_paused(n)` return at the n-th hit and the n-th paused task, not before."""
    order: list[str] = []
    with anyio.fail_after(5), configured("x", "pause") as handle:

        async def wait(wait_until: Callable[[int], Any], number: int) -> None:
            await wait_until(number)
            order.append(f"{wait_until.__name__} {number}")

        async with anyio.create_task_group() as group:
            group.start_soon(wait, handle.wait_hit, 2)
            group.start_soon(wait, handle.wait_paused, 2)
            group.start_soon(visit)
            await handle.wait_paused(1)
            await anyio.wait_all_tasks_blocked()
            assert order == []
            group.start_soon(visit)
            await handle.wait_paused(2)
            await anyio.wait_all_tasks_blocked()
            assert sorted(order) == ["wait_hit 2", "wait_paused 2"]
            handle.resume()


def test_sync_waits() -> None:
    """`wait_hit_sync` and `wait_paused_sync` also see hits and pauses on the event loops of other threads."""
    with configured("x", "1*off->pause") as handle:
        first = started(hit)
        handle.wait_hit_sync(timeout=5)
        second, third = started(hit), started(lambda: anyio.run(visit))
        handle.wait_paused_sync(2, timeout=5)
        handle.wait_hit_sync(3, timeout=5)
        assert len(handle.waiting) == handle.resume() == 2
    finish(first, second, third)


def test_sync_waits_of_the_package() -> None:
    """`wait_until_hit_sync` and `wait_until_paused_sync` need no handle, and raise `FailpointTimeout`."""
    configure("x", "1*off->pause")
    first = started(hit)
    wait_until_hit_sync("x", timeout=5)
    second = started(hit)
    wait_until_paused_sync("x", timeout=5)
    wait_until_hit_sync("x", 2, timeout=5)
    with pytest.raises(FailpointTimeout, match="failpoint 'x' was not hit 3 times within 0 s"):
        wait_until_hit_sync("x", 3, timeout=0)
    assert resume("x") == 1
    finish(first, second)


async def test_a_resumed_pause_does_not_count() -> None:
    """After `resume`, `wait_paused` waits for a new pause. A sleep counts as a pause."""
    with anyio.fail_after(5), configured("x", "1*pause->sleep(60m)") as handle:
        async with anyio.create_task_group() as group:
            group.start_soon(visit)
            await handle.wait_paused()
            handle.resume()
            with pytest.raises(FailpointTimeout):
                await handle.wait_paused(timeout=0)
            group.start_soon(visit)
            await handle.wait_paused()
            handle.resume()


async def test_a_pause_that_ends_before_the_waiting_task_runs_does_not_count() -> None:
    """`wait_paused` ignores a pause that was resumed before the waiting task ran, and returns at the next one."""
    with anyio.fail_after(5), configured("x", "pause") as handle:
        over = anyio.Event()

        async def wait() -> None:
            await handle.wait_paused(1)
            assert len(handle.waiting) == 1
            over.set()

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            thread = started(hit)
            while not handle.waiting:  # blocks the event loop on purpose, so the waiting task cannot run
                pass
            assert handle.resume() == 1
            finish(thread)
            await anyio.wait_all_tasks_blocked()
            assert not over.is_set()
            group.start_soon(visit)
            await over.wait()
            handle.resume()


@pytest.mark.parametrize("wait_until", [wait_until_hit, wait_until_paused])
async def test_a_wait_for_a_name_counts_again_after_a_reconfiguration(wait_until: Callable[..., Any]) -> None:
    """A wait for a name continues through a reconfiguration, and counts only later hits and pauses."""
    order: list[str] = []
    with anyio.fail_after(5):

        async def wait() -> None:
            await wait_until("x", 2)
            order.append("done")

        async with anyio.create_task_group() as group:
            configure("x", "pause")
            group.start_soon(wait)
            group.start_soon(visit)
            await wait_until_paused("x")
            configure("x", "pause")
            group.start_soon(visit)
            await wait_until_paused("x")
            await anyio.wait_all_tasks_blocked()
            assert order == []
            group.start_soon(visit)
            await wait_until_paused("x", 2)
            await anyio.wait_all_tasks_blocked()
            assert order == ["done"]
            reset()


async def test_a_hit_counts_even_if_the_failpoint_is_removed_next() -> None:
    """`wait_hit` returns after a hit, even if the failpoint was removed before the waiting task ran."""
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            with configured("x", "off") as handle:
                group.start_soon(handle.wait_hit)
                await anyio.wait_all_tasks_blocked()
                hit()


ENDINGS = {
    "remove": lambda: remove("x"),
    "reset": reset,
    "remove and configure": lambda: (remove("x"), configure("x", "off")),
}


@pytest.mark.parametrize("end", ENDINGS)
@pytest.mark.parametrize("waits", ["wait_hit", "wait_paused"])
async def test_a_wait_ends_when_the_failpoint_is_removed(waits: str, end: str) -> None:
    """Removing the failpoint ends waits for it with a usage error, in tasks and in threads."""
    errors: list[str] = []
    threads: list[threading.Thread] = []
    with anyio.fail_after(10), configured("x", "off") as handle:

        async def wait() -> None:
            with pytest.raises(FailpointUsageError) as caught:
                await getattr(handle, waits)()
            errors.append(str(caught.value))

        def wait_sync() -> None:
            with pytest.raises(FailpointUsageError) as caught:
                getattr(handle, f"{waits}_sync")()
            errors.append(str(caught.value))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            threads.append(started(wait_sync))
            await anyio.wait_all_tasks_blocked()
            while threads[0].is_alive() and _watches() < 2:
                await anyio.lowlevel.checkpoint()
            ENDINGS[end]()
    finish(*threads)
    awaited = {"wait_hit": "it to be hit", "wait_paused": "a pause there"}[waits]
    assert errors == [f"failpoint 'x' was removed while a task was waiting for {awaited}"] * 2
    assert _watches() == 0


def _watches() -> int:
    return len(PROCESS_STORE._watches._watches.under("x"))


@pytest.mark.parametrize("what", ["hit", "paused"])
async def test_a_wait_for_an_unconfigured_failpoint_is_refused(what: str) -> None:
    """Waiting for an unconfigured failpoint is a usage error that suggests a similar configured name."""
    configure("cache.fill", "off")
    hopeless = {"hit": "it will never be hit", "paused": "no task will ever be paused there"}[what]
    message = (
        f"^failpoint 'cache.fil' is not configured, so {hopeless}: configure it first, with 'off' to count hits only;"
        " did you mean 'cache.fill'[?]$"
    )
    wait = {"hit": wait_until_hit, "paused": wait_until_paused}[what]
    with pytest.raises(FailpointUsageError, match=message):
        await wait("cache.fil")
    sync = {"hit": wait_until_hit_sync, "paused": wait_until_paused_sync}[what]
    with pytest.raises(FailpointUsageError, match=message):
        await to_thread.run_sync(sync, "cache.fil")


async def test_waits_after_the_block_are_refused() -> None:
    """After the block, the waits of a handle raise a usage error instead of hanging."""
    with configured("x", "off") as handle:
        pass
    with pytest.raises(FailpointUsageError, match="not configured"):
        await handle.wait_hit()
    with pytest.raises(FailpointUsageError, match="not configured"):
        await handle.wait_paused()


async def test_off_only_counts() -> None:
    """With `off`, a test can wait for a hit without affecting the visit."""
    with anyio.fail_after(5), configured("x", "off") as handle:
        async with anyio.create_task_group() as group:
            group.start_soon(visit)
            await handle.wait_hit()


# timeouts

TIMEOUTS = [
    ("wait_hit", "failpoint 'handle.told' was not hit 3 times within 0 s"),
    ("wait_paused", "fewer than 3 tasks were paused at failpoint 'handle.told' within 0 s"),
]


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize(("waits", "beginning"), TIMEOUTS)
async def test_a_timeout_shows_the_status(waits: str, beginning: str, sync: bool) -> None:
    """`FailpointTimeout`, also a `TimeoutError`, has the counts, the last miss with its reason, and the waiters."""
    with anyio.fail_after(5), configured("handle.told", "pause", context={"tenant_id": "test_.*"}) as handle:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: visit("handle.told", tenant_id="test_1"), name="the visitor")
            await handle.wait_paused()
            await visit("handle.told", tenant_id="t2")
            with pytest.raises(FailpointTimeout) as caught:
                if sync:
                    await to_thread.run_sync(lambda: getattr(handle, f"{waits}_sync")(3, timeout=0))
                else:
                    await getattr(handle, waits)(3, timeout=0)
            handle.resume()
    assert isinstance(caught.value, TimeoutError)
    known = caught.value.status
    assert known is not None
    assert (known.name, known.misses, [each.name for each in known.waiting]) == ("handle.told", 1, ["the visitor"])
    place = f"tests/core/test_handle.py:{visit.__code__.co_firstlineno + 2} (visit)"
    assert re.sub(r"\d\.\d s", "N s", str(caught.value)) == (
        f"{beginning}\n"
        "  configured: pause where tenant_id='test_.*'\n"
        "  counts:     hits 1, misses 1, triggers 1\n"
        "  last miss:  tenant_id='t2' does not match 'test_.*'\n"
        "  waiting:    'the visitor' has waited N s, {'tenant_id': 'test_1'}\n"
        f"  declared:   {place}"
    )


def test_a_timeout_names_the_nearest_site() -> None:
    """If no site has the name, the message of a `FailpointTimeout` suggests the most similar one."""
    failpoint("handle.nearest")
    with configured("handle.nearesd", "off") as handle, pytest.raises(FailpointTimeout) as caught:
        handle.wait_hit_sync(timeout=0)
    line = test_a_timeout_names_the_nearest_site.__code__.co_firstlineno + 2
    assert str(caught.value).endswith(
        "\n  declared:   not in any imported module; did you mean 'handle.nearest', declared at"
        f" tests/core/test_handle.py:{line} (test_a_timeout_names_the_nearest_site)?"
    )


async def test_a_timeout_shows_waiters_at_other_failpoints() -> None:
    """The message of a `FailpointTimeout` lists waiters at other failpoints with their contexts."""
    with anyio.fail_after(5), configured("elsewhere", "pause") as there, configured("here", "pause") as here:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: visit("elsewhere", shard=3), name="the lost one")
            await there.wait_paused()
            with pytest.raises(FailpointTimeout) as caught:
                await here.wait_paused(timeout=0)
            there.resume()
    assert re.search(
        r"\n  elsewhere:  'the lost one' has waited \d\.\d s at 'elsewhere', {'shard': 3}$", str(caught.value)
    )


@pytest.mark.parametrize("waits", ["wait_hit", "wait_paused"])
@pytest.mark.parametrize("seconds", [0, 0.01])
async def test_a_timeout_leaves_no_watch_behind(waits: str, seconds: float) -> None:
    """A wait that timed out or was cancelled leaves nothing registered."""
    with configured("x", "off") as handle:
        with pytest.raises(FailpointTimeout):
            await getattr(handle, waits)(timeout=seconds)
        with pytest.raises(FailpointTimeout):
            await to_thread.run_sync(lambda: getattr(handle, f"{waits}_sync")(timeout=seconds))
        with anyio.move_on_after(0.01) as scope:
            await getattr(handle, waits)()
        assert (scope.cancelled_caught, _watches()) == (True, 0)


@pytest.mark.parametrize("waits", ["wait_hit_sync", "wait_paused_sync"])
async def test_sync_waits_are_refused_on_an_event_loop(waits: str) -> None:
    """On a thread that runs an event loop, the `_sync` waits raise a usage error that names the async ones."""
    with configured("x", "off") as handle:
        await visit()
        with pytest.raises(FailpointUsageError, match="would block the event loop.*without _sync"):
            getattr(handle, waits)(timeout=5)
        for wait in (wait_until_hit_sync, wait_until_paused_sync):
            with pytest.raises(FailpointUsageError, match="would block the event loop.*without _sync"):
                wait("x", timeout=5)


@pytest.mark.parametrize("number", [0, -1, 1.0, True, "1", None], ids=repr)
@pytest.mark.parametrize("waits", ["wait_hit", "wait_paused"])
async def test_the_number_to_wait_for_must_be_positive(waits: str, number: Any) -> None:
    """The number of hits or tasks must be a whole number of 1 or more, in sync and async waits."""
    with configured("x", "off") as handle:
        with pytest.raises(FailpointUsageError, match="must be a whole number of 1 or more"):
            await getattr(handle, waits)(number)
        with pytest.raises(FailpointUsageError, match="must be a whole number of 1 or more"):
            await to_thread.run_sync(lambda: getattr(handle, f"{waits}_sync")(number))


@pytest.mark.parametrize("timeout", [-1, math.nan, "1", True, []], ids=repr)
@pytest.mark.parametrize("waits", ["wait_hit", "wait_paused"])
async def test_a_timeout_is_a_number_of_seconds(waits: str, timeout: Any) -> None:
    """A timeout must be a non-negative number of seconds, in sync and async waits."""
    with configured("x", "off") as handle:
        with pytest.raises(FailpointUsageError, match="timeout must be a number of seconds"):
            await getattr(handle, waits)(timeout=timeout)
        with pytest.raises(FailpointUsageError, match="timeout must be a number of seconds"):
            await to_thread.run_sync(lambda: getattr(handle, f"{waits}_sync")(timeout=timeout))


@pytest.mark.parametrize("timeout", [math.inf, 1e300, 10**400], ids=["inf", "1e300", "10**400"])
@pytest.mark.parametrize("waits", ["wait_hit", "wait_paused"])
async def test_a_timeout_may_be_infinite_or_huge(waits: str, timeout: float) -> None:
    """An infinite or huge timeout means no limit, in sync and async waits."""
    with anyio.fail_after(5), configured("x", "pause") as handle:
        async with anyio.create_task_group() as visitors:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: getattr(handle, waits)(timeout=timeout))
                group.start_soon(to_thread.run_sync, lambda: getattr(handle, f"{waits}_sync")(timeout=timeout))
                await anyio.wait_all_tasks_blocked()
                visitors.start_soon(visit)
            handle.resume()


async def test_a_wait_has_a_limit_if_it_is_given_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a timeout, a wait ends after a minute, so that it does not hang a test under any runner."""
    assert waits.DEFAULT_LIMIT == 60
    monkeypatch.setattr(waits, "DEFAULT_LIMIT", 0.02)
    with configured("x", "off") as handle:
        with pytest.raises(FailpointTimeout, match=r"within 0\.02 s"):
            await handle.wait_hit()
        with pytest.raises(FailpointTimeout, match=r"within 0\.02 s"):
            await wait_until_paused("x")
        with pytest.raises(FailpointTimeout, match=r"within 0\.02 s"):
            await to_thread.run_sync(wait_until_hit_sync, "x")
