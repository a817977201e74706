"""`with Registry():` limits configurations to one task and the tasks and threads that it starts."""

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
from failpoints._core.switches import ARMED

pytestmark = pytest.mark.anyio


def hit(name: str = "x", **context: Any) -> Outcome:
    """Visit the failpoint once, in sync code."""
    return failpoint(name, context=context).hit()


def in_thread(function: Callable[[], Any]) -> Any:
    """Run the function in a thread with an empty context, and return its result."""
    results: list[Any] = []
    thread = threading.Thread(target=contextvars.Context().run, args=(lambda: results.append(function()),))
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    return results[0]


def error_of(function: Callable[[], Any]) -> Exception | None:
    """Return the exception that the function raises, or `None`."""
    try:
        function()
    except Exception as error:
        return error
    return None


@failpoint("x")
def decorated() -> str:
    """Return a value from a function with a failpoint."""
    return "body"


# visibility


async def test_visible_in_the_task_its_children_and_worker_threads() -> None:
    """A registry applies to the task that entered it, its child tasks, and their `to_thread` workers."""
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


async def test_not_visible_elsewhere() -> None:
    """A registry does not apply to earlier tasks, plain threads or the process-wide registry."""
    entered, seen = anyio.Event(), anyio.Event()

    async def earlier_task() -> None:
        await entered.wait()
        assert await failpoint("x") == Continue()
        assert await to_thread.run_sync(hit) == Continue()
        seen.set()

    async with anyio.create_task_group() as group:
        group.start_soon(earlier_task)
        with Registry() as registry:
            registry.configure("x", "return")
            assert in_thread(hit) == Continue()
            assert (status("x").actions, statuses()) == ((), [])
            entered.set()
            await seen.wait()
            assert (registry.status("x").hits, registry.status("x").misses) == (0, 0)


async def test_registries_of_concurrent_tasks_are_independent() -> None:
    """Concurrent tasks with their own registries can configure and pause the same name independently."""
    task_count = 5
    inside: list[Registry] = []
    all_inside, outcomes = anyio.Event(), {}

    async def reach(number: int) -> None:
        outcomes[number] = [await failpoint("x"), await to_thread.run_sync(hit)]

    async def run(number: int) -> None:
        with Registry() as registry:
            registry.configure("x", f"1*pause->return({number})")
            inside.append(registry)
            if len(inside) == task_count:
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
            for number in range(task_count):
                group.start_soon(run, number)
    assert outcomes == {number: [Continue(), Return(str(number))] for number in range(task_count)}
    assert ARMED == {}


async def test_the_package_functions_use_the_process_wide_registry() -> None:
    """Inside the block of a registry, the package functions still act on the process-wide registry."""
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
    """A name configured in a registry hides the outer configuration until it is removed."""
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


def test_a_name_hides_an_outer_one_even_without_a_trigger() -> None:
    """A miss or a hit that does not trigger does not fall through to the outer registry."""
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
    """A visit uses the innermost registry that has its name configured."""
    with Registry() as outer:
        outer.configure_all([("x", "return(outer)"), ("y", "return(outer)")])
        with Registry() as inner:
            inner.configure("x", "return(inner)")
            assert (hit("x"), hit("y")) == (Return("inner"), Return("outer"))
        assert (hit("x"), hit("y")) == (Return("outer"), Return("outer"))
        assert (outer.status("x").hits, inner.status("x").hits) == (1, 0)
    assert (hit("x"), hit("y")) == (Continue(), Continue())


def test_hiding_a_scope_does_not_hide_its_after_failpoint() -> None:
    """A registry that hides `name` does not hide `name:after`."""
    seen: list[str] = []
    configure("scope:after", "raise(KeyError)")
    with Registry() as registry:
        registry.configure("scope", "off")
        with pytest.raises(KeyError), failpoint_scope("scope"):
            seen.append("body")
        assert registry.status("scope").hits == 1
    assert seen == ["body"]


# entering and leaving


def test_a_registry_can_be_configured_before_it_is_entered() -> None:
    """A registry can be configured before it is entered, and applies only from then on."""
    registry = Registry()
    registry.configure("x", "return")
    assert (hit(), ARMED) == (Continue(), {})
    with registry as entered:
        assert entered is registry
        assert hit() == Return()
    assert (hit(), ARMED) == (Continue(), {})


def test_leaving_resets() -> None:
    """Leaving a registry resets it, and it can then be entered again."""
    registry = Registry()
    for number in range(2):
        with registry:
            assert registry.statuses() == []
            registry.configure("x", f"return({number})")
            assert hit() == Return(str(number))
        assert (registry.statuses(), hit(), ARMED) == ([], Continue(), {})


def test_leaving_by_an_exception_resets() -> None:
    """An exception leaves the block unchanged, and the registry is reset."""
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as caught, Registry() as registry:
        registry.configure("x", "return")
        raise error
    assert caught.value is error
    assert (registry.statuses(), hit(), ARMED) == ([], Continue(), {})


def test_entering_twice_is_a_usage_error() -> None:
    """Entering a registry again from a task or thread is a usage error, and the registry stays in effect."""
    with Registry() as registry:
        registry.configure("x", "return")
        with pytest.raises(FailpointUsageError, match="already entered"):
            registry.__enter__()
        assert in_thread(lambda: isinstance(error_of(registry.__enter__), FailpointUsageError))
        assert hit() == Return()
    assert ARMED == {}


async def test_leaving_wakes_its_waiters() -> None:
    """Leaving a registry wakes its own waiters with `Continue()`, and no others."""
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


async def test_leaving_ends_waits_for_its_failpoints() -> None:
    """Leaving a registry ends waits for its hits and pauses with a usage error."""
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


async def test_a_child_that_outlives_the_block_is_not_affected() -> None:
    """Once a registry was left, it no longer applies to tasks started inside, even if configured again."""
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


def test_a_registry_can_be_left_in_another_context() -> None:
    """A registry can be left in another context than it was entered in, as async fixtures do."""
    registry = Registry()
    registry.configure("x", "return")
    here = contextvars.copy_context()
    here.run(registry.__enter__)
    assert (here.run(hit), hit()) == (Return(), Continue())
    contextvars.copy_context().run(registry.__exit__, None, None, None)
    assert (here.run(hit), hit(), ARMED) == (Continue(), Continue(), {})


def test_leaving_wakes_a_waiter_that_arrives_halfway(caplog: pytest.LogCaptureFixture) -> None:
    """A visit that starts to wait while the registry is being left is woken."""
    visitors: list[threading.Thread] = []

    def configure_again(record: logging.LogRecord) -> bool:
        if record.getMessage() == "removed x" and not visitors:
            registry.configure("x", "pause")
            visitors.append(threading.Thread(target=contextvars.copy_context().run, args=(hit,), daemon=True))
            visitors[0].start()
            while visitors[0].is_alive() and not registry.status("x").waiting:
                pass
        return True

    logger = logging.getLogger("failpoints")
    caplog.set_level(logging.INFO, "failpoints")
    logger.addFilter(configure_again)
    try:
        with Registry() as registry:
            registry.configure("x", "off")
        visitors[0].join(2)
        assert not visitors[0].is_alive()
        assert ARMED == {}
    finally:
        logger.removeFilter(configure_again)
        registry.reset()


def test_registries_can_be_used_while_another_thread_configures() -> None:
    """Threads can create, enter and leave registries while another thread configures failpoints."""
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
