"""The command as a whole: its help, what it needs, and how it ends."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import failpoints
from failpoints._cli import commands as _command
from failpoints._cli import exploring as _exploring
from failpoints.cli import main

Run = Callable[..., Any]

VERBS = ["list", "set", "off", "reset", "resume", "wait", "watch", "explore", "check", "scan", "run"]
DRIVING = {"list": [], "set": ["x", "off"], "off": ["x"], "reset": [], "resume": ["x"], "wait": ["x"], "watch": []}


def examples(output: str) -> list[list[str]]:
    """The commands that a help shows, as a shell would split them, up to a pipe."""
    found: list[list[str]] = []
    for line in output.splitlines():
        if line.startswith("    failpoints "):
            lexer = shlex.shlex(line.strip(), posix=True, punctuation_chars="|")
            lexer.whitespace_split = True
            words = list(lexer)
            found.append(words[1 : words.index("|")] if "|" in words else words[1:])
    return found


def test_the_help_lists_every_verb(run: Run) -> None:
    """`--help` lists the verbs, each with a sentence that is not cut, and shows examples."""
    done = run("--help")
    assert (done.status, done.errors) == (0, "")
    listed = done.output.partition("Commands:\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in listed.splitlines()] == VERBS
    assert "..." not in listed
    assert len(examples(done.output)) == 3
    assert "--install-completion" not in done.output
    assert run("-h") == done


@pytest.mark.parametrize("verb", VERBS)
def test_each_help_shows_an_example(verb: str, run: Run) -> None:
    """Each verb's help shows at least one example of that verb."""
    done = run(verb, "--help")
    assert (done.status, done.errors) == (0, "")
    assert examples(done.output)
    assert all(words[0] == verb for words in examples(done.output))


async def nothing(run: object) -> None:
    """A scenario."""


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_the_examples_run(verb: str, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every example of a help is a call that the command understands, and whose actions are good."""
    asked: list[Any] = []
    started: list[Any] = []
    monkeypatch.setattr(_command.Remote, "ask", lambda _, verb: asked.append(verb) or [])
    monkeypatch.setattr(_command, "start", lambda command, _: started.append(command) or 0)
    monkeypatch.setattr(_exploring, "scenario_at", lambda _: nothing)
    monkeypatch.chdir(tmp_path)
    for folder in ("src", "tests"):
        (tmp_path / folder).mkdir()
    for words in examples(run(*([verb] if verb else []), "--help").output):
        before = len(asked) + len(started)
        done = run(*words)
        assert done.status == 0, done
        assert len(asked) + len(started) == before + (words[0] not in {"explore", "check", "scan"})
    for words in examples(run("set", "--help").output):
        assert run("check", words[2]).status == 0


def test_without_a_verb_it_shows_the_help(run: Run) -> None:
    """Without any argument it shows what it can do, with status 2."""
    done = run()
    assert done.status == 2
    assert "Commands:" in done.output + done.errors


def test_the_version(run: Run) -> None:
    """`--version` says which one it is."""
    assert re.fullmatch(r"failpoints \d+\.\d+\.\d+\S*\n", run("--version").output)


@pytest.mark.parametrize("arguments", [["lst"], ["list", "--jsn"], ["set", "x"], ["off"], ["list", "x"], ["--nothing"]])
def test_a_wrong_use(arguments: list[str], run_apart: Run) -> None:
    """What the command does not understand is status 2, with how it is used on stderr, and no traceback."""
    done = run_apart(*arguments)
    assert (done.status, done.output) == (2, "")
    assert "Usage: failpoints" in done.errors
    assert "Error: " in done.errors
    assert "Traceback" not in done.errors


def test_main_takes_the_arguments_of_the_process(run_apart: Run) -> None:
    """`python -m failpoints` and the function that the console script calls take what stands on the command line."""
    script = "import sys; from failpoints.cli import main; sys.exit(main())"
    assert run_apart("check", "pause->off").status == 1
    assert run_apart("check", "pause->off", program=("-c", script)).status == 1


def test_the_variables_of_a_program_are_nothing_to_it(run_apart: Run) -> None:
    """What `FAILPOINTS`, `FAILPOINTS_ENABLED` and `FAILPOINTS_HTTP` say is nothing to the command."""
    done = run_apart("check", "off", FAILPOINTS="retrun", FAILPOINTS_ENABLED="perhaps", FAILPOINTS_HTTP="nowhere")
    assert done == (0, "1. off  every time: nothing; the hit is used up\n", "")


# what it needs


def without(package: str) -> tuple[str, str]:
    """A Python in which a package is not installed, and which runs the command."""
    script = f"import sys; sys.modules[{package!r}] = None; from failpoints.cli import main; sys.exit(main())"
    return "-c", script


@pytest.mark.parametrize("arguments", [["check", "off"], ["list"], ["--help"]])
def test_without_typer(arguments: list[str], run_apart: Run) -> None:
    """Without typer it says what to install, with status 2."""
    done = run_apart(*arguments, program=without("typer"))
    sentence = "Error: the command failpoints needs typer, which is not installed: pip install 'failpoints[cli]'\n"
    assert done == (2, "", sentence)


def test_without_rich(run_apart: Run, server: str) -> None:
    """Without rich the tables say what to install."""
    done = run_apart("list", program=without("rich"))
    sentence = "Error: the command failpoints needs rich, which is not installed: pip install 'failpoints[cli]'\n"
    assert done == (2, "", sentence)


@pytest.mark.parametrize("verb", DRIVING)
def test_without_httpx(verb: str, run_apart: Run) -> None:
    """Without httpx the verbs that drive a program say what to install."""
    done = run_apart(verb, *DRIVING[verb], program=without("httpx"))
    assert (done.status, done.output) == (2, "")
    assert re.fullmatch(
        r"Error: .* needs httpx, which is not installed: pip install 'failpoints\[\w+\]'\n", done.errors
    )


def test_the_others_need_no_httpx(run_apart: Run) -> None:
    """The verbs that need no running program work without httpx."""
    program = without("httpx")
    assert run_apart("check", "off", program=program).status == 0
    assert run_apart("scan", failpoints.__file__, program=program).status == 0
    assert run_apart("run", "--set", "a=off", sys.executable, "-c", "", program=program) == (0, "", "")


def test_an_error_of_its_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is missing for any other reason is an error as ever."""
    monkeypatch.setattr(_command, "explain", lambda _: __import__("no_such_module"))
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        main(["check", "off"])


# how it ends


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipe that breaks in this way")
@pytest.mark.parametrize("arguments", [["check", "off"], ["list", "--json"], ["scan", "."], ["--help"], ["--version"]])
def test_nobody_reads(arguments: list[str], spawn: Callable[..., subprocess.Popen[str]], server: str) -> None:
    """Where the reader of a pipe has gone it ends quietly, as a program that SIGPIPE ends."""
    failpoints.configure("backup", "off")
    script = "import sys; sys.stdin.read(); from failpoints.cli import main; sys.exit(main())"
    child = spawn(*arguments, program=("-c", script))
    assert child.stdout is not None
    child.stdout.close()
    child.stdout = None
    _, errors = child.communicate(timeout=50)
    assert (child.returncode, errors) == (141, "")


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")


@FULL
@pytest.mark.parametrize("arguments", ["check off", "list --json", "watch", "scan .", "--help", "--version"])
def test_a_full_disk(arguments: str, server: str, in_a_shell: Run) -> None:
    """Where the output cannot be written, it says so in a sentence, with status 2."""
    done = in_a_shell(f"{arguments} >/dev/full")
    assert done == (2, "", "Error: cannot write the output: No space left on device\n")


@FULL
@pytest.mark.parametrize("arguments", ["check nothing", "nothing", "scan nowhere", "list --url http://127.0.0.1:1"])
def test_a_full_disk_for_the_errors(arguments: str, in_a_shell: Run) -> None:
    """Where what is wrong cannot be said either, the status says it."""
    assert in_a_shell(f"{arguments} 2>/dev/full") == (2, "", "")
    assert in_a_shell(f"{arguments} >/dev/full 2>/dev/full") == (2, "", "")


@pytest.mark.parametrize("arguments", ["check pause", "list", "set x off", "scan --help", "--version"])
def test_a_closed_output(arguments: str, server: str, in_a_shell: Run) -> None:
    """Where the output is closed it says so in a sentence, with status 2, and has done nothing."""
    done = in_a_shell(f"{arguments} >&-")
    assert done == (2, "", "Error: the standard output is closed: there is nowhere to write to\n")
    assert in_a_shell(f"{arguments} >&- 2>&-") == (2, "", "")
    assert failpoints.statuses() == []


def test_closed_errors(server: str, in_a_shell: Run) -> None:
    """Where the errors are closed, what belongs there stands nowhere."""
    assert in_a_shell("check nothing 2>&-") == (2, "", "")
    assert in_a_shell("list 2>&-") == (0, "", "")
    assert in_a_shell("set x off 2>&-") == (0, "x: off\n", "")


def test_a_file_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error with a file that is not the output is an error as ever."""
    monkeypatch.setattr(_command, "explain", lambda _: Path("/no/such/file").read_text())
    with pytest.raises(FileNotFoundError):
        main(["check", "off"])


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Ctrl-C ends it quietly, with status 130."""

    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_command, "explain", interrupted)
    assert run("check", "off") == (130, "", "")


def test_characters_that_the_output_has_not(run_apart: Run) -> None:
    """What the encoding of the output cannot show is escaped, and no error."""
    done = run_apart("check", "return(é→支)", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.status == 0
    assert done.output.splitlines()[0] == r"1. return(\xe9\u2192\u652f)  every time: returns '\xe9\u2192\u652f'"
