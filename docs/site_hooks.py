"""Hooks of MkDocs: the site of the documentation, from files that GitHub shows as well.

Documents outside of `docs/` become pages, and links between all of them work in both places. Nothing in the site loads
anything from another host.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/failpoints/failpoints/blob/main/"

# Documents that GitHub shows at their own place, and the pages that they become.
OTHER_PLACES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "findings/README.md": "surprises.md",
    "failpoints/_cli/errors.md": "errors.md",  # there, so that `failpoints explain` has it
}
PLACES = {page: document for document, page in OTHER_PLACES.items()}

# What makes a browser load something, in HTML and in CSS.
LOADED = re.compile(
    r"""(?:<(?:script|img|iframe|source|link)\b[^>]*?\s(?:src|href)=|url\(|@import\s+)["']?((?:https?:)?//[^"')\s>]+)"""
)
# An address in a script. Some are only the names of formats.
IN_SCRIPTS = re.compile(r"""["'`](https?://(?!www\.w3\.org/)[^"'`]+)["'`]""")

LINK = re.compile(r"(\]\()([^)\s:#]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents outside of `docs/`."""
    for document, page in OTHER_PLACES.items():
        files.append(File.generated(config, page, content=(ROOT / document).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead each link to a page of the site, or to the repository if the site does not have the file."""
    here = page.file.src_uri
    folder = posixpath.dirname(PLACES.get(here) or f"docs/{here}")

    def led(found: re.Match[str]) -> str:
        opening, path, anchor, closing = found.groups()
        target = posixpath.normpath(posixpath.join(folder, path))
        if target in OTHER_PLACES or target.startswith("docs/"):
            uri = OTHER_PLACES.get(target) or target.removeprefix("docs/")
            return f"{opening}{posixpath.relpath(uri, posixpath.dirname(here))}{anchor or ''}{closing}"
        return f"{opening}{REPOSITORY}{target}{anchor or ''}{closing}"

    parts = re.split(r"(^ *```.*?^ *```)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if index % 2 else LINK.sub(led, part) for index, part in enumerate(parts))


def on_post_build(config: MkDocsConfig) -> None:
    """Keep every page from loading anything from another host, and fail if one still would."""
    site = Path(config.site_dir)
    for script in site.glob("assets/javascripts/**/*.js"):
        # The theme asks other hosts for what no page here needs: diagrams, and the stars of the repository.
        script.write_text(IN_SCRIPTS.sub('""', script.read_text(encoding="utf-8")), encoding="utf-8")
        Path(f"{script}.map").unlink(missing_ok=True)
    if found := loaded_from_elsewhere(site):
        raise PluginError("\n".join(["the site loads from other hosts:", *sorted(found)]))


def loaded_from_elsewhere(site: Path) -> set[str]:
    """Return the addresses of other hosts that the files in *site* load, each with its file. Links do not load."""
    texts = {
        file: file.read_text(encoding="utf-8")
        for file in site.rglob("*")
        if file.suffix in (".html", ".css", ".svg", ".js") and file.name != "search_index.js"
    }
    return {
        f"{file.relative_to(site)}: {address}"
        for file, text in texts.items()
        for address in (IN_SCRIPTS if file.suffix == ".js" else LOADED).findall(text)
    }
