"""Sync sites wait in worker threads and plain threads, but never block an event loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import anyio
import pytest
import trio
from anyio import from_thread, to_thread

from failpoints import (
    Call,
    Continue,
    FailpointUsageError,
    Outcome,
    Pause,
    Return,
    Sleep,
    Term,
    configure,
    configured,
    failpoint,
    failpoint_scope,
    remove,
    resume,
    status,
    wait_until_paused,
)

WAITS = ["pause", "pause(1)", "sleep(0)", "sleep(60m)"]
WAY_OUT = (
    r"failpoint 'x' cannot {} .*{} on the thread of an event loop, .*make the site async"
    r".*anyio\.to_thread\.run_sync.*'delay'"
)


class Account:
    """Sync sites of every kind at `x`."""

    @failpoint("x")
    def withdraw(self) -> str:
        """Visit the failpoint of a decorated method."""
        return "body"

    @failpoint("x")
    def history(self) -> Any:
        """Visit the failpoint of a decorated generator."""
        yield "body"

    def audit(self) -> list[str]:
        """Consume the generator."""
        return list(self.history())

    def commit(self) -> str:
        """Enter a scope."""
        with failpoint_scope("x"):
            return "body"

    def parse(self) -> Outcome:
        """Call an inline failpoint."""
        return failpoint("x").hit()


SITES: dict[str, str] = {
    "withdraw": r"Account\.withdraw",
    "audit": r"Account\.history",
    "commit": r"Account\.commit",
    "parse": r"Account\.parse",
}
DONE: dict[str, object] = {"withdraw": "body", "audit": ["body"], "commit": "body", "parse": Continue()}


def in_a_task(function: Callable[[], Any]) -> None:
    async def main() -> None:
        function()

    asyncio.run(main())


def in_a_task_of_uvloop(function: Callable[[], Any]) -> None:
    async def main() -> None:
        function()

    anyio.run(main, backend="asyncio", backend_options={"use_uvloop": True})


def in_a_callback(function: Callable[[], Any]) -> None:
    errors: list[BaseException | None] = []

    async def main() -> None:
        done = asyncio.Event()

        def callback() -> None:
            try:
                function()
                errors.append(None)
            except BaseException as error:
                errors.append(error)
            done.set()

        asyncio.get_running_loop().call_soon(callback)
        await done.wait()

    asyncio.run(main())
    if errors[0] is not None:
        raise errors[0]


def in_trio(function: Callable[[], Any]) -> None:
    async def main() -> None:
        function()

    trio.run(main)


def in_trio_from_a_thread(function: Callable[[], Any]) -> None:
    async def main() -> None:
        await to_thread.run_sync(from_thread.run_sync, function)

    anyio.run(main, backend="trio")


ON_A_LOOP = [in_a_task, in_a_task_of_uvloop, in_a_callback, in_trio, in_trio_from_a_thread]


@pytest.mark.parametrize("action", WAITS)
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("run", ON_A_LOOP, ids=lambda function: function.__name__)
def test_a_wait_on_an_event_loop_is_refused(run: Callable[[Any], None], site: str, action: str) -> None:
    """A wait that would block an event loop is a usage error that names the function and a solution."""
    configure("x", action)
    spelled = action.replace("60m", "3600000").replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(FailpointUsageError, match=WAY_OUT.format(spelled, SITES[site])):
        run(getattr(Account(), site))
    assert (status("x").hits, status("x").triggers, status("x").waiting) == (1, 0, ())


@pytest.mark.parametrize("run", ON_A_LOOP, ids=lambda function: function.__name__)
def test_a_refused_wait_uses_up_nothing(run: Callable[[Any], None]) -> None:
    """A refused wait does not use up its count, which is left for a visit in a thread without a loop."""
    configure("x", [Term(Sleep(0), times=1), Return(7)])
    for _ in range(3):
        with pytest.raises(FailpointUsageError, match="on the thread of an event loop, which it would block"):
            run(Account().parse)
    assert status("x").triggers == 0
    assert [Account().parse(), Account().parse()] == [Continue(), Return(7)]


@pytest.mark.parametrize("run", ON_A_LOOP, ids=lambda function: function.__name__)
def test_a_wait_that_a_call_returns_is_refused_too(run: Callable[[Any], None]) -> None:
    """A pause that a `Call` returns at a sync site on an event loop is the same usage error."""
    configure("x", Call(lambda hit: Pause()))
    with pytest.raises(FailpointUsageError, match=WAY_OUT.format("pause", r"Account\.parse")):
        run(Account().parse)
    assert status("x").waiting == ()


@pytest.mark.parametrize("action", ["off", "yield", "print", "delay(0)", "0%pause", "1*off->pause"])
@pytest.mark.parametrize("run", ON_A_LOOP, ids=lambda function: function.__name__)
def test_actions_that_do_not_wait_are_not_refused(run: Callable[[Any], None], action: str) -> None:
    """Actions that do not wait work in an event loop's thread."""
    configure("x", action)
    results: list[object] = []
    run(lambda: results.append(Account().withdraw()))
    assert results == ["body"]


@pytest.mark.parametrize("run", ON_A_LOOP, ids=lambda function: function.__name__)
def test_after_the_body_it_is_refused_too(run: Callable[[Any], None]) -> None:
    """A pause at `name:after` of a sync site on an event loop is the same usage error."""
    configure("x:after", "pause")
    with pytest.raises(
        FailpointUsageError,
        match="failpoint 'x:after' cannot pause .*withdraw on the thread of an event loop",
    ):
        run(Account().withdraw)


@pytest.mark.anyio
@pytest.mark.parametrize("action", ["pause", "pause(60m)", "sleep(60m)"])
@pytest.mark.parametrize("site", SITES)
async def test_in_a_worker_thread_it_waits(site: str, action: str) -> None:
    """In a worker thread a sync site waits while the loop runs, and a task wakes it."""
    configure("x", action)
    results: list[object] = []

    async def work() -> None:
        results.append(await to_thread.run_sync(getattr(Account(), site)))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            group.start_soon(work)
            await wait_until_paused("x", 2)
            assert results == []
            assert resume("x") == 2
            assert status("x").waiting == ()
    assert results == [DONE[site]] * 2
    remove("x")


def test_in_a_plain_thread_it_waits() -> None:
    """A thread without a running loop waits, including the main thread and one whose loop has ended."""
    configure("x", "pause(1)->off")
    outcomes: list[type[Exception]] = []

    def visit() -> None:
        asyncio.run(asyncio.sleep(0))
        trio.run(trio.sleep, 0)
        with pytest.raises(TimeoutError) as caught:
            Account().parse()
        outcomes.append(caught.type)

    visit()
    thread = threading.Thread(target=visit, daemon=True)
    thread.start()
    thread.join(5)
    assert [error.__name__ for error in outcomes] == ["FailpointTimeout"] * 2


@pytest.mark.parametrize("attributes", [{}, {"lowlevel": ModuleType("trio.lowlevel")}], ids=["trio", "trio.lowlevel"])
def test_while_another_thread_imports_trio_it_waits(
    attributes: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sites and tests can wait while another thread is still importing an async library."""
    half = ModuleType("trio")
    vars(half).update(attributes)
    monkeypatch.setitem(sys.modules, "trio", half)
    monkeypatch.setitem(sys.modules, "trio.lowlevel", ModuleType("trio.lowlevel"))
    with configured("x", "sleep(0)") as handle:
        assert Account().parse() == Continue()
        handle.wait_hit_sync(timeout=5)
        assert handle.triggers == 1


@pytest.mark.anyio
async def test_a_sync_call_in_an_async_function_is_a_sync_site() -> None:
    """In an async function `.hit()` cannot pause, but an `await` of the failpoint can."""

    async def both() -> None:
        with pytest.raises(FailpointUsageError, match=r"cannot sleep\(0\) .*both on the thread of an event loop"):
            failpoint("x").hit()
        assert await failpoint("x") == Continue()

    configure("x", "sleep(0)")
    with anyio.fail_after(5):
        await both()


PAUSED_AT_THE_END = """
import sys, threading
from failpoints import FailpointTimeout, configure, failpoint, wait_until_paused_sync

def visit():
    try:
        failpoint("x").hit()
    except FailpointTimeout:
        print("the thread went on")

configure("x", sys.argv[1])
threading.Thread(target=visit, daemon=sys.argv[2] == "daemon").start()
wait_until_paused_sync("x")
print("the program has ended")
"""


@pytest.mark.parametrize(
    ("actions", "kind", "last"),
    [("pause(300)", "plain", "the thread went on"), ("pause", "daemon", "the program has ended")],
    ids=["limit", "daemon"],
)
def test_the_end_of_a_process_with_a_paused_thread(actions: str, kind: str, last: str) -> None:
    """A process waits for a paused thread, which a limit ends, and not for one that is a daemon."""
    done = subprocess.run(
        [sys.executable, "-c", PAUSED_AT_THE_END, actions, kind],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == last
