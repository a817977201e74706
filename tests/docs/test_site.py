"""The site of the documentation builds without a warning, has every public name, and loads nothing from elsewhere."""

from __future__ import annotations

import importlib
import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import failpoints

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LOCAL = ("file:", "data:", "blob:", "about:")
MODULES = [
    "admin",
    "asgi",
    "client",
    "explore",
    "files",
    "fleet",
    "instrument",
    "pytest_plugin",
    "request",
    "strategies",
    "unittest",
    "wsgi",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, as `nox -s docs` does."""
    if not importlib.util.find_spec("mkdocstrings"):
        pytest.skip("MkDocs is not installed: nox -s docs runs this")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.html", '<link rel="stylesheet" href="https://fonts.example/a.css">'),
        ("a.html", '<script defer src="//cdn.example/a.js"></script>'),
        ("a.css", "@font-face { src: url(https://fonts.example/a.woff2) }"),
        ("a.js", "load(`https://api.example/${name}`)"),
    ],
)
def test_what_is_loaded_from_another_host_is_found(file: str, text: str, site: Path, tmp_path: Path) -> None:
    """The build refuses a page, style or script that loads from another host. Links are fine."""
    hooks = runpy.run_path(str(ROOT / "docs" / "site_hooks.py"))
    (tmp_path / "link.html").write_text('<a href="https://example.org">elsewhere</a>', encoding="utf-8")
    assert hooks["loaded_from_elsewhere"](tmp_path) == set()
    (tmp_path / file).write_text(text, encoding="utf-8")
    assert len(hooks["loaded_from_elsewhere"](tmp_path)) == 1
    assert hooks["loaded_from_elsewhere"](site) == set()


def test_the_search_needs_no_server(site: Path) -> None:
    """The index is a script, which a page can load that was opened as a file."""
    index = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    assert index.startswith("var __index = ")
    assert "explore_crashes" in index
    assert 'src="assets/iframe-worker.js"' in (site / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", ["failpoints", *(f"failpoints.{name}" for name in MODULES)])
def test_every_public_name_is_in_the_reference(module: str) -> None:
    """A name that is added to the package is added to docs/api.md."""
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    names = importlib.import_module(module).__all__
    missing = [name for name in names if f"::: {module}.{name}\n" not in page and f"`{name}`" not in page]
    assert missing == []


def test_the_public_modules_are_all_of_them() -> None:
    """A module that is added to the package is added to the reference."""
    files = {file.stem.removesuffix(".py") for file in Path(failpoints.__file__).parent.glob("[a-z]*")}
    assert files - {"cli", "errors", "py"} == set(MODULES)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_reads_and_searches_it_without_a_network(site: Path) -> None:
    """Opened as files, every page shows its pictures and asks no other host, and the search finds a page."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")
    problems: list[str] = []
    pages = sorted(site.rglob("*.html"))
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 400, "height": 800})
        tab.on("request", lambda request: None if request.url.startswith(LOCAL) else problems.append(request.url))
        tab.on("pageerror", lambda error: problems.append(str(error)))
        for page in pages:
            if page.name == "404.html":  # it is for a server, and has the addresses of one
                continue
            tab.goto(page.as_uri(), wait_until="load")
            problems += tab.evaluate("[...document.images].filter(it => !it.naturalWidth).map(it => it.src)")
            if tab.evaluate("document.documentElement.scrollWidth") > 400:
                problems.append(f"{page.name} is wider than a telephone")
        tab.set_viewport_size({"width": 1200, "height": 800})
        tab.fill(".md-search__input", "explore_crashes")
        tab.wait_for_selector(".md-search-result__item", timeout=20_000)
        browser.close()
    assert problems == []
