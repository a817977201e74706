"""Under freezegun, which lets the clocks of a program stand still, every wait with a limit ends."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from failpoints import FailpointTimeout, configured, failpoint, status
from failpoints._core.elapsed import waited
from failpoints.explore import ExplorationFailed, Run, explore

freezegun = pytest.importorskip("freezegun", reason="freezegun is not installed")

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["frozen_loop", "real_loop"])
def frozen(request: pytest.FixtureRequest) -> Iterator[None]:
    """Freeze the clocks for the test, with and without asyncio's."""
    with freezegun.freeze_time("2020-01-01", real_asyncio=request.param):
        yield


@pytest.mark.usefixtures("frozen")
async def test_a_pause_with_a_limit_ends() -> None:
    """A pause in a task ends at its limit."""
    with configured("upload", "pause(20)"), pytest.raises(FailpointTimeout, match="was not resumed within"):
        await failpoint("upload")


@pytest.mark.usefixtures("frozen")
async def test_a_wait_of_a_test_ends() -> None:
    """A wait with a timeout ends, in a task."""
    with configured("upload", "off") as handle, pytest.raises(FailpointTimeout, match="was not hit within"):
        await handle.wait_hit(timeout=0.02)


@pytest.mark.usefixtures("frozen")
async def test_a_wait_that_is_over_in_time_is_not_ended_later() -> None:
    """The limit of a wait that has ended does nothing to what the task awaits next."""
    with configured("upload", "off") as handle:
        assert not await failpoint("upload")
        await handle.wait_hit(timeout=0.001)
        await anyio.to_thread.run_sync(threading.Event().wait, 0.01)


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("cancel", [None, threading.Event()], ids=["plain", "cancel"])
def test_a_pause_in_a_thread_ends(cancel: Any) -> None:
    """A pause in sync code ends at its limit, with and without a `cancel` event."""
    with configured("upload", "pause(20)"), pytest.raises(FailpointTimeout):
        failpoint("upload", cancel=cancel).hit()


@pytest.mark.usefixtures("frozen")
def test_a_sync_wait_of_a_test_ends() -> None:
    """A wait with a timeout ends, in a thread."""
    with configured("upload", "off") as handle, pytest.raises(FailpointTimeout):
        handle.wait_hit_sync(timeout=0.02)


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_exploration_ends(backend: Any) -> None:
    """`explore` keeps its timeout."""

    async def polls(run: Run) -> None:
        async with run.injecting():
            while True:
                await anyio.lowlevel.checkpoint()

    with pytest.raises(ExplorationFailed, match=r"did not end within its 0\.1 s"):
        explore(polls, backend=backend, timeout=0.1)


@pytest.mark.usefixtures("frozen")
def test_messages_have_the_real_time() -> None:
    """How long a thread has waited is real time, too."""
    with configured("upload", "pause") as handle:
        thread = threading.Thread(target=failpoint("upload").hit)
        thread.start()
        handle.wait_paused_sync(timeout=10)
        since = status("upload").waiting[0].since
        assert since.year > 2020
        threading.Event().wait(0.06)
        assert waited(status("upload").waiting[0]) != "0.0 s"
        handle.resume()
        thread.join()


def test_frozen_before_the_import_of_the_package() -> None:
    """Limits hold as well if the package is imported while the clocks stand still."""
    program = """
from freezegun import freeze_time
with freeze_time("2020-01-01"):
    import threading
    from failpoints import FailpointTimeout, configured, failpoint
    with configured("upload", "pause(20)"):
        try:
            failpoint("upload", cancel=threading.Event()).hit()
        except FailpointTimeout:
            print("ended")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "ended\n"
