"""The action `cancel`: the task is cancelled at the site, as its event loop does it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from failpoints import Call, Cancel, FailpointUsageError, Pause, Raise, configured, failpoint, failpoint_scope

BACKENDS = ["asyncio", "trio"]


@failpoint("site")
async def decorated() -> str:
    await anyio.lowlevel.checkpoint()
    return "done"


async def inline() -> str:
    await failpoint("site")
    await anyio.lowlevel.checkpoint()
    return "done"


async def scope() -> str:
    async with failpoint_scope("site"):
        await anyio.lowlevel.checkpoint()
    return "done"


@failpoint("sync.site")
def sync_decorated() -> str:
    return "done"


every_site = pytest.mark.parametrize("visit", [decorated, inline, scope])


class Steps:
    """What a visitor got to."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def run(self, visit: Any) -> None:
        self.names.append("before")
        try:
            await visit()
            self.names.append("after")
        except BaseException as error:
            self.names.append(type(error).__name__)
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
            self.names.append("cleaned up")


@pytest.mark.anyio
@every_site
async def test_a_task_of_a_group(visit: Any) -> None:
    """The task is cancelled at the site, where its clean-up runs. The tasks of other groups go on."""
    steps = Steps()
    with configured("site", "cancel") as handle:
        async with anyio.create_task_group() as group:
            group.start_soon(steps.run, visit)
        assert handle.triggers == 1
    assert steps.names[1] in ("CancelledError", "Cancelled")
    assert steps.names[2:] == ["cleaned up"]
    await anyio.lowlevel.checkpoint()  # nothing lingers


@pytest.mark.anyio
@pytest.mark.parametrize("actions", [Cancel(), "sleep(1)+cancel", Call(lambda hit: Cancel()), "1*cancel->off"])
async def test_in_other_actions(actions: Any) -> None:
    """`cancel` works in Python, after a wait, and as the action that a function returns."""
    steps = Steps()
    with configured("site", actions):
        async with anyio.create_task_group() as group:
            group.start_soon(steps.run, decorated)
    assert steps.names[1] in ("CancelledError", "Cancelled")


@pytest.mark.anyio
async def test_after_the_body() -> None:
    """At `:after` the work is done, and the caller never learns of it."""
    done: list[int] = []

    @failpoint("commit")
    async def commit() -> None:
        done.append(1)

    steps = Steps()
    with configured("commit:after", "cancel"):
        async with anyio.create_task_group() as group:
            group.start_soon(steps.run, commit)
    assert (done, steps.names[1:2] != ["after"]) == ([1], True)


# asyncio


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(main)


@every_site
def test_asyncio_cancels_the_task(visit: Any) -> None:
    """On asyncio the task ends as cancelled, with a message that names the failpoint."""

    async def main() -> None:
        with configured("site", "cancel"):
            task = asyncio.create_task(visit())
            with pytest.raises(asyncio.CancelledError, match="failpoint 'site'"):
                await task
            assert task.cancelled()

    run(main())


def test_asyncio_the_main_task() -> None:
    """The main task of `asyncio.run` can be cancelled."""
    with configured("site", "cancel"), pytest.raises(asyncio.CancelledError):
        run(decorated())


def test_asyncio_swallowed_once() -> None:
    """A task that swallows the cancellation, and says so with `uncancel()`, is not cancelled a second time."""

    async def main() -> str:
        task = asyncio.current_task()
        assert task is not None
        with configured("site", "1*cancel"):
            try:
                await decorated()
            except asyncio.CancelledError:
                assert task.cancelling() == 1  # as after any other cancel()
                assert task.uncancel() == 0
            for _ in range(3):
                await asyncio.sleep(0)
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0))
            return await decorated()

    assert run(main()) == "done"


def test_asyncio_timeout_does_not_take_it() -> None:
    """A timeout around the site does not turn the cancellation into a `TimeoutError`."""

    async def main() -> None:
        async with asyncio.timeout(60):
            await decorated()

    with configured("site", "cancel"), pytest.raises(asyncio.CancelledError):
        run(main())


def test_asyncio_task_group_goes_on_without_a_cancelled_child() -> None:
    """A cancelled child leaves the other tasks of its `TaskGroup` alone."""

    async def main() -> list[bool]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(decorated()), group.create_task(asyncio.sleep(0.001))]
        return [task.cancelled() for task in tasks]

    with configured("site", "cancel"):
        assert run(main()) == [True, False]


@pytest.mark.parametrize("shield", [False, True])
def test_asyncio_anyio_scope_does_not_take_it(shield: bool) -> None:
    """A native cancellation passes through anyio's cancel scopes and task groups, shielded ones as well."""

    async def main() -> None:
        with anyio.CancelScope(shield=shield) as scope:
            async with anyio.create_task_group():
                await decorated()
        assert not scope.cancelled_caught
        raise AssertionError("the cancellation was lost")

    with configured("site", "cancel"), pytest.raises(asyncio.CancelledError):
        run(main())


def test_asyncio_a_task_that_refuses() -> None:
    """A task class that ignores `cancel()` gives an error: a failpoint that did nothing never passes for done."""

    class Stubborn(asyncio.Task[Any]):
        def cancel(self, msg: object = None) -> bool:
            return False

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coroutine, **options: Stubborn(coroutine, loop=loop, **options))
        with pytest.raises(FailpointUsageError, match="failpoint 'site' cannot cancel: the task refused"):
            await loop.create_task(decorated())
        loop.set_task_factory(None)

    with configured("site", "cancel"):
        run(main())


def test_asyncio_no_task() -> None:
    """In a coroutine that no task runs there is nothing to cancel."""

    async def main() -> BaseException:
        caught: list[BaseException] = []

        def step() -> None:
            coroutine = decorated()
            try:
                coroutine.send(None)
            except FailpointUsageError as error:
                caught.append(error)
            finally:
                coroutine.close()

        asyncio.get_running_loop().call_soon(step)
        await asyncio.sleep(0.001)
        return caught[0]

    with configured("site", "cancel"):
        assert str(run(main())) == "failpoint 'site' cannot cancel: no task of an event loop runs its code"


def test_no_event_loop() -> None:
    """Async code that is driven by hand has no task."""
    with (
        configured("site", "cancel"),
        pytest.raises(FailpointUsageError, match="no task of an event loop runs its code"),
    ):
        decorated().send(None)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_asyncio_eager_task() -> None:
    """A task that starts eagerly is cancelled as well."""

    async def main() -> bool:
        loop = asyncio.get_running_loop()
        factory: Any = vars(asyncio)["eager_task_factory"]
        loop.set_task_factory(factory)
        task = loop.create_task(decorated())
        await asyncio.wait([task])
        return task.cancelled()

    with configured("site", "cancel"):
        assert run(main())


# trio


@every_site
def test_trio_cancels_the_innermost_scope(visit: Any) -> None:
    """On trio the innermost cancel scope is cancelled, with a reason that names the failpoint."""

    async def main() -> None:
        with trio.CancelScope() as outer:
            with trio.CancelScope(shield=True) as inner, pytest.raises(trio.Cancelled, match="failpoint 'site'"):
                await visit()
            assert not inner.cancelled_caught  # since the test has swallowed it
            await trio.lowlevel.checkpoint()
        assert (inner.cancel_called, outer.cancel_called) == (True, False)

    with configured("site", "cancel"):
        trio.run(main)


def test_trio_scope_takes_it() -> None:
    """The cancellation ends at its scope, and does not linger."""

    async def main() -> str:
        with configured("site", "1*cancel"):
            with trio.move_on_after(60) as scope:
                await decorated()
            assert scope.cancelled_caught
            return await decorated()

    assert trio.run(main) == "done"


def test_trio_nursery() -> None:
    """In a task without a scope of its own, it is the scope of the nursery, so the other tasks are cancelled too."""
    ended: list[str] = []

    async def other() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            ended.append("other")
            raise

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(decorated)
        ended.append("main")

    with configured("site", "cancel"):
        trio.run(main)
    assert ended == ["other", "main"]


def test_trio_main_task() -> None:
    """The main task of a trio run is in no scope that is the program's own."""
    with (
        configured("site", "cancel"),
        pytest.raises(FailpointUsageError, match="no cancel scope is around it, in the main task of the trio run"),
    ):
        trio.run(decorated)


def test_trio_main_task_with_a_nursery() -> None:
    """The body of a nursery in the main task is in the scope of the nursery."""

    async def main() -> str:
        async with trio.open_nursery():
            await decorated()
        return "left"

    with configured("site", "cancel"):
        assert trio.run(main) == "left"


# where it cannot be done


@pytest.mark.anyio
@pytest.mark.parametrize("actions", ["cancel", "print+cancel", Pause(1) + Cancel(), Call(lambda hit: Cancel())])
async def test_sync_code(actions: Any, caplog: pytest.LogCaptureFixture) -> None:
    """In sync code there is no task to cancel, whichever thread it runs in, and nothing else is done."""
    with configured("sync.site", actions):
        for call in (sync_decorated, lambda: anyio.to_thread.run_sync(sync_decorated)):
            with pytest.raises(FailpointUsageError, match=r"cannot (.*\+)?(cancel|pause)") as caught:
                result: Any = call()
                await result
    assert "in the sync sync_decorated" in str(caught.value)
    assert "make the site async" in str(caught.value)
    assert "failpoint sync.site was reached" not in caplog.text


@pytest.mark.anyio
async def test_the_error_of_a_cancellation_is_no_cancellation() -> None:
    """`raise(CancelledError)` of an undeclared name suggests the action."""
    for name in ("CancelledError", "asyncio.CancelledError", "Cancelled"):
        with configured("site", Raise(name)), pytest.raises(FailpointUsageError) as caught:
            await decorated()
        assert str(caught.value).endswith("(raises=nothing); did you mean the action 'cancel'?")
