"""`await failpoint(...)` and `failpoint(...).hit()`: their outcomes and visits."""

from __future__ import annotations

import _thread
import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio import to_thread

from failpoints import (
    Call,
    Cancelled,
    Continue,
    FailpointError,
    FailpointNameError,
    FailpointUsageError,
    Hit,
    Outcome,
    Return,
    configured,
    failpoint,
    status,
)

pytestmark = pytest.mark.anyio

Visit = Callable[..., Awaitable[Outcome]]


async def visit_async(name: str = "point", **options: Any) -> Outcome:
    """Await a failpoint."""
    return await failpoint(name, **options)


async def visit_sync(name: str = "point", **options: Any) -> Outcome:
    """Hit a failpoint."""
    return failpoint(name, **options).hit()


async def visit_in_thread(name: str = "point", **options: Any) -> Outcome:
    """Hit a failpoint in a worker thread."""
    return await to_thread.run_sync(lambda: failpoint(name, **options).hit())


every_visit = pytest.mark.parametrize("visit", [visit_async, visit_sync, visit_in_thread])


@every_visit
async def test_nothing_configured(visit: Visit) -> None:
    """With nothing configured the outcome is `Continue()`, which is false."""
    outcome = await visit()
    assert outcome == Continue()
    assert not outcome


def described(outcome: Outcome) -> str:
    """Describe the outcome of a site."""
    match outcome:
        case Return(value):
            return f"return {value!r}"
        case Cancelled():
            return "cancelled"
        case Continue():
            return "continue"


@every_visit
@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ("off", "continue"),
        ("print", "continue"),
        ("yield", "continue"),
        ("return", "return None"),
        ("return()", "return None"),
        ("return(42)", "return '42'"),
        ("return(true)", "return 'true'"),
        (Return("42"), "return '42'"),
        (Return(42), "return 42"),
        (Return([]), "return []"),
        (Return(Return(1)), "return Return(value=1)"),
    ],
)
async def test_outcome(visit: Visit, actions: Any, expected: str) -> None:
    """`match` distinguishes the outcomes, and `Return.value` is the configured value, never converted."""
    with configured("point", actions) as handle:
        assert described(await visit()) == expected
        assert (handle.hits, handle.triggers) == (1, 1)


@every_visit
async def test_convert_is_for_decorated_functions(visit: Visit) -> None:
    """A `convert` does not touch the value of an inline outcome."""
    with configured("point", "return(42)"):
        assert await visit(convert=int) == Return("42")


@every_visit
async def test_truth(visit: Visit) -> None:
    """`Return` is true in a condition, whatever its value, and so is `Cancelled`."""
    for value in (None, 0, False, ""):
        with configured("point", Return(value)):
            assert bool(await visit()) is True
    assert bool(Cancelled()) is True


@every_visit
async def test_another_one_configured(visit: Visit) -> None:
    """A site continues and evaluates no context while only another failpoint is configured."""
    calls: list[int] = []
    with configured("another", "raise"):
        assert await visit(context=lambda: calls.append(1)) == Continue()
    assert calls == []


async def test_cancelled() -> None:
    """An event that is set before or during the wait ends it with `Cancelled()`."""
    event = anyio.Event()
    outcomes: list[Outcome] = []

    async def wait() -> None:
        outcomes.append(await failpoint("point", cancel=event))

    for actions in ("pause", "sleep(60s)"):
        with configured("point", actions) as handle:
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                if not event.is_set():
                    await handle.wait_paused()
                    event.set()
            assert handle.waiting == ()
    assert outcomes == [Cancelled(), Cancelled()]


async def test_cancelled_in_a_thread() -> None:
    """A `threading.Event` set before or during the wait of a sync site ends it with `Cancelled()`."""
    event = threading.Event()
    outcomes: list[Outcome] = []

    async def wait() -> None:
        outcomes.append(await visit_in_thread(cancel=lambda: event))

    with configured("point", "pause") as handle:
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await handle.wait_paused()
            event.set()
        await wait()
        assert handle.waiting == ()
    assert outcomes == [Cancelled(), Cancelled()]


async def test_callable_that_returns_no_event() -> None:
    """If a `cancel` callable returns `None`, only a change of the configuration ends the wait."""
    outcomes: list[Outcome] = []

    async def wait() -> None:
        outcomes.append(await failpoint("point", cancel=lambda: None))

    with configured("point", "pause") as handle:
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await handle.wait_paused()
            assert handle.resume() == 1
    assert outcomes == [Continue()]


async def test_each_await_is_a_visit() -> None:
    """A failpoint in a variable is visited at each `await` and each `hit()`, not at its creation."""
    with configured("point", "2*off->return") as handle:
        point = failpoint("point")
        assert handle.hits == 0
        outcomes = [await point, point.hit(), await point, await point, point.hit()]
        assert outcomes == [Continue(), Continue(), Return(None), Return(None), Return(None)]
        assert handle.hits == 5


async def test_awaited_at_once() -> None:
    """Many tasks can await one failpoint object at the same time."""
    point = failpoint("point")
    outcomes: list[Outcome] = []

    async def wait() -> None:
        outcomes.append(await point)

    with configured("point", "pause") as handle:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(wait)
            await handle.wait_paused(5)
            assert handle.resume() == 5
    assert outcomes == [Continue()] * 5


async def test_nested_functions() -> None:
    """An inline failpoint works in nested functions, comprehensions and lambdas."""
    with configured("point", Return(1)) as handle:

        async def outer() -> list[Outcome]:
            async def inner() -> Outcome:
                return await failpoint("point")

            return [await inner(), *[await failpoint("point") for _ in range(2)], (lambda: failpoint("point").hit())()]

        assert await outer() == [Return(1)] * 4
        assert handle.hits == 4


def test_in_threads() -> None:
    """When threads hit a failpoint at once, each gets the outcome of its own visit."""
    barrier = threading.Barrier(8)
    outcomes: list[Outcome] = []

    def visit() -> None:
        barrier.wait()
        outcomes.append(failpoint("point").hit())

    with configured("point", "3*return(1)->return(2)") as handle:
        threads = [threading.Thread(target=visit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert handle.hits == handle.triggers == 8
    assert sorted(outcome.value for outcome in outcomes if isinstance(outcome, Return)) == ["1"] * 3 + ["2"] * 5


def test_hit_is_the_whole_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread can run a failpoint's `hit` directly, without a Python function around it."""
    done = threading.Event()
    errors: list[BaseException | None] = []
    hits: list[Hit] = []

    def unraisable(args: Any) -> None:
        errors.append(args.exc_value)
        done.set()

    def called(hit: Hit) -> None:
        hits.append(hit)
        done.set()

    monkeypatch.setattr(sys, "unraisablehook", unraisable)
    with configured("point", Call(called)):
        _thread.start_new_thread(failpoint("point").hit, ())
        assert done.wait(10)
    assert errors == []
    assert len(hits) == 1


def test_as_an_awaitable_of_asyncio() -> None:
    """A failpoint is an awaitable that asyncio's own functions accept."""

    async def main() -> list[Outcome]:
        return [
            *await asyncio.gather(failpoint("point"), failpoint("point")),
            await asyncio.wait_for(failpoint("point"), 10),
        ]

    with configured("point", Return(1)) as handle:
        assert asyncio.run(main()) == [Return(1)] * 3
        assert handle.hits == 3


# context


@every_visit
@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (None, {}),
        ({}, {}),
        ({"tenant_id": "t1", "shard": 3}, {"tenant_id": "t1", "shard": 3}),
        (lambda: {"tenant_id": "t1"}, {"tenant_id": "t1"}),
    ],
)
async def test_context(visit: Visit, context: Any, expected: dict[str, Any]) -> None:
    """An inline failpoint's context is a mapping, or a callable without arguments that returns one."""
    seen: list[Hit] = []
    with configured("point", Call(seen.append)):
        await visit(context=context)
    assert [(hit.name, hit.context) for hit in seen] == [("point", expected)]


@every_visit
async def test_context_is_of_the_visit(visit: Visit) -> None:
    """A context callable is called at each visit, and a mapping is read at each visit."""
    mapping = {"shard": 1}
    numbers = iter(range(9))
    with configured("point", "return", context={"shard": 2}) as handle:
        assert await visit(context=mapping) == Continue()
        mapping["shard"] = 2
        assert await visit(context=mapping) == Return(None)
        outcomes = [await visit(context=lambda: {"shard": next(numbers)}) for _ in range(4)]
        assert outcomes == [Continue(), Continue(), Return(None), Continue()]
        assert (handle.hits, handle.misses) == (2, 4)


@every_visit
@pytest.mark.parametrize(
    ("context", "got"), [(["tenant_id"], "['tenant_id']"), ("shard", "'shard'"), (42, "42"), (lambda: [1], "[1]")]
)
async def test_context_that_is_invalid(visit: Visit, context: Any, got: str) -> None:
    """An inline context that is neither a mapping nor a callable, such as a list, is a usage error."""
    assert await visit(context=context) == Continue()
    with configured("point", "off"), pytest.raises(FailpointUsageError) as caught:
        await visit(context=context)
    assert str(caught.value) == (
        f"failpoint 'point': context= must be a mapping of keys to values, or a callable that returns one; got {got}"
    )


# usage errors


@every_visit
@pytest.mark.parametrize("name", ["two words", "a=b", "a;b", "", "\a"])
async def test_bad_name(visit: Visit, name: str) -> None:
    """A bad name is reported at every visit while anything is configured."""
    assert await visit(name) == Continue()
    with configured("another", "off"):
        for _ in range(2):
            with pytest.raises(FailpointNameError, match="^a failpoint's name "):
                await visit(name)


@every_visit
@pytest.mark.parametrize(
    ("suffix", "options", "message"),
    [
        (
            ":after",
            {},
            "failpoint '{name}:after': names ending in ':after' are reserved for decorated functions and scopes;"
            " declare '{name}'",
        ),
        (
            "",
            {"raises": [OSError]},
            "failpoint '{name}': raises= must be a tuple of exception types; got [<class 'OSError'>]",
        ),
        ("", {"cancel": 42}, "failpoint '{name}': cancel= must be an event, or a callable that returns one; got 42"),
    ],
)
async def test_bad_use(visit: Visit, suffix: str, options: dict[str, Any], message: str) -> None:
    """An invalid site is a usage error at its first visit while it is configured."""
    name = f"bad.{visit.__name__}"  # type: ignore[attr-defined] - a place is checked once for each name
    assert await visit(name + suffix, **options) == Continue()
    with configured(name, "off"), pytest.raises(FailpointError) as caught:
        await visit(name + suffix, **options)
    assert (type(caught.value), str(caught.value)) == (FailpointUsageError, message.format(name=name))


async def test_forgotten_name() -> None:
    """Without a name, `failpoint` raises at once and names what is missing."""
    with pytest.raises(FailpointUsageError) as caught:
        failpoint()
    assert str(caught.value) == 'failpoint needs a name first: write failpoint("some.name")'
    with pytest.raises(FailpointNameError, match="^a failpoint's name must be a str; got None$"):
        failpoint(None)  # type: ignore[arg-type]


async def test_cancel_event_of_another_kind() -> None:
    """The cancel event must be a `threading.Event` in sync code, and an async event in async code."""
    with configured("point", "pause"):
        with pytest.raises(
            FailpointUsageError, match="in async code, cancel= must be an event of anyio, asyncio or trio"
        ):
            await failpoint("point", cancel=threading.Event())
        with pytest.raises(FailpointUsageError, match="in sync code, cancel= must be a threading.Event"):
            await visit_in_thread(cancel=anyio.Event())
        with pytest.raises(FailpointUsageError, match="cancel= must return an event or None; it returned 42"):
            await failpoint("point", cancel=lambda: 42)  # type: ignore[arg-type, return-value]
    assert status("point").waiting == ()


def test_site() -> None:
    """The site of an inline call is where the first one is made, and from its first visit on where it is visited."""

    async def visit() -> None:
        await failpoint("site.inline")
        failpoint("site.inline").hit()

    line = visit.__code__.co_firstlineno
    assert status("site.inline").sites == ()
    asyncio.run(visit())
    assert status("site.inline").sites == (f"{__file__}:{line + 1}",)
    with configured("site.inline", "off"):
        asyncio.run(visit())
    assert status("site.inline").sites == (f"{__file__}:{line + 1}", f"{__file__}:{line + 2}")
