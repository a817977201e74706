"""The command as a whole: its help, the packages it needs, and how it ends."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import failpoints
from failpoints._cli import check as check_module
from failpoints._cli import explore as explore_module
from failpoints._cli import fleet_page
from failpoints._cli import run as run_module
from failpoints._cli.fleet import FleetProgram
from failpoints._cli.remote import RemoteProgram
from failpoints.cli import main

Run = Callable[..., Any]

VERBS = [
    "list",
    "set",
    "remove",
    "reset",
    "resume",
    "wait",
    "watch",
    "members",
    "page",
    "explore",
    "check",
    "explain",
    "scan",
    "run",
    "request",
]
NEED_A_PROGRAM = [["list"], ["set", "x", "off"], ["remove", "x"], ["reset"], ["resume", "x"], ["wait", "x"], ["watch"]]


def examples(output: str) -> list[list[str]]:
    """Return the example commands of a help text, each split as a shell would, up to a pipe."""
    found: list[list[str]] = []
    for line in output.splitlines():
        if line.startswith("    failpoints "):
            lexer = shlex.shlex(line.strip(), posix=True, punctuation_chars="|")
            lexer.whitespace_split = True
            words = list(lexer)
            found.append(words[1 : words.index("|")] if "|" in words else words[1:])
    return found


def test_the_help_lists_every_verb(run: Run) -> None:
    """`--help` lists the verbs, each with a sentence that is not cut, and has examples."""
    done = run("--help")
    assert (done.status, done.errors) == (0, "")
    listed = done.output.partition("Commands:\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in listed.splitlines()] == VERBS
    assert "..." not in listed
    assert len(examples(done.output)) == 3
    assert run("-h") == done


def test_off_is_a_hidden_name_of_remove(run: Run) -> None:
    """`off`, the former name of `remove`, has the same help, but no help text mentions it."""
    help_of_remove, help_of_off = run("remove", "--help"), run("off", "--help")
    assert help_of_off.status == 0
    without_example = help_of_remove.output.partition("\n  Example:")[0]
    assert help_of_off.output == without_example.replace("failpoints remove", "failpoints off")
    assert "failpoints off" not in run("--help").output + help_of_remove.output


@pytest.mark.parametrize("verb", VERBS)
def test_each_help_shows_an_example(verb: str, run: Run) -> None:
    """Each verb's help has at least one example of that verb."""
    done = run(verb, "--help")
    assert (done.status, done.errors) == (0, "")
    assert examples(done.output)
    assert all(words[0] == verb for words in examples(done.output))


async def nothing(run: object) -> None:
    """Do nothing, as a scenario."""


def save_nothing(folder: Path) -> None:
    """Write nothing, as a program whose crashes are explored."""


def check_nothing(folder: Path, acknowledged: list[Any]) -> None:
    """Accept every folder, as a recovery."""


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_the_examples_run(verb: str, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every example in a help text can be run, and has valid actions."""
    asked: list[Any] = []
    started: list[Any] = []
    for program in (RemoteProgram, FleetProgram):
        monkeypatch.setattr(program, "ask", lambda _, request: asked.append(request) or [])
    monkeypatch.setattr(fleet_page, "serve_page", lambda folder, _: started.append(folder))
    monkeypatch.setattr(run_module, "execute", lambda command, _: started.append(command) or 0)
    crashing = {"tests.store:save": save_nothing, "tests.store:check": check_nothing}
    monkeypatch.setattr(explore_module, "find_scenario", lambda path: crashing.get(path, nothing))
    monkeypatch.setenv("FAILPOINTS_REQUEST_KEYS", "k1:a secret of the tests")
    monkeypatch.chdir(tmp_path)
    for folder in ("src", "tests"):
        (tmp_path / folder).mkdir()
    for words in examples(run(*([verb] if verb else []), "--help").output):
        before = len(asked) + len(started)
        done = run(*words)
        assert done.status == 0, done
        assert len(asked) + len(started) == before + (words[0] not in {"explore", "check", "explain", "scan"})
    for words in examples(run("set", "--help").output):
        assert run("check", words[2]).status == 0


def test_without_a_verb_it_shows_the_help(run: Run) -> None:
    """Without arguments the command shows its help, with exit status 2."""
    done = run()
    assert done.status == 2
    assert "Commands:" in done.output + done.errors


def test_the_version(run: Run) -> None:
    """`--version` prints the version."""
    assert re.fullmatch(r"failpoints \d+\.\d+\.\d+\S*\n", run("--version").output)


@pytest.mark.parametrize(
    "arguments", [["lst"], ["list", "--jsn"], ["set", "x"], ["remove"], ["list", "x"], ["--nothing"]]
)
def test_usage_errors(arguments: list[str], run: Run) -> None:
    """A usage error prints the usage and the error on stderr, and the exit status is 2."""
    done = run(*arguments)
    assert (done.status, done.output) == (2, "")
    assert "Usage: failpoints" in done.errors
    assert "Error: " in done.errors
    assert "Traceback" not in done.errors


def test_main_takes_the_arguments_of_the_process(run_apart: Run) -> None:
    """`python -m failpoints` and the console script both use the arguments of the process."""
    script = "import sys; from failpoints.cli import main; sys.exit(main())"
    assert run_apart("check", "pause->off").status == 1
    assert run_apart("check", "pause->off", program=("-c", script)).status == 1


def test_variables_for_programs_do_not_affect_it(run_apart: Run) -> None:
    """`FAILPOINTS`, `FAILPOINTS_ENABLED` and `FAILPOINTS_HTTP` do not affect the command itself."""
    done = run_apart("check", "off", FAILPOINTS="retrun", FAILPOINTS_ENABLED="perhaps", FAILPOINTS_HTTP="nowhere")
    assert done == (0, "1. off  every time: does nothing, but counts as the hit's action\n", "")


# the packages it needs


@pytest.fixture
def run_without(run_apart: Run) -> Callable[[str, list[list[str]]], list[Any]]:
    """Run the command with each list of arguments in one process, in which a package is not installed."""
    script = """if True:
        import contextlib, io, json, sys
        package, calls = json.loads(sys.argv[1])
        sys.modules[package] = None
        from failpoints.cli import main
        for arguments in calls:
            with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
                status = main(arguments)
            print(json.dumps([status, out.getvalue(), err.getvalue()]))
    """

    def run_without(package: str, calls: list[list[str]]) -> list[Any]:
        done = run_apart(json.dumps([package, calls]), program=("-c", script))
        assert (done.status, done.errors) == (0, "")
        results = [json.loads(line) for line in done.output.splitlines()]
        assert len(results) == len(calls)
        return results

    return run_without


def test_without_typer(run_apart: Run, run_without: Callable[..., list[Any]]) -> None:
    """Without typer every call prints what to install, with exit status 2."""
    message = "Error: the command failpoints needs typer, which is not installed: pip install 'failpoints[cli]'\n"
    assert run_without("typer", [["check", "off"], ["list"], ["--help"]]) == [[2, "", message]] * 3
    script = "import sys; sys.modules['typer'] = None; from failpoints.cli import main; sys.exit(main())"
    assert run_apart("list", program=("-c", script)) == (2, "", message)


def test_without_rich(run_without: Callable[..., list[Any]], server: str) -> None:
    """Without rich `list` prints what to install."""
    message = "Error: the command failpoints needs rich, which is not installed: pip install 'failpoints[cli]'\n"
    assert run_without("rich", [["list"]]) == [[2, "", message]]


def test_without_httpx(run_without: Callable[..., list[Any]]) -> None:
    """Without httpx the verbs that control a program print what to install."""
    for status, output, errors in run_without("httpx", NEED_A_PROGRAM):
        assert (status, output) == (2, "")
        assert re.fullmatch(r"Error: .* needs httpx, which is not installed: pip install 'failpoints\[\w+\]'\n", errors)


def test_the_other_verbs_do_not_need_httpx(run_apart: Run, run_without: Callable[..., list[Any]]) -> None:
    """The verbs that need no running program work without httpx."""
    results = run_without("httpx", [["check", "off"], ["scan", failpoints.__file__]])
    assert [status for status, _, _ in results] == [0, 0]
    script = "import sys; sys.modules['httpx'] = None; from failpoints.cli import main; sys.exit(main())"
    assert run_apart("run", "--set", "a=off", "true", program=("-c", script)) == (0, "", "")


def test_another_missing_module_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing module that is not part of the extra is raised."""
    monkeypatch.setattr(check_module, "explain", lambda _: __import__("no_such_module"))
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        main(["check", "off"])


# how it ends


LINES = ["check off", "list --json", "scan examples", "--help", "--version"]


def test_a_closed_pipe(server: str, run_all_in_a_shell: Run) -> None:
    """If the reader of a pipe is gone, the command ends without a message, as if by SIGPIPE."""
    failpoints.configure("backup", "off")
    setup = "reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 1)"
    assert run_all_in_a_shell(LINES, setup=setup) == ([141] * len(LINES), "", "")


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")


@FULL
def test_a_full_disk(server: str, run_all_in_a_shell: Run) -> None:
    """If the output cannot be written, the command prints why, with exit status 2."""
    lines = [*LINES, "watch"]
    message = "Error: cannot write the output: No space left on device\n"
    assert run_all_in_a_shell(lines, ">/dev/full") == ([2] * len(lines), "", message * len(lines))


@FULL
@pytest.mark.parametrize("redirection", ["2>/dev/full", ">/dev/full 2>/dev/full"])
def test_a_full_disk_for_the_errors(redirection: str, run_all_in_a_shell: Run) -> None:
    """If the error message cannot be written either, the exit status is still 2."""
    lines = ["check nothing", "nothing", "scan nowhere", "list --url http://127.0.0.1:1"]
    assert run_all_in_a_shell(lines, redirection) == ([2] * len(lines), "", "")


def test_a_closed_output(server: str, run_all_in_a_shell: Run) -> None:
    """If the output is closed, the command does nothing but print that, with exit status 2."""
    lines = ["check pause", "list", "set x off", "scan --help", "--version"]
    message = "Error: standard output is closed, so there is nowhere to write\n"
    assert run_all_in_a_shell(lines, ">&-") == ([2] * len(lines), "", message * len(lines))
    assert run_all_in_a_shell(lines, ">&- 2>&-") == ([2] * len(lines), "", "")
    assert failpoints.statuses() == []


def test_closed_errors(server: str, run_all_in_a_shell: Run) -> None:
    """If stderr is closed, messages are dropped and the exit status is the same."""
    assert run_all_in_a_shell(["check nothing", "list", "set x off"], "2>&-") == ([2, 0, 0], "x: off\n", "")


def test_an_error_of_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error about a file that is not the output is raised."""
    monkeypatch.setattr(check_module, "explain", lambda _: Path("/no/such/file").read_text())
    with pytest.raises(FileNotFoundError):
        main(["check", "off"])


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Ctrl-C ends the command without a message, with exit status 130."""

    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(check_module, "explain", interrupted)
    assert run("check", "off") == (130, "", "")


def test_characters_that_the_encoding_lacks(run_apart: Run) -> None:
    """Characters that the encoding of the output lacks are escaped."""
    done = run_apart("check", "return(é→支)", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.status == 0
    assert done.output.splitlines()[0] == r"1. return(\xe9\u2192\u652f)  every time: returns '\xe9\u2192\u652f'"
