"""The documents of the repository: their links, and the size of the README."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ERRORS = ROOT / "failpoints" / "_cli" / "errors.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "findings" / "README.md", ERRORS])
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub makes of a document's headings."""
    text = FENCED.sub("", document.read_text(encoding="utf-8"))
    plain = (re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading) for heading in HEADING.findall(text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """Each link to a file of the repository names one that exists, and a heading that it has."""
    wrong = []
    for link in LINK.findall(FENCED.sub("", document.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (document.parent / path).resolve() if path else document
        inside = "." not in anchor  # such as #failpoints.Registry: the site makes these
        if not target.exists() or (anchor and inside and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []


def test_the_readme_is_short() -> None:
    """The README has at most 150 lines. What it does not explain is in `docs/`."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_version_is_the_same_everywhere() -> None:
    """`pyproject.toml`, `CITATION.cff` and the newest release in the changelog have one version, and one date."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[([\d.]+)\] - (\d{4}-\d\d-\d\d)$", changelog, re.MULTILINE)
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    cited = re.findall(r'^version: (.*)\ndate-released: "(.*)"$', citation, re.MULTILINE)
    assert [released[0]] == cited == [(version, released[0][1])]
    assert f"\n[{version}]: " in changelog
