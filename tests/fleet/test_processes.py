"""Processes that become members in every way in which a process can start, and that end in every way."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from failpoints.fleet import Fleet
from tests.fleet.conftest import LIMIT
from tests.fleet.waits import NAMES, joined, until

Start = Callable[..., Any]

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on one event loop: these tests are about the members."""
    return str(request.param)


@pytest.mark.slow
async def test_a_count_is_of_all_processes_together(start: Start, place: str) -> None:
    """`3*return` in 8 processes that hit it at once, 12,500 times each, triggers exactly 3 times."""
    members = start(count=8)
    async with Fleet(place) as fleet:
        for _ in range(2):
            await fleet.configure("x", "3*return(7)->off")
            for member in members:
                member.tell("visit('x', 12_500).count(\"Return(value='7')\")")
            assert sum([member.line() for member in members]) == 3
            status = await fleet.status("x")
            assert (status.hits, status.triggers) == (100_000, 100_000)
            await fleet.configure("x", "3*return(7)")
            for member in members:
                member.tell("visit('x', 100).count(\"Return(value='7')\")")
            assert sum([member.line() for member in members]) == 3
            status = await fleet.status("x")
            assert (status.hits, status.triggers) == (800, 3)


async def test_a_process_that_is_started_again_does_not_begin_again(start: Start, place: str) -> None:
    """`1*exit(9)` ends one process. Those that are started after it go on, and the hit of the dead one counts."""
    async with Fleet(place) as fleet:
        await fleet.configure("work", "1*exit(9)")
        statuses = []
        for _ in range(4):
            program = start("failpoint('work').hit()")
            statuses.append(program.process.wait(30))
        assert statuses == [9, 0, 0, 0]
        status = await fleet.status("work")
        assert (status.hits, status.triggers, status.members) == (4, 1, {})


async def test_a_forked_child_is_a_member_of_its_own(start: Start, place: str) -> None:
    """A child joins before any of its code runs. Its counts begin at zero, and so do those of its own child."""
    parent = start()
    async with Fleet(place) as fleet:
        await fleet.configure("x", "off")
        parent.ask("visit('x', 3)")
        child = parent.ask("fork(\"visit('x', 2); waited(fork('visit(\\\\'x\\\\')')); signal.pause()\")")
        await fleet.wait_until_hit("x", 6)
        await joined(fleet, 2)  # the child's child is about to end
        status = await fleet.status("x")
        by_pid = {int(name.rpartition(":")[2]): each.hits for name, each in status.members.items()}
        assert by_pid == {parent.pid: 3, child: 2}
        assert status.hits == 6
        await fleet.configure("y", "off")
        if place.startswith("/"):  # a server does not see it so soon
            parent.kill()
            assert len(await fleet.members()) == 1, "the child does not hold what its parent held"
        os.kill(child, signal.SIGKILL)


async def test_a_child_that_is_forked_meanwhile_has_what_is_configured(start: Start, place: str) -> None:
    """Children that are forked while the configuration changes have the newest one from their first visit on."""
    parent = start()
    parent.ask("exec('ended = False') or 1")
    parent.ask(
        "exec('''"
        "def many():\n"
        "    for _ in range(60):\n"
        "        waited(fork('visit(\"x\")'))\n"
        "thread = threading.Thread(target=many)\n"
        "thread.start()\n"
        "''', globals())"
    )
    async with Fleet(place) as fleet:
        for number in range(20):
            await fleet.configure("x", f"return({number})")
        parent.ask("thread.join()")
        await fleet.configure("x", "return(last)")
        assert parent.ask("visit('x')") == ["Return(value='last')"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
async def test_pools_of_processes_are_members(start: Start, place: str, tmp_path: Path, method: str) -> None:
    """The workers of a `ProcessPoolExecutor` have what is configured, however they are started."""
    (tmp_path / "pooled.py").write_text(
        "import sys\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "import multiprocessing\n"
        "from failpoints import failpoint\n"
        "@failpoint('work')\n"
        "def work(number: int) -> int: return number\n"
        "if __name__ == '__main__':\n"
        "    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(sys.argv[1])) as pool:\n"
        "        print(list(pool.map(work, range(4))))\n"
    )
    async with Fleet(place) as fleet:
        await fleet.configure("work", "2*return(7)->off")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
        environment |= {"FAILPOINTS_FLEET": place, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = await anyio.run_process([sys.executable, str(tmp_path / "pooled.py"), method], env=environment)
        results = eval(done.stdout)
        assert (len(results), results.count(7)) == (4, 2)
        status = await fleet.status("work")
        assert (status.hits, status.triggers) == (4, 4)


async def test_an_executed_program_is_a_member_of_its_own(start: Start, folder: Path) -> None:
    """`exec` ends the member, and the new program in the same process is another one."""
    async with Fleet(folder) as fleet:
        await fleet.configure("x", "off")
        again = "import failpoints; failpoints.failpoint('x').hit(); print(1, flush=True); input()"
        program = start(f"visit('x'); os.execv(sys.executable, [sys.executable, '-c', {again!r}])")
        assert program.line() == 1
        status = await fleet.status("x")
        assert (status.hits, [each.hits for each in status.members.values()]) == (2, [1])


async def test_a_program_that_closes_all_descriptors_stays_a_member(start: Start, folder: Path) -> None:
    """A program that closes every file descriptor, as daemons do, joins again. Nothing is counted twice."""
    member = start()
    async with Fleet(folder) as fleet:
        await fleet.configure("x", "off")
        member.ask("visit('x', 3)")
        member.ask("os.closerange(3, 100)")
        member.ask("[open(os.devnull) for _ in range(20)].__len__()")
        await joined(fleet, 1)
        member.ask("visit('x', 2)")
        await fleet.configure("y", "return(7)")
        assert member.ask("visit('y')") == ["Return(value='7')"]
        assert (await fleet.status("x")).hits == 5


async def test_in_a_folder_all_actions_need_no_leave(start: Start, folder: Path) -> None:
    """Only this user can write there, so a member carries out `exit`, `delay` and `break` like its own environment."""
    member = start(FAILPOINTS_FLEET_ALLOW="", PYTHONBREAKPOINT="0")
    async with Fleet(folder) as fleet:
        await fleet.configure_all([("x", "1*delay(1)->1*break"), ("y", "exit(9)")])
        assert member.ask("visit('x', 2)") == ["Continue()"] * 2
        assert (await fleet.status("x")).triggers == 2
        member.tell("visit('y')")
        assert member.process.wait(LIMIT) == 9


async def test_in_a_folder_a_sync_site_takes_a_count_on_the_thread_of_a_loop(start: Start, folder: Path) -> None:
    """Nothing is waited for, so the loop is not blocked."""
    member = start()
    async with Fleet(folder) as fleet:
        await fleet.configure("x", "1*return")
        member.ask("exec('import asyncio\\nasync def visit_on_a_loop(): return visit(\"x\", 2)', globals())")
        assert member.ask("asyncio.run(visit_on_a_loop())") == ["Return(value=None)", "Continue()"]


async def test_a_process_where_nothing_can_be_configured_is_no_member(start: Start, folder: Path) -> None:
    """With `FAILPOINTS_ENABLED=0` a process does not join, and says so."""
    folder.mkdir(0o700)
    member = start(FAILPOINTS_ENABLED="0")
    async with Fleet(folder) as fleet:
        await fleet.configure("x", "return")
        assert await fleet.members() == []
        assert member.ask("visit('x')") == ["Continue()"]
    assert member.end() == 0
    assert "FAILPOINTS_FLEET is ignored" in "\n".join(member.errors)


async def test_a_member_keeps_what_the_fleet_has_after_a_test_of_its_own(start: Start, place: str) -> None:
    """What the program puts back by itself, after it was removed from the fleet, does not stay."""
    member = start()
    async with Fleet(place) as fleet:
        await fleet.configure("x", "return")
        member.ask("exec('from failpoints._core.store import PROCESS_STORE; saved = PROCESS_STORE.save()', globals())")
        await fleet.remove("x")
        member.ask("saved()")
        await until(member, NAMES, [])


async def test_a_member_costs_a_name_that_is_not_configured_nothing(start: Start, folder: Path) -> None:
    """A function whose name is not configured has the code that it had, in a member as anywhere."""
    async with Fleet(folder) as fleet:
        await fleet.configure("y", "pause")
        member = start()
        member.ask("exec('def f(): pass\\ncode = f.__code__\\ng = failpoint(\"x\")(f)', globals())")
        assert member.ask("g.__code__ is code") is True
        await fleet.configure("x", "return")
        assert member.ask("g.__code__ is code") is False
