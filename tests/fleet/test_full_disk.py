"""A disk that is full: nothing hangs, nothing is half configured, and all go on once there is space again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from failpoints import FailpointUsageError
from failpoints.fleet import Fleet
from tests.fleet.waits import NAMES, joined, until

Start = Callable[..., Any]


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on one event loop: this test is about files."""
    return str(request.param)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small disk."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k,mode=700", "none", str(path)]
    if not sys.platform.startswith("linux") or subprocess.run(mount, capture_output=True, timeout=50).returncode:
        pytest.skip("only root can mount a disk")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True, timeout=50)


@pytest.fixture
def folder(disk: Path) -> Path:
    """Put the fleet on the small disk."""
    return disk / "fleet"


def fill(disk: Path) -> Path:
    """Write a file until the disk is full."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1024)):
                pass
        except OSError:
            return path
    raise AssertionError("the disk is never full")


@pytest.mark.anyio
async def test_a_full_disk(start: Start, folder: Path, disk: Path) -> None:
    """A change is refused whole, a count is not taken, a new member goes on alone. All is well once there is space."""
    member, other = start(count=2)
    async with Fleet(folder, lease=None) as fleet:
        await fleet.configure_all([("x", "2*return(7)"), ("y", "return(8)"), ("z", "1*off->exit(9)")])
        filler = fill(disk)
        for change in (fleet.configure("z", "2*return"), fleet.remove("y"), fleet.reset()):
            with pytest.raises(FailpointUsageError, match="No space left on device"):
                await change
        late = start()
        assert late.ask("visit('y')") == ["Continue()"]
        assert member.ask("visit('y', 3)") == ["Return(value='8')"] * 3
        assert member.ask("visit('x')") == ["Continue()"], "its count cannot be taken"
        assert member.ask("visit('z')") == ["Continue()"], "it is not known that its first count is used up"
        assert {each.name: each.hits for each in await fleet.statuses()} == {"x": 1, "y": 3, "z": 1}

        filler.unlink()
        assert other.ask("visit('x', 3)").count("Return(value='7')") == 2
        await joined(fleet, 3)
        await fleet.configure("z", "1*return(9)")
        assert [each.ask("visit('z')") for each in (late, member)] == [["Return(value='9')"], ["Continue()"]]
        await fleet.remove("y")
        assert member.ask("visit('y')") == ["Continue()"]
    assert [each.end() for each in (late, member, other)] == [0, 0, 0]
    said = "\n".join(member.errors)
    assert said.count("a count of 'x' cannot be taken, so its action is left out") == 1
    assert "No space left on device" in "\n".join(late.errors)
    assert "Traceback" not in said + "\n".join(late.errors)


@pytest.mark.anyio
async def test_an_owner_that_ends_on_a_full_disk(start: Start, folder: Path, disk: Path) -> None:
    """What a `Fleet` has configured ends with its block, although nothing can be written."""
    member = start()
    async with Fleet(folder) as fleet:
        await fleet.configure("x", "pause")
        member.ask("visit_in_thread('x')")
        await fleet.wait_until_paused("x")
        filler = fill(disk)
    await until(member, NAMES, [])
    filler.unlink()
    async with Fleet(folder) as fleet:
        await fleet.configure("x", "return")
        assert member.ask("visit('x')") == ["Return(value=None)"]
