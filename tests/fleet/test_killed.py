"""Processes that are killed between any two of their operations: nothing hangs, nothing is left, nothing is lost.

A child counts the lines that it runs in `failpoints/_fleet`, and kills itself at one of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no os.fork")

ROOT = Path(__file__).parents[2]

PRELUDE = '''
import os, random, signal, sys, threading, time
from pathlib import Path
import failpoints
from failpoints import failpoint
from failpoints._core.store import PROCESS_STORE
from failpoints._fleet.folder import Folder
from failpoints._fleet.member import Member
from failpoints._fleet.state import Command, Counts, Entry

ROOM = os.path.join("failpoints", "_fleet", "")
path = Path(sys.argv[1])
folder = Folder(path)
folder.open()

def killed_at(number, function):
    """Run a function in a child that is killed at its line *number*. Return whether it was."""
    child = os.fork()
    if child:
        deadline = time.monotonic() + 20
        while True:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status) == -signal.SIGKILL
            assert time.monotonic() < deadline, "a child hangs"
            time.sleep(0.0005)
    lines = 0
    def trace(frame, event, argument):
        nonlocal lines
        if ROOM not in frame.f_code.co_filename:
            return None
        if event == "line":
            lines += 1
            if lines == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    threading.settrace(trace)
    sys.settrace(trace)
    try:
        function()
    except BaseException as error:
        sys.settrace(None)
        import traceback
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(3)
    os._exit(0)

def armed(*entries):
    state = folder.change(lambda state: state.with_entries(entries), patience=5)
    folder.wake_all()
    return state

def numbers(seed, most, kills):
    """Return at which lines to kill: every one, or as many as asked."""
    chosen = random.Random(seed).sample(range(1, most + 1), min(kills, most))
    return sorted(chosen)
'''


def run(folder: Path, kills: int, script: str) -> None:
    """Run a script in a new process, which must succeed and write nothing on stderr."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FAILPOINTS", "COVERAGE"))}
    done = subprocess.run(
        [
            sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + textwrap.dedent(script),
            str(folder), str(kills),
        ],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60 + kills,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


# KILLS=1000 kills at every line that a member runs, which takes minutes.
MANY = int(os.environ.get("KILLS", "40"))
KILLS = [pytest.param(10, id="some"), pytest.param(MANY, id="many", marks=pytest.mark.slow)]


@pytest.mark.parametrize("kills", KILLS)
def test_a_member_that_is_killed(folder: Path, kills: int) -> None:
    """Wherever a member is killed, nothing waits for it, each count is taken once, and the next member joins."""
    run(
        folder,
        kills,
        """
        def member():
            Member(folder).start()
            for _ in range(3):
                failpoint("x").hit()
            Folder(path).change(lambda state: state.with_entries([Entry(0, "y", "off", {})]))
            folder.wake_all()
            while folder.unacknowledged(folder.state().revision):
                time.sleep(0.0005)

        most = 1
        while killed_at(most, member):
            most = int(most * 1.5) + 1
        for number in numbers(1, most, int(sys.argv[2])):
            serial = armed(Entry(0, "x", "2*off->1*off", {})).entries[-1].serial
            killed_at(number, member)
            began = time.monotonic()
            state = armed(Entry(0, "z", "off", {}))
            assert folder.unacknowledged(state.revision) == []
            assert folder.members() == []
            counts = folder.seen().counts(serial)
            assert counts.triggers <= counts.hits <= 3, counts
            drawn = [folder.draw(serial, term) for term in (0, 1)]
            assert drawn[0] >= min(counts.hits, 2), (drawn, counts)
            assert drawn[1] >= counts.hits - 2, (drawn, counts)
            killed_at(0, member)  # it runs to its end
            assert folder.seen().counts(serial).hits == counts.hits + 3
            assert time.monotonic() - began < 10
        folder.change(lambda state: state.without(lambda entry: True))
        folder.change(lambda state: state.with_command(Command(0, "x", {})))
        left = [each for each in path.rglob("*") if each.is_file() and not each.name.startswith(".")]
        assert {each.name for each in left} == {"state.json", "lock"}, left
        """,
    )


@pytest.mark.parametrize("kills", KILLS)
def test_an_owner_that_is_killed(folder: Path, kills: int) -> None:
    """Wherever an owner is killed, members have what is configured, nothing of it stays, and the next one can go on."""
    run(
        folder,
        kills,
        """
        member = Member(folder)
        member.start()
        here = Folder(path)

        def owner():
            there = Folder(path)
            there.open()
            held = there.own()
            entry = Entry(0, "x", "1*off", {}, owner=held.path.name, lease=30)
            state = there.change(lambda state: state.with_entries([entry, Entry(0, "kept", "off", {})]))
            there.wake_all()
            there.seen()
            there.change(lambda state: state.with_command(Command(0, "x", {})))
            there.change(lambda state: state.without(lambda entry: entry.name == "x"))
            there.wake_all()
            held.remove()

        most = 1
        while killed_at(most, owner):
            most = int(most * 1.5) + 1
        for number in numbers(2, most, int(sys.argv[2])):
            killed_at(number, owner)
            began = time.monotonic()
            state = here.change(lambda state: state.with_entries([Entry(0, "z", "off", {})]), patience=5)
            here.wake_all()
            while here.unacknowledged(state.revision):
                assert time.monotonic() - began < 10
                time.sleep(0.0005)
            names = {entry.name for entry in state.entries}
            assert "x" not in names, state
            assert {each.name for each in PROCESS_STORE.configurations()} == names
            assert PROCESS_STORE.status("x").actions == ()
        """,
    )


@pytest.mark.parametrize("kills", KILLS)
def test_a_parent_or_child_that_is_killed_while_it_forks(folder: Path, kills: int) -> None:
    """Wherever a process is killed that forks, is forked, or closes its files, the others go on."""
    run(
        folder,
        kills,
        """
        def parent():
            Member(folder).start()
            failpoint("x").hit()
            child = os.fork()
            if not child:
                failpoint("x").hit()
                os._exit(0)
            os.waitpid(child, 0)
            failpoint("x").hit()

        most = 1
        while killed_at(most, parent):
            most = int(most * 1.5) + 1
        for number in numbers(3, most, int(sys.argv[2])):
            serial = armed(Entry(0, "x", "off", {})).entries[-1].serial
            killed_at(number, parent)
            began = time.monotonic()
            while folder.members():  # a child that lives longer than its parent ends by itself
                assert time.monotonic() - began < 10
                time.sleep(0.001)
            state = armed(Entry(0, "z", "off", {}))
            assert folder.unacknowledged(state.revision) == []
            assert folder.seen().counts(serial).hits <= 3
        """,
    )
