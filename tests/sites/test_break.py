"""The action `break` stops in a debugger at the site."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from failpoints._core.arming import can_arm

ROOT = Path(__file__).parents[2]

PROGRAM = """\
import asyncio, sys
from failpoints import configured, failpoint, failpoint_scope

@failpoint("decorated")
def decorated(number):
    return number

@failpoint("async_decorated")
async def async_decorated(number):
    return number

def inline(number):
    failpoint("inline").hit()
    return number

async def async_inline(number):
    await failpoint("async_inline")
    return number

def scope(number):
    with failpoint_scope("scope"):
        return number

async def async_scope(number):
    async with failpoint_scope("async_scope"):
        return number

def caller(name):
    result = globals()[name](5)
    if name.startswith("async"):
        result = asyncio.run(wait(result))
    print("result", result)

async def wait(result):
    return await result

def hook():
    frame = sys._getframe(1)
    print("hooked", frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, frame.f_locals.get("number"))

if sys.argv[2:]:
    sys.breakpointhook = hook
with configured(sys.argv[1], "1*break"):
    caller(sys.argv[1])
"""


class Place(NamedTuple):
    """Where the debugger stops, and what it shows of the variable `number` there."""

    line: int
    number: str


UNKNOWN = "*** NameError: name 'number' is not defined"

PLACES = {
    "decorated": Place(4, "5" if can_arm(lambda: None) else UNKNOWN),  # a trampoline has the arguments
    "async_decorated": Place(8, UNKNOWN),  # its body has no frame yet
    "inline": Place(13, "5"),
    "async_inline": Place(17, "5"),
    "scope": Place(21, "5"),
    "async_scope": Place(25, "5"),
}


def run(folder: Path, *arguments: str, commands: str = "", **variables: str) -> str:
    """Run the program with commands for its debugger and return its output."""
    (folder / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py", *arguments],
        input=commands,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "", **variables},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", PLACES)
def test_pdb_stops_at_the_site(name: str, tmp_path: Path) -> None:
    """Pdb stops in the frame of the site, shows no frame of this package, and lets the program go on."""
    line, number = PLACES[name]
    output = run(tmp_path, name, commands="where\np number\ncontinue\n")
    stops = [text for text in output.splitlines() if text.removeprefix("(Pdb) ").startswith("> ")]
    assert len(stops) == 2  # one at the stop, one of `where`
    assert all(f"program.py({line}){name}()" in stop for stop in stops)
    assert "failpoints" not in "".join(text for text in output.splitlines() if "->" not in text)
    assert "program.py(29)caller()" in output or "program.py(31)caller()" in output
    assert f"(Pdb) {number}" in output
    assert output.endswith("(Pdb) result 5\n")


@pytest.mark.parametrize("name", ["inline", "async_inline", "scope"])
def test_pdb_goes_on_in_the_program(name: str, tmp_path: Path) -> None:
    """The next line is that of the program."""
    line = PLACES[name].line
    for command in ("next", "step"):
        output = run(tmp_path, name, commands=f"{command}\n" * 3 + "continue\n")
        # Some Pythons stop at the line of the site once more: where an await goes on, and after the first step.
        stops = [text for text in output.splitlines() if text.removeprefix("(Pdb) ").startswith("> ")]
        assert f"program.py({line + 1}){name}()" in output
        assert all("program.py(" in stop for stop in stops)


def test_pdb_steps_into_a_decorated_function(tmp_path: Path) -> None:
    """Steps from before the body of a decorated function lead into it, and through no code of this package."""
    for name in ("decorated", "async_decorated"):
        output = run(tmp_path, name, commands="step\nstep\nstep\nstep\ncontinue\n")
        stops = [text for text in output.splitlines() if text.removeprefix("(Pdb) ").startswith("> ")]
        assert f"program.py({PLACES[name].line + 2}){name}()" in output
        assert all("program.py(" in stop for stop in stops)


@pytest.mark.parametrize("name", PLACES)
def test_another_debugger_is_called_from_the_site(name: str, tmp_path: Path) -> None:
    """A hook of another debugger is called from a frame with the file, the line and the variables of the site."""
    line, number = PLACES[name]
    output = run(tmp_path, name, "hook")
    shown = number if number == "5" else "None"
    assert output == f"hooked {tmp_path / 'program.py'} {line} {name} {shown}\nresult 5\n".replace(
        str(tmp_path / "program.py"), output.split()[1]
    )
    assert Path(output.split()[1]).name == "program.py"


def test_the_variable_of_python(tmp_path: Path) -> None:
    """`PYTHONBREAKPOINT` chooses another debugger, or none."""
    assert run(tmp_path, "inline", PYTHONBREAKPOINT="0") == "result 5\n"
    assert run(tmp_path, "inline", PYTHONBREAKPOINT="builtins.print") == "\nresult 5\n"


def test_several_actions(tmp_path: Path) -> None:
    """`break` can be followed by another action, in the same visit."""
    (tmp_path / "both.py").write_text(
        PROGRAM.replace("1*break", "break+return(7)").replace("return number", "return 1")
    )
    done = subprocess.run(
        [sys.executable, "both.py", "decorated"],
        input="continue\n",
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "(Pdb) result 7")
