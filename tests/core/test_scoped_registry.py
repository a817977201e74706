"""`with Registry():` configurations for one task and what it starts, and for nobody else."""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio import to_thread

from failpoints import (
    Continue,
    FailpointUsageError,
    Outcome,
    Registry,
    Return,
    configure,
    failpoint,
    failpoint_scope,
    remove,
    reset,
    resume,
    status,
    statuses,
)
from failpoints._core.arming import ARMED

pytestmark = pytest.mark.anyio


def hit(name: str = "x", **context: Any) -> Outcome:
    """Visit the failpoint once, in sync code."""
    return failpoint(name, context=context).hit()


def in_thread(function: Callable[[], Any]) -> Any:
    """What the function returns in a thread that inherits nothing."""
    results: list[Any] = []
    thread = threading.Thread(target=contextvars.Context().run, args=(lambda: results.append(function()),))
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    return results[0]


def error_of(function: Callable[[], Any]) -> Exception | None:
    """What the function raises."""
    try:
        function()
    except Exception as error:
        return error
    return None


@failpoint("x")
def decorated() -> str:
    """A function with a failpoint."""
    return "body"


# for whom


async def test_it_holds_for_this_task_its_children_and_their_worker_threads() -> None:
    """What a registry configures holds in the task that entered it, in child tasks and in `to_thread` workers."""
    seen: dict[str, object] = {}

    async def child() -> None:
        seen["child"] = await failpoint("x")
        seen["child's worker"] = await to_thread.run_sync(hit)
        async with anyio.create_task_group() as group:
            group.start_soon(grandchild)

    async def grandchild() -> None:
        seen["grandchild"] = await failpoint("x")

    with Registry() as registry:
        registry.configure("x", Return(7))
        seen["this"] = await failpoint("x")
        seen["worker"] = await to_thread.run_sync(hit)
        seen["decorated"] = Return(decorated())
        async with anyio.create_task_group() as group:
            group.start_soon(child)
        assert registry.status("x").hits == 6
    assert seen == dict.fromkeys(["this", "worker", "decorated", "child", "child's worker", "grandchild"], Return(7))


async def test_it_holds_for_nobody_else() -> None:
    """A task that was started before, a plain thread, and the registry of the process do not see it."""
    entered, seen = anyio.Event(), anyio.Event()

    async def elder() -> None:
        await entered.wait()
        assert await failpoint("x") == Continue()
        assert await to_thread.run_sync(hit) == Continue()
        seen.set()

    async with anyio.create_task_group() as group:
        group.start_soon(elder)
        with Registry() as registry:
            registry.configure("x", "return")
            assert in_thread(hit) == Continue()
            assert (status("x").actions, statuses()) == ((), [])
            entered.set()
            await seen.wait()
            assert (registry.status("x").hits, registry.status("x").misses) == (0, 0)


async def test_concurrent_tasks_do_not_meet() -> None:
    """Tasks with registries of their own each see their own configuration of one name, and wait at it alone."""
    everyone = 5
    inside: list[Registry] = []
    all_inside, outcomes = anyio.Event(), {}

    async def reach(number: int) -> None:
        outcomes[number] = [await failpoint("x"), await to_thread.run_sync(hit)]

    async def run(number: int) -> None:
        with Registry() as registry:
            registry.configure("x", f"1*pause->return({number})")
            inside.append(registry)
            if len(inside) == everyone:
                all_inside.set()
            await all_inside.wait()
            async with anyio.create_task_group() as children:
                children.start_soon(reach, number)
                await registry.wait_until_paused("x")
                assert len(registry.status("x").waiting) == 1
                assert registry.resume("x") == 1
            assert registry.status("x").hits == 2

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for number in range(everyone):
                group.start_soon(run, number)
    assert outcomes == {number: [Continue(), Return(str(number))] for number in range(everyone)}
    assert ARMED == {}


async def test_the_functions_of_the_package_act_on_the_process() -> None:
    """Inside a registry's block `configure`, `remove`, `resume`, `reset` and `status` are the process's still."""
    with Registry() as registry:
        registry.configure("mine", "return(1)")
        configure("yours", "return(2)")
        assert (hit("mine"), hit("yours")) == (Return("1"), Return("2"))
        assert [each.name for each in statuses()] == ["yours"]
        assert [each.name for each in registry.statuses()] == ["mine"]
        remove("mine")
        assert resume("mine") == 0
        reset()
        assert (hit("mine"), hit("yours")) == (Return("1"), Continue())


# hiding


def test_a_name_hides_an_outer_one() -> None:
    """While a registry has a name configured, the outer configuration of it is not visited; afterwards it is."""
    configure("x", "return(outer)")
    with Registry() as registry:
        assert hit() == Return("outer")
        registry.configure("x", "return(inner)")
        assert hit() == Return("inner")
        registry.remove("x")
        assert hit() == Return("outer")
        registry.configure("x", "off")
        assert hit() == Continue()
    assert hit() == Return("outer")
    assert (status("x").hits, status("x").misses) == (3, 0)


def test_a_name_hides_an_outer_one_also_when_it_misses_or_is_spent() -> None:
    """A miss, a chance that fails and a count that is used up in the inner registry do not reach the outer one."""
    configure("x", "return(outer)")
    with Registry() as registry:
        registry.configure("x", "return(inner)", context={"tenant_id": "t1"})
        assert [hit(tenant_id="t2"), hit(), hit(tenant_id="t1")] == [Continue(), Continue(), Return("inner")]
        assert (registry.status("x").hits, registry.status("x").misses) == (1, 2)
        registry.configure("x", "1*return(inner)")
        assert [hit(), hit()] == [Return("inner"), Continue()]
        registry.configure("x", "0%return(inner)")
        assert hit() == Continue()
    assert (status("x").hits, status("x").misses) == (0, 0)


def test_nested_registries() -> None:
    """The innermost registry that has the name counts; a name it lacks is looked for further out."""
    with Registry() as outer:
        outer.configure_all([("x", "return(outer)"), ("y", "return(outer)")])
        with Registry() as inner:
            inner.configure("x", "return(inner)")
            assert (hit("x"), hit("y")) == (Return("inner"), Return("outer"))
        assert (hit("x"), hit("y")) == (Return("outer"), Return("outer"))
        assert (outer.status("x").hits, inner.status("x").hits) == (1, 0)
    assert (hit("x"), hit("y")) == (Continue(), Continue())


def test_a_scope_with_two_names() -> None:
    """A scope's `name:after` is looked up on its own: hiding `name` does not hide it."""
    seen: list[str] = []
    configure("scope:after", "raise(KeyError)")
    with Registry() as registry:
        registry.configure("scope", "off")
        with pytest.raises(KeyError), failpoint_scope("scope"):
            seen.append("body")
        assert registry.status("scope").hits == 1
    assert seen == ["body"]


# entering and leaving


def test_it_may_be_configured_before_it_is_entered() -> None:
    """What is configured beforehand holds from entering on, and not before."""
    registry = Registry()
    registry.configure("x", "return")
    assert (hit(), ARMED) == (Continue(), {})
    with registry as entered:
        assert entered is registry
        assert hit() == Return()
    assert (hit(), ARMED) == (Continue(), {})


def test_leaving_resets() -> None:
    """After the block the registry has nothing configured, and can be entered and configured again."""
    registry = Registry()
    for number in range(2):
        with registry:
            assert registry.statuses() == []
            registry.configure("x", f"return({number})")
            assert hit() == Return(str(number))
        assert (registry.statuses(), hit(), ARMED) == ([], Continue(), {})


def test_leaving_by_an_exception_resets() -> None:
    """An exception goes through the block untouched, and the registry is reset all the same."""
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as caught, Registry() as registry:
        registry.configure("x", "return")
        raise error
    assert caught.value is error
    assert (registry.statuses(), hit(), ARMED) == ([], Continue(), {})


def test_entering_twice_is_a_usage_error() -> None:
    """A registry that is entered cannot be entered again, from this task or another thread, and goes on to hold."""
    with Registry() as registry:
        registry.configure("x", "return")
        with pytest.raises(FailpointUsageError, match="already entered"):
            registry.__enter__()
        assert in_thread(lambda: isinstance(error_of(registry.__enter__), FailpointUsageError))
        assert hit() == Return()
    assert ARMED == {}


async def test_leaving_wakes_its_waiters() -> None:
    """Leaving wakes the tasks and worker threads that wait at its failpoints, with `Continue()`, and nobody else's."""
    configure("other", "pause")
    outcomes: list[Outcome] = []

    async def reach(name: str) -> None:
        outcomes.append(await failpoint(name))

    async def reach_in_thread() -> None:
        outcomes.append(await to_thread.run_sync(hit))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            with Registry() as registry:
                registry.configure_all([("x", "pause"), ("y", "sleep(60m)")])
                for name in ("x", "y", "other"):
                    group.start_soon(reach, name)
                group.start_soon(reach_in_thread)
                await registry.wait_until_paused("x", 2)
                await registry.wait_until_paused("y")
            while len(outcomes) < 3:
                await anyio.lowlevel.checkpoint()
            assert len(status("other").waiting) == 1
            remove("other")
    assert outcomes == [Continue()] * 4


async def test_a_wait_for_its_failpoints_ends_when_it_is_left() -> None:
    """Who waits for a hit or a pause in a registry gets a usage error when it is left, and does not hang."""
    errors: list[str] = []

    async def wait(wait_until: Callable[[str], Any]) -> None:
        with pytest.raises(FailpointUsageError, match="'x' was removed") as caught:
            await wait_until("x")
        errors.append(str(caught.value))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            with Registry() as registry:
                registry.configure("x", "off")
                group.start_soon(wait, registry.wait_until_hit)
                group.start_soon(wait, registry.wait_until_paused)
                await anyio.wait_all_tasks_blocked()
    assert len(errors) == 2


async def test_a_child_that_outlives_the_block_is_free() -> None:
    """A task that was started inside sees nothing of the registry once it is left, whatever is configured later."""
    left = anyio.Event()
    outcomes: list[Outcome] = []

    async def child() -> None:
        await left.wait()
        outcomes.append(await failpoint("x"))
        outcomes.append(await to_thread.run_sync(hit))

    async with anyio.create_task_group() as group:
        with Registry() as registry:
            registry.configure("x", "return")
            group.start_soon(child)
        registry.configure("x", "return")
        left.set()
    assert outcomes == [Continue(), Continue()]
    assert registry.status("x").hits == 0


def test_it_may_be_left_in_another_context() -> None:
    """Leaving in another context than it was entered in, as async fixtures do, ends it without an error."""
    registry = Registry()
    registry.configure("x", "return")
    here = contextvars.copy_context()
    here.run(registry.__enter__)
    assert (here.run(hit), hit()) == (Return(), Continue())
    contextvars.copy_context().run(registry.__exit__, None, None, None)
    assert (here.run(hit), hit(), ARMED) == (Continue(), Continue(), {})


def test_who_comes_to_wait_while_the_registry_is_left_is_woken(caplog: pytest.LogCaptureFixture) -> None:
    """A failpoint that is configured anew while the registry is being left holds nobody afterwards."""
    visitors: list[threading.Thread] = []

    def configure_anew(record: logging.LogRecord) -> bool:
        if record.getMessage() == "removed x" and not visitors:
            registry.configure("x", "pause")
            visitors.append(threading.Thread(target=contextvars.copy_context().run, args=(hit,), daemon=True))
            visitors[0].start()
            while visitors[0].is_alive() and not registry.status("x").waiting:
                pass
        return True

    logger = logging.getLogger("failpoints")
    caplog.set_level(logging.INFO, "failpoints")
    logger.addFilter(configure_anew)
    try:
        with Registry() as registry:
            registry.configure("x", "off")
        visitors[0].join(2)
        assert not visitors[0].is_alive()
        assert ARMED == {}
    finally:
        logger.removeFilter(configure_anew)
        registry.reset()


def test_registries_are_made_in_one_thread_while_another_configures() -> None:
    """Making, entering and leaving registries in one thread is no trouble for another that configures."""
    over = threading.Event()
    interval = sys.getswitchinterval()

    def make() -> None:
        kept: deque[Registry] = deque(maxlen=500)
        while not over.is_set():
            kept.append(Registry())
            with Registry() as registry:
                registry.configure("theirs", "off")
            configure("x", "off")

    threads = [threading.Thread(target=make, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(500):
            configure("x", "off")
            statuses()
            remove("x")
    finally:
        sys.setswitchinterval(interval)
        over.set()
        for thread in threads:
            thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    remove("x")
    assert ARMED == {}
