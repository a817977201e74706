"""The lowest versions in pyproject.toml, which `nox -s floors` installs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_each_dependency_has_one_floor() -> None:
    """Each dependency of a user has a lowest version, the same in each extra that names it."""
    floors: dict[str, set[str]] = {}
    extras = PROJECT["optional-dependencies"]
    for each in (*PROJECT["dependencies"], *(each for extra in extras.keys() - {"dev"} for each in extras[extra])):
        if not each.startswith(("failpoints[", "pytest-anyio")):  # pytest-anyio has one version
            found = re.fullmatch(r"([\w.-]+(?:\[\w+\])?)>=([\w.]+(?:,<\w+)?)(;.*)?", each.replace(" ", ""))
            assert found, f"{each} has no floor"
            floors.setdefault(found[1], set()).add(found[2])
    assert {name: versions for name, versions in floors.items() if len(versions) > 1} == {}
