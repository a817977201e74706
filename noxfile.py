"""`nox`: the tests on every Python found, and the checks."""

from __future__ import annotations

import nox

nox.options.error_on_missing_interpreters = False
nox.options.default_venv_backend = "venv"


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """The tests, as the README runs them."""
    session.install("-e", ".[tests]")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report")


@nox.session
def checks(session: nox.Session) -> None:
    """Lint, format and types."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    session.run("mypy")
    session.run("pyright")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """What a failpoint costs, as ratios."""
    session.install("-e", ".[tests]")
    session.run("python", "tests/benchmarks/off_and_on.py")
    session.run("python", "tests/benchmarks/plugin.py")
    session.run("python", "tests/benchmarks/exploration.py")
