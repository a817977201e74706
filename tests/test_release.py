"""What a release is made of: the distributions, the workflows and the citation."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def parsed(file: Path) -> Any:
    return pytest.importorskip("yaml").safe_load(file.read_text(encoding="utf-8"))


def test_the_source_distribution_has_everything() -> None:
    """The source distribution has each file of the repository, so its tests run without the repository."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)
    if listed.returncode != 0 or not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    included = PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    added_by_hatch = {".gitignore", "pyproject.toml"}
    assert {file.partition("/")[0] for file in listed.stdout.splitlines()} - added_by_hatch == set(included)


def test_the_workflow_tests_each_python() -> None:
    """The tests run on each version of Python that pyproject.toml names, on Linux, macOS and Windows."""
    classifiers = PYPROJECT["project"]["classifiers"]
    named = [found[1] for text in classifiers if (found := re.fullmatch(r".* :: (3\.\d+)", text))]
    matrix = parsed(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix == {"os": ["ubuntu-latest", "macos-latest", "windows-latest"], "python": named}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_trusts_little(workflow: Path) -> None:
    """Each action is named by its commit. Only the jobs that publish get more rights than to read."""
    text = workflow.read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert used
    assert [use for use in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", use)] == []
    document = parsed(workflow)
    assert document["permissions"] == {"contents": "read"}
    more = [name for name, job in document["jobs"].items() if "permissions" in job]
    assert more == {"docs": ["deploy"], "release": ["publish"]}.get(workflow.stem, [])


def test_the_citation() -> None:
    """The citation names the project as pyproject.toml does."""
    citation, project = parsed(ROOT / "CITATION.cff"), PYPROJECT["project"]
    assert (citation["title"], citation["license"]) == (project["name"], project["license"])
    assert citation["repository-code"] == project["urls"]["Source"]
    assert citation["abstract"] == project["description"]
