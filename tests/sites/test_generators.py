"""Decorated sync and async generators are visited at the first step and at exhaustion."""

from __future__ import annotations

import contextlib
import gc
import sys
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any, TypeAlias

import anyio
import pytest

from failpoints import (
    Call,
    FailpointUsageError,
    InjectedFault,
    Return,
    configure,
    configured,
    failpoint,
    status,
)

pytestmark = pytest.mark.anyio

Log: TypeAlias = list[Any]


def described(error: BaseException | None) -> list[Any] | None:
    """Return the text of an exception, with its cause and its context."""
    if error is None:
        return None
    return [repr(error), described(error.__cause__), described(error.__context__), error.__suppress_context__]


# bodies: each logs what it receives


def plain(log: Log) -> Generator[Any, Any, Any]:
    log.append((yield 1))
    log.append((yield 2))
    return 3


def catching(log: Log) -> Generator[Any, Any, Any]:
    for number in range(3):
        try:
            log.append((yield number))
        except ValueError as error:
            log.append(described(error))
    return "done"


def cleaning_up(log: Log) -> Generator[Any, Any, Any]:
    try:
        yield 1
        yield 2
    except BaseException as error:
        log.append(described(error))
        raise
    finally:
        log.append("finally")


def failing_in_finally(log: Log) -> Generator[Any, Any, Any]:
    try:
        yield 1
    finally:
        raise LookupError("finally")


def raising_from(log: Log) -> Generator[Any, Any, Any]:
    try:
        yield 1
    except ValueError as error:
        raise LookupError("from") from error


def ignoring_exit(log: Log) -> Generator[Any, Any, Any]:
    try:
        yield 1
    except GeneratorExit as error:
        log.append(described(error))
        yield 2


def swallowing_exit(log: Log) -> Generator[Any, Any, Any]:
    try:
        yield 1
    except GeneratorExit as error:
        log.append(described(error))
    return 4


def delegating(log: Log) -> Generator[Any, Any, Any]:
    log.append((yield from catching(log)))
    return (yield from plain(log))


def raising_stop(log: Log) -> Generator[Any, Any, Any]:
    yield 1
    raise StopIteration(5)


def empty(log: Log) -> Generator[Any, Any, Any]:
    log.append("empty")
    return
    yield


def seeing_the_caller(log: Log) -> Generator[Any, Any, Any]:
    yield described(sys.exception())
    yield described(sys.exception())


async def async_plain(log: Log) -> AsyncGenerator[Any, Any]:
    log.append((yield 1))
    await anyio.lowlevel.checkpoint()
    log.append((yield 2))


async def async_catching(log: Log) -> AsyncGenerator[Any, Any]:
    for number in range(3):
        try:
            log.append((yield number))
        except ValueError as error:
            log.append(described(error))


async def async_cleaning_up(log: Log) -> AsyncGenerator[Any, Any]:
    try:
        yield 1
        yield 2
    except BaseException as error:
        log.append(described(error))
        raise
    finally:
        log.append("finally")


async def async_failing_in_finally(log: Log) -> AsyncGenerator[Any, Any]:
    try:
        yield 1
    finally:
        raise LookupError("finally")


async def async_raising_from(log: Log) -> AsyncGenerator[Any, Any]:
    try:
        yield 1
    except ValueError as error:
        await anyio.lowlevel.checkpoint()
        raise LookupError("from") from error


async def async_ignoring_exit(log: Log) -> AsyncGenerator[Any, Any]:
    try:
        yield 1
    except GeneratorExit as error:
        log.append(described(error))
        yield 2


async def async_swallowing_exit(log: Log) -> AsyncGenerator[Any, Any]:
    try:
        yield 1
    except GeneratorExit as error:
        log.append(described(error))


async def async_raising_stop(log: Log) -> AsyncGenerator[Any, Any]:
    yield 1
    raise StopAsyncIteration(5)


async def async_empty(log: Log) -> AsyncGenerator[Any, Any]:
    log.append("empty")
    return
    yield


async def async_seeing_the_caller(log: Log) -> AsyncGenerator[Any, Any]:
    yield described(sys.exception())
    yield described(sys.exception())


BODIES = [
    plain,
    catching,
    cleaning_up,
    failing_in_finally,
    raising_from,
    ignoring_exit,
    swallowing_exit,
    delegating,
    raising_stop,
    empty,
    seeing_the_caller,
]
ASYNC_BODIES = [
    async_plain,
    async_catching,
    async_cleaning_up,
    async_failing_in_finally,
    async_raising_from,
    async_ignoring_exit,
    async_swallowing_exit,
    async_raising_stop,
    async_empty,
    async_seeing_the_caller,
]

# scripts: the steps that a test takes with a generator

SEND, THROW, CLOSE = "send", "throw", "close"
NEXT = (SEND, None)
SCRIPTS: dict[str, list[tuple[Any, ...]]] = {
    "exhausted": [NEXT] * 8,
    "sent to": [NEXT, (SEND, "a"), (SEND, "b"), (SEND, "c"), NEXT],
    "sent to too early": [(SEND, "a"), NEXT, NEXT],
    "thrown into": [NEXT, (THROW, lambda: ValueError("thrown")), NEXT, NEXT],
    "thrown into twice": [NEXT, (THROW, lambda: ValueError("one")), (THROW, lambda: ValueError("two")), NEXT],
    "thrown into too early": [(THROW, lambda: ValueError("early")), NEXT],
    "thrown an unexpected one": [NEXT, (THROW, lambda: KeyError("key")), NEXT],
    "thrown a class": [NEXT, (THROW, lambda: ValueError), NEXT],
    "thrown a stop": [NEXT, (THROW, lambda: StopIteration(1)), NEXT],
    "thrown an async stop": [NEXT, (THROW, lambda: StopAsyncIteration(1)), NEXT],
    "thrown an exit": [NEXT, (THROW, lambda: GeneratorExit("why")), NEXT],
    "closed": [NEXT, (CLOSE,), NEXT],
    "closed twice": [NEXT, (CLOSE,), (CLOSE,)],
    "closed early": [(CLOSE,), NEXT],
    "closed after the end": [*[NEXT] * 8, (CLOSE,)],
    "closed after throwing": [NEXT, (THROW, lambda: ValueError("thrown")), (CLOSE,), NEXT],
}

every_script = pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)


def trace(function: Callable[[Log], Generator[Any, Any, Any]], script: list[tuple[Any, ...]]) -> Log:
    """Run the script and return everything that the generator and its user see."""
    log: Log = []
    generator = function(log)
    for step, *arguments in script:
        try:
            if step is SEND:
                log.append(generator.send(*arguments))
            elif step is THROW:
                log.append(generator.throw(arguments[0]()))
            else:
                log.append(("closed", generator.close()))
        except BaseException as error:
            log.append(described(error))
    with contextlib.suppress(Exception):
        generator.close()
    return log


async def async_trace(function: Callable[[Log], AsyncGenerator[Any, Any]], script: list[tuple[Any, ...]]) -> Log:
    """Run the script and return everything that the async generator and its user see."""
    log: Log = []
    generator = function(log)
    for step, *arguments in script:
        try:
            if step is SEND:
                log.append(await generator.asend(*arguments))
            elif step is THROW:
                log.append(await generator.athrow(arguments[0]()))
            else:
                log.append(("closed", await generator.aclose()))
        except BaseException as error:
            log.append(described(error))
    with contextlib.suppress(Exception):
        await generator.aclose()
    return log


@every_script
@pytest.mark.parametrize("body", BODIES)
def test_like_its_twin(body: Any, script: list[tuple[Any, ...]]) -> None:
    """Steps, `send`, `throw` and `close` of a decorated generator behave as if undecorated."""
    expected = trace(body, script)
    decorated = failpoint("generator")(body)
    assert trace(decorated, script) == expected
    with configured("another", "off"):
        assert trace(decorated, script) == expected
    with configured("generator", "off"), configured("generator:after", "off"):
        assert trace(decorated, script) == expected


@every_script
@pytest.mark.parametrize("body", ASYNC_BODIES)
async def test_async_like_its_twin(body: Any, script: list[tuple[Any, ...]]) -> None:
    """Steps, `asend`, `athrow` and `aclose` of a decorated async generator behave as if undecorated."""
    expected = await async_trace(body, script)
    decorated = failpoint("generator")(body)
    assert await async_trace(decorated, script) == expected
    with configured("another", "off"):
        assert await async_trace(decorated, script) == expected
    with configured("generator", "off"), configured("generator:after", "off"):
        assert await async_trace(decorated, script) == expected


@pytest.mark.parametrize("body", BODIES[:3])
def test_thrown_while_handling(body: Any) -> None:
    """An exception thrown while the caller handles another one has the same context as undecorated."""

    def used(function: Callable[[Log], Generator[Any, Any, Any]]) -> Log:
        try:
            raise KeyError("handled")
        except KeyError:
            return trace(function, SCRIPTS["thrown into twice"])

    with configured("another", "off"):
        assert used(failpoint("generator")(body)) == used(body)


async def test_async_thrown_while_handling() -> None:
    """An exception thrown into an async generator during another one has the same context as undecorated."""

    async def used(function: Callable[[Log], AsyncGenerator[Any, Any]], name: str) -> Log:
        try:
            raise KeyError("handled")
        except KeyError:
            return await async_trace(function, SCRIPTS[name])

    with configured("another", "off"):
        for body in ASYNC_BODIES[:5]:
            for name in ("thrown into twice", "closed", "exhausted"):
                assert await used(failpoint("generator")(body), name) == await used(body, name)


# where the two failpoints are


def counting(log: Log) -> tuple[Callable[[], Iterator[int]], Callable[[], AsyncIterator[int]]]:
    """Make a decorated generator function and its async counterpart, which log their steps and their visits."""

    @failpoint("count")
    def count() -> Generator[int, None, int]:
        log.append("body")
        try:
            yield 1
            yield 2
        finally:
            log.append("finally")
        return 3

    @failpoint("count")
    async def async_count() -> AsyncIterator[int]:
        log.append("body")
        try:
            yield 1
            yield 2
        finally:
            log.append("finally")

    for name in ("count", "count:after"):
        configure(name, Call(lambda hit: log.append(hit.name)))
    return count, async_count


async def steps(generator: Any, most: int = 9) -> Log:
    """Return the first *most* items of a generator of either kind, then close it."""
    items: Log = []
    if hasattr(generator, "__anext__"):
        async with contextlib.aclosing(generator):
            async for item in generator:
                items.append(item)
                if len(items) == most:
                    break
    else:
        with contextlib.closing(generator):
            for item in generator:
                items.append(item)
                if len(items) == most:
                    break
    return items


both_kinds = pytest.mark.parametrize("which", [0, 1], ids=["sync", "async"])


@both_kinds
async def test_first_step_and_exhaustion(which: int) -> None:
    """`name` is visited at the first step, not at the call, and `name:after` at exhaustion."""
    log: Log = []
    generator = counting(log)[which]()
    assert log == []
    assert await steps(generator) == [1, 2]
    assert log == ["count", "body", "finally", "count:after"]


@both_kinds
async def test_break_is_not_exhaustion(which: int) -> None:
    """Leaving a loop early does not visit `name:after`."""
    log: Log = []
    assert await steps(counting(log)[which](), most=1) == [1]
    assert log == ["count", "body", "finally"]


async def test_swallowed_exit_is_not_exhaustion() -> None:
    """Closing a generator whose body swallows the `GeneratorExit` does not visit `name:after`."""
    with configured("generator", "off") as before, configured("generator:after", "off") as after:
        trace(failpoint("generator")(swallowing_exit), SCRIPTS["closed"])
        await async_trace(failpoint("generator")(async_swallowing_exit), SCRIPTS["closed"])
        assert (before.hits, after.hits) == (2, 0)


@both_kinds
async def test_never_started(which: int) -> None:
    """A generator that is never started visits nothing, whether or not it is closed."""
    log: Log = []
    generator = counting(log)[which]()
    if which:
        await generator.aclose()
    else:
        generator.close()
    counting(log)[which]()
    gc.collect()
    assert log == []


@both_kinds
async def test_raising_at_either_end(which: int) -> None:
    """`raise` at `name` is raised by the first step, and at `name:after` by the last."""
    log: Log = []
    function = counting(log)[which]
    configure("count", "raise")
    with pytest.raises(InjectedFault):
        await steps(function())
    assert log == []
    configure("count", "off")
    configure("count:after", "raise(TimeoutError)")
    generator = function()
    with pytest.raises(TimeoutError):
        await steps(generator)
    assert log == ["body", "finally"]
    assert await steps(generator) == []


@both_kinds
@pytest.mark.parametrize("name", ["count", "count:after"])
async def test_return_ends_the_iteration(which: int, name: str) -> None:
    """`return` ends the iteration, before the first item or after the last."""
    log: Log = []
    function = counting(log)[which]
    configure(name, "return")
    assert await steps(function()) == ([] if name == "count" else [1, 2])
    assert "body" in log if name == "count:after" else "body" not in log


@pytest.mark.parametrize(
    ("name", "action", "value"),
    [
        ("count", "return", None),
        ("count", "return(42)", 42),
        ("count:after", "return(42)", 42),
        ("count:after", "return", None),
        ("count", Return("7"), 7),
        ("count", Return([1]), [1]),
        ("another", "off", 3),
    ],
)
def test_returned_value(name: str, action: Any, value: object) -> None:
    """A sync generator returns `v` in its `StopIteration`, converted to its `Generator` annotation."""
    count = counting([])[0]

    def delegate() -> Generator[int, None, Any]:
        return (yield from count())  # type: ignore[func-returns-value]

    configure(name, action)
    generator = delegate()
    with pytest.raises(StopIteration) as stop:
        while True:
            next(generator)
    assert stop.value.value == value


@pytest.mark.parametrize("name", ["count", "count:after"])
@pytest.mark.parametrize("action", [Return(42), "return(42)", Return(0), Return(""), Return(False)])
async def test_async_generator_cannot_return(name: str, action: Any) -> None:
    """Returning a value other than `None` from an async generator is a usage error."""
    count = counting([])[1]
    configure(name, action)
    value = "42" if isinstance(action, str) else action.value
    with pytest.raises(FailpointUsageError) as caught:
        await steps(count())
    assert str(caught.value) == (
        f"failpoint {name!r} cannot return {value!r} from the async generator counting.<locals>.async_count,"
        " which can only end: configure 'return' without a value"
    )


async def test_methods() -> None:
    """Generators that are methods or class methods are visited like functions."""

    class Owner:
        @failpoint("method", context=["self", "first"])
        def generator(self, first: int) -> Iterator[int]:
            yield first

        @failpoint("method", context=["cls", "first"])
        @classmethod
        async def async_generator(cls, first: int) -> AsyncIterator[int]:
            yield first

    owner = Owner()
    with configured("method", "off", context={"first": 5}) as handle:
        assert await steps(owner.generator(5)) == await steps(Owner.async_generator(5)) == [5]
        assert handle.hits == 2
        with pytest.raises(TypeError, match="first"):
            owner.generator()  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="first"):
            Owner.async_generator()  # type: ignore[call-arg]


async def test_stacked() -> None:
    """Two failpoints on one generator are visited from the outer to the inner and back."""
    log: Log = []

    @failpoint("outer")
    @failpoint("inner")
    async def items() -> AsyncIterator[int]:
        yield 1

    for name in ("outer", "inner", "inner:after", "outer:after"):
        configure(name, Call(lambda hit: log.append(hit.name)))
    assert await steps(items()) == [1]
    assert log == ["outer", "inner", "inner:after", "outer:after"]


# abandoned and cancelled


def abandoned(function: Callable[[Log], Any], log: Log, backend: Any, *, by_gc: bool) -> list[str]:
    """Return the warnings when an async generator that yielded once is dropped, or outlives its loop."""
    name, options = backend
    kept: list[Any] = []

    async def main() -> None:
        generator = function(log)
        await anext(generator)
        if by_gc:
            del generator
            gc.collect()
            await anyio.lowlevel.checkpoint()
            await anyio.wait_all_tasks_blocked()
        else:
            kept.append(generator)

    with warnings.catch_warnings(record=True) as caught, pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("always")
        patch.setattr(sys, "unraisablehook", lambda unraisable: log.append(described(unraisable.exc_value)))
        anyio.run(main, backend=name, backend_options=options)
        kept.clear()
        gc.collect()
    return [warning.category.__name__ for warning in caught]


@pytest.mark.parametrize("by_gc", [True, False], ids=["collected", "loop_ends"])
@pytest.mark.parametrize("body", [async_plain, async_cleaning_up, async_failing_in_finally, async_ignoring_exit])
def test_abandoned(anyio_backend: Any, body: Any, by_gc: bool) -> None:
    """An abandoned async generator is finalised as if undecorated, without additional warnings."""
    log: Log = []
    twin_log: Log = []
    expected = abandoned(body, twin_log, anyio_backend, by_gc=by_gc)
    with configured("generator", "off"), configured("generator:after", "off") as after:
        assert abandoned(failpoint("generator")(body), log, anyio_backend, by_gc=by_gc) == expected
        assert after.hits == 0
    assert [repr(entry) for entry in log] == [repr(entry) for entry in twin_log]


def test_abandoned_sync() -> None:
    """A sync generator that is dropped is closed at once, as if undecorated."""
    log: Log = []
    with configured("generator", "off"), configured("generator:after", "off") as after:
        generator = failpoint("generator")(cleaning_up)(log)
        next(generator)
        del generator
        assert log == [described(GeneratorExit()), "finally"]
        assert after.hits == 0


async def test_cancelled_in_the_body() -> None:
    """Native cancellation passes through a decorated async generator, without a visit of `name:after`."""
    log: Log = []

    @failpoint("generator")
    async def items() -> AsyncIterator[int]:
        yield 1
        try:
            scope.cancel()
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            log.append("cancelled")
            raise

    with configured("generator:after", "off") as after:
        with anyio.CancelScope() as scope:
            await steps(items())
        assert scope.cancelled_caught
        assert after.hits == 0
    assert log == ["cancelled"]


@pytest.mark.parametrize("suffix", ["", ":after"])
async def test_cancelled_in_a_pause(suffix: str) -> None:
    """Native cancellation ends the pause of an async generator, and leaves no waiter."""

    @failpoint("generator")
    async def items() -> AsyncIterator[int]:
        yield 1

    name = f"generator{suffix}"
    with configured(name, "pause") as handle:
        async with anyio.create_task_group() as group:
            group.start_soon(steps, items())
            await handle.wait_paused()
            group.cancel_scope.cancel()
        assert status(name).waiting == ()


async def test_paused_and_resumed() -> None:
    """A pause at either end holds the iteration until it is resumed."""
    results: Log = []

    @failpoint("generator")
    async def items() -> AsyncIterator[int]:
        yield 1

    async def consume() -> None:
        results.append(await steps(items()))

    with configured("generator", "pause") as before, configured("generator:after", "pause") as after:
        async with anyio.create_task_group() as group:
            group.start_soon(consume)
            await before.wait_paused()
            assert before.resume() == 1
            await after.wait_paused()
            assert results == []
            assert after.resume() == 1
    assert results == [[1]]
