"""Nothing stays configured by accident: owners that leave, are killed, or are stopped."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from failpoints._fleet.background import keep_renewed
from failpoints._fleet.leases import Leases
from failpoints._fleet.state import Entry, State
from failpoints.fleet import Fleet
from tests.fleet.waits import NAMES, until

Start = Callable[..., Any]

pytestmark = pytest.mark.anyio

OWNER = """
import anyio
from failpoints.fleet import Fleet
async def main():
    async with Fleet({folder!r}, lease={lease}) as fleet:
        await fleet.configure("x", "pause")
        print(1, flush=True)
        await anyio.sleep({seconds})
anyio.run(main, backend={backend!r})
"""


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on one event loop: these tests are about the members."""
    return str(request.param)


def owner(start: Start, folder: Path, lease: float = 30, seconds: float = 60, backend: str = "asyncio") -> Any:
    program = start(OWNER.format(folder=str(folder), lease=lease, seconds=seconds, backend=backend), member=False)
    assert program.line() == 1
    return program


async def until_nothing_is_configured(member: Any) -> float:
    """Wait, and return how many seconds it took."""
    began = time.monotonic()
    await until(member, NAMES, [])
    return time.monotonic() - began


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_what_a_killed_owner_configured_ends_at_once(start: Start, folder: Path, backend: str) -> None:
    """A `Fleet` whose process is killed leaves nothing behind, in members that are there and in those that come."""
    member = start()
    program = owner(start, folder, backend=backend)
    member.ask("visit_in_thread('x')")
    async with Fleet(folder) as fleet:
        await fleet.wait_until_paused("x")
        program.kill()
        await until_nothing_is_configured(member)
        assert (await fleet.statuses()) == []
    assert start().ask("len(failpoints.statuses())") == 0


async def test_without_members_a_killed_owner_leaves_nothing_either(start: Start, folder: Path) -> None:
    """A process that joins after the owner was killed is not configured, not for a moment."""
    owner(start, folder).kill()
    assert start().ask("len(failpoints.statuses())") == 0
    async with Fleet(folder) as fleet:
        assert await fleet.statuses() == []


@pytest.mark.slow
async def test_what_a_stopped_owner_configured_ends_with_its_lease(start: Start, folder: Path) -> None:
    """An owner that is stopped does not renew its lease. Members end it by their own clocks."""
    member = start()
    program = owner(start, folder, lease=2)
    await anyio.sleep(2.4)  # longer than the lease, which is renewed
    assert member.ask("len(failpoints.statuses())") == 1
    program.process.send_signal(signal.SIGSTOP)
    took = await until_nothing_is_configured(member)
    assert took > 0.3
    assert start().ask("len(failpoints.statuses())") == 0
    program.process.send_signal(signal.SIGCONT)


@pytest.mark.slow
async def test_a_member_that_joins_late_does_not_begin_the_lease_again(start: Start, folder: Path) -> None:
    """A member that is started again and again sees how long the owner has been stopped."""
    program = owner(start, folder, lease=4)
    program.process.send_signal(signal.SIGSTOP)
    await anyio.sleep(2.5)
    member = start()
    assert await until_nothing_is_configured(member) < 3.5


async def test_a_duration_ends_by_itself(start: Start, folder: Path) -> None:
    """`duration=` ends a configuration in all members, also if no process is left that could remove it."""
    member = start()
    async with Fleet(folder, lease=None) as fleet:
        await fleet.configure("x", "return", duration=0.5)
        await fleet.configure("y", "return")
        assert member.ask("visit('x')") == ["Return(value=None)"]
    await until(member, "visit('x')", ["Continue()"])
    assert member.ask("[s.name for s in failpoints.statuses()]") == ["y"]
    async with Fleet(folder) as fleet:
        assert [each.name for each in await fleet.statuses()] == ["y"]


async def test_a_fleet_that_is_left_by_an_error_removes_what_it_has_configured(start: Start, folder: Path) -> None:
    """Also if the block is cancelled or raises, nothing is left."""
    member = start()
    with anyio.move_on_after(0.2):
        async with Fleet(folder) as fleet:
            await fleet.configure("x", "return")
            await anyio.sleep(30)
    assert member.ask("len(failpoints.statuses())") == 0
    with pytest.raises(ZeroDivisionError):
        async with Fleet(folder) as fleet, fleet.configured("x", "return"):
            raise ZeroDivisionError
    assert member.ask("len(failpoints.statuses())") == 0


async def test_a_forked_child_of_an_owner_does_not_keep_it_alive(start: Start, folder: Path) -> None:
    """What an owner configured ends with the owner, although a child of it lives on."""
    member = start()
    code = OWNER.format(folder=str(folder), lease=30, seconds=60, backend="asyncio").replace(
        "print(1, flush=True)", "fork('signal.pause()') and print(1, flush=True)"
    )
    program = start(code, member=False)
    assert program.line() == 1
    program.kill()
    await until_nothing_is_configured(member)


def test_the_lease_of_an_owner_that_cannot_be_seen_begins_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration that comes while the place cannot be reached is in force, until the lease is over."""
    now = 100.0
    monkeypatch.setattr("failpoints._fleet.leases.monotonic", lambda: now)

    class OutOfReach:
        def renewed(self, owner: str) -> None:
            raise OSError

    leases = Leases(OutOfReach())  # type: ignore[arg-type]
    state = State("fleet").with_entries([Entry(0, "x", "off", {}, owner="someone", lease=30.0)])
    assert leases.ended(state) == {}
    now += 29.9
    assert leases.ended(state) == {}
    now += 0.1
    assert list(leases.ended(state).values()) == list(state.entries)


def test_a_lease_is_renewed_in_time_after_a_fork_and_not_all_the_time() -> None:
    """The thread that renews it ends before a fork, and waits as long as before when it goes on."""

    class Owner:
        name = "owner"
        touched = 0
        is_touched_again = threading.Event()

        def touch(self) -> None:
            self.touched += 1
            if self.touched > 1:  # once, since the fork ends the wait
                self.is_touched_again.set()

        def remove(self) -> None:
            raise AssertionError

    owner = Owner()
    renewing = keep_renewed(owner, 4000)
    assert renewing.stop()  # as a fork does
    renewing.start()
    assert not owner.is_touched_again.wait(0.3)
    renewing.stop()
    assert owner.is_touched_again.wait(10)
