"""Sessions of `nox`: the tests on each Python that is installed, the checks, and what is not run for every change."""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "uv|venv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests", "checks"]

# The projects whose private names we use: docs/internals.md lists them.
PRE_RELEASES = [
    "anyio",
    "coverage",
    "h11",
    "httpx",
    "pytest",
    "pytest-asyncio",
    "starlette",
    "trio",
    "uvicorn",
    "wrapt",
]


@nox.session(reuse_venv=True)
def quick(session: nox.Session) -> None:
    """Test the core and the sites on asyncio and trio, in less than a minute."""
    session.install("-e", ".[tests]")
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
def canary(session: nox.Session) -> None:
    """Test what we use of other projects' internals against their newest pre-releases."""
    session.install("-e", ".[tests]")
    session.install("--pre", "--upgrade", *PRE_RELEASES)
    session.run("pytest", "-m", "internals", "tests/internals", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel and test it as it is installed."""
    session.run(".ci/wheel", "python", external=True)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Measure the cost of failpoints, as ratios."""
    session.install("-e", ".[tests]")
    session.run("python", "tests/benchmarks/off_and_on.py")
    session.run("python", "tests/benchmarks/plugin.py")
    session.run("python", "tests/benchmarks/exploration.py")
