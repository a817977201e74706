"""Calls made by `failpoints` itself never visit a failpoint, whatever is instrumented."""

from __future__ import annotations

import builtins
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import anyio
import anyio.to_thread
import pytest

from failpoints import (
    ActionSyntaxError,
    Call,
    FailpointUsageError,
    Hit,
    configure,
    configured,
    failpoint,
    failpoint_scope,
    remove,
    reset,
    resume,
    status,
    statuses,
    wait_until_hit,
    wait_until_paused,
)
from failpoints.instrument import instrument

PATHS = [
    "logging:Logger.info",
    "logging:Logger.isEnabledFor",
    "logging:Logger.handle",
    "logging:Handler.handle",
    "json:dumps",
    "json:loads",
    "re:compile",
    "re:fullmatch",
    "threading:RLock",
    "threading:get_ident",
    "threading:current_thread",
    "time:sleep",
    "time:monotonic",
    "inspect:currentframe",
    "inspect:signature",
    "inspect:Signature.bind",
    "inspect:isawaitable",
    "inspect:unwrap",
    "typing:get_type_hints",
    "difflib:get_close_matches",
    "contextlib:_GeneratorContextManager.__enter__",
    "functools:wraps",
    "enum:EnumType.__call__",
    "random:Random.seed",
    "anyio:Event.wait",
    "anyio:Event.set",
    "anyio:CancelScope.__enter__",
    "anyio:move_on_after",
    "anyio.lowlevel:checkpoint",
    "anyio.lowlevel:current_token",
    "asyncio:sleep",
    "asyncio:get_running_loop",
    "sys:_getframe",
    "os:getpid",
]


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Collect what `failpoints` logs, with a handler that does nothing else."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            lines.append(record.getMessage())
            return True

    logger = logging.getLogger("failpoints")
    handler = Handler()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def visited(logged: list[str]) -> Iterator[list[str]]:
    """Instrument all these functions, and configure them to log their visits."""
    names: list[str] = []
    with ExitStack() as stack:
        stack.callback(reset)
        for path in PATHS:
            stack.enter_context(instrument(path, path.replace(":", ".")))
        for path in PATHS:
            configure(path.replace(":", "."), Call(lambda hit: names.append(hit.name)))
        names.clear()
        yield names


@failpoint("sync", context=["number"])
def sync(number: int) -> int:
    with failpoint_scope("scope"):
        outcome = failpoint("inline").hit()
    return number if not outcome else 0


@failpoint("later", context=lambda number: {"number": number})
async def later(number: int) -> int:
    async with failpoint_scope("scope"):
        await failpoint("inline")
    return number


@failpoint("each")
def each(number: int) -> Iterator[int]:
    yield from range(number)


def test_sync_visits_of_every_kind(visited: list[str], logged: list[str]) -> None:
    """Configuring, visiting with every action, logging and querying do not visit instrumented functions."""
    visited.clear()  # visits by pytest
    for actions in ("off", "50%print(x)", "return(7)", "yield", "sleep(1)", "delay(1)", "1*return->off"):
        configure("sync", actions, context={"number": ".*"})
        configure("each", "off")
        configure("scope", "25%print")
        sync(3)
        list(each(2))
    configure("sync", "raise(OSError)")
    raised: list[type[BaseException]] = []
    for call in (lambda: sync(3), lambda: configure("sync", "retrun"), lambda: instrument("json:dumsp", "x")):
        try:
            call()
        except Exception as error:
            raised.append(type(error))
            str(error)
    configure("sync", Call(lambda hit: None))
    sync(3)
    statuses()
    status("sync")
    remove("sync")
    assert visited == []
    assert raised == [OSError, ActionSyntaxError, FailpointUsageError]
    assert any(line.startswith("hit sync") for line in logged)


@pytest.mark.anyio
async def test_async_visits(visited: list[str], logged: list[str]) -> None:
    """Async visits of every kind, with waits and wake-ups, do not visit instrumented functions."""
    configure("later", "1*yield->1*sleep(1)->1*print->1*return(1)->off", context={"number": lambda number: number > 0})
    configure("inline", "off")
    visited.clear()  # visits by the event loop
    for _ in range(5):
        await later(1)
    await wait_until_hit("later", 5, timeout=20)
    configure("later", "pause")
    theirs: list[str] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(later, 1)
        await wait_until_paused("later", timeout=20)
        theirs = [name for name in visited if not name.startswith(("asyncio", "threading.get_ident"))]
        resume("later")
    assert "paused later" in " ".join(logged)
    assert {*theirs} <= OF_THE_LOOPS
    assert not {"anyio.Event.set", "logging.Logger.info", "random.Random.seed"} & {*visited}


OF_THE_LOOPS = {"contextlib._GeneratorContextManager.__enter__", "functools.wraps", "time.monotonic"}


@pytest.mark.anyio
async def test_pauses_in_threads(visited: list[str]) -> None:
    """A thread paused at a failpoint is woken even if the locks and clocks it uses are instrumented."""
    configure("sync", "pause")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, sync, 1)
        await wait_until_paused("sync", timeout=20)
        remove("sync")
    assert not {"anyio.Event.set", "logging.Logger.info", "time.sleep"} & {*visited}


def test_a_call_of_the_program_visits(visited: list[str]) -> None:
    """The same functions are visited when the program calls them, even in the body of another failpoint."""

    @failpoint("body")
    def body() -> str:
        return json.dumps(re.compile("a").pattern)

    @failpoint("steps")
    def steps() -> Iterator[str]:
        yield json.dumps(1)

    visited.clear()  # decorating calls functools, for example
    body()
    list(steps())
    assert visited.count("json.dumps") == 2
    configure("body", "off")
    configure("steps", "off")
    configure("scope", "off")
    visited.clear()
    body()
    list(steps())
    with failpoint_scope("scope"):
        logging.getLogger("elsewhere").info("hello")
    assert set(visited) >= {"json.dumps", "re.compile", "logging.Logger.info"}


@pytest.mark.anyio
async def test_calls_from_a_call_action_visit() -> None:
    """Calls from the function of a `Call` are visited, in sync and in async code."""

    async def write(hit: Hit) -> None:
        json.dumps(1)

    with instrument("json:dumps", "json.dumps"), configured("json.dumps", "off") as dumps:
        with configured("sync", Call(lambda hit: json.dumps(1) and None)):
            sync(1)
        assert dumps.hits == 1
        with configured("later", Call(write)):
            await later(1)
        assert dumps.hits == 2


def test_callbacks_do_not_visit() -> None:
    """Contexts, predicates, converters, `repr` and log handlers neither recurse nor visit failpoints."""
    asked: list[str] = []

    class Shown:
        def __repr__(self) -> str:
            asked.append("repr")
            return json.dumps("shown")

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            asked.append("handler")
            noted(record.getMessage())

    @failpoint("noted")
    def noted(text: str) -> str:
        return json.dumps(text)

    def context(*args: Any, **kwargs: Any) -> dict[str, Any]:
        asked.append("context")
        return {"as": json.dumps(args[0]), "thing": Shown()}

    def convert(text: str) -> str:
        asked.append("convert")
        return json.dumps(text)

    def predicate(value: object) -> bool:
        asked.append("predicate")
        return bool(json.dumps(1))

    logger = logging.getLogger("failpoints")
    handler = Handler()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with (
            instrument("json:dumps", "json.dumps", context=context, convert=convert),
            configured("json.dumps", "return(x)", context={"as": predicate}) as dumps,
        ):
            assert json.dumps(1) == '"x"'
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert set(asked) == {"repr", "handler", "context", "convert", "predicate"}
    assert dumps.hits == 1


@pytest.mark.anyio
async def test_it_does_not_leak_into_tasks() -> None:
    """Calls of a task that a log handler, a predicate or a `Call` starts are visited."""

    async def write() -> None:
        json.dumps(1)

    async with anyio.create_task_group() as tasks:

        def start(value: object) -> bool:
            tasks.start_soon(write)
            return True

        with instrument("json:dumps", "json.dumps"), configured("json.dumps", "off") as dumps:
            with configured("sync", "off", context={"number": start}):
                sync(1)
            await dumps.wait_hit(1, timeout=20)


def test_on_a_thread_without_another_frame() -> None:
    """A call from the bottom of a thread's stack counts as the program's call."""
    import _thread

    done = threading.Event()
    with instrument("json:dumps", "json.dumps"), configured("json.dumps", Call(lambda hit: done.set())) as dumps:
        _thread.start_new_thread(json.dumps, (1,))
        assert done.wait(20)
        assert dumps.hits == 1


@pytest.mark.parametrize("name", [name for name, thing in vars(builtins).items() if type(thing) is type(len)])
def test_builtin_functions(name: str) -> None:
    """Any builtin function can be a failpoint, and visits of other failpoints do not reach it."""
    before = getattr(builtins, name)
    hits: Callable[[], int] = lambda: status("builtin").hits  # noqa: E731
    with instrument(f"builtins:{name}", "builtin"):
        configure("builtin", "off")
        before_visits = hits()
        sync(1)
        for _ in each(1):
            pass
        count = hits() - before_visits
        remove("builtin")
    assert getattr(builtins, name) is before
    assert count == 0


def test_deep_stacks_are_fast() -> None:
    """A visit on a deep stack takes little time."""

    def deep(depth: int) -> float:
        if depth:
            return deep(depth - 1)
        begin = time.perf_counter()
        for _ in range(100):
            json.dumps(1)
        return time.perf_counter() - begin

    with instrument("json:dumps", "json.dumps"), configured("elsewhere", "off"):
        assert deep(500) < 1.0  # seconds for 100 calls
