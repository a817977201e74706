"""`failpoint_scope` is visited before and after a block."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio import to_thread

from failpoints import (
    Call,
    FailpointCancelled,
    FailpointError,
    FailpointNameError,
    FailpointPanic,
    FailpointUsageError,
    Hit,
    InjectedFault,
    Return,
    configure,
    configured,
    failpoint,
    failpoint_scope,
    status,
)

pytestmark = pytest.mark.anyio

Block = Callable[..., Awaitable[Any]]


async def async_block(body: Callable[[], Any] = int, name: str = "block", **options: Any) -> Any:
    """Run a body in an `async with` block."""
    async with failpoint_scope(name, **options):
        return body()


async def sync_block(body: Callable[[], Any] = int, name: str = "block", **options: Any) -> Any:
    """Run a body in a `with` block."""
    with failpoint_scope(name, **options):
        return body()


async def block_in_thread(body: Callable[[], Any] = int, name: str = "block", **options: Any) -> Any:
    """Run a body in a `with` block in a worker thread."""

    def run() -> Any:
        with failpoint_scope(name, **options):
            return body()

    return await to_thread.run_sync(run)


every_block = pytest.mark.parametrize("block", [async_block, sync_block, block_in_thread])


def note(log: list[str], *names: str) -> None:
    """Configure these failpoints to log their visits."""
    for name in names:
        configure(name, Call(lambda hit: log.append(hit.name)))


@every_block
async def test_nothing_configured(block: Block) -> None:
    """With nothing configured, a scope has no effect."""
    assert await block(lambda: 1) == 1
    with pytest.raises(LookupError):
        await block({}.popitem)


@every_block
async def test_before_and_after(block: Block) -> None:
    """`name` is visited before the block, and `name:after` after the block has completed."""
    log: list[str] = []
    note(log, "block", "block:after")
    await block(lambda: log.append("body"))
    assert log == ["block", "body", "block:after"]


@every_block
async def test_raise_before(block: Block) -> None:
    """`raise` at `name` skips the block, and `name:after` with it."""
    log: list[str] = []
    note(log, "block:after")
    with configured("block", "raise"), pytest.raises(InjectedFault, match="^injected by failpoint 'block'$"):
        await block(lambda: log.append("body"))
    assert log == []


@every_block
async def test_raise_after(block: Block) -> None:
    """`raise` at `name:after` is raised after the block, and names that failpoint."""
    log: list[str] = []
    with (
        configured("block:after", "raise"),
        pytest.raises(InjectedFault, match="^injected by failpoint 'block:after'$"),
    ):
        await block(lambda: log.append("body"))
    assert log == ["body"]


@every_block
@pytest.mark.parametrize("error", [LookupError("x"), KeyboardInterrupt(), FailpointPanic("x")])
async def test_block_that_raises(block: Block, error: BaseException) -> None:
    """If the block raises, `name:after` is not visited, and the error propagates unchanged."""

    def body() -> None:
        raise error

    with configured("block:after", "return") as after:
        with pytest.raises(type(error)) as caught:
            await block(body)
        assert after.hits == 0
    assert caught.value is error
    assert (error.__context__, error.__cause__) == (None, None)


async def test_left_early() -> None:
    """After a block left by `return`, `break` or `continue`, `name:after` is visited."""

    def returning() -> int:
        with failpoint_scope("block"):
            return 1

    async def looping() -> int:
        for number in range(3):
            async with failpoint_scope("block"):
                if number == 0:
                    continue
                break
        return number

    with configured("block:after", "off") as after:
        assert returning() == 1
        assert after.hits == 1
        assert await looping() == 1
        assert after.hits == 3
        configure("block:after", "raise(TimeoutError)")
        with pytest.raises(TimeoutError):
            returning()


async def test_suppressed_inside() -> None:
    """A block that handles its own error has completed, and `name:after` is visited."""
    with configured("block:after", "off") as after:
        async with failpoint_scope("block"):
            with contextlib.suppress(LookupError):
                raise LookupError
        assert after.hits == 1


async def test_cancelled_in_the_block() -> None:
    """Native cancellation of the block propagates, without a visit of `name:after`."""
    with configured("block:after", "off") as after:
        with anyio.CancelScope() as scope:
            async with failpoint_scope("block"):
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert after.hits == 0


@pytest.mark.parametrize("suffix", ["", ":after"])
async def test_cancelled_in_a_pause(suffix: str) -> None:
    """Native cancellation of a scope's pause propagates unchanged, and leaves no waiter."""
    log: list[str] = []

    async def run() -> None:
        try:
            await async_block(lambda: log.append("body"))
        except anyio.get_cancelled_exc_class():
            log.append("cancelled")
            raise

    with configured(f"block{suffix}", "pause") as handle:
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await handle.wait_paused()
            group.cancel_scope.cancel()
        assert handle.waiting == ()
    assert log == (["body", "cancelled"] if suffix else ["cancelled"])


# cancel


@pytest.mark.parametrize("suffix", ["", ":after"])
@pytest.mark.parametrize("actions", ["pause", "pause(60s)", "sleep(60s)"])
async def test_cancel(suffix: str, actions: str) -> None:
    """A cancel event set before or during a scope's wait raises `FailpointCancelled` with the name."""
    event = anyio.Event()
    errors: list[FailpointCancelled] = []
    log: list[str] = []

    async def run() -> None:
        with pytest.raises(FailpointCancelled) as caught:
            await async_block(lambda: log.append("body"), cancel=lambda: event)
        errors.append(caught.value)

    name = f"block{suffix}"
    with configured(name, actions) as handle:
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await handle.wait_paused()
            event.set()
        await run()
        assert handle.waiting == ()
    assert [error.name for error in errors] == [name, name]
    assert str(errors[0]) == f"the cancel event ended the wait at failpoint {name!r}"
    assert log == (["body", "body"] if suffix else [])


async def test_cancel_in_a_thread() -> None:
    """In sync code a `threading.Event` ends the wait with `FailpointCancelled`."""
    event = threading.Event()

    async def run() -> None:
        with pytest.raises(FailpointCancelled):
            await block_in_thread(cancel=event)

    with configured("block", "pause") as handle:
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await handle.wait_paused()
            event.set()


@pytest.mark.parametrize("suffix", ["", ":after"])
async def test_cancel_of_a_decorated_function(suffix: str) -> None:
    """The cancel event also ends a decorated function's wait with `FailpointCancelled`."""
    event = anyio.Event()
    event.set()

    @failpoint("function", cancel=event)
    async def function() -> int:
        return 1

    with configured(f"function{suffix}", "pause"), pytest.raises(FailpointCancelled) as caught:
        await function()
    assert caught.value.name == f"function{suffix}"
    assert isinstance(caught.value, FailpointError)


def test_native_cancel_events() -> None:
    """An `asyncio.Event` cancels a wait like an `anyio.Event`."""

    async def main() -> None:
        event = asyncio.Event()
        task = asyncio.create_task(async_block(cancel=event))
        await handle.wait_paused()
        event.set()
        with pytest.raises(FailpointCancelled):
            await task

    with configured("block", "pause") as handle:
        asyncio.run(main())


# options


@every_block
async def test_raises(block: Block) -> None:
    """Exceptions in a scope's `raises` can be raised by name, before and after the block."""

    class PaymentRefused(Exception):
        pass

    for name in ("block", "block:after"):
        with configured(name, "raise(PaymentRefused: no funds)"), pytest.raises(PaymentRefused, match="^no funds$"):
            await block(raises=(PaymentRefused,))


@every_block
@pytest.mark.parametrize(
    ("context", "expected"),
    [(None, {}), ({"shard": 3}, {"shard": 3}), (lambda: {"shard": 3}, {"shard": 3})],
)
async def test_context(block: Block, context: Any, expected: dict[str, Any]) -> None:
    """A scope's context, a mapping or a callable without arguments, applies to both visits."""
    seen: list[Hit] = []
    with configured("block", Call(seen.append)), configured("block:after", Call(seen.append)):
        await block(context=context)
    assert [(hit.name, hit.context) for hit in seen] == [("block", expected), ("block:after", expected)]


@every_block
async def test_context_only_when_configured(block: Block) -> None:
    """A scope's context is evaluated only for visits of configured failpoints."""
    calls: list[int] = []

    def context() -> dict[str, int]:
        calls.append(1)
        return {}

    await block(context=context)
    with configured("another", "off"):
        await block(context=context)
    assert calls == []
    with configured("block:after", "off"):
        await block(context=context)
    assert calls == [1]


@every_block
@pytest.mark.parametrize("context", [["shard"], "shard", 42])
async def test_context_that_is_invalid(block: Block, context: Any) -> None:
    """A list as context of a scope is a usage error, because a scope has no parameters."""
    with configured("block", "off"), pytest.raises(FailpointUsageError) as caught:
        await block(context=context)
    assert str(caught.value) == (
        "failpoint 'block': context= must be a mapping of keys to values, or a callable that returns one;"
        f" got {context!r}"
    )


@every_block
async def test_bad_names(block: Block) -> None:
    """A bad name, or one that ends in `:after`, is reported at the first visit while anything is configured."""
    await block(name="block:after")
    with configured("another", "off"):
        with pytest.raises(FailpointUsageError) as caught:
            await block(name="block:after")
        with pytest.raises(FailpointNameError):
            await block(name="two words")
    assert str(caught.value) == (
        "failpoint 'block:after': names ending in ':after' are reserved for decorated functions and scopes;"
        " declare 'block'"
    )


def test_forgotten_name() -> None:
    """Without a name, `failpoint_scope` raises an error that names what is missing."""
    with pytest.raises(FailpointUsageError) as caught:
        failpoint_scope()
    assert str(caught.value) == 'failpoint_scope needs a name first: write failpoint_scope("some.name")'
    with pytest.raises(FailpointNameError):
        failpoint_scope(None)  # type: ignore[arg-type]


def test_sites() -> None:
    """A scope is a known site of both its names, at the line of its `with`, from when it is made."""

    def run() -> None:
        with failpoint_scope("site.scope"):
            0

    assert status("site.scope").sites == ()
    expected = (f"{__file__}:{run.__code__.co_firstlineno + 1}",)
    run()
    assert status("site.scope").sites == status("site.scope:after").sites == expected
    with configured("site.scope", "off"):
        run()
    assert status("site.scope").sites == status("site.scope:after").sites == expected


# stored, nested, concurrent


async def test_kept() -> None:
    """A scope stored in a variable can be used repeatedly, in `with` and `async with`."""
    scope = failpoint_scope("block")
    with configured("block", "off") as before, configured("block:after", "off") as after:
        for _ in range(2):
            async with scope:
                pass
            with scope:
                pass
        assert (before.hits, after.hits) == (4, 4)


async def test_nested() -> None:
    """Scopes can be nested, including a scope in itself."""
    log: list[str] = []
    note(log, "outer", "outer:after", "inner", "inner:after")
    outer = failpoint_scope("outer")
    async with outer, failpoint_scope("inner"), outer:
        log.append("body")
    assert log == ["outer", "inner", "outer", "body", "outer:after", "inner:after", "outer:after"]


async def test_at_once() -> None:
    """Many tasks can enter one scope object at the same time."""
    scope = failpoint_scope("block", context={"kind": "kept"})
    entered: list[int] = []

    async def run(number: int) -> None:
        async with scope:
            entered.append(number)

    with configured("block", "pause") as before, configured("block:after", "off") as after:
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(run, number)
            await before.wait_paused(5)
            assert entered == []
            assert before.resume() == 5
        assert after.hits == 5
    assert sorted(entered) == [0, 1, 2, 3, 4]


async def test_in_an_exit_stack() -> None:
    """A scope entered through an exit stack is visited at entry and exit, at the caller's line."""
    with configured("stacked", "off") as before, configured("stacked:after", "off") as after:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(failpoint_scope("stacked"))
            stack.enter_context(failpoint_scope("stacked"))
            assert (before.hits, after.hits) == (2, 0)
        assert (before.hits, after.hits) == (2, 2)


async def test_configured_in_the_block() -> None:
    """A configuration made while a block runs takes effect at the end of the block."""
    with pytest.raises(InjectedFault):
        async with failpoint_scope("block"):
            configure("block:after", "raise")


async def test_return_value_chosen_by_a_call() -> None:
    """A `Call` can choose a different return value at each visit of a scope."""

    @failpoint("function")
    async def function(number: int) -> int:
        async with failpoint_scope("block", context={"number": number}):
            return number

    with configured("block", Call(lambda hit: Return(-1) if hit.context["number"] == 2 else None)):
        assert [await function(number) for number in range(4)] == [0, 1, -1, 3]
