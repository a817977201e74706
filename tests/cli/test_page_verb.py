"""`failpoints page` prints the URL of the page, and opens it where there is a browser."""

from __future__ import annotations

import re
import webbrowser
from collections.abc import Callable
from typing import Any

import pytest

from failpoints._cli import page

Run = Callable[..., Any]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the URLs that a browser was given."""
    urls: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: not urls.append(url))  # type: ignore[func-returns-value]
    monkeypatch.setattr(page.sys, "platform", "linux")
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    return urls


@pytest.mark.parametrize("variable", ["BROWSER", "DISPLAY", "WAYLAND_DISPLAY"])
def test_a_browser_is_opened(
    variable: str, run: Run, server: str, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is a browser with windows, it gets the URL that is printed."""
    monkeypatch.setenv(variable, ":0")
    done = run("page")
    assert (done.status, done.errors) == (0, "opened in the browser: the URL works only once\n")
    assert opened == [done.output.rstrip("\n")]
    assert re.fullmatch(re.escape(server) + r"/#[\w-]{43}\n", done.output)


def test_without_a_browser(run: Run, server: str, opened: list[str]) -> None:
    """On a machine without a display the URL is only printed, another one each time."""
    first, second = run("page"), run("page")
    assert (first.status, first.errors, opened) == (0, "", [])
    assert first.output != second.output


def test_no_open(run: Run, server: str, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--no-open` nothing is opened."""
    monkeypatch.setenv("DISPLAY", ":0")
    assert run("page", "--no-open").status == 0
    assert opened == []


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_other_systems(platform: str, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows and macOS there is always a browser with windows."""
    assert not page.has_browser()
    monkeypatch.setattr(page.sys, "platform", platform)
    assert page.has_browser()


def test_a_fleet_or_a_url(run: Run, server: str, opened: list[str]) -> None:
    """A URL after the verb asks that process, although a fleet is known. Both after the verb are refused."""
    assert run("--fleet", "/run/shop", "page", "--url", server).output.startswith(f"{server}/#")
    done = run("page", "--fleet", "/run/shop", "--url", server)
    assert (done.status, done.output, done.errors) == (2, "", "Error: give --url or --fleet, not both\n")
    done = run("--fleet", "shop", "page")
    assert (done.status, done.output) == (2, "")
    assert "the path must be absolute" in done.errors


def test_no_program(run: Run) -> None:
    """If the program cannot be reached, that is an error, as for the other verbs."""
    done = run("page", "--url", "http://127.0.0.1:1")
    assert done.status == 2
    assert done.errors.startswith("Error: cannot connect")
