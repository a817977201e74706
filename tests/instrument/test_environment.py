"""`FAILPOINTS_INSTRUMENT` adds failpoints to other people's code without changing any code."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a process with these variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
    return subprocess.run(
        [sys.executable, *(arguments or ["-c", textwrap.dedent(script)])],
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=50,
    )


def printed(script: str, *arguments: str, **variables: str) -> str:
    """Run the script, check that it succeeds and writes nothing unexpected to stderr, and return what it prints."""
    done = run(script, *arguments, **variables)
    in_force = f"FAILPOINTS is in force: {variables['FAILPOINTS']}\n" if "FAILPOINTS" in variables else ""
    assert (done.returncode, done.stderr) == (0, in_force)
    return done.stdout


def test_paths_are_instrumented() -> None:
    """Each path is a failpoint named after it, with a dot for the colon, before and after the import."""
    script = """
        import failpoints, sys
        print("colorsys" in sys.modules)
        import colorsys, json
        print(json.loads("1"), json.JSONDecoder().decode("2"))
        try:
            colorsys.rgb_to_hsv(1, 0, 0)
        except OSError as error:
            print(error)
        print([failpoints.status(n).hits for n in ("json.loads", "json.JSONDecoder.decode", "colorsys.rgb_to_hsv")])
    """
    paths = " json:loads ; json:JSONDecoder.decode;;colorsys:rgb_to_hsv; "
    configured = "json.loads=return(x);json.JSONDecoder.decode=1*return(y);colorsys.rgb_to_hsv=raise(OSError)"
    assert printed(script, FAILPOINTS_INSTRUMENT=paths, FAILPOINTS=configured) == (
        "False\nx y\ninjected by failpoint 'colorsys.rgb_to_hsv'\n[1, 1, 1]\n"
    )


def test_without_the_variable_nothing_is_imported() -> None:
    """If the variable is empty, the modules for instrumenting are not imported."""
    script = "import failpoints, sys; print(*(f'failpoints.{n}' in sys.modules for n in ['instrument', '_instrument']))"
    assert printed(script) == printed(script, FAILPOINTS_INSTRUMENT=" ; ") == "False False\n"


def test_a_program_that_imports_failpoints_itself(tmp_path: Path) -> None:
    """A named module that imports `failpoints` is instrumented at the end of its own import."""
    (tmp_path / "shop.py").write_text("import failpoints\ndef price():\n    return 3\n")
    script = "import shop; print(shop.price(), shop.price())"
    variables = {"FAILPOINTS_INSTRUMENT": "shop:price", "FAILPOINTS": "shop.price=1*return(0)"}
    assert printed(script, **variables, PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}") == "0 3\n"


@pytest.mark.parametrize(
    ("text", "sentence", "place"),
    [
        ("json:loads;json.dumps;x:y", "expected module:function, found no ':'; did you mean 'json:dumps'?", ";x:y"),
        ("json:loads; json:;x:y", "expected a function's name after ':', found nothing", ";x:y"),
        ("json:loads;:a", "expected a module's name before ':', found nothing", ":a"),
        ("json:loads;json:1a", "expected a function's name after ':', found '1a'", "1a"),
        (
            "json:loads=return(1)",
            "expected a path alone, found '='; set the actions of 'json.loads' in FAILPOINTS",
            "=return(1)",
        ),
        (
            "json:loads; json:lods",
            "'json:lods': there is no 'lods' in the module json; did you mean 'json:loads'?",
            "json:lods",
        ),
        ("json:loads;json:JSONDecoder", "is not a function but a class", "json:JSONDecoder"),
        ("failpoints:configure", "the functions of this package cannot be instrumented", "failpoints:configure"),
        ("__main__:f", "__main__ is never imported", "__main__:f"),
    ],
)
def test_a_malformed_value_stops_the_import(text: str, sentence: str, place: str) -> None:
    """A malformed entry fails the import, with a message that names the variable and a caret under the error."""
    done = run("import json, failpoints", FAILPOINTS_INSTRUMENT=text)
    assert (done.returncode, done.stdout) == (1, "")
    message, shown, caret = done.stderr.splitlines()[-3:]
    assert message.startswith("failpoints.errors.FailpointUsageError: FAILPOINTS_INSTRUMENT: ")
    assert sentence in message
    assert shown[caret.index("^") :] == place


def test_a_failed_import_leaves_nothing() -> None:
    """If one entry fails the import of `failpoints`, no entry is instrumented."""
    script = """
        import json
        before = json.loads
        for _ in range(2):
            try:
                import failpoints
            except RuntimeError as error:
                print(json.loads is before)
    """
    assert printed(script, FAILPOINTS_INSTRUMENT="json:loads;json:dmps") == "True\nTrue\n"


def test_a_typo_for_a_module_imported_later() -> None:
    """A path that a module does not have fails the import of that module, with the name of the variable."""
    done = run("import failpoints; import colorsys", FAILPOINTS_INSTRUMENT="colorsys:rgb_to_hvs")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "failpoints.errors.FailpointUsageError: 'colorsys:rgb_to_hvs': there is no 'rgb_to_hvs' in the module colorsys;"
        " did you mean 'colorsys:rgb_to_hsv'?",
        "It was requested by FAILPOINTS_INSTRUMENT.",
    ]


def test_a_module_that_is_not_found() -> None:
    """A module that cannot be found yet is a warning on stderr, and is instrumented if it is imported later."""
    done = run("import failpoints; print('goes on')", FAILPOINTS_INSTRUMENT="sqlite4:connect")
    assert (done.returncode, done.stdout) == (0, "goes on\n")
    assert done.stderr == "FAILPOINTS_INSTRUMENT: so far there is no module 'sqlite4'; did you mean 'sqlite3'?\n"


def test_text_evaluates_nothing(tmp_path: Path) -> None:
    """No value of the variable runs code or imports a module."""
    (tmp_path / "loud.py").write_text("print('imported')")
    text = "loud:f;os:system"
    script = "import failpoints; print('nothing')"
    environment = {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    assert printed(script, FAILPOINTS_INSTRUMENT=text, **environment) == "nothing\n"
    done = run(script, FAILPOINTS_INSTRUMENT="os:system('echo')", **environment)
    assert "expected a function's name after ':', found \"system('echo')\"" in done.stderr


def test_not_enabled() -> None:
    """With `FAILPOINTS_ENABLED=0` nothing is instrumented, neither by the variable nor by a call."""
    script = """
        import json
        before = json.loads
        from failpoints.instrument import instrument
        undo = instrument("json:loads", "x")
        print(json.loads is before)
        undo()
        try:
            instrument("json:", "x")
        except RuntimeError as error:
            print(error)
    """
    done = run(script, FAILPOINTS_ENABLED="0", FAILPOINTS_INSTRUMENT="json:loads")
    problem = "expected a function's name after ':', found nothing"
    assert done.stdout == f"True\n'json:' is not the path of a function: {problem}\n"
    assert done.stderr == "FAILPOINTS_INSTRUMENT is ignored, because FAILPOINTS_ENABLED=0: json:loads\n"


def test_the_same_in_the_program() -> None:
    """A program may instrument the same path under the same name. A different name is refused."""
    script = """
        import json, failpoints
        from failpoints.instrument import instrument
        undo = instrument("json:loads", "json.loads")
        undo()
        with failpoints.configured("json.loads", "return(x)"):
            print(json.loads("1"))
        try:
            instrument("json:loads", "loads")
        except RuntimeError as error:
            print(error)
    """
    assert printed(script, FAILPOINTS_INSTRUMENT="json:loads") == (
        "x\n'json:loads' already has the failpoint 'json.loads', from FAILPOINTS_INSTRUMENT, and cannot have 'loads' as"
        " well: use that name, or undo it first\n"
    )


def test_the_command_does_not_read_the_variable(tmp_path: Path) -> None:
    """The command `failpoints` does not read the variable, so a mistake in it cannot stop the command."""
    command = tmp_path / "failpoints"
    command.write_text("import failpoints; print('it runs')")
    assert printed("", str(command), FAILPOINTS_INSTRUMENT="a mistake") == "it runs\n"
