"""Threads that a registry does not reach: `strays`, the warning on leaving, and `registry.bound`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import to_thread

from failpoints import (
    Continue,
    FailpointTimeout,
    FailpointUsageError,
    Outcome,
    Registry,
    Return,
    configure,
    failpoint,
    failpoint_context,
    status,
)

pytestmark = pytest.mark.anyio


def hit(name: str = "x", **context: Any) -> Outcome:
    """Visit the failpoint once."""
    return failpoint(name, context=context).hit()


async def visit(name: str = "x") -> Outcome:
    """Visit the failpoint once, in async code."""
    return await failpoint(name)


def in_thread(function: Callable[[], Any], name: str = "the server") -> Any:
    """Run the function in a plain thread and return its result."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()), name=name)
    thread.start()
    thread.join(5)
    return results[0]


def strays(registry: Registry, name: str = "x") -> list[tuple[str, dict[str, Any], int]]:
    """Return thread, context and count of the strays."""
    return [(each.thread, dict(each.context), each.count) for each in registry.status(name).strays]


# strays


def test_a_visit_of_a_plain_thread_is_a_stray() -> None:
    """A plain thread does not meet the registry's configuration. Its visits are counted as strays, by thread."""
    with Registry() as registry:
        registry.configure("x", "return")
        assert in_thread(partial(hit, k=1)) == Continue()
        in_thread(partial(hit, k=2))
        in_thread(hit, "another")
        assert strays(registry) == [("the server", {"k": 1}, 2), ("another", {}, 1)]
        assert (registry.status("x").hits, registry.statuses()[0].strays) == (0, registry.status("x").strays)
        with ThreadPoolExecutor(thread_name_prefix="pool") as pool:
            assert pool.submit(hit).result(5) == Continue()
        assert strays(registry)[-1] == ("pool_0", {}, 1)


def test_a_stray_has_the_context_of_its_thread() -> None:
    """The context of a stray includes what `failpoint_context` binds in the thread."""

    def serve() -> None:
        with failpoint_context(worker=7):
            hit(k=1)

    with Registry() as registry:
        registry.configure("x", "return")
        in_thread(serve)
        assert strays(registry) == [("the server", {"worker": 7, "k": 1}, 1)]


def broken() -> dict[str, Any]:
    """Fail as the context of a site."""
    raise ZeroDivisionError


def test_a_stray_whose_context_fails_raises_nothing() -> None:
    """A site that is not hit raises nothing, also if its context cannot be evaluated."""
    with Registry() as registry:
        registry.configure("x", "return")
        assert in_thread(lambda: failpoint("x", context=broken).hit()) == Continue()
        assert strays(registry) == [("the server", {}, 1)]


def test_strays_begin_with_the_configuration() -> None:
    """Removing the failpoint forgets its strays. Visits before it is configured are not counted."""
    with Registry() as registry:
        registry.configure("y", "return")
        in_thread(hit)
        registry.configure("x", "return")
        in_thread(hit)
        registry.remove("x")
        in_thread(hit)
        registry.configure("x", "return")
        assert strays(registry) == []


def test_each_registry_with_the_name_has_the_stray() -> None:
    """A stray is counted in every entered registry that has the name configured."""
    with Registry() as outer, Registry() as inner, Registry() as other:
        outer.configure("x", "return")
        inner.configure("x", "return")
        other.configure("y", "return")
        in_thread(hit)
        assert [len(strays(each)) for each in (outer, inner, other)] == [1, 1, 0]


async def test_what_belongs_to_another_test_is_no_stray() -> None:
    """Other tasks, worker threads, threads inside another registry, and a process-wide configuration make no stray."""
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            entered, over = anyio.Event(), anyio.Event()

            async def of_another_test() -> None:
                await entered.wait()
                assert (await visit(), hit()) == (Continue(), Continue())
                with Registry() as another:
                    another.configure("y", "off")
                    await to_thread.run_sync(hit)
                    await to_thread.run_sync(lambda: in_thread(another.bound(hit)))
                over.set()

            group.start_soon(of_another_test)
            with Registry() as registry:
                registry.configure("x", "return")
                entered.set()
                await over.wait()
                assert (await to_thread.run_sync(hit), hit()) == (Return(), Return())
                configure("x", "off")
                in_thread(hit)
                assert strays(registry) == []
    assert status("x").hits == 1


def test_a_thread_with_its_own_event_loop_is_no_stray() -> None:
    """Async visits, and sync visits on the thread of an event loop, are not counted."""

    async def main() -> None:
        await visit()
        hit()

    with Registry() as registry:
        registry.configure("x", "return")
        in_thread(lambda: anyio.run(main))
        assert strays(registry) == []


def test_a_timeout_shows_the_strays() -> None:
    """The message of a wait that timed out names the threads that were not reached, and `registry.bound`."""
    with Registry() as registry, registry.configured("x", "return", context={"k": 1}) as handle:
        in_thread(hit)
        in_thread(hit)
        for wait in (handle.wait_hit_sync, partial(registry.wait_until_hit_sync, "x")):
            with pytest.raises(FailpointTimeout) as caught:
                wait(timeout=0)
            assert (
                "\n  strays:     2 visits in the thread 'the server', which the registry does not reach\n"
                "              start the thread with registry.bound(function), which runs inside the registry\n"
            ) in str(caught.value)
        assert [each.count for each in handle.status.strays] == [2]


def test_a_server_with_a_thread_for_each_request_does_not_fill_the_memory() -> None:
    """No more than a hundred threads of a failpoint are kept."""
    with Registry() as registry:
        registry.configure("x", "return")
        for number in range(105):
            in_thread(hit, f"request {number}")
        assert len(strays(registry)) == 100


# the warning


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function that returns the warnings so far."""
    caplog.set_level(logging.WARNING, "failpoints")
    return lambda: [record.getMessage() for record in caplog.records]


def test_leaving_warns_of_strays(warnings: Callable[[], list[str]]) -> None:
    """Leaving a registry whose configuration was never hit, but has strays, logs a warning that names the threads."""
    with Registry() as registry:
        registry.configure("x", "return")
        registry.configure("y", "return")
        in_thread(hit)
        in_thread(hit, "another")
        assert warnings() == []
    assert warnings() == [
        "failpoint x was configured in a Registry and not hit, but visited: 1 visit in the thread 'the server', which"
        " the registry does not reach; 1 visit in the thread 'another', which the registry does not reach. To reach it,"
        " start the thread with registry.bound(function), which runs inside the registry"
    ]


def test_leaving_does_not_warn_if_it_was_hit(warnings: Callable[[], list[str]]) -> None:
    """There is no warning if the failpoint was hit, or if there are no strays."""
    with Registry() as registry:
        registry.configure("x", "return")
        registry.configure("y", "return")
        in_thread(hit)
        assert hit() == Return()
    assert warnings() == []


# bound


def test_bound_runs_a_function_inside_the_registry() -> None:
    """A bound function meets the registry's configurations in a plain thread, and is not a stray."""
    with Registry() as registry:
        registry.configure("x", "return")
        bound = registry.bound(hit)
        assert (in_thread(bound), in_thread(lambda: bound("x", k=1))) == (Return(), Return())
        with ThreadPoolExecutor() as pool:
            assert [pool.submit(each).result(5) for each in (bound, hit, bound)] == [Return(), Continue(), Return()]
        assert (registry.status("x").hits, [count for *_, count in strays(registry)]) == (4, [1])
    assert (bound.__name__, bound.__doc__) == (hit.__name__, hit.__doc__)


def test_bound_runs_an_async_function_inside_the_registry() -> None:
    """A bound async function, also a partial of one, and the tasks that it starts meet the configurations."""

    async def serve(count: int) -> list[Outcome]:
        outcomes: list[Outcome] = []

        async def child() -> None:
            outcomes.append(await visit())

        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(child)
        return outcomes

    with Registry() as registry:
        registry.configure("x", "return")
        assert in_thread(lambda: anyio.run(registry.bound(serve), 2)) == [Return()] * 2
        assert in_thread(lambda: anyio.run(registry.bound(partial(serve, 1)))) == [Return()]
        assert registry.status("x").hits == 3


def test_bound_is_inside_the_blocks_around_the_registry() -> None:
    """A bound function meets what the registries around its own configure, as the code in the block does."""
    with Registry() as outer, Registry() as inner:
        outer.configure("outer", "return")
        inner.configure("inner", "return")
        assert in_thread(inner.bound(lambda: (hit("outer"), hit("inner")))) == (Return(), Return())
        assert in_thread(outer.bound(lambda: (hit("outer"), hit("inner")))) == (Return(), Continue())


def test_bound_outlives_the_registry() -> None:
    """After the registry is left, and before it is entered, a bound function runs as it does without it."""
    registry = Registry()
    bound = registry.bound(hit)
    registry.configure("x", "return")
    assert in_thread(bound) == Continue()
    with registry:
        assert in_thread(bound) == Return()
    assert in_thread(bound) == Continue()


def test_an_exception_of_a_bound_function_propagates() -> None:
    """An exception leaves the bound function unchanged, and the thread is outside the registry again."""
    with Registry() as registry, ThreadPoolExecutor(1) as pool:
        registry.configure("x", "return")
        with pytest.raises(ZeroDivisionError):
            pool.submit(registry.bound(broken)).result(5)
        assert pool.submit(hit).result(5) == Continue()


async def test_a_frozen_exception_of_a_bound_function_propagates() -> None:
    """An exception class that refuses to have attributes set leaves the bound function, sync and async."""

    @dataclass(frozen=True)
    class Frozen(Exception):
        number: int

    def fail() -> None:
        raise Frozen(1)

    async def fail_async() -> None:
        raise Frozen(1)

    with Registry() as registry:
        with pytest.raises(Frozen):
            registry.bound(fail)()
        with pytest.raises(Frozen):
            await registry.bound(fail_async)()


def generator() -> Any:
    """Yield once."""
    yield


@pytest.mark.parametrize("given", [5, None, generator, "x"])
def test_bound_refuses_what_it_cannot_run(given: Any) -> None:
    """Anything but a function or an async function is refused."""
    with pytest.raises(FailpointUsageError, match=r"^bound\(\) takes a function or an async function; got "):
        Registry().bound(given)
