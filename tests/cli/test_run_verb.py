"""`failpoints run`: a program with failpoints, in whose place the command was."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from failpoints._cli import launch as _running

Run = Callable[..., Any]

SHOW = (
    "import failpoints; print({each.name: failpoints.format_actions(each.actions) for each in failpoints.statuses()})"
)
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that a process could be sent")


def test_what_is_set_holds(run_apart: Run) -> None:
    """The program has what `--set` says, after what its `FAILPOINTS` says already; a later one of a name counts."""
    sets = ["--set", "a=return(1;2)", "--set", "b=pause;c=25%off", "--set", "d=off", "--set", "d=100"]
    done = run_apart("run", *sets, "--", sys.executable, "-c", SHOW, FAILPOINTS="z=off;b=panic;")
    assert (done.status, done.errors) == (0, "")
    assert done.output == "{'a': 'return(1;2)', 'b': 'pause', 'c': '25%off', 'd': 'sleep(100)', 'z': 'off'}\n"


def test_nothing_set(run_apart: Run) -> None:
    """Without `--set` the program is run with what its environment says."""
    assert run_apart("run", "--", sys.executable, "-c", SHOW, FAILPOINTS="z=off").output == "{'z': 'off'}\n"
    assert run_apart("run", "--", sys.executable, "-c", SHOW).output == "{}\n"


def test_where_it_listens(run_apart: Run) -> None:
    """`--http` is `FAILPOINTS_HTTP` to the program; what else its environment says stays."""
    script = "import os; print(os.environ['FAILPOINTS_HTTP'], os.environ['FAILPOINTS_TOKEN'])"
    arguments = ["run", "--http", "127.0.0.1:1", "--", sys.executable, "-c", script]
    done = run_apart(*arguments, FAILPOINTS_HTTP="127.0.0.1:2", FAILPOINTS_TOKEN="secret")
    assert done == (0, "127.0.0.1:1 secret\n", "")


@pytest.mark.parametrize("before", [["run", "--"], ["run"]])
def test_arguments_are_the_programs_own(before: list[str], run_apart: Run) -> None:
    """What follows the program is its own, with or without `--` before it, options of the command's names, too."""
    script = "import sys; print(sys.argv[1:])"
    done = run_apart(*before, sys.executable, "-c", script, "--set", "x", "--help", "--", "é", "")
    assert done == (0, "['--set', 'x', '--help', '--', 'é', '']\n", "")


@pytest.mark.parametrize("status", [0, 1, 2, 77])
def test_the_exit_status_is_the_programs(status: int, run_apart: Run) -> None:
    """The program's exit status is the command's."""
    assert run_apart("run", "--", sys.executable, "-c", f"raise SystemExit({status})").status == status


@POSIX
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGWINCH"])
def test_signals_reach_the_program(name: str, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    """A signal to the command is one to the program, which says what comes of it."""
    script = f"""if True:
        import signal, sys
        def received(number, frame):
            print(signal.Signals(number).name)
            sys.exit(7)
        signal.signal(signal.{name}, received)
        print("ready", flush=True)
        while True:
            signal.pause()
    """
    child = spawn("run", "--", sys.executable, "-c", script)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(getattr(signal, name))
    assert child.communicate(timeout=50) == (f"{name}\n", "")
    assert child.returncode == 7


@POSIX
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGPIPE"])
def test_a_program_that_a_signal_ends(name: str, run_apart: Run) -> None:
    """Where a signal ends the program, it ends the command: nothing is ignored that was not before."""
    done = run_apart("run", "--", "sh", "-c", f"kill -{name.removeprefix('SIG')} $$")
    assert done == (-getattr(signal, name), "", "")


@POSIX
def test_it_takes_the_place_of_the_command(spawn: Callable[..., subprocess.Popen[str]]) -> None:
    """The program is no child of the command, but the process that was the command."""
    child = spawn("run", "--", "sh", "-c", "echo $$")
    assert child.communicate(timeout=50) == (f"{child.pid}\n", "")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "a=retrun",
            "--set: expected an action, found 'retrun'; did you mean 'return'?\n    a=retrun\n      ^",
        ),
        ("a", "--set: expected name=actions, found no '='\n    a\n     ^"),
        ("", "--set: expected name=actions, found nothing\n    \n    ^"),
        (
            "a b=off",
            "--set: a failpoint's name is printable, without white space, '=' or ';'; got 'a b'\n    a b=off\n    ^",
        ),
        ("a=return(1", "--set: expected ')' to close this parenthesis, found the end\n    a=return(1\n            ^"),
    ],
)
def test_bad_actions_run_nothing(setting: str, message: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Actions that are none are refused with a caret and status 2 before anything is run."""
    monkeypatch.setattr(_running.os, "execvpe", lambda *_: pytest.fail("it was run"))
    assert run("run", "--set", "b=off", "--set", setting, "--", "true") == (2, "", f"Error: {message}\n")


def test_a_bad_variable_runs_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `FAILPOINTS` of the outside says is checked, too."""
    monkeypatch.setattr(_running.os, "execvpe", lambda *_: pytest.fail("it was run"))
    monkeypatch.setenv("FAILPOINTS", "x=pau")
    message = "FAILPOINTS: expected an action, found 'pau'; did you mean 'pause'?\n    x=pau;a=off\n      ^"
    assert run("run", "--set", "a=off", "true") == (2, "", f"Error: {message}\n")


def test_matchers_cannot_be_given(run: Run) -> None:
    """Who tries to give matchers is told how it can be done."""
    done = run("run", "--set", "a=off", "--context", "tenant_id=t1", "--", "true")
    assert done == (
        2,
        "",
        "Error: FAILPOINTS has no matchers: start it with --http, then failpoints set … --context …\n",
    )
    assert "--context" not in run("run", "--help").output


def test_no_program(run: Run) -> None:
    """Without a program it says what is missing, with status 2."""
    done = run("run", "--set", "a=off")
    assert (done.status, done.output) == (2, "")
    assert "Missing argument 'COMMAND" in done.errors


@POSIX
def test_a_program_that_does_not_exist(run_apart: Run, tmp_path: Path) -> None:
    """What is no program is status 127, as shells have it; so is one whose first line names none."""
    done = run_apart("run", "--", "no-such-program-as-this")
    assert done == (127, "", "Error: cannot run 'no-such-program-as-this': there is no such program\n")
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    done = run_apart("run", "--", str(script))
    assert done == (127, "", f"Error: cannot run {str(script)!r}: its first line names a program that is not there\n")


@POSIX
def test_a_program_that_cannot_be_run(run_apart: Run, tmp_path: Path) -> None:
    """What is there and cannot be run is status 126."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    assert run_apart("run", str(script)) == (126, "", f"Error: cannot run {str(script)!r}: Permission denied\n")
    assert run_apart("run", str(tmp_path)) == (126, "", f"Error: cannot run {str(tmp_path)!r}: Permission denied\n")


def test_an_empty_program(run: Run) -> None:
    """An empty name is no program, with status 127, as shells have it."""
    assert run("run", "--", "") == (127, "", "Error: cannot run '': the program's name is empty\n")
    assert run("run", "", "x") == (127, "", "Error: cannot run '': the program's name is empty\n")


@pytest.mark.parametrize("arguments", [["true", "a\0b"], ["--set", 'a=return("\0")', "true"], ["true\0"]])
def test_what_no_program_can_be_given(arguments: list[str], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A null byte, which ends an argument for every program, is refused with status 2."""
    monkeypatch.setattr(_running, "_unignore_signals", lambda: None)  # it would hold for the other tests
    done = run("run", *arguments)
    assert (done.status, done.output, done.errors.count("\n")) == (2, "", 1)
    assert "an argument or a variable is none that a program can be given: " in done.errors
    assert "embedded null" in done.errors


@POSIX
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_the_programs(closed: str, in_a_shell: Run) -> None:
    """The program is run whichever of its streams are closed."""
    assert in_a_shell(f"run -- sh -c 'exit 3' {closed}") == (3, "", "")


def test_where_no_process_can_be_replaced(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """On Windows the program is a child, and its exit status is the command's."""
    monkeypatch.setattr(_running.sys, "platform", "win32")
    environment = _running.environment_with(["a=pause"])
    assert _running.start([sys.executable, "-c", f"{SHOW}; raise SystemExit(5)"], environment) == 5
    assert capfd.readouterr() == ("{'a': 'pause'}\n", "")


def test_an_interrupt_there_is_the_childs(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows a Ctrl-C goes to both, and the command waits for what the child makes of it."""

    class Child:
        ends: list[Any] = [KeyboardInterrupt, 3]

        def __init__(self, *_: object, **__: object) -> None:
            pass

        def wait(self) -> int:
            end = self.ends.pop(0)
            if end is KeyboardInterrupt:
                raise end
            return end

    monkeypatch.setattr(_running.subprocess, "Popen", Child)
    assert _running.run_and_wait(["app"], {}) == 3
