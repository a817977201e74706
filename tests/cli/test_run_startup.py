"""`failpoints run` makes each Python process that it starts obey, whether or not the program imports the package."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import venv
import zipapp
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
import wrapt

import failpoints
from failpoints._cli import python_startup
from failpoints._cli import run as run_module
from failpoints._startup import sitecustomize

Run = Callable[..., Any]

STARTUP = str(Path(sitecustomize.__file__).parent)
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot replace a process")

PROGRAM = """
import json
try:
    print("read", json.loads("1"))
except OSError as error:
    print("failed:", error)
"""
INSTRUMENT = {"FAILPOINTS_INSTRUMENT": "json:loads"}
FAIL = ["--set", "json.loads=raise(OSError: injected)"]
HAS_FAILED = "failed: injected\n"


@pytest.fixture
def obeys(run_apart: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a program, of files in the current folder, whose calls of `json.loads` are to fail. Check what it prints."""
    monkeypatch.chdir(tmp_path)

    def obeys(*command: str, output: str = HAS_FAILED, **files: str) -> None:
        for name, text in files.items():
            Path(f"{name}.py").write_text(text)
        done = run_apart("run", *FAIL, "--", *command, **INSTRUMENT)
        assert (done.status, done.output) == (0, output), done.errors

    return obeys


def test_a_program_that_does_not_import_the_package(obeys: Callable[..., None]) -> None:
    """A script, a module, a text and an archive obey, though no line in them mentions failpoints."""
    obeys(sys.executable, "program.py", program=PROGRAM)
    obeys(sys.executable, "-m", "program")
    obeys(sys.executable, "-c", PROGRAM)
    os.makedirs("archive")
    Path("archive/__main__.py").write_text(PROGRAM)
    zipapp.create_archive("archive")
    obeys(sys.executable, "archive.pyz")


CHILDREN = {
    "subprocess": "import subprocess, sys; subprocess.run([sys.executable, 'child.py'], check=True)",
    "another program between": (
        "import subprocess, sys; subprocess.run(['sh', '-c', f'{sys.executable} child.py'], check=True)"
    ),
    "spawn": """
import multiprocessing, runpy
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=runpy.run_path, args=["child.py"])
    process.start()
    process.join()
""",
    "forkserver": """
import multiprocessing, runpy
if __name__ == "__main__":
    process = multiprocessing.get_context("forkserver").Process(target=runpy.run_path, args=["child.py"])
    process.start()
    process.join()
""",
}


@pytest.mark.parametrize("started", CHILDREN)
@POSIX
def test_children(started: str, obeys: Callable[..., None]) -> None:
    """The Python programs that the program starts obey too, also through a program that is not Python."""
    obeys(sys.executable, "program.py", program=CHILDREN[started], child=PROGRAM)


def test_a_program_that_is_not_python(run_apart: Run) -> None:
    """A program that is not Python is run as it is, without a note."""
    done = run_apart("run", *FAIL, "--", "echo", "hello", **INSTRUMENT)
    assert done == (0, "hello\n", "")


def test_a_program_that_imports_the_package(run_apart: Run) -> None:
    """A program that imports the package gets the same one, and what is configured in it."""
    script = "import failpoints; print(failpoints.__file__, failpoints.status('x').actions[0].action)"
    done = run_apart("run", "--set", "x=off", "--", sys.executable, "-c", script)
    assert (done.status, done.output) == (0, f"{failpoints.__file__} Off()\n")


SHOW_PATHS = """
import os, sys
print([folder for folder in sys.path[1:]], file=sys.stderr)
print("sitecustomize" in sys.modules, "failpoints" in sys.modules, os.environ.get("PYTHONPATH"))
"""


@pytest.mark.parametrize("before", [None, "", os.pathsep.join(["one", "two", ""])])
def test_paths(before: str | None, run_apart: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The program has the `sys.path` that it has otherwise. An existing PYTHONPATH is kept, behind one folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH")
    if before is not None:
        monkeypatch.setenv("PYTHONPATH", before)
    program = [sys.executable, "-c", SHOW_PATHS]
    plain = subprocess.run(program, capture_output=True, text=True, timeout=50, check=True)
    done = run_apart("run", "--set", "x=off", "--", *program)
    assert done.errors.splitlines()[0] == plain.stderr.rstrip("\n")
    has_sitecustomize = plain.stdout.split()[0]  # that of the distribution
    assert done.output == f"{has_sitecustomize} False {STARTUP}{os.pathsep + before if before else ''}\n"


def test_run_in_a_run(run_apart: Run) -> None:
    """`failpoints run` in a program that `failpoints run` has started adds its failpoints, and no second folder."""
    inner = [sys.executable, "-m", "failpoints", "run", "--set", "y=off", "--", sys.executable, "-c"]
    script = "import os, failpoints; print([s.name for s in failpoints.statuses()], os.environ['PYTHONPATH'])"
    done = run_apart("run", "--set", "x=off", "--", *inner, script)
    assert (done.status, done.output) == (0, f"['x', 'y'] {STARTUP}{os.pathsep}{os.environ['PYTHONPATH']}\n")


def test_nothing_to_obey(run_apart: Run) -> None:
    """If no variable configures anything, the environment of the program is unchanged."""
    script = "import os; print(os.environ.get('PYTHONPATH'), 'FAILPOINTS_RUN' in os.environ)"
    done = run_apart("run", "--", sys.executable, "-c", script)
    assert done == (0, f"{os.environ['PYTHONPATH']} False\n", "")


def test_another_sitecustomize(obeys: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next `sitecustomize` on the path is imported first, under its own name."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("mine = 'mine'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "own"), prepend=os.pathsep)
    program = f"import sys; print(sys.modules['sitecustomize'].mine)\n{PROGRAM}"
    obeys(sys.executable, "-c", program, output=f"mine\n{HAS_FAILED}")


def test_another_sitecustomize_that_fails(run_apart: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the next `sitecustomize` is reported as Python reports it, and the program obeys all the same."""
    (tmp_path / "sitecustomize.py").write_text("raise KeyError('mine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    plain = subprocess.run([sys.executable, "-c", ""], capture_output=True, text=True, timeout=50, check=True)
    assert "KeyError: 'mine'" in plain.stderr
    done = run_apart("run", *FAIL, "--", sys.executable, "-c", PROGRAM, **INSTRUMENT)
    assert done.output == HAS_FAILED
    assert plain.stderr in done.errors


@pytest.mark.parametrize(
    ("module", "line"), [("os", "os.replace('a', 'b')"), ("zlib", "zlib.crc32(b'')"), ("xml.dom.minidom", None)]
)
def test_modules_of_each_kind(module: str, line: str | None, run_apart: Run) -> None:
    """Modules that Python has imported before the program, modules in C and modules in packages are instrumented."""
    call = line or "xml.dom.minidom.parseString('')"
    path, name = call.partition("(")[0].rsplit(".", 1)
    script = f"import {module}\ntry: {call}\nexcept OSError as error: print(error)\nprint({module}.__loader__)"
    loader = subprocess.run(
        [sys.executable, "-c", f"import {module}; print({module}.__loader__)"],
        capture_output=True, text=True, timeout=50, check=True,
    ).stdout  # fmt: skip
    done = run_apart(
        "run", "--set", f"{path}.{name}=raise(OSError: injected)", "--", sys.executable, "-c", script,
        FAILPOINTS_INSTRUMENT=f"{path}:{name}",
    )  # fmt: skip
    said, found = done.output.splitlines()
    assert said == "injected"
    assert found.partition(" at ")[0] == loader.rstrip("\n").partition(" at ")[0]


def test_pytest(run_apart: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pytest obeys without a warning, also if Python has imported the instrumented module before pytest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    (tmp_path / "test_it.py").write_text(
        "import os, pytest\n"
        "def test_it():\n"
        "    with pytest.raises(OSError, match='injected'):\n"
        "        os.replace('a', 'b')\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-W",
        "error::pytest.PytestAssertRewriteWarning",
        "-p",
        "no:cacheprovider",
    ]
    done = run_apart(
        "run", "--set", "os.replace=raise(OSError: injected)", "--", *command, FAILPOINTS_INSTRUMENT="os:replace"
    )
    assert done.status == 0, done.output + done.errors
    assert "1 passed" in done.output


# interpreters without the package


@pytest.fixture
def other_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The Python of an empty environment, in which nothing is installed."""
    monkeypatch.delenv("PYTHONPATH")
    venv.create(tmp_path / "other", symlinks=sys.platform != "win32")
    [python] = (tmp_path / "other").glob("[Ss]*/python.exe" if sys.platform == "win32" else "bin/python")
    return str(python)


@pytest.fixture
def dependencies(tmp_path: Path) -> str:
    """A folder with what failpoints depends on, and nothing else."""
    dependencies = tmp_path / "dependencies"
    dependencies.mkdir()
    installed = Path(anyio.__file__).parents[1]
    for name in ("anyio", "wrapt", "idna", "sniffio", "typing_extensions.py"):
        folder = Path(wrapt.__file__).parents[1] if name == "wrapt" else installed
        if (folder / name).exists():
            (dependencies / name).symlink_to(folder / name)
    return str(dependencies)


def test_a_python_without_the_package(other_python: str, dependencies: str, run_apart: Run) -> None:
    """A Python without failpoints, but with what it depends on, imports the package of the command."""
    script = f"{PROGRAM}\nimport failpoints; print(failpoints.__file__)"
    variables = {**INSTRUMENT, "PYTHONPATH": dependencies}
    done = run_apart("run", *FAIL, "--", other_python, "-c", script, **variables)
    assert (done.status, done.output) == (0, f"{HAS_FAILED}{failpoints.__file__}\n"), done.errors


def test_a_python_without_the_extra(other_python: str, dependencies: str, run_apart: Run) -> None:
    """A Python that has not what the control plane needs says so in one line, and obeys otherwise."""
    variables = {**INSTRUMENT, "PYTHONPATH": dependencies}
    done = run_apart("run", *FAIL, "--http", "127.0.0.1:0", "--", other_python, "-c", PROGRAM, **variables)
    assert (done.status, done.output) == (0, HAS_FAILED), done.errors
    assert "has no control plane: FAILPOINTS_HTTP needs " in done.errors
    assert "Traceback" not in done.errors
    assert "ended without failpoints" not in done.errors


def test_an_import_that_failed(run_apart: Run) -> None:
    """A program whose import of the package has failed gets the error alone, and not that it imported nothing."""
    hidden = "import sys; sys.modules['starlette'] = None; import failpoints"
    done = run_apart("run", "--http", "127.0.0.1:0", "--", sys.executable, "-c", hidden)
    assert done.status == 1
    assert "FAILPOINTS_HTTP needs starlette, which is not installed" in done.errors
    assert "ended without failpoints" not in done.errors


def test_a_python_without_the_dependencies(other_python: str, run_apart: Run) -> None:
    """A Python that cannot import the package says so in one line, and the program goes on."""
    done = run_apart("run", *FAIL, "--", other_python, "-c", PROGRAM, **INSTRUMENT)
    assert (done.status, done.output) == (0, "read 1\n")
    [line] = done.errors.splitlines()
    assert "has no failpoints: No module named '" in line
    assert f"({other_python})" in line
    assert line.endswith("; install failpoints where this Python finds it")


def test_an_old_python(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A Python that is too old says so in one line, in words that old versions can read."""
    monkeypatch.setenv("FAILPOINTS", "x=off")
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    finders = list(sys.meta_path)
    sitecustomize._start()
    assert sys.meta_path == finders
    assert capsys.readouterr().err == (
        f"failpoints run: process {os.getpid()} ({sys.executable}) has no failpoints:"
        " they need Python 3.11 or newer, and this is Python 3.9\n"
    )
    ast.parse(Path(sitecustomize.__file__).read_text(), feature_version=(3, 4))


# what is said


@POSIX
def test_a_program_that_never_obeyed(run_apart: Run) -> None:
    """A program that has ended without importing anything that has failpoints gets one line on stderr."""
    done = run_apart("run", "--set", "x=off", "--", sys.executable, "-c", "raise SystemExit(3)")
    assert (done.status, done.output) == (3, "")
    assert done.errors.endswith(f"({sys.executable}) ended without failpoints, because it did not import failpoints\n")
    done = run_apart("run", "--", sys.executable, "-c", "", FAILPOINTS_INSTRUMENT="jsn:loads;a.b:c")
    assert done.errors.endswith(" ended without failpoints, because it did not import a.b or failpoints or jsn\n")
    assert done.errors.count("\n") == 1


@POSIX
@pytest.mark.parametrize(
    "script",
    [
        "import failpoints",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', ''])",
        "import os\nif not os.fork(): raise SystemExit\nos.wait()",
        "import sys; sys.stderr.close(); sys.stderr = None",
    ],
)
def test_a_program_of_which_nothing_is_said(script: str, run_apart: Run) -> None:
    """Nothing is printed if the program has imported the package, or has had children that may have done so."""
    done = run_apart("run", "--set", "x=off", "--", sys.executable, "-c", script)
    assert (done.status, done.output) == (0, "")
    assert "ended without failpoints" not in done.errors


@pytest.mark.parametrize("options", [["-I"], ["-W", "error", "-E"], ["-Wd", "-XdevS", "-S"], ["-bBsS"]])
def test_options_that_cut_python_off(options: list[str], run: Run, execution: list[Any]) -> None:
    """If the options of Python keep it from obeying, the command says so before it runs the program."""
    done = run("run", "--set", "x=off", "--", "/usr/bin/python3", *options, "-c", "")
    [option] = [letter for letter in options[-1] if letter in "IES"][-1:]
    assert done.errors == (
        f"failpoints run: the program obeys only if it imports failpoints itself: python3 -{option} does not look"
        f" into PYTHONPATH for sitecustomize\n"
    )
    assert len(execution) == 1


@pytest.mark.parametrize("line", ["#!/usr/bin/python3 -Es", "#! /usr/bin/env -S python3 -E", "#!/usr/bin/python3 -bE"])
@POSIX
def test_scripts_that_cut_python_off(line: str, run: Run, execution: list[Any], tmp_path: Path) -> None:
    """The options in the first line of a script are looked at too."""
    script = tmp_path / "script"
    script.write_text(f"{line}\n")
    script.chmod(0o755)
    assert "python3 -E does not look" in run("run", "--set", "x=off", "--", str(script)).errors
    assert len(execution) == 1


def test_another_program_that_comes_first(run: Run, execution: list[Any]) -> None:
    """A program that is known to keep Python from obeying is mentioned, with the way out."""
    done = run("run", "--set", "x=off", "--", "/usr/bin/opentelemetry-instrument", "python", "x.py")
    assert "write opentelemetry-instrument failpoints run … -- COMMAND\n" in done.errors
    assert len(execution) == 1


@pytest.mark.parametrize(
    "command",
    [
        ["python3", "-c", "", "-I"],
        ["python3", "-m", "-I"],
        ["python3", "-W", "-I", "x.py", "-E"],
        ["python3", "-XI", "--check-hash-based-pycs", "-E", "--", "-I"],
        ["python3"],
        ["perl", "-I"],
        ["no-such-program-as-this"],
    ],
)
def test_options_that_do_not(command: list[str], run: Run, execution: list[Any]) -> None:
    """Nothing is said of options that belong to the program, or of another program."""
    assert run("run", "--set", "x=off", "--", *command).errors == ""
    assert len(execution) == 1


def test_a_folder_that_pythonpath_cannot_have(run: Run, execution: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder whose name separates the folders of PYTHONPATH is mentioned."""
    monkeypatch.setattr(python_startup, "_FOLDER", f"/a{os.pathsep}b")
    done = run("run", "--set", "x=off", "--", "true")
    assert f"because of the {os.pathsep!r} in /a{os.pathsep}b" in done.errors


@pytest.fixture
def execution(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The programs that the command has tried to run in its place. None of them is run."""
    calls: list[Any] = []
    monkeypatch.setattr(run_module, "execute", lambda *call: calls.append(call) or 0)
    return calls


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("json:loads;json", "FAILPOINTS_INSTRUMENT: "),
        ("os:replce", "FAILPOINTS_INSTRUMENT: 'os:replce': there is no 'replce' in the module os; did you mean"),
    ],
)
def test_mistakes_in_what_to_instrument(variable: str, message: str, run_apart: Run) -> None:
    """A mistake in FAILPOINTS_INSTRUMENT is a message without a traceback, and the program does not run."""
    done = run_apart("run", "--", sys.executable, "-c", "print('run')", FAILPOINTS_INSTRUMENT=variable)
    assert done.status != 0
    assert done.output == ""
    assert message in done.errors
    assert "Traceback" not in done.errors


def test_the_startup_of_this_process_is_untouched() -> None:
    """Importing the module under its full name, as a type checker or a test does, starts nothing."""
    assert isinstance(sitecustomize, ModuleType)
    assert not [finder for finder in sys.meta_path if isinstance(finder, sitecustomize._Finder)]
