"""`failpoints run` replaces itself with a program that has failpoints."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from failpoints._cli import run as run_module

Run = Callable[..., Any]

SHOW = (
    "import failpoints; print({each.name: failpoints.format_actions(each.actions) for each in failpoints.statuses()})"
)
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that a process could be sent")


def test_set(run_apart: Run) -> None:
    """`--set` is appended to the program's `FAILPOINTS`. Of two entries with one name the later one counts."""
    sets = ["--set", "a=return(1;2)", "--set", "b=pause;c=25%off", "--set", "d=off", "--set", "d=100"]
    done = run_apart("run", *sets, "--", sys.executable, "-c", SHOW, FAILPOINTS="z=off;b=panic;")
    assert done.status == 0
    assert done.errors.startswith("FAILPOINTS is in force: z=off;b=panic;;a=return(1;2);b=pause;")
    assert done.output == "{'a': 'return(1;2)', 'b': 'pause', 'c': '25%off', 'd': 'sleep(100)', 'z': 'off'}\n"


def test_no_set(run_apart: Run) -> None:
    """Without `--set` the program has the `FAILPOINTS` of the environment."""
    assert run_apart("run", "--", sys.executable, "-c", SHOW, FAILPOINTS="z=off").output == "{'z': 'off'}\n"
    assert run_apart("run", "--", sys.executable, "-c", SHOW).output == "{}\n"


def test_http(run_apart: Run) -> None:
    """`--http` sets `FAILPOINTS_HTTP` of the program, and its token stays as it is."""
    script = "import os; print(os.environ['FAILPOINTS_HTTP'], os.environ['FAILPOINTS_TOKEN'])"
    arguments = ["run", "--http", "127.0.0.1:1", "--", sys.executable, "-c", script]
    done = run_apart(*arguments, FAILPOINTS_HTTP="127.0.0.1:2", FAILPOINTS_TOKEN="secret")
    assert (done.status, done.output) == (0, "127.0.0.1:1 secret\n")


@pytest.mark.parametrize("before", [["run", "--"], ["run"]])
def test_arguments_of_the_program(before: list[str], run_apart: Run) -> None:
    """Everything after the program is passed to it, with or without `--`, even options that the command has too."""
    script = "import sys; print(sys.argv[1:])"
    done = run_apart(*before, sys.executable, "-c", script, "--set", "x", "--help", "--", "é", "")
    assert done == (0, "['--set', 'x', '--help', '--', 'é', '']\n", "")


@pytest.mark.parametrize("status", [0, 1, 2, 77])
def test_the_exit_status(status: int, run_apart: Run) -> None:
    """The exit status is that of the program."""
    assert run_apart("run", "--", sys.executable, "-c", f"raise SystemExit({status})").status == status


@POSIX
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGWINCH"])
def test_signals_reach_the_program(name: str, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    """A signal to the command reaches the program, which can handle it."""
    script = f"""if True:
        import os, signal, sys
        def received(number, frame):
            print(signal.Signals(number).name)
            sys.exit(7)
        signal.signal(signal.{name}, received)
        # A signal that arrives before the read ends it too, which signal.pause() would miss.
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        print("ready", flush=True)
        os.read(reader, 1)
    """
    child = spawn("run", "--", sys.executable, "-c", script)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(getattr(signal, name))
    assert child.communicate(timeout=50) == (f"{name}\n", "")
    assert child.returncode == 7


@POSIX
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGPIPE"])
def test_a_program_that_a_signal_kills(name: str, run_apart: Run) -> None:
    """A signal that kills the program kills the command. The program ignores no signal because of Python."""
    done = run_apart("run", "--", "sh", "-c", f"kill -{name.removeprefix('SIG')} $$")
    assert done == (-getattr(signal, name), "", "")


@POSIX
def test_the_program_replaces_the_command(spawn: Callable[..., subprocess.Popen[str]]) -> None:
    """The program runs in the process of the command, not in a child process."""
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
            "--set: a failpoint's name must be printable, without white space, '=', ';', '[' or ']'; got 'a b'\n"
            "    a b=off\n    ^",
        ),
        (
            "a[x=1,x=2]=off",
            "--set: expected each key once, found 'x' again\n    a[x=1,x=2]=off\n          ^",
        ),
        ("a=return(1", "--set: expected ')' to close this parenthesis, found the end\n    a=return(1\n            ^"),
    ],
)
def test_invalid_actions(setting: str, message: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invalid actions are shown with a caret, and nothing is run."""
    monkeypatch.setattr(run_module.os, "execvpe", lambda *_: pytest.fail("it was run"))
    assert run("run", "--set", "b=off", "--set", setting, "--", "true") == (2, "", f"Error: {message}\n")


def test_an_invalid_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The `FAILPOINTS` of the environment is checked too, before anything is run."""
    monkeypatch.setattr(run_module.os, "execvpe", lambda *_: pytest.fail("it was run"))
    monkeypatch.setenv("FAILPOINTS", "x=pau")
    message = "FAILPOINTS: expected an action, found 'pau'; did you mean 'pause'?\n    x=pau;a=off\n      ^"
    assert run("run", "--set", "a=off", "true") == (2, "", f"Error: {message}\n")


def test_matchers_are_a_part_of_the_setting(run: Run) -> None:
    """`--context` is refused with a hint how to set matchers, and is not in the help."""
    done = run("run", "--set", "a=off", "--context", "tenant_id=t1", "--", "true")
    assert done == (
        2,
        "",
        "Error: run takes matchers in --set: --set 'NAME[KEY=PATTERN,…]=ACTIONS'\n",
    )
    assert "--context" not in run("run", "--help").output


def test_no_program(run: Run) -> None:
    """A missing program is a usage error that names the argument."""
    done = run("run", "--set", "a=off")
    assert (done.status, done.output) == (2, "")
    assert "Missing argument 'COMMAND" in done.errors


@pytest.fixture
def signals_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the signal handlers of this process, where a program that cannot be run does not replace it."""
    monkeypatch.setattr(run_module, "_restore_signals", lambda: None)


@POSIX
@pytest.mark.usefixtures("signals_kept")
def test_a_program_that_does_not_exist(run: Run, tmp_path: Path) -> None:
    """A program or interpreter that does not exist is exit status 127, as in a shell."""
    done = run("run", "--", "no-such-program-as-this")
    assert done == (127, "", "Error: cannot run 'no-such-program-as-this': no such program\n")
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    done = run("run", "--", str(script))
    assert done == (
        127,
        "",
        f"Error: cannot run {str(script)!r}: the interpreter that its first line names does not exist\n",
    )


@POSIX
@pytest.mark.usefixtures("signals_kept")
def test_a_program_that_cannot_be_run(run: Run, tmp_path: Path) -> None:
    """A file that cannot be executed is exit status 126, as in a shell."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    assert run("run", str(script)) == (126, "", f"Error: cannot run {str(script)!r}: Permission denied\n")
    assert run("run", str(tmp_path)) == (126, "", f"Error: cannot run {str(tmp_path)!r}: Permission denied\n")


def test_an_empty_program(run: Run) -> None:
    """An empty program name is exit status 127, as in a shell."""
    assert run("run", "--", "") == (127, "", "Error: cannot run '': the program's name is empty\n")
    assert run("run", "", "x") == (127, "", "Error: cannot run '': the program's name is empty\n")


@pytest.mark.parametrize("arguments", [["true", "a\0b"], ["--set", 'a=return("\0")', "true"], ["true\0"]])
@pytest.mark.usefixtures("signals_kept")
def test_null_bytes(arguments: list[str], run: Run) -> None:
    """A null byte in an argument or in the environment is a usage error."""
    done = run("run", *arguments)
    assert (done.status, done.output, done.errors.count("\n")) == (2, "", 1)
    assert "an argument or environment variable is invalid: " in done.errors
    assert "embedded null" in done.errors


@POSIX
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams(closed: str, in_a_shell: Run) -> None:
    """The program runs even if stdout or stderr is closed."""
    assert in_a_shell(f"run -- sh -c 'exit 3' {closed}") == (3, "", "")


def test_windows(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """On Windows the program is a child process, and its exit status is returned."""
    monkeypatch.setattr(run_module.sys, "platform", "win32")
    environment = run_module.environment_with(["a=pause"])
    assert run_module.execute([sys.executable, "-c", f"{SHOW}; raise SystemExit(5)"], environment) == 5
    output, errors = capfd.readouterr()
    assert (output, errors.splitlines()[0]) == ("{'a': 'pause'}\n", "FAILPOINTS is in force: a=pause")


def test_ctrl_c_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows Ctrl-C also goes to the child, so the command keeps waiting for it."""

    class Child:
        ends: list[Any] = [KeyboardInterrupt, 3]

        def __init__(self, *_: object, **__: object) -> None:
            pass

        def wait(self) -> int:
            end = self.ends.pop(0)
            if end is KeyboardInterrupt:
                raise end
            return end

    monkeypatch.setattr(run_module.subprocess, "Popen", Child)
    assert run_module.run_as_child(["app"], {}) == 3
