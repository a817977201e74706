"""The command with `--fleet`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from failpoints.cli import main

Start = Callable[..., Any]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process, and return its exit status and what it wrote."""
    for name in [name for name in os.environ if name.startswith("FAILPOINTS")]:
        monkeypatch.delenv(name)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(arguments)
        return (status, *capsys.readouterr())

    return run


def test_the_verbs_of_a_fleet(start: Start, folder: Path, run: Run) -> None:
    """`set`, `list`, `wait`, `resume`, `remove`, `reset` and `members` act on all processes."""
    fleet = ("--fleet", str(folder))
    members = start(count=2)
    assert run("set", "x", "pause", *fleet) == (
        0,
        "x: pause\n",
        "note: 2 members have it, and those that start later;"
        " 'x' is not in any module that the members have imported so far\n",
    )
    status, names, _ = run("members", *fleet)
    assert (status, {line.rpartition(":")[2] for line in names.split()}) == (0, {str(each.pid) for each in members})
    assert json.loads(run("members", "--json", *fleet)[1]) == names.split()
    for number, member in enumerate(members):
        member.ask(f"visit_in_thread('x', order={number})")
        assert run("wait", "x", "--paused", str(number + 1), *fleet) == (0, f"x: {number + 1} waiting\n", "")
    (document,) = json.loads(run("list", "--json", *fleet)[1])
    assert (document["name"], document["hits"], len(document["waiting"])) == ("x", 2, 2)
    assert {name: each["hits"] for name, each in document["members"].items()} == dict.fromkeys(names.split(), 1)
    assert "2 tasks, the first for" in run("list", *fleet)[1]
    assert run("resume", "x", "--context", "order=1", *fleet) == (0, "x: 1 resumed\n", "")
    assert run("resume", "x", "--tasks", "5", *fleet) == (0, "x: 1 resumed\n", "")
    assert run("resume", "x", *fleet) == (1, "", "nothing is waiting at failpoint 'x'\n")
    assert run("wait", "x", "--hits", "2", *fleet) == (0, "x: hit 2 times\n", "")
    assert run("remove", "x", *fleet) == (0, "x: removed\n", "")
    assert run("off", "x", *fleet)[0] == 1
    assert run("wait", "x", *fleet)[0] == 1
    assert run("set", "y", "off", *fleet)[0] == 0
    assert run("reset", *fleet) == (0, "all failpoints removed\n", "")
    assert members[0].ask("len(failpoints.statuses())") == 0


def test_the_folder_from_the_environment(start: Start, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command finds the fleet by `FAILPOINTS_FLEET`, and is not a member of it. `--url` asks one process."""
    monkeypatch.setenv("FAILPOINTS_FLEET", str(folder))
    assert run("set", "x", "return")[0] == 0
    assert start().ask("visit('x')") == ["Return(value=None)"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "failpoints", "members"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50)
    assert len(done.stdout.splitlines()) == 1
    assert "cannot connect to http://127.0.0.1:9" in run("list", "--url", "http://127.0.0.1:9")[2]
    assert run("list", "--url", "http://127.0.0.1:9", "--fleet", str(folder))[2] == (
        "Error: give --url or --fleet, not both\n"
    )


def test_what_the_command_sets_stays_or_ends_after_a_time(start: Start, folder: Path, run: Run) -> None:
    """What the command sets stays after it. With `--for` it ends by itself."""
    member = start()
    assert run("set", "x", "return", "--for", "300ms", "--fleet", str(folder))[0] == 0
    assert run("set", "y", "return", "--fleet", str(folder))[0] == 0
    assert member.ask("[s.name for s in failpoints.statuses()]") in (["x", "y"], ["y"])
    member.ask("[__import__('time').sleep(0.01) for _ in range(1000) if visit('x') != ['Continue()']] and 1")
    assert member.ask("[s.name for s in failpoints.statuses()]") == ["y"]


def test_a_member_that_does_not_answer(start: Start, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit status is 1, and the message names the processes that do not have it."""
    from failpoints.fleet import Fleet

    original = Fleet._acknowledged
    monkeypatch.setattr(Fleet, "_acknowledged", lambda self, state, timeout: original(self, state, 0.1))
    member = start()
    member.process.send_signal(signal.SIGSTOP)
    status, _, errors = run("set", "x", "return", "--fleet", str(folder))
    assert status == 1
    assert "1 of 1 members did not acknowledge it within 0.1 s: " in errors
    assert f":{member.pid}\n" in errors


def test_what_the_members_declare(start: Start, folder: Path, run: Run, tmp_path: Path) -> None:
    """`list --all` has what the modules of any member declare, beside what is configured, with all sites."""
    site = "from failpoints import failpoint\n\n@failpoint('{}')\ndef function():\n    pass\n"
    for module, name in (("shop", "shop.order"), ("stock", "stock.reserve")):
        (tmp_path / f"{module}.py").write_text(site.format(name))
        start(f"sys.path.insert(0, {str(tmp_path)!r})\nimport {module}\nmain()").line()
    fleet = ("--fleet", str(folder))
    assert run("set", "shop.order", "off", *fleet)[0] == 0
    assert run("set", "typo", "off", *fleet)[0] == 0
    listed = {each["name"]: each for each in json.loads(run("list", "--all", "--json", *fleet)[1])}
    assert {name: [each["actions"], each["sites"]] for name, each in listed.items()} == {
        "shop.order": ["off", ["shop.py:3"]],
        "shop.order:after": ["", ["shop.py:3"]],
        "stock.reserve": ["", ["stock.py:3"]],
        "stock.reserve:after": ["", ["stock.py:3"]],
        "typo": ["off", []],
    }
    assert (
        "stock.reserve        -        -            0       0         0  -        stock.py:3\n"
        in (run("list", "--all", *fleet)[1])
    )
    assert [each["name"] for each in json.loads(run("list", "--json", *fleet)[1])] == ["shop.order", "typo"]


def test_a_name_that_no_member_declares(
    start: Start, folder: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`set` of a name that no member declares, and `wait` that times out, suggest the most similar declared name."""
    fleet = ("--fleet", str(folder))
    assert run("set", "stock.resreve", "off", *fleet)[2] == "note: 0 members have it, and those that start later\n"
    (tmp_path / "stock.py").write_text(
        "from failpoints import failpoint\n\n@failpoint('stock.reserve')\ndef reserve():\n    pass\n"
    )
    member = start(f"sys.path.insert(0, {str(tmp_path)!r})\nimport stock\nmain()")
    member.line()
    hint = (
        "'stock.resreve' is not in any module that the members have imported so far;"
        " did you mean 'stock.reserve', declared at stock.py:3?\n"
    )
    note = "note: 1 member has it, and those that start later"
    assert run("set", "stock.resreve", "off", *fleet) == (0, "stock.resreve: off\n", f"{note}; {hint}")
    status, output, errors = run("wait", "stock.resreve", "--timeout", "0", *fleet)
    assert (status, output) == (1, "")
    assert errors.splitlines()[0].endswith(" within 0 s") and errors.endswith(f"\n{hint}")
    assert run("set", "stock.reserve", "off", *fleet) == (0, "stock.reserve: off\n", f"{note}\n")
    assert "not in any module" not in run("wait", "stock.reserve", "--timeout", "0", *fleet)[2]
    # A stopped member cannot answer. The rest of the answer does not wait for it any longer.
    monkeypatch.setattr("failpoints._cli.fleet._ADVICE", 0.1)
    member.process.send_signal(signal.SIGSTOP)
    status, _, errors = run("wait", "stock.resreve", "--timeout", "0", *fleet)
    assert status == 1 and "not in any module" not in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["set", "x", "off", "--for", "10m"], "--for needs --fleet"),
        (["set", "x", "off", "--for", "soon", "--fleet", "/x"], "--for must be a duration such as 10m"),
        (["set", "x", "off", "--for", "10", "--fleet", "/x"], "--for must be a duration such as 10m"),
        (["set", "x", "off", "--for", "0s", "--fleet", "/x"], "--for must be a duration such as 10m"),
        (["set", "x", "off", "--for", "1s)->sleep(1", "--fleet", "/x"], "--for must be a duration such as 10m"),
        (["list", "--fleet", "shop"], "the path must be absolute"),
        (["run", "--fleet", "shop", "--", "true"], "the path must be absolute"),
        (["members"], "give its folder or URL with --fleet"),
    ],
)
def test_wrong_uses(arguments: list[str], message: str, run: Run) -> None:
    """A wrong use has exit status 2, and one sentence."""
    status, output, errors = run(*arguments)
    assert (status, output) == (2, "")
    assert message in errors


def test_nothing_is_a_member(folder: Path, run: Run) -> None:
    """Of a fleet without processes, `members` writes a note."""
    assert run("members", "--fleet", str(folder)) == (0, "", "no process is a member\n")
    assert run("list", "--fleet", str(folder))[0] == 0


def test_a_program_that_is_run_as_a_member(folder: Path, run: Run) -> None:
    """`failpoints run --fleet` makes the program a member of it, also one that does not import the package."""
    assert run("set", "json.dumps", "return(7)", "--fleet", str(folder))[0] == 0
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    environment["FAILPOINTS_INSTRUMENT"] = "json:dumps"
    program = [sys.executable, "-c", "import json; print(json.dumps(1))"]
    done = subprocess.run(
        [sys.executable, "-m", "failpoints", "run", "--fleet", str(folder), "--", *program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")
