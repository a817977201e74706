"""`failpoints explain` prints the page of an error, and errors lead there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from failpoints._cli.explain import read_sections

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "failpoints" / "_cli" / "errors.md"

Run = Callable[..., Any]


def test_every_code_has_a_section() -> None:
    """The page has a section for each code in the source of the package, in order, and none besides."""
    sources = [*ROOT.glob("failpoints/**/*.py"), *ROOT.glob("_failpoints_pytest/*.py")]
    used = {
        code
        for source in sources
        if source.name != "explain.py"
        for code in re.findall(r'"(FP\d+)"', source.read_text(encoding="utf-8"))
    }
    headings = re.findall(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == sorted(used) == list(read_sections())


def test_every_section_raises_its_error() -> None:
    """Each section has an example that checks the code of what it raises, or what the message says."""
    for code, section in read_sections().items():
        example = re.search(r"```python\n(.*?)```", section.text, re.DOTALL)
        assert example, code
        assert f'.code == "{code}"' in example[1] or re.search(rf'b"{code}"| in re\w+\.', example[1]), code
        assert len(section.title) <= 80, code


@pytest.mark.parametrize("code", ["FP012", "fp012"])
def test_a_section_in_a_pipe(run: Run, code: str) -> None:
    """In a pipe, `explain` prints the section as it is in the page."""
    done = run("explain", code)
    assert (done.status, done.errors) == (0, "")
    assert done.output.startswith("## FP012\n\n**The site cannot return early.** ")
    assert done.output.rstrip("\n") in PAGE.read_text(encoding="utf-8")


def test_a_section_in_a_terminal(terminal: Run) -> None:
    """In a terminal, the section is laid out: no markup is left, and no line is wider than the terminal."""
    shown = terminal("explain", "FP012", columns=60)
    assert shown.ended() == 0
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown.output)
    assert "The site cannot return early." in plain
    assert "```" not in plain and "**" not in plain
    assert max(len(line.rstrip("\r")) for line in plain.split("\n")) <= 60


def test_the_list(run: Run) -> None:
    """Without a code, `explain` lists the codes and what each is about."""
    done = run("explain")
    assert (done.status, done.errors) == (0, "")
    assert [line[:5] for line in done.output.splitlines()] == list(read_sections())
    assert "FP006  A wait for a hit or a pause timed out\n" in done.output


def test_an_unknown_code(run: Run) -> None:
    """A code that does not exist is exit status 2 and one sentence, with the most similar one."""
    assert run("explain", "FP0012") == (2, "", "Error: there is no error 'FP0012'; did you mean 'FP012'?\n")
    assert run("explain", "E404") == (2, "", "Error: there is no error 'E404'\n")


@pytest.mark.parametrize(("columns", "leads"), [(80, True), (79, False)])
def test_an_error_in_a_terminal(terminal: Run, columns: int, leads: bool) -> None:
    """In a terminal that is wide enough, the code of an error follows its message."""
    shown = terminal("check", "raise TimeoutError", columns=columns)
    assert shown.ended() == 2
    assert ("[FP001] failpoints explain FP001" in shown.output) is leads


def test_a_wrong_use_of_the_command(terminal: Run) -> None:
    """A message that says all that there is to say is not followed by its code."""
    shown = terminal("members")
    assert shown.ended() == 2
    assert "FP004" not in shown.output
