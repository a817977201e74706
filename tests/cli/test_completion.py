"""Completion in a shell: verbs, the names of the program's failpoints, and the codes of errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from failpoints import FailpointStatus, FailpointUsageError
from failpoints._cli.fleet import FleetProgram
from failpoints._cli.remote import RemoteProgram

Run = Callable[..., Any]


@pytest.fixture
def completed(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Return what bash is offered for the last word of a command line."""

    def completed(line: str) -> list[str]:
        monkeypatch.setenv("_FAILPOINTS_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        done = run()
        assert (done.status, done.errors) == (0, "")
        return done.output.split()

    return completed


def test_verbs_and_codes(completed: Callable[[str], list[str]]) -> None:
    """Verbs and the codes of errors are completed."""
    assert completed("failpoints ex") == ["explore", "explain"]
    assert completed("failpoints explain FP02")[:2] == ["FP020", "FP021"]


@pytest.mark.parametrize("verb", ["set", "remove", "resume", "wait"])
def test_names(completed: Callable[[str], list[str]], verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of failpoints are those that the program configures or declares, at the URL that is given."""
    asked: list[str] = []

    def statuses(program: Any, *, declared: bool) -> list[FailpointStatus]:
        assert declared
        asked.append(program._url)
        return [FailpointStatus(name) for name in ("gateway.charge", "gateway.charge:after", "stock.reserve")]

    monkeypatch.setattr(RemoteProgram, "statuses", statuses)
    assert completed(f"failpoints {verb} gate") == ["gateway.charge", "gateway.charge:after"]
    assert completed(f"failpoints --url http://127.0.0.1:1 {verb} s") == ["stock.reserve"]
    assert completed(f"failpoints {verb} --url http://127.0.0.1:2 s") == ["stock.reserve"]
    assert asked == ["http://127.0.0.1:22381", "http://127.0.0.1:1", "http://127.0.0.1:2"]


def test_names_of_a_fleet(completed: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """With --fleet, they are the names of its members."""
    monkeypatch.setattr(FleetProgram, "statuses", lambda _, declared: [FailpointStatus("gateway.charge")])
    assert completed("failpoints --fleet /run/shop remove gate") == ["gateway.charge"]


def test_nothing_to_ask(completed: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """If the program cannot be asked, nothing is offered, and nothing is written into the command line."""

    def statuses(_: Any, *, declared: bool) -> Any:
        raise FailpointUsageError("cannot connect")

    monkeypatch.setattr(RemoteProgram, "statuses", statuses)
    assert completed("failpoints remove ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script(run: Run, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    """`--show-completion` prints the script of the shell in which the command runs."""
    import shellingham

    monkeypatch.setattr(shellingham, "detect_shell", lambda: (shell, f"/bin/{shell}"))
    done = run("--show-completion")
    assert (done.status, done.errors) == (0, "")
    assert f"_FAILPOINTS_COMPLETE=complete_{shell}" in done.output
