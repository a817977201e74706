"""Checked by mypy and pyright, never run: the public API and the exact types of decorated functions."""

from __future__ import annotations

import asyncio
import math
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any, assert_type

import anyio
import trio
from starlette.applications import Starlette

import failpoints
from failpoints import (
    Call,
    Cancel,
    Cancelled,
    Continue,
    FailpointStatus,
    Handle,
    Hit,
    Off,
    Outcome,
    Pause,
    Raise,
    Registry,
    Return,
    Sleep,
    Term,
    Then,
    Waiting,
    failpoint,
    failpoint_context,
    failpoint_scope,
)
from failpoints.admin import admin_app
from failpoints.client import FailpointsClient, RemoteHandle
from failpoints.explore import CrashExploration, Exploration, Injected, Run, acknowledge, explore, explore_crashes
from failpoints.files import instrument_files
from failpoints.pytest_plugin import Failpoints


def number_of(number: int, *, text: str = "") -> dict[str, int]:
    return {"number": number}


@failpoint("function", context=["number"], reads=("number:{number}",), writes=("log",))
def function(number: int, *, text: str = "") -> bytes:
    return text.encode() * number


@failpoint("coroutine", context=number_of)
async def coroutine(number: int, *, text: str = "") -> bytes:
    return text.encode() * number


@failpoint("generator")
def generator(number: int) -> Generator[int, str, bytes]:
    text = yield number
    return text.encode()


@failpoint("async generator")
async def async_generator(number: int) -> AsyncGenerator[int, str]:
    text = yield number
    yield len(text)


@failpoint("async iterator")
async def async_iterator() -> AsyncIterator[int]:
    yield 1


class Thing:
    @failpoint("method", raises=(OSError, TimeoutError), convert=int)
    async def method(self, number: int) -> int:
        return number

    @failpoint("class method outside")
    @classmethod
    def class_method_outside(cls, number: int) -> str:
        return str(number)

    @classmethod
    @failpoint("class method inside")
    def class_method_inside(cls, number: int) -> str:
        return str(number)

    @failpoint("static method outside")
    @staticmethod
    async def static_method_outside(number: int) -> str:
        return str(number)

    @staticmethod
    @failpoint("static method inside")
    async def static_method_inside(number: int) -> str:
        return str(number)


async def decorated_functions_keep_their_types() -> None:
    assert_type(function(1, text="x"), bytes)
    assert_type(await coroutine(1, text="x"), bytes)
    assert_type(generator(1), Generator[int, str, bytes])
    assert_type(async_generator(1), AsyncGenerator[int, str])
    assert_type(async_iterator(), AsyncIterator[int])
    stored: Callable[[int], Coroutine[Any, Any, bytes]] = coroutine
    assert_type(await stored(1), bytes)

    function("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await coroutine(1, txt="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def decorated_methods_keep_their_types() -> None:
    thing = Thing()
    assert_type(await thing.method(1), int)
    assert_type(await Thing.method(thing, 1), int)
    assert_type(Thing.class_method_outside(1), str)
    assert_type(Thing.class_method_inside(1), str)
    assert_type(thing.class_method_inside(1), str)
    assert_type(await Thing.static_method_outside(1), str)
    assert_type(await Thing.static_method_inside(1), str)

    await thing.method("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def an_outcome_is_one_of_three() -> str:
    outcome = await failpoint("inline", context={"number": 1}, cancel=anyio.Event(), reads=("account:{account}",))
    assert_type(outcome, Outcome)
    assert_type(failpoint("inline").hit(), Outcome)
    match outcome:
        case Return(value):
            return str(value)
        case Cancelled():
            return "cancelled"
        case Continue():
            return "continue"


async def a_forgotten_await_is_an_error() -> None:
    # Neither checker reports this by default. This project enables mypy's unused-awaitable.
    failpoint("inline")  # type: ignore[unused-awaitable]


async def scopes() -> None:
    async with failpoint_scope("scope", context=lambda: {"number": 1}, raises=(OSError,)):
        pass
    with failpoint_scope("scope", cancel=threading.Event(), writes=("log",)), failpoint_context(tenant_id="t1"):
        pass
    for cancel in (asyncio.Event(), trio.Event(), anyio.Event(), lambda: None):
        async with failpoint_scope("scope", cancel=cancel):
            pass


async def configuring() -> None:
    failpoints.configure("name", "pause")
    failpoints.configure("name", Pause(timedelta(seconds=1)), context={"tenant_id": "t.*", "x": re.compile("y")})
    failpoints.configure("name", [Term(Off(), times=2), Raise(OSError("disk full"))])
    failpoints.configure("name", Call(called), context={"size": lambda size: size > 10})
    failpoints.configure_all([("name", Sleep(1)), ("other", "off", {"shard": 3})])
    failpoints.configure("name", 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with failpoints.configured("name", "off") as handle:
        assert_type(handle, Handle)
        assert_type(handle.hits, int)
        assert_type(handle.waiting, tuple[Waiting, ...])
    async with failpoints.configured("name", "off") as handle:
        await handle.wait_hit(timeout=1)
    with Registry() as registry:
        assert_type(registry, Registry)
        assert_type(registry.resume("name"), int)
    await failpoints.wait_until_hit("name", 2, timeout=1)
    await failpoints.wait_until_paused("name", tasks=2)
    failpoints.wait_until_hit_sync("name", 2, timeout=1)
    failpoints.wait_until_paused_sync("name", tasks=2)
    assert_type(failpoints.status("name"), FailpointStatus)
    assert_type(failpoints.statuses(), list[FailpointStatus])
    assert_type(failpoints.parse_actions("pause"), tuple[Term, ...])
    assert_type(failpoints.format_actions(Pause()), str)


def joining() -> None:
    assert_type(Sleep(200) + Raise(TimeoutError), Then)
    assert_type(Pause() + Call(called) + Cancel(), Then)
    assert_type((Off() + Off()).actions, tuple[failpoints.Action, ...])
    failpoints.configure("name", Sleep(200) + Raise(TimeoutError))
    failpoints.configure("name", [Term(Off() + Return(1), times=2), Pause() + Cancel()])
    Sleep(200) + TimeoutError  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]


async def called(hit: Hit) -> Return:
    return Return(hit.context["number"])


async def pytest_fixture(failpoints: Failpoints) -> None:
    handle = failpoints.set("name", "pause", context={"shard": 3}, expect_hit=False)
    assert_type(handle, Handle)
    await handle.wait_paused(timeout=math.inf)
    async with failpoints.paused("name", context={"tenant_id": "t.*"}) as paused:
        assert_type(paused, Handle)
    with failpoints.paused("name") as paused:
        paused.wait_hit_sync(2)
    assert_type(failpoints.handle("name"), Handle)
    assert_type(failpoints.resume("name"), int)
    assert_type(failpoints.status("name"), FailpointStatus)
    assert_type(failpoints.statuses(), list[FailpointStatus])
    failpoints.seed(3)
    failpoints.remove("name")
    failpoints.reset()
    failpoints.set("name", 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def remote_client(client: FailpointsClient) -> None:
    assert_type(admin_app(Registry(), token="t"), Starlette)
    async with FailpointsClient("http://127.0.0.1:22381", token="t") as entered:
        assert_type(entered, FailpointsClient)
    await client.configure("name", "off", context={"tenant_id": "t.*", "shard": 3})
    await client.configure_all([("name", Pause()), ("other", "off", {"shard": 3})])
    async with client.configured("name", [Off(), Return("42")]) as handle:
        assert_type(handle, RemoteHandle)
        assert_type(await handle.status(), FailpointStatus)
        await handle.wait_hit(2, timeout=1)
        assert_type(await handle.resume(), int)
    assert_type(await client.statuses(), list[FailpointStatus])
    await client.configure("name", 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def scenario(run: Run) -> None:
    async with run.injecting(expect=(OSError, TimeoutError)):
        await failpoint("inline", raises=(OSError,))
    assert_type(run.error, BaseException | None)
    assert_type(run.faults, tuple[Injected, ...])
    assert_type(run.shared({"Ada": 1}), dict[str, int])
    run.observe(3)
    assert_type(run.observed, tuple[str, ...])


def save(folder: Path) -> None:
    acknowledge(1)


async def recover(folder: Path, acknowledged: list[int]) -> None: ...


def exploring() -> None:
    exploration = explore(scenario, faults={"store.*": ["raise", Raise(OSError)], "cache": []}, max_faults=2)
    assert_type(exploration, Exploration)
    assert_type(exploration.exhaustive, bool)
    explore(scenario, backend="trio", interleavings=True, max_preemptions=2, replay="o0.1", on_run=print)
    assert_type(explore_crashes(save, recover, disk="process", depth=2), CrashExploration)
    with instrument_files("folder"), instrument_files(Path("folder")) as nothing:
        assert_type(nothing, None)
    instrument_files(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    explore_crashes(save, save)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    explore(scenario, backend="curio")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    explore(exploring)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
