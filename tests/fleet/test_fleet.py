"""Configuring all processes of a program at once, and seeing what they do."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from failpoints import FailpointTimeout, FailpointUsageError, FleetTimeout, parse_actions
from failpoints.fleet import Fleet, FleetWaiting

Start = Callable[..., Any]

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["folder asyncio", "folder trio", "redis trio"])
def setting(request: pytest.FixtureRequest) -> list[str]:
    """Return the kind of place, and the event loop of the test."""
    return str(request.param).split()


@pytest.fixture
def anyio_backend(setting: list[str]) -> str:
    return setting[1]


@pytest.fixture
def place(setting: list[str], request: pytest.FixtureRequest) -> str:
    if setting[0] == "folder":
        return str(request.getfixturevalue("folder"))
    return str(request.getfixturevalue("shared_server").url())


async def test_every_member_has_what_is_configured_when_configure_returns(start: Start, place: str) -> None:
    """`configure` returns once every member has it, whenever it joined."""
    early = start(count=2)
    async with Fleet(place) as fleet:
        await fleet.configure("x", "return(7)", context={"tenant": "t.*"})
        late = start()
        for member in (*early, late):
            assert member.ask("visit('x', tenant='t1')") == ["Return(value='7')"]
            assert member.ask("visit('x', tenant='u1')") == ["Continue()"]
        status = await fleet.status("x")
        assert (status.hits, status.misses, status.triggers) == (3, 3, 3)
        assert status.last_mismatch == "tenant='u1' does not match 't.*'"
        assert sorted(status.members) == await fleet.members()
        assert {name.rpartition(":")[2] for name in status.members} == {str(m.pid) for m in (*early, late)}
        assert [each.hits for each in status.members.values()] == [1, 1, 1]
        assert all("<string>" in site for site in status.sites)


async def test_removing_returns_once_no_member_has_it(start: Start, place: str) -> None:
    """`remove` and `reset` return once every member has acknowledged them."""
    member = start()
    async with Fleet(place) as fleet:
        await fleet.configure_all([("x", "return"), ("y", "return"), ("z", "return")])
        assert [each.name for each in await fleet.statuses()] == ["x", "y", "z"]
        await fleet.remove("x")
        assert member.ask("[s.name for s in failpoints.statuses()]") == ["y", "z"]
        await fleet.reset()
        assert member.ask("[s.name for s in failpoints.statuses()]") == []
        assert (await fleet.status("x")).actions == ()


async def test_leaving_removes_what_this_fleet_has_configured(start: Start, place: str) -> None:
    """Leaving the block removes its own configurations only. With `lease=None` they stay."""
    member = start()
    async with Fleet(place, lease=None) as fleet:
        await fleet.configure("kept", "return")
    async with Fleet(place) as fleet:
        await fleet.configure("x", "return")
        assert member.ask("[s.name for s in failpoints.statuses()]") == ["kept", "x"]
    assert member.ask("[s.name for s in failpoints.statuses()]") == ["kept"]


async def test_configurations_of_one_name_are_told_apart_by_their_matchers(start: Start, place: str) -> None:
    """A configuration replaces the one with equal matchers, and without any it replaces all of its name."""
    member = start()
    async with Fleet(place) as fleet:
        await fleet.configure("x", "return(all)")
        await fleet.configure("x", "return(1)", context={"shard": 1})
        await fleet.configure("x", "return(2)", context={"shard": 2})
        await fleet.configure("x", "return(one)", context={"shard": 1})
        shards = "[visit('x', shard=shard)[0] for shard in (1, 2, 3)]"
        assert member.ask(shards) == [f"Return(value={value!r})" for value in ("one", "2", "all")]
        status = await fleet.status("x")
        assert [(dict(each.matchers or {}), each.hits, each.misses) for each in status.configurations] == [
            ({"shard": 1}, 1, 2),
            ({"shard": 2}, 1, 1),
            ({}, 1, 0),
        ]
        await fleet.configure("x", "return(last)")
        assert member.ask(shards) == ["Return(value='last')"] * 3


async def test_a_block_restores_what_it_replaced(start: Start, place: str) -> None:
    """Leaving `configured` puts back what it had replaced, of the fleet and of the process, also where it came late."""
    early = start(FAILPOINTS="y=return(own)")
    async with Fleet(place) as fleet:
        await fleet.configure("x", "return(first)")
        async with (
            fleet.configured("x", "return(second)") as handle,
            fleet.configured("y", "return(fleet)"),
        ):
            late = start()
            for member in (early, late):
                assert member.ask("visit('x') + visit('y')") == ["Return(value='second')", "Return(value='fleet')"]
            assert (await handle.status()).hits == 2
        for member in (early, late):
            assert member.ask("visit('x')") == ["Return(value='first')"]
        assert early.ask("visit('y')") == ["Return(value='own')"]
        assert (await fleet.status("x")).hits == 2


async def test_waits_are_about_all_members_together(start: Start, place: str) -> None:
    """Two tasks in two processes are paused. One of them is resumed, then the other."""
    members = start(count=2)
    async with Fleet(place) as fleet:
        await fleet.configure("x", "pause")
        async with anyio.create_task_group() as group:
            group.start_soon(fleet.wait_until_paused, "x", 2)
            for number, member in enumerate(members):
                member.ask(f"visit_in_thread('x', order={number})")
                await fleet.wait_until_paused("x", number + 1)
        status = await fleet.status("x")
        assert [(each.name, each.context) for each in status.waiting] == [
            (f"visitor {member.pid}", {"order": number}) for number, member in enumerate(members)
        ]
        waiting = [each for each in status.waiting if isinstance(each, FleetWaiting)]
        assert [each.member.rpartition(":")[2] for each in waiting] == [str(member.pid) for member in members]
        assert await fleet.resume("x", context={"order": 5}) == 0
        assert await fleet.resume("x", tasks=1) == 1
        (left,) = (await fleet.status("x")).waiting
        assert left.context == {"order": 1}
        assert await fleet.resume("x", context={"order": 1}) == 1
        assert (await fleet.status("x")).waiting == ()
        await fleet.wait_until_hit("x", 2)


async def test_resuming_wakes_the_longest_waiting_of_all_members(start: Start, place: str) -> None:
    """`tasks` is a limit for all members together, and those that have waited longest come first."""
    members = start(count=3)
    async with Fleet(place) as fleet, fleet.configured("x", "pause") as handle:
        for number in range(6):
            members[number % 3].ask(f"visit_in_thread('x', order={number})")
            await handle.wait_paused(number + 1)
        assert await handle.resume(tasks=4) == 4
        assert [each.context["order"] for each in (await handle.status()).waiting] == [4, 5]
        assert await handle.resume(tasks=4) == 2
        assert await fleet.resume("x", tasks=1) == 0


async def test_one_of_those_that_wait_is_resumed(start: Start, place: str) -> None:
    """`waiter` wakes the one that a status has shown, once, and no other. Anything else is refused."""
    members = start(count=2)
    async with Fleet(place) as fleet:
        await fleet.configure("x", "pause")
        for number in range(4):
            members[number % 2].ask("visit_in_thread('x')")
            await fleet.wait_until_paused("x", number + 1)
        waiting = [each for each in (await fleet.status("x")).waiting if isinstance(each, FleetWaiting)]
        assert await fleet.resume("x", waiter=waiting[2]) == 1
        assert list((await fleet.status("x")).waiting) == [*waiting[:2], waiting[3]]
        assert await fleet.resume("x", waiter=waiting[2]) == 0
        assert await fleet.resume("y", waiter=waiting[1]) == 0
        with pytest.raises(FailpointUsageError, match="without context and tasks"):
            await fleet.resume("x", waiter=waiting[0], tasks=1)
        with pytest.raises(FailpointUsageError, match="waiter must be one of the waiting"):
            await fleet.resume("x", waiter="visitor")  # type: ignore[arg-type]


async def test_a_wait_ends_when_its_failpoint_is_removed(start: Start, place: str) -> None:
    """A wait goes on through a reconfiguration, and ends with an error when the failpoint is removed."""
    member = start()
    async with Fleet(place) as fleet:
        with pytest.raises(FailpointUsageError, match="'y' is not configured in the fleet.*did you mean 'yy'"):
            await fleet.configure("yy", "off")
            await fleet.wait_until_hit("y")
        await fleet.configure("x", "off")
        member.ask("visit('x')")
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                with pytest.raises(FailpointUsageError, match="'x' was removed while a task was waiting"):
                    await fleet.wait_until_hit("x", 2)

            group.start_soon(wait)
            await anyio.sleep(0.1)
            await fleet.configure("x", "off")
            member.ask("visit('x')")
            await anyio.sleep(0.1)
            await fleet.remove("x")


async def test_a_wait_of_a_handle_that_has_ended(place: str) -> None:
    """A handle does not say to configure what it has configured itself: it says how that may have ended."""
    async with Fleet(place) as fleet, fleet.configured("x", "off") as handle:
        await fleet.remove("x")
        with pytest.raises(FailpointUsageError, match="of failpoint 'x' has ended: it was removed or replaced, or"):
            await handle.wait_hit()


async def test_a_wait_that_takes_too_long_describes_the_failpoint(start: Start, place: str) -> None:
    """The message of a timeout has the counts, the last miss, and what waits."""
    member = start()
    async with Fleet(place) as fleet:
        await fleet.configure("x", "pause", context={"shard": 1})
        member.ask("visit('x', shard=2)")
        member.ask("visit_in_thread('x', shard=1)")
        await fleet.wait_until_paused("x", timeout=math.inf)
        with pytest.raises(FailpointTimeout) as caught:
            await fleet.wait_until_paused("x", 2, timeout=0.1)
    lines = str(caught.value).splitlines()
    assert lines[0] == "fewer than 2 tasks were paused at failpoint 'x' within 0.1 s"
    assert "hits 1, misses 1, triggers 1" in lines[2]
    assert "shard=2 is not 1" in lines[3]
    assert f"'visitor {member.pid}' has waited" in lines[4]
    assert caught.value.status is not None
    assert caught.value.status.hits == 1


async def test_a_member_that_does_not_answer_is_named(start: Start, place: str) -> None:
    """`configure` raises `FleetTimeout`, which names the members that have not acknowledged it. They have it later."""
    quick, stopped = start(count=2)
    stopped.process.send_signal(signal.SIGSTOP)
    async with Fleet(place) as fleet:
        with pytest.raises(FleetTimeout, match=rf"1 of 2 members did not .* within 2 s: .*:{stopped.pid}") as caught:
            await fleet.configure("x", "return", timeout=2)
        assert [name.rpartition(":")[2] for name in caught.value.members] == [str(stopped.pid)]
        assert quick.ask("visit('x')") == ["Return(value=None)"]
        stopped.process.send_signal(signal.SIGCONT)
        await fleet.configure("y", "off")
        assert stopped.ask("visit('x')") == ["Return(value=None)"]


async def test_a_member_that_is_killed_is_not_waited_for(start: Start, folder: Path) -> None:
    """A member that is killed is no member any more. What it has counted is not lost."""
    killed, other = start(count=2)
    async with Fleet(folder) as fleet:
        await fleet.configure("x", "off")
        killed.ask("visit('x', 5)")
        other.ask("visit('x', 2)")
        killed.kill()
        assert (await fleet.status("x")).hits == 7
        assert len(await fleet.members()) == 1
        await fleet.configure("y", "off", timeout=5)
        status = await fleet.status("x")
        assert (status.hits, len(status.members)) == (7, 1)
        await fleet.configure("z", "off", timeout=5)
        assert (await fleet.status("x")).hits == 7
        assert len(list((folder / "members").iterdir())) == 1


async def test_a_member_that_refuses_undoes_it_everywhere(start: Start, place: str) -> None:
    """If a member cannot configure it, `configure` raises its reason, and no member has it."""
    member = start()
    other = start()
    member.ask("failpoints.failpoint('x')(lambda: 1)() or 1")
    async with Fleet(place) as fleet:
        with pytest.raises(FailpointUsageError, match=rf"member .*:{member.pid} refuses: .*Nowhere"):
            await fleet.configure("x", "raise(Nowhere)")
        assert other.ask("len(failpoints.statuses())") == 0
        assert await fleet.statuses() == []


async def test_what_a_refused_configuration_was_to_replace_stays(start: Start, place: str) -> None:
    """A call that fails has changed nothing: the configuration of before is in force, with its counts."""
    member = start()
    visit = "failpoints.failpoint('x')(lambda: 1)() or 1"
    member.ask(visit)
    async with Fleet(place) as fleet:
        await fleet.configure("x", "off")
        member.ask(visit)
        with pytest.raises(FailpointUsageError, match="refuses"):
            await fleet.configure("x", "raise(Nowhere)")
        member.ask(visit)
        assert [(each.name, each.hits) for each in await fleet.statuses()] == [("x", 2)]
        await fleet.configure("x", "pause")
        await fleet.configure("x", "2*off")
        status = await fleet.status("x")
        assert (status.hits, tuple(status.actions)) == (0, tuple(parse_actions("2*off")))
        await fleet.remove("x")
        assert await fleet.statuses() == []


async def test_what_has_no_text_cannot_be_sent(place: str) -> None:
    """A predicate, a `Call`, a name or actions that are wrong are refused before anything is changed."""
    from failpoints import ActionSyntaxError, Call, FailpointNameError

    async with Fleet(place) as fleet:
        for error, arguments, context in [
            (FailpointUsageError, ("x", Call(print)), None),
            (FailpointUsageError, ("x", "off"), {"k": lambda value: True}),
            (ActionSyntaxError, ("x", "retrun"), None),
            (FailpointNameError, ("a b", "off"), None),
        ]:
            with pytest.raises(error):
                await fleet.configure(*arguments, context=context)  # type: ignore[arg-type]
        for keywords in ({"duration": 0}, {"duration": math.inf}, {"duration": True}, {"timeout": -1}):
            with pytest.raises(FailpointUsageError):
                await fleet.configure("x", "off", **keywords)  # type: ignore[arg-type]
        with pytest.raises(FailpointUsageError, match="declared must be True or False; got 'x'"):
            await fleet.statuses(declared="x")  # type: ignore[arg-type]
        assert await fleet.statuses() == []


async def test_a_fleet_is_entered_once(folder: Path) -> None:
    """A verb outside the block, and a second entering, are usage errors."""
    fleet = Fleet(folder)
    with pytest.raises(FailpointUsageError, match="has not been entered: write async with Fleet"):
        await fleet.members()
    async with fleet:
        with pytest.raises(FailpointUsageError, match="already entered"):
            await fleet.__aenter__()
        assert await fleet.members() == []
    async with fleet:
        assert repr(fleet) == f"<Fleet in {str(folder)!r}>"


async def test_files_are_for_their_user_alone(start: Start, folder: Path) -> None:
    """Folders have mode 0700 and files 0600, whatever the umask."""
    before = os.umask(0)
    try:
        member = start()
        async with Fleet(folder) as fleet:
            await fleet.configure("x", "3*pause")
            member.ask("visit_in_thread('x')")
            await fleet.wait_until_paused("x")
            await fleet.status("x")
            await fleet.resume("x")
            modes = {path.relative_to(folder): path.stat().st_mode & 0o777 for path in folder.rglob("*")}
            folders = {path.relative_to(folder) for path in folder.rglob("*") if path.is_dir()}
            assert {path.parts[0] for path in modes} >= {
                "state.json",
                "counts",
                "members",
                "owners",
                "answers",
                "reports",
            }
            assert {mode for path, mode in modes.items() if path in folders} == {0o700}
            assert {mode for path, mode in modes.items() if path not in folders} == {0o600}
            assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)
