"""Folders that cannot be a fleet's, that cannot be reached, that are damaged, full or removed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from failpoints import FailpointUsageError, FleetTimeout
from failpoints._fleet.folder import Folder
from failpoints._fleet.place import Ended
from failpoints._fleet.state import Entry
from failpoints.fleet import Fleet
from tests.fleet.waits import NAMES, joined, until

Start = Callable[..., Any]

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on one event loop: these tests are about files."""
    return str(request.param)


def imported(fleet: str) -> tuple[int, str]:
    """Import the package in a new process, and return its exit status and what it wrote on stderr."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
    done = subprocess.run(
        [sys.executable, "-c", "import failpoints; print(failpoints.failpoint('x').hit())"],
        env={**environment, "FAILPOINTS_FLEET": fleet, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    return done.returncode, done.stderr.strip()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("run/shop", "'run/shop': the path must be absolute, since processes have different working directories"),
        ("ftp://host/shop", "begins with ftp://: this is not the URL of a fleet"),
        ("redis://user:secret@host/0", "must name the fleet by letters, digits, '_', '.' and '-', as in redis://HOST"),
        (
            "redis://user:secret@host/0?fleet=a&retry=1",
            "has the option 'retry', which is not one of",
        ),
        ("redis://user:secret@host/zero?fleet=a", "has the database 'zero', which is not a number"),
        ("redis://user:secret@host:port/0?fleet=a", "is not a URL: Port could not be cast to integer value as 'port'"),
        ("redis://:secret@/0?fleet=a", "does not name a server: write it as redis://HOST:6379/0?fleet=shop"),
        ("rediss://host/0?fleet=a&ssl_ca_certs=/none", "has ssl_ca_certs='/none', which cannot be read: [Errno 2]"),
        ("redis://:secret@host/0?fleet=a&ssl_ca_certs=/none", "has ssl_ca_certs, but redis:// is not encrypted: use"),
        ("unix://:secret@run/redis.sock?fleet=a", "has 'run' before the path of the socket: write the absolute path"),
        ("~/shop", f"did you mean {os.path.expanduser('~/shop')!r}?"),
        ("redis:user:secret@host/0", "is '***@host/0': the path must be absolute"),
    ],
)
def test_a_url_that_is_none(url: str, problem: str) -> None:
    """A URL that is not one of a fleet stops the import with one sentence, and so it does in Python."""
    status, errors = imported(url)
    assert status == 1
    assert errors.startswith("failpoints.errors.FailpointUsageError: FAILPOINTS_FLEET ")
    assert problem in errors
    assert "secret" not in errors
    assert len(errors.splitlines()) == 1
    with pytest.raises(FailpointUsageError, match="the fleet's URL"):
        Fleet(url)


@pytest.mark.parametrize("url", [7, "", b"/run/shop", None, "/a\0b"])
def test_what_is_not_a_url(url: Any) -> None:
    """Anything but a text or a path is a usage error, and so is a lease that is not a number of seconds."""
    with pytest.raises(
        FailpointUsageError, match="expected the absolute path of a folder, such as /run/shop, or redis://"
    ):
        Fleet(url)
    for lease in (0, -1, float("inf"), float("nan"), True, "30"):
        with pytest.raises(FailpointUsageError, match="lease must be"):
            Fleet("/run/shop", lease=lease)  # type: ignore[arg-type]


def foreign_folders(folder: Path) -> dict[str, tuple[Callable[[], object], str]]:
    def with_a_file() -> None:
        folder.mkdir(0o700)
        (folder / "notes.txt").touch()

    def link() -> None:
        (folder.parent / "other").mkdir(0o700)
        folder.symlink_to("other")

    return {
        "a file": (folder.touch, "is not a folder"),
        "a link": (link, "is not a folder"),
        "open to others": (
            lambda: folder.mkdir(0o755),
            r"is open to other users \(mode 0755\).*mkdir -m 700",
        ),
        "with other files": (with_a_file, "has other files in it, such as 'notes.txt'"),
    }


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["a file", "a link", "open to others", "with other files"])
async def test_a_folder_that_is_not_one_of_a_fleet(folder: Path, kind: str) -> None:
    """A file, a link, a folder that others can open, or one with other files in it is refused, and left as it is."""
    make, problem = foreign_folders(folder)[kind]
    make()
    before = sorted(folder.iterdir()) if folder.is_dir() else []
    status, errors = imported(str(folder))
    assert (status, len(errors.splitlines())) == (1, 1)
    with pytest.raises(FailpointUsageError, match=problem):
        async with Fleet(folder):
            pass
    assert (sorted(folder.iterdir()) if folder.is_dir() else []) == before


@pytest.mark.anyio
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away")
async def test_a_folder_of_another_user(folder: Path) -> None:
    """A folder that belongs to another user is refused."""
    folder.mkdir(0o700)
    os.chown(folder, 12345, 12345)
    with pytest.raises(FailpointUsageError, match="belongs to another user"):
        async with Fleet(folder):
            pass


@pytest.mark.anyio
async def test_a_folder_that_cannot_be_made_yet(start: Start, tmp_path: Path) -> None:
    """A program whose fleet cannot be reached goes on, says so once, and joins when it can."""
    folder = tmp_path / "later" / "fleet"
    member = start(member=False, FAILPOINTS_FLEET=str(folder))
    assert member.ask("visit('x')") == ["Continue()"]
    folder.parent.mkdir()
    async with Fleet(folder) as fleet:
        await fleet.configure("x", "return")
        await until(member, "visit('x')", ["Return(value=None)"])
        assert len(await fleet.members()) == 1
    assert member.end() == 0
    assert [line for line in member.errors if line] == [
        f"failpoints fleet: cannot reach the fleet in {str(folder)!r}: [Errno 2] No such file or directory:"
        f" {str(folder)!r} (process {member.pid})"
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("text", ['{"format": 1, "fle', "", "[]", '{"format": 2}'])
async def test_a_state_that_cannot_be_read(start: Start, folder: Path, text: str) -> None:
    """A state that is cut in half, or of a newer version, is left as it is. Members keep what they have."""
    problem = "newer version of failpoints" if "2" in text else "is damaged"
    member = start()
    state = folder / "state.json"
    async with Fleet(folder) as fleet:
        await fleet.configure("x", "return")
        kept = state.read_text()
        state.write_text(text)
        with pytest.raises(FailpointUsageError, match=problem):
            await fleet.configure("y", "return")
        with pytest.raises(FailpointUsageError, match=problem):
            await fleet.statuses()
        assert state.read_text() == text
        late = start()
        assert late.ask("visit('x')") == ["Continue()"]
        assert member.ask("visit('x')") == ["Return(value=None)"]
        state.write_text(kept)
        await fleet.configure("y", "return")
        assert member.ask("visit('x') + visit('y')") == ["Return(value=None)"] * 2
        await until(late, "visit('x') + visit('y')", ["Return(value=None)"] * 2)
    assert late.end() == 0
    (said,) = [line for line in late.errors if line]
    assert problem in said


@pytest.mark.anyio
async def test_what_a_stopped_owner_configured_ends_also_if_the_state_cannot_be_read(
    start: Start, folder: Path
) -> None:
    """Members end it by their own clocks, whatever has become of the files."""
    member = start()
    async with Fleet(folder, lease=None) as fleet:
        await fleet.configure("x", "return", duration=0.4)
        (folder / "state.json").write_text("")
        await until(member, "visit('x')", ["Continue()"])


@pytest.mark.anyio
async def test_a_folder_that_is_removed(start: Start, folder: Path) -> None:
    """If the folder is removed, nothing stays configured. Members join again when there is a fleet again."""
    member = start()
    async with Fleet(folder) as fleet:
        await fleet.configure("x", "3*return")
        member.ask("visit_in_thread('x')")
        shutil.rmtree(folder)
        await until(member, NAMES, [])
        with pytest.raises(FailpointUsageError, match="is gone"):
            await fleet.statuses()
    assert not folder.exists()
    async with Fleet(folder) as fleet:
        await joined(fleet)
        await fleet.configure("x", "1*return(again)")
        assert member.ask("visit('x', 2)") == ["Return(value='again')", "Continue()"]
    assert member.end() == 0
    assert [line for line in member.errors if "is gone, and with it" in line] == [
        line for line in member.errors if line
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("part", ["wake", "reports", "answers", "owners", "lock", "state.json"])
async def test_a_part_of_the_folder_that_is_removed(start: Start, folder: Path, part: str) -> None:
    """Whatever is removed, what is configured after it is in force, and counted exactly."""
    member = start()
    async with Fleet(folder, lease=None) as fleet:
        await fleet.configure("x", "3*return")
        if (path := folder / part).is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        await fleet.configure("y", "2*return(8)")
        await joined(fleet)  # without its state, this is another fleet, which it joins
        assert member.ask("visit('y', 3)") == ["Return(value='8')"] * 2 + ["Continue()"]
        assert member.ask("visit('x', 4)").count("Return(value=None)") == (0 if part == "state.json" else 3)


@pytest.mark.anyio
@pytest.mark.parametrize("count", [1, 2])
async def test_members_that_are_removed(start: Start, folder: Path, count: int) -> None:
    """Members join again, with what is configured and with all that they have counted, and say once what was wrong.

    The first one makes the folder again. Another one may not even have seen that it was missing.
    """
    members = start(count=count)
    async with Fleet(folder, lease=None) as fleet:
        await fleet.configure("x", "3*return->off")
        assert members[0].ask("visit('x', 2)") == ["Return(value=None)"] * 2
        shutil.rmtree(folder / "members")
        await fleet.configure("y", "return(8)")
        await joined(fleet, count)
        await fleet.configure("z", "off")  # all have acknowledged it
        for member in members:
            assert member.ask("visit('y')") == ["Return(value='8')"]
        assert members[-1].ask("visit('x', 2)") == ["Return(value=None)", "Continue()"]
        status = await fleet.status("x")
        assert (status.hits, status.triggers) == (4, 4)
    for member in members:
        assert member.end() == 0
    said = [[line for line in member.errors if line] for member in members]
    assert max(map(len, said)) == 1
    assert all("cannot reach the fleet" in line for lines in said for line in lines)


@pytest.mark.anyio
async def test_counts_that_are_removed(start: Start, folder: Path) -> None:
    """Without the files of counts, no count is taken, which a warning says once, and a change is refused."""
    member = start()
    async with Fleet(folder, lease=None) as fleet:
        await fleet.configure("x", "3*return")
        shutil.rmtree(folder / "counts")
        with pytest.raises(FailpointUsageError, match="No such file or directory"):
            await fleet.configure("y", "2*return(8)")
        assert member.ask("visit('x') + visit('y')") == ["Continue()"] * 2
        assert member.ask("visit('x', 3)") == ["Continue()"] * 3
    assert member.end() == 0
    (said,) = [line for line in member.errors if line]
    assert "a count of 'x' cannot be taken, so its action is left out: [Errno 2] No such file or directory" in said


def test_a_count_is_missed_only_while_its_configuration_is_there(folder: Path) -> None:
    """A count may be gone with its configuration, which is not a problem: a member can visit before it sees that."""
    place = Folder(folder)
    place.open()
    (entry,) = place.change(lambda state: state.with_entries([Entry(0, "x", "3*return", {})])).entries
    seat = place.join(None)
    assert seat.take(entry.serial, 0, 3)
    (folder / "counts" / f"{entry.serial}-0").unlink()
    with pytest.raises(FileNotFoundError):
        seat.take(entry.serial, 0, 3)
    place.change(lambda state: state.without(lambda _: True))
    with pytest.raises(Ended):
        seat.take(entry.serial, 0, 3)
    seat.close()


@pytest.mark.anyio
async def test_an_answer_that_cannot_be_written(start: Start, folder: Path) -> None:
    """A command is carried out once, also if it cannot be answered. That is logged once, and answered later."""
    member = start()
    async with Fleet(folder) as fleet:
        await fleet.configure("x", "pause")
        member.ask("visit_in_thread('x')")
        await fleet.wait_until_paused("x")
        shutil.rmtree(folder / "answers")
        with pytest.raises(FleetTimeout):
            await fleet.resume("x", timeout=0.5)
        member.ask("visit_in_thread('x')")
        await fleet.wait_until_hit("x", 2)
        await anyio.sleep(0.3)  # in which the member looks thrice
        assert len((await fleet.status("x")).waiting) == 1
        (folder / "answers").mkdir(0o700)
        assert await fleet.resume("x", tasks=1) == 1
    assert member.end() == 0
    (said,) = [line for line in member.errors if line]
    assert "cannot reach the fleet" in said


NO_SPACE = "__import__('resource').setrlimit(__import__('resource').RLIMIT_FSIZE, (0, 1 << 30)) or 1"
SPACE = "__import__('resource').setrlimit(__import__('resource').RLIMIT_FSIZE, (1 << 30, 1 << 30)) or 1"


@pytest.mark.anyio
async def test_a_member_that_cannot_join_again_at_once_counts_nothing_twice(start: Start, folder: Path) -> None:
    """What it had counted was added to the rest meanwhile, and is not counted again when it joins."""
    member = start()
    async with Fleet(folder) as fleet:
        await fleet.configure_all([("x", "off"), ("counted", "1*return")])
        assert member.ask("visit('x', 2)") == ["Continue()"] * 2
        member.ask(f"({NO_SPACE}) and os.closerange(3, 256)")
        await joined(fleet, 0)
        await fleet.configure("y", "off")
        assert (await fleet.status("x")).hits == 2
        with anyio.fail_after(20):
            while not any("cannot reach the fleet" in line for line in member.errors):  # it has tried to join
                await anyio.sleep(0.02)
        assert member.ask("visit('counted')") == ["Continue()"]
        member.ask(SPACE)
        await joined(fleet)
        assert member.ask("visit('x')") == ["Continue()"]
        assert (await fleet.status("x")).hits == 3
        assert member.ask("visit('counted', 2)") == ["Return(value=None)", "Continue()"]
    assert member.end() == 0
    left_out = "a count of 'counted' cannot be taken, so its action is left out: this process is not a member"
    assert "\n".join(member.errors).count(left_out) == 1


@pytest.mark.anyio
async def test_a_count_that_cannot_be_taken_is_not_taken(start: Start, folder: Path) -> None:
    """If nothing can be written, a visit goes on, the action is left out, and a warning says so once."""
    member = start()
    other = start()
    async with Fleet(folder) as fleet:
        await fleet.configure("x", "2*return")
        await fleet.configure("y", "return")
        member.ask(NO_SPACE)
        assert member.ask("visit('x', 2)") == ["Continue()", "Continue()"]
        assert member.ask("visit('y')") == ["Return(value=None)"]
        assert other.ask("visit('x', 3)") == ["Return(value=None)"] * 2 + ["Continue()"]
        assert member.end() == 0
    said = [line for line in member.errors if "a count of 'x' cannot be taken, so its action is left out" in line]
    assert len(said) == 1


def test_a_fleet_that_cannot_write_changes_nothing(start: Start, folder: Path) -> None:
    """A full disk is a usage error, and what was configured before stays."""
    member = start()
    code = f"""
import anyio
from failpoints import FailpointUsageError, FleetTimeout
from failpoints.fleet import Fleet
async def run():
    async with Fleet({str(folder)!r}, lease=None) as fleet:
        await fleet.configure("x", "return")
        {NO_SPACE}
        try:
            await fleet.configure("y", "2*return")
        except FailpointUsageError as error:
            print(json.dumps(str(error)), flush=True)
        print(json.dumps([each.name for each in await fleet.statuses()]), flush=True)
anyio.run(run)
"""
    program = start(code, member=False)
    assert program.line().startswith(f"cannot use the fleet in {str(folder)!r}: [Errno 27] File too large")
    assert program.line() == ["x"]
    assert member.ask("visit('x')") == ["Return(value=None)"]
    assert [entry["name"] for entry in json.loads((folder / "state.json").read_text())["entries"]] == ["x"]
    assert list(folder.rglob(".*")) == []
